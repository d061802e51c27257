//! The stores of a slot: what outlives its processes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::prelude::*;
use rocketmq_stream::{BoxError, Checkpoint, CheckpointStore, Error, FileCheckpoints, MemoryCheckpoints};

use crate::plan::Keeping;

/// What is kept for a slot.
#[derive(Clone)]
pub(crate) enum Kept {
    Nothing,
    Memory(MemoryCheckpoints),
    File(PathBuf),
}

/// A store as one process has it: it saves nothing more once the process has crashed.
#[derive(Clone)]
pub(crate) struct Fused {
    /// `None` once the process has crashed: then its file is nobody's, whatever is left of it in memory here.
    store: Arc<Mutex<Option<Store>>>,
    under_way: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Store {
    Memory(MemoryCheckpoints),
    File(FileCheckpoints),
}

impl Kept {
    pub(crate) fn new(keeping: Keeping, folder: &std::path::Path, slot: usize) -> Self {
        match keeping {
            Keeping::Broker => Self::Nothing,
            Keeping::Memory | Keeping::MemoryAlone => Self::Memory(MemoryCheckpoints::new()),
            Keeping::File => Self::File(folder.join(format!("slot-{slot}.json"))),
        }
    }

    /// # Errors
    /// The one before still saves what it could not save when it left.
    pub(crate) fn open(&self) -> Result<Option<Fused>, Error> {
        let store = match self {
            Self::Nothing => return Ok(None),
            Self::Memory(memory) => Store::Memory(memory.clone()),
            Self::File(path) => Store::File(FileCheckpoints::open(path)?),
        };
        Ok(Some(Fused { store: Arc::new(Mutex::new(Some(store))), under_way: Arc::default() }))
    }
}

impl Fused {
    pub(crate) fn saved(&self, group: &str) -> Checkpoint {
        let loaded = self.load(group).now_or_never();
        loaded.expect("these stores answer at once").unwrap()
    }

    fn store(&self) -> Option<Store> {
        self.store.lock().unwrap().clone()
    }

    /// The process is dead. What it was writing at that moment is written.
    pub(crate) async fn blow(&self) {
        *self.store.lock().unwrap() = None;
        while self.under_way.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl CheckpointStore for Store {
    async fn load(&self, group: &str) -> Result<Checkpoint, BoxError> {
        match self {
            Self::Memory(memory) => memory.load(group).await,
            Self::File(file) => file.load(group).await,
        }
    }

    async fn save(&self, group: &str, checkpoint: &Checkpoint) -> Result<(), BoxError> {
        match self {
            Self::Memory(memory) => memory.save(group, checkpoint).await,
            Self::File(file) => file.save(group, checkpoint).await,
        }
    }
}

impl CheckpointStore for Fused {
    async fn load(&self, group: &str) -> Result<Checkpoint, BoxError> {
        match self.store() {
            Some(store) => store.load(group).await,
            None => future::pending().await,
        }
    }

    async fn save(&self, group: &str, checkpoint: &Checkpoint) -> Result<(), BoxError> {
        let Some(store) = self.store() else { return future::pending().await };
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let _done = Done(&self.under_way);
        store.save(group, checkpoint).await
    }
}

/// Also when the call is dropped.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
