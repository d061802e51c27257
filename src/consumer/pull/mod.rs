//! PullConsumer: by offset, in batches, with checkpoints.
//!
//! ```text
//! assignment ──▶ steward (task) ──▶ desk ── mailbox ──▶ reader: planner ◆ and pulls ──▶ stream ──▶ PullBatch
//!                 where a queue begins     control ────▶   │ hands out of the ledger              │
//!                                                          ▼                                      ▼
//!                                                     checkpoint ◀────────── Completion, CommitSink ┘
//! ```

mod asked;
mod batch;
mod batches;
mod brokers;
mod builder;
mod control;
mod desk;
mod events;
mod lag;
mod mailbox;
mod open;
mod over_session;
mod per_message;
mod per_queue;
mod planner;
mod reader;
mod resolve;
mod returns;
mod shared;
mod sink;
mod start;
mod steward;
mod stream;
mod tray;
mod vigil;

pub use batch::{BatchMessages, PullBatch, PulledMessage};
pub use batches::{Batches, FilterSettled, MessageBatch, PullStreamExt};
pub use builder::PullConsumerBuilder;
pub use control::{AssignmentWatch, PullControl, PullEvents, PullShutdownReport, SeekTo};
pub use events::PullEvent;
pub use lag::{LagWatch, QueueLag};
pub use per_message::PulledMessages;
pub use per_queue::{QueueStream, QueueStreams};
pub use sink::CommitSink;
pub use stream::PullConsumer;

#[cfg(test)]
mod tests;
