//! The rules for names, checked before anything is sent.

use crate::error::{Error, Result};
use crate::model::Limits;

/// A topic name: `[%|a-zA-Z0-9_-]`, not empty (protocol.md A.5).
pub(crate) fn check_topic(name: &str, limits: &Limits) -> Result<()> {
    check_name("topic", name, limits.max_topic_length)
}

/// A consumer group name: `[%|a-zA-Z0-9_-]`, not empty (protocol.md A.5).
pub(crate) fn check_group(name: &str, limits: &Limits) -> Result<()> {
    check_name("consumer group", name, limits.max_group_length)
}

/// A namespace: the same letters; how long it may be is the server's affair.
pub(crate) fn check_namespace(name: &str) -> Result<()> {
    check_name("namespace", name, usize::MAX)
}

fn check_name(field: &str, name: &str, max: usize) -> Result<()> {
    if name.is_empty() {
        return Err(Error::config(field, name, "must not be empty"));
    }
    if let Some(wrong) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '%' | '|' | '_' | '-'))) {
        let rule = format!("may hold only letters, digits and `%`, `|`, `_`, `-`; {wrong:?} is none of them");
        return Err(Error::config(field, name, &rule));
    }
    if name.len() > max {
        let rule = format!("is {} bytes long, at most {max} are allowed (Limits)", name.len());
        return Err(Error::config(field, name, &rule));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_servers_rule() {
        let limits = Limits::default();
        for good in ["orders", "%DLQ%billing", "a|b", "A-1_z"] {
            assert!(check_topic(good, &limits).is_ok(), "{good}");
        }
        for (bad, why) in [("", "empty"), ("a b", "' '"), ("größe", "'ö'"), ("a.b", "'.'")] {
            let error = check_topic(bad, &limits).expect_err(bad).to_string();
            assert!(error.contains(why) && error.contains("topic"), "{error}");
        }
        assert!(check_topic(&"t".repeat(127), &limits).is_ok());
        assert!(check_topic(&"t".repeat(128), &limits).is_err());
        assert!(check_namespace("MQ_INST_1").is_ok() && check_namespace("a.b").is_err());
        assert!(check_group(&"g".repeat(121), &limits).is_err());
        assert!(
            check_group(&"g".repeat(121), &limits.max_group_length(200)).is_ok(),
            "a server's limit is not a constant"
        );
    }
}
