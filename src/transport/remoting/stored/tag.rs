//! Tags: what the broker compares, and what is compared here.

/// The code of a tag by which the broker filters: Java's `String.hashCode`, which is of UTF-16 units.
pub(crate) fn tag_code(tag: &str) -> i32 {
    tag.encode_utf16().fold(0, |code, unit| code.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// Whether a message with this tag is one of those that were asked for. The broker compares [`tag_code`]s, which
/// collide, so the text is compared here (protocol.md E.7). No `wanted`: all are.
pub(crate) fn is_wanted(tag: Option<&str>, wanted: &[&str]) -> bool {
    wanted.is_empty() || tag.is_some_and(|tag| wanted.contains(&tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_java() {
        // protocol.md I, and one beyond the basic plane, which Java counts as two.
        for (tag, code) in [("", 0), ("TagA", 2_598_919), ("TagB", 2_598_920), ("Aa", 2_112), ("BB", 2_112)] {
            assert_eq!(tag_code(tag), code, "{tag}");
        }
        assert_eq!(tag_code("😀"), 0xD83D * 31 + 0xDE00);
        assert_eq!(tag_code("a tag that is long enough to overflow"), -2_000_945_703);
    }

    #[test]
    fn tags_whose_codes_collide_are_told_apart() {
        assert_eq!(tag_code("Aa"), tag_code("BB"));
        assert!(is_wanted(Some("Aa"), &["Aa", "x"]) && !is_wanted(Some("BB"), &["Aa", "x"]));
        assert!(!is_wanted(None, &["Aa"]) && is_wanted(None, &[]) && is_wanted(Some("BB"), &[]));
    }
}
