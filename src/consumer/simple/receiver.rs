use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::{Notify, oneshot};

use crate::clock;
use crate::consumer::simple::Delivery;
use crate::consumer::simple::control::ShutdownReport;
use crate::consumer::simple::intake::{Intake, settled_at};
use crate::consumer::simple::planner::{Begun, SourceKey};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::lease::{Arrival, LeaseStats, Renewal};
use crate::retry::{self, Backoff, Verdict};
use crate::transport::ReceiveFrame;

/// Receives when asked, for those who do not want a stream. Built by
/// [`SimpleConsumerBuilder::build_receiver`](crate::SimpleConsumerBuilder::build_receiver).
///
/// Each call asks one broker for one topic; calls take turns over all of them. Nothing is buffered, and leases are not
/// renewed: settle within the invisible duration, or [extend](crate::Receipt::extend) it.
pub struct SimpleReceiver {
    worker: Arc<Worker>,
}

/// What a call needs; it outlives the call, so that a cancelled one can give back what was on its way.
struct Worker {
    intake: Intake,
    turn: Mutex<usize>,
    calls: Mutex<Calls>,
    /// A call ended.
    ended: Notify,
}

/// The calls under way, also those whose caller has gone.
#[derive(Debug, Default)]
struct Calls {
    under_way: usize,
    /// Those whose messages are arriving.
    arriving: usize,
    /// When the youngest began.
    last_begun: Option<Instant>,
}

impl SimpleReceiver {
    pub(crate) fn new(intake: Intake) -> Self {
        let turn = Mutex::new(fastrand::usize(..1 << 16));
        Self { worker: Arc::new(Worker { intake, turn, calls: Mutex::default(), ended: Notify::new() }) }
    }

    /// Receives up to `max` messages (1 to 32 on Apache's servers), hidden from others for `invisible` (10 s to 12 h on
    /// Apache's). It waits up to the await duration for a first one. `Ok` of an empty vector is a normal answer.
    ///
    /// Cancelled, what the server answers is given back to it, without a delivery attempt where it honours that: nobody tells
    /// the broker that the caller has gone, and it may hand out messages to this call until the await duration is over.
    ///
    /// # Errors
    /// `InvalidArgument` for zero messages or a zero duration, or when the server refuses the values; what may pass is
    /// retried for the await duration first.
    pub async fn receive(&self, max: u32, invisible: Duration) -> Result<Vec<Delivery>> {
        if max == 0 {
            return Err(Error::argument("max", max, "must be at least 1"));
        }
        if invisible.is_zero() {
            return Err(Error::argument("invisible", "0 s", "must be longer than zero"));
        }
        let (answer, told) = oneshot::channel();
        let worker = Arc::clone(&self.worker);
        self.worker.intake.session.tasks().spawn("plain receive", worker.answer(max, invisible, answer));
        match told.await {
            Ok(outcome) => outcome.map(|mut arrived| std::mem::take(&mut arrived.0)),
            Err(_) => Err(Error::closed("receiver")),
        }
    }

    /// How the leases stand.
    #[must_use]
    pub fn stats(&self) -> LeaseStats {
        self.worker.intake.leases.stats()
    }

    /// Waits for the receipts that are held and for every settlement to be answered, and says goodbye; at most `deadline`.
    /// A cancelled call that has just begun is waited for, too: the server may be answering it.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let began = clock::now();
        clock::timeout(deadline, self.worker.answered()).await;
        self.worker.intake.end(deadline.saturating_sub(clock::now() - began)).await
    }
}

impl Worker {
    /// Receives for a call. When that is cancelled, an answer is still read, and given back: once the server has written it,
    /// nobody else gets these messages before their invisible duration is over.
    async fn answer(self: Arc<Self>, max: u32, invisible: Duration, mut answer: oneshot::Sender<Result<Unseen>>) {
        let gone = AtomicBool::new(false);
        let mut receiving = pin!(self.receive(max, invisible, &gone));
        let outcome = tokio::select! {
            biased;
            outcome = &mut receiving => outcome,
            () = answer.closed() => {
                gone.store(true, Ordering::Relaxed);
                receiving.await
            }
        };
        drop(answer.send(outcome)); // what nobody takes is given back by its drop
    }

