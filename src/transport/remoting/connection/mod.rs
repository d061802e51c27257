//! One connection: many requests under way at once, told apart by their number (protocol.md E.1, E.2).
//!
//! A task of its own reads and writes. So a caller that goes away cancels nothing but its own waiting: what was begun is
//! written to its end, and an answer that nobody waits for any more is dropped. The first framing error is the end of the
//! connection, since there is no way to find the next frame, and all who wait are told that one cause.

mod flight;
mod task;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock;
use crate::error::{Error, ErrorKind, Operation, Result, millis};
use crate::model::Endpoint;
use crate::task::TaskGroup;
use crate::transport::dial::Dialer;
use crate::transport::remoting::command::{Command, Kind, code};
use crate::transport::remoting::frame::HeaderForm;

use flight::{Flight, Ticket};

/// So many commands may wait to be written. Whoever comes later waits for room, within the deadline of its call.
const OUTBOX: usize = 256;

/// A connection, or one that is being opened. The clones share it; it is closed when the last one is gone.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

/// What callers and the task share.
struct Shared {
    at: Endpoint,
    phase: watch::Sender<Phase>,
    flight: Mutex<Flight>,
    outbox: mpsc::Sender<Outgoing>,
    /// Who takes the requests of the other side.
    listener: Mutex<Option<mpsc::Sender<Inbound>>>,
}

#[derive(Debug, Clone)]
enum Phase {
    Dialing,
    Open,
    Broken(Error),
}

/// A frame to write.
struct Outgoing {
    head: BytesMut,
    body: Bytes,
}

/// A request of the other side.
pub(crate) struct Inbound {
    pub(crate) command: Command,
    outbox: mpsc::Sender<Outgoing>,
}

impl Connection {
    /// Returns at once: the task dials, and calls wait for it.
    pub(crate) fn open(tasks: &TaskGroup, dialer: Dialer) -> Self {
        let (outbox, queue) = mpsc::channel(OUTBOX);
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            at: dialer.endpoint.clone(),
            phase: watch::Sender::new(Phase::Dialing),
            flight: Mutex::default(),
            outbox,
            listener: Mutex::default(),
        });
        tasks.spawn("remoting connection", task::run(task::Lifeline(Arc::clone(&shared)), dialer, queue, stop.clone()));
        Self(Arc::new(Handle { shared, _stop: stop.drop_guard() }))
    }

    /// Waits until it is open.
    ///
    /// # Errors
    /// Why it could not be opened, or why it is lost.
    pub(crate) async fn opened(&self) -> Result<()> {
        if matches!(*self.0.shared.phase.borrow(), Phase::Open) {
            return Ok(()); // mostly
        }
        let mut phase = self.0.shared.phase.subscribe();
        let settled = phase.wait_for(|phase| !matches!(phase, Phase::Dialing)).await;
        match settled.as_deref() {
            Ok(Phase::Broken(cause)) => Err(cause.clone()),
            _ => Ok(()),
        }
    }

    /// Whether a call on it is bound to fail.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(*self.0.shared.phase.borrow(), Phase::Broken(_))
    }

    /// Sends a request and waits for its answer. `deadline` is for that alone: opening the connection has its own time.
    ///
    /// Cancel safe for the connection: a request that was begun is written to its end, and its answer is dropped.
    ///
    /// # Errors
    /// `Timeout`; or why the connection is lost, the same for all who wait.
    pub(crate) async fn call(&self, command: Command, deadline: Duration) -> Result<Command> {
        self.opened().await?;
        clock::timeout(deadline, self.exchange(command))
            .await
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Timeout, format!("no answer within {}", millis(deadline)))))
    }

    async fn exchange(&self, mut command: Command) -> Result<Command> {
        let shared = &*self.0.shared;
        let room = shared.outbox.reserve().await.map_err(|_| shared.cause())?;
        let (ticket, answer) = Ticket::take(shared)?;
        command.opaque = ticket.opaque();
        room.send(Outgoing::new(command)?);
        answer.await.map_err(|_| shared.cause())
    }

    /// Takes the requests of the other side from now on; who took them before gets no more. Ends with the connection.
    pub(crate) fn listen(&self) -> mpsc::Receiver<Inbound> {
        /// An administrator's request now and then, and a notice for each member that comes or goes.
        const UNSEEN: usize = 64;
        let (listener, requests) = mpsc::channel(UNSEEN);
        *self.0.shared.listener() = Some(listener);
        if self.is_broken() {
            self.0.shared.listener().take();
        }
        requests
    }

    /// Whether both are the same connection.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    #[cfg(test)]
    pub(crate) fn under_way(&self) -> usize {
        self.0.shared.flight().len()
    }

    /// Why it is lost, once it is.
    pub(crate) fn cause(&self) -> Error {
        self.0.shared.cause()
    }
}

