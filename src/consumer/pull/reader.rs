//! Drives a planner: the pulls under way live here, so they end with it. One for the whole consumer, or one for each queue.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::{FuturesUnordered, Stream};

use crate::checkpoint::{CommitMode, QueueLedger};
use crate::clock;
use crate::consumer::pull::PullBatch;
use crate::consumer::pull::brokers::locate;
use crate::consumer::pull::desk::Place;
use crate::consumer::pull::events::PullEvent;
use crate::consumer::pull::mailbox::{Life, Mailbox};
use crate::consumer::pull::planner::{Cause, Fetch, Notice, Piece, Planner, Start, Step, Ticket};
use crate::consumer::pull::shared::Shared;
use crate::error::{Error, Result};
use crate::model::{Checkpoint, Epoch, MessageQueue, Offset};
use crate::transport::{PullRequest, Pulled};

type Pull = Abortable<BoxFuture<'static, (Ticket, Result<Pulled>)>>;
type Saving = BoxFuture<'static, (Piece, Result<()>)>;

/// Reads a set of queues.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    planner: Planner,
    queues: HashMap<MessageQueue, QueueLedger>,
    pulls: FuturesUnordered<Pull>,
    under_way: HashMap<Ticket, AbortHandle>,
    /// Queues of which too much is handed out and not completed.
    blocked: BTreeSet<MessageQueue>,
    /// At most once: a piece whose position is being saved before it is handed out.
    saving: Option<(MessageQueue, Saving)>,
    timer: Pin<Box<tokio::time::Sleep>>,
    /// It reads one queue, and ends with it.
    is_single: bool,
    is_done: bool,
    /// It ended with an error.
    has_failed: bool,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, mailbox: Arc<Mailbox>) -> Self {
        let planner = Planner::new(shared.options.planner);
        Self {
            mailbox,
            planner,
            queues: HashMap::new(),
            pulls: FuturesUnordered::new(),
            under_way: HashMap::new(),
            blocked: BTreeSet::new(),
            saving: None,
            timer: Box::pin(clock::timer(clock::now())),
            is_single: false,
            is_done: false,
            has_failed: false,
            shared,
        }
    }

    /// One that reads a single queue, and ends with it.
    pub(crate) fn single(shared: Arc<Shared>, mailbox: Arc<Mailbox>) -> Self {
        let mut reader = Self { is_single: true, ..Self::new(shared, mailbox) };
        reader.planner.set_bounded(reader.shared.options.stop.is_some(), false);
        reader
    }

    /// One that reads nothing.
    pub(crate) fn ended(shared: &Arc<Shared>) -> Self {
        Self { is_done: true, ..Self::new(Arc::clone(shared), Arc::default()) }
    }

    /// Its part of what may be buffered: one of `parts`.
    pub(crate) fn share_bounds(&mut self, parts: usize) {
        let options = self.shared.options.planner;
        self.planner.set_bounds((options.messages / parts.max(1)).max(1), options.bytes / parts.max(1));
    }

    pub(crate) const fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Stops reading; each queue with the place where another reader goes on, and whether it is paused.
    pub(crate) fn dissolve(mut self) -> Vec<(Start, QueueLedger, bool)> {
        let queues = std::mem::take(&mut self.queues).into_iter();
        let places = queues.filter_map(|(queue, ledger)| {
            let (start, paused) = self.planner.place_of(&queue)?;
            Some((start, ledger, paused))
        });
        places.collect()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether it has read all that it was to read: its queue is not for anybody else.
    pub(crate) fn is_complete(&self) -> bool {
        self.is_done && !self.has_failed
    }

    /// First offset of each queue that is not yet handed out. What was ordered since the last poll counts: nothing more is
    /// handed out before it is done.
    pub(crate) fn positions(&self) -> Checkpoint {
        let mut positions = self.planner.positions();
        self.look_ahead(|queue, place| match place {
            Some(at) => _ = positions.set(queue.clone(), at),
            None => _ = positions.remove(queue),
        });
        positions
    }

    pub(crate) fn position(&self, queue: &MessageQueue) -> Option<Offset> {
        let mut position = self.planner.position(queue);
        self.look_ahead(|its, place| {
            if its == queue {
                position = place;
            }
        });
        position
    }

    fn look_ahead(&self, mut see: impl FnMut(&MessageQueue, Option<Offset>)) {
        if self.is_done {
            return;
        }
        self.mailbox.look(|queue, life| match life {
            Life::Begin(start, ledger) if self.is_newer(ledger) => see(queue, Some(start.at)),
            Life::Begin(..) => {}
            Life::End => see(queue, None),
        });
    }

    /// The next batch; `None` when all is read, or the consumer was shut down. An error comes once.
    pub(crate) fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<PullBatch>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        if let Some(end) = self.take_mail(cx) {
            return self.finish(end);
        }
        if !self.is_single
            && let Poll::Ready(error) = self.shared.ledger.poll_trouble(cx)
        {
            return self.finish(Some(error));
        }
        loop {
            self.take_answers(cx);
            self.look_for_room(cx);
            if let Some(batch) = ready!(self.poll_saving(cx)) {
                return self.out(batch);
            }
            match self.planner.next(clock::now()) {
                Step::Fetch(fetch) => self.begin_pull(fetch),
                Step::Yield(piece) => {
                    if let Some(batch) = self.hand_out(piece, cx) {
                        return self.out(batch);
                    }
                }
                Step::Skip { queue, epoch, next } => self.skip(&queue, epoch, next),
                Step::Restart { queue, from, to, cause } => self.restart(&queue, from, to, cause),
                Step::Tell(notice) => self.shared.tell(event_of(notice)),
                Step::Fail(error) => return self.finish(Some(error)),
                Step::SendOff => {
                    self.take_answers(cx); // to begin with the pulls
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Step::Ended => return self.finish(None),
                Step::SleepUntil(at) => {
                    self.timer.as_mut().reset(at.into());
                    ready!(self.timer.as_mut().poll(cx));
                }
                Step::Wait => return Poll::Pending,
            }
        }
    }

    fn out(&mut self, batch: Result<PullBatch>) -> Poll<Option<Result<PullBatch>>> {
        self.has_failed |= batch.is_err();
        self.is_done |= batch.is_err();
        Poll::Ready(Some(batch))
    }

    fn finish(&mut self, error: Option<Error>) -> Poll<Option<Result<PullBatch>>> {
        self.is_done = true;
        self.has_failed |= error.is_some();
        self.pulls.clear();
        Poll::Ready(error.map(|error| Err(error.in_group(Arc::clone(&self.shared.group)))))
    }

    /// Does what was ordered from outside. `Some`: the end, with the error that is its reason.
    fn take_mail(&mut self, cx: &Context<'_>) -> Option<Option<Error>> {
        let mail = self.mailbox.take(cx, self.is_single);
        if mail.failed.is_some() || mail.is_closed {
            return Some(mail.failed);
        }
        if let Some(expects) = mail.expects_queues {
            self.planner.set_bounded(self.shared.options.stop.is_some(), expects);
        }
        for (queue, change) in mail.queues {
            match change.life {
                Some(Life::Begin(start, ledger)) if self.is_newer(&ledger) => {
                    self.blocked.remove(&queue);
                    self.forget_saving(&queue);
                    self.queues.insert(queue.clone(), ledger);
                    let given_up = self.planner.begin(*start);
                    self.give_up(given_up);
                }
                Some(Life::End) if self.is_single => return Some(None),
                Some(Life::End) => self.end(&queue),
                _ => {}
            }
            if let Some(paused) = change.paused {
                self.planner.set_paused(&queue, paused);
            }
        }
        None
    }

    /// A reset that this reader found itself may have overtaken what was ordered.
    fn is_newer(&self, ledger: &QueueLedger) -> bool {
        self.queues.get(ledger.queue()).is_none_or(|known| known.epoch() < ledger.epoch())
    }

    fn end(&mut self, queue: &MessageQueue) {
        self.queues.remove(queue);
        self.blocked.remove(queue);
        self.forget_saving(queue);
        let given_up = self.planner.end(queue);
        self.give_up(given_up);
    }

    /// A piece of a queue that ended or begins anew is handed out no more, so nobody waits until its position is saved.
    fn forget_saving(&mut self, queue: &MessageQueue) {
        self.saving.take_if(|(saved, _)| saved == queue);
    }

    fn give_up(&mut self, tickets: Vec<Ticket>) {
        let aborts = tickets.into_iter().filter_map(|ticket| self.under_way.remove(&ticket));
        aborts.for_each(|abort| abort.abort());
    }

    fn begin_pull(&mut self, fetch: Fetch) {
        let (abort, registration) = AbortHandle::new_pair();
        self.under_way.insert(fetch.ticket, abort);
        let pull = Box::pin(pull(Arc::clone(&self.shared), fetch));
        self.pulls.push(Abortable::new(pull, registration));
    }

    fn take_answers(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(answer)) = Pin::new(&mut self.pulls).poll_next(cx) {
            let Ok((ticket, result)) = answer else { continue }; // given up
            self.under_way.remove(&ticket);
            let (now, jitter) = (clock::now(), fastrand::f64());
            let queue = match result {
                Ok(pulled) => self.planner.on_pulled(ticket, pulled, now, jitter),
                Err(error) => {
                    tracing::debug!(%error, "a pull failed");
                    self.planner.on_failed(ticket, error, now, jitter)
                }
            };
            if let Some(queue) = queue {
                self.shared.ends.note(&queue, self.planner.bounds_of(&queue));
            }
        }
    }

    /// A queue of which enough was completed goes on.
    fn look_for_room(&mut self, cx: &mut Context<'_>) {
        let (limit, queues, planner) = (self.shared.options.max_open, &self.queues, &mut self.planner);
        self.blocked.retain(|queue| {
            // Half of it, so that a queue does not stop and go with each completion.
            let waits = queues.get(queue).is_some_and(|ledger| ledger.poll_room(cx, limit.div_ceil(2)).is_pending());
            if !waits {
                planner.set_blocked(queue, false);
            }
            waits
        });
    }

    fn poll_saving(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<PullBatch>>> {
        let Some((_, saving)) = &mut self.saving else { return Poll::Ready(None) };
        let (piece, saved) = ready!(saving.as_mut().poll(cx));
        self.saving = None;
        match saved {
            Ok(()) => Poll::Ready(self.batch_of(piece)),
            Err(error) if self.is_ours(&piece) => Poll::Ready(Some(Err(error))),
            Err(_) => Poll::Ready(None), // given up meanwhile: what becomes of it is its next owner's
        }
    }

    /// Whether a piece may still be handed out.
    fn is_ours(&self, piece: &Piece) -> bool {
        let ledger = self.queues.get(&piece.queue).filter(|ledger| ledger.epoch() == piece.epoch);
        ledger.is_some_and(QueueLedger::may_hand_out)
    }

    /// `None`: not now.
    fn hand_out(&mut self, piece: Piece, cx: &mut Context<'_>) -> Option<Result<PullBatch>> {
        if self.shared.options.mode == CommitMode::AtMostOnce {
            let (queue, ledger) = (piece.queue.clone(), self.queues.get(&piece.queue)?.clone());
            let committer = self.shared.committer.clone();
            let saving = async move {
                let saved = committer.commit_before(&ledger, piece.range.end).await;
                (piece, saved)
            };
            self.saving = Some((queue, Box::pin(saving)));
            return None;
        }
        let batch = self.batch_of(piece)?;
        if let Ok(batch) = &batch {
            self.watch_window(batch.queue().clone(), cx);
        }
        Some(batch)
    }

    /// `None`: the queue was given up meanwhile, so its messages are for somebody else.
    fn batch_of(&self, piece: Piece) -> Option<Result<PullBatch>> {
        let ledger = self.queues.get(&piece.queue).filter(|ledger| ledger.epoch() == piece.epoch)?;
        let ends = piece.messages.iter().filter_map(|message| message.queue_offset()).map(after);
        let handed_out = match self.shared.options.mode {
            CommitMode::AtMostOnce => ledger.hand_out_completed(ends, clock::now()),
            _ => ledger.hand_out(ends, clock::now()),
        };
        let completion = match handed_out {
            Ok(completion) => completion,
            Err(error) if error.kind() == crate::error::ErrorKind::Closed => return None,
            Err(error) => return Some(Err(error)),
        };
        ledger.skip_to(piece.range.end);
        Some(Ok(PullBatch::new(piece.queue, piece.messages, piece.range, piece.epoch, completion)))
    }

    fn watch_window(&mut self, queue: MessageQueue, cx: &mut Context<'_>) {
        let Some(ledger) = self.queues.get(&queue) else { return };
        if ledger.poll_room(cx, self.shared.options.max_open).is_pending() {
            let blocked_by = ledger.standing().low_mark;
            self.shared.tell(PullEvent::Stalled { queue: queue.clone(), blocked_by });
            self.planner.set_blocked(&queue, true);
            self.blocked.insert(queue);
        }
    }

    fn skip(&self, queue: &MessageQueue, epoch: Epoch, next: Offset) {
        if let Some(ledger) = self.queues.get(queue).filter(|ledger| ledger.epoch() == epoch) {
            ledger.skip_to(next);
        }
    }

    /// The new epoch comes back by the mailbox, as any other.
    fn restart(&mut self, queue: &MessageQueue, from: Offset, to: Offset, cause: Cause) {
        let (name, moved) = (queue.clone(), self.shared.desk.move_to(queue, Place::at(to)));
        match (moved, cause) {
            (Ok(()), Cause::Reset) => {
                // Once it has begun anew, so that nothing of before is wanted any more.
                self.shared.committer.reset(queue, to);
                self.shared.tell(PullEvent::Reset { queue: name, from, to });
            }
            (Ok(()), Cause::BeyondEnd) => {
                self.shared.committer.save_start(queue);
                self.shared.tell(PullEvent::Gap { queue: name, at: from, to });
            }
            (Err(error), _) => tracing::debug!(%error, "a queue was given up while it was reset"),
        }
    }
}

