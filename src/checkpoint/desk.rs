//! The book behind a short lock, and who waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::checkpoint::account::QueueLedger;
use crate::checkpoint::book::{Book, Progress, Reach, is_final};
use crate::checkpoint::ledger::{Shared, not_ours, set_elsewhere};
use crate::checkpoint::mode::CommitMode;
use crate::error::Result;
use crate::model::{Checkpoint, MessageQueue, Offset};

/// Shared by a committer's handles and its task.
pub(super) struct Desk {
    papers: Mutex<Papers>,
    mode: CommitMode,
    ledger: Arc<Shared>,
    /// Ticks when there is something to send.
    pub(super) work: Notify,
}

struct Papers {
    book: Book,
    waiters: Vec<Waiter>,
    is_closed: bool,
}

/// Somebody who waits until positions are saved.
struct Waiter {
    /// What is not known to be saved yet. Only the last is looked at: all must be in the end, in whatever order.
    wanted: Vec<(MessageQueue, Offset)>,
    reach: Reach,
    if_replaced: IfReplaced,
    reply: oneshot::Sender<Result<()>>,
}

/// What becomes of a wait when a queue has begun anew before the position that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfReplaced {
    /// It waits until the queue is saved where it is now.
    Follow,
    /// It is in vain: that position was asked for, and no other.
    Fail,
}

impl Desk {
    pub(super) fn new(book: Book, mode: CommitMode, ledger: Arc<Shared>) -> Self {
        let papers = Papers { book, waiters: Vec::new(), is_closed: false };
        Self { papers: Mutex::new(papers), mode, ledger, work: Notify::new() }
    }

    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A look or a change; answers and events go out after the lock was let go.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Book) -> R) -> R {
        let mut papers = self.papers();
        let result = f(&mut papers.book);
        let (events, answers) = (papers.book.take_events(), papers.answers(&self.ledger));
        drop(papers);
        for (reply, answer) in answers {
            // Whoever asked may be gone.
            _ = reply.send(answer);
        }
        for event in events {
            self.ledger.tell(event);
        }
        result
    }

    /// Everything that is completed is to be saved. The ledger is read under the lock, so that a queue that was forgotten
    /// does not come back.
    pub(super) fn want_marks(&self) -> Checkpoint {
        if self.mode == CommitMode::Manual {
            return Checkpoint::new();
        }
        self.with(|book| {
            let marks = self.ledger.marks();
            for mark in &marks {
                book.want(&mark.queue, mark.epoch, mark.low_mark);
            }
            marks.into_iter().map(|mark| (mark.queue, mark.low_mark)).collect()
        })
    }

    /// The broker has this position, and what is completed since the queue has begun anew is to be saved.
    pub(super) fn reset(&self, queue: &MessageQueue, to: Offset) {
        self.with(|book| {
            book.reset_at_broker(queue, to);
            self.write_mark(book, queue);
        });
    }

    /// As [`want_marks`](Self::want_marks), of one queue.
    pub(super) fn want_mark(&self, queue: &MessageQueue) {
        self.with(|book| self.write_mark(book, queue));
    }

    fn write_mark(&self, book: &mut Book, queue: &MessageQueue) {
        if self.mode != CommitMode::Manual
            && let Some(mark) = self.ledger.mark(queue)
        {
            book.want(queue, mark.epoch, mark.low_mark);
        }
    }

    /// These positions are to be saved, of the queues that are ours; returns those.
    pub(super) fn want_checkpoint(&self, checkpoint: &Checkpoint) -> Checkpoint {
        self.with(|book| {
            let marks = self.ledger.marks();
            let ours = marks.into_iter().filter_map(|mark| Some((checkpoint.get(&mark.queue)?, mark)));
            let wanted = ours.map(|(next, mark)| {
                book.want(&mark.queue, mark.epoch, next);
                (mark.queue, next)
            });
            wanted.collect()
        })
    }

    /// This position is to be saved before it is reached, if the queue may still be handed out.
    pub(super) fn want_before(&self, queue: &QueueLedger, next: Offset) -> Result<()> {
        self.with(|book| {
            if !queue.may_hand_out() {
                return Err(queue.revoked());
            }
            book.want(queue.queue(), queue.epoch(), next);
            Ok(())
        })
    }

    /// Answered when these positions are saved, cannot be, or their queue is not ours any more. What has failed before is
    /// tried again at once. The sender is gone when the desk is closed.
    pub(super) fn wait(
        &self,
        wanted: &Checkpoint,
        reach: Reach,
        if_replaced: IfReplaced,
    ) -> oneshot::Receiver<Result<()>> {
        let (reply, receiver) = oneshot::channel();
        let mut papers = self.papers();
        if !papers.is_closed {
            papers.book.hurry(wanted);
            let wanted = wanted.iter().map(|(queue, next)| (queue.clone(), next)).collect();
            papers.waiters.push(Waiter { wanted, reach, if_replaced, reply });
        }
        drop(papers);
        self.with(|_| ());
        self.work.notify_one();
        receiver
    }

    /// Fences these queues, and wants their last low marks saved; returns those.
    pub(super) fn fence(&self, queues: &[QueueLedger]) -> Checkpoint {
        // Woken after the lock was let go.
        let mut fenced = Vec::new();
        self.with(|book| {
            let mut last = Checkpoint::new();
            for queue in queues {
                let Some(now_fenced) = queue.fence() else { continue };
                if self.mode != CommitMode::Manual {
                    book.want(queue.queue(), queue.epoch(), now_fenced.low_mark);
                    last.set(queue.queue().clone(), now_fenced.low_mark);
                }
                fenced.push(now_fenced);
            }
            last
        })
    }

    /// Nothing of these queues is sent any more. At most once, what was not saved was not handed out: nobody misses it.
    pub(super) fn forget(&self, queues: &[QueueLedger]) {
        let mut fenced = Vec::new();
        self.with(|book| {
            for queue in queues {
                fenced.extend(queue.fence());
                if self.mode == CommitMode::AtMostOnce {
                    book.withdraw(queue.queue(), queue.epoch());
                }
                book.forget(queue.queue(), queue.epoch());
            }
        });
    }

    /// Nobody waits any more, and nobody will.
    pub(super) fn close(&self) {
        let mut papers = self.papers();
        papers.is_closed = true;
        let waiters = std::mem::take(&mut papers.waiters);
        drop(papers);
        drop(waiters);
        self.work.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.papers().is_closed
    }

    /// Until nobody is left who could complete anything.
    pub(super) async fn abandoned(&self) {
        while !self.ledger.is_over() {
            self.ledger.ended.notified().await;
        }
    }
}

