//! Where a consumer keeps its positions, when it does not leave that to the broker.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::error::{BoxError, Error, ErrorKind, Operation, millis};
use crate::model::Checkpoint;

/// Keeps the positions of consumer groups: a file, a table beside your results, or what you have.
///
/// Write its methods as `async fn`. The store is asked for one consumer at a time; `save` is never called again before the
/// last call has ended, and a call may be dropped when the consumer is shut down.
///
/// For exactly-once results write positions and results in *one* transaction of your own instead, and start the consumer
/// at what you have stored: see [`CommitMode::Manual`](crate::CommitMode::Manual).
pub trait CheckpointStore: Send + Sync {
    /// What was saved for this group; an empty checkpoint when nothing was. When there are positions, but only of topics that
    /// the consumer does not read, it is refused: a mistaken store must not pass for a fresh one.
    ///
    /// # Errors
    /// Whatever keeps the store from answering. A store that cannot read what it has must say so, and not answer with an
    /// empty checkpoint: the consumer would start elsewhere.
    fn load(&self, group: &str) -> impl Future<Output = Result<Checkpoint, BoxError>> + Send;

    /// Sets the positions of these queues. Positions of other queues stay: several members of a group may share a store.
    /// A position may be lower than the stored one, when a reader was set back. When it returns, they are durable.
    ///
    /// # Errors
    /// Whatever keeps the store from saving. It is tried again, with what is to be saved by then.
    fn save(&self, group: &str, checkpoint: &Checkpoint) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// A store may be shared by several consumers.
impl<S: CheckpointStore> CheckpointStore for Arc<S> {
    fn load(&self, group: &str) -> impl Future<Output = Result<Checkpoint, BoxError>> + Send {
        (**self).load(group)
    }

    fn save(&self, group: &str, checkpoint: &Checkpoint) -> impl Future<Output = Result<(), BoxError>> + Send {
        (**self).save(group, checkpoint)
    }
}

/// One call of a store.
pub(crate) type StoreCall<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// A store whose type is forgotten, so that users can write `async fn`.
pub(crate) trait AnyStore: Send + Sync {
    fn load<'a>(&'a self, group: &'a str) -> StoreCall<'a, Checkpoint>;
    fn save<'a>(&'a self, group: &'a str, checkpoint: &'a Checkpoint) -> StoreCall<'a, ()>;
}

impl<S: CheckpointStore> AnyStore for S {
    fn load<'a>(&'a self, group: &'a str) -> StoreCall<'a, Checkpoint> {
        Box::pin(CheckpointStore::load(self, group))
    }

    fn save<'a>(&'a self, group: &'a str, checkpoint: &'a Checkpoint) -> StoreCall<'a, ()> {
        Box::pin(CheckpointStore::save(self, group, checkpoint))
    }
}

/// What a store has for a group. It is asked once, before its consumer has begun.
///
/// # Errors
/// The store's, or `Timeout` when it says nothing within `limit`.
pub(crate) async fn load_positions(
    store: &dyn AnyStore,
    group: &Arc<str>,
    limit: Duration,
) -> Result<Checkpoint, Error> {
    match clock::timeout(limit, store.load(group)).await {
        Some(loaded) => loaded.map_err(|cause| store_failed("load", group, cause)),
        None => {
            let text = format!("the checkpoint store did not load the group's positions within {}", millis(limit));
            Err(Error::new(ErrorKind::Timeout, text).during(Operation::Checkpoint).in_group(Arc::clone(group)))
        }
    }
}

/// A store's error; one of this crate keeps its kind, any other may pass.
pub(super) fn store_failed(what: &str, group: &Arc<str>, cause: BoxError) -> Error {
    let kind = cause.downcast_ref::<Error>().map_or(ErrorKind::Unavailable, Error::kind);
    Error::new(kind, format!("the checkpoint store failed to {what} the group's positions"))
        .during(Operation::Checkpoint)
        .in_group(Arc::clone(group))
        .with_source(cause)
}

impl fmt::Debug for dyn AnyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckpointStore")
    }
}

/// Positions in memory, for tests and for what is read once. Clones share what is saved.
#[derive(Debug, Clone, Default)]
pub struct MemoryCheckpoints(Arc<Mutex<Groups>>);

/// The positions of groups.
pub(super) type Groups = std::collections::BTreeMap<String, Checkpoint>;

/// Sets positions; others stay.
pub(super) fn set_positions(groups: &mut Groups, group: &str, checkpoint: &Checkpoint) {
    let positions = groups.entry(group.to_owned()).or_default();
    for (queue, next) in checkpoint.iter() {
        positions.set(queue.clone(), next);
    }
}

impl MemoryCheckpoints {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is saved for a group.
    #[must_use]
    pub fn get(&self, group: &str) -> Checkpoint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(group).cloned().unwrap_or_default()
    }
}

impl CheckpointStore for MemoryCheckpoints {
    async fn load(&self, group: &str) -> Result<Checkpoint, BoxError> {
        Ok(self.get(group))
    }

    async fn save(&self, group: &str, checkpoint: &Checkpoint) -> Result<(), BoxError> {
        set_positions(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner), group, checkpoint);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MessageQueue, Offset};

    fn queue(id: u32) -> MessageQueue {
        MessageQueue::new("orders", "broker-a", id)
    }

    #[tokio::test]
    async fn saving_some_queues_keeps_the_others_and_may_go_back() {
        let store = MemoryCheckpoints::new();
        let erased: Arc<dyn AnyStore> = Arc::new(store.clone());
        let position = |id, next| Checkpoint::from_iter([(queue(id), Offset::new(next))]);
        erased.save("etl", &position(0, 10)).await.expect("saved");
        erased.save("etl", &position(1, 7)).await.expect("saved");
        erased.save("etl", &position(0, 4)).await.expect("saved");
        erased.save("other", &position(0, 1)).await.expect("saved");
        let expected = Checkpoint::from_iter([(queue(0), Offset::new(4)), (queue(1), Offset::new(7))]);
        assert_eq!(erased.load("etl").await.expect("loaded"), expected);
        assert!(erased.load("nobody").await.expect("loaded").is_empty());
    }
}
