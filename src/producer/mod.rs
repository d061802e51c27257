//! Sending.
//!
//! [`Producer::send`], [`ProducerSink`] and [`SendWith`] check a message, wait for [room] and hand it over to the
//! [accumulator's task](task). From then on it belongs to the task: dropping the sink or the future cancels nothing. The task
//! makes [attempts](attempt), each to an endpoint that the [router] picks, until the message is answered or
//! [given up](failure).

mod accumulator;
mod attempt;
mod builder;
mod courier;
mod failure;
mod flushes;
mod mailbox;
mod message_id;
mod parcel;
mod receipt;
mod report;
mod room;
mod router;
mod send_with;
mod sink;
mod task;
#[cfg(test)]
mod tests;
mod trouble;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

pub use builder::ProducerBuilder;
pub use receipt::SendReceipt;
pub use report::ProducerReport;
pub use send_with::{SendStreamExt, SendWith};
pub use sink::ProducerSink;

use crate::clock;
use crate::error::{Error, Operation, Result, SendError};
use crate::model::{Limits, OutboundMessage};
use crate::producer::accumulator::Patience;
use crate::producer::attempt::Way;
use crate::producer::mailbox::{Command, Mailbox};
use crate::producer::parcel::{Outcome, Parcel, Reply};
use crate::producer::room::{NoRoom, Place, Room};
use crate::producer::task::AccumulatorTask;
use crate::session::HealthWatch;
use crate::task::TaskGroup;
use crate::transport::Stamped;

/// Sends messages. Cheap to clone; the clones share one client identity and its bounds.
///
/// A message that was accepted belongs to the producer: dropping the future, sink or stream it was given to cancels nothing.
/// When the last clone and the last of its sinks and streams are dropped, what was accepted is still sent in the background,
/// as long as the runtime lives. A program that ends should call [`shutdown`](Self::shutdown) or [`flush`](Self::flush).
///
/// # Repeated sends
/// A send that fails is repeated with the same message id when that can help; consumers can recognise a copy by it. An attempt
/// after which the message may have been stored (no answer came, or the server failed inside) counts against
/// [`max_attempts`](ProducerBuilder::max_attempts). While a part of the cluster is away or asks for less traffic, a message is
/// kept and tried again until its [`send_timeout`](ProducerBuilder::send_timeout). Messages of one message group are sent one
/// after the other, each when the one before is answered, so repeats do not change their order; after one that failed for
/// good, the next one is sent.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

/// The longest time that makes sense, and that is far from overflowing a clock.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What a producer is started with.
#[derive(Debug, Clone)]
pub(crate) struct ProducerConfig {
    pub(crate) max_in_flight: usize,
    pub(crate) max_in_flight_bytes: u32,
    pub(crate) patience: Patience,
    pub(crate) limits: Limits,
    pub(crate) born_host: Arc<str>,
}

impl Producer {
    /// Starts the accumulator's task. The courier says goodbye when all is over.
    pub(crate) fn start(way: Arc<Way>, config: ProducerConfig) -> Self {
        let mailbox = Arc::new(Mailbox::default());
        let task = AccumulatorTask::new(Arc::clone(&way), Arc::clone(&mailbox), config.patience, config.max_in_flight);
        // It is not cancelled with the group: it outlives the producer until everything is sent.
        TaskGroup::new().spawn_to_end("producer accumulator", task.run());
        let ProducerConfig { max_in_flight, max_in_flight_bytes, limits, born_host, .. } = config;
        let room = Room::new(max_in_flight, max_in_flight_bytes);
        Self { inner: Arc::new(Inner { way, mailbox, room, limits, born_host }) }
    }

    /// Sends a message and waits for the broker's answer.
    ///
    /// Waits for room first when [`max_in_flight`](ProducerBuilder::max_in_flight) messages are unanswered. Dropping the future
    /// before the message was accepted (while it waits for room) sends nothing; dropping it later does not cancel the send, it
    /// only gives up the answer. Messages of one message group are sent in the order in which they were accepted.
    ///
    /// # Errors
    /// [`SendError`] gives the message back and says whether the server
    /// [may have stored it](SendError::may_have_been_stored). Without asking the server: `InvalidArgument` for a field that
    /// breaks a rule, `TooLarge`, `Precondition` when the topic does not take this type of message, `Closed` after
    /// [`shutdown`](Self::shutdown). From the server: `NotFound` when the topic does not exist, `Timeout`, `Unavailable`,
    /// `Throttled` and `Server` after the repeats described at [`Producer`], and what else it answers.
    pub async fn send(&self, message: OutboundMessage) -> Result<SendReceipt, SendError> {
        if let Err(error) = self.inner.check(&message) {
            return Err(SendError::new(message, error));
        }
        let Some(place) = self.inner.room.enter(message.weight()).await else {
            return Err(SendError::new(message, closed()));
        };
        answer_of(self.inner.hand_over(message, place).await)
    }