impl Papers {
    /// The waiters that have their answer.
    fn answers(&mut self, ledger: &Shared) -> Vec<(oneshot::Sender<Result<()>>, Result<()>)> {
        let (book, mut answers) = (&self.book, Vec::new());
        let mut at = 0;
        while at < self.waiters.len() {
            match self.waiters[at].look(book, ledger) {
                None => at += 1,
                Some(answer) => answers.push((self.waiters.swap_remove(at).reply, answer)),
            }
        }
        answers
    }
}

impl Waiter {
    fn look(&mut self, book: &Book, ledger: &Shared) -> Option<Result<()>> {
        while let Some((queue, next)) = self.wanted.last() {
            match self.progress(book, queue, *next) {
                Progress::Saved => _ = self.wanted.pop(),
                Progress::Pending if self.reply.is_closed() => break,
                Progress::Pending => {
                    return book.failure(queue, self.reach).filter(|error| is_final(error)).cloned().map(Err);
                }
                Progress::NotWanted if ledger.mark(queue).is_none() => return Some(Err(not_ours(queue))),
                Progress::NotWanted | Progress::Replaced(_) => return Some(Err(set_elsewhere(queue))),
            }
        }
        Some(Ok(()))
    }

    fn progress(&self, book: &Book, queue: &MessageQueue, next: Offset) -> Progress {
        match book.progress(queue, next, self.reach) {
            Progress::Replaced(now) if self.if_replaced == IfReplaced::Follow => book.progress(queue, now, self.reach),
            progress => progress,
        }
    }
}
