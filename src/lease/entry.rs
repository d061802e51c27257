//! One lease: what is held, until when, and what its user asked for.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::error::AckError;
use crate::lease::slab::SlotId;
use crate::lease::terms::{Origin, Renewal};
use crate::lease::timers::TimerId;
use crate::model::Held;
use crate::retry::Backoff;

/// The result of a settlement.
pub(super) type Settlement = Result<(), AckError>;

/// Waits between repeats: short first, because most failures are a broker's restart or a lost connection.
const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));

/// A server that renews by itself hides a message for this long at a time (5.5.0: 60 s, whatever was asked for). When it
/// no longer answers, the lease cannot last longer.
const SERVER_RENEWED: Duration = Duration::from_secs(60);

/// A renewal must come before the lease ends by at least this much, so that its first failure is not its last.
const RENEW_MARGIN: Duration = Duration::from_secs(3);

/// Messages that arrived together.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) origin: &'a Arc<Origin>,
    /// When they arrived, by our clock. The server's count began a little earlier: a settlement in that last moment is sent
    /// and refused, a renewal comes long before it.
    pub(crate) at: Instant,
    pub(crate) renewal: Renewal,
}

/// One of them: what the table needs to know of it.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) held: Held,
    pub(crate) delivery_attempt: u32,
    pub(crate) invisible: Duration,
}

/// What leases have in common that began at one time and last as long: worked out once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    origin: u32,
    renewal: Renewal,
    pub(super) invisible: Duration,
    expires: Instant,
    renew_until: Instant,
}

impl Terms {
    pub(super) fn new(arrival: &Arrival<'_>, invisible: Duration, max_lease: Duration) -> Self {
        let renew_until = after(arrival.at, max_lease);
        let expires = match arrival.renewal {
            Renewal::Server => renew_until,
            Renewal::Client | Renewal::Off => after(arrival.at, invisible),
        };
        Self { origin: arrival.origin.id, renewal: arrival.renewal, invisible, expires, renew_until }
    }
}

/// What a receipt is settled by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Ack,
    /// Comes again after this time; costs a delivery attempt.
    Nack(Duration),
    /// Comes again soon; costs no delivery attempt where the server honours it. For messages that no user saw.
    Release,
    DeadLetter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The receipt is out.
    Held,
    /// The receipt was dropped; an extension that was queued before is still answered.
    Abandoned,
    Settling(Action, Step),
    /// Waits for its answer to be looked at.
    Done,
}

/// How far a settlement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A change is under way, or extensions are queued before it: the handle will be another one.
    AfterChange,
    Queued,
    Sent,
    /// Sent before, to be sent again.
    Backoff,
}

