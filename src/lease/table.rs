//! All leases of one consumer, and what to do next about them.
//!
//! A settlement is queued at the call and answered exactly once: by the server, by our clock, or by the close. What must be
//! done is asked of [`Table::next`] (`work.rs`); how it went is told to the methods in `outcomes.rs`. Wakers and events leave through
//! [`Effects`], because foreign code must not run under the lock.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::error::AckError;
use crate::lease::entry::{
    Action, Answer, Arrival, Change, Extension, Grant, Lease, LostSignal, Phase, Settlement, Step, Terms,
};
use crate::lease::lanes::{Lanes, Singles};
use crate::lease::slab::{Slab, SlotId};
use crate::lease::terms::{LeaseEvent, LeaseOptions, LeaseStats, Origin};
use crate::lease::timers::Timers;
use crate::model::Endpoint;
use crate::transport::Scope;

/// Where the result of a settlement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    Lease(SlotId),
    Extension(SlotId),
}

/// What the shell does after it has let go of the lock.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Effects {
    pub(crate) wakers: Vec<Waker>,
    /// Only to be dropped: that, too, may run foreign code.
    pub(crate) spent: Vec<Waker>,
    pub(crate) lost: Vec<Arc<LostSignal>>,
    pub(crate) events: Vec<LeaseEvent>,
    /// There is work, or an earlier time to wake up at.
    pub(crate) wake_keeper: bool,
    /// Nothing is queued any more.
    pub(crate) idle: bool,
}

#[derive(Debug)]
pub(crate) struct Table {
    pub(super) leases: Slab<Lease>,
    pub(super) tickets: Slab<Answer>,
    pub(super) origins: Vec<Arc<Origin>>,
    pub(super) lanes: Lanes,
    pub(super) singles: Singles,
    pub(super) timers: Timers,
    pub(super) options: LeaseOptions,
    pub(super) stats: LeaseStats,
    pub(super) effects: Effects,
    /// Somebody listens to events: until then none is made.
    pub(super) tells_events: bool,
    /// Somebody waits until nothing is queued.
    idle_is_awaited: bool,
    /// The keeper runs, or was told to: it need not be told again.
    pub(super) keeper_awake: bool,
    keeper_wakes_at: Option<Instant>,
    closed: bool,
    orphaned: bool,
}

impl Table {
    pub(crate) fn new(options: LeaseOptions) -> Self {
        Self {
            leases: Slab::new(),
            tickets: Slab::new(),
            origins: Vec::new(),
            lanes: Lanes::default(),
            singles: Singles::default(),
            timers: Timers::new(),
            options,
            stats: LeaseStats::default(),
            effects: Effects::default(),
            tells_events: false,
            idle_is_awaited: false,
            keeper_awake: true,
            keeper_wakes_at: None,
            closed: false,
            orphaned: false,
        }
    }

    pub(crate) fn tell_events(&mut self) {
        self.tells_events = true;
    }

    /// From now on [`Effects::idle`] is told.
    pub(crate) fn await_idle(&mut self) {
        self.idle_is_awaited = true;
    }

    /// Once per receive, so that a message costs no comparison of strings. There are as many as endpoints × brokers ×
    /// topics were ever seen.
    pub(crate) fn origin(&mut self, endpoint: &Endpoint, broker: &Arc<str>, scope: &Scope) -> Arc<Origin> {
        let known = |o: &&Arc<Origin>| o.endpoint == *endpoint && o.broker == *broker && o.scope == *scope;
        if let Some(origin) = self.origins.iter().find(known) {
            return Arc::clone(origin);
        }
        let lane = self.lanes.lane(endpoint, scope);
        let (endpoint, broker, scope) = (endpoint.clone(), Arc::clone(broker), scope.clone());
        let origin = Arc::new(Origin { endpoint, broker, scope, id: self.origins.len() as u32, lane });
        self.origins.push(Arc::clone(&origin));
        origin
    }

