//! The cluster as plain data: no clock, no I/O. `now` is a parameter, and what should happen outside is left as [`Wake`]s
//! and [`Engine::next_deadline`].
//!
//! A shell calls [`Engine::advance`] before each request and at each deadline.

mod cluster;
mod content;
mod fifo;
mod filter;
mod group;
mod handle;
mod inspect;
mod invisible;
pub(crate) mod locks;
mod log;
pub(crate) mod members;
mod offsets;
mod pop;
mod pull;
mod renew;
mod settle;
mod sql92;
mod topic;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cluster::BrokerState;
pub(crate) use content::{Content, ContentKind, Millis, Record};
pub(crate) use filter::FilterProgram;
use group::Progress;
pub(crate) use inspect::Placed;
use invisible::Leases;
use offsets::Offsets;
pub(crate) use offsets::{QueryOffset, QueueProgress, TimeBound};
pub(crate) use pop::{Delivery, PopRequest, Popped};
pub(crate) use pull::{Pull, PullRequest, PullStatus};
pub(crate) use settle::{Change, Claim};
use topic::Topic;
pub use topic::TopicType;

/// What the engine is told once.
#[derive(Debug, Clone)]
pub(crate) struct EngineConfig {
    pub(crate) brokers: usize,
    /// How many bytes one queue keeps.
    pub(crate) queue_bytes: usize,
    /// How long after it stopped a broker is still in the routes.
    pub(crate) route_expiry: Millis,
    /// How long after its start a broker's topics have no known type.
    pub(crate) type_cache_delay: Millis,
}

/// The options of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupConfig {
    pub(crate) fifo: bool,
    /// Deliveries before a message goes to the dead-letter queue.
    pub(crate) max_attempts: u32,
}

impl Default for GroupConfig {
    /// Apache's: 16 retries.
    fn default() -> Self {
        Self { fifo: false, max_attempts: 17 }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    TopicNotFound(String),
    /// The broker stopped a moment ago and is still in the routes.
    Unreachable(String),
    /// No broker of that name, or it stopped longer ago.
    NoBroker(String),
    Expired,
    /// This is no receipt handle.
    Unreadable(String),
    /// The handle names a place that this topic does not have.
    Abnormal,
    /// No queue of that number: the topic has so many on each broker.
    NoQueue {
        queue: i32,
        queues: u32,
    },
    /// Nobody has used this consumer group yet.
    GroupNotFound(String),
}

/// Somebody may be waiting for this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wake {
    pub(crate) topic: Arc<str>,
    pub(crate) broker: usize,
    /// Where a new message lies; `None` for a redelivery, which nobody pulls.
    pub(crate) queue: Option<u32>,
    /// `None`: every group.
    pub(crate) group: Option<Arc<str>>,
    pub(crate) reason: WakeReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WakeReason {
    /// One message more: one waiter per group.
    Message,
    /// The broker went away: all waiters.
    BrokerStopped,
}

/// Where a message was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) broker: usize,
    pub(crate) queue: u32,
    pub(crate) offset: u64,
}

#[derive(Debug)]
struct Group {
    name: Arc<str>,
    config: GroupConfig,
    /// By topic, then by broker.
    topics: HashMap<Arc<str>, Vec<Progress>>,
}

/// A delayed message.
#[derive(Debug)]
struct Delayed {
    topic: Arc<str>,
    broker: usize,
    queue: u32,
    content: Arc<Content>,
}

/// A queue of an ordered group, named by its timer.
#[derive(Debug, Clone)]
struct OrderedQueue {
    group: Arc<str>,
    topic: Arc<str>,
    broker: usize,
    queue: usize,
}

/// What happened so far, in messages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) sent: u64,
    /// Handed out to pulls.
    pub(crate) pulled: u64,
    pub(crate) delivered: u64,
    pub(crate) acked: u64,
    pub(crate) redelivered: u64,
    pub(crate) dead_lettered: u64,
}

#[derive(Debug)]
pub(crate) struct Engine {
    config: EngineConfig,
    brokers: Vec<BrokerState>,
    topics: HashMap<Arc<str>, Topic>,
    groups: HashMap<Arc<str>, Group>,
    leases: Leases,
    offsets: Offsets,
    delayed: BTreeMap<(Millis, u64), Delayed>,
    /// By the number of their timer.
    ordered: BTreeMap<usize, OrderedQueue>,
    ordered_timers: BTreeSet<(Millis, usize)>,
    wakes: Vec<Wake>,
    sequence: u64,
    /// The end of the commit log: one for all brokers.
    log_end: u64,
    pub(crate) counters: Counters,
}

