//! What becomes of messages that were handed out.

use std::sync::Arc;

use super::content::{Millis, Record};
use super::fifo::FifoQueue;
use super::handle::{Handle, Source};
use super::invisible::Lease;
use super::renew::Renewer;
use super::topic::TopicType;
use super::{Engine, Refusal};

/// Who settles what: the words of an ack, a change or a dead letter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) handle: &'a str,
    /// The proxy that was asked: it knows the leases it renews.
    pub(crate) proxy: usize,
}

/// A new invisible duration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub(crate) invisible: Millis,
    /// The end of this lease costs no delivery attempt.
    pub(crate) suspend: bool,
}

/// A claim whose handle is good.
struct Valid<'a> {
    handle: Handle<'a>,
    broker: usize,
}

impl Engine {
    /// Idempotent. An ack that names another group answers OK and does nothing; one that names another topic is refused.
    pub(crate) fn ack(&mut self, claim: &Claim<'_>, now: Millis) -> Result<(), Refusal> {
        let Valid { handle, broker } = self.validate(claim, now)?;
        if handle.ordered {
            self.ack_ordered(claim.group, claim.topic, broker, handle.queue, handle.offset, handle.popped_at);
            return Ok(());
        }
        if self.leases.get(handle.lease).is_some_and(|lease| *lease.group == *claim.group) {
            self.leases.settle(handle.lease);
            self.counters.acked += 1;
        }
        Ok(())
    }

    pub(super) fn ack_ordered(
        &mut self,
        group: &str,
        topic: &str,
        broker: usize,
        queue: u32,
        offset: u64,
        popped_at: Millis,
    ) {
        let Some(progress) = super::progress(&mut self.groups, group, topic, broker) else { return };
        let Some(fifo) = progress.fifo.get_mut(queue as usize) else { return };
        if fifo.ack(offset, popped_at) {
            self.counters.acked += 1;
            self.reorder(group, topic, broker, queue as usize);
        }
    }

    /// After a change to an ordered queue: moves its timer, wakes who waits when it is free.
    fn reorder(&mut self, group: &str, topic: &str, broker: usize, queue: usize) {
        let Some(topic) = self.topics.get(topic).map(|topic| Arc::clone(&topic.name)) else { return };
        let group = Arc::clone(&self.group(group).name);
        self.set_ordered_timer(&group, &topic, broker, queue);
        let progress = super::progress(&mut self.groups, &group, &topic, broker);
        if progress.is_some_and(|progress| progress.fifo[queue].blocked_until().is_none()) {
            self.wake(&topic, broker, Some(&group));
        }
    }

    /// Gives a new handle. A handle that was replaced before makes a second copy of the message, as Apache does.
    pub(crate) fn change(&mut self, claim: &Claim<'_>, change: Change, now: Millis) -> Result<String, Refusal> {
        let Valid { handle, broker } = self.validate(claim, now)?;
        if handle.ordered {
            return Ok(self.change_ordered(claim, &handle, broker, change, now));
        }
        let lease = self.leases.settle(handle.lease);
        let record = match &lease {
            Some(lease) => lease.record.clone(),
            None => self.stored(claim, &handle, broker).ok_or(Refusal::Abnormal)?,
        };
        let group = Arc::clone(&self.group(claim.group).name);
        let topic = self.topics.get(claim.topic).map_or_else(|| claim.topic.into(), |topic| Arc::clone(&topic.name));
        let lease = self.leases.grant(Lease {
            group,
            topic,
            broker,
            record,
            expires: now + change.invisible,
            suspended: change.suspend,
            renewer: None,
        });
        Ok(Handle { popped_at: now, invisible: change.invisible, lease, ..handle }.to_string())
    }

    fn change_ordered(
        &mut self,
        claim: &Claim<'_>,
        handle: &Handle<'_>,
        broker: usize,
        change: Change,
        now: Millis,
    ) -> String {
        let visible_at = now + change.invisible;
        let progress = super::progress(&mut self.groups, claim.group, claim.topic, broker);
        let fifo = progress.and_then(|progress| progress.fifo.get_mut(handle.queue as usize));
        let changed = fifo.is_some_and(|fifo| fifo.change(handle.offset, handle.popped_at, visible_at, change.suspend));
        if !changed {
            // Live on 5.5.0: the answer is OK, and the handle in it has expired.
            return Handle { invisible: 0, ..handle.clone() }.to_string();
        }
        self.reorder(claim.group, claim.topic, broker, handle.queue as usize);
        let invisible = visible_at.saturating_sub(handle.popped_at);
        Handle { invisible, ..handle.clone() }.to_string()
    }

