//! What is where, for tests.

use super::Engine;
use super::content::{Millis, Record};

/// A stored message and its place.
#[derive(Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) broker: &'a str,
    pub(crate) queue: u32,
    pub(crate) offset: u64,
    pub(crate) record: &'a Record,
}

impl Engine {
    /// All that a topic still holds, consumed or not.
    pub(crate) fn messages(&self, topic: &str) -> Vec<Placed<'_>> {
        let Some(topic) = self.topics.get(topic) else { return Vec::new() };
        let mut messages = Vec::new();
        for (broker, logs) in topic.logs.iter().enumerate() {
            for (queue, log) in logs.iter().enumerate() {
                let place = |(offset, record)| {
                    let (broker, queue) = (self.broker_name(broker), queue as u32);
                    Placed { broker, queue, offset, record }
                };
                messages.extend(log.iter().map(place));
            }
        }
        messages
    }

    /// Messages of the topic that members of the group hold.
    pub(crate) fn in_flight(&self, group: &str, topic: &str, now: Millis) -> usize {
        let leases = self.leases.iter().filter(|lease| *lease.group == *group && *lease.topic == *topic).count();
        let progress = self.groups.get(group).and_then(|group| group.topics.get(topic));
        let queues = progress.into_iter().flatten().flat_map(|progress| &progress.fifo);
        leases + queues.map(|fifo| fifo.in_flight(now)).sum::<usize>()
    }

    /// Messages of the topic that the group can still receive, redeliveries included; not those that are held.
    pub(crate) fn waiting(&self, group: &str, topic: &str, now: Millis) -> u64 {
        let Some(found) = self.topics.get(topic) else { return 0 };
        let fifo_at = self.group_config(group).fifo.then_some(now);
        match self.groups.get(group).and_then(|group| group.topics.get(topic)) {
            Some(progress) => {
                let brokers = progress.iter().zip(&found.logs);
                brokers.map(|(progress, logs)| progress.waiting(logs, found.old, fifo_at)).sum()
            }
            None => {
                let unread = |log| super::log::QueueLog::next(log) - super::group::first_offset(log, found.old);
                found.logs.iter().flatten().map(unread).sum()
            }
        }
    }

    /// The names of all topics.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.keys().map(|name| &**name)
    }
}
