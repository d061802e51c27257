//! Positions in queues: plain data to be saved and compared.

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::error::{Error, Operation, Result};
use crate::model::{MessageQueue, Offset};

/// Positions of queues: for each, the first offset that is **not yet** consumed. Plain data: save it, merge it, compare it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint(BTreeMap<MessageQueue, Offset>);

impl Checkpoint {
    /// A checkpoint without a position.
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// The next offset of a queue, if this checkpoint knows the queue.
    #[must_use]
    pub fn get(&self, queue: &MessageQueue) -> Option<Offset> {
        self.0.get(queue).copied()
    }

    /// Sets the next offset of a queue; returns the one it had.
    pub fn set(&mut self, queue: MessageQueue, next: Offset) -> Option<Offset> {
        self.0.insert(queue, next)
    }

    /// Forgets a queue.
    pub fn remove(&mut self, queue: &MessageQueue) -> Option<Offset> {
        self.0.remove(queue)
    }

    /// Both together; where both have a position, the larger one.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        for (queue, next) in other.0 {
            let position = self.0.entry(queue).or_insert(next);
            *position = next.max(*position);
        }
        self
    }

    /// Whether it has positions of these topics only: a checkpoint of another consumer is not to be started from.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument), naming a queue of another topic.
    pub fn check<'a>(&self, topics: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let topics: Vec<&str> = topics.into_iter().collect();
        match self.0.keys().find(|queue| !topics.contains(&queue.topic())) {
            None => Ok(()),
            Some(queue) => {
                let rule = format!(
                    "it has a position of queue {queue}, and this consumer reads {}: is it another consumer's? remove what \
                     is not read any more",
                    topics.join(", ")
                );
                Err(Error::argument("checkpoint", format!("{} positions", self.len()), &rule)
                    .during(Operation::Checkpoint)
                    .on_queue(queue))
            }
        }
    }

    /// All positions, in the order of topic, broker and queue id.
    pub fn iter(&self) -> impl Iterator<Item = (&MessageQueue, Offset)> {
        self.0.iter().map(|(queue, next)| (queue, *next))
    }

    /// How many queues have a position.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no queue has a position.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(MessageQueue, Offset)> for Checkpoint {
    fn from_iter<I: IntoIterator<Item = (MessageQueue, Offset)>>(positions: I) -> Self {
        Self(positions.into_iter().collect())
    }
}

impl Extend<(MessageQueue, Offset)> for Checkpoint {
    fn extend<I: IntoIterator<Item = (MessageQueue, Offset)>>(&mut self, positions: I) {
        self.0.extend(positions);
    }
}

/// Where a pull begins on a queue. There is no hidden default: the builder asks for it.
///
/// A queue that begins where neither a checkpoint nor the broker said is committed there at once: so `Earliest`, `Latest` and
/// `Timestamp` set the group to that place, as a reset does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartFrom {
    /// At the offset the group has committed; where there is none, as the inner says. An inner `Committed` means `Latest`.
    ///
    /// The place that the inner says is committed at once, before anything is completed: whatever is stored from now on is for
    /// the group, so whoever reads the queue next begins there too, whatever its own inner is, and skips nothing that nobody
    /// has completed. In [`CommitMode::Manual`](crate::CommitMode::Manual) nothing is committed that the program does not
    /// commit; so do it once when a queue begins, or name the place, where a queue may go to another member.
    Committed(Box<Self>),
    /// At the first message that is still there.
    Earliest,
    /// At the first message that is stored after the start.
    Latest,
    /// At the first message that was stored at this time or later.
    Timestamp(SystemTime),
    /// At these offsets; a queue that is not named is an error.
    Offsets(BTreeMap<MessageQueue, Offset>),
    /// At these positions; a queue that the checkpoint does not know begins where it would have begun as `Committed(Latest)`.
    Checkpoint(Checkpoint),
}