    /// Not idempotent: each call with a good handle puts one more copy into the dead-letter queue, as Apache does.
    pub(crate) fn dead_letter(&mut self, claim: &Claim<'_>, now: Millis) -> Result<(), Refusal> {
        let Valid { handle, broker } = self.validate(claim, now)?;
        let record = match self.leases.get(handle.lease) {
            Some(lease) => lease.record.clone(),
            None => self.stored(claim, &handle, broker).ok_or(Refusal::Abnormal)?,
        };
        self.store_dead(claim.group, broker, &record);
        self.ack(claim, now)
    }

    /// `%DLQ%<group>` has one queue and comes into being with its first message.
    pub(super) fn store_dead(&mut self, group: &str, broker: usize, record: &Record) {
        let name = format!("%DLQ%{group}");
        if self.topic(&name).is_none() {
            self.create_topic(&name, 1, TopicType::Normal);
        }
        self.counters.dead_lettered += 1;
        self.store_record(&name.into(), broker, 0, record.dead());
    }

    fn validate<'a>(&self, claim: &Claim<'a>, now: Millis) -> Result<Valid<'a>, Refusal> {
        let handle = Handle::parse(claim.handle).ok_or_else(|| Refusal::Unreadable(claim.handle.into()))?;
        if (self.was_ended(claim, &handle) || handle.expires_at() <= now) && !self.renewed_here(claim, &handle) {
            return Err(Refusal::Expired);
        }
        let broker = self.reachable(handle.broker, now)?;
        let elsewhere = self.leases.get(handle.lease).is_some_and(|lease| *lease.topic != *claim.topic);
        if elsewhere || !self.place_exists(claim, &handle, broker) {
            return Err(Refusal::Abnormal);
        }
        Ok(Valid { handle, broker })
    }

    fn was_ended(&self, claim: &Claim<'_>, handle: &Handle<'_>) -> bool {
        if handle.ordered {
            return self.ordered_queue(claim, handle).is_some_and(|fifo| fifo.was_ended(handle.popped_at));
        }
        self.leases.was_ended(handle.lease)
    }

    /// The proxy that renews a lease maps the first handle to the newest one; another proxy sees it expired.
    fn renewed_here(&self, claim: &Claim<'_>, handle: &Handle<'_>) -> bool {
        let renewer = if handle.ordered {
            self.ordered_queue(claim, handle).and_then(|fifo| fifo.renewed_by(handle.offset, handle.popped_at))
        } else {
            self.leases.get(handle.lease).and_then(|lease| lease.renewer.as_ref())
        };
        renewer.is_some_and(|renewer| renewer.proxy == claim.proxy)
    }

    fn ordered_queue(&self, claim: &Claim<'_>, handle: &Handle<'_>) -> Option<&FifoQueue> {
        let progress = self.groups.get(claim.group)?.topics.get(claim.topic)?.get(self.broker(handle.broker)?)?;
        progress.fifo.get(handle.queue as usize)
    }

    fn place_exists(&self, claim: &Claim<'_>, handle: &Handle<'_>, broker: usize) -> bool {
        let Some(topic) = self.topics.get(claim.topic) else { return false };
        match handle.source {
            Source::Retry => true,
            Source::Topic => {
                topic.logs[broker].get(handle.queue as usize).is_some_and(|log| handle.offset < log.next())
            }
        }
    }

    /// The copy a handle names, if it is still stored.
    fn stored(&self, claim: &Claim<'_>, handle: &Handle<'_>, broker: usize) -> Option<Record> {
        match handle.source {
            Source::Topic => {
                self.topics.get(claim.topic)?.logs[broker].get(handle.queue as usize)?.get(handle.offset).cloned()
            }
            Source::Retry => {
                self.groups.get(claim.group)?.topics.get(claim.topic)?.get(broker)?.retry.get(handle.offset).cloned()
            }
        }
    }

    /// What a proxy renewed for a client that is gone becomes visible at `at`.
    pub(crate) fn release(&mut self, proxy: usize, client: Option<&str>, at: Millis) {
        let is_its = |renewer: Option<&Renewer>| {
            renewer.is_some_and(|r| r.proxy == proxy && client.is_none_or(|client| *r.client == *client))
        };
        self.leases.cut(at, |lease| is_its(lease.renewer.as_ref()));
        self.cut_ordered(|fifo| fifo.cut(at, is_its));
    }

    /// Ends every lease at `at`. Returns how many there were.
    pub(crate) fn expire_leases(&mut self, at: Millis) -> usize {
        self.leases.end_all(at) + self.cut_ordered(|fifo| fifo.end_all(at))
    }

    fn cut_ordered(&mut self, cut: impl Fn(&mut FifoQueue) -> usize) -> usize {
        let mut count = 0;
        for super::OrderedQueue { group, topic, broker, queue } in self.ordered.values().cloned().collect::<Vec<_>>() {
            let progress = super::progress(&mut self.groups, &group, &topic, broker);
            count += progress.map_or(0, |progress| cut(&mut progress.fifo[queue]));
            self.set_ordered_timer(&group, &topic, broker, queue);
        }
        count
    }
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
