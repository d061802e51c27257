//! An accepted message, with whom to tell what became of it.

use std::mem;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Operation, SendError};
use crate::model::OutboundMessage;
use crate::producer::lock;
use crate::producer::receipt::SendReceipt;
use crate::producer::room::Place;
use crate::transport::Stamped;

/// What became of a message.
pub(crate) type Outcome = Result<SendReceipt, SendError>;

/// An accepted message. It is answered exactly once, whatever happens: dropping it says that the producer is gone.
#[derive(Debug)]
pub(crate) struct Parcel {
    stamped: Stamped,
    reply: Option<Reply>,
    /// Some attempt so far may have stored it; set while one is under way.
    pub(crate) may_be_stored: bool,
    /// Given back when this is dropped.
    _place: Place,
}

/// Whom to tell.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Whoever awaits this one message.
    Caller(oneshot::Sender<Outcome>),
    /// The sink that accepted it.
    Sink(Arc<Tally>),
}

impl Parcel {
    pub(crate) fn new(stamped: Stamped, reply: Reply, place: Place) -> Self {
        Self { stamped, reply: Some(reply), may_be_stored: false, _place: place }
    }

    pub(crate) fn stamped(&self) -> &Stamped {
        &self.stamped
    }

    pub(crate) fn message(&self) -> &OutboundMessage {
        &self.stamped.message
    }

    /// Which message it is, for an error's text.
    pub(crate) fn name(&self) -> String {
        match self.message().get_keys() {
            [] => format!("message {}", self.stamped.id),
            keys => format!("message {} (key {})", self.stamped.id, keys.join(" ")),
        }
    }

    pub(crate) fn delivered(mut self, receipt: SendReceipt) {
        if let Some(reply) = self.reply.take() {
            // A caller who has gone away does not need good news.
            drop(reply.tell(Ok(receipt)));
        }
    }

    /// Gives the message back to who sent it; to the caller of this, when nobody is left to be told.
    pub(crate) fn failed(mut self, error: Error) -> Option<SendError> {
        self.fail(error)
    }

    fn fail(&mut self, error: Error) -> Option<SendError> {
        let reply = self.reply.take()?;
        let message = mem::replace(&mut self.stamped.message, OutboundMessage::new("", ""));
        let failed = SendError::new(message, error).stored(self.may_be_stored);
        reply.tell(Err(failed)).and_then(Result::err)
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if self.reply.is_some() {
            let text = format!("{}: the producer ended before the broker answered", self.name());
            let topic = self.message().shared_topic();
            // Nobody is left who could be told that nobody was told.
            drop(self.fail(Error::new(ErrorKind::Closed, text).during(Operation::Send).on_topic(topic)));
        }
    }
}

impl Reply {
    /// Gives the outcome back when nobody is left to be told.
    fn tell(self, outcome: Outcome) -> Option<Outcome> {
        match self {
            Self::Caller(sender) => sender.send(outcome).err(),
            Self::Sink(tally) => tally.on_answer(outcome),
        }
    }
}

/// What a sink has accepted and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<TallyState>);

#[derive(Debug, Default)]
struct TallyState {
    unanswered: usize,
    /// Bounded: a sink that has failures does not accept messages before it has told them.
    failed: Vec<SendError>,
    waker: Option<Waker>,
    /// The sink was dropped.
    abandoned: bool,
}

impl Tally {
    pub(crate) fn on_accepted(&self) {
        lock(&self.0).unanswered += 1;
    }

    fn on_answer(&self, outcome: Outcome) -> Option<Outcome> {
        let mut state = lock(&self.0);
        state.unanswered -= 1;
        if state.unanswered == 0
            && let Some(waker) = state.waker.take()
        {
            waker.wake();
        }
        match outcome {
            Err(failed) if state.abandoned => Some(Err(failed)),
            Err(failed) => {
                state.failed.push(failed);
                None
            }
            Ok(_) => None,
        }
    }

    /// What failed so far, as one error that carries all the messages.
    pub(crate) fn check(&self) -> Result<(), Error> {
        into_one(mem::take(&mut lock(&self.0).failed)).map_or(Ok(()), Err)
    }

    /// Ready when everything is answered.
    pub(crate) fn poll_answered(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0);
        if state.unanswered == 0 {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(crate) fn unanswered(&self) -> usize {
        lock(&self.0).unanswered
    }

    /// The sink goes. What failed and was not told is given back.
    pub(crate) fn abandon(&self) -> Vec<SendError> {
        let mut state = lock(&self.0);
        state.abandoned = true;
        mem::take(&mut state.failed)
    }
}

/// The first error, with all the messages.
pub(crate) fn into_one(failed: Vec<SendError>) -> Option<Error> {
    let mut first = None;
    let mut unsent = Vec::with_capacity(failed.len());
    for (message, error) in failed.into_iter().map(SendError::into_parts) {
        unsent.push(message);
        first.get_or_insert(error);
    }
    first.map(|error| error.with_unsent(unsent))
}
