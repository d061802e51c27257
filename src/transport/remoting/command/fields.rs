//! The named fields of a header (`extFields`): text to text, with a few rules on reading.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::ops::Range;
use std::str::FromStr;

use crate::error::Result;
use crate::transport::remoting::command::malformed;

/// The fields of one header, in the order they were set or read. A name set twice counts with its last value.
#[derive(Clone, Default)]
pub(crate) struct Fields {
    entries: Vec<(Cow<'static, str>, Range<usize>)>,
    /// The values, one behind the other: a pull has a dozen of them, and its answer half as many.
    values: String,
}

impl Fields {
    pub(crate) fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Display) {
        let (name, start) = (name.into(), self.values.len());
        self.make_room();
        // Only a value that cannot write itself fails, and none of ours does; what it wrote until then stands.
        _ = write!(self.values, "{value}");
        let value = start..self.values.len();
        match self.entries.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.entries.push((name, value)),
        }
    }

    /// As it was read: not looked through for an earlier one of that name, so that a hostile header costs no square.
    pub(super) fn push(&mut self, name: Cow<'static, str>, value: &str) {
        let start = self.values.len();
        self.make_room();
        self.values.push_str(value);
        self.entries.push((name, start..self.values.len()));
    }

    /// For those of a pull, with names of topic and group of usual length.
    fn make_room(&mut self) {
        if self.entries.is_empty() {
            self.entries.reserve(14);
            self.values.reserve(160);
        }
    }

    pub(crate) fn set_if(&mut self, name: &'static str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.entries.iter().rev().find(|(known, _)| known == name).map(|(_, value)| &self.values[value.clone()])
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (&**name, &self.values[value.clone()]))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A text that must be there; it may be empty.
    pub(crate) fn text(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| malformed(format!("the field `{name}` is missing")))
    }

    /// A number that must be there.
    pub(crate) fn number<N: FromStr>(&self, name: &str) -> Result<N> {
        read_number(name, self.text(name)?)
    }

    /// A number that may be absent; empty and `null`, as Java prints it, are as good as absent.
    pub(crate) fn number_if<N: FromStr>(&self, name: &str) -> Result<Option<N>> {
        match self.get(name).map(str::trim) {
            None | Some("" | "null") => Ok(None),
            Some(text) => read_number(name, text).map(Some),
        }
    }

    /// Java reads every text but `true` as false.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|text| text.trim().eq_ignore_ascii_case("true"))
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn read_number<N: FromStr>(name: &str, text: &str) -> Result<N> {
    let shown = || text.chars().take(40).collect::<String>();
    text.trim()
        .parse()
        .map_err(|_| malformed(format!("the field `{name}` has the value `{}`: not a number of its kind", shown())))
}
