//! Properties as the broker stores them: `name 0x01 value 0x02 …` in UTF-8 (protocol.md E.7), read where they lie.

/// Between the name and the value of a property.
pub(crate) const NAME_END: u8 = 1;
/// Between two properties; after the last one it may be missing.
pub(crate) const VALUE_END: u8 = 2;

/// The names that RocketMQ itself gives properties, in order. What they say to a consumer is in fields of their own
/// (protocol.md C.2, and `MessageConst` of 5.5.0).
const SYSTEM: &[&str] = &[
    "1ST_POP_TIME",
    "ARRIVE_TIME",
    "BORN_TIMESTAMP",
    "BUYER_ID",
    "CHECK_IMMUNITY_TIME_IN_SECONDS",
    "CLUSTER",
    "CONSUME_START_TIME",
    "CORRECTION_FLAG",
    "CORRELATION_ID",
    "DELAY",
    "DLQ_ORIGIN_MESSAGE_ID",
    "DLQ_ORIGIN_TOPIC",
    "DUP_INFO",
    "EXTEND_UNIQ_INFO",
    "INNER_BASE",
    "INNER_MULTI_DISPATCH",
    "INNER_MULTI_QUEUE_OFFSET",
    "INNER_NUM",
    "INSTANCE_ID",
    "KEYS",
    "MAX_OFFSET",
    "MAX_RECONSUME_TIMES",
    "MIN_OFFSET",
    "MQ2_FLAG",
    "MSG_REGION",
    "MSG_TYPE",
    "ORIGIN_GROUP",
    "ORIGIN_MESSAGE_ID",
    "PGROUP",
    "POP_CK",
    "POP_CK_OFFSET",
    "PROPERTY_FORWARD_QUEUE_ID",
    "PUSH_REPLY_TIME",
    "REAL_QID",
    "REAL_TOPIC",
    "RECONSUME_TIME",
    "REDIRECT",
    "REPLY_TO_CLIENT",
    "RETRY_TOPIC",
    "TAGS",
    "TIMER_DELAY_LEVEL",
    "TIMER_DELAY_MS",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "TIMER_DEL_UNIQKEY",
    "TIMER_DEQUEUE_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_OUT_MS",
    "TIMER_ROLL_LABEL",
    "TIMER_ROLL_TIMES",
    "TRACE_CONTEXT",
    "TRACE_ON",
    "TRANSACTION_CHECK_TIMES",
    "TRANSFER_FLAG",
    "TRANS_OFFSET",
    "TRAN_MSG",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "TTL",
    "UNIQ_KEY",
    "WAIT",
    "_SYS_MSG_PRIORITY_",
    "__BORNHOST",
    "__CRC32#",
    "__LITE_TOPIC",
    "__SHARDINGKEY",
    "__transactionId__",
];

/// Whether a property is RocketMQ's own and not the user's.
pub(crate) fn is_system(name: &str) -> bool {
    // None of them begins with a small letter, as most of the users' do.
    !name.starts_with(|first: char| first.is_ascii_lowercase())
        && (SYSTEM.binary_search(&name).is_ok() || name.starts_with("__RMQ.TRANSIENT."))
}

/// The properties of one message, unparsed. Looking one up allocates nothing.
///
/// What is not UTF-8 cannot be read, and is passed over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawProperties<'a>(&'a [u8]);

impl<'a> RawProperties<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The value of a property. Of two with one name the last counts, as in the map that Java makes of them.
    pub(crate) fn get(self, name: &str) -> Option<&'a str> {
        let mut end = self.0.len();
        for at in Separators::of(self.0) {
            if let Some(value) = value_of(&self.0[at + 1..end], name) {
                return text(value);
            }
            end = at;
        }
        value_of(&self.0[..end], name).and_then(text)
    }

    /// Names and values in the order of the wire, also those of one name. What has no separator is none.
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.split(|byte| *byte == VALUE_END).filter_map(|item| {
            let at = item.iter().position(|byte| *byte == NAME_END)?;
            Some((text(&item[..at])?, text(&item[at + 1..])?))
        })
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The value, if this is the property of that name.
fn value_of<'a>(item: &'a [u8], name: &str) -> Option<&'a [u8]> {
    // Most are not, and most of those are told by this one byte.
    let is_it = item.get(name.len()) == Some(&NAME_END) && item.starts_with(name.as_bytes());
    is_it.then(|| &item[name.len() + 1..])
}

/// The places of [`VALUE_END`], the last first. It looks at eight bytes at once, and once at each: a lookup goes through
/// properties of ten bytes each, for which a search from one to the next costs more than the comparing.
struct Separators<'a> {
    bytes: &'a [u8],
    /// What is not yet looked at ends here.
    end: usize,
    /// Where `word` begins, and the separators in it: the top bit of each of its bytes.
    start: usize,
    found: u64,
}

