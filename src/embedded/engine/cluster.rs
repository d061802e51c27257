//! The brokers of the cluster and the topics on them.

use std::sync::Arc;

use super::content::{Content, Millis, Record};
use super::topic::{Topic, TopicType};
use super::{Appended, Delayed, Engine, Refusal, Wake, WakeReason};

/// One broker: its name, and whether it runs.
#[derive(Debug)]
pub(crate) struct BrokerState {
    name: Arc<str>,
    stopped_at: Option<Millis>,
    /// Until then the proxies' caches have no types for its topics.
    cold_until: Millis,
}

/// How a broker looks from a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Up,
    /// Still in the routes, but nobody answers.
    Unreachable,
    /// Gone from the routes.
    Forgotten,
}

impl BrokerState {
    /// `broker-a`, `broker-b`, …
    pub(crate) fn new(index: usize) -> Self {
        let name = match u8::try_from(index) {
            Ok(small @ 0..26) => format!("broker-{}", char::from(b'a' + small)),
            _ => format!("broker-{index}"),
        };
        Self { name: name.into(), stopped_at: None, cold_until: 0 }
    }

    fn reach(&self, now: Millis, route_expiry: Millis) -> Reach {
        match self.stopped_at {
            None => Reach::Up,
            Some(at) if now < at.saturating_add(route_expiry) => Reach::Unreachable,
            Some(_) => Reach::Forgotten,
        }
    }
}

impl Engine {
    pub(crate) fn broker_name(&self, broker: usize) -> &str {
        self.brokers.get(broker).map_or("", |broker| &broker.name)
    }

    pub(crate) fn broker(&self, name: &str) -> Option<usize> {
        self.brokers.iter().position(|broker| *broker.name == *name)
    }

    fn reach(&self, broker: usize, now: Millis) -> Reach {
        self.brokers[broker].reach(now, self.config.route_expiry)
    }

    fn brokers_that(&self, now: Millis, reach: Reach) -> impl Iterator<Item = usize> {
        (0..self.brokers.len()).filter(move |broker| self.reach(*broker, now) == reach)
    }

    /// The brokers a route names: those that run and those that stopped a moment ago.
    pub(crate) fn routed_brokers(&self, now: Millis) -> Vec<usize> {
        (0..self.brokers.len()).filter(|broker| self.reach(*broker, now) != Reach::Forgotten).collect()
    }

    /// The broker of a handle.
    pub(super) fn reachable(&self, name: &str, now: Millis) -> Result<usize, Refusal> {
        let broker = self.broker(name).ok_or_else(|| Refusal::NoBroker(name.into()))?;
        match self.reach(broker, now) {
            Reach::Up => Ok(broker),
            Reach::Unreachable => Err(Refusal::Unreachable(name.into())),
            Reach::Forgotten => Err(Refusal::NoBroker(name.into())),
        }
    }

    /// Whether a broker can answer.
    pub(crate) fn running(&self, broker: usize, now: Millis) -> Result<(), Refusal> {
        self.reachable(self.broker_name(broker), now).map(drop)
    }

    /// The broker of a request about a topic.
    pub(crate) fn reachable_topic(&self, topic: &str, broker: &str, now: Millis) -> Result<usize, Refusal> {
        let broker = self.reachable(broker, now)?;
        if self.topics.contains_key(topic) { Ok(broker) } else { Err(Refusal::TopicNotFound(topic.into())) }
    }

    /// The broker a receive goes to: the one it names, else any in turn.
    pub(crate) fn receive_broker(&mut self, topic: &str, wanted: &str, now: Millis) -> Result<usize, Refusal> {
        match self.reachable(wanted, now) {
            Ok(broker) => Ok(broker),
            Err(refusal @ Refusal::Unreachable(_)) => Err(refusal),
            Err(_) => self.any_broker(topic, now),
        }
    }

    fn any_broker(&mut self, topic: &str, now: Millis) -> Result<usize, Refusal> {
        let up: Vec<usize> = self.brokers_that(now, Reach::Up).collect();
        self.sequence += 1;
        match up.get(self.sequence as usize % up.len().max(1)) {
            Some(broker) => Ok(*broker),
            None => Err(self.all_away(topic, now)),
        }
    }

    fn all_away(&self, topic: &str, now: Millis) -> Refusal {
        match self.brokers_that(now, Reach::Unreachable).next() {
            Some(broker) => Refusal::Unreachable(self.broker_name(broker).into()),
            None => Refusal::TopicNotFound(topic.into()),
        }
    }

    /// Stops a broker: nobody can reach it, and what waits for it is told.
    pub(crate) fn stop_broker(&mut self, broker: usize, now: Millis) {
        let Some(state) = self.brokers.get_mut(broker).filter(|state| state.stopped_at.is_none()) else { return };
        state.stopped_at = Some(now);
        for topic in self.topics.keys() {
            let topic = Arc::clone(topic);
            self.wakes.push(Wake { topic, broker, queue: None, group: None, reason: WakeReason::BrokerStopped });
        }
    }

    pub(crate) fn start_broker(&mut self, broker: usize, now: Millis) {
        let Some(state) = self.brokers.get_mut(broker).filter(|state| state.stopped_at.is_some()) else { return };
        state.stopped_at = None;
        state.cold_until = now.saturating_add(self.config.type_cache_delay);
    }

