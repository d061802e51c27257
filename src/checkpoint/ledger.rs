//! How far a consumer is in all its queues.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

use crate::checkpoint::account::{Queue, QueueLedger, Standing};
use crate::checkpoint::event::{CheckpointEvent, EventHandler};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{Checkpoint, Epoch, MessageQueue, Offset, OffsetRange};

/// All queues of one consumer. Cheap to clone. Clones, queue ledgers and completions keep the consumer's committer alive.
#[derive(Clone)]
pub(crate) struct Ledger(Arc<Owner>);

/// Shared by all who may still complete something; its end tells the committer that nothing new can come.
pub(super) struct Owner {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    /// Each queue as it was begun last, also when it was given up since: an epoch is never begun twice.
    queues: Mutex<BTreeMap<MessageQueue, Arc<Queue>>>,
    events: EventHandler,
    /// Whether the stream is alive: only then a dropped completion is a mistake.
    streaming: AtomicBool,
    trouble: Mutex<Trouble>,
    troubled: AtomicWaker,
    late: AtomicU64,
    dropped: AtomicU64,
    /// Whether nobody is left who could complete anything.
    over: AtomicBool,
    pub(super) ended: Notify,
}

/// The error that ends the stream, once.
enum Trouble {
    None,
    Waiting(Error),
    Told,
}

/// A queue that is owned, as the committer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) queue: MessageQueue,
    pub(crate) epoch: Epoch,
    /// Where this epoch began.
    pub(crate) start: Offset,
    /// Everything below is completed.
    pub(crate) low_mark: Offset,
}

/// What did not go as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LedgerStats {
    /// Completions that came after their queue was given up.
    pub(crate) late: u64,
    /// Completions that were dropped while the stream was alive.
    pub(crate) dropped: u64,
}

impl Ledger {
    pub(crate) fn new(events: EventHandler) -> Self {
        let shared = Shared {
            queues: Mutex::default(),
            events,
            streaming: AtomicBool::new(true),
            trouble: Mutex::new(Trouble::None),
            troubled: AtomicWaker::new(),
            late: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            over: AtomicBool::new(false),
            ended: Notify::new(),
        };
        Self(Arc::new(Owner { shared: Arc::new(shared) }))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// The queue is ours from now on, and `start` is handed out next. What was left of an earlier epoch is fenced.
    ///
    /// # Errors
    /// `Precondition`: the epoch is not later than the one before (trap P6).
    pub(crate) fn begin(&self, queue: &MessageQueue, epoch: Epoch, start: Offset) -> Result<QueueLedger> {
        let begun = Arc::new(Queue::new(queue.clone(), epoch, start));
        let mut queues = self.shared().queues();
        if let Some(last) = queues.get(queue).filter(|last| epoch <= last.epoch()) {
            let rule =
                format!("epoch {} of this queue has begun already, epoch {} is over", last.epoch().get(), epoch.get());
            return Err(Error::new(ErrorKind::Precondition, rule).during(Operation::Checkpoint).on_queue(queue));
        }
        let last = queues.insert(queue.clone(), Arc::clone(&begun));
        drop(queues);
        drop(last.and_then(|last| last.fence()));
        Ok(QueueLedger::new(begun, Arc::clone(&self.0)))
    }

    /// A queue that is owned.
    pub(crate) fn queue(&self, queue: &MessageQueue) -> Option<QueueLedger> {
        Some(QueueLedger::new(self.shared().owned(queue)?, Arc::clone(&self.0)))
    }

    /// Nothing more of this queue is handed out; what was handed out may finish: see [`QueueLedger::drained`] (trap P8).
    pub(crate) fn revoke(&self, queue: &MessageQueue) -> Option<QueueLedger> {
        let revoked = self.shared().owned(queue)?;
        revoked.revoke();
        Some(QueueLedger::new(revoked, Arc::clone(&self.0)))
    }

    /// Nothing more is handed out of any queue. Returns those that are owned.
    pub(crate) fn revoke_all(&self) -> Vec<QueueLedger> {
        let owned: Vec<_> = self.shared().queues().values().filter(|queue| queue.is_owned()).cloned().collect();
        owned.iter().for_each(|queue| queue.revoke());
        owned.into_iter().map(|queue| QueueLedger::new(queue, Arc::clone(&self.0))).collect()
    }

    /// What was completed: for each queue that is owned, the first offset that is not.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        self.shared().marks().into_iter().map(|mark| (mark.queue, mark.low_mark)).collect()
    }

    /// How each queue stands that is owned.
    pub(crate) fn standings(&self) -> Vec<(MessageQueue, Standing)> {
        let queues = self.shared().queues();
        let owned = queues.iter().filter(|(_, queue)| queue.is_owned());
        owned.map(|(name, queue)| (name.clone(), queue.standing())).collect()
    }

