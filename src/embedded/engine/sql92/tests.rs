use proptest::prelude::*;

use super::*;

fn matches(expression: &str) -> bool {
    let parsed = Expression::parse(expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
    parsed.matches(|name| match name {
        "amount" => Some("120"),
        "region" => Some("EU"),
        "quote" => Some("it's"),
        "open" => Some("true"),
        "closed" => Some("False"),
        "_id" | "$id" => Some("1"),
        _ => None,
    })
}

#[test]
fn expressions_that_hold() {
    for expression in [
        "amount > 100",
        "amount = 120.0",
        "1.2e2 = amount",
        "amount >= 120 AND region = 'EU'",
        "amount <= 120 AND NOT amount <= 119",
        "amount < 0 OR region <> 'US'",
        "NOT region = 'US'",
        "NOT (amount < 0 OR region = 'US')",
        "amount BETWEEN 100 AND 120",
        "amount NOT BETWEEN 1 AND 2",
        "region IN ('US', 'EU')",
        "region not in ('US')",
        "missing IS NULL AND region IS NOT NULL",
        "quote = 'it''s'",
        "open = TRUE AND open",
        "TRUE",
        "closed = FALSE AND NOT closed AND open <> closed",
        "NOT (amount > 200 AND missing = 1)",
        "_id = 1 AND $id = 1",
        "amount > -5",
        "amount > 1e-3 AND amount < +1.2E+3",
        "region = 'US' AND missing = 1 OR amount != 1",
    ] {
        assert!(matches(expression), "{expression}");
    }
}

#[test]
fn expressions_that_do_not_hold() {
    for expression in ["amount > 120", "region = 'eu'", "FALSE", "region IN ('US')", "amount BETWEEN 1 AND 2", "region"]
    {
        assert!(!matches(expression), "{expression}");
    }
}

#[test]
fn a_missing_property_or_a_text_that_is_no_number_is_unknown_and_does_not_match() {
    for expression in [
        "missing = 1",
        "missing <> 1",
        "NOT missing = 1",
        "region > 1",
        "NOT region > 1",
        "open > TRUE",
        "open >= TRUE",
        "NOT region",
    ] {
        assert!(!matches(expression), "{expression}");
    }
    assert!(matches("missing = 1 OR TRUE") && !matches("missing = 1 AND TRUE"));
}

#[test]
fn what_is_no_expression_is_refused() {
    for text in [
        "a >",
        "((",
        "a = 'x",
        "(a = 1",
        "a = 1 b",
        "a BETWEEN 1",
        "a IN 1",
        "a IN (1",
        "= 1",
        "a = #",
        "1.2.3 = a",
        "NOT",
        "a IS 1",
        "a NOT 1",
        "AND = 1",
    ] {
        assert!(Expression::parse(text).is_err(), "{text}");
    }
    let nested = |depth: usize| format!("{}a = 1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Expression::parse(&nested(63)).is_ok() && Expression::parse(&nested(64)).is_err());
    let long = ["a = 1"; 200].join(" AND ");
    assert!(Expression::parse(&long).is_ok(), "what stands side by side is not deep");
    let deep = format!("{}a = 1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(Expression::parse(&deep).unwrap_err().contains("deeper"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "[ -~]{0,40}") {
        let _ = Expression::parse(&text);
    }

    #[test]
    fn a_number_compares_as_a_number(left in -1e6f64..1e6, right in -1e6f64..1e6) {
        let expression = Expression::parse(&format!("n < {right}")).unwrap();
        let text = left.to_string();
        prop_assert_eq!(expression.matches(|_| Some(text.as_str())), left < right);
    }
}
