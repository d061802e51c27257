//! Which queues are read now, in which epoch and by whom: the one place where a queue begins and ends.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::assignment::Topics;
use crate::checkpoint::{Ledger, QueueLedger};
use crate::consumer::pull::mailbox::Mailbox;
use crate::consumer::pull::planner::{Start, Stop};
use crate::consumer::pull::tray::Tray;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Epoch, Filter, MessageQueue, Offset, Subscription};

/// Where a queue begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) at: Offset,
    /// Earlier messages are not handed out (trap P13).
    pub(crate) not_before: Option<SystemTime>,
    /// What the broker had committed, if it was asked.
    pub(crate) committed: Option<Offset>,
    /// Neither what is stored nor what is committed said it: so nobody else knows of it.
    pub(crate) is_by_itself: bool,
}

impl Place {
    pub(crate) const fn at(at: Offset) -> Self {
        Self { at, not_before: None, committed: None, is_by_itself: false }
    }
}

/// The queues of one consumer. Everything that begins or ends one goes through its lock, so that a seek, a reset and a
/// revocation that happen together come in some order.
pub(crate) struct Desk {
    ledger: Ledger,
    topics: Arc<Topics>,
    state: Mutex<State>,
    tray: Tray,
}

struct State {
    owned: BTreeMap<MessageQueue, Owned>,
    /// Of each queue the last epoch, also when it was given up since.
    epochs: HashMap<MessageQueue, Epoch>,
    /// Who reads what nobody else reads.
    reader: Arc<Mailbox>,
    is_closed: bool,
}

struct Owned {
    reader: Arc<Mailbox>,
    stop: Option<Stop>,
}

impl Desk {
    pub(crate) fn new(ledger: Ledger, topics: Arc<Topics>, reader: Arc<Mailbox>) -> Self {
        let state = State { owned: BTreeMap::new(), epochs: HashMap::new(), reader, is_closed: false };
        Self { ledger, topics, state: Mutex::new(state), tray: Tray::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn filter(&self, topic: &str) -> Filter {
        self.topics.filter(topic)
    }

    pub(crate) fn subscriptions(&self) -> Vec<Subscription> {
        self.topics.subscriptions()
    }

    /// A queue was gained, and is read from here on.
    ///
    /// # Errors
    /// `Closed` when the consumer has ended.
    pub(crate) fn gain(&self, queue: &MessageQueue, place: Place, stop: Option<Stop>) -> Result<()> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Error::closed("consumer"));
        }
        let reader = Arc::clone(&state.reader);
        state.owned.insert(queue.clone(), Owned { reader, stop });
        self.begin(&mut state, queue, place)
    }

    /// A queue that is owned goes on elsewhere: what was handed out of it and is not completed counts no more.
    ///
    /// # Errors
    /// `Precondition` when the queue is not, or no longer, ours.
    pub(crate) fn move_to(&self, queue: &MessageQueue, place: Place) -> Result<()> {
        let mut state = self.state();
        if !state.owned.contains_key(queue) {
            return Err(not_ours(queue));
        }
        self.begin(&mut state, queue, place)
    }

    fn begin(&self, state: &mut State, queue: &MessageQueue, place: Place) -> Result<()> {
        let epoch = state.epochs.get(queue).map_or_else(Epoch::default, |last| last.next());
        let ledger = self.ledger.begin(queue, epoch, place.at)?;
        state.epochs.insert(queue.clone(), epoch);
        self.tray.begin(queue);
        if let Some(owned) = state.owned.get(queue) {
            owned.reader.begin(self.start(queue, epoch, place, owned.stop), ledger);
        }
        Ok(())
    }

    fn start(&self, queue: &MessageQueue, epoch: Epoch, place: Place, stop: Option<Stop>) -> Start {
        let filter = self.filter(queue.topic());
        Start { queue: queue.clone(), filter, epoch, at: place.at, not_before: place.not_before, stop }
    }

    /// Nothing more of a queue is handed out; what was may still be completed.
    pub(crate) fn lose(&self, queue: &MessageQueue) -> Option<QueueLedger> {
        let owned = self.state().owned.remove(queue)?;
        let revoked = self.ledger.revoke(queue);
        self.tray.end(queue);
        owned.reader.end(queue);
        revoked
    }

    /// What is handed out message by message lies here until it is.
    pub(crate) const fn tray(&self) -> &Tray {
        &self.tray
    }

    pub(crate) fn owned(&self) -> Vec<MessageQueue> {
        self.state().owned.keys().cloned().collect()
    }

    /// Another reader takes over a queue, from `start` on. `false`: the queue is not ours any more, or the reader has ended.
    pub(crate) fn hand_over(&self, reader: &Arc<Mailbox>, start: Start, ledger: QueueLedger, paused: bool) -> bool {
        let mut state = self.state();
        let Some(owned) = state.owned.get_mut(&start.queue) else { return false };
        // Under the lock: a seek that comes now is told after it.
        let is_read = reader.begin_if_read(start, ledger, paused);
        if is_read {
            owned.reader = Arc::clone(reader);
        }
        is_read
    }

    /// A reader gives a queue back, if it still has it: it begins anew with the first reader, at what was completed.
    pub(crate) fn give_back(&self, queue: &MessageQueue, reader: &Arc<Mailbox>) {
        let mut state = self.state();
        let first = Arc::clone(&state.reader);
        if state.is_closed {
            return;
        }
        let Some(owned) = state.owned.get_mut(queue).filter(|owned| Arc::ptr_eq(&owned.reader, reader)) else { return };
        owned.reader = first;
        if let Some(ledger) = self.ledger.queue(queue) {
            let completed = Place::at(ledger.standing().low_mark);
            // Fails only for an epoch that is over, and epochs are counted here.
            self.begin(&mut state, queue, completed)
                .unwrap_or_else(|error| tracing::error!(%error, "a queue was not given back"));
        }
    }

    /// # Errors
    /// `Precondition` when the queue is not ours.
    pub(crate) fn pause(&self, queue: &MessageQueue, paused: bool) -> Result<()> {
        let state = self.state();
        let owned = state.owned.get(queue).ok_or_else(|| not_ours(queue))?;
        owned.reader.pause(queue, paused);
        Ok(())
    }

    /// Who reads what nobody else reads.
    pub(crate) fn reader(&self) -> Arc<Mailbox> {
        Arc::clone(&self.state().reader)
    }

    pub(crate) fn expect_queues(&self, expects: bool) {
        self.state().reader.expect_queues(expects);
    }

    /// Ends the stream with an error.
    pub(crate) fn fail(&self, error: Error) {
        self.state().reader.fail(error);
    }

    /// Ends all readers; the queues that were owned.
    pub(crate) fn close(&self) -> Vec<MessageQueue> {
        let mut state = self.state();
        state.is_closed = true;
        state.reader.close();
        for owned in state.owned.values() {
            owned.reader.close();
        }
        let owned = state.owned.keys().cloned().collect();
        drop(state);
        self.tray.close();
        owned
    }
}

fn not_ours(queue: &MessageQueue) -> Error {
    Error::new(ErrorKind::Precondition, "the queue is not, or no longer, assigned to this consumer").on_queue(queue)
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("owned", &self.state().owned.len()).finish_non_exhaustive()
    }
}
