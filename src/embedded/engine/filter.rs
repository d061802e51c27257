//! Which messages a pop takes.

use super::content::Content;
use super::sql92::Expression;

/// A filter, ready to be applied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FilterProgram {
    All,
    Tags(Vec<Box<str>>),
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
            Self::Sql(expression) => expression.matches(|name| match name {
                "TAGS" => content.tag.as_deref(),
                _ => content.properties.get(name).map(String::as_str),
            }),
        }
    }
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
