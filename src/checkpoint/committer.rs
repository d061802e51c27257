//! The one task of a consumer that saves positions.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;

use crate::checkpoint::account::QueueLedger;
use crate::checkpoint::book::{Book, Places, Reach, Work};
use crate::checkpoint::desk::{Desk, IfReplaced};
use crate::checkpoint::ledger::Ledger;
use crate::checkpoint::mode::CommitMode;
use crate::checkpoint::store::{AnyStore, store_failed};
use crate::clock;
use crate::error::{Error, ErrorKind, Operation, Result, millis};
use crate::model::{Checkpoint, Epoch, MessageQueue, Offset};
use crate::task::TaskGroup;
use crate::transport::Call;

/// How long the committer goes on trying when nobody is left to wait for it.
const LAST_TRIES: Duration = Duration::from_secs(3);

/// Where positions go that the brokers keep. Every call has a deadline of its own.
pub(crate) trait CommitTarget: fmt::Debug + Send + Sync {
    /// Commits `next`, the first offset that is not yet consumed, at the queue's broker.
    fn commit<'a>(&'a self, queue: &'a MessageQueue, next: Offset) -> Call<'a, ()>;
}

/// What a committer is made of.
pub(crate) struct CommitterOptions {
    pub(crate) group: Arc<str>,
    pub(crate) mode: CommitMode,
    /// How often positions are saved that have changed.
    pub(crate) interval: Duration,
    /// How long a flush, a commit, and the save of a queue that is given up may take.
    pub(crate) save_timeout: Duration,
    /// The store of the user's, if there is one: it decides what counts as durable.
    pub(crate) store: Option<Arc<dyn AnyStore>>,
    /// What that store was found to have.
    pub(crate) found: Checkpoint,
    /// The brokers: a mirror when there is a store.
    pub(crate) target: Option<Arc<dyn CommitTarget>>,
    /// Where a position has to be before what lies below it is handed out: [`CommitMode::AtMostOnce`].
    pub(crate) before: Reach,
}

impl CommitterOptions {
    /// At least once, every 5 s, at most 10 s for each save; nowhere yet.
    pub(crate) fn new(group: impl Into<Arc<str>>) -> Self {
        Self {
            group: group.into(),
            mode: CommitMode::default(),
            interval: Duration::from_secs(5),
            save_timeout: Duration::from_secs(10),
            store: None,
            found: Checkpoint::new(),
            target: None,
            before: Reach::Durable,
        }
    }
}

/// Saves the positions of a ledger. Cheap to clone.
///
/// Its task ends after [`close`](Self::close), when its tasks are cancelled, or when this, the ledger and all completions
/// are gone; each time it first saves once more what was completed, for three seconds at most.
#[derive(Clone)]
pub(crate) struct Committer {
    desk: Arc<Desk>,
    ledger: Ledger,
    options: Arc<CommitterOptions>,
}

/// What was not finished when a committer was closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unfinished {
    /// Messages that were handed out and not completed, per queue; they are read again.
    pub(crate) open: Vec<(MessageQueue, u64)>,
    /// Positions that could not be saved; what lies between them and the saved ones is read again.
    pub(crate) unsaved: Checkpoint,
}

impl Committer {
    pub(crate) fn start(tasks: &TaskGroup, ledger: &Ledger, mut options: CommitterOptions) -> Self {
        let places = Places { store: options.store.is_some(), brokers: options.target.is_some() };
        let mut book = Book::new(places);
        book.found_in_store(&options.found);
        let desk = Arc::new(Desk::new(book, options.mode, Arc::clone(ledger.shared())));
        // Only the task has it, so that it is free again when that has ended.
        let store = options.store.take();
        let options = Arc::new(options);
        let clerk = Clerk { desk: Arc::clone(&desk), options: Arc::clone(&options), store, token: tasks.token() };
        tasks.spawn_to_end("committer", clerk.run());
        Self { desk, ledger: ledger.clone(), options }
    }

    /// What was last acknowledged by the broker for this queue; to be given to [`found`](Self::found).
    pub(crate) fn committed(&self, queue: &MessageQueue) -> Option<Offset> {
        self.desk.with(|book| book.committed(queue))
    }

    /// A queue is about to begin, and this is what its broker was found to have. It is not told that position again.
    pub(crate) fn begins_at_broker(&self, queue: &MessageQueue, committed: Offset) {
        self.desk.with(|book| book.begins_at_broker(queue, committed));
    }

    /// A queue has begun, or begun anew: where it did is saved without waiting for the next interval.
    pub(crate) fn save_start(&self, queue: &MessageQueue) {
        self.desk.want_mark(queue);
        self.desk.work.notify_one();
    }

