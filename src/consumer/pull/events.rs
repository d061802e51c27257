use crate::checkpoint::CheckpointEvent;
use crate::model::{MessageQueue, Offset};

/// What happens in a [`PullConsumer`](crate::PullConsumer) beside its messages.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PullEvent {
    /// A queue is read from here on.
    Assigned {
        /// The queue.
        queue: MessageQueue,
        /// Where it begins.
        at: Offset,
    },
    /// Nothing more of a queue is handed out. What was may be completed within this time, and is committed then.
    Revoking {
        /// The queue.
        queue: MessageQueue,
        /// How long completions are waited for.
        within: std::time::Duration,
    },
    /// A queue was given up.
    Revoked {
        /// The queue.
        queue: MessageQueue,
        /// Everything below was completed, and was to be committed: where its next owner begins. Whether it could not be
        /// committed is told by a [`CheckpointEvent::NotSavedOnRevoke`].
        reached: Offset,
    },
    /// There are more members than queues, and this one has none. It waits, and takes over when another goes.
    Idle {
        /// How many members share the group's queues.
        members: usize,
        /// How many queues they share.
        queues: usize,
    },
    /// An administrator reset the group's offset of a queue, and the reader followed.
    Reset {
        /// The queue.
        queue: MessageQueue,
        /// Where it was.
        from: Offset,
        /// Where it goes on.
        to: Offset,
    },
    /// An offset was not there any more, or not yet; reading goes on as [`OnOffsetGap`](crate::OnOffsetGap) says.
    Gap {
        /// The queue.
        queue: MessageQueue,
        /// The offset asked for.
        at: Offset,
        /// Where it goes on.
        to: Offset,
    },
    /// A broker pointed back without being asked, and was not followed: a replica that lags, or another queue under the
    /// same name.
    JumpRefused {
        /// The queue.
        queue: MessageQueue,
        /// Where the reader is, and stays.
        at: Offset,
        /// What the broker offered.
        offered: Offset,
    },
    /// So much of a queue is handed out and not completed that nothing more is, until the oldest of it is completed.
    Stalled {
        /// The queue.
        queue: MessageQueue,
        /// The first offset that is not completed.
        blocked_by: Offset,
    },
    /// A queue cannot be begun at the moment; it is tried again.
    Delayed {
        /// The queue.
        queue: MessageQueue,
        /// Why.
        error: crate::error::Error,
    },
    /// Something about completions and commits.
    Checkpoint(CheckpointEvent),
}
