use std::fmt;

use crate::model::raw_properties::{RawProperties, is_system};

/// The user properties of a message: names and values in the order of the wire.
///
/// They stay as they came until they are asked for.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Properties(Vec<(Box<str>, Box<str>)>);

impl Properties {
    pub(crate) fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into_boxed_str(), value.into_boxed_str())).collect())
    }

    /// The user's of them, each name once and with its last value.
    pub(crate) fn from_raw(raw: RawProperties<'_>) -> Self {
        let mut pairs: Vec<_> = raw.iter().filter(|(name, _)| !is_system(name)).enumerate().collect();
        // By name, the last of each first; and back in the order of the wire.
        pairs.sort_unstable_by(|(at, (name, _)), (other_at, (other, _))| (name, other_at).cmp(&(other, at)));
        pairs.dedup_by(|(_, (name, _)), (_, (before, _))| name == before);
        pairs.sort_unstable_by_key(|(at, _)| *at);
        Self(pairs.into_iter().map(|(_, (name, value))| (name.into(), value.into())).collect())
    }

    pub(crate) fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, old)) => *old = value.into_boxed_str(),
            None => self.0.push((name.into_boxed_str(), value.into_boxed_str())),
        }
    }

    /// The value of a property.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }

    /// All names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of all names and values.
    pub(crate) fn size(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_that_is_set_twice_has_its_last_value() {
        let mut properties = Properties::default();
        assert_eq!((properties.len(), properties.size(), properties.is_empty()), (0, 0, true));
        properties.set("a".into(), "1".into());
        properties.set("b".into(), "2".into());
        properties.set("a".into(), "3".into());
        assert_eq!(properties.iter().collect::<Vec<_>>(), [("a", "3"), ("b", "2")]);
        assert_eq!((properties.get("a"), properties.get("c")), (Some("3"), None));
        assert_eq!((properties.len(), properties.size(), properties.is_empty()), (2, 4, false));
    }

    #[test]
    fn of_raw_properties_the_users_remain_in_their_order_and_each_once() {
        let raw =
            "b\u{1}1\u{2}TAGS\u{1}t\u{2}a\u{1}2\u{2}UNIQ_KEY\u{1}0\u{2}c\u{1}\u{2}a\u{1}3\u{2}__CRC32#\u{1}7\u{2}";
        let properties = Properties::from_raw(RawProperties::new(raw.as_bytes()));
        assert_eq!(properties.iter().collect::<Vec<_>>(), [("b", "1"), ("c", ""), ("a", "3")]);
    }
}