    /// The broker was asked and said `found`. When it has less than it had acknowledged `before` it was asked, it is told
    /// again, and an event says so (trap P23).
    pub(crate) fn found(&self, queue: &MessageQueue, before: Option<Offset>, found: Option<Offset>) {
        self.desk.with(|book| book.found_at_broker(queue, before, found));
        self.desk.work.notify_one();
    }

    /// An administrator has reset the group, and with it what the broker has committed; the queue has begun anew there.
    pub(crate) fn reset(&self, queue: &MessageQueue, to: Offset) {
        self.desk.reset(queue, to);
        self.desk.work.notify_one();
    }

    /// Saves everything that is completed now; it is durable when this returns. A queue that is set elsewhere meanwhile is
    /// durable there. Nothing to do in [`CommitMode::Manual`]. Cancel safe: what was asked for goes on.
    ///
    /// # Errors
    /// Why it cannot be saved, or could not in time; it goes on being tried.
    pub(crate) async fn flush(&self) -> Result<()> {
        let wanted = self.desk.want_marks();
        self.saved(wanted, Reach::Durable, IfReplaced::Follow, self.options.save_timeout).await
    }

    /// Completes everything below the checkpoint and makes it durable. Cancel safe as [`flush`](Self::flush).
    ///
    /// # Errors
    /// Those of [`Ledger::complete_below`]; the queues that are ours are saved all the same when some are not.
    /// `Precondition`: a queue was set to before that meanwhile. Why it cannot be saved, or could not in time.
    pub(crate) async fn commit(&self, checkpoint: &Checkpoint) -> Result<()> {
        let completed = self.ledger.complete_below(checkpoint);
        if completed.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidArgument) {
            return completed;
        }
        let wanted = self.desk.want_checkpoint(checkpoint);
        let saved = self.saved(wanted, Reach::Durable, IfReplaced::Fail, self.options.save_timeout);
        saved.await.and(completed)
    }

    /// Saves a position before what lies below it is handed out: [`CommitMode::AtMostOnce`].
    ///
    /// # Errors
    /// `Closed`: the queue was given up. Why it cannot be saved, or could not in time. Nothing may be handed out then.
    pub(crate) async fn commit_before(&self, queue: &QueueLedger, next: Offset) -> Result<()> {
        self.desk.want_before(queue, next)?;
        let wanted = Checkpoint::from_iter([(queue.queue().clone(), next)]);
        self.saved(wanted, self.options.before, IfReplaced::Fail, self.options.save_timeout).await
    }

    async fn saved(&self, wanted: Checkpoint, reach: Reach, if_replaced: IfReplaced, limit: Duration) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let receiver = self.desk.wait(&wanted, reach, if_replaced);
        match clock::timeout(limit, receiver).await {
            Some(answer) => answer.unwrap_or_else(|_| Err(closed())),
            None => Err(self.too_late(&wanted, reach, limit)),
        }
    }

    fn too_late(&self, wanted: &Checkpoint, reach: Reach, limit: Duration) -> Error {
        let failure = self.desk.with(|book| book.failure_among(wanted, reach));
        let text = format!("positions could not be saved within {}; it is tried further", millis(limit));
        let error = Error::new(ErrorKind::Timeout, text)
            .during(Operation::Checkpoint)
            .in_group(Arc::clone(&self.options.group));
        failure.map_or_else(|| error.clone(), |cause| error.clone().with_source(cause))
    }

    /// Gives queues up: what was handed out may finish until `limit` is over, then it is fenced and its low mark saved,
    /// for at most `save_timeout` more (traps P7, P8, P9). Never fails: an event tells what could not be saved. Dropped
    /// early, it fences them all the same, and they are saved no more.
    pub(crate) async fn give_up(&self, queues: &[MessageQueue], limit: Duration) {
        let revoked: Vec<QueueLedger> = queues.iter().filter_map(|queue| self.ledger.revoke(queue)).collect();
        let leaving = Leaving { desk: &self.desk, revoked: &revoked };
        if self.options.mode == CommitMode::AtMostOnce {
            // What was handed out is saved, before that. The rest, also where it began, is for its next owner to say, who may
            // have begun already and have saved more.
            return;
        }
        self.save_now();
        _ = clock::timeout(limit, join_all(revoked.iter().map(QueueLedger::drained))).await;
        let last = self.desk.fence(&revoked);
        // What fails is told by an event, when it is forgotten.
        _ = self.saved(last, Reach::Everywhere, IfReplaced::Follow, self.options.save_timeout).await;
        drop(leaving);
    }

    /// What is completed is saved without waiting for the next interval, and without waiting for it.
    fn save_now(&self) {
        self.desk.want_marks();
        self.desk.work.notify_one();
    }

    /// Waits until everything handed out is completed, saves it, and ends, all within `limit`, of which the last quarter
    /// is for saving (trap P9). Nothing more is handed out.
    pub(crate) async fn close(&self, limit: Duration) -> Unfinished {
        let until = clock::now() + limit;
        let owned = self.ledger.revoke_all();
        self.save_now();
        let for_saving = (limit / 4).min(self.options.save_timeout);
        _ = clock::timeout(limit - for_saving, join_all(owned.iter().map(QueueLedger::drained))).await;
        let open =
            owned.iter().map(|queue| (queue.queue().clone(), queue.standing().open)).filter(|(_, open)| *open > 0);
        let open = open.collect();
        self.desk.fence(&owned);
        let wanted = self.desk.with(|book| book.unsaved(Reach::Everywhere));
        let left = until.saturating_duration_since(clock::now());
        _ = self.saved(wanted, Reach::Everywhere, IfReplaced::Follow, left).await;
        let unsaved = self.desk.with(|book| book.unsaved(Reach::Everywhere));
        self.desk.close();
        Unfinished { open, unsaved }
    }
}

