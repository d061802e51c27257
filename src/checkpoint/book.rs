//! What is to be saved, what is saved, and what to send next.

mod kept;
mod under_way;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kept::{Kept, Saved};
use under_way::UnderWay;

use crate::checkpoint::event::CheckpointEvent;
use crate::error::{Error, Operation};
use crate::model::{Checkpoint, Epoch, MessageQueue, Offset};
use crate::retry::{Backoff, Verdict, verdict};

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Where positions are saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    /// A store of the user's.
    pub(crate) store: bool,
    /// The brokers of the queues.
    pub(crate) brokers: bool,
}

/// How far a position must have come to count as saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It is in the store; where there is none, at the broker.
    Durable,
    /// It is in the store and at the broker.
    Everywhere,
}

/// How far the saving of a position is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is saved, or a later one.
    Saved,
    /// It is to be saved.
    Pending,
    /// The queue has begun anew before it (a seek, a reset): this position is to be saved instead.
    Replaced(Offset),
    /// Nothing of its queue is to be saved.
    NotWanted,
}

/// What to send now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    /// To the store. One at a time.
    Save(Checkpoint),
    /// To the queue's broker. One at a time for each queue, so that a later position never arrives before an earlier one.
    Commit {
        /// The queue.
        queue: MessageQueue,
        /// Given back with the answer.
        epoch: Epoch,
        /// The position.
        next: Offset,
    },
}

/// The positions of one consumer, as they are wanted and as they are saved. It tells each change at most once.
#[derive(Debug)]
pub(crate) struct Book {
    places: Places,
    lines: BTreeMap<MessageQueue, Line>,
    store: Lane,
    /// What the save under way contains.
    saving: Vec<(MessageQueue, Saved)>,
    under_way: UnderWay,
    events: Vec<CheckpointEvent>,
}

/// One queue.
#[derive(Debug)]
struct Line {
    epoch: Epoch,
    /// `None` when the queue is not ours, or nothing is to be saved.
    wanted: Option<Offset>,
    stored: Kept,
    committed: Kept,
    broker: Lane,
}

/// What fails and is tried again by itself: a queue at its broker, or the store.
#[derive(Debug)]
struct Lane {
    is_busy: bool,
    backoff: Backoff,
    retry_at: Option<Instant>,
    /// Why it failed last, until it succeeds or is hurried.
    error: Option<Error>,
    /// Whether it was told that it fails.
    is_told: bool,
}

impl Book {
    pub(crate) fn new(places: Places) -> Self {
        Self {
            places,
            lines: BTreeMap::new(),
            store: Lane::new(),
            saving: Vec::new(),
            under_way: UnderWay::default(),
            events: Vec::new(),
        }
    }

    /// What the store was found to have.
    pub(crate) fn found_in_store(&mut self, checkpoint: &Checkpoint) {
        for (queue, next) in checkpoint.iter() {
            self.line(queue).stored.found(Some(next));
        }
    }

    /// What the broker has for a queue that is ours, at least: what it acknowledged last, or what was sent since.
    pub(crate) fn committed(&self, queue: &MessageQueue) -> Option<Offset> {
        self.lines.get(queue)?.committed.least()
    }

    /// What a broker was found to have for a queue that is about to be ours.
    pub(crate) fn begins_at_broker(&mut self, queue: &MessageQueue, committed: Offset) {
        self.under_way.found(queue);
        self.line(queue).has_at_broker(committed);
    }

    /// What a broker was found to have, `before` being what [`committed`](Self::committed) said when it was asked. Less
    /// than that, or nothing at all: it has forgotten, and is told again (trap P23).
    pub(crate) fn found_at_broker(&mut self, queue: &MessageQueue, before: Option<Offset>, found: Option<Offset>) {
        match found {
            Some(_) => self.under_way.found(queue),
            None if before.is_some() => self.under_way.lost(queue),
            None => {}
        }
        let line = self.line(queue);
        match before {
            Some(committed) if found < Some(committed) => {
                line.committed.found(found);
                self.events.push(CheckpointEvent::Forgotten { queue: queue.clone(), committed, found });
            }
            None if line.committed.known().is_none() => line.committed.found(found),
            _ => {}
        }
    }

    /// An administrator has reset the group, and with it what the broker has committed. What was acknowledged before says
    /// nothing any more: also a position that equals it is sent again. What was wanted before is not: it would undo the reset.
    pub(crate) fn reset_at_broker(&mut self, queue: &MessageQueue, to: Offset) {
        if let Some(line) = self.lines.get_mut(queue) {
            line.wanted = None;
            line.has_at_broker(to);
        }
    }