    async fn receive(&self, max: u32, invisible: Duration, gone: &AtomicBool) -> Result<Unseen> {
        let until = clock::now() + self.intake.options.await_duration;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            let error = match self.receive_once(max, invisible).await {
                Ok(deliveries) => return Ok(deliveries),
                Err(error) => error,
            };
            let wait = backoff.next(fastrand::f64());
            let passing = retry::verdict(Operation::Receive, &error) == Verdict::Retry;
            if !passing || clock::now() + wait > until || gone.load(Ordering::Relaxed) {
                return Err(error);
            }
            clock::sleep(wait).await;
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until no answer is on its way: what is under way waits at the broker.
    async fn answered(&self) {
        let settled = settled_at(self.calls().last_begun, clock::now());
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            let (under_way, arriving) = {
                let calls = self.calls();
                (calls.under_way > 0, calls.arriving > 0)
            };
            if !under_way || (!arriving && settled <= clock::now()) {
                return;
            }
            tokio::select! {
                () = ended => {}
                () = clock::timer(settled), if !arriving => {}
            }
        }
    }

    async fn receive_once(&self, max: u32, invisible: Duration) -> Result<Unseen> {
        let Intake { session, wire, leases, options, .. } = &self.intake;
        let begun = Begun { source: self.next_source()?, max, at: clock::now(), arrived: 0 };
        let mut counted = Call::begin(self, begun.at);
        let (at, request) = self.intake.prepare(&begun, invisible, options.await_duration).await?;
        let call = wire.receive(&at, &request).await;
        let mut frames = call.inspect_err(|error| session.report(&at, error))?;
        let origin = leases.origin(&at, &begun.source.broker, &request.scope);
        let mut arrived = Unseen(Vec::new());
        let mut leased_at = None;
        while let Some(frame) = frames.next().await {
            let now = *leased_at.get_or_insert_with(clock::now);
            match frame {
                Ok(ReceiveFrame::Message { message, held }) => {
                    counted.arrives();
                    let arrival = Arrival { origin: &origin, at: now, renewal: Renewal::Off };
                    let one = std::iter::once((message, held));
                    self.intake.lease(&arrival, invisible, one, |delivery| arrived.0.push(delivery));
                }
                Ok(ReceiveFrame::Empty { text }) => tracing::trace!(topic = %begun.source.topic, text, "no message"),
                Ok(ReceiveFrame::DeliveryTimestamp(time)) => tracing::trace!(?time, "the server's clock"),
                Err(error) if arrived.0.is_empty() => {
                    session.report(&at, &error);
                    return Err(error);
                }
                Err(error) => {
                    // What came is good; the failure shows again at the next call.
                    session.report(&at, &error);
                    break;
                }
            }
        }
        Ok(arrived)
    }

    fn next_source(&self) -> Result<SourceKey> {
        let mut sources = self.intake.subscriptions.sources(&self.intake.session);
        if sources.is_empty() {
            return Err(Error::new(ErrorKind::Unavailable, "no broker serves a subscribed topic at the moment"));
        }
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *turn = turn.wrapping_add(1);
        let index = *turn % sources.len();
        Ok(sources.swap_remove(index))
    }
}

/// Counts one call.
struct Call<'a> {
    worker: &'a Worker,
    arrives: bool,
}

impl<'a> Call<'a> {
    fn begin(worker: &'a Worker, now: Instant) -> Self {
        let mut calls = worker.calls();
        calls.under_way += 1;
        calls.last_begun = Some(now);
        Self { worker, arrives: false }
    }

    fn arrives(&mut self) {
        if !self.arrives {
            self.arrives = true;
            self.worker.calls().arriving += 1;
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut calls = self.worker.calls();
        calls.under_way -= 1;
        calls.arriving -= usize::from(self.arrives);
        drop(calls);
        self.worker.ended.notify_waiters();
    }
}

/// Gives back what arrived when nobody takes it.
struct Unseen(Vec<Delivery>);

impl Drop for Unseen {
    fn drop(&mut self) {
        for delivery in self.0.drain(..) {
            delivery.release();
        }
    }
}

impl fmt::Debug for SimpleReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleReceiver")
            .field("group", &self.worker.intake.options.group)
            .field("leases", &self.stats())
            .finish()
    }
}