fn closed() -> Error {
    Error::closed("consumer").during(Operation::Checkpoint)
}

/// Queues that are leaving: whatever happens, they are fenced, and nothing of them is sent any more.
struct Leaving<'a> {
    desk: &'a Desk,
    revoked: &'a [QueueLedger],
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.desk.forget(self.revoked);
    }
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CommitterOptions { group, mode, interval, .. } = &*self.options;
        f.debug_struct("Committer")
            .field("group", group)
            .field("mode", mode)
            .field("interval", interval)
            .finish_non_exhaustive()
    }
}

impl CommitterOptions {
    async fn perform(&self, store: Option<&Arc<dyn AnyStore>>, work: Work) -> Ended {
        match work {
            Work::Save(checkpoint) => {
                let result = match store {
                    Some(store) => store.save(&self.group, &checkpoint).await,
                    None => Ok(()),
                };
                Ended::Saved(result.map_err(|cause| store_failed("save", &self.group, cause)))
            }
            Work::Commit { queue, epoch, next } => {
                let result = match &self.target {
                    Some(target) => target.commit(&queue, next).await,
                    None => Ok(()),
                };
                Ended::Committed { queue, epoch, next, result }
            }
        }
    }
}

/// A call that has ended.
enum Ended {
    Saved(Result<()>),
    Committed { queue: MessageQueue, epoch: Epoch, next: Offset, result: Result<()> },
}

/// The task.
struct Clerk {
    desk: Arc<Desk>,
    options: Arc<CommitterOptions>,
    store: Option<Arc<dyn AnyStore>>,
    token: CancellationToken,
}

impl Clerk {
    async fn run(self) {
        let mut running = FuturesUnordered::new();
        let mut ticks = clock::interval(self.options.interval);
        let mut timer_at = clock::now();
        let mut timer = pin!(clock::timer(timer_at));
        let (mut ended, mut last) = (None, None::<Instant>);
        loop {
            let (works, wake_at, is_idle) = self.turn(ended.take());
            running.extend(works.into_iter().map(|work| self.options.perform(self.store.as_ref(), work)));
            let now = clock::now();
            if self.desk.is_closed() || last.is_some_and(|until| is_idle || until <= now) {
                return;
            }
            let wake_at = wake_at.into_iter().chain(last).min();
            if let Some(at) = wake_at.filter(|&at| at != timer_at) {
                timer_at = at;
                timer.as_mut().reset(at.into());
            }
            tokio::select! {
                biased;
                Some(next) = running.next(), if !running.is_empty() => ended = Some(next),
                () = self.desk.work.notified() => {}
                () = timer.as_mut(), if wake_at.is_some() => {}
                _ = ticks.tick(), if last.is_none() => {
                    self.desk.want_marks();
                }
                () = self.over(), if last.is_none() => {
                    self.desk.want_marks();
                    last = Some(clock::now() + LAST_TRIES);
                }
            }
        }
    }

    /// Until nobody is left who could complete anything, or the tasks are cancelled.
    async fn over(&self) {
        tokio::select! {
            () = self.desk.abandoned() => {}
            () = self.token.cancelled() => {}
        }
    }

    /// Tells the book how a call went, and asks it what to send, when to ask again, and whether all is saved.
    fn turn(&self, ended: Option<Ended>) -> (Vec<Work>, Option<Instant>, bool) {
        let (now, jitter) = (clock::now(), fastrand::f64());
        self.desk.with(|book| {
            match ended {
                None => {}
                Some(Ended::Saved(result)) => book.saved(result, now, jitter),
                Some(Ended::Committed { queue, epoch, next, result }) => {
                    book.answered((&queue, epoch, next), result, now, jitter);
                }
            }
            (book.work(now), book.next_wake(), book.unsaved(Reach::Everywhere).is_empty())
        })
    }
}

impl Drop for Clerk {
    /// Also when its task is dropped: nobody must wait for an answer that cannot come.
    fn drop(&mut self) {
        self.desk.close();
    }
}

#[cfg(test)]
mod tests;