    /// This position is to be saved. Within an epoch it only grows; a new epoch may begin lower, which is told.
    pub(crate) fn want(&mut self, queue: &MessageQueue, epoch: Epoch, next: Offset) {
        let line = self.line(queue);
        let is_new = line.wanted.is_none() || epoch > line.epoch;
        if !is_new {
            if epoch == line.epoch {
                line.wanted = line.wanted.max(Some(next));
            }
            return;
        }
        (line.epoch, line.wanted) = (epoch, Some(next));
        let known = line.stored.known().max(line.committed.known());
        if let Some(from) = known.filter(|known| next < *known) {
            self.events.push(CheckpointEvent::Rewound { queue: queue.clone(), from, to: next });
        }
    }

    /// What is to be saved of a queue is not wanted any more, and nobody is told of that. Unless it is ours again already.
    pub(crate) fn withdraw(&mut self, queue: &MessageQueue, epoch: Epoch) {
        if let Some(line) = self.lines.get_mut(queue).filter(|line| line.epoch <= epoch) {
            line.wanted = None;
        }
    }

    /// The queue was given up: nothing of it is sent any more (trap P7). Unless it is ours again already.
    pub(crate) fn forget(&mut self, queue: &MessageQueue, epoch: Epoch) {
        let places = self.places;
        let Some(line) = self.lines.get_mut(queue).filter(|line| line.epoch <= epoch) else { return };
        if let Some(position) = line.wanted.take().filter(|next| !line.is_saved(places, *next, Reach::Everywhere)) {
            self.events.push(CheckpointEvent::NotSavedOnRevoke { queue: queue.clone(), position });
        }
        line.committed.forget();
        line.broker.rest();
    }

    /// How far the saving of a position is that was wanted once.
    pub(crate) fn progress(&self, queue: &MessageQueue, next: Offset, reach: Reach) -> Progress {
        match self.lines.get(queue).and_then(|line| Some((line, line.wanted?))) {
            None => Progress::NotWanted,
            // Within an epoch it only grows.
            Some((_, wanted)) if wanted < next => Progress::Replaced(wanted),
            Some((line, _)) if line.is_saved(self.places, next, reach) => Progress::Saved,
            Some(_) => Progress::Pending,
        }
    }

    /// What is wanted and not saved.
    pub(crate) fn unsaved(&self, reach: Reach) -> Checkpoint {
        let wanted = self.lines.iter().filter_map(|(queue, line)| Some((queue, line, line.wanted?)));
        let unsaved = wanted.filter(|(_, line, next)| !line.is_saved(self.places, *next, reach));
        unsaved.map(|(queue, _, next)| (queue.clone(), next)).collect()
    }

    /// Why a queue's position is not saved at the moment, if the last attempt failed.
    pub(crate) fn failure(&self, queue: &MessageQueue, reach: Reach) -> Option<&Error> {
        let broker = || self.lines.get(queue)?.broker.error.as_ref();
        match (self.places.store, reach) {
            (true, Reach::Durable) => self.store.error.as_ref(),
            (true, Reach::Everywhere) => self.store.error.as_ref().or_else(broker),
            (false, _) => broker(),
        }
    }

    /// As [`failure`](Self::failure), of any of these queues.
    pub(crate) fn failure_among(&self, wanted: &Checkpoint, reach: Reach) -> Option<Error> {
        wanted.iter().find_map(|(queue, _)| self.failure(queue, reach)).cloned()
    }

    /// Somebody waits for these: what has failed is tried again at once.
    pub(crate) fn hurry(&mut self, wanted: &Checkpoint) {
        self.store.hurry();
        for (queue, _) in wanted.iter() {
            if let Some(line) = self.lines.get_mut(queue) {
                line.broker.hurry();
            }
        }
    }

    /// What to send now; it counts as under way until [`saved`](Self::saved) or [`answered`](Self::answered) is called.
    pub(crate) fn work(&mut self, now: Instant) -> Vec<Work> {
        let mut works: Vec<Work> = self.save(now).into_iter().collect();
        if self.places.brokers {
            self.commits(now, &mut works);
        }
        works
    }

    fn save(&mut self, now: Instant) -> Option<Work> {
        if !self.places.store || !self.store.is_due(now) {
            return None;
        }
        let differing = self.lines.iter_mut().filter_map(|(queue, line)| {
            let owed = line.owed(&line.stored)?;
            line.stored.sends(owed);
            Some((queue.clone(), owed))
        });
        self.saving = differing.collect();
        if self.saving.is_empty() {
            return None;
        }
        self.store.is_busy = true;
        Some(Work::Save(self.saving.iter().map(|(queue, saved)| (queue.clone(), saved.next)).collect()))
    }

