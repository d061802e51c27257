//! One queue in one epoch: its tracker behind a short lock, and what happens when it moves.

use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::sync::Notify;

use crate::checkpoint::completion::Completion;
use crate::checkpoint::event::CheckpointEvent;
use crate::checkpoint::ledger::{Owner, Shared};
use crate::checkpoint::tracker::Tracker;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{Epoch, MessageQueue, Offset, OffsetRange};

/// The widest range that one run of pieces covers.
const WIDEST: u64 = u32::MAX as u64;

/// What the stream holds of a queue that is its own: it hands out here. Cheap to clone.
#[derive(Clone)]
pub(crate) struct QueueLedger(Arc<Account>);

/// What completions hold: a queue, and the right to keep the consumer's committer alive.
pub(super) struct Account {
    queue: Arc<Queue>,
    owner: Arc<Owner>,
}

/// A queue in one epoch.
pub(super) struct Queue {
    name: MessageQueue,
    epoch: Epoch,
    start: Offset,
    page: Mutex<Page>,
    /// Ticks when nothing is open any more, or the queue was fenced.
    drained: Notify,
}

struct Page {
    tracker: Tracker,
    phase: Phase,
    /// Who waits for the window to become smaller than this.
    room: Option<(u64, Waker)>,
    told_dropped: bool,
    told_late: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It may be handed out.
    Owned,
    /// Nothing more is handed out; what was may finish (trap P8).
    Revoking,
    /// Nothing counts any more (trap P7).
    Fenced,
}

/// A queue that has just been fenced. Whoever waits for it is woken when this is dropped, which is after all locks.
#[must_use = "hold it until the locks are let go"]
pub(super) struct Fenced {
    /// Everything below was completed.
    pub(super) low_mark: Offset,
    queue: Arc<Queue>,
    room: Option<Waker>,
}

impl Drop for Fenced {
    fn drop(&mut self) {
        self.queue.drained.notify_waiters();
        if let Some(waker) = self.room.take() {
            waker.wake();
        }
    }
}

/// How a queue stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Everything below is completed.
    pub(crate) low_mark: Offset,
    /// The first offset that was not handed out.
    pub(crate) position: Offset,
    /// Messages that were handed out and are not completed.
    pub(crate) open: u64,
    /// Messages from the oldest open one to the newest, completed ones between them too.
    pub(crate) window: u64,
    /// What holds the low mark.
    pub(crate) blocking: Option<OffsetRange>,
    /// When that was handed out; up to a tenth of a second too early.
    pub(crate) oldest_since: Option<Instant>,
}

/// Foreign code that runs after the lock was let go.
#[derive(Default)]
struct Effects {
    room: Option<Waker>,
    drained: bool,
    /// What can never be completed, and holds what was completed behind it.
    stuck: Option<OffsetRange>,
    event: Option<CheckpointEvent>,
}

impl QueueLedger {
    pub(super) fn new(queue: Arc<Queue>, owner: Arc<Owner>) -> Self {
        Self(Arc::new(Account { queue, owner }))
    }

    pub(crate) fn queue(&self) -> &MessageQueue {
        &self.0.queue.name
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.0.queue.epoch
    }

    /// Hands out one piece for each of `ends`: the first offset after it, so for a message its offset + 1. What lies
    /// between the position and the first message, or between messages, belongs to the piece after it. After the last
    /// message of a pull, [`skip_to`](Self::skip_to) the pull's next offset.
    ///
    /// # Errors
    /// `Protocol`: the offsets do not rise. `Closed`: the queue was revoked. Nothing is handed out then.
    pub(crate) fn hand_out(&self, ends: impl IntoIterator<Item = Offset>, now: Instant) -> Result<Completion> {
        let mut ends = ends.into_iter().peekable();
        let first = self.run(&mut ends, now)?;
        if ends.peek().is_none() {
            return Ok(first);
        }
        let mut runs = vec![first];
        while ends.peek().is_some() {
            runs.push(self.run(&mut ends, now)?);
        }
        Ok(runs.into_iter().collect())
    }

    /// As [`hand_out`](Self::hand_out), for what was committed before: the completion only says what it stands for.
    ///
    /// # Errors
    /// As `hand_out`.
    pub(crate) fn hand_out_completed(
        &self,
        ends: impl IntoIterator<Item = Offset>,
        now: Instant,
    ) -> Result<Completion> {
        let mut completion = self.hand_out(ends, now)?;
        completion.complete_and_keep();
        Ok(completion)
    }