impl Engine {
    pub(crate) fn new(config: EngineConfig) -> Self {
        let brokers = (0..config.brokers).map(BrokerState::new).collect();
        Self {
            config,
            brokers,
            topics: HashMap::new(),
            groups: HashMap::new(),
            leases: Leases::default(),
            offsets: Offsets::default(),
            delayed: BTreeMap::new(),
            ordered: BTreeMap::new(),
            ordered_timers: BTreeSet::new(),
            wakes: Vec::new(),
            sequence: 0,
            log_end: 0,
            counters: Counters::default(),
        }
    }

    /// Replaces the options of a group, or creates it.
    pub(crate) fn create_group(&mut self, name: &str, config: GroupConfig) {
        self.group(name).config = config;
    }

    pub(crate) fn group_config(&self, name: &str) -> GroupConfig {
        self.groups.get(name).map(|group| group.config.clone()).unwrap_or_default()
    }

    /// Groups come into being when they are first used.
    fn group(&mut self, name: &str) -> &mut Group {
        if !self.groups.contains_key(name) {
            let name: Arc<str> = name.into();
            let group = Group { name: Arc::clone(&name), config: GroupConfig::default(), topics: HashMap::new() };
            self.groups.insert(name, group);
        }
        self.groups.get_mut(name).expect("it was inserted above")
    }

    pub(crate) fn has_group(&self, name: &str) -> bool {
        self.groups.contains_key(name)
    }

    /// Brings a group into being with the default options, if it is new.
    pub(crate) fn ensure_group(&mut self, name: &str) {
        self.group(name);
    }

    /// Does what is due: ends leases, delivers delayed messages, unblocks ordered queues.
    pub(crate) fn advance(&mut self, now: Millis) {
        while let Some(lease) = self.leases.expire(now) {
            self.bring_back(lease);
        }
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((at, _), Delayed { topic, broker, queue, content }) = entry.remove_entry();
            self.store_record(&topic, broker, queue, Record { stored_at: at, ..Record::fresh(content) });
        }
        while let Some(&(_, timer)) = self.ordered_timers.first().filter(|(at, _)| *at <= now) {
            self.ordered_timers.pop_first();
            self.unblock(timer, now);
        }
    }

    /// When [`advance`](Self::advance) has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        let delayed = self.delayed.keys().next().map(|(at, _)| *at);
        let ordered = self.ordered_timers.first().map(|(at, _)| *at);
        [self.leases.next_end(), delayed, ordered].into_iter().flatten().min()
    }

    pub(crate) fn take_wakes(&mut self) -> Vec<Wake> {
        std::mem::take(&mut self.wakes)
    }

    fn wake(&mut self, topic: &Arc<str>, broker: usize, group: Option<&Arc<str>>) {
        let (topic, group) = (Arc::clone(topic), group.map(Arc::clone));
        self.wakes.push(Wake { topic, broker, queue: None, group, reason: WakeReason::Message });
    }

    fn bring_back(&mut self, lease: invisible::Lease) {
        let Some(progress) = progress(&mut self.groups, &lease.group, &lease.topic, lease.broker) else { return };
        progress.retry.append(lease.record.again(!lease.suspended));
        self.counters.redelivered += 1;
        self.wake(&lease.topic, lease.broker, Some(&lease.group));
    }

    fn unblock(&mut self, timer: usize, now: Millis) {
        let Some(OrderedQueue { group, topic, broker, queue }) = self.ordered.get(&timer).cloned() else { return };
        let Some(progress) = progress(&mut self.groups, &group, &topic, broker) else { return };
        let fifo = &mut progress.fifo[queue];
        fifo.timer = None;
        if fifo.renew(now) {
            self.set_ordered_timer(&group, &topic, broker, queue);
        } else {
            self.wake(&topic, broker, Some(&group));
        }
    }

    /// Keeps the timer of an ordered queue at the end of its block.
    fn set_ordered_timer(&mut self, group: &Arc<str>, topic: &Arc<str>, broker: usize, queue: usize) {
        let Some(progress) = progress(&mut self.groups, group, topic, broker) else { return };
        let fifo = &mut progress.fifo[queue];
        let number = fifo.number(|| {
            let (group, topic) = (Arc::clone(group), Arc::clone(topic));
            let number = self.ordered.last_key_value().map_or(0, |(last, _)| last + 1);
            self.ordered.insert(number, OrderedQueue { group, topic, broker, queue });
            number
        });
        if let Some(at) = fifo.timer.take() {
            self.ordered_timers.remove(&(at, number));
        }
        if let Some(at) = fifo.blocked_until() {
            fifo.timer = Some(at);
            self.ordered_timers.insert((at, number));
        }
    }
}

/// A free function, so that the borrow is of the groups alone.
fn progress<'a>(
    groups: &'a mut HashMap<Arc<str>, Group>,
    group: &str,
    topic: &str,
    broker: usize,
) -> Option<&'a mut Progress> {
    groups.get_mut(group)?.topics.get_mut(topic)?.get_mut(broker)
}

#[cfg(test)]
pub(crate) mod tests;
