//! Which commits are under way, and whether one more may be.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::model::MessageQueue;

/// Commits under way to one broker. A broker that does not answer holds no more, and none of the others.
pub(super) const PER_BROKER: usize = 8;

/// The commits under way. A broker makes the table of a group's offsets on a topic with the first commit that it gets, and
/// without a lock (`ConsumerOffsetManager.commitOffset`, 5.5.0): of two first ones at once it acknowledges both and forgets
/// one. So the first goes alone.
#[derive(Debug, Default)]
pub(super) struct UnderWay(BTreeMap<Arc<str>, Broker>);

#[derive(Debug, Default)]
struct Broker {
    commits: usize,
    topics: BTreeMap<Arc<str>, Topic>,
}

#[derive(Debug, Default)]
struct Topic {
    commits: usize,
    /// The broker is known to have a table for it.
    has_table: bool,
}

impl UnderWay {
    /// Whether one more may be sent for this queue. While none may, an answer will call.
    pub(super) fn has_room(&self, queue: &MessageQueue) -> bool {
        let Some(broker) = self.0.get(queue.broker()) else { return true };
        let waits_for_first = |topic: &Topic| topic.commits > 0 && !topic.has_table;
        broker.commits < PER_BROKER && !broker.topics.get(queue.topic()).is_some_and(waits_for_first)
    }

    pub(super) fn begin(&mut self, queue: &MessageQueue) {
        let broker = self.broker(queue);
        broker.commits += 1;
        broker.topic(queue).commits += 1;
    }

    pub(super) fn end(&mut self, queue: &MessageQueue, result: &Result<(), Error>) {
        let broker = self.broker(queue);
        broker.commits = broker.commits.saturating_sub(1);
        let topic = broker.topic(queue);
        topic.commits = topic.commits.saturating_sub(1);
        match result.as_ref().map_err(Error::kind) {
            Ok(()) => topic.has_table = true,
            // It may have died, and come back with nothing.
            Err(ErrorKind::Unavailable | ErrorKind::Timeout) => {
                broker.topics.values_mut().for_each(|topic| topic.has_table = false);
            }
            Err(_) => {}
        }
    }

    /// The broker was found to have an offset of this queue.
    pub(super) fn found(&mut self, queue: &MessageQueue) {
        self.broker(queue).topic(queue).has_table = true;
    }

    /// The broker was found to have forgotten all of this queue.
    pub(super) fn lost(&mut self, queue: &MessageQueue) {
        self.broker(queue).topic(queue).has_table = false;
    }

    fn broker(&mut self, queue: &MessageQueue) -> &mut Broker {
        self.0.entry(Arc::clone(queue.shared_broker())).or_default()
    }
}

impl Broker {
    fn topic(&mut self, queue: &MessageQueue) -> &mut Topic {
        self.topics.entry(Arc::clone(queue.shared_topic())).or_default()
    }
}