/// A change that keeps the lease: a renewal or an extension. There is never more than one under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Idle,
    Queued,
    /// A box, because most leases never need it.
    Sent(Box<SentChange>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SentChange {
    /// The new duration counts from here: the server cannot have begun earlier.
    pub(super) at: Instant,
    pub(super) duration: Duration,
    /// `None`: a renewal.
    pub(super) extension: Option<Extension>,
}

impl Change {
    /// The extension under way.
    pub(super) fn extension(&self) -> Option<Extension> {
        match self {
            Self::Sent(sent) => sent.extension,
            Self::Idle | Self::Queued => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extension {
    pub(super) duration: Duration,
    pub(super) ticket: SlotId,
}

/// A result on its way to a [`Settled`](crate::Settled).
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) result: Option<Settlement>,
    pub(super) waker: Option<Waker>,
    /// The `Settled` was dropped.
    pub(super) unobserved: bool,
}

impl Answer {
    pub(super) fn give(&mut self, result: Settlement) -> Option<Waker> {
        self.result = Some(result);
        self.waker.take()
    }

    /// The waker to be dropped, outside the lock.
    pub(super) fn listen(&mut self, waker: &Waker) -> Option<Waker> {
        if self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return None;
        }
        self.waker.replace(waker.clone())
    }
}

#[derive(Debug)]
pub(super) struct Lease {
    /// `None` only while an ack of it is under way: the RPC has it.
    pub(super) held: Option<Held>,
    pub(super) origin: u32,
    pub(super) delivery_attempt: u32,
    pub(super) phase: Phase,
    pub(super) change: Change,
    pub(super) renewal: Renewal,
    /// Only the endpoint that delivered knows the handle that its own renewal made.
    pub(super) pinned: bool,
    /// What a renewal asks for.
    invisible: Duration,
    /// What was granted last.
    span: Duration,
    pub(super) expires: Instant,
    /// No renewal from here on.
    renew_until: Instant,
    pub(super) retry_at: Option<Instant>,
    /// A box, because most leases never need it.
    backoff: Option<Box<Backoff>>,
    pub(super) extensions: Vec<Extension>,
    pub(super) timer: Option<TimerId>,
    /// A change's answer was lost: the handle may have been replaced by one that we do not know. Then a server says OK to
    /// an ack and does nothing, and a further change makes a copy of the message (traps R18, live b.3).
    pub(super) unsure: bool,
    /// The answer to some try of the settlement was lost.
    pub(super) doubtful: bool,
    /// Ran out before it was settled.
    pub(super) lost: bool,
    pub(super) answer: Answer,
    pub(super) signal: Option<Arc<LostSignal>>,
}

impl Lease {
    pub(super) fn new(grant: Grant, terms: &Terms) -> Self {
        Self {
            held: Some(grant.held),
            origin: terms.origin,
            delivery_attempt: grant.delivery_attempt,
            phase: Phase::Held,
            change: Change::Idle,
            renewal: terms.renewal,
            pinned: terms.renewal == Renewal::Server,
            invisible: grant.invisible,
            span: grant.invisible,
            expires: terms.expires,
            renew_until: terms.renew_until,
            retry_at: None,
            backoff: None,
            extensions: Vec::new(),
            timer: None,
            unsure: false,
            doubtful: false,
            lost: false,
            answer: Answer::default(),
            signal: None,
        }
    }

    /// When to renew: a third of the span before the end, so that there is time to try again.
    fn renew_at(&self) -> Option<Instant> {
        if self.renewal != Renewal::Client || self.unsure || self.lost || self.phase != Phase::Held {
            return None;
        }
        let margin = (self.span / 3).max(RENEW_MARGIN).min(self.span / 2);
        let at = self.expires.checked_sub(margin).unwrap_or(self.expires);
        (at < self.renew_until).then_some(at)
    }

    pub(super) fn renewal_is_due(&self, now: Instant) -> bool {
        self.renew_at().is_some_and(|at| at <= now)
    }

    /// What the next change asks for, if one is wanted at all.
    pub(super) fn next_change(&mut self) -> Option<(Duration, Option<Extension>)> {
        if !self.extensions.is_empty() {
            let extension = self.extensions.remove(0);
            return Some((extension.duration, Some(extension)));
        }
        self.renew_at().map(|_| (self.invisible, None))
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        now >= self.expires
    }

    /// Whether its next step is the answer to an RPC.
    pub(super) fn awaits_answer(&self) -> bool {
        matches!(self.change, Change::Sent(_)) || matches!(self.phase, Phase::Settling(_, Step::Sent))
    }

    /// When to look at it next, if no answer comes first.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        if self.phase == Phase::Done || self.awaits_answer() || (self.lost && self.phase == Phase::Held) {
            return None;
        }
        let next = match (self.retry_at, &self.change) {
            (Some(retry_at), _) => Some(retry_at),
            (None, Change::Idle) => self.renew_at(),
            (None, _) => None,
        };
        Some(next.map_or(self.expires, |next| next.min(self.expires)))
    }

    /// A change was granted: the lease goes on with a new handle (trap R6).
    pub(super) fn renewed(&mut self, handle: &str, sent: &SentChange) {
        if let Some(held) = &mut self.held {
            *held = held.renewed(handle);
        }
        self.span = sent.duration;
        self.expires = after(sent.at, sent.duration);
        self.backoff = None;
        self.retry_at = None;
    }

    /// The answer to a change was lost.
    pub(super) fn became_unsure(&mut self, sent: &SentChange) {
        self.unsure = true;
        self.server_stopped_renewing(after(sent.at, sent.duration));
    }

    pub(super) fn try_again(&mut self, now: Instant, jitter: f64) {
        let wait = self.backoff.get_or_insert_with(|| Box::new(RETRY)).next(jitter);
        self.retry_at = Some(after(now, wait));
    }

    /// An ack or another settlement failed in a way that may pass.
    pub(super) fn settlement_failed(&mut self, action: Action, now: Instant, jitter: f64) {
        self.server_stopped_renewing(after(now, SERVER_RENEWED));
        self.phase = Phase::Settling(action, Step::Backoff);
        self.try_again(now, jitter);
    }

    /// A renewing server that no longer answers, or that saw a change, renews no more: the lease ends in bounded time.
    pub(super) fn server_stopped_renewing(&mut self, at_most: Instant) {
        if self.renewal == Renewal::Server {
            self.renewal = Renewal::Off;
            self.expires = self.expires.min(at_most);
        }
    }

    /// Why a settlement need not be sent at all.
    pub(super) fn refusal(&self, action: Action) -> Option<AckError> {
        if self.lost {
            return Some(self.ran_out());
        }
        // Changing or dead-lettering by a handle that may have been replaced makes a copy of the message.
        (self.unsure && action != Action::Ack).then_some(AckError::Unknown)
    }

    /// What to tell when the time is over.
    pub(super) fn ran_out(&self) -> AckError {
        if self.doubtful { AckError::Unknown } else { AckError::LeaseExpired }
    }
}

