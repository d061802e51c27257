//! What is accepted and not yet answered: when each message is tried, in which order, and when it is given up.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::producer::failure::Failure;
use crate::retry::Backoff;

/// The first wait before a repeat; the next ones double.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest: after an outage, sending resumes this soon, and until then a full producer asks a few hundred times a second.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// When a message is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// How many attempts may end so that the message may have been stored ([`Failure::Counted`]).
    pub(crate) max_attempts: u32,
    /// How long after it was accepted a message is still tried again.
    pub(crate) send_timeout: Duration,
}

/// Messages are in order within one of these: topic and message group.
pub(crate) type GroupKey = (Arc<str>, Arc<str>);

/// One accepted message with its history. While it is under way, it is with the caller of the accumulator.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) payload: T,
    /// Position in the order of acceptance.
    sequence: u64,
    group: Option<GroupKey>,
    accepted: Instant,
    attempts: u32,
    counted: u32,
    backoff: Backoff,
}

impl<T> Entry<T> {
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How many attempts were made, the one under way included.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(crate) fn accepted(&self) -> Instant {
        self.accepted
    }
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Step<T> {
    /// Send this, then tell how it went by [`Accumulator::succeeded`] or [`Accumulator::failed`].
    Send(Entry<T>),
    /// Nothing is due before this time.
    SleepUntil(Instant),
    /// Nothing is due at all, until a message comes or an answer.
    Wait,
}

/// The messages that are accepted and not answered. Their number is bounded by whoever accepts them.
#[derive(Debug)]
pub(crate) struct Accumulator<T> {
    patience: Patience,
    next_sequence: u64,
    ready: VecDeque<Entry<T>>,
    later: BinaryHeap<Later<T>>,
    /// A group is here while a message of it is ready, under way or waiting for its repeat; the queue holds those behind it.
    groups: HashMap<GroupKey, VecDeque<Entry<T>>>,
    unanswered: usize,
}

impl<T> Accumulator<T> {
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            patience,
            next_sequence: 0,
            ready: VecDeque::new(),
            later: BinaryHeap::new(),
            groups: HashMap::new(),
            unanswered: 0,
        }
    }

    /// Takes a message over.
    pub(crate) fn accept(&mut self, payload: T, group: Option<GroupKey>, now: Instant) {
        let entry = Entry {
            payload,
            sequence: self.next_sequence,
            group,
            accepted: now,
            attempts: 0,
            counted: 0,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
        };
        self.next_sequence += 1;
        self.unanswered += 1;
        match entry.group.as_ref().and_then(|group| self.groups.get_mut(group)) {
            Some(behind) => behind.push_back(entry),
            None => {
                if let Some(group) = &entry.group {
                    self.groups.insert(group.clone(), VecDeque::new());
                }
                self.ready.push_back(entry);
            }
        }
    }

    pub(crate) fn next(&mut self, now: Instant) -> Step<T> {
        if self.later.peek().is_some_and(|later| later.at <= now) {
            self.ready.extend(self.later.pop().map(|later| later.entry));
        }
        match (self.ready.pop_front(), self.later.peek()) {
            (Some(mut entry), _) => {
                entry.attempts += 1;
                Step::Send(entry)
            }
            (None, Some(later)) => Step::SleepUntil(later.at),
            (None, None) => Step::Wait,
        }
    }

    /// The server has stored the message: the next one of its group may go.
    pub(crate) fn succeeded(&mut self, entry: Entry<T>) -> Entry<T> {
        self.release(&entry);
        entry
    }

    /// Keeps the message for a repeat (`None`), or gives it back when there will be none.
    ///
    /// `floor` is the wait that the server asks for, `jitter` a random number in `0.0..1.0`.
    pub(crate) fn failed(
        &mut self,
        mut entry: Entry<T>,
        failure: Failure,
        floor: Duration,
        now: Instant,
        jitter: f64,
    ) -> Option<Entry<T>> {
        entry.counted += u32::from(failure == Failure::Counted);
        let deadline = entry.accepted + self.patience.send_timeout;
        if failure == Failure::Final || entry.counted >= self.patience.max_attempts || now >= deadline {
            self.release(&entry);
            return Some(entry);
        }
        // The last try is at the deadline itself, however long the waits have become.
        let at = now.checked_add(entry.backoff.next(jitter).max(floor)).map_or(deadline, |at| at.min(deadline));
        self.later.push(Later { at, entry });
        None
    }

    /// How many messages are accepted and not answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// The place in the order of acceptance that the next message will have.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Gives up all messages that are not under way at this moment.
    pub(crate) fn drain(&mut self) -> Vec<Entry<T>> {
        let mut rest: Vec<_> = self.ready.drain(..).collect();
        rest.extend(self.later.drain().map(|later| later.entry));
        rest.extend(self.groups.drain().flat_map(|(_, behind)| behind));
        self.unanswered -= rest.len();
        rest.sort_unstable_by_key(|entry| entry.sequence);
        rest
    }

    fn release(&mut self, entry: &Entry<T>) {
        self.unanswered -= 1;
        let Some(group) = &entry.group else { return };
        match self.groups.get_mut(group).and_then(VecDeque::pop_front) {
            Some(next) => self.ready.push_back(next),
            None => drop(self.groups.remove(group)),
        }
    }
}

/// An entry in the heap: the earliest on top, then in the order of acceptance.
#[derive(Debug)]
struct Later<T> {
    at: Instant,
    entry: Entry<T>,
}

impl<T> Ord for Later<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.entry.sequence).cmp(&(self.at, self.entry.sequence))
    }
}

impl<T> PartialOrd for Later<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Later<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Later<T> {}

#[cfg(test)]
mod tests;
