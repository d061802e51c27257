//! The one task per consumer that sends what the table asks for.

use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;

use crate::clock;
use crate::error::{Error, Result};
use crate::lease::entry::{Arrival, Grant};
use crate::lease::receipt::Receipt;
use crate::lease::slab::SlotId;
use crate::lease::table::{Effects, Table};
use crate::lease::work::{AckBatch, Single, Work};
use crate::lease::{Endpoints, EventHandler, LeaseOptions, LeaseStats, Origin};
use crate::model::Endpoint;
use crate::task::TaskGroup;
use crate::transport::{Receiving, Scope};

/// The leases of one consumer. The keeper ends after [`close`](Self::close), or when this and all receipts are gone and
/// what they had queued was answered.
#[derive(Debug, Clone)]
pub(crate) struct Leases {
    owner: Arc<Owner>,
}

/// Shared by everything but the keeper, so that its end tells the keeper that nothing new can come.
pub(super) struct Owner {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    table: Mutex<Table>,
    work: Notify,
    idle: Notify,
    events: EventHandler,
    /// As [`Table::has_lost`], to be read without the lock: a look at every message costs nothing while all is well.
    has_lost: AtomicBool,
}

impl Shared {
    /// Foreign code (wakers, events) runs after the lock was let go.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Table) -> R) -> R {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let result = f(&mut table);
        let effects = table.take_effects();
        if table.has_lost() {
            self.has_lost.store(true, Ordering::Release);
        }
        drop(table);
        if let Some(effects) = effects {
            self.perform(effects);
        }
        result
    }

    pub(super) fn is_lost(&self, id: SlotId) -> bool {
        self.has_lost.load(Ordering::Acquire) && self.with(|table| table.is_lost(id))
    }

    fn perform(&self, effects: Effects) {
        if effects.wake_keeper {
            self.work.notify_one();
        }
        if effects.idle {
            self.idle.notify_waiters();
        }
        for waker in effects.wakers {
            waker.wake();
        }
        drop(effects.spent);
        for signal in effects.lost {
            signal.fire();
        }
        for event in effects.events {
            (self.events)(event);
        }
    }
}

impl Leases {
    pub(crate) fn start(
        tasks: &TaskGroup,
        wire: Arc<dyn Receiving>,
        endpoints: Arc<dyn Endpoints>,
        options: LeaseOptions,
        events: EventHandler,
    ) -> Self {
        let table = Mutex::new(Table::new(options));
        let shared = Arc::new(Shared {
            table,
            work: Notify::new(),
            idle: Notify::new(),
            events,
            has_lost: AtomicBool::new(false),
        });
        let keeper = Keeper { shared: Arc::clone(&shared), wire, endpoints };
        tasks.spawn("lease keeper", keeper.run());
        Self { owner: Arc::new(Owner { shared }) }
    }

    /// Where the messages of a receive come from; once per receive.
    pub(crate) fn origin(&self, endpoint: &Endpoint, broker: &Arc<str>, scope: &Scope) -> Arc<Origin> {
        self.owner.shared.with(|table| table.origin(endpoint, broker, scope))
    }

    /// Takes the leases of messages over, before the user can see them. `each` is given the receipt of each, in their order;
    /// it runs under the lock.
    pub(crate) fn register<T>(
        &self,
        arrival: &Arrival<'_>,
        messages: impl Iterator<Item = (T, Grant)>,
        mut each: impl FnMut(T, Receipt),
    ) {
        let owner = &self.owner;
        let mut register = |message, id| each(message, Receipt::new(Arc::clone(owner), id));
        owner.shared.with(|table| table.register(arrival, messages, &mut register));
    }

    /// Events are told from now on.
    pub(crate) fn tell_events(&self) {
        self.owner.shared.with(Table::tell_events);
    }

    pub(crate) fn stats(&self) -> LeaseStats {
        self.owner.shared.with(|table| table.stats())
    }

    #[cfg(test)]
    /// Waits until everything queued was answered, at most `deadline`. `false`: something is still under way. Receipts that
    /// are still held go on.
    pub(crate) async fn drain(&self, deadline: Duration) -> bool {
        self.wait_until(deadline, |stats| stats.queued == 0).await
    }

    /// Waits until no receipt is held any more and everything queued was answered, at most `deadline`.
    pub(crate) async fn settle_all(&self, deadline: Duration) -> bool {
        self.wait_until(deadline, |stats| stats.queued == 0 && stats.held == 0).await
    }

    async fn wait_until(&self, deadline: Duration, done: fn(LeaseStats) -> bool) -> bool {
        let shared = &self.owner.shared;
        shared.with(Table::await_idle);
        let waiting = async {
            loop {
                let mut changed = pin!(shared.idle.notified());
                changed.as_mut().enable();
                if done(self.stats()) {
                    return;
                }
                changed.await;
            }
        };
        clock::timeout(deadline, waiting).await.is_some()
    }

