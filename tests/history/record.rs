//! Writes the history down, with times and names.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures::future::poll_fn;
use futures::prelude::*;
use rocketmq_stream::{CheckpointEvent, MessageQueue, PullEvent, PullEvents};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::op::{Event, Op, Process, Queue, Why};

/// The history of a run.
pub(crate) struct Record {
    started: Instant,
    pub(crate) queues: Vec<MessageQueue>,
    events: Mutex<Vec<Event>>,
}

impl Record {
    pub(crate) fn new(queues: Vec<MessageQueue>) -> Self {
        Self { started: Instant::now(), queues, events: Mutex::default() }
    }

    pub(crate) fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub(crate) fn put(&self, op: Op) {
        let at = self.now();
        self.events.lock().unwrap().push(Event { at, op });
    }

    pub(crate) fn note(&self, what: impl Into<String>) {
        self.put(Op::Note { what: what.into() });
    }

    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    pub(crate) fn index(&self, queue: &MessageQueue) -> Queue {
        self.queues.iter().position(|known| known == queue).unwrap()
    }
}

/// How much of a queue is saved, where the least is.
pub(crate) type Look = Box<dyn Fn(&MessageQueue) -> u64 + Send + Sync>;

/// Hears the events of one process, as they come.
pub(crate) struct Listener {
    process: Process,
    record: Arc<Record>,
    events: Mutex<PullEvents>,
    /// How often each queue has begun.
    lives: Mutex<BTreeMap<Queue, u64>>,
    /// What it was told to let go of since.
    lost: Mutex<BTreeSet<Queue>>,
    /// What it was told that could not be saved.
    unsaved: Mutex<BTreeSet<Queue>>,
    look: Look,
    kick: Notify,
}

impl Listener {
    pub(crate) fn new(process: Process, record: Arc<Record>, events: PullEvents, look: Look) -> Arc<Self> {
        Arc::new(Self {
            process,
            record,
            events: Mutex::new(events),
            lives: Mutex::default(),
            lost: Mutex::default(),
            unsaved: Mutex::default(),
            look,
            kick: Notify::new(),
        })
    }

    /// Until the events end.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let heard = poll_fn(|cx| if self.hear(cx) { Poll::Ready(()) } else { Poll::Pending });
            tokio::select! {
                () = heard => return,
                () = self.kick.notified() => {}
            }
        }
    }

    /// What has happened so far, before anything else is written down.
    pub(crate) fn catch_up(&self) {
        self.hear(&mut Context::from_waker(Waker::noop()));
        self.kick.notify_one();
    }

    /// Whether the events have ended.
    fn hear(&self, cx: &mut Context<'_>) -> bool {
        let mut events = self.events.lock().unwrap();
        loop {
            match Pin::new(&mut *events).poll_next(cx) {
                Poll::Ready(Some(event)) => self.write(event),
                Poll::Ready(None) => return true,
                Poll::Pending => break,
            }
        }
        assert_eq!(events.missed(), 0, "the history has a hole");
        false
    }

    fn write(&self, event: PullEvent) {
        let by = self.process;
        match event {
            PullEvent::Assigned { queue, at } => self.begin(self.record.index(&queue), at.get(), Why::Gained),
            PullEvent::Revoking { queue, within } => {
                let (queue, within) = (self.record.index(&queue), within.as_millis() as u64);
                self.lost.lock().unwrap().insert(queue);
                self.record.put(Op::Revoking { by, queue, within });
            }
            PullEvent::Revoked { queue, reached } => {
                let (name, queue, reached) = (&queue, self.record.index(&queue), reached.get());
                let is_saved = !self.unsaved.lock().unwrap().remove(&queue);
                let saved = is_saved.then(|| (self.look)(name));
                self.record.put(Op::Revoked { by, queue, reached, saved });
            }
            PullEvent::Reset { queue, to, .. } => self.begin(self.record.index(&queue), to.get(), Why::Reset),
            PullEvent::JumpRefused { .. } | PullEvent::Gap { .. } => {
                self.record.put(Op::Fail { by, error: format!("nobody has set it elsewhere: {event:?}") });
            }
            PullEvent::Checkpoint(CheckpointEvent::NotSaved { error, .. }) => {
                self.record.note(format!("p{by}: not saved: {error}"));
            }
            PullEvent::Checkpoint(CheckpointEvent::NotSavedOnRevoke { queue, position }) => {
                let queue = self.record.index(&queue);
                self.unsaved.lock().unwrap().insert(queue);
                self.record.note(format!("p{by}: q{queue} is given up, and {position} is not saved"));
            }
            other => self.record.note(format!("p{by}: {other:?}")),
        }
    }

    pub(crate) fn begin(&self, queue: Queue, at: u64, why: Why) {
        *self.lives.lock().unwrap().entry(queue).or_default() += 1;
        self.lost.lock().unwrap().remove(&queue);
        self.record.put(Op::Begin { by: self.process, queue, at, why });
    }

    pub(crate) fn is_lost(&self, queue: Queue) -> bool {
        self.lost.lock().unwrap().contains(&queue)
    }

    pub(crate) fn life(&self, queue: Queue) -> u64 {
        self.lives.lock().unwrap().get(&queue).copied().unwrap_or_default()
    }
}
