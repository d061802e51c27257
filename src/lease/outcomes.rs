//! How requests went, and what follows for the leases. The third part of the table.

use std::sync::Arc;
use std::time::Instant;

use crate::error::{AckError, Error, ErrorKind, Result};
use crate::lease::entry::{Action, Change, Extension, Phase, SentChange, Settlement, Step};
use crate::lease::judge::{self, Failure};
use crate::lease::slab::SlotId;
use crate::lease::table::{Slot, Table};
use crate::lease::terms::{LeaseEvent, Renewal};
use crate::lease::work::AckBatch;

impl Table {
    /// Each entry is judged by itself (trap R8). `jitter` is a random number in `0.0..1.0`; one for the whole batch, so
    /// that what is sent again goes together again.
    pub(crate) fn on_acked(&mut self, batch: &AckBatch, result: Result<Vec<Result<()>>>, now: Instant, jitter: f64) {
        self.lanes.ended(batch.lane);
        self.effects.wakers.reserve(batch.ids.len());
        let mut results = result.map(Vec::into_iter);
        let unanswered = Error::new(ErrorKind::Protocol, "the server's answer has no status for this entry");
        for (index, &id) in batch.ids.iter().enumerate() {
            let next = match &mut results {
                Err(error) => Err(&*error),
                Ok(results) => match results.next() {
                    Some(Ok(())) => Ok(()),
                    Some(Err(error)) => {
                        self.on_ack_failed(batch, index, &error, now, jitter);
                        continue;
                    }
                    None => Err(&unanswered),
                },
            };
            match next {
                Ok(()) => self.on_ack_ok(id),
                Err(error) => self.on_ack_failed(batch, index, error, now, jitter),
            }
        }
    }

    fn on_ack_ok(&mut self, id: SlotId) {
        let Some(lease) = self.leases.get(id) else { return };
        if lease.phase == Phase::Settling(Action::Ack, Step::Sent) {
            // To an ack by a replaced handle the server says OK, and does nothing.
            let result = if lease.unsure { Err(AckError::Unknown) } else { Ok(()) };
            self.finish(id, result);
        }
    }

    fn on_ack_failed(&mut self, batch: &AckBatch, index: usize, error: &Error, now: Instant, jitter: f64) {
        let (id, held) = (batch.ids[index], &batch.held[index]);
        let Some(lease) = self.leases.get_mut(id) else { return };
        if lease.phase != Phase::Settling(Action::Ack, Step::Sent) {
            return;
        }
        lease.held = Some(held.clone());
        let failure = judge::failure(error);
        lease.doubtful |= failure == Failure::Unclear;
        if judge::may_ack_again(error, &failure) {
            lease.settlement_failed(Action::Ack, now, jitter);
            self.arm(id);
        } else {
            self.fail(id, failure);
        }
    }

    /// The answer to a renewal, an extension, a nack or a release: the new receipt handle.
    pub(crate) fn on_changed(&mut self, id: SlotId, result: Result<Arc<str>>, now: Instant, jitter: f64) {
        let phase = self.leases.get(id).map(|lease| lease.phase);
        if let Some(Phase::Settling(_, Step::Sent)) = phase {
            return self.on_dead_lettered(id, result.map(drop), now, jitter);
        }
        self.singles.ended();
        let Some(lease) = self.leases.get_mut(id) else { return };
        let Change::Sent(sent) = std::mem::replace(&mut lease.change, Change::Idle) else { return };
        // An empty handle is that of a failed change (trap R6): it does not tell whether the server acted.
        let failure = match result {
            Ok(handle) if !handle.is_empty() => {
                lease.renewed(&handle, &sent);
                self.on_granted(id, sent.extension);
                return self.proceed(id, now);
            }
            Ok(_) => Failure::Unclear,
            Err(error) => judge::failure(&error),
        };
        self.on_change_failed(id, &sent, failure, now, jitter);
        self.proceed(id, now);
    }

    fn on_granted(&mut self, id: SlotId, extension: Option<Extension>) {
        let Some(extension) = extension else {
            self.stats.renewals += 1;
            return;
        };
        // A change by hand ends the server's own renewal (protocol B.9).
        if let Some(lease) = self.leases.get_mut(id).filter(|lease| lease.renewal == Renewal::Server) {
            lease.renewal = Renewal::Off;
        }
        self.answer_ticket(extension.ticket, Ok(()));
    }