    /// Before the user can see the messages. `each` is given the lease of each, in their order.
    pub(crate) fn register<T>(
        &mut self,
        arrival: &Arrival<'_>,
        messages: impl Iterator<Item = (T, Grant)>,
        mut each: impl FnMut(T, SlotId),
    ) {
        let mut known: Option<(Terms, Option<Instant>)> = None;
        for (message, grant) in messages {
            self.stats.held += 1;
            let as_before = known.filter(|(terms, _)| terms.invisible == grant.invisible);
            let (id, wake_at) = match as_before {
                Some((terms, wake_at)) => (self.leases.insert(Lease::new(grant, &terms)), wake_at),
                None => {
                    let terms = Terms::new(arrival, grant.invisible, self.options.max_lease);
                    let lease = Lease::new(grant, &terms);
                    let wake_at = lease.wake_at();
                    known = Some((terms, wake_at));
                    (self.leases.insert(lease), wake_at)
                }
            };
            if !self.closed {
                self.set_timer(id, wake_at);
            }
            each(message, id);
        }
    }

    /// The receipt is consumed. Look for the result with [`poll_answer`](Self::poll_answer).
    pub(crate) fn settle(&mut self, id: SlotId, action: Action) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        self.stats.held -= 1;
        self.stats.queued += 1;
        let refusal = if self.closed { Some(AckError::Closed) } else { lease.refusal(action) };
        if let Some(error) = refusal {
            lease.phase = Phase::Settling(action, Step::Queued);
            return self.finish(id, Err(error));
        }
        if !lease.extensions.is_empty() || matches!(lease.change, Change::Sent(_)) {
            lease.phase = Phase::Settling(action, Step::AfterChange);
            return;
        }
        // A renewal that was not sent is not needed any more; its entry in the queue is skipped.
        lease.change = Change::Idle;
        lease.retry_at = None;
        self.enqueue(id, action);
    }

    /// The invisible duration becomes `duration` from now on. The ticket names the result.
    pub(crate) fn extend(&mut self, id: SlotId, duration: Duration) -> SlotId {
        self.stats.queued += 1;
        let ticket = self.tickets.insert(Answer::default());
        let refusal = match self.leases.get(id) {
            _ if self.closed => Some(AckError::Closed),
            None => Some(AckError::LeaseExpired),
            Some(lease) if lease.lost => Some(AckError::LeaseExpired),
            Some(lease) => lease.unsure.then_some(AckError::Unknown),
        };
        match (refusal, self.leases.get_mut(id)) {
            (None, Some(lease)) => {
                // The wait before a failed renewal is repeated does not hold for an extension.
                let at_once = lease.extensions.is_empty() && lease.change == Change::Idle;
                lease.extensions.push(Extension { duration, ticket });
                if at_once {
                    lease.retry_at = None;
                    self.queue_change(id);
                }
            }
            (refusal, _) => self.answer_ticket(ticket, Err(refusal.unwrap_or(AckError::LeaseExpired))),
        }
        ticket
    }

    /// The receipt was dropped unsettled: renewal stops, nothing is sent.
    pub(crate) fn abandon(&mut self, id: SlotId) {
        let closed = self.closed;
        let Some(lease) = self.leases.get_mut(id) else { return };
        self.stats.held -= 1;
        lease.phase = Phase::Abandoned;
        if let (false, false, Some(held)) = (lease.lost, closed, &lease.held) {
            self.stats.dropped += 1;
            if self.tells_events {
                let topic = Arc::clone(&self.origins[lease.origin as usize].scope.topic);
                self.effects.events.push(LeaseEvent::Dropped { topic, message_id: held.message_id().into() });
            }
        }
        self.free_if_abandoned(id);
        self.note_idle();
    }

    pub(crate) fn poll_answer(&mut self, slot: Slot, waker: &Waker) -> Poll<Settlement> {
        let answer = match slot {
            Slot::Lease(id) => self.leases.get_mut(id).map(|lease| &mut lease.answer),
            Slot::Extension(id) => self.tickets.get_mut(id),
        };
        let Some(answer) = answer else { return Poll::Pending };
        if let Some(result) = answer.result.take() {
            self.free(slot);
            return Poll::Ready(result);
        }
        self.effects.spent.extend(answer.listen(waker));
        Poll::Pending
    }

    /// Nobody will ask for the result any more.
    pub(crate) fn forget_answer(&mut self, slot: Slot) {
        let answer = match slot {
            Slot::Lease(id) => self.leases.get_mut(id).map(|lease| &mut lease.answer),
            Slot::Extension(id) => self.tickets.get_mut(id),
        };
        let Some(answer) = answer else { return };
        answer.unobserved = true;
        self.effects.spent.extend(answer.waker.take());
        if answer.result.is_some() {
            self.free_unobserved(slot);
        }
    }

    /// Fires when the lease is lost.
    pub(crate) fn lost_signal(&mut self, id: SlotId) -> Arc<LostSignal> {
        let Some(lease) = self.leases.get_mut(id) else { return Arc::default() };
        let signal = Arc::clone(lease.signal.get_or_insert_with(Arc::default));
        if lease.lost || self.closed {
            self.effects.lost.push(Arc::clone(&signal));
        }
        signal
    }

    pub(crate) fn is_lost(&self, id: SlotId) -> bool {
        self.closed || self.leases.get(id).is_none_or(|lease| lease.lost)
    }

    /// Whether any lease was ever lost: until then, [`is_lost`](Self::is_lost) need not be asked.
    pub(crate) fn has_lost(&self) -> bool {
        self.closed || self.stats.lost > 0
    }

    /// When to ask [`next`](Self::next) again if nothing happens before. Perhaps too early, never too late.
    pub(crate) fn next_wake(&mut self) -> Option<Instant> {
        self.keeper_wakes_at = self.timers.next();
        self.keeper_wakes_at
    }

    /// What was not sent is answered with `Closed`, what was sent with `Unknown`; nothing is sent any more: what stands in
    /// the queues has its answer, and is passed over.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.timers.clear();
        for id in self.leases.ids() {
            self.close_lease(id);
        }
        self.wake_keeper();
        self.effects.idle = true;
    }

    fn close_lease(&mut self, id: SlotId) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        lease.timer = None;
        let extensions = std::mem::take(&mut lease.extensions);
        let change = std::mem::replace(&mut lease.change, Change::Idle);
        let phase = lease.phase;
        let doubtful = lease.doubtful || phase_is_sent(phase);
        if phase == Phase::Held {
            self.effects.lost.extend(lease.signal.take());
        }
        if let Some(extension) = change.extension() {
            self.answer_ticket(extension.ticket, Err(AckError::Unknown));
        }
        for extension in extensions {
            self.answer_ticket(extension.ticket, Err(AckError::Closed));
        }
        match phase {
            Phase::Settling(..) => self.finish(id, Err(if doubtful { AckError::Unknown } else { AckError::Closed })),
            Phase::Abandoned => self.free_if_abandoned(id),
            Phase::Held | Phase::Done => {}
        }
    }

    /// No receipt is held any more, and none can come.
    pub(crate) fn orphan(&mut self) {
        self.orphaned = true;
        self.wake_keeper();
    }

    /// Nothing will ever be sent again.
    pub(crate) fn is_over(&self) -> bool {
        self.closed || (self.orphaned && self.stats.queued == 0)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn stats(&self) -> LeaseStats {
        self.stats
    }

    /// `None`: nothing to do, which is the common case and costs nothing.
    pub(crate) fn take_effects(&mut self) -> Option<Effects> {
        let Effects { wakers, spent, lost, events, wake_keeper, idle } = &self.effects;
        let none = wakers.is_empty() && spent.is_empty() && lost.is_empty() && events.is_empty();
        if none && !wake_keeper && !idle { None } else { Some(std::mem::take(&mut self.effects)) }
    }

    pub(crate) fn wake_keeper(&mut self) {
        if !self.keeper_awake {
            self.keeper_awake = true;
            self.effects.wake_keeper = true;
        }
    }

    // ---- requests

    pub(super) fn enqueue(&mut self, id: SlotId, action: Action) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        lease.phase = Phase::Settling(action, Step::Queued);
        let ready = if action == Action::Ack {
            self.lanes.push(self.origins[lease.origin as usize].lane, id);
            self.lanes.has_ready()
        } else {
            self.singles.settlements.push_back(id);
            self.singles.has_room()
        };
        if ready {
            self.wake_keeper();
        }
    }

    pub(super) fn queue_change(&mut self, id: SlotId) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        lease.change = Change::Queued;
        self.singles.changes.push_back(id);
        if self.singles.has_room() {
            self.wake_keeper();
        }
    }

    // ---- time

    pub(super) fn arm(&mut self, id: SlotId) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        let at = lease.wake_at();
        if at == lease.timer.and_then(|timer| self.timers.time_of(timer)) {
            return;
        }
        if let Some(before) = lease.timer.take() {
            self.timers.unset(before);
        }
        self.set_timer(id, at);
    }

    /// Of a lease that has none.
    fn set_timer(&mut self, id: SlotId, at: Option<Instant>) {
        let (Some(lease), Some(at)) = (self.leases.get_mut(id), at) else { return };
        lease.timer = Some(self.timers.set(at, id));
        if self.keeper_wakes_at.is_none_or(|known| at < known) {
            self.wake_keeper();
        }
    }

    pub(super) fn fire_timers(&mut self, now: Instant) {
        while let Some((timer, leases)) = self.timers.due(now) {
            for id in leases {
                if let Some(lease) = self.leases.get_mut(id)
                    && lease.timer == Some(timer)
                {
                    lease.timer = None;
                    self.on_time(id, now);
                }
            }
        }
    }

    fn on_time(&mut self, id: SlotId, now: Instant) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        if lease.awaits_answer() {
            return;
        }
        if lease.is_expired(now) {
            return self.expire(id);
        }
        if lease.retry_at.is_some_and(|at| at <= now) {
            lease.retry_at = None;
            match lease.phase {
                Phase::Settling(action, Step::Backoff) => self.enqueue(id, action),
                _ => self.queue_change(id),
            }
        } else if lease.change == Change::Idle && lease.retry_at.is_none() && lease.renewal_is_due(now) {
            self.queue_change(id);
        }
        self.arm(id);
    }

    // ---- ends

    pub(super) fn free(&mut self, slot: Slot) {
        match slot {
            Slot::Extension(id) => self.tickets.discard(id),
            Slot::Lease(id) => {
                let timer = self.leases.get(id).and_then(|lease| lease.timer);
                self.leases.discard(id);
                if let Some(timer) = timer {
                    self.timers.unset(timer);
                }
            }
        }
    }

    pub(super) fn free_if_abandoned(&mut self, id: SlotId) {
        let Some(lease) = self.leases.get(id) else { return };
        let answers_due = lease.change.extension().is_some() || !lease.extensions.is_empty();
        if lease.phase == Phase::Abandoned && !answers_due {
            self.free(Slot::Lease(id));
        }
    }

    pub(super) fn topic_of(&self, lease: &Lease) -> Arc<str> {
        Arc::clone(&self.origins[lease.origin as usize].scope.topic)
    }

    pub(super) fn note_idle(&mut self) {
        self.effects.idle |= self.idle_is_awaited && self.stats.queued == 0;
    }
}

fn phase_is_sent(phase: Phase) -> bool {
    matches!(phase, Phase::Settling(_, Step::Sent))
}
