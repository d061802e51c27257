//! Properties as the broker stores them: `name 0x01 value 0x02 …` in UTF-8 (protocol.md E.7), read where they lie.

/// Between the name and the value of a property.
pub(crate) const NAME_END: char = '\u{1}';
/// Between two properties; after the last one it may be missing.
pub(crate) const VALUE_END: char = '\u{2}';

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
    SYSTEM.binary_search(&name).is_ok() || name.starts_with("__RMQ.TRANSIENT.")
}

/// The properties of one message, unparsed. Looking one up allocates nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawProperties<'a>(&'a str);

impl<'a> RawProperties<'a> {
    /// Of bytes that are not UTF-8, what stands before the first fault.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(fault) => std::str::from_utf8(&bytes[..fault.valid_up_to()]).unwrap_or_default(),
        };
        Self(text)
    }

    /// The value of a property. Of two with one name the last counts, as in the map that Java makes of them.
    pub(crate) fn get(self, name: &str) -> Option<&'a str> {
        let mut rest = self.0;
        loop {
            let (before, item) = rest.rsplit_once(VALUE_END).map_or(("", rest), |(before, item)| (before, item));
            if let Some(value) = item.strip_prefix(name).and_then(|rest| rest.strip_prefix(NAME_END)) {
                return Some(value);
            }
            if before.is_empty() {
                return None;
            }
            rest = before;
        }
    }

    /// Names and values in the order of the wire, also those of one name. What has no separator is none.
    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.split(VALUE_END).filter_map(|item| item.split_once(NAME_END))
    }
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
    fn what_stands_before_a_byte_that_is_no_utf_8_can_be_read() {
        let properties = RawProperties::new(b"a\x011\x02b\x01\xFF\x02c\x013\x02");
        assert_eq!((properties.get("a"), properties.get("c")), (Some("1"), None));
    }

    proptest! {
        #[test]
        fn a_lookup_finds_what_a_map_of_all_of_them_has(text in "[ab\u{1}\u{2}é]{0,24}") {
            let map: HashMap<_, _> = raw(&text).iter().collect();
            for name in ["", "a", "b", "ab", "é"] {
                prop_assert_eq!(raw(&text).get(name), map.get(name).copied(), "{:?}", name);
            }
        }
    }
}