    fn on_change_failed(&mut self, id: SlotId, sent: &SentChange, failure: Failure, now: Instant, jitter: f64) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        match (failure, sent.extension) {
            (Failure::Away, Some(extension)) => {
                lease.extensions.insert(0, extension);
                lease.try_again(now, jitter);
            }
            // What the server answered with a failure was not done: the old handle is good (trap R6).
            (Failure::Away | Failure::Internal { .. }, None) => lease.try_again(now, jitter),
            (Failure::Unclear, extension) => {
                lease.became_unsure(sent);
                let waiting = std::mem::take(&mut lease.extensions);
                for extension in extension.into_iter().chain(waiting) {
                    self.answer_ticket(extension.ticket, Err(AckError::Unknown));
                }
            }
            (Failure::Expired, extension) => {
                lease.expires = now;
                if let Some(extension) = extension {
                    self.answer_ticket(extension.ticket, Err(AckError::LeaseExpired));
                }
            }
            (failure, Some(extension)) => self.answer_ticket(extension.ticket, Err(settlement_error(failure))),
            (Failure::Refused { .. } | Failure::Closed, None) => lease.renewal = Renewal::Off,
        }
    }

    /// A change has ended; whatever waited for it goes on.
    fn proceed(&mut self, id: SlotId, now: Instant) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        if lease.is_expired(now) {
            return self.expire(id);
        }
        if !lease.extensions.is_empty() {
            if lease.retry_at.is_none() {
                self.queue_change(id);
            }
        } else if let Phase::Settling(action, Step::AfterChange) = lease.phase {
            lease.retry_at = None;
            match lease.refusal(action) {
                Some(error) => self.finish(id, Err(error)),
                None => self.enqueue(id, action),
            }
        }
        self.free_if_abandoned(id);
        self.arm(id);
    }

    /// The answer to a request that settles one message and must not be repeated blindly (trap R18).
    pub(crate) fn on_dead_lettered(&mut self, id: SlotId, result: Result<()>, now: Instant, jitter: f64) {
        self.singles.ended();
        let Some(lease) = self.leases.get_mut(id) else { return };
        let Phase::Settling(action, Step::Sent) = lease.phase else { return };
        match result {
            Ok(()) => self.finish(id, Ok(())),
            Err(error) => match judge::failure(&error) {
                Failure::Away => {
                    lease.settlement_failed(action, now, jitter);
                    self.arm(id);
                }
                failure => self.fail(id, failure),
            },
        }
    }

    fn fail(&mut self, id: SlotId, failure: Failure) {
        let doubtful = self.leases.get(id).is_some_and(|lease| lease.doubtful);
        // After a lost answer a later refusal proves nothing: the first try may have settled it.
        self.finish(id, Err(if doubtful { AckError::Unknown } else { settlement_error(failure) }));
    }

    /// The time is over, and no answer is awaited.
    pub(super) fn expire(&mut self, id: SlotId) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        lease.change = Change::Idle;
        let (phase, ran_out) = (lease.phase, lease.ran_out());
        let extensions = std::mem::take(&mut lease.extensions);
        if phase == Phase::Held && !std::mem::replace(&mut lease.lost, true) {
            self.lose(id);
        }
        for extension in extensions {
            self.answer_ticket(extension.ticket, Err(AckError::LeaseExpired));
        }
        match phase {
            Phase::Settling(..) => self.finish(id, Err(ran_out)),
            Phase::Abandoned => self.free_if_abandoned(id),
            Phase::Held | Phase::Done => self.arm(id),
        }
    }

    fn lose(&mut self, id: SlotId) {
        let Some(lease) = self.leases.get(id) else { return };
        self.stats.lost += 1;
        self.effects.lost.extend(lease.signal.as_ref().map(Arc::clone));
        if let (true, Some(held)) = (self.tells_events, &lease.held) {
            let (topic, message_id) = (self.topic_of(lease), held.message_id().into());
            self.effects.events.push(LeaseEvent::Lost { topic, message_id });
        }
    }

    /// The one place where a settlement ends.
    pub(super) fn finish(&mut self, id: SlotId, result: Settlement) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        let Phase::Settling(action, _) = lease.phase else { return };
        lease.phase = Phase::Done;
        let stats = &mut self.stats;
        stats.queued -= 1;
        match (&result, action) {
            (Ok(()), Action::Ack) => stats.acked += 1,
            (Ok(()), Action::Nack(_)) => stats.nacked += 1,
            (Ok(()), Action::Release) => stats.released += 1,
            (Ok(()), Action::DeadLetter) => stats.dead_lettered += 1,
            // One that was lost before it was settled is counted already.
            (Err(AckError::LeaseExpired), _) => stats.lost += u64::from(!std::mem::replace(&mut lease.lost, true)),
            (Err(AckError::Rejected { .. }), _) => stats.rejected += 1,
            (Err(AckError::Unknown), _) => stats.unknown += 1,
            (Err(AckError::Closed), _) => {}
        }
        self.effects.wakers.extend(lease.answer.give(result));
        if lease.answer.unobserved {
            self.free_unobserved(Slot::Lease(id));
        }
        self.note_idle();
    }

    pub(super) fn answer_ticket(&mut self, ticket: SlotId, result: Settlement) {
        self.stats.queued -= 1;
        if let Some(answer) = self.tickets.get_mut(ticket) {
            self.effects.wakers.extend(answer.give(result));
            if answer.unobserved {
                self.free_unobserved(Slot::Extension(ticket));
            }
        }
        self.note_idle();
    }

    /// Frees what is done and looked at by nobody; a failure is told as an event then.
    pub(super) fn free_unobserved(&mut self, slot: Slot) {
        if self.tells_events
            && let Slot::Lease(id) = slot
            && let Some(lease) = self.leases.get(id)
            && let (Some(Err(error)), Some(held)) = (&lease.answer.result, &lease.held)
        {
            let (topic, message_id) = (self.topic_of(lease), held.message_id().into());
            self.effects.events.push(LeaseEvent::NotSettled { topic, message_id, error: error.clone() });
        }
        self.free(slot);
    }
}

fn settlement_error(failure: Failure) -> AckError {
    match failure {
        Failure::Expired => AckError::LeaseExpired,
        Failure::Refused { code, message } | Failure::Internal { code, message } => {
            AckError::Rejected { code, message }
        }
        Failure::Away | Failure::Unclear => AckError::Unknown,
        Failure::Closed => AckError::Closed,
    }
}
