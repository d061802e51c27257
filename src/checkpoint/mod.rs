//! How far a consumer is: what was handed out, what of it is completed, and what of that is saved.
//!
//! A [`Tracker`](tracker::Tracker) knows one queue, a [`Ledger`] all queues of a consumer, and the [`Committer`] saves their
//! low marks. Three numbers of a queue are never mixed up: its *position* (the next offset to hand out), its *low mark*
//! (everything below is completed), and what is *saved* of it.

mod account;
mod book;
mod committer;
mod completion;
mod desk;
mod event;
mod file;
mod ledger;
mod mode;
mod store;
pub(crate) mod tracker;

#[cfg(test)]
mod testing;

pub(crate) use account::{QueueLedger, Standing};
pub(crate) use book::Reach;
pub(crate) use committer::{CommitTarget, Committer, CommitterOptions, Unfinished};
pub use completion::{Completion, CompletionShares};
pub use event::CheckpointEvent;
pub(crate) use event::EventHandler;
pub use file::FileCheckpoints;
pub(crate) use ledger::Ledger;
pub use mode::CommitMode;
pub(crate) use store::{AnyStore, load_positions};
pub use store::{CheckpointStore, MemoryCheckpoints};
