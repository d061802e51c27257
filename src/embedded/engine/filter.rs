//! Which messages a pop takes.

use super::content::Content;
use super::sql92::Expression;

/// A filter, ready to be applied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FilterProgram {
    All,
    Tags(Vec<Box<str>>),
    /// Java hash codes of tags, as a broker compares them: another tag of the same code gets through (protocol.md E.7).
    TagCodes(Vec<i32>),
    Sql(Expression),
}

impl FilterProgram {
    /// Empty and `*` are everything, as on Apache.
    pub(crate) fn tags(expression: &str) -> Self {
        let expression = expression.trim();
        if expression.is_empty() || expression == "*" {
            return Self::All;
        }
        Self::Tags(expression.split("||").map(|tag| tag.trim().into()).collect())
    }

    /// As a broker applies a tag expression to its index. The client has to compare the text.
    pub(crate) fn tag_codes(expression: &str) -> Self {
        match Self::tags(expression) {
            Self::Tags(tags) => {
                Self::TagCodes(tags.iter().filter(|tag| !tag.is_empty()).map(|tag| tag_code(tag)).collect())
            }
            all => all,
        }
    }

    /// An SQL92 expression, or why it is none.
    pub(crate) fn sql(expression: &str) -> Result<Self, String> {
        let expression = expression.trim();
        if expression.is_empty() || expression == "*" {
            return Ok(Self::All);
        }
        Expression::parse(expression).map(Self::Sql)
    }

    pub(crate) fn matches(&self, content: &Content) -> bool {
        match self {
            Self::All => true,
            Self::Tags(tags) => content.tag.as_deref().is_some_and(|tag| tags.iter().any(|wanted| **wanted == *tag)),
            Self::TagCodes(codes) => codes.contains(&content.tag.as_deref().map_or(0, tag_code)),
            Self::Sql(expression) => expression.matches(|name| match name {
                "TAGS" => content.tag.as_deref(),
                _ => content.properties.get(name).map(String::as_str),
            }),
        }
    }
}

/// Java's `String.hashCode`: over UTF-16 units, wrapping.
pub(crate) fn tag_code(tag: &str) -> i32 {
    tag.encode_utf16().fold(0, |code: i32, unit| code.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::engine::tests::tagged;

    #[test]
    fn a_tag_filter_takes_its_tags_by_their_text() {
        let filter = FilterProgram::tags("paid || Aa");
        assert!(filter.matches(&tagged("1", "paid")) && filter.matches(&tagged("2", "Aa")));
        assert!(!filter.matches(&tagged("3", "BB")), "equal hashes are not equal tags");
        assert!(!filter.matches(&tagged("4", "")), "a message without a tag matches no tag");
    }

    #[test]
    fn a_broker_compares_tags_by_their_java_hash_codes() {
        for (tag, code) in [("TagA", 2_598_919), ("TagB", 2_598_920), ("Aa", 2112), ("BB", 2112), ("", 0)] {
            assert_eq!(tag_code(tag), code, "{tag}");
        }
        let filter = FilterProgram::tag_codes("paid || Aa || ");
        assert!(filter.matches(&tagged("1", "BB")), "a collision gets through");
        assert!(!filter.matches(&tagged("2", "open")) && !filter.matches(&tagged("3", "")));
        assert_eq!(FilterProgram::tag_codes(" * "), FilterProgram::All);
    }

    #[test]
    fn a_star_or_nothing_takes_everything() {
        for expression in ["", " * ", "*"] {
            assert_eq!(FilterProgram::tags(expression), FilterProgram::All);
            assert_eq!(FilterProgram::sql(expression), Ok(FilterProgram::All));
        }
    }

    #[test]
    fn an_sql_filter_reads_properties_and_the_tag() {
        let filter = FilterProgram::sql("TAGS = 'paid' AND amount IS NULL").unwrap();
        assert!(filter.matches(&tagged("1", "paid")) && !filter.matches(&tagged("2", "open")));
    }
}