impl StartFrom {
    /// At the committed offset, and where there is none at the first message.
    #[must_use]
    pub fn committed_or_earliest() -> Self {
        Self::Committed(Box::new(Self::Earliest))
    }

    /// At the committed offset, and where there is none at what is stored from now on.
    #[must_use]
    pub fn committed_or_latest() -> Self {
        Self::Committed(Box::new(Self::Latest))
    }
}

/// Where a bounded pull ends.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopAt {
    /// At the end that each queue has when the pull begins.
    Now,
    /// Before the first message that was stored at this time or later.
    Timestamp(SystemTime),
    /// Before these offsets; queues that are not named end where they begin.
    Offsets(BTreeMap<MessageQueue, Offset>),
}

/// What a pull does when the broker no longer, or not yet, has the offset asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnOffsetGap {
    /// The stream ends with an error that names the queue, the offset and what there is.
    #[default]
    Fail,
    /// Goes on at the first message that is there, and an event says what was skipped.
    Earliest,
    /// Goes on at the end, and an event says what was skipped.
    Latest,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions<const N: usize>(all: [(&str, u32, u64); N]) -> Checkpoint {
        let all = all.into_iter();
        all.map(|(topic, id, next)| (MessageQueue::new(topic, "b", id), Offset::new(next))).collect()
    }

    #[test]
    fn a_checkpoint_is_set_extended_and_forgotten_queue_by_queue() {
        let queue = |id| MessageQueue::new("t", "b", id);
        let mut checkpoint = Checkpoint::new();
        assert_eq!((checkpoint.len(), checkpoint.is_empty(), checkpoint.get(&queue(1))), (0, true, None));
        assert_eq!(checkpoint.set(queue(1), Offset::new(5)), None);
        assert_eq!(checkpoint.set(queue(1), Offset::new(7)), Some(Offset::new(5)), "the one it had");
        checkpoint.extend([(queue(0), Offset::new(3)), (queue(2), Offset::new(4))]);
        assert_eq!((checkpoint.len(), checkpoint.is_empty()), (3, false));
        let all: Vec<_> = checkpoint.iter().map(|(queue, next)| (queue.id(), next.get())).collect();
        assert_eq!(all, [(0, 3), (1, 7), (2, 4)]);
        assert_eq!((checkpoint.remove(&queue(1)), checkpoint.remove(&queue(1))), (Some(Offset::new(7)), None));
        assert_eq!(checkpoint, positions([("t", 0, 3), ("t", 2, 4)]));
    }

    #[test]
    fn a_start_at_the_committed_offset_says_where_it_is_without_one() {
        assert_eq!(StartFrom::committed_or_earliest(), StartFrom::Committed(StartFrom::Earliest.into()));
        assert_eq!(StartFrom::committed_or_latest(), StartFrom::Committed(StartFrom::Latest.into()));
    }

    #[test]
    fn merging_keeps_the_larger_position_of_each_queue() {
        let (one, two) = (positions([("t", 0, 5), ("t", 1, 9)]), positions([("t", 1, 3), ("t", 2, 1)]));
        let merged = positions([("t", 0, 5), ("t", 1, 9), ("t", 2, 1)]);
        assert_eq!(one.clone().merge(two.clone()), merged);
        assert_eq!(two.merge(one), merged, "whichever comes first");
    }

    #[test]
    fn a_checkpoint_of_another_topic_is_refused_with_its_name() {
        let checkpoint = positions([("orders", 0, 5), ("payments", 1, 9)]);
        checkpoint.check(["payments", "orders"]).expect("both are read");
        let error = checkpoint.check(["orders", "refunds"]).expect_err("payments is not read");
        assert_eq!((error.kind(), error.topic()), (crate::error::ErrorKind::InvalidArgument, Some("payments")));
        assert!(error.to_string().contains("payments@b:1, and this consumer reads orders, refunds"), "{error}");
    }
}