    /// A [`Sink`](futures_sink::Sink) of messages. Several may be open at once.
    pub fn sink(&self) -> ProducerSink {
        ProducerSink::new(Arc::clone(&self.inner))
    }

    /// Waits until every message accepted so far, by whichever sink or send, is answered.
    ///
    /// Cancel safe: dropping the future cancels no message.
    ///
    /// # Errors
    /// The first failure among those messages; its text names the message. Failures that nobody was told of (of a dropped sink
    /// or future) since the last flush are told too, with [their messages](Error::into_unsent). `Closed` after a shutdown
    /// that left messages unanswered.
    pub async fn flush(&self) -> Result<()> {
        let (waiter, flushed) = oneshot::channel();
        if self.inner.mailbox.push(Command::Flush(waiter)).is_err() {
            // After a shutdown nothing is accepted: there is nothing to wait for.
            return Ok(());
        }
        flushed.await.unwrap_or_else(|_| Err(closed()))
    }

    /// How well this producer is connected, as a watch.
    #[must_use]
    pub fn health(&self) -> HealthWatch {
        self.inner.way.courier.health()
    }

    /// Accepts nothing more, waits at most `deadline` (and at most a day) until everything accepted is answered, and says goodbye to the servers.
    ///
    /// Ends all clones. What is unanswered at the deadline is answered with `Closed`. Calling it again does no harm. Dropping
    /// the future does not stop the shutdown.
    pub async fn shutdown(&self, deadline: Duration) -> ProducerReport {
        self.inner.room.close();
        let (report, ended) = oneshot::channel();
        drop(self.inner.mailbox.push(Command::Shutdown(clock::now() + deadline.min(LONGEST), report)));
        // No report: an earlier shutdown has told everything.
        ended.await.unwrap_or_default()
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("room", &self.inner.room).finish_non_exhaustive()
    }
}

/// What producers, sinks and streams share. The task ends some time after the last of them is dropped.
pub(crate) struct Inner {
    way: Arc<Way>,
    mailbox: Arc<Mailbox>,
    room: Room,
    limits: Limits,
    born_host: Arc<str>,
}

impl Inner {
    /// The rules that can be checked without the route.
    fn check(&self, message: &OutboundMessage) -> Result<()> {
        let announced = self.way.courier.settings().max_body_size;
        let checked = match announced {
            Some(max) => message.check(&self.limits.clone().max_body_size(max)),
            None => message.check(&self.limits),
        };
        checked.map_err(|error| error.during(Operation::Send).on_topic(message.shared_topic()))
    }

    /// Accepts a message. The answer comes in any case.
    fn hand_over(&self, message: OutboundMessage, place: Place) -> oneshot::Receiver<Outcome> {
        let (sender, answer) = oneshot::channel();
        self.accept(message, place, Reply::Caller(sender));
        answer
    }

    fn accept(&self, message: OutboundMessage, place: Place, reply: Reply) {
        let born = clock::wall();
        let stamped = Stamped {
            message,
            id: message_id::next(born),
            born,
            born_host: Arc::clone(&self.born_host),
            transactional: false,
        };
        let parcel = Parcel::new(stamped, reply, place);
        // When the task has ended, the parcel is dropped, and tells its sender so.
        drop(self.mailbox.push(Command::Accept(Box::new(parcel))));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.mailbox.finish();
    }
}

fn closed() -> Error {
    Error::closed("producer").during(Operation::Send)
}

fn answer_of(answer: Result<Outcome, oneshot::error::RecvError>) -> Outcome {
    answer.expect("a parcel tells its sender what became of it, even when it is dropped")
}

/// A panic elsewhere does not make this data wrong: every critical section is a few assignments.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
