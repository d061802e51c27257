use std::fmt;
use std::sync::Arc;

/// A message queue: one of a topic's queues on one broker. The id alone is not unique.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageQueue {
    topic: Arc<str>,
    broker: Arc<str>,
    id: u32,
}

impl MessageQueue {
    /// A queue from its parts.
    pub fn new(topic: impl Into<Arc<str>>, broker: impl Into<Arc<str>>, id: u32) -> Self {
        Self { topic: topic.into(), broker: broker.into(), id }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The name of the broker.
    #[must_use]
    pub fn broker(&self) -> &str {
        &self.broker
    }

    pub(crate) const fn shared_topic(&self) -> &Arc<str> {
        &self.topic
    }

    pub(crate) const fn shared_broker(&self) -> &Arc<str> {
        &self.broker
    }

    /// The number of the queue on its broker, from 0.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl fmt::Display for MessageQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.topic, self.broker, self.id)
    }
}

/// The position of a message in its queue, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offset(u64);

impl Offset {
    /// An offset from its number.
    #[must_use]
    pub const fn new(offset: u64) -> Self {
        Self(offset)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Offsets from `start` to before `end`.
pub type OffsetRange = std::ops::Range<Offset>;

/// How often a queue was gained: positions and buffers of an earlier time are void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number, from 0.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_called_by_its_topic_broker_and_number() {
        let queue = MessageQueue::new("orders", "broker-a", 3);
        assert_eq!((queue.topic(), queue.broker(), queue.id()), ("orders", "broker-a", 3));
        assert_eq!((&**queue.shared_topic(), &**queue.shared_broker()), ("orders", "broker-a"));
        assert_eq!((queue.to_string(), Offset::new(17).to_string()), ("orders@broker-a:3".into(), "17".into()));
    }

    #[test]
    fn epochs_are_counted_from_nought() {
        let numbers = [Epoch::default(), Epoch::default().next(), Epoch::default().next().next()].map(Epoch::get);
        assert_eq!(numbers, [0, 1, 2]);
    }
}