impl Shared {
    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listener(&self) -> MutexGuard<'_, Option<mpsc::Sender<Inbound>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cause(&self) -> Error {
        match &*self.phase.borrow() {
            Phase::Broken(cause) => cause.clone(),
            _ => Error::closed("client"),
        }
    }

    /// The end. Only the first cause counts.
    fn poison(&self, cause: Error) {
        let is_first = self.phase.send_if_modified(|phase| match phase {
            Phase::Broken(_) => false,
            _ => {
                *phase = Phase::Broken(cause.at(&self.at));
                true
            }
        });
        if is_first {
            // After the phase: whoever wakes now reads the cause there.
            let waiting = self.flight().end();
            let listener = self.listener().take();
            drop((waiting, listener));
        }
    }

    /// Each side numbers its own requests: the kind comes first, then the number.
    fn dispatch(&self, command: Command) {
        match command.kind {
            Kind::Answer => match self.flight().leave(command.opaque) {
                Some(waiter) => drop(waiter.send(command)),
                None => tracing::trace!(endpoint = %self.at, opaque = command.opaque, "an answer that came too late"),
            },
            Kind::Request | Kind::OneWay => self.take_request(command),
        }
    }

    fn take_request(&self, command: Command) {
        let request = Inbound { command, outbox: self.outbox.clone() };
        let listener = self.listener().clone();
        let refused = match listener {
            None => Some((request, code::REQUEST_CODE_NOT_SUPPORTED, "this connection takes no requests")),
            Some(listener) => match listener.try_send(request) {
                Ok(()) => None,
                Err(mpsc::error::TrySendError::Full(request)) => {
                    Some((request, code::SYSTEM_BUSY, "too many requests"))
                }
                Err(mpsc::error::TrySendError::Closed(request)) => {
                    Some((request, code::REQUEST_CODE_NOT_SUPPORTED, "this client takes no requests any more"))
                }
            },
        };
        if let Some((request, code, why)) = refused {
            tracing::debug!(endpoint = %self.at, code = request.command.code, why, "a request of the server is refused");
            request.refuse(code, why);
        }
    }
}

impl Inbound {
    /// Answers, unless no answer is wanted.
    pub(crate) fn answer(self, answer: Command) {
        if self.command.kind != Kind::Request {
            return;
        }
        // Never waits: a server that does not read gets no answer.
        let sent = Outgoing::new(answer).map(|answer| self.outbox.try_send(answer).is_ok());
        if !sent.unwrap_or(false) {
            tracing::debug!(
                code = self.command.code,
                "a request of the server stays unanswered: too much is to be written"
            );
        }
    }

    pub(crate) fn refuse(self, code: i32, why: &str) {
        let refusal = self.command.refusal(code, why);
        self.answer(refusal);
    }
}

impl Outgoing {
    /// In JSON: some codes do not fit the other form, and servers read both.
    fn new(command: Command) -> Result<Self> {
        let mut head = BytesMut::with_capacity(512);
        command
            .encode_head(HeaderForm::Json, &mut head)
            .map_err(|error| Error::new(ErrorKind::TooLarge, error.to_string()).with_source(error))?;
        Ok(Self { head, body: command.body })
    }
}

/// Why there is no connection.
fn not_connected(kind: ErrorKind, text: String) -> Error {
    Error::new(kind, text).during(Operation::Connect)
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.0.shared;
        f.debug_struct("Connection").field("at", &shared.at).field("phase", &*shared.phase.borrow()).finish()
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").field("command", &self.command).finish_non_exhaustive()
    }
}
