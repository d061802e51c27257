//! Receipt handles in Apache's text layout:
//! `startOffset popTime invisibleTime reviveQueueId topicType brokerName queueId queueOffset commitLogOffset`.
//!
//! The last number is this broker's own: the lease. Clients must treat a handle as opaque.

use std::fmt;

use super::content::Millis;

/// The revive queue id that marks a handle of an ordered (FIFO) pop.
const ORDERED: u32 = 999;

/// Which log of a queue a message was popped from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Topic,
    Retry,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handle<'a> {
    pub(crate) popped_at: Millis,
    pub(crate) invisible: Millis,
    pub(crate) ordered: bool,
    pub(crate) source: Source,
    pub(crate) broker: &'a str,
    pub(crate) queue: u32,
    pub(crate) offset: u64,
    /// 0 in a handle of an ordered pop, and no lease has that number.
    pub(crate) lease: u64,
}

impl<'a> Handle<'a> {
    /// `None`: this is no handle.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut fields = text.split(' ');
        let mut number = || fields.next()?.parse::<u64>().ok();
        let _start_offset = number()?;
        let (popped_at, invisible) = (number()?, number()?);
        let ordered = number()? == u64::from(ORDERED);
        let source = match fields.next()? {
            "0" => Source::Topic,
            "1" | "2" => Source::Retry,
            _ => return None,
        };
        let broker = fields.next()?;
        let queue = fields.next()?.parse().ok()?;
        let offset = fields.next()?.parse().ok()?;
        let lease = fields.next()?.parse().ok()?;
        Some(Self { popped_at, invisible, ordered, source, broker, queue, offset, lease })
    }

    /// From then on it is refused.
    pub(crate) fn expires_at(&self) -> Millis {
        self.popped_at.saturating_add(self.invisible)
    }
}

impl fmt::Display for Handle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revive = if self.ordered { u64::from(ORDERED) } else { self.lease % 8 };
        let source = if self.source == Source::Topic { 0 } else { 1 };
        let Self { popped_at, invisible, broker, queue, offset, lease, .. } = self;
        write!(f, "{offset} {popped_at} {invisible} {revive} {source} {broker} {queue} {offset} {lease}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_handle_survives_its_text(popped_at in 0..u64::MAX / 2, invisible in 0..u64::MAX / 2, retry: bool,
                                      ordered: bool, queue: u32, offset: u64, lease: u64) {
            let source = if retry { Source::Retry } else { Source::Topic };
            let handle = Handle { popped_at, invisible, ordered, source, broker: "broker-a", queue, offset, lease };
            let text = handle.to_string();
            prop_assert_eq!(text.split(' ').count(), 9);
            prop_assert_eq!(Handle::parse(&text), Some(handle));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in ".{0,60}") {
            let _ = Handle::parse(&text);
        }
    }

    #[test]
    fn no_lease_makes_a_handle_look_like_one_of_an_ordered_pop() {
        let at = |lease| Handle {
            popped_at: 7,
            invisible: 8,
            ordered: false,
            source: Source::Retry,
            broker: "broker-a",
            queue: 3,
            offset: 5,
            lease,
        };
        for lease in 1..10_000 {
            assert_eq!(Handle::parse(&at(lease).to_string()), Some(at(lease)));
        }
        assert_eq!(at(12).to_string(), "5 7 8 4 1 broker-a 3 5 12");
        assert_eq!(Handle { ordered: true, source: Source::Topic, ..at(0) }.to_string(), "5 7 8 999 0 broker-a 3 5 0");
        assert_eq!(Handle::parse("5 7 8 4 2 broker-a 3 5 12"), Some(at(12)), "Apache's second kind of retry topic");
    }

    #[test]
    fn what_is_not_a_handle_is_refused() {
        for text in ["", "garbage", "1 2 3 4 0 b 0 0", "1 2 3 4 7 b 0 0 0", "1 x 3 4 0 b 0 0 0", "1 2 3 4 0 b -1 0 0"] {
            assert_eq!(Handle::parse(text), None, "{text}");
        }
    }
}
