//! What the tests of this module share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::checkpoint::{CheckpointEvent, CommitTarget, Completion, Ledger, QueueLedger};
use crate::clock;
use crate::error::{Error, ErrorKind, Operation};
use crate::model::{Checkpoint, Epoch, MessageQueue, Offset};
use crate::transport::Call;

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
        CheckpointEvent::Forgotten { queue, committed, found } => {
            let found = found.map_or_else(|| "nothing".to_owned(), |found| found.to_string());
            format!("forgotten {queue} {committed} to {found}")
        }
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

/// A broker that keeps what is committed, and fails as it is told.
#[derive(Debug, Default)]
pub(super) struct FakeBroker {
    state: Mutex<FakeState>,
}

#[derive(Debug, Default)]
struct FakeState {
    committed: Checkpoint,
    log: Vec<(u32, u64)>,
    behaviour: std::collections::BTreeMap<u32, Behaviour>,
    /// Commits of these queues are a mistake now.
    forbidden: std::collections::BTreeSet<u32>,
}

/// How commits of a queue go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Behaviour {
    Well,
    /// Answers after this time.
    Slowly(Duration),
    Never,
    Fails(ErrorKind),
}

impl FakeBroker {
    fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn behave(&self, id: u32, behaviour: Behaviour) {
        self.state().behaviour.insert(id, behaviour);
    }

    pub(super) fn forbid(&self, id: u32, is_forbidden: bool) {
        let mut state = self.state();
        if is_forbidden {
            state.forbidden.insert(id)
        } else {
            state.forbidden.remove(&id)
        };
    }

    pub(super) fn committed(&self) -> Checkpoint {
        self.state().committed.clone()
    }

    /// The commits that arrived since the last call: queue id and position.
    pub(super) fn take_log(&self) -> Vec<(u32, u64)> {
        std::mem::take(&mut self.state().log)
    }
}

impl CommitTarget for FakeBroker {
    fn commit<'a>(&'a self, queue: &'a MessageQueue, next: Offset) -> Call<'a, ()> {
        let behaviour = {
            let mut state = self.state();
            assert!(!state.forbidden.contains(&queue.id()), "{queue} is committed by who does not own it (trap P7)");
            state.log.push((queue.id(), next.get()));
            *state.behaviour.get(&queue.id()).unwrap_or(&Behaviour::Well)
        };
        Box::pin(async move {
            match behaviour {
                Behaviour::Well => {}
                Behaviour::Slowly(time) => clock::sleep(time).await,
                Behaviour::Never => std::future::pending().await,
                Behaviour::Fails(kind) => {
                    return Err(Error::new(kind, "no").during(Operation::CommitOffset).on_queue(queue));
                }
            }
            self.state().committed.set(queue.clone(), next);
            Ok(())
        })
    }
}
