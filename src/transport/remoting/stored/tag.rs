//! Tags: what the broker compares, and what is compared here.

/// Whether a message with this tag is one of those that were asked for. The broker compares their hash codes, which
/// collide, so the text is compared here (protocol.md E.7). No `wanted`: all are.
pub(crate) fn is_wanted(tag: Option<&str>, wanted: &[&str]) -> bool {
    wanted.is_empty() || tag.is_some_and(|tag| wanted.contains(&tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_whose_codes_collide_are_told_apart() {
        // Java's hash code of both is 2112.
        assert!(is_wanted(Some("Aa"), &["Aa", "x"]) && !is_wanted(Some("BB"), &["Aa", "x"]));
        assert!(!is_wanted(None, &["Aa"]) && is_wanted(None, &[]) && is_wanted(Some("BB"), &[]));
    }
}
