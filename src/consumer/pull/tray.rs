//! What is left of a batch that is handed out message by message: nobody has seen it yet.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::consumer::pull::PulledMessage;
use crate::consumer::pull::batch::BatchMessages;
use crate::model::{MessageQueue, Offset};

/// One batch at most. Whoever begins or ends a queue clears it, also while nobody polls: what lies here is no more handed out
/// than what is pulled ahead (trap P6), and nobody waits until it is completed (trap P8).
#[derive(Debug, Default)]
pub(crate) struct Tray(Mutex<Rest>);

#[derive(Debug, Default)]
struct Rest {
    batch: Option<BatchMessages>,
    is_closed: bool,
}

impl Tray {
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch is handed out from here, unless its queue was begun anew or given up since it was read.
    pub(crate) fn put(&self, batch: BatchMessages) {
        let mut rest = self.rest();
        let is_late = rest.is_closed && !batch.is_settled();
        if batch.may_be_handed_out() && !is_late {
            rest.batch = Some(batch);
            return;
        }
        drop(rest);
        batch.give_back();
    }

    pub(crate) fn next(&self) -> Option<PulledMessage> {
        let mut rest = self.rest();
        let message = rest.batch.as_mut()?.next();
        if message.is_none() {
            rest.batch = None;
        }
        message
    }

    /// The queue, and the offset of the first message that lies here.
    pub(crate) fn position(&self) -> Option<(MessageQueue, Offset)> {
        let rest = self.rest();
        let batch = rest.batch.as_ref()?;
        Some((batch.queue().clone(), batch.next_offset()?))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest().batch.is_none()
    }

    /// The queue was begun anew: what was read before is not wanted.
    pub(crate) fn begin(&self, queue: &MessageQueue) {
        let stale = self.rest().batch.take_if(|batch| batch.queue() == queue);
        drop(stale);
    }

    /// The queue was given up.
    pub(crate) fn end(&self, queue: &MessageQueue) {
        let left = self.rest().batch.take_if(|batch| batch.queue() == queue && !batch.is_settled());
        if let Some(left) = left {
            left.give_back();
        }
    }

    /// The stream ends.
    pub(crate) fn close(&self) {
        let mut rest = self.rest();
        rest.is_closed = true;
        let left = rest.batch.take_if(|batch| !batch.is_settled());
        drop(rest);
        if let Some(left) = left {
            left.give_back();
        }
    }
}
