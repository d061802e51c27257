//! What to send next. The second part of the table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lease::entry::{Action, Change, Phase, SentChange, Step};
use crate::lease::lanes::{BATCH, LaneId};
use crate::lease::slab::SlotId;
use crate::lease::table::Table;
use crate::lease::terms::Origin;
use crate::model::Held;
use crate::transport::{DeliveryAttempts, InvisibleChange};

/// A released message comes back after this. 1 s is what Apache's proxy itself uses to hand messages back, so every server
/// version takes it; 0 comes back hardly sooner (2.1 s on 5.5.0: the broker looks once a second).
const RELEASE_AFTER: Duration = Duration::from_secs(1);

/// A request to be sent now. The answer goes to the method of the table that is named like it.
#[derive(Debug)]
pub(crate) enum Work {
    /// → [`Table::on_acked`]
    Ack(AckBatch),
    /// → [`Table::on_changed`]
    Change(Single, InvisibleChange),
    /// → [`Table::on_dead_lettered`]
    DeadLetter(Single, DeliveryAttempts),
}

/// One message that a request is about.
#[derive(Debug)]
pub(crate) struct Single {
    pub(super) id: SlotId,
    pub(crate) origin: Arc<Origin>,
    /// Whether only the endpoint that delivered can do it.
    pub(crate) pinned: bool,
    pub(crate) held: Held,
}

/// Messages of one lane to be acknowledged by one RPC.
#[derive(Debug)]
pub(crate) struct AckBatch {
    pub(super) lane: LaneId,
    /// Of the first message. The others may be of other brokers behind the same endpoint.
    pub(crate) origin: Arc<Origin>,
    /// Whether only the endpoint that delivered can settle them.
    pub(crate) pinned: bool,
    pub(super) ids: Vec<SlotId>,
    pub(crate) held: Vec<Held>,
}

impl Table {
    /// The next request to send, until there is none.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Work> {
        self.fire_timers(now);
        let work = self.next_change(now).or_else(|| self.next_acks(now)).or_else(|| self.next_settlement(now));
        self.keeper_awake = work.is_some();
        work
    }

    /// The endpoint of this batch is away: one batch per broker, because each broker has other endpoints.
    pub(crate) fn split(&mut self, batch: AckBatch) -> Vec<AckBatch> {
        let mut parts: Vec<AckBatch> = Vec::new();
        for (id, held) in batch.ids.into_iter().zip(batch.held) {
            let origin = self.leases.get(id).map_or(batch.origin.id, |lease| lease.origin);
            let part = match parts.iter().position(|part| part.origin.id == origin) {
                Some(index) => &mut parts[index],
                None => {
                    let origin = Arc::clone(&self.origins[origin as usize]);
                    let (lane, pinned) = (batch.lane, batch.pinned);
                    parts.push(AckBatch { lane, origin, pinned, ids: Vec::new(), held: Vec::new() });
                    let last = parts.len() - 1;
                    &mut parts[last]
                }
            };
            part.ids.push(id);
            part.held.push(held);
        }
        self.lanes.sent(batch.lane, parts.len().saturating_sub(1));
        parts
    }

    fn next_change(&mut self, now: Instant) -> Option<Work> {
        while self.singles.has_room() {
            let id = self.singles.changes.pop_front()?;
            let Some(lease) = self.leases.get_mut(id) else { continue };
            if lease.change != Change::Queued {
                continue;
            }
            if lease.is_expired(now) {
                self.expire(id);
                continue;
            }
            let (Some((duration, extension)), Some(held)) = (lease.next_change(), lease.held.clone()) else {
                lease.change = Change::Idle;
                continue;
            };
            lease.change = Change::Sent(Box::new(SentChange { at: now, duration, extension }));
            lease.retry_at = None;
            self.singles.sent();
            let origin = Arc::clone(&self.origins[lease.origin as usize]);
            let single = Single { id, origin, pinned: lease.pinned, held };
            return Some(Work::Change(single, InvisibleChange { duration, suspend: false }));
        }
        None
    }

    fn next_acks(&mut self, now: Instant) -> Option<Work> {
        loop {
            let (lane, queue) = self.lanes.next_ready()?;
            let waiting: Vec<SlotId> = queue.drain(..queue.len().min(BATCH)).collect();
            let batch = self.batch(lane, waiting, now);
            self.lanes.sent(lane, usize::from(batch.is_some()));
            if batch.is_some() {
                return batch.map(Work::Ack);
            }
        }
    }

    /// Those of the waiting ones that still want to be sent.
    fn batch(&mut self, lane: LaneId, waiting: Vec<SlotId>, now: Instant) -> Option<AckBatch> {
        let (mut ids, mut held) = (Vec::with_capacity(waiting.len()), Vec::with_capacity(waiting.len()));
        let (mut origin, mut pinned) = (None, false);
        for id in waiting {
            let Some(lease) = self.leases.get_mut(id) else { continue };
            if lease.phase != Phase::Settling(Action::Ack, Step::Queued) {
                continue;
            }
            if lease.is_expired(now) {
                self.expire(id);
                continue;
            }
            let Some(taken) = lease.held.take() else { continue };
            lease.phase = Phase::Settling(Action::Ack, Step::Sent);
            origin.get_or_insert(lease.origin);
            pinned |= lease.pinned;
            ids.push(id);
            held.push(taken);
        }
        let origin = Arc::clone(&self.origins[origin? as usize]);
        Some(AckBatch { lane, origin, pinned, ids, held })
    }

    fn next_settlement(&mut self, now: Instant) -> Option<Work> {
        while self.singles.has_room() {
            let id = self.singles.settlements.pop_front()?;
            let Some(lease) = self.leases.get_mut(id) else { continue };
            let Phase::Settling(action, Step::Queued) = lease.phase else { continue };
            if lease.is_expired(now) {
                self.expire(id);
                continue;
            }
            let Some(held) = lease.held.clone() else { continue };
            lease.phase = Phase::Settling(action, Step::Sent);
            self.singles.sent();
            let origin = Arc::clone(&self.origins[lease.origin as usize]);
            let single = Single { id, origin, pinned: lease.pinned, held };
            let attempts = DeliveryAttempts { now: lease.delivery_attempt, max: self.options.max_attempts };
            return Some(match action {
                Action::Nack(duration) => Work::Change(single, InvisibleChange { duration, suspend: false }),
                Action::Release => Work::Change(single, InvisibleChange { duration: RELEASE_AFTER, suspend: true }),
                Action::Ack | Action::DeadLetter => Work::DeadLetter(single, attempts),
            });
        }
        None
    }
}
