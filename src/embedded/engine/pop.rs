//! Handing messages out.

use std::sync::Arc;

use super::content::{Millis, Record};
use super::fifo::OrderedPop;
use super::filter::FilterProgram;
use super::group::{Progress, Taken};
use super::handle::{Handle, Source};
use super::invisible::Lease;
use super::renew::Renewer;
use super::{Engine, Refusal};

/// What a receive asks one broker for.
#[derive(Debug)]
pub(crate) struct PopRequest<'a> {
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) broker: usize,
    pub(crate) filter: &'a FilterProgram,
    pub(crate) max: usize,
    pub(crate) invisible: Millis,
    pub(crate) attempt_id: Option<&'a str>,
    /// The proxy that renews the leases by itself, and its client.
    pub(crate) renewed_by: Option<(usize, Arc<str>)>,
}

#[derive(Debug)]
pub(crate) enum Popped {
    Messages(Vec<Delivery>),
    /// There were messages, but all went to the dead-letter queue: answered at once.
    NoMatch,
    /// Nothing: the caller may wait.
    Empty,
}

/// A message and the handle to settle it by.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) record: Record,
    pub(crate) queue: u32,
    pub(crate) offset: u64,
    pub(crate) handle: String,
}

impl Engine {
    pub(crate) fn pop(&mut self, request: &PopRequest<'_>, now: Millis) -> Result<Popped, Refusal> {
        let name = self.broker_name(request.broker).to_owned();
        self.reachable(&name, now)?;
        let (group, topic) = self.prepare(request.group, request.topic)?;
        self.apply_resets(request.group, request.topic, request.broker);
        let config = self.group_config(request.group);
        let taken = if config.fifo { self.take_ordered(request, now) } else { self.take(request) };
        if taken.is_empty() {
            return Ok(Popped::Empty);
        }
        let (dead, alive): (Vec<_>, Vec<_>) =
            taken.into_iter().partition(|taken| taken.record.reconsumed >= config.max_attempts);
        for taken in dead {
            self.bury(request, &taken, config.fifo);
        }
        if alive.is_empty() {
            return Ok(Popped::NoMatch);
        }
        self.counters.delivered += alive.len() as u64;
        let source = Origin { group: &group, topic: &topic, broker: &name, fifo: config.fifo };
        let deliver = |taken| self.deliver(request, &source, taken, now);
        Ok(Popped::Messages(alive.into_iter().map(deliver).collect()))
    }

    /// Makes sure that the group has a place in the topic. Returns the shared names of both.
    fn prepare(&mut self, group: &str, topic: &str) -> Result<(Arc<str>, Arc<str>), Refusal> {
        let Some(found) = self.topics.get(topic) else { return Err(Refusal::TopicNotFound(topic.into())) };
        let (name, queues) = (Arc::clone(&found.name), found.queues() as usize);
        let (brokers, bytes) = (self.brokers.len(), self.config.queue_bytes);
        let fresh = || (0..brokers).map(|_| Progress::new(queues, bytes)).collect();
        let group = self.group(group);
        group.topics.entry(Arc::clone(&name)).or_insert_with(fresh);
        Ok((Arc::clone(&group.name), name))
    }

    fn take(&mut self, request: &PopRequest<'_>) -> Vec<Taken> {
        let Some(topic) = self.topics.get(request.topic) else { return Vec::new() };
        let progress = super::progress(&mut self.groups, request.group, request.topic, request.broker);
        let logs = &topic.logs[request.broker];
        progress.map_or_else(Vec::new, |progress| progress.take(logs, topic.old, request.filter, request.max))
    }

    /// Several queues may answer one pop; each is blocked by itself.
    fn take_ordered(&mut self, request: &PopRequest<'_>, now: Millis) -> Vec<Taken> {
        let mut taken = Vec::new();
        let queues = self.topics.get(request.topic).map_or(0, |topic| topic.queues() as usize);
        self.sequence += 1;
        for step in 0..queues {
            let queue = (self.sequence as usize + step) % queues;
            let found = self.take_from_ordered(request, queue, request.max - taken.len(), now);
            let here = |(offset, record)| Taken { source: Source::Topic, queue: queue as u32, offset, record };
            taken.extend(found.into_iter().map(here));
        }
        taken
    }

    fn take_from_ordered(
        &mut self,
        request: &PopRequest<'_>,
        queue: usize,
        max: usize,
        now: Millis,
    ) -> Vec<(u64, Record)> {
        let Some(topic) = self.topics.get(request.topic) else { return Vec::new() };
        let name = Arc::clone(&topic.name);
        let Some(progress) = super::progress(&mut self.groups, request.group, request.topic, request.broker) else {
            return Vec::new();
        };
        let pop = OrderedPop {
            now,
            invisible: request.invisible,
            max,
            attempt_id: request.attempt_id,
            filter: request.filter,
            old: topic.old,
            renewer: renewer(request, now),
        };
        let taken = progress.fifo[queue].pop(&topic.logs[request.broker][queue], &pop);
        if !taken.is_empty() {
            let group = Arc::clone(&self.group(request.group).name);
            self.set_ordered_timer(&group, &name, request.broker, queue);
        }
        taken
    }

    fn bury(&mut self, request: &PopRequest<'_>, taken: &Taken, fifo: bool) {
        self.store_dead(request.group, request.broker, &taken.record);
        if fifo {
            let Some(progress) = super::progress(&mut self.groups, request.group, request.topic, request.broker) else {
                return;
            };
            let popped_at = progress.fifo[taken.queue as usize].popped_at();
            self.ack_ordered(request.group, request.topic, request.broker, taken.queue, taken.offset, popped_at);
        }
    }

    fn deliver(&mut self, request: &PopRequest<'_>, origin: &Origin<'_>, taken: Taken, now: Millis) -> Delivery {
        let Taken { source, queue, offset, ref record } = taken;
        let (popped_at, lease) = if origin.fifo {
            let progress = super::progress(&mut self.groups, origin.group, origin.topic, request.broker);
            (progress.map_or(now, |progress| progress.fifo[queue as usize].popped_at()), 0)
        } else {
            (now, self.lease(request, origin, &taken, now))
        };
        let (invisible, ordered, broker) = (request.invisible, origin.fifo, origin.broker);
        let handle = Handle { popped_at, invisible, ordered, source, broker, queue, offset, lease }.to_string();
        Delivery { record: record.clone(), queue, offset, handle }
    }

    fn lease(&mut self, request: &PopRequest<'_>, origin: &Origin<'_>, taken: &Taken, now: Millis) -> u64 {
        self.leases.grant(Lease {
            group: Arc::clone(origin.group),
            topic: Arc::clone(origin.topic),
            broker: request.broker,
            record: taken.record.clone(),
            expires: now + request.invisible,
            suspended: false,
            renewer: renewer(request, now),
        })
    }
}

/// Where the messages of one pop come from.
struct Origin<'a> {
    group: &'a Arc<str>,
    topic: &'a Arc<str>,
    broker: &'a str,
    fifo: bool,
}

fn renewer(request: &PopRequest<'_>, now: Millis) -> Option<Renewer> {
    request.renewed_by.as_ref().map(|(proxy, client)| Renewer::new(*proxy, Arc::clone(client), now))
}

#[cfg(test)]
#[path = "pop_tests.rs"]
mod tests;