    /// Creates a topic, or changes the type of one that exists. A topic never loses a queue.
    pub(crate) fn create_topic(&mut self, name: &str, queues: u32, kind: TopicType) {
        if let Some(topic) = self.topics.get_mut(name) {
            topic.kind = kind;
            return;
        }
        let name: Arc<str> = name.into();
        let topic = Topic::new(Arc::clone(&name), kind, queues, self.brokers.len(), self.config.queue_bytes);
        self.topics.insert(name, topic);
    }

    /// The topic goes, and with it its messages and what groups have done with it. A topic of that name begins anew.
    pub(crate) fn delete_topic(&mut self, name: &str) {
        self.topics.remove(name);
        self.groups.values_mut().for_each(|group| drop(group.topics.remove(name)));
        self.offsets.forget_topic(name);
        self.leases.forget_topic(name);
        self.delayed.retain(|_, delayed| *delayed.topic != *name);
        self.ordered.retain(|_, queue| *queue.topic != *name);
        self.ordered_timers.retain(|(_, number)| self.ordered.contains_key(number));
    }

    /// Gives a topic more queues on each broker. `false`: there is no such topic.
    pub(crate) fn grow_topic(&mut self, name: &str, queues: u32) -> bool {
        let Some(topic) = self.topics.get_mut(name) else { return false };
        topic.grow(queues, self.config.queue_bytes);
        let progress = self.groups.values_mut().filter_map(|group| group.topics.get_mut(name));
        progress.flatten().for_each(|progress| progress.grow(queues as usize));
        true
    }

    /// From now on new groups start at the last message of each queue.
    pub(crate) fn mark_old(&mut self, name: &str) -> bool {
        self.topics.get_mut(name).map(|topic| topic.old = true).is_some()
    }

    /// The topic's type and its queues per broker.
    pub(crate) fn topic(&self, name: &str) -> Option<(TopicType, u32)> {
        self.topics.get(name).map(|topic| (topic.kind, topic.queues()))
    }

    /// The type the proxies' caches know.
    pub(crate) fn cached_type(&self, name: &str, now: Millis) -> Option<TopicType> {
        let cold = self.brokers.iter().any(|broker| broker.cold_until > now);
        self.topics.get(name).filter(|_| !cold).map(|topic| topic.kind)
    }

    /// Takes a message for a queue its producer chose; without one, for any of the broker's.
    pub(crate) fn append_at(
        &mut self,
        topic: &str,
        (broker, queue): (usize, Option<u32>),
        content: Content,
        now: Millis,
    ) -> Result<Appended, Refusal> {
        let name = self.broker_name(broker).to_owned();
        self.reachable(&name, now)?;
        let found = self.topics.get_mut(topic).ok_or_else(|| Refusal::TopicNotFound(topic.into()))?;
        let queue = queue.unwrap_or_else(|| found.next_queue(&[broker]).1);
        if queue >= found.queues() {
            return Err(Refusal::NoQueue { queue: queue as i32, queues: found.queues() });
        }
        let name = Arc::clone(&found.name);
        Ok(self.take_in(name, broker, queue, content, now))
    }

    /// Takes a message: queue by message group, else in turn.
    pub(crate) fn append(&mut self, topic: &str, content: Content, now: Millis) -> Result<Appended, Refusal> {
        let up: Vec<usize> = self.brokers_that(now, Reach::Up).collect();
        if up.is_empty() {
            return Err(self.all_away(topic, now));
        }
        let found = self.topics.get_mut(topic).ok_or_else(|| Refusal::TopicNotFound(topic.into()))?;
        let (broker, queue) = match &content.message_group {
            Some(group) => found.queue_of(group, &up),
            None => found.next_queue(&up),
        };
        let name = Arc::clone(&found.name);
        Ok(self.take_in(name, broker, queue, content, now))
    }

    /// Stores a message, or keeps it until its time.
    fn take_in(&mut self, name: Arc<str>, broker: usize, queue: u32, content: Content, now: Millis) -> Appended {
        self.counters.sent += 1;
        let content = Arc::new(content);
        if let Some(at) = content.delivery_at.filter(|at| *at > now) {
            self.sequence += 1;
            self.delayed.insert((at, self.sequence), Delayed { topic: name, broker, queue, content });
            return Appended { broker, queue, offset: 0 };
        }
        let offset = self.store(&name, broker, queue, content);
        Appended { broker, queue, offset }
    }

    pub(super) fn store(&mut self, topic: &Arc<str>, broker: usize, queue: u32, content: Arc<Content>) -> u64 {
        self.store_record(topic, broker, queue, Record::fresh(content))
    }

    pub(super) fn store_record(&mut self, topic: &Arc<str>, broker: usize, queue: u32, record: Record) -> u64 {
        let Some(found) = self.topics.get_mut(topic) else { return 0 };
        let record = Record { log_offset: self.log_end, ..record };
        self.log_end += record.content.wire_size() as u64;
        let offset = found.logs[broker][queue as usize].append(record);
        let (topic, queue) = (Arc::clone(topic), Some(queue));
        self.wakes.push(Wake { topic, broker, queue, group: None, reason: WakeReason::Message });
        offset
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
