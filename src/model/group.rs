use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::{Limits, check_group};

/// The name of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerGroup(Arc<str>);

impl ConsumerGroup {
    pub(crate) fn new(name: &str, limits: &Limits) -> Result<Self> {
        check_group(name, limits)?;
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for ConsumerGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which messages of a topic a consumer wants. The server filters.
///
/// All members of a group must use the same filter on a topic: what one member's filter skips is consumed for the whole
/// group, and no member gets it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    kind: FilterKind,
    expression: Arc<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FilterKind {
    Tag,
    Sql92,
}

impl Filter {
    /// Every message.
    #[must_use]
    pub fn all() -> Self {
        Self { kind: FilterKind::Tag, expression: "*".into() }
    }

    /// Messages with one of these tags: `"paid"`, `"paid || shipped"`; `"*"` is every message.
    pub fn tag(expression: impl Into<String>) -> Self {
        Self { kind: FilterKind::Tag, expression: expression.into().into() }
    }

    /// Messages whose properties satisfy an SQL92 expression: `"amount > 100 AND region = 'EU'"`.
    ///
    /// The broker needs `enablePropertyFilter=true`; the expression's syntax is judged by the server.
    pub fn sql92(expression: impl Into<String>) -> Self {
        Self { kind: FilterKind::Sql92, expression: expression.into().into() }
    }

    pub(crate) fn kind(&self) -> FilterKind {
        self.kind
    }

    /// The expression as given.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// The tags of a TAG filter; empty for "every message" and for SQL92.
    pub(crate) fn tags(&self) -> impl Iterator<Item = &str> {
        let wanted = self.kind == FilterKind::Tag && self.expression.trim() != "*";
        self.expression.split("||").map(str::trim).filter(move |tag| wanted && !tag.is_empty())
    }

    /// Whether a message with this tag is wanted, as far as a tag tells: servers compare hash codes, which collide.
    pub(crate) fn accepts_tag(&self, tag: Option<&str>) -> bool {
        let mut wanted = self.tags().peekable();
        wanted.peek().is_none() || tag.is_some_and(|tag| wanted.any(|wanted| wanted == tag))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |rule: &str| Err(Error::config("filter", &self.expression, rule));
        if self.expression.chars().any(char::is_control) {
            return refuse("must not hold control characters");
        }
        match self.kind {
            FilterKind::Sql92 if self.expression.trim().is_empty() => refuse("an SQL92 filter must not be empty"),
            FilterKind::Tag if self.expression.trim().is_empty() => {
                refuse("a tag filter must not be empty; use Filter::all() for every message")
            }
            FilterKind::Tag => {
                if self.expression.split("||").any(|tag| tag.trim().is_empty()) {
                    return refuse("a tag is missing beside `||`");
                }
                if self.tags().any(|tag| tag.contains('|') || tag.contains(char::is_whitespace)) {
                    return refuse("tags are separated by `||` and hold neither `|` nor blanks");
                }
                if self.tags().any(|tag| tag == "*") {
                    return refuse("`*` stands alone; it cannot be joined with tags");
                }
                Ok(())
            }
            FilterKind::Sql92 => Ok(()),
        }
    }
}

/// A topic and the filter on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) topic: Arc<str>,
    pub(crate) filter: Filter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_called_by_its_name() {
        let group = ConsumerGroup::new("billing", &Limits::default()).expect("a good name");
        assert_eq!((group.as_str(), &*group.shared(), group.to_string().as_str()), ("billing", "billing", "billing"));
        assert!(ConsumerGroup::new("no group!", &Limits::default()).is_err());
    }

    #[test]
    fn an_expression_is_kept_as_it_was_given() {
        let given = [Filter::all(), Filter::tag(" a||b"), Filter::sql92("price  > 5")];
        assert_eq!(given.each_ref().map(Filter::expression), ["*", " a||b", "price  > 5"]);
    }

    #[test]
    fn tags_are_split_and_trimmed() {
        assert_eq!(Filter::tag("a || b||c ").tags().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(Filter::all().tags().count(), 0);
        assert_eq!(Filter::sql92("a || b").tags().count(), 0);
    }

    #[test]
    fn a_tag_filter_takes_its_tags_by_their_text() {
        let filter = Filter::tag("Aa || x");
        let taken = [Some("Aa"), Some("BB"), Some("x"), None].map(|tag| filter.accepts_tag(tag));
        assert_eq!(taken, [true, false, true, false], "the hash codes of Aa and BB are equal");
        for all in [Filter::all(), Filter::tag("*"), Filter::sql92("a > 1")] {
            assert!(all.accepts_tag(None) && all.accepts_tag(Some("BB")), "{all:?}");
        }
    }

    #[test]
    fn a_filter_that_cannot_be_meant_is_refused() {
        for filter in [
            Filter::tag(""),
            Filter::tag("a ||"),
            Filter::tag("a || || b"),
            Filter::tag("a b"),
            Filter::tag("a|b"),
            Filter::tag("a || *"),
            Filter::tag("a\u{1}"),
            Filter::sql92("  "),
        ] {
            let error = filter.check().expect_err(filter.expression());
            assert!(error.to_string().starts_with("filter `"), "{error}");
        }
        let empty = Filter::tag(" ").check().expect_err("it is empty").to_string();
        assert!(empty.contains("use Filter::all()"), "{empty}");
        for filter in [Filter::all(), Filter::tag(" * "), Filter::tag("a||b"), Filter::sql92("a > 1 || b")] {
            assert!(filter.check().is_ok(), "{filter:?}");
        }
    }
}