    fn commits(&mut self, now: Instant, works: &mut Vec<Work>) {
        for (queue, line) in &mut self.lines {
            let Some(owed) = line.owed(&line.committed).filter(|_| line.broker.is_due(now)) else { continue };
            if self.under_way.has_room(queue) {
                self.under_way.begin(queue);
                line.broker.is_busy = true;
                line.committed.sends(owed);
                works.push(Work::Commit { queue: queue.clone(), epoch: line.epoch, next: owed.next });
            }
        }
    }

    /// When to ask for work again, if nothing else happens.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let owes_store = self.places.store && self.lines.values().any(|line| line.owed(&line.stored).is_some());
        let store = self.store.retry_at.filter(|_| owes_store && !self.store.is_busy);
        let owing = self.lines.iter().filter(|(queue, line)| {
            line.owed(&line.committed).is_some() && !line.broker.is_busy && self.under_way.has_room(queue)
        });
        let brokers = owing.filter_map(|(_, line)| line.broker.retry_at).filter(|_| self.places.brokers);
        store.into_iter().chain(brokers).min()
    }

    /// The store has answered.
    pub(crate) fn saved(&mut self, result: Result<(), Error>, now: Instant, jitter: f64) {
        let saving = std::mem::take(&mut self.saving);
        match result {
            Ok(()) => {
                self.store.succeeded();
                for (queue, saved) in saving {
                    self.line(&queue).stored.acknowledged(saved);
                }
            }
            Err(error) => {
                if self.store.failed(error.clone(), now, jitter) {
                    self.events.push(CheckpointEvent::NotSaved { queue: None, error });
                }
            }
        }
    }

    /// A broker has answered.
    pub(crate) fn answered(
        &mut self,
        (queue, epoch, next): (&MessageQueue, Epoch, Offset),
        result: Result<(), Error>,
        now: Instant,
        jitter: f64,
    ) {
        self.under_way.end(queue, &result);
        let line = self.line(queue);
        let is_ours = line.wanted.is_some();
        match result {
            Ok(()) => {
                line.broker.succeeded();
                line.committed.acknowledged(Saved { next, epoch: Some(epoch) });
                if !is_ours {
                    line.committed.forget();
                }
            }
            Err(error) => {
                if line.broker.failed(error.clone(), now, jitter) && is_ours {
                    self.events.push(CheckpointEvent::NotSaved { queue: Some(queue.clone()), error });
                }
            }
        }
    }

    pub(crate) fn take_events(&mut self) -> Vec<CheckpointEvent> {
        std::mem::take(&mut self.events)
    }

    fn line(&mut self, queue: &MessageQueue) -> &mut Line {
        self.lines.entry(queue.clone()).or_insert_with(Line::new)
    }
}

/// Whether an error of saving cannot pass by itself.
pub(crate) fn is_final(error: &Error) -> bool {
    verdict(error.operation().unwrap_or(Operation::Checkpoint), error) == Verdict::GiveUp
}

impl Line {
    fn new() -> Self {
        let (stored, committed) = (Kept::default(), Kept::default());
        Self { epoch: Epoch::default(), wanted: None, stored, committed, broker: Lane::new() }
    }

    /// What is to be saved where this is kept.
    fn owed(&self, kept: &Kept) -> Option<Saved> {
        let next = self.wanted.filter(|next| kept.lacks(*next))?;
        Some(Saved { next, epoch: Some(self.epoch) })
    }

    /// The broker was asked, or told of its own accord.
    fn has_at_broker(&mut self, next: Offset) {
        self.committed.found(Some(next));
        if !self.broker.is_busy {
            self.committed.settle();
        }
    }

    fn is_saved(&self, places: Places, next: Offset, reach: Reach) -> bool {
        let covers = |kept: &Kept| kept.covers(next, self.epoch, self.wanted);
        let (store, broker) = (!places.store || covers(&self.stored), !places.brokers || covers(&self.committed));
        store && (broker || places.store && reach == Reach::Durable)
    }
}

impl Lane {
    const fn new() -> Self {
        Self {
            is_busy: false,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            retry_at: None,
            error: None,
            is_told: false,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.is_busy && self.retry_at.is_none_or(|at| at <= now)
    }

    fn succeeded(&mut self) {
        *self = Self::new();
    }

    /// Returns whether it is the first failure in a row.
    fn failed(&mut self, error: Error, now: Instant, jitter: f64) -> bool {
        self.is_busy = false;
        self.retry_at = Some(now + self.backoff.next(jitter));
        self.error = Some(error);
        !std::mem::replace(&mut self.is_told, true)
    }

    fn hurry(&mut self) {
        (self.retry_at, self.error) = (None, None);
    }

    /// Nothing more is tried; what is under way is waited for.
    fn rest(&mut self) {
        *self = Self { is_busy: self.is_busy, ..Self::new() };
    }
}

#[cfg(test)]
mod tests;