    /// What is still queued is answered with `Closed`, what is under way with `Unknown`, and all later settlements with
    /// `Closed`. The keeper ends.
    pub(crate) fn close(&self) {
        self.owner.shared.close();
    }
}

impl Shared {
    fn close(&self) {
        self.with(|table| {
            if !table.is_closed() {
                table.close();
            }
        });
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.with(Table::orphan);
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").finish_non_exhaustive()
    }
}

/// A request that has ended.
enum Ended {
    Acked(AckBatch, Result<Vec<Result<()>>>),
    Changed(Single, Result<Arc<str>>),
    DeadLettered(Single, Result<()>),
}

struct Keeper {
    shared: Arc<Shared>,
    wire: Arc<dyn Receiving>,
    endpoints: Arc<dyn Endpoints>,
}

impl Keeper {
    async fn run(self) {
        let mut running = FuturesUnordered::new();
        let mut timer_at = clock::now();
        let mut timer = pin!(clock::timer(timer_at));
        let mut ended = None;
        loop {
            let (works, wake_at, over) = self.turn(ended.take());
            if over {
                return;
            }
            for (work, at) in works.into_iter().flat_map(|work| self.address(work)) {
                running.push(self.send(work, at));
            }
            if let Some(at) = wake_at.filter(|&at| at != timer_at) {
                timer_at = at;
                timer.as_mut().reset(at.into());
            }
            tokio::select! {
                biased;
                Some(next) = running.next(), if !running.is_empty() => ended = Some(next),
                () = self.shared.work.notified() => {}
                () = timer.as_mut(), if wake_at.is_some() => {}
            }
        }
    }

    /// Tells the table how a request went, and asks it what to send and when to ask again.
    fn turn(&self, ended: Option<Ended>) -> (Vec<Work>, Option<Instant>, bool) {
        let (now, jitter) = (clock::now(), fastrand::f64());
        // Freed after the lock was let go.
        let mut acked = None;
        self.shared.with(|table| {
            match ended {
                None => {}
                Some(Ended::Acked(batch, result)) => table.on_acked(acked.insert(batch), result, now, jitter),
                Some(Ended::Changed(single, result)) => table.on_changed(single.id, result, now, jitter),
                Some(Ended::DeadLettered(single, result)) => table.on_dead_lettered(single.id, result, now, jitter),
            }
            let works = std::iter::from_fn(|| table.next(now)).collect();
            (works, table.next_wake(), table.is_over())
        })
    }

    /// Where each request goes. A batch whose endpoint is away is split by broker.
    fn address(&self, work: Work) -> Vec<(Work, Endpoint)> {
        match work {
            Work::Ack(batch) => {
                let at = self.endpoint(&batch.origin, batch.pinned);
                if at == batch.origin.endpoint {
                    return vec![(Work::Ack(batch), at)];
                }
                let parts = self.shared.with(|table| table.split(batch));
                let addressed = parts.into_iter().map(|part| {
                    let at = self.endpoint(&part.origin, part.pinned);
                    (Work::Ack(part), at)
                });
                addressed.collect()
            }
            Work::Change(ref single, _) | Work::DeadLetter(ref single, _) => {
                let at = self.endpoint(&single.origin, single.pinned);
                vec![(work, at)]
            }
        }
    }

    fn endpoint(&self, origin: &Origin, pinned: bool) -> Endpoint {
        if pinned { origin.endpoint.clone() } else { self.endpoints.settle_at(origin) }
    }

    async fn send(&self, work: Work, at: Endpoint) -> Ended {
        match work {
            Work::Ack(batch) => {
                let result = self.wire.ack(&at, &batch.origin.scope, &batch.held).await;
                self.report(&at, result.as_ref().err());
                Ended::Acked(batch, result)
            }
            Work::Change(single, change) => {
                let result = self.wire.change_invisible(&at, &single.origin.scope, &single.held, change).await;
                self.report(&at, result.as_ref().err());
                Ended::Changed(single, result)
            }
            Work::DeadLetter(single, attempts) => {
                let result = self.wire.dead_letter(&at, &single.origin.scope, &single.held, attempts).await;
                self.report(&at, result.as_ref().err());
                Ended::DeadLettered(single, result)
            }
        }
    }

    /// An endpoint that answers is well, whatever it says.
    fn report(&self, at: &Endpoint, error: Option<&Error>) {
        if let Some(error) = error.filter(|error| error.server_code().is_none()) {
            self.endpoints.failed(at, error);
        }
    }
}

impl Drop for Keeper {
    /// Also when its task is cancelled: nobody must wait for an answer that cannot come.
    fn drop(&mut self) {
        self.shared.close();
    }
}