/// `at + duration`, for durations such as `Duration::MAX` too: those mean "longer than this process lives".
fn after(at: Instant, duration: Duration) -> Instant {
    const A_CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    at.checked_add(duration.min(A_CENTURY)).unwrap_or(at)
}

/// Tells all [`LeaseLost`](crate::LeaseLost) of one lease.
#[derive(Debug, Default)]
pub(crate) struct LostSignal(Mutex<Watchers>);

#[derive(Debug, Default)]
struct Watchers {
    fired: bool,
    last: u64,
    wakers: Vec<(u64, Waker)>,
}

impl LostSignal {
    fn with<R>(&self, f: impl FnOnce(&mut Watchers) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Not to be called under the table's lock: wakers are foreign code.
    pub(crate) fn fire(&self) {
        let wakers = self.with(|watchers| {
            watchers.fired = true;
            std::mem::take(&mut watchers.wakers)
        });
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// `watcher` names the caller from its first poll on; it begins as 0.
    pub(crate) fn poll(&self, watcher: &mut u64, waker: &Waker) -> Poll<()> {
        // Dropping a waker may run foreign code, too: after the lock.
        let (polled, _spent) = self.with(|watchers| {
            if watchers.fired {
                return (Poll::Ready(()), None);
            }
            if *watcher == 0 {
                watchers.last += 1;
                *watcher = watchers.last;
            }
            let spent = match watchers.wakers.iter_mut().find(|(id, _)| id == watcher) {
                Some((_, known)) if known.will_wake(waker) => None,
                Some((_, known)) => Some(std::mem::replace(known, waker.clone())),
                None => {
                    watchers.wakers.push((*watcher, waker.clone()));
                    None
                }
            };
            (Poll::Pending, spent)
        });
        polled
    }

    pub(crate) fn forget(&self, watcher: u64) {
        let _spent = self.with(|watchers| {
            let index = watchers.wakers.iter().position(|&(id, _)| id == watcher)?;
            Some(watchers.wakers.swap_remove(index))
        });
    }

    pub(crate) fn has_fired(&self) -> bool {
        self.with(|watchers| watchers.fired)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One who watches a signal.
    #[derive(Default)]
    struct Watcher {
        number: u64,
        woken: Arc<Woken>,
    }

    impl Watcher {
        fn poll(&mut self, signal: &LostSignal) -> Poll<()> {
            signal.poll(&mut self.number, &Arc::clone(&self.woken).into())
        }

        fn times_woken(&self) -> usize {
            self.woken.0.load(Ordering::Relaxed)
        }
    }

    fn waiting(signal: &LostSignal) -> usize {
        signal.with(|watchers| watchers.wakers.len())
    }

    #[test]
    fn each_who_watches_a_lease_is_woken_once_when_it_is_lost() {
        let signal = LostSignal::default();
        let (mut first, mut second) = (Watcher::default(), Watcher::default());
        for _ in 0..3 {
            assert!(first.poll(&signal).is_pending() && second.poll(&signal).is_pending());
        }
        assert!(!signal.has_fired());
        assert_eq!(waiting(&signal), 2, "however often they ask");
        signal.fire();
        assert!(signal.has_fired());
        assert_eq!((first.times_woken(), second.times_woken()), (1, 1));
        let mut late = Watcher::default();
        assert!(first.poll(&signal).is_ready() && late.poll(&signal).is_ready());
    }

    #[test]
    fn a_watcher_that_moved_to_another_task_is_woken_there() {
        let signal = LostSignal::default();
        let mut watcher = Watcher::default();
        assert!(watcher.poll(&signal).is_pending());
        let before = std::mem::take(&mut watcher.woken);
        assert!(watcher.poll(&signal).is_pending());
        signal.fire();
        assert_eq!((before.0.load(Ordering::Relaxed), watcher.times_woken()), (0, 1));
    }

    #[test]
    fn a_watcher_that_is_gone_is_forgotten_and_the_others_are_not() {
        let signal = LostSignal::default();
        let (mut gone, mut stays) = (Watcher::default(), Watcher::default());
        assert!(gone.poll(&signal).is_pending() && stays.poll(&signal).is_pending());
        signal.forget(gone.number);
        assert_eq!(waiting(&signal), 1);
        signal.fire();
        assert_eq!((gone.times_woken(), stays.times_woken()), (0, 1));
    }
}
