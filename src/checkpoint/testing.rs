//! What the tests of this module share.

use std::sync::{Arc, Mutex};

use crate::checkpoint::{CheckpointEvent, Completion, Ledger, QueueLedger};
use crate::clock;
use crate::model::{Checkpoint, Epoch, MessageQueue, Offset};

/// A queue of the topic `orders` on `broker-a`.
pub(super) fn queue(id: u32) -> MessageQueue {
    MessageQueue::new("orders", "broker-a", id)
}

pub(super) fn offset(number: u64) -> Offset {
    Offset::new(number)
}

/// Positions of queues of `broker-a`.
pub(super) fn positions<const N: usize>(all: [(u32, u64); N]) -> Checkpoint {
    all.into_iter().map(|(id, next)| (queue(id), offset(next))).collect()
}

/// The events of a ledger, in words.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    pub(super) fn ledger(&self) -> Ledger {
        let told = Arc::clone(&self.0);
        Ledger::new(Box::new(move |event| told.lock().unwrap().push(words(event))))
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn words(event: CheckpointEvent) -> String {
    match event {
        CheckpointEvent::Dropped { queue, range } => format!("dropped {queue} {}..{}", range.start, range.end),
        CheckpointEvent::Late { queue, range } => format!("late {queue} {}..{}", range.start, range.end),
        CheckpointEvent::Rewound { queue, from, to } => format!("rewound {queue} {from} to {to}"),
        CheckpointEvent::Forgotten { queue, committed, found } => format!("forgotten {queue} {committed} to {found}"),
        CheckpointEvent::NotSaved { queue: Some(queue), error } => format!("not saved {queue}: {error}"),
        CheckpointEvent::NotSaved { queue: None, error } => format!("not saved: {error}"),
        CheckpointEvent::NotSavedOnRevoke { queue, position } => format!("not saved on revoke {queue} {position}"),
    }
}

/// Begins a queue in the epoch after `epochs` others.
pub(super) fn begin(ledger: &Ledger, id: u32, epochs: usize, start: u64) -> QueueLedger {
    let epoch = (0..epochs).fold(Epoch::default(), |epoch, _| epoch.next());
    ledger.begin(&queue(id), epoch, offset(start)).expect("a new epoch")
}

/// Hands out the next `count` offsets.
pub(super) fn hand_out(queue: &QueueLedger, count: u64) -> Completion {
    let from = queue.standing().position.get();
    queue.hand_out((from..from + count).map(|at| offset(at + 1)), clock::now()).expect("handed out")
}
