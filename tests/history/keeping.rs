//! The stores of a slot: what outlives its processes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::prelude::*;
use rocketmq_stream::{BoxError, Checkpoint, CheckpointStore, FileCheckpoints, MemoryCheckpoints};

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
    store: Store,
    is_blown: Arc<AtomicBool>,
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

    pub(crate) fn open(&self) -> Option<Fused> {
        let store = match self {
            Self::Nothing => return None,
            Self::Memory(memory) => Store::Memory(memory.clone()),
            Self::File(path) => Store::File(FileCheckpoints::open(path).unwrap()),
        };
        Some(Fused { store, is_blown: Arc::default(), under_way: Arc::default() })
    }
}

impl Fused {
    pub(crate) fn saved(&self, group: &str) -> Checkpoint {
        let loaded = self.store.load(group).now_or_never();
        loaded.expect("these stores answer at once").unwrap()
    }

    /// The process is dead. What it was writing at that moment is written.
    pub(crate) async fn blow(&self) {
        self.is_blown.store(true, Ordering::Relaxed);
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
        self.store.load(group).await
    }

    async fn save(&self, group: &str, checkpoint: &Checkpoint) -> Result<(), BoxError> {
        if self.is_blown.load(Ordering::Relaxed) {
            return future::pending().await;
        }
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let _done = Done(&self.under_way);
        self.store.save(group, checkpoint).await
    }
}

/// Also when the call is dropped.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