fn after(offset: Offset) -> Offset {
    Offset::new(offset.get().saturating_add(1))
}

fn event_of(notice: Notice) -> PullEvent {
    match notice {
        Notice::Gap { queue, at, to } => PullEvent::Gap { queue, at, to },
        Notice::JumpRefused { queue, at, offered } => PullEvent::JumpRefused { queue, at, offered },
    }
}

async fn pull(shared: Arc<Shared>, fetch: Fetch) -> (Ticket, Result<Pulled>) {
    let ticket = fetch.ticket;
    (ticket, ask(&shared, fetch).await)
}

async fn ask(shared: &Shared, fetch: Fetch) -> Result<Pulled> {
    let at = locate(&*shared.brokers, &fetch.queue, fetch.replica).await?;
    let request = PullRequest {
        group: Arc::clone(&shared.group),
        queue: fetch.queue,
        offset: fetch.offset,
        filter: fetch.filter,
        max_messages: fetch.max_messages,
        suspend: fetch.suspend,
    };
    let pulled = shared.brokers.wire().pull(&at, &request).await;
    pulled.inspect_err(|error| shared.brokers.report(&at, error))
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (messages, bytes) = self.planner.held();
        f.debug_struct("Reader")
            .field("queues", &self.queues.len())
            .field("pulls", &self.pulls.len())
            .field("buffered_messages", &messages)
            .field("buffered_bytes", &bytes)
            .finish()
    }
}
