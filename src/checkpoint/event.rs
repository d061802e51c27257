use crate::error::Error;
use crate::model::{MessageQueue, Offset, OffsetRange};

/// What happened to the positions of a consumer without anybody waiting for it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CheckpointEvent {
    /// A [`Completion`](crate::Completion) was dropped: what is committed stops before these offsets, until a commit of a
    /// checkpoint passes them or the consumer starts again there. Told once until the queue has moved on.
    Dropped {
        /// The queue.
        queue: MessageQueue,
        /// What it stood for.
        range: OffsetRange,
    },
    /// A completion came after its queue was given up: it is not saved, and the queue's next owner reads these messages
    /// again. Told once for each time the queue was owned.
    Late {
        /// The queue.
        queue: MessageQueue,
        /// What it stood for.
        range: OffsetRange,
    },
    /// A position that is saved lies below the one that was saved before, because the queue was begun there.
    Rewound {
        /// The queue.
        queue: MessageQueue,
        /// What was saved before.
        from: Offset,
        /// What is saved now.
        to: Offset,
    },
    /// The broker was found with an older position than it had acknowledged; it is told again (a broker that is killed
    /// forgets up to five seconds of positions). It is asked when it comes back, and with each look at the lag.
    Forgotten {
        /// The queue.
        queue: MessageQueue,
        /// What was committed.
        committed: Offset,
        /// What the broker has; `None`: it knows nothing of this group and queue any more.
        found: Option<Offset>,
    },
    /// A position could not be saved. It is tried again while the queue is owned; told once until it succeeds.
    NotSaved {
        /// The queue, or none when a [`CheckpointStore`](crate::CheckpointStore) failed, which saves all at once.
        queue: Option<MessageQueue>,
        /// Why.
        error: Error,
    },
    /// A queue was given up before its position could be saved: its next owner reads these messages again.
    NotSavedOnRevoke {
        /// The queue.
        queue: MessageQueue,
        /// The position that was to be saved.
        position: Offset,
    },
}

/// Told of each event, from any thread; must not block.
pub(crate) type EventHandler = Box<dyn Fn(CheckpointEvent) + Send + Sync>;