    /// Completes everything below the checkpoint. Queues that are not ours any more are refused, the others completed.
    ///
    /// # Errors
    /// `InvalidArgument`: a position beyond what was handed out (trap P4); nothing is completed then. `Precondition`: some
    /// queues are not ours (trap P7).
    pub(crate) fn complete_below(&self, checkpoint: &Checkpoint) -> Result<()> {
        let shared = self.shared();
        let (mut ours, mut refused) = (Vec::new(), None);
        for (name, position) in checkpoint.iter() {
            match shared.owned(name) {
                Some(queue) => {
                    check_handed_out(name, position, queue.standing().position)?;
                    ours.push((queue, position));
                }
                None => _ = refused.get_or_insert(name),
            }
        }
        for (queue, position) in ours {
            queue.complete_below(position, shared);
        }
        refused.map_or(Ok(()), |name| Err(not_ours(name)))
    }

    /// The stream is gone: from now on a dropped completion is nothing special.
    pub(crate) fn stream_ended(&self) {
        self.shared().streaming.store(false, Ordering::Release);
    }

    /// An error that ends the stream: what holds a queue's low mark can never be completed. Ready once at most.
    pub(crate) fn poll_trouble(&self, cx: &mut Context<'_>) -> Poll<Error> {
        let shared = self.shared();
        shared.troubled.register(cx.waker());
        let mut trouble = shared.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *trouble, Trouble::Told) {
            Trouble::Waiting(error) => Poll::Ready(error),
            other => {
                *trouble = other;
                Poll::Pending
            }
        }
    }

    pub(crate) fn stats(&self) -> LedgerStats {
        let Shared { late, dropped, .. } = &**self.shared();
        LedgerStats { late: late.load(Ordering::Relaxed), dropped: dropped.load(Ordering::Relaxed) }
    }
}

impl Mark {
    fn of(queue: &Queue) -> Option<Self> {
        let low_mark = queue.low_mark()?;
        Some(Self { queue: queue.name().clone(), epoch: queue.epoch(), start: queue.start(), low_mark })
    }
}

fn check_handed_out(queue: &MessageQueue, position: Offset, handed_out: Offset) -> Result<()> {
    if position <= handed_out {
        return Ok(());
    }
    let rule = format!("only what lies before offset {handed_out} was handed out; commit what position() said");
    Err(Error::argument("offset", position, &rule).during(Operation::Checkpoint).on_queue(queue))
}

pub(super) fn not_ours(queue: &MessageQueue) -> Error {
    let rule = "the queue is not, or no longer, assigned to this consumer: its position is for its owner to commit; the \
                other queues of the checkpoint were committed";
    Error::new(ErrorKind::Precondition, rule).during(Operation::Checkpoint).on_queue(queue)
}

pub(super) fn set_elsewhere(queue: &MessageQueue) -> Error {
    let rule = "the queue was set elsewhere meanwhile, by a seek or by an administrator's reset of the group: its position \
                of before is not committed; commit what position() says now";
    Error::new(ErrorKind::Precondition, rule).during(Operation::Checkpoint).on_queue(queue)
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, BTreeMap<MessageQueue, Arc<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owned(&self, queue: &MessageQueue) -> Option<Arc<Queue>> {
        self.queues().get(queue).filter(|queue| queue.is_owned()).cloned()
    }

    /// Whether the queue was not begun anew since, also when it was given up.
    pub(super) fn is_latest(&self, queue: &Arc<Queue>) -> bool {
        self.queues().get(queue.name()).is_some_and(|latest| Arc::ptr_eq(latest, queue))
    }

    /// The marks of all queues that are owned.
    pub(super) fn marks(&self) -> Vec<Mark> {
        self.queues().values().filter_map(|queue| Mark::of(queue)).collect()
    }

    /// The mark of a queue, if it is owned.
    pub(super) fn mark(&self, queue: &MessageQueue) -> Option<Mark> {
        Mark::of(self.queues().get(queue)?)
    }

    pub(super) fn tell(&self, event: CheckpointEvent) {
        (self.events)(event);
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Acquire)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(super) fn count_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// What holds a queue's low mark can never be completed.
    pub(super) fn stuck(&self, queue: &MessageQueue, range: &OffsetRange) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*trouble, Trouble::None) {
            return;
        }
        let text = format!(
            "the completion of offsets {}..{} was dropped, so nothing after them can be committed; complete what is not \
             processed further too, or commit a checkpoint that passes it",
            range.start, range.end
        );
        let error = Error::new(ErrorKind::Precondition, text).during(Operation::Checkpoint).on_queue(queue);
        *trouble = Trouble::Waiting(error);
        drop(trouble);
        self.troubled.wake();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        self.shared.ended.notify_one();
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("checkpoint", &self.checkpoint()).field("stats", &self.stats()).finish()
    }
}

#[cfg(test)]
mod tests;
