//! The SQL92 subset of RocketMQ's filters: comparisons, `AND`, `OR`, `NOT`, `BETWEEN`, `IN`, `IS NULL`, numbers,
//! strings, booleans. Properties are text; a comparison with a number reads them as numbers.
//!
//! Three-valued: a comparison with a missing property, or with one that is no number, is unknown, and unknown does not match.

mod lexer;
mod parser;

/// A parsed condition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expression(Node);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Compare(Operand, Comparison, Operand),
    Between(Operand, Operand, Operand),
    In(Operand, Vec<Operand>),
    IsNull(Operand),
    Truth(Operand),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Property(Box<str>),
    Text(Box<str>),
    Number(f64),
    Boolean(bool),
}

/// What an operand is for one message.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Text(&'a str),
    Number(f64),
    Boolean(bool),
}

impl Expression {
    /// Reads an expression, or says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        parser::parse(text).map(Self)
    }

    /// Whether it is true for these properties.
    pub(crate) fn matches<'a>(&'a self, property: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.evaluate(&property) == Some(true)
    }
}

impl Node {
    /// `None` is SQL's "unknown".
    fn evaluate<'a>(&'a self, property: &dyn Fn(&str) -> Option<&'a str>) -> Option<bool> {
        match self {
            Self::And(left, right) => match (left.evaluate(property), right.evaluate(property)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(left, right) => match (left.evaluate(property), right.evaluate(property)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Not(inner) => inner.evaluate(property).map(|truth| !truth),
            Self::Compare(left, comparison, right) => comparison.judge(left.value(property)?, right.value(property)?),
            Self::Between(value, low, high) => {
                let value = value.value(property)?;
                let above = Comparison::GreaterOrEqual.judge(value, low.value(property)?)?;
                Some(above && Comparison::LessOrEqual.judge(value, high.value(property)?)?)
            }
            Self::In(value, list) => {
                let value = value.value(property)?;
                let mut listed = list.iter().filter_map(|entry| entry.value(property));
                Some(listed.any(|entry| Comparison::Equal.judge(value, entry) == Some(true)))
            }
            Self::IsNull(value) => Some(value.value(property).is_none()),
            Self::Truth(value) => value.value(property)?.as_boolean(),
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, property: &dyn Fn(&str) -> Option<&'a str>) -> Option<Value<'a>> {
        match self {
            Self::Property(name) => property(name).map(Value::Text),
            Self::Text(text) => Some(Value::Text(text)),
            Self::Number(number) => Some(Value::Number(*number)),
            Self::Boolean(truth) => Some(Value::Boolean(*truth)),
        }
    }
}

impl Value<'_> {
    fn as_number(self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Boolean(_) => None,
        }
    }

    fn as_boolean(self) -> Option<bool> {
        match self {
            Self::Boolean(truth) => Some(truth),
            Self::Text(text) if text.eq_ignore_ascii_case("true") => Some(true),
            Self::Text(text) if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }
}

impl Comparison {
    fn judge(self, left: Value<'_>, right: Value<'_>) -> Option<bool> {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let order = match (left, right) {
            (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
            (Value::Boolean(_), _) | (_, Value::Boolean(_)) => {
                Some(left.as_boolean()?.cmp(&right.as_boolean()?)).filter(|_| self.is_equality())
            }
            _ => left.as_number()?.partial_cmp(&right.as_number()?),
        }?;
        Some(match self {
            Self::Equal => order == Equal,
            Self::NotEqual => order != Equal,
            Self::Less => order == Less,
            Self::LessOrEqual => order != Greater,
            Self::Greater => order == Greater,
            Self::GreaterOrEqual => order != Less,
        })
    }

    fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }
}

#[cfg(test)]
mod tests;
