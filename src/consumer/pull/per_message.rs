use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use pin_project::pin_project;

use crate::consumer::pull::{PullConsumer, PullControl, PulledMessage};
use crate::error::Result;
use crate::model::Checkpoint;

/// The messages of a [`PullConsumer`] one by one; made by [`PullConsumer::per_message`].
///
/// An item is a message with a completion of its own. Errors, end, dropping and cancel safety are those of the
/// [`PullConsumer`]. Messages that were not handed out when it is dropped or shut down, or when their queue is taken away, are
/// read by whoever gets the queue: nobody waits for them, and they are not reported.
#[pin_project]
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct PulledMessages {
    #[pin]
    consumer: PullConsumer,
}

impl PulledMessages {
    pub(crate) const fn new(consumer: PullConsumer) -> Self {
        Self { consumer }
    }

    /// As [`PullConsumer::control`].
    #[must_use]
    pub fn control(&self) -> PullControl {
        self.consumer.control()
    }

    /// For each queue the first offset that was not yet handed out, as a message.
    #[must_use]
    pub fn position(&self) -> Checkpoint {
        let mut position = self.consumer.position();
        if let Some((queue, next)) = self.consumer.tray().position() {
            position.set(queue, next);
        }
        position
    }
}

impl Stream for PulledMessages {
    type Item = Result<PulledMessage>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if let Some(message) = this.consumer.tray().next() {
                return Poll::Ready(Some(Ok(message)));
            }
            match ready!(this.consumer.as_mut().poll_next(cx)) {
                Some(Ok(batch)) => this.consumer.tray().put(batch.into_messages()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl FusedStream for PulledMessages {
    fn is_terminated(&self) -> bool {
        self.consumer.tray().is_empty() && self.consumer.is_terminated()
    }
}