    /// As many pieces as one run can cover.
    fn run(&self, ends: &mut std::iter::Peekable<impl Iterator<Item = Offset>>, now: Instant) -> Result<Completion> {
        let mut page = self.0.queue.page();
        if page.phase != Phase::Owned {
            return Err(self.revoked());
        }
        let tracker = &mut page.tracker;
        if let Some(first) = ends.peek().filter(|first| first.get().saturating_sub(tracker.position().get()) > WIDEST) {
            tracker.skip_to(Offset::new(first.get() - 1));
        }
        let start = tracker.position();
        let fits = |end: &Offset| end.get().saturating_sub(start.get()) <= WIDEST;
        let pieces = tracker.hand_out(std::iter::from_fn(|| ends.next_if(fits)), now);
        let pieces = pieces.map_err(|wrong| self.does_not_rise(wrong))?;
        let range = start..tracker.position();
        Ok(Completion::new(Arc::clone(&self.0), &pieces, &range))
    }

    pub(super) fn revoked(&self) -> Error {
        Error::new(ErrorKind::Closed, "the queue was given up: its messages are for its next owner")
            .during(Operation::Checkpoint)
            .on_queue(self.queue())
    }

    fn does_not_rise(&self, wrong: Offset) -> Error {
        let rule = format!("the server sent a message at offset {} after a later one", wrong.get().saturating_sub(1));
        Error::new(ErrorKind::Protocol, rule).during(Operation::Pull).on_queue(self.queue())
    }

    /// There is no message from the position to before `position`.
    pub(crate) fn skip_to(&self, position: Offset) {
        let mut page = self.0.queue.page();
        if page.phase == Phase::Owned {
            page.tracker.skip_to(position);
        }
    }

    /// Later completions are refused, counted and reported (trap P7). `None` when it was fenced before.
    pub(super) fn fence(&self) -> Option<Fenced> {
        self.0.queue.fence()
    }

    /// Whether it is ours, and not being given up.
    pub(crate) fn may_hand_out(&self) -> bool {
        self.0.queue.page().phase == Phase::Owned
    }

    pub(crate) fn standing(&self) -> Standing {
        self.0.queue.standing()
    }

    /// Waits until the window is smaller than `limit`: a queue with much open behind one slow message is to pause. Ready
    /// also when the queue was given up. One waiter per queue: the last one counts.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>, limit: u64) -> Poll<()> {
        let mut page = self.0.queue.page();
        if page.phase == Phase::Fenced || page.tracker.window() < limit {
            return Poll::Ready(());
        }
        page.room = Some((limit, cx.waker().clone()));
        let effects = Effects { stuck: page.tracker.blocked_by_dropped(), ..Effects::default() };
        drop(page);
        self.0.perform(effects);
        Poll::Pending
    }

    /// Waits until nothing is open any more, or the queue was fenced. Cancel safe.
    pub(crate) async fn drained(&self) {
        let queue = &self.0.queue;
        loop {
            let mut drained = pin!(queue.drained.notified());
            drained.as_mut().enable();
            if queue.is_drained() {
                return;
            }
            drained.await;
        }
    }
}

impl fmt::Debug for QueueLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let standing = self.standing();
        f.debug_struct("QueueLedger")
            .field("queue", &format_args!("{}", self.queue()))
            .field("low_mark", &standing.low_mark)
            .field("open", &standing.open)
            .finish_non_exhaustive()
    }
}

impl Queue {
    pub(super) fn new(name: MessageQueue, epoch: Epoch, start: Offset) -> Self {
        let tracker = Tracker::new(start);
        let page = Page { tracker, phase: Phase::Owned, room: None, told_dropped: false, told_late: false };
        Self { name, epoch, start, page: Mutex::new(page), drained: Notify::new() }
    }

