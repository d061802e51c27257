use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Json<'_> {
    Json::read(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn what_fastjson_writes_is_read() {
    let route = read(r#"{"brokerAddrs":{0:"a:1",1:"a:2"}, plain : true,"n":null}"#);
    let addresses = route.get("brokerAddrs").unwrap();
    assert_eq!(addresses.get("1").unwrap().as_text().unwrap(), "a:2");
    assert_eq!(addresses.members()[0].0.as_number::<u64>(), Some(0));
    assert_eq!(route.get("plain").unwrap().as_bool(), Some(true));
    assert_eq!(route.get("n"), None, "null is as good as absent");
}

#[test]
fn a_map_with_objects_for_keys_is_read_and_written_as_it_is() {
    let text = r#"{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"T"}:17,{"queueId":1}:18}}"#;
    let table = read(text);
    let members = table.get("offsetTable").unwrap().members();
    assert_eq!(members[0].0.get("topic").unwrap().as_text().unwrap(), "T");
    assert_eq!(members[1].1.as_number::<i64>(), Some(18));
    assert_eq!(String::from_utf8(table.to_bytes()).unwrap(), text);
}

#[test]
fn numbers_come_as_text_and_text_as_numbers() {
    assert_eq!(read(r#""42""#).as_number::<i32>(), Some(42));
    assert_eq!(read("42").as_text().unwrap(), "42");
    assert_eq!(read("9223372036854775807").as_number::<i64>(), Some(i64::MAX), "not by way of a double");
    assert_eq!(read("1e3").as_number::<i64>(), None);
    for number in ["-0.5", "12.25E+10", "2e-3", "1e3"] {
        assert_eq!(read(number).as_text().unwrap(), number, "kept as it was written");
    }
    assert_eq!(read(r#""TRUE""#).as_bool(), Some(true));
    assert_eq!((read("true").as_text().unwrap(), read("false").as_text().unwrap()), ("true".into(), "false".into()));
    assert_eq!((read("false").as_bool(), read("1").as_bool()), (Some(false), None));
    assert_eq!(read("[]").as_number::<i64>(), None);
}

#[test]
fn escapes_are_undone() {
    assert_eq!(read(r#""a\n\"\\\/\u00e9\ud83d\ude00\ud83d""#).as_text().unwrap(), "a\n\"\\/é😀\u{fffd}");
    // The ones of JSON, and those that fastjson adds.
    assert_eq!(read(r#""\b\f\n\r\t \v\0\'""#).as_text().unwrap(), "\u{8}\u{c}\n\r\t \u{b}\0'");
    assert_eq!(read(r#""\u0041\udc00\u0042""#).as_text().unwrap(), "A\u{fffd}B", "a half without its first");
    assert!(matches!(read(r#""plain""#), Json::Text(Cow::Borrowed("plain"))));
}

#[test]
fn what_is_not_json_is_told_with_its_place() {
    for (text, says) in [
        ("", "the text ends where a value must be at byte 0"),
        ("{", "the text ends where a value must be at byte 1"),
        (r#"{"a"}"#, "a `:` is missing at byte 4"),
        (r#"{"a":1"#, "a `,` or `}` is missing at byte 6"),
        ("[1", "a `,` or `]` is missing at byte 2"),
        ("[1]x", "something follows the value at byte 3"),
        ("-", "a digit is missing at byte 1"),
        ("1.", "a digit is missing at byte 2"),
        (r#""a"#, "the text ends within quotes at byte 1"),
        (r#""\u12"#, "four hexadecimal digits are missing at byte 3"),
        (r#""\x""#, "an escape that JSON does not have at byte 2"),
        ("nonsense", "a word that is no value at byte 8"),
        (",", "a value is missing at byte 0"),
    ] {
        assert_eq!(Json::read(text).expect_err(text).to_string(), format!("{says} of the JSON"), "{text}");
    }
}

#[test]
fn depth_and_number_of_values_are_bounded() {
    for deeper in ["[", "{", "{\"a\":", "[{\"a\":[{"] {
        let deep = deeper.repeat(1_000_000);
        assert!(Json::read(&deep).unwrap_err().to_string().contains("too deep"), "{deeper}");
    }
    let nested = |depth: usize| [&*"[".repeat(depth), "1", &*"]".repeat(depth)].concat();
    assert!(Json::read(&nested(MAX_DEPTH)).is_ok() && Json::read(&nested(MAX_DEPTH + 1)).is_err());
    let wide = format!("[{}0]", "0,".repeat(MAX_VALUES));
    assert!(Json::read(&wide).unwrap_err().to_string().contains("too many"));
    let fits = format!("[{}0]", "0,".repeat(MAX_VALUES - 2));
    assert_eq!(read(&fits).items().len(), MAX_VALUES - 1);
}

fn any_json() -> impl Strategy<Value = Json<'static>> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(Json::number),
        ".*".prop_map(Json::text),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Json::List),
            prop::collection::vec((inner.clone(), inner), 0..5).prop_map(Json::Map),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(json in any_json()) {
        let bytes = json.to_bytes();
        let text = std::str::from_utf8(&bytes).unwrap();
        prop_assert_eq!(Json::read(text).unwrap(), json);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]{}:,\"\\\\0-9a-zu +.\u{e9}-]*") {
        let _ = Json::read(&text);
    }

    #[test]
    fn standard_json_is_read_as_serde_json_reads_it(text in "[\\[\\]{}:,\"0-9nulltrefas\\\\ .eE-]{0,40}") {
        if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
            prop_assert!(Json::read(&text).is_ok(), "{}", text);
        }
    }

    #[test]
    fn what_is_written_is_standard_json(text in ".*", number in any::<i64>()) {
        let bytes = Json::map([("t", Json::text(text.as_str())), ("n", Json::number(number))]).to_bytes();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        prop_assert_eq!(value["t"].as_str(), Some(text.as_str()));
        prop_assert_eq!(value["n"].as_i64(), Some(number));
    }
}