impl<'a> Separators<'a> {
    const fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, end: bytes.len(), start: 0, found: 0 }
    }

    /// Looks at the next bytes.
    fn look(&mut self) {
        let end = self.end;
        if let Some((_, word)) = self.bytes[..end].split_last_chunk() {
            self.start = end - 8;
            self.found = separators(u64::from_le_bytes(*word));
        } else {
            // Fewer than eight bytes at the beginning.
            let mut word = [0; 8];
            word[..end].copy_from_slice(&self.bytes[..end]);
            self.start = 0;
            self.found = separators(u64::from_le_bytes(word));
        }
        self.end = self.start;
    }
}

impl Iterator for Separators<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.found == 0 {
            if self.end == 0 {
                return None;
            }
            self.look();
        }
        let bit = 63 - self.found.leading_zeros();
        self.found &= !(1 << bit);
        Some(self.start + bit as usize / 8)
    }
}

/// The top bit of each byte that is a separator.
const fn separators(word: u64) -> u64 {
    const LOW: u64 = 0x7F7F_7F7F_7F7F_7F7F;
    // Zero where it is one. The sum of a byte's low bits carries into its top bit, and no further.
    let word = word ^ u64::from_le_bytes([VALUE_END; 8]);
    !(((word & LOW) + LOW) | word | LOW)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn raw(text: &str) -> RawProperties<'_> {
        RawProperties::new(text.as_bytes())
    }

    #[test]
    fn the_system_names_are_in_order_so_that_they_can_be_searched() {
        assert!(SYSTEM.is_sorted());
        assert!(SYSTEM.iter().all(|name| is_system(name)) && is_system("__RMQ.TRANSIENT.TOPIC_SYS_FLAG"));
        assert!(!is_system("region") && !is_system("") && !is_system("TAGS2"));
    }

    #[test]
    fn properties_are_found_wherever_they_stand() {
        for text in ["a\u{1}1\u{2}b\u{1}2\u{2}c\u{1}3\u{2}", "a\u{1}1\u{2}b\u{1}2\u{2}c\u{1}3"] {
            let found = ["a", "b", "c", "", "d", "ab"].map(|name| raw(text).get(name));
            assert_eq!(found, [Some("1"), Some("2"), Some("3"), None, None, None], "{text:?}");
            assert_eq!(raw(text).iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2"), ("c", "3")]);
        }
    }

    #[test]
    fn an_item_is_split_at_its_first_separator() {
        assert_eq!(raw("a\u{1}1\u{1}2\u{2}").get("a"), Some("1\u{1}2"));
        assert_eq!(raw("a\u{1}\u{2}").get("a"), Some(""), "an empty value is a value");
    }

    #[test]
    fn of_two_properties_with_one_name_the_last_counts() {
        assert_eq!(raw("a\u{1}1\u{2}b\u{1}2\u{2}a\u{1}3\u{2}").get("a"), Some("3"));
    }

    #[test]
    fn what_is_no_property_is_passed_over() {
        for text in ["", "\u{2}", "\u{2}\u{2}\u{2}", "a", "a\u{2}", "\u{2}a"] {
            assert_eq!((raw(text).get("a"), raw(text).iter().count()), (None, 0), "{text:?}");
        }
        assert_eq!(raw("a\u{2}a\u{1}1\u{2}\u{2}b\u{2}").get("a"), Some("1"));
        assert_eq!(raw("a\u{2}a\u{1}1\u{2}\u{2}b\u{2}").iter().count(), 1);
    }

    #[test]
    fn what_is_no_utf_8_is_passed_over() {
        let properties = RawProperties::new(b"a\x011\x02b\x01\xFF\x02\xFF\x012\x02c\x013\x02");
        assert_eq!(["a", "b", "c"].map(|name| properties.get(name)), [Some("1"), None, Some("3")]);
        assert_eq!(properties.iter().collect::<Vec<_>>(), [("a", "1"), ("c", "3")]);
    }

    proptest! {
        #[test]
        fn every_separator_is_seen_once_and_nothing_else(bytes in prop::collection::vec(0u8..=255, 0..40), dense in prop::collection::vec(0u8..5, 0..40)) {
            for bytes in [bytes, dense] {
                let places = (0..bytes.len()).rev().filter(|at| bytes[*at] == VALUE_END);
                prop_assert_eq!(Separators::of(&bytes).collect::<Vec<_>>(), places.collect::<Vec<_>>());
            }
        }

        #[test]
        fn a_lookup_finds_what_a_map_of_all_of_them_has(text in "[ab\u{1}\u{2}é]{0,24}") {
            let map: HashMap<_, _> = raw(&text).iter().collect();
            for name in ["", "a", "b", "ab", "é"] {
                prop_assert_eq!(raw(&text).get(name), map.get(name).copied(), "{:?}", name);
            }
        }
    }
}