    /// Never held across foreign code.
    fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) const fn name(&self) -> &MessageQueue {
        &self.name
    }

    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) const fn start(&self) -> Offset {
        self.start
    }

    pub(super) fn is_owned(&self) -> bool {
        self.page().phase != Phase::Fenced
    }

    fn is_drained(&self) -> bool {
        let page = self.page();
        page.phase == Phase::Fenced || page.tracker.open() == 0
    }

    pub(super) fn standing(&self) -> Standing {
        let page = self.page();
        let tracker = &page.tracker;
        Standing {
            low_mark: tracker.low_mark(),
            position: tracker.position(),
            open: tracker.open(),
            window: tracker.window(),
            blocking: tracker.blocking(),
            oldest_since: tracker.oldest_since(),
        }
    }

    /// The low mark, while the queue is owned.
    pub(super) fn low_mark(&self) -> Option<Offset> {
        let page = self.page();
        (page.phase != Phase::Fenced).then(|| page.tracker.low_mark())
    }

    /// Nothing more is handed out.
    pub(super) fn revoke(&self) {
        let mut page = self.page();
        if page.phase == Phase::Owned {
            page.phase = Phase::Revoking;
        }
    }

    /// Nothing counts from now on. `None` when it was fenced before.
    pub(super) fn fence(self: &Arc<Self>) -> Option<Fenced> {
        let mut page = self.page();
        if page.phase == Phase::Fenced {
            return None;
        }
        page.phase = Phase::Fenced;
        let low_mark = page.tracker.low_mark();
        let room = page.room.take().map(|(_, waker)| waker);
        // The memory of what was open is not needed any more.
        page.tracker = Tracker::new(low_mark);
        drop(page);
        Some(Fenced { low_mark, queue: Arc::clone(self), room })
    }

    /// Completes what ends at or before `position`.
    pub(super) fn complete_below(&self, position: Offset, shared: &Shared) {
        let mut page = self.page();
        if page.phase != Phase::Fenced && page.tracker.complete_below(position) {
            let effects = page.moved();
            drop(page);
            self.perform(effects, shared);
        }
    }

    fn perform(&self, effects: Effects, shared: &Shared) {
        if let Some(waker) = effects.room {
            waker.wake();
        }
        if effects.drained {
            self.drained.notify_waiters();
        }
        if let Some(event) = effects.event {
            shared.tell(event);
        }
        if let Some(range) = effects.stuck {
            shared.stuck(&self.name, &range);
        }
    }
}

impl Page {
    /// What follows when the low mark has moved.
    fn moved(&mut self) -> Effects {
        self.told_dropped = false;
        let window = self.tracker.window();
        let room = self.room.take_if(|(limit, _)| window < *limit).map(|(_, waker)| waker);
        let drained = self.phase == Phase::Revoking && self.tracker.open() == 0;
        Effects { room, drained, stuck: self.stuck(), event: None }
    }

    fn stuck(&self) -> Option<OffsetRange> {
        self.tracker.blocked_by_dropped().filter(|_| self.tracker.has_completed_beyond())
    }
}

impl Account {
    pub(super) fn queue(&self) -> &MessageQueue {
        &self.queue.name
    }

    /// Whether both are of one queue in one epoch.
    pub(super) fn is_of_queue_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.queue, &other.queue)
    }

    /// Whether a completion counts still. One that is settled asks for nothing but that its queue was not begun anew.
    pub(super) fn is_current(&self, is_settled: bool) -> bool {
        self.queue.is_owned() || (is_settled && self.owner.shared.is_latest(&self.queue))
    }

    /// Whether nothing more of the queue is handed out, and what was may finish.
    pub(super) fn is_revoking(&self) -> bool {
        self.queue.page().phase == Phase::Revoking
    }

    pub(super) fn complete(&self, pieces: Range<u64>, range: &OffsetRange) {
        let mut page = self.queue.page();
        let effects = if page.phase == Phase::Fenced {
            self.owner.shared.count_late();
            let queue = self.queue().clone();
            let told = std::mem::replace(&mut page.told_late, true);
            Effects {
                event: (!told).then(|| CheckpointEvent::Late { queue, range: range.clone() }),
                ..Effects::default()
            }
        } else if page.tracker.complete(pieces) {
            page.moved()
        } else {
            Effects { stuck: page.stuck(), ..Effects::default() }
        };
        drop(page);
        self.perform(effects);
    }

    /// Nobody can complete these pieces any more. Nothing special when the stream is gone, or the queue.
    pub(super) fn dropped(&self, pieces: Range<u64>, range: &OffsetRange) {
        if !self.owner.shared.is_streaming() {
            return;
        }
        let mut page = self.queue.page();
        if page.phase == Phase::Fenced {
            return;
        }
        page.tracker.drop_pieces(pieces);
        self.owner.shared.count_dropped();
        let told = std::mem::replace(&mut page.told_dropped, true);
        let stuck = page.stuck();
        drop(page);
        let event = (!told).then(|| CheckpointEvent::Dropped { queue: self.queue().clone(), range: range.clone() });
        self.perform(Effects { stuck, event, ..Effects::default() });
    }

    /// Nobody has seen the pieces from this number on, and there is no message before `first` among them: they are for the
    /// queue's next owner, and nothing more is handed out here.
    pub(super) fn give_back(&self, from: u64, first: Option<Offset>) {
        let mut page = self.queue.page();
        if page.phase == Phase::Fenced {
            return;
        }
        page.phase = Phase::Revoking;
        page.tracker.take_back(from);
        if let Some(first) = first {
            page.tracker.skip_to(first);
        }
        let effects = page.moved();
        drop(page);
        self.perform(effects);
    }

    fn perform(&self, effects: Effects) {
        self.queue.perform(effects, &self.owner.shared);
    }
}
