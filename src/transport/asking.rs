//! What a broker asks of a consumer that is in its group's list, most of it on behalf of an administrator.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use crate::model::{MessageQueue, Offset, Subscription};

/// A request of a broker.
#[derive(Debug)]
pub(crate) enum GroupRequest {
    /// Begin at these offsets, and commit them. Only the queues that the consumer has.
    ResetOffsets { offsets: Vec<(MessageQueue, Offset)>, reply: Reply<()> },
    /// The first offset that is not yet consumed, of each of the topic's queues that the consumer has.
    Positions { topic: Arc<str>, reply: Reply<Vec<(MessageQueue, Offset)>> },
    /// All about the consumer.
    Describe { reply: Reply<ConsumerInfo> },
}

/// What a consumer tells of itself.
#[derive(Debug, Clone)]
pub(crate) struct ConsumerInfo {
    pub(crate) started: SystemTime,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) queues: Vec<(MessageQueue, QueueProgress)>,
}

/// How far one queue is.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueueProgress {
    /// The first offset that is not yet consumed.
    pub(crate) committed: Option<Offset>,
    /// Messages that were fetched and not yet consumed.
    pub(crate) cached: Option<Range<Offset>>,
    pub(crate) cached_messages: usize,
    pub(crate) cached_bytes: usize,
    pub(crate) last_pull: Option<SystemTime>,
    pub(crate) last_consume: Option<SystemTime>,
}

/// The way back of an answer. One that is dropped refuses the request.
pub(crate) struct Reply<T>(Option<Box<dyn FnOnce(Option<T>) + Send>>);

impl<T> Reply<T> {
    /// `send` gets the answer, or `None` when there will be none. It must not block.
    pub(crate) fn new(send: impl FnOnce(Option<T>) + Send + 'static) -> Self {
        Self(Some(Box::new(send)))
    }

    pub(crate) fn send(mut self, answer: T) {
        if let Some(send) = self.0.take() {
            send(Some(answer));
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(send) = self.0.take() {
            send(None);
        }
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}
