use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};
use pin_project::pin_project;

use crate::consumer::pull::batch::BatchMessages;
use crate::consumer::pull::{PullConsumer, PullControl, PulledMessage};
use crate::error::Result;
use crate::model::Checkpoint;

/// The messages of a [`PullConsumer`] one by one; made by [`PullConsumer::per_message`].
///
/// An item is a message with a completion of its own. Errors, end, dropping and cancel safety are those of the
/// [`PullConsumer`]. Messages that were not handed out when it is dropped are read again by whoever gets the queue.
#[pin_project]
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct PulledMessages {
    #[pin]
    consumer: PullConsumer,
    /// What is left of the last batch.
    batch: Option<BatchMessages>,
    /// How often the desk had begun or lost a queue when that was looked at last.
    moves: u64,
}

impl PulledMessages {
    pub(crate) fn new(consumer: PullConsumer) -> Self {
        Self { consumer, batch: None, moves: 0 }
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
        let batch = self.batch.as_ref().filter(|batch| self.consumer.is_current(batch));
        if let Some((queue, next)) = batch.and_then(BatchMessages::rest) {
            position.set(queue, next);
        }
        position
    }
}

impl Stream for PulledMessages {
    type Item = Result<PulledMessage>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let moves = this.consumer.moves();
        if std::mem::replace(this.moves, moves) != moves {
            // Its queue was set elsewhere, or is somebody else's: what is left of before is not wanted (trap P6).
            this.batch.take_if(|batch| !this.consumer.is_current(batch));
        }
        loop {
            if let Some(message) = this.batch.as_mut().and_then(Iterator::next) {
                return Poll::Ready(Some(Ok(message)));
            }
            *this.batch = None;
            match ready!(this.consumer.as_mut().poll_next(cx)) {
                Some(Ok(batch)) => *this.batch = Some(batch.into_messages()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl FusedStream for PulledMessages {
    fn is_terminated(&self) -> bool {
        self.batch.is_none() && self.consumer.is_terminated()
    }
}
