use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use pin_project::{pin_project, pinned_drop};

use crate::consumer::pull::PullBatch;
use crate::consumer::pull::control::PullControl;
use crate::consumer::pull::per_message::PulledMessages;
use crate::consumer::pull::per_queue::QueueStreams;
use crate::consumer::pull::reader::Reader;
use crate::consumer::pull::tray::Tray;
use crate::error::Result;
use crate::model::Checkpoint;

/// A stream of [`PullBatch`]es: messages of one queue each, in the order of their offsets. Built by
/// [`Client::pull_consumer`](crate::Client::pull_consumer).
///
/// * An item stands for a contiguous range of offsets of one queue. Complete it: what is committed for a queue is the
///   first offset that is not completed, in whatever order batches are.
/// * An error item is permanent (an offset that is gone under [`OnOffsetGap::Fail`](crate::OnOffsetGap), no right to read):
///   it comes once, and then the stream ends. What may pass is retried inside, each queue by itself.
/// * The stream ends after [`PullControl::shutdown`], and a bounded one when every queue has reached its end.
/// * Back-pressure is not polling: what is pulled ahead is bounded over all queues.
/// * Dropping it gives the queues up: what was handed out may still be completed for a while, and is committed.
/// * `next()` is cancel safe: a dropped `next()` takes no message.
///
/// Order: within a queue by offset; between queues none. The queues take turns.
#[pin_project(PinnedDrop)]
#[must_use = "streams do nothing unless polled"]
pub struct PullConsumer {
    /// `None` once it was turned into another kind of stream, which ends it then.
    reader: Option<Reader>,
    control: PullControl,
}

impl PullConsumer {
    pub(crate) fn new(reader: Reader, control: PullControl) -> Self {
        Self { reader: Some(reader), control }
    }

    /// A handle for what must be done while the stream runs: pause, seek, commit, lag, events, shutdown.
    #[must_use]
    pub fn control(&self) -> PullControl {
        self.control.clone()
    }

    /// For each queue the first offset that was **not yet handed out**: exact between two polls, and without what is pulled
    /// ahead. This is what an engine saves at its barrier; [`PullControl::checkpoint`] is what was *completed*.
    #[must_use]
    pub fn position(&self) -> Checkpoint {
        self.reader.as_ref().map(Reader::positions).unwrap_or_default()
    }

    pub(crate) fn tray(&self) -> &Tray {
        self.control.shared().desk.tray()
    }

    /// The messages one by one, each with a completion of its own.
    pub fn per_message(self) -> PulledMessages {
        PulledMessages::new(self)
    }

    /// A stream of streams, one for each queue, that can be read by different tasks.
    pub fn per_queue(mut self) -> QueueStreams {
        let control = self.control.clone();
        let reader = self.reader.take().unwrap_or_else(|| Reader::ended(control.shared()));
        QueueStreams::new(reader, control)
    }
}

impl Stream for PullConsumer {
    type Item = Result<PullBatch>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.project().reader {
            Some(reader) => reader.poll_batch(cx),
            None => Poll::Ready(None),
        }
    }
}

impl FusedStream for PullConsumer {
    fn is_terminated(&self) -> bool {
        self.reader.as_ref().is_none_or(Reader::is_done)
    }
}

#[pinned_drop]
impl PinnedDrop for PullConsumer {
    fn drop(self: Pin<&mut Self>) {
        if let Some(reader) = self.project().reader {
            reader.shared().stop();
        }
    }
}

impl fmt::Debug for PullConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullConsumer").field("reader", &self.reader).finish_non_exhaustive()
    }
}
