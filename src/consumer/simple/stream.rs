use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};
use pin_project::{pin_project, pinned_drop};

use crate::consumer::simple::Delivery;
use crate::consumer::simple::control::{Core, SimpleControl};
use crate::error::Result;

/// A stream of [`Delivery`]s: messages that carry their receipts. Built by
/// [`Client::simple_consumer`](crate::Client::simple_consumer).
///
/// * An item is a message nobody else holds until its lease runs out. Settle it: [`Delivery::ack`], [`Delivery::nack`],
///   [`Delivery::dead_letter`].
/// * An error item is permanent (wrong credentials, an invisible duration the server refuses): it comes once, after
///   what was buffered, and then the stream ends. What may pass is retried inside, see [`SimpleControl::health`].
/// * The stream ends after [`SimpleControl::shutdown`].
/// * Dropping it gives back what was buffered and never seen, without a delivery attempt where the server honours that;
///   also what its last receives bring, which wait on at the server for up to the await duration.
///   Receipts that are held go on: they can be settled, and are renewed, as before.
/// * `next()` is cancel safe: a dropped `next()` takes no message.
///
/// A new group starts at the *end* of an old topic: the server hands out what is sent after the group's first receive
/// (and the last message before it). Only a topic whose first message is still in the broker's memory is read from its
/// beginning.
///
/// All members of a group must subscribe to the same topics with the same filters: a message that one member's filter
/// skips is consumed for the whole group.
#[pin_project(PinnedDrop)]
#[must_use = "streams do nothing unless polled"]
pub struct SimpleConsumer {
    core: Arc<Core>,
    ended: bool,
}

impl SimpleConsumer {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, ended: false }
    }

    /// A handle for what must be done while the stream runs: pause, subscribe, statistics, shutdown.
    #[must_use]
    pub fn control(&self) -> SimpleControl {
        SimpleControl::new(Arc::clone(&self.core))
    }
}

impl fmt::Debug for SimpleConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleConsumer").field("group", &self.core.group()).field("inbox", &self.core.inbox).finish()
    }
}

impl Stream for SimpleConsumer {
    type Item = Result<Delivery>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(this.core.inbox.poll_take(cx));
        *this.ended = item.is_none();
        Poll::Ready(item)
    }
}

impl FusedStream for SimpleConsumer {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

#[pinned_drop]
impl PinnedDrop for SimpleConsumer {
    fn drop(self: Pin<&mut Self>) {
        self.core.stop();
    }
}
