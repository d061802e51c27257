//! A topic: its type and its queues on every broker.

use std::sync::Arc;

use super::content::ContentKind;
use super::log::QueueLog;

/// Which messages a topic takes (its attribute `message.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TopicType {
    /// Plain messages.
    #[default]
    Normal,
    /// Messages with a message group, delivered in its order to groups that ask for it.
    Fifo,
    /// Messages with a delivery time.
    Delay,
    /// Messages of transactions.
    Transaction,
    /// All of them.
    Mixed,
}

impl TopicType {
    /// The kinds a topic of this type accepts.
    pub(crate) fn accepts(self) -> &'static [ContentKind] {
        match self {
            Self::Normal => &[ContentKind::Normal],
            Self::Fifo => &[ContentKind::Fifo],
            Self::Delay => &[ContentKind::Delay],
            Self::Transaction => &[ContentKind::Transaction],
            Self::Mixed => &[ContentKind::Normal, ContentKind::Fifo, ContentKind::Delay, ContentKind::Transaction],
        }
    }

    /// As the server's texts write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Fifo => "FIFO",
            Self::Delay => "DELAY",
            Self::Transaction => "TRANSACTION",
            Self::Mixed => "MIXED",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) kind: TopicType,
    /// New groups start at the last message, whatever is still there.
    pub(crate) old: bool,
    /// By broker, then by queue.
    pub(crate) logs: Vec<Vec<QueueLog>>,
    turn: usize,
}

impl Topic {
    pub(crate) fn new(name: Arc<str>, kind: TopicType, queues: u32, brokers: usize, queue_bytes: usize) -> Self {
        let broker = |_| (0..queues.max(1)).map(|_| QueueLog::new(queue_bytes)).collect();
        Self { name, kind, old: false, logs: (0..brokers).map(broker).collect(), turn: 0 }
    }

    pub(crate) fn queues(&self) -> u32 {
        self.logs.first().map_or(0, Vec::len) as u32
    }

    /// More queues on each broker; never fewer.
    pub(crate) fn grow(&mut self, queues: u32, queue_bytes: usize) {
        for logs in &mut self.logs {
            let wanted = logs.len().max(queues as usize);
            logs.resize_with(wanted, || QueueLog::new(queue_bytes));
        }
    }

    /// Each queue in turn, the brokers alternating.
    pub(crate) fn next_queue(&mut self, brokers: &[usize]) -> (usize, u32) {
        self.turn = self.turn.wrapping_add(1);
        let broker = brokers[self.turn % brokers.len()];
        (broker, (self.turn / brokers.len() % self.queues() as usize) as u32)
    }

    /// Always the same queue for one message group while the brokers stay the same.
    pub(crate) fn queue_of(&self, message_group: &str, brokers: &[usize]) -> (usize, u32) {
        let queues = self.queues() as usize;
        let index = fnv1a(message_group) as usize % (brokers.len() * queues);
        (brokers[index / queues], (index % queues) as u32)
    }
}

/// FNV-1a: small, and the same on every platform.
fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn messages_are_spread_over_all_queues_of_all_brokers() {
        let mut topic = Topic::new("t".into(), TopicType::Normal, 4, 3, 1024);
        let used: HashSet<_> = (0..12).map(|_| topic.next_queue(&[0, 2])).collect();
        assert_eq!(used.len(), 8);
        assert!(used.iter().all(|(broker, queue)| *broker != 1 && *queue < 4));
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        for (text, hash) in [("", 0x811c_9dc5), ("a", 0xe40c_292c), ("foobar", 0xbf9c_f968)] {
            assert_eq!(fnv1a(text), hash, "{text}");
        }
    }

    #[test]
    fn each_type_has_its_name_and_takes_its_kind_and_mixed_takes_all() {
        use ContentKind::{Delay, Fifo, Normal, Transaction};
        for (kind, name, accepts) in [
            (TopicType::Normal, "NORMAL", &[Normal][..]),
            (TopicType::Fifo, "FIFO", &[Fifo]),
            (TopicType::Delay, "DELAY", &[Delay]),
            (TopicType::Transaction, "TRANSACTION", &[Transaction]),
            (TopicType::Mixed, "MIXED", &[Normal, Fifo, Delay, Transaction]),
        ] {
            assert_eq!((kind.name(), kind.accepts()), (name, accepts));
        }
    }

    #[test]
    fn a_message_group_stays_in_one_queue() {
        let topic = Topic::new("t".into(), TopicType::Fifo, 4, 2, 1024);
        let places: HashSet<_> = (0..100).map(|n| topic.queue_of(&format!("g{n}"), &[0, 1])).collect();
        assert_eq!(topic.queue_of("g", &[0, 1]), topic.queue_of("g", &[0, 1]));
        assert_eq!(places.len(), 8, "the groups are spread");
        assert!(places.iter().all(|(broker, queue)| *broker < 2 && *queue < 4), "{places:?}");
    }
}
