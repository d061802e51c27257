use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use tokio_util::sync::ReusableBoxFuture;

use crate::error::{Error, Result};
use crate::model::OutboundMessage;
use crate::producer::mailbox::Command;
use crate::producer::parcel::{Reply, Tally};
use crate::producer::{Inner, NoRoom, Place, closed};

/// A [`Sink`] of messages, from [`Producer::sink`](crate::Producer::sink).
///
/// - It is ready when the producer has room. A message that it accepted belongs to the producer: dropping the sink, as `forward`
///   does after an error, cancels nothing.
/// - Flushing waits until the broker has answered for every message that **this** sink accepted. Closing is flushing.
/// - An error carries the messages that were not sent: [`Error::into_unsent`] gives them back. The other messages are not
///   affected, and the sink can be used further. Failures are told by the next `poll_ready`, or by the flush when all is
///   answered; what a dropped sink has not told is told by [`Producer::flush`](crate::Producer::flush).
/// - The bound on bytes is kept with one exception: a sink is ready before it knows the next message, so each sink may be over
///   the bound by one message.
#[must_use = "a sink sends nothing unless messages are put into it"]
pub struct ProducerSink {
    inner: Arc<Inner>,
    tally: Arc<Tally>,
    /// Room for the next message.
    place: Option<Place>,
    entering: Option<ReusableBoxFuture<'static, Option<Place>>>,
    /// Bytes of the last message for which there was no room: the next message waits for them.
    owed: usize,
    closed: bool,
}

impl ProducerSink {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, tally: Arc::default(), place: None, entering: None, owed: 0, closed: false }
    }

    fn poll_enter(&mut self, cx: &mut Context<'_>) -> Poll<Result<Place>> {
        if self.entering.is_none() {
            match self.inner.room.try_enter(self.owed) {
                Ok(place) => return Poll::Ready(Ok(place)),
                Err(NoRoom::Closed) => return Poll::Ready(Err(closed())),
                Err(NoRoom::Full) => {}
            }
        }
        let (inner, owed) = (&self.inner, self.owed);
        let entering = self.entering.get_or_insert_with(|| {
            let inner = Arc::clone(inner);
            ReusableBoxFuture::new(async move { inner.room.enter(owed).await })
        });
        let place = ready!(entering.poll(cx));
        self.entering = None;
        Poll::Ready(place.ok_or_else(closed))
    }

    fn refuse(message: OutboundMessage, error: Error) -> Result<()> {
        Err(error.with_unsent(vec![message]))
    }
}

impl Sink<OutboundMessage> for ProducerSink {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.tally.check()?;
        if self.closed {
            return Poll::Ready(Err(closed()));
        }
        if self.place.is_none() {
            self.place = Some(ready!(self.poll_enter(cx))?);
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: OutboundMessage) -> Result<()> {
        if self.closed {
            return Self::refuse(message, closed());
        }
        if let Err(error) = self.inner.check(&message) {
            return Self::refuse(message, error);
        }
        let Some(mut place) = self.place.take() else {
            let rule = "poll_ready must be ready before each start_send";
            return Self::refuse(message, Error::argument("start_send", "message", rule));
        };
        let weight = message.weight();
        self.owed = if self.inner.room.try_add(&mut place, weight) { 0 } else { weight };
        self.tally.on_accepted();
        self.inner.accept(message, place, Reply::Sink(Arc::clone(&self.tally)));
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.tally.poll_answered(cx));
        Poll::Ready(self.tally.check())
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.closed = true;
        // A closed sink needs no room.
        (self.place, self.entering) = (None, None);
        self.poll_flush(cx)
    }
}

impl Drop for ProducerSink {
    fn drop(&mut self) {
        let failed = self.tally.abandon();
        if !failed.is_empty() {
            // When the task has ended, nobody is left who could ask.
            drop(self.inner.mailbox.push(Command::Untold(failed)));
        }
    }
}

impl fmt::Debug for ProducerSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerSink")
            .field("unanswered", &self.tally.unanswered())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
