use std::time::Duration;

use crate::lease::{LeaseLost, Receipt, Settled};
use crate::model::Message;

/// A message and the receipt to settle it by.
///
/// Dropping it unsettled is safe: its lease is no longer renewed, and the server delivers the message again when the lease
/// runs out. That costs a delivery attempt.
#[derive(Debug)]
#[must_use = "a message that is not settled is delivered again"]
pub struct Delivery {
    message: Message,
    receipt: Receipt,
}

impl Delivery {
    pub(crate) fn new(message: Message, receipt: Receipt) -> Self {
        Self { message, receipt }
    }

    /// Gives back a message that no user saw.
    pub(crate) fn release(self) {
        drop(self.receipt.release()); // queued at the call; nobody waits for the answer
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The receipt, e.g. to [`extend`](Receipt::extend) the lease.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Takes message and receipt apart, e.g. to send the receipt to an [`AckSink`](crate::AckSink).
    pub fn into_parts(self) -> (Message, Receipt) {
        (self.message, self.receipt)
    }

    /// Acknowledges the message: it was processed. Queued at the call; see [`Receipt::ack`].
    pub fn ack(self) -> Settled {
        self.receipt.ack()
    }

    /// Gives the message back, to be delivered again after a wait. Queued at the call; see [`Receipt::nack`].
    pub fn nack(self, after: Duration) -> Settled {
        self.receipt.nack(after)
    }

    /// Moves the message to the dead-letter queue of the group. Queued at the call; see [`Receipt::dead_letter`].
    pub fn dead_letter(self) -> Settled {
        self.receipt.dead_letter()
    }

    /// Changes how long the message stays invisible from now on; see [`Receipt::extend`].
    pub fn extend(&self, duration: Duration) -> Settled {
        self.receipt.extend(duration)
    }

    /// Resolves when the lease is lost: the message may be delivered to somebody else from then on.
    pub fn lost(&self) -> LeaseLost {
        self.receipt.lost()
    }
}
