use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use crate::checkpoint::QueueLedger;
use crate::consumer::pull::mailbox::{Change, Life, Mailbox};
use crate::consumer::pull::planner::Start;
use crate::consumer::pull::reader::Reader;
use crate::consumer::pull::shared::Shared;
use crate::consumer::pull::{PullBatch, PullControl};
use crate::error::Result;
use crate::model::{MessageQueue, Offset};

/// A stream of [`QueueStream`]s; made by [`PullConsumer::per_queue`](crate::PullConsumer::per_queue).
///
/// * An item is the stream of one queue: of those held now, and of each that is gained later. Spawn a task for it, or merge
///   them again. **Keep polling this stream**: queues that nobody takes from it are read by nobody.
/// * A queue stream that is dropped before its end, or after an error, gives its queue back: it comes out here again, from
///   the first message that was not completed, or from where it was set meanwhile. The others are not disturbed.
/// * An error item concerns the whole consumer; it comes once, and then the stream ends.
/// * It ends after a shutdown, and a bounded one when all its queues have come out.
/// * Dropping it leaves the queue streams as they are; with the last of them the consumer ends.
/// * `next()` is cancel safe.
#[must_use = "streams do nothing unless polled"]
pub struct QueueStreams {
    family: Option<Arc<Family>>,
    mailbox: Arc<Mailbox>,
    control: PullControl,
    waiting: VecDeque<Waiting>,
    children: HashMap<MessageQueue, Weak<Mailbox>>,
    expects_queues: bool,
    ended: bool,
}

/// A queue that waits to come out.
struct Waiting {
    start: Start,
    ledger: QueueLedger,
    paused: bool,
}

/// Held by the streams of one consumer: with the last of them it ends.
struct Family {
    shared: Arc<Shared>,
    alive: AtomicUsize,
}

impl Drop for Family {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl QueueStreams {
    pub(crate) fn new(reader: Reader, control: PullControl) -> Self {
        let shared = Arc::clone(reader.shared());
        let (mailbox, ended) = (Arc::clone(reader.mailbox()), reader.is_done());
        let waiting = reader.dissolve().into_iter().map(|(start, ledger, paused)| Waiting { start, ledger, paused });
        let waiting = waiting.collect();
        let family = Some(Arc::new(Family { shared, alive: AtomicUsize::new(0) }));
        Self { family, mailbox, control, waiting, children: HashMap::new(), expects_queues: true, ended }
    }

    /// As [`PullConsumer::control`](crate::PullConsumer::control).
    #[must_use]
    pub fn control(&self) -> PullControl {
        self.control.clone()
    }

    fn take_mail(&mut self, cx: &Context<'_>) -> Option<Poll<Option<Result<QueueStream>>>> {
        let mail = self.mailbox.take(cx, false);
        if mail.failed.is_some() || mail.is_closed {
            self.ended = true;
            return Some(Poll::Ready(mail.failed.map(Err)));
        }
        self.expects_queues = mail.expects_queues.unwrap_or(self.expects_queues);
        for (queue, change) in mail.queues {
            self.change(&queue, change);
        }
        None
    }

    fn change(&mut self, queue: &MessageQueue, change: Change) {
        let Some(life) = change.life else {
            let waiting = self.waiting.iter_mut().find(|waiting| waiting.start.queue == *queue);
            return waiting.into_iter().for_each(|waiting| waiting.paused = change.paused.unwrap_or(waiting.paused));
        };
        self.waiting.retain(|waiting| waiting.start.queue != *queue);
        if let Life::Begin(start, ledger) = life {
            self.waiting.push_back(Waiting { start: *start, ledger, paused: change.paused.unwrap_or(false) });
        }
    }

    /// A stream for a queue; `None` when one of its own goes on with it, or it is not ours any more.
    fn grow(&mut self, family: &Arc<Family>, waiting: Waiting) -> Option<QueueStream> {
        let Waiting { start, ledger, paused } = waiting;
        let shared = &family.shared;
        let queue = start.queue.clone();
        let child = self.children.get(&queue).and_then(Weak::upgrade);
        if child.is_some_and(|child| shared.desk.hand_over(&child, start.clone(), ledger.clone(), paused)) {
            return None;
        }
        let (mailbox, position) = (Arc::new(Mailbox::default()), start.at);
        if !shared.desk.hand_over(&mailbox, start, ledger, paused) {
            return None;
        }
        self.children.retain(|_, child| child.strong_count() > 0);
        self.children.insert(queue.clone(), Arc::downgrade(&mailbox));
        family.alive.fetch_add(1, Ordering::Relaxed);
        let reader = Reader::single(Arc::clone(shared), mailbox);
        Some(QueueStream { queue, position, reader, family: Arc::clone(family) })
    }
}

impl Stream for QueueStreams {
    type Item = Result<QueueStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(family) = this.family.clone().filter(|_| !this.ended) else { return Poll::Ready(None) };
        if let Some(end) = this.take_mail(cx) {
            return end;
        }
        if let Poll::Ready(error) = family.shared.ledger.poll_trouble(cx) {
            this.ended = true;
            return Poll::Ready(Some(Err(error)));
        }
        while let Some(waiting) = this.waiting.pop_front() {
            if let Some(stream) = this.grow(&family, waiting) {
                return Poll::Ready(Some(Ok(stream)));
            }
        }
        if family.shared.options.stop.is_some() && !this.expects_queues {
            this.ended = true;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

impl FusedStream for QueueStreams {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl fmt::Debug for QueueStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueStreams")
            .field("waiting", &self.waiting.len())
            .field("streams", &self.children.len())
            .finish_non_exhaustive()
    }
}

/// The batches of one queue; comes from [`QueueStreams`].
///
/// It pulls for itself, at the pace it is polled, and bounds what it pulls ahead by its share of the consumer's bounds. It
/// ends when the queue is taken away, at a shutdown, and a bounded one at its end. An error item concerns this queue; it
/// comes once, and then the stream ends. Dropping it then, or earlier, gives the queue back: see [`QueueStreams`]. What made
/// it fail is still there: mend it first, for example by a [`seek`](crate::PullControl::seek), or keep the stream until it
/// is mended. `next()` is cancel safe.
#[must_use = "streams do nothing unless polled"]
pub struct QueueStream {
    queue: MessageQueue,
    position: Offset,
    reader: Reader,
    family: Arc<Family>,
}

impl QueueStream {
    /// The queue.
    #[must_use]
    pub fn queue(&self) -> &MessageQueue {
        &self.queue
    }

    /// The first offset that was not yet handed out.
    #[must_use]
    pub fn position(&self) -> Offset {
        self.reader.position(&self.queue).unwrap_or(self.position)
    }
}

impl Stream for QueueStream {
    type Item = Result<PullBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let parts = self.family.alive.load(Ordering::Relaxed);
        self.position = self.position();
        self.reader.share_bounds(parts);
        self.reader.poll_batch(cx)
    }
}

impl FusedStream for QueueStream {
    fn is_terminated(&self) -> bool {
        self.reader.is_done()
    }
}

impl Drop for QueueStream {
    fn drop(&mut self) {
        self.family.alive.fetch_sub(1, Ordering::Relaxed);
        // First, so that nothing is handed to it any more.
        self.reader.mailbox().retire();
        if !self.reader.is_complete() {
            self.family.shared.desk.give_back(&self.queue, self.reader.mailbox());
        }
    }
}

impl fmt::Debug for QueueStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueStream")
            .field("queue", &format_args!("{}", self.queue))
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
