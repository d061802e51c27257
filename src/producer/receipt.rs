use std::fmt;

use crate::model::{Endpoint, MessageQueue, Offset};
use crate::transport::Sent;

/// What the broker answered to a send: it has the message.
#[derive(Clone, PartialEq, Eq)]
pub struct SendReceipt {
    sent: Sent,
    attempts: u32,
    endpoint: Endpoint,
}

impl SendReceipt {
    pub(crate) fn new(sent: Sent, attempts: u32, endpoint: Endpoint) -> Self {
        Self { sent, attempts, endpoint }
    }

    /// The id of the message, as consumers see it.
    #[must_use]
    pub fn message_id(&self) -> &str {
        &self.sent.message_id
    }

    /// The position of the message in its queue.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.sent.offset
    }

    /// The queue that the message went to. `None` where the server does not tell: over gRPC the proxy chooses the queue and
    /// keeps it to itself.
    #[must_use]
    pub fn queue(&self) -> Option<&MessageQueue> {
        None
    }

    /// What a delayed message is taken back by, if the server gave one.
    #[must_use]
    pub fn recall_handle(&self) -> Option<&str> {
        self.sent.recall_handle.as_deref()
    }

    /// How often it was sent, from 1.
    ///
    /// After more than one attempt the broker may hold the message more than once, when it was an answer that got lost. All
    /// copies have the same [`message_id`](Self::message_id).
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    #[cfg_attr(not(test), expect(dead_code, reason = "transactions, which are not there yet, end with it"))]
    pub(crate) fn transaction_id(&self) -> Option<&str> {
        self.sent.transaction_id.as_deref()
    }

    /// Where it was sent to: the end of a transaction must go the same way.
    #[cfg_attr(not(test), expect(dead_code, reason = "transactions, which are not there yet, end there"))]
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl fmt::Debug for SendReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendReceipt")
            .field("message_id", &self.message_id())
            .field("offset", &self.offset())
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}
