//! What a history says about a consumer, in the manner of Jepsen's Kafka workload: operations in, anomalies out. Pure.
//!
//! Jepsen's names are kept where it has one. It has no commits and no completions to check, because there a poll commits;
//! here they are half of the contract, so most of the kinds are about positions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use crate::op::{Contract, Entry, Event, Op, Place, Process, Queue, Sent, Why};

/// How old what a broker said about a position may be when a queue begins there: an answer may be late by so much.
const SLACK: u64 = 4_000;

/// How long a save may take when a queue is given up, and as much again as a busy process needs to say so.
const SAVE: u64 = 13_000;

/// How long a broker may hold the poll of a reader that has gone: it takes a reset for its own.
const POLL: u64 = 10_000;

/// Messages that are handed out together at most.
const PIECE: usize = 32;

/// What must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Two values at one offset.
    InconsistentOffset,
    /// One value at two offsets, although no answer was lost.
    DuplicateSend,
    /// A send was answered, and is not there.
    LostSend,
    /// A send was refused, and was read (G1a).
    AbortedRead,
    /// A later send of one process lies before an earlier one of it.
    NonmonotonicSend,
    /// Within one poll messages are missing.
    IntPollSkip,
    /// Within one poll messages go back, or lie outside of its range.
    IntNonmonotonicPoll,
    /// Between two polls messages are missing.
    PollSkip,
    /// A poll goes back.
    NonmonotonicPoll,
    /// A poll of an epoch that is over, or of a queue that is not the process's, or is not for long.
    StalePoll,
    /// A poll of a queue that is paused.
    PausedPoll,
    /// A reset is not followed.
    ResetIgnored,
    /// A message that the filter does not want.
    Unfiltered,
    /// A queue begins behind messages that nobody has processed.
    SkippedBegin,
    /// A queue begins before what was committed for good.
    Reread,
    /// A queue does not begin where its process was told to.
    Misplaced,
    /// A position was committed beyond what is processed: after a crash it would be lost.
    Lost,
    /// A committed position goes back, and nobody asked for it.
    Regressed,
    /// It was told that a position is saved, and it is not.
    NotDurable,
    /// A queue was given up although there was time for what is open.
    GivenUpEarly,
    /// A queue is not given up when its time is over.
    HeldUp,
    /// A queue was given up at a lower position than was completed.
    Undercommitted,
    /// Handed out before its position was committed (at most once).
    Uncommitted,
    /// Handed out twice (at most once), or twice in the outputs (exactly once).
    Duplicate,
    /// Never handed out.
    Unseen,
    /// Never processed, or not in the outputs.
    Unprocessed,
    /// A stream failed.
    Failed,
    /// Something did not come to its end.
    Stuck,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Anomaly {
    pub(crate) kind: Kind,
    /// When it showed.
    pub(crate) at: u64,
    pub(crate) queue: Option<Queue>,
    pub(crate) text: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:.3}s: {}", self.kind, self.at as f64 / 1000.0, self.text)
    }
}

/// Everything in a history that breaks the contract.
pub(crate) fn anomalies(contract: Contract, history: &[Event]) -> Vec<Anomaly> {
    let mut checker = Checker::new(contract, history);
    for event in history {
        checker.now = event.at;
        checker.overdue();
        checker.take(&event.op);
    }
    checker.end();
    checker.found
}

/// A queue, as all processes together have left it so far.
#[derive(Default)]
struct Shared {
    log: BTreeMap<u64, Entry>,
    owners: BTreeSet<Process>,
    /// Offsets that somebody has processed.
    processed: BTreeSet<u64>,
    /// Offsets that the program has gone past on purpose.
    excused: BTreeSet<u64>,
    seen: BTreeSet<u64>,
    /// Seen since nobody has set the queue back, by one who was alone, and when (at most once).
    once: BTreeMap<u64, u64>,
    /// How often something may have been committed and never handed out (at most once).
    gaps: usize,
    /// Two have owned it at once since somebody committed as far as he is: RocketMQ has nothing against one who commits
    /// what is lower than what the other has.
    is_contested: bool,
    /// The broker has other positions than it has acknowledged, and nobody has looked since.
    is_forgotten: bool,
    /// When each message was stored, as far as its sender knows.
    stored: BTreeMap<u64, u64>,
    /// When it last came to somebody, or went, or an answer about it may have been lost.
    moved: u64,
    /// When somebody has given it up last.
    left: u64,
    /// When it was reset, if its only owner is to follow.
    reset: Option<u64>,
    /// Where it was reset to.
    resets: BTreeSet<u64>,
    /// The position that nothing may undo, and since when.
    firm: Option<(u64, u64)>,
    places: BTreeMap<Place, u64>,
}

/// A queue, as one process reads it.
struct Reader {
    start: u64,
    next: u64,
    epoch: Option<u64>,
    handed: BTreeSet<u64>,
    done: BTreeSet<u64>,
    /// Of them what was completed when there was no time left: it may have counted for nothing.
    unsure: BTreeSet<u64>,
    /// When it began.
    since: u64,
    /// It began where the broker may have something else, and tells the broker.
    is_told: bool,
    /// The broker has something else since it began: it was told.
    has_said: bool,
    paused: bool,
    /// Until when what is open may be completed.
    until: Option<u64>,
    /// Its process does not wait that long.
    leaves: bool,
}

struct Checker {
    contract: Contract,
    now: u64,
    queues: BTreeMap<Queue, Shared>,
    readers: BTreeMap<(Process, Queue), Reader>,
    refused: BTreeSet<u64>,
    last_sent: BTreeMap<(Process, Queue), u64>,
    sends_may_repeat: bool,
    outputs: BTreeMap<(Queue, u64), usize>,
    is_troubled: bool,
    /// Until when queues that are lost are given up.
    leaving: BTreeMap<(Process, Queue), u64>,
    found: Vec<Anomaly>,
}

impl Shared {
    fn wanted(&self, range: Range<u64>) -> impl Iterator<Item = u64> {
        self.log.range(range).filter(|(_, entry)| entry.wanted).map(|(offset, _)| *offset)
    }

    /// The first message below `next` that nobody has processed.
    fn unprocessed_below(&self, next: u64) -> Option<u64> {
        self.wanted(0..next).find(|offset| !self.processed.contains(offset) && !self.excused.contains(offset))
    }
}

impl Reader {
    /// The lowest and the highest position that what was completed can mean.
    fn low_mark(&self, shared: &Shared) -> (u64, u64) {
        let (mut lowest, mut is_sure) = (self.start, true);
        for offset in shared.wanted(self.start..u64::MAX) {
            if !self.done.contains(&offset) {
                return (lowest, offset);
            }
            is_sure &= !self.unsure.contains(&offset);
            if is_sure {
                lowest = offset + 1;
            }
        }
        (lowest, u64::MAX)
    }
}

impl Checker {
    fn new(contract: Contract, history: &[Event]) -> Self {
        let mut queues: BTreeMap<Queue, Shared> = BTreeMap::new();
        for event in history {
            if let Op::Log { queue, entries } = &event.op {
                queues.entry(*queue).or_default().log = entries.iter().map(|entry| (entry.offset, *entry)).collect();
            }
        }
        Self {
            contract,
            now: 0,
            queues,
            readers: BTreeMap::new(),
            refused: BTreeSet::new(),
            last_sent: BTreeMap::new(),
            sends_may_repeat: false,
            outputs: BTreeMap::new(),
            is_troubled: false,
            leaving: BTreeMap::new(),
            found: Vec::new(),
        }
    }

    fn find(&mut self, kind: Kind, queue: Option<Queue>, text: String) {
        self.found.push(Anomaly { kind, at: self.now, queue, text });
    }

    fn take(&mut self, op: &Op) {
        match op {
            Op::Send { by, value, sent } => self.send(*by, *value, *sent),
            Op::RepliesLost => self.sends_may_repeat = true,
            Op::Begin { by, queue, at, why } => self.begin(*by, *queue, *at, *why),
            Op::Poll { by, queue, epoch, range, messages, gathered } => {
                self.within_poll(*queue, range, messages);
                self.poll((*by, *queue), *epoch, range, messages, *gathered);
            }
            Op::Complete { by, queue, range, late } => self.complete(*by, *queue, range.clone(), *late),
            Op::Revoking { by, queue, within } => {
                if let Some(reader) = self.readers.get_mut(&(*by, *queue)) {
                    reader.until = Some(self.now + within);
                    self.leaving.insert((*by, *queue), self.now + within + SAVE);
                }
                self.moved(*queue);
            }
            Op::Revoked { by, queue, reached, saved } => {
                self.revoked(*by, *queue, *reached);
                self.left_behind(*by, *queue, *reached, *saved);
                self.queues.entry(*queue).or_default().left = self.now;
            }
            Op::Paused { by, queue, paused } => {
                self.readers.entry((*by, *queue)).and_modify(|reader| reader.paused = *paused);
            }
            Op::Reset { queue, to } => self.reset(*queue, *to),
            Op::Forgets { queue, next } => self.forgets(*queue, *next),
            Op::Asked { queue, .. } => self.queues.entry(*queue).or_default().is_forgotten = false,
            Op::Trouble { over } => {
                self.is_troubled = !over;
                self.queues.values_mut().for_each(|shared| (shared.moved, shared.reset) = (self.now, None));
            }
            Op::Durable { by, queue, next, place } => self.durable(*by, *queue, *next, *place),
            Op::Observe { queue, next, place } => self.observe(*queue, *next, *place),
            Op::Crash { by } | Op::Leave { by } => self.gone(*by),
            Op::Leaving { by } => {
                let readers = self.readers.iter_mut().filter(|((reader, _), _)| reader == by);
                readers.for_each(|(_, reader)| reader.leaves = true);
            }
            Op::Output { queue, offset, .. } => *self.outputs.entry((*queue, *offset)).or_default() += 1,
            Op::Fail { by, error } => self.find(Kind::Failed, None, format!("p{by}: {error}")),
            Op::Stuck { what } => self.find(Kind::Stuck, None, what.clone()),
            Op::Log { .. } | Op::Note { .. } => {}
        }
    }

    fn send(&mut self, by: Process, value: u64, sent: Sent) {
        let Sent::Stored { queue, offset } = sent else {
            if sent == Sent::Refused {
                self.refused.insert(value);
            }
            return;
        };
        let shared = self.queues.entry(queue).or_default();
        shared.stored.insert(offset, self.now);
        match shared.log.get(&offset).map(|entry| entry.value) {
            Some(there) if there == value => {}
            Some(there) => {
                let text = format!("q{queue} {offset} is {value} for its sender, and {there} in the queue");
                self.find(Kind::InconsistentOffset, Some(queue), text);
            }
            None => {
                let text = format!("{value} was stored at q{queue} {offset}, and is not there");
                self.find(Kind::LostSend, Some(queue), text);
            }
        }
        let before = self.last_sent.insert((by, queue), offset);
        if let Some(before) = before.filter(|before| *before >= offset) {
            let text = format!("p{by} sent {value} to q{queue} {offset}, after {before}");
            self.find(Kind::NonmonotonicSend, Some(queue), text);
        }
    }

    fn begin(&mut self, by: Process, queue: Queue, at: u64, why: Why) {
        let (contract, now) = (self.contract, self.now);
        let is_told = !matches!(why, Why::Gained | Why::Started { .. });
        let before = self.readers.insert((by, queue), Reader::at(at, now, is_told));
        self.leaving.remove(&(by, queue));
        self.moved(queue);
        let is_moved = matches!(why, Why::Sought | Why::Reset);
        let shared = self.queues.entry(queue).or_default();
        shared.is_forgotten &= why != Why::Reset;
        let mut found = Vec::new();
        shared.owners.insert(by);
        shared.is_contested |= shared.owners.len() > 1;
        if is_moved {
            shared.gaps += 1;
            shared.excused.extend(shared.log.range(..at).map(|(offset, _)| *offset));
            shared.once.retain(|offset, _| *offset < at);
        } else {
            // What the last owner handed out while the position was asked for; and where another owner has set him back.
            let is_set_back = |offset: u64| shared.is_contested && offset >= at;
            shared.once.retain(|offset, handed| *handed + SLACK <= now && !is_set_back(*offset));
        }
        if !is_moved
            && contract != Contract::AtMostOnce
            && let Some(offset) = shared.unprocessed_below(at)
        {
            found.push((Kind::SkippedBegin, format!("p{by} begins q{queue} at {at}, and {offset} is not processed")));
        }
        let stored = match why {
            Why::Started { stored } => stored,
            _ => None,
        };
        let firm = shared.firm.filter(|(since, _)| since + SLACK <= now).map(|(_, firm)| firm);
        let at_least = match (why, before) {
            (Why::Sought | Why::Reset | Why::Restored { .. }, _) => None,
            (Why::GivenBack, Some(before)) => Some(before.low_mark(shared).0),
            _ => stored.or(firm),
        };
        if let Some(firm) = at_least.filter(|firm| at < *firm) {
            found.push((Kind::Reread, format!("p{by} begins q{queue} at {at}, and {firm} was committed")));
        }
        let is_told = match why {
            Why::Restored { at: told } => told == at,
            Why::Reset => shared.resets.contains(&at),
            _ => true,
        };
        if !is_told {
            found.push((Kind::Misplaced, format!("p{by} begins q{queue} at {at}, {why:?}")));
        }
        if let Some((_, firm)) = &mut shared.firm {
            *firm = at.min(*firm);
        }
        found.into_iter().for_each(|(kind, text)| self.find(kind, Some(queue), text));
    }

    fn poll(
        &mut self,
        (by, queue): (Process, Queue),
        epoch: Option<u64>,
        range: &Range<u64>,
        messages: &[(u64, u64)],
        gathered: bool,
    ) {
        let committed = self.committed_before(by, queue, range.end);
        let shared = self.queues.entry(queue).or_default();
        // At most once, what is left of a batch is committed, so nobody else would read it: it comes also when the queue went.
        let is_left = self.contract == Contract::AtMostOnce && epoch.is_none();
        let is_late = !shared.owners.contains(&by);
        let began_last =
            shared.owners.iter().filter_map(|owner| self.readers.get(&(*owner, queue))).map(|owner| owner.since).max();
        let Some(reader) = self.readers.get_mut(&(by, queue)).filter(|_| is_left || shared.owners.contains(&by)) else {
            return self.find(Kind::StalePoll, Some(queue), format!("p{by} gets q{queue}, which is not its own"));
        };
        let mut found = Vec::from_iter(committed);
        // At most once, what was committed for it is handed out, also when its queue was paused meanwhile.
        reader.paused &= self.contract != Contract::AtMostOnce;
        let refused = reader.refuses(is_left || gathered, epoch);
        found.extend(refused.map(|(kind, why)| (kind, format!("p{by} gets q{queue}, {why}"))));
        let is_new = |offset: u64| shared.reset.is_some_and(|reset| shared.stored.get(&offset) > Some(&reset));
        if let Some((offset, _)) = messages.iter().find(|(offset, _)| is_new(*offset)) {
            found.push((Kind::ResetIgnored, format!("p{by} gets q{queue} {offset}, stored after the queue was reset")));
            shared.reset = None;
        }
        // RocketMQ has no hand-over: who began before may have begun at a message that is left with the one before.
        let is_overlapped = is_late && began_last.is_some_and(|began| began < shared.left);
        let (next, end) = (reader.next, range.end);
        if epoch < reader.epoch {
            found.push((Kind::StalePoll, format!("p{by} gets q{queue} of {epoch:?}, after {:?}", reader.epoch)));
        }
        if range.start < next {
            let text = format!("p{by} gets q{queue} {}..{end}, and was at {next}", range.start);
            found.push((Kind::NonmonotonicPoll, text));
        } else if shared.wanted(next..range.start).next().is_some() || (epoch.is_some() && next < range.start) {
            let text = format!("p{by} gets q{queue} {}..{end}, and was at {next}", range.start);
            found.push((Kind::PollSkip, text));
        }
        (reader.next, reader.epoch) = (end, epoch);
        let offsets = messages.iter().map(|(offset, _)| *offset);
        reader.handed.extend(offsets.clone());
        shared.seen.extend(offsets.clone());
        let is_alone = shared.owners.len() == 1;
        for offset in offsets.filter(|_| self.contract == Contract::AtMostOnce) {
            let before = if is_alone && !is_overlapped {
                shared.once.insert(offset, self.now)
            } else {
                shared.once.remove(&offset)
            };
            if before.is_some() && is_alone && !is_overlapped {
                found.push((Kind::Duplicate, format!("p{by} gets q{queue} {offset}, which was handed out before")));
            }
        }
        found.into_iter().for_each(|(kind, text)| self.find(kind, Some(queue), text));
    }

    /// A poll by itself: its messages against its range and against the queue.
    fn within_poll(&mut self, queue: Queue, range: &Range<u64>, messages: &[(u64, u64)]) {
        let shared = self.queues.entry(queue).or_default();
        let mut found = Vec::new();
        let mut next = range.start;
        for &(offset, value) in messages {
            if offset < next || offset >= range.end {
                let text = format!("q{queue} {}..{} has {offset} where {next} is next", range.start, range.end);
                found.push((Kind::IntNonmonotonicPoll, text));
                continue;
            }
            found.extend(shared.wanted(next..offset).next().map(|missing| {
                let text = format!("q{queue} {}..{} has {offset}, and not {missing}", range.start, range.end);
                (Kind::IntPollSkip, text)
            }));
            next = offset + 1;
            match shared.log.get(&offset) {
                Some(entry) if entry.value == value && entry.wanted => {}
                Some(entry) if entry.value == value => {
                    found.push((Kind::Unfiltered, format!("q{queue} {offset} is none of the group's")));
                }
                entry => {
                    let there = entry.map(|entry| entry.value);
                    let text = format!("q{queue} {offset} is {value} for its reader, and {there:?} in the queue");
                    found.push((Kind::InconsistentOffset, text));
                }
            }
            if self.refused.contains(&value) {
                found.push((Kind::AbortedRead, format!("q{queue} {offset} is {value}, which was refused")));
            }
        }
        found.extend(shared.wanted(next..range.end.max(next)).next().map(|missing| {
            (Kind::IntPollSkip, format!("q{queue} {}..{} does not have {missing}", range.start, range.end))
        }));
        found.into_iter().for_each(|(kind, text)| self.find(kind, Some(queue), text));
    }

    /// At most once, a position lies in some place before what is below it is handed out.
    fn committed_before(&self, by: Process, queue: Queue, end: u64) -> Option<(Kind, String)> {
        let shared = self.queues.get(&queue).filter(|_| self.contract == Contract::AtMostOnce)?;
        let committed = shared.places.values().max().copied().unwrap_or_default();
        // Another owner may have set the position back since.
        let is_alone = shared.owners.iter().eq([&by]);
        (committed < end && is_alone && !shared.is_contested)
            .then(|| (Kind::Uncommitted, format!("p{by} gets q{queue} up to {end}, and {committed} is committed")))
    }

    /// What is late was processed all the same, but counts for nothing.
    fn complete(&mut self, by: Process, queue: Queue, range: Range<u64>, late: bool) {
        let shared = self.queues.entry(queue).or_default();
        let offsets: Vec<u64> = shared.wanted(range).collect();
        shared.processed.extend(&offsets);
        if let Some(reader) = self.readers.get_mut(&(by, queue)).filter(|_| !late) {
            if reader.until.is_some_and(|until| until <= self.now) {
                reader.unsure.extend(&offsets);
            }
            reader.done.extend(offsets);
        }
    }

    fn revoked(&mut self, by: Process, queue: Queue, reached: u64) {
        let shared = self.queues.entry(queue).or_default();
        shared.owners.remove(&by);
        shared.gaps += 1;
        self.leaving.remove(&(by, queue));
        self.moved(queue);
        let shared = &self.queues[&queue];
        let Some(reader) = self.readers.get(&(by, queue)) else { return };
        let (lowest, highest) = reader.low_mark(shared);
        let open = reader.handed.difference(&reader.done).next().copied();
        let in_time = reader.until.is_some_and(|until| self.now < until) && !reader.leaves;
        if self.contract != Contract::AtLeastOnce {
            return;
        }
        if let Some(open) = open.filter(|_| in_time) {
            self.find(Kind::GivenUpEarly, Some(queue), format!("p{by} has given up q{queue}, and {open} is open"));
        }
        if reached < lowest {
            let text = format!("p{by} has given up q{queue} at {reached}, and {lowest} was completed");
            self.find(Kind::Undercommitted, Some(queue), text);
        }
        if reached > highest {
            let text = format!("p{by} has given up q{queue} at {reached}, and {highest} was not completed");
            self.find(Kind::Lost, Some(queue), text);
        }
    }

    /// Who gives a queue up has saved what it has reached, or was told that it could not. Who has begun it meanwhile may
    /// have committed since.
    fn left_behind(&mut self, by: Process, queue: Queue, reached: u64, saved: Option<u64>) {
        let stays = self.readers.get(&(by, queue)).is_some_and(|reader| !reader.leaves);
        if saved.is_none() && stays && !self.is_troubled && self.contract == Contract::AtLeastOnce {
            let text = format!("p{by} has given up q{queue} at {reached}, cannot save it, and nothing is wrong");
            return self.find(Kind::NotDurable, Some(queue), text);
        }
        let shared = &self.queues[&queue];
        let Some(saved) = saved.filter(|saved| *saved < reached && !shared.is_forgotten) else { return };
        let others = shared.owners.iter().filter_map(|other| self.readers.get(&(*other, queue)));
        let is_of_others = others.into_iter().any(|other| other.is_told || !other.done.is_empty())
            || self.readers.get(&(by, queue)).is_none_or(|reader| reader.since <= shared.left);
        if self.contract == Contract::AtLeastOnce && !is_of_others {
            let text = format!("p{by} has given up q{queue} at {reached}, and {saved} is saved");
            self.find(Kind::NotDurable, Some(queue), text);
        }
    }

    /// What is lost is given up when its time is over, whatever is open.
    fn overdue(&mut self) {
        let now = self.now;
        let overdue: Vec<_> = self.leaving.iter().filter(|(_, until)| **until < now).map(|(who, _)| *who).collect();
        for (by, queue) in overdue {
            let until = self.leaving.remove(&(by, queue)).unwrap_or_default();
            self.find(Kind::HeldUp, Some(queue), format!("p{by} has not given up q{queue} by {until} ms"));
        }
    }

    fn moved(&mut self, queue: Queue) {
        let shared = self.queues.entry(queue).or_default();
        (shared.moved, shared.reset) = (self.now, None);
    }

    /// Until somebody follows, what is committed counts for nothing.
    fn reset(&mut self, queue: Queue, to: u64) {
        let (now, is_troubled) = (self.now, self.is_troubled);
        let shared = self.queues.entry(queue).or_default();
        shared.resets.insert(to);
        shared.excused.extend(shared.log.range(..to).map(|(offset, _)| *offset));
        (shared.firm, shared.is_forgotten) = (None, true);
        let is_settled = shared.owners.len() == 1 && shared.moved + POLL < now;
        shared.reset = (is_settled && !is_troubled).then_some(now);
    }

    fn forgets(&mut self, queue: Queue, next: u64) {
        let shared = self.queues.entry(queue).or_default();
        shared.places.insert(Place::Broker, next);
        shared.firm = shared.firm.map(|(since, firm)| (since, firm.min(next)));
        shared.is_forgotten = true;
    }

    fn durable(&mut self, by: Process, queue: Queue, next: u64, place: Place) {
        let shared = self.queues.entry(queue).or_default();
        let there = shared.places.get(&place).copied().unwrap_or_default();
        if there < next && (place != Place::Broker || !(shared.is_contested || shared.is_forgotten)) {
            let text = format!("p{by} was told that q{queue} {next} is saved, and {there} is in {place:?}");
            self.find(Kind::NotDurable, Some(queue), text);
        }
    }

    fn observe(&mut self, queue: Queue, next: u64, place: Place) {
        let (contract, now) = (self.contract, self.now);
        let shared = self.queues.entry(queue).or_default();
        let known = shared.places.insert(place, next) == Some(next);
        let mut found = Vec::new();
        if contract != Contract::AtMostOnce
            && !known
            && let Some(offset) = shared.unprocessed_below(next)
        {
            found.push((Kind::Lost, format!("q{queue} {next} is in {place:?}, and {offset} is not processed")));
        }
        if place == Place::Broker && shared.owners.len() <= 1 {
            if let Some((_, firm)) = shared.firm.filter(|(_, firm)| next < *firm) {
                found.push((Kind::Regressed, format!("q{queue} is {next}, and was {firm}")));
            }
            let mut owner = shared.owners.first().and_then(|owner| self.readers.get_mut(&(*owner, queue)));
            owner.iter_mut().for_each(|owner| owner.has_said |= !known);
            // An owner may have begun before what the last one has committed since.
            let mine = owner.as_ref().map_or(u64::MAX, |reader| match contract {
                _ if !reader.has_said => reader.start,
                Contract::AtMostOnce => reader.next,
                _ => reader.low_mark(shared).0,
            });
            // At most once, its owner may have committed more than he was given.
            let is_behind = next < mine || contract == Contract::AtMostOnce && next == mine;
            shared.is_contested &= owner.is_some() && is_behind;
            let (since, firm) = shared.firm.unwrap_or((now, 0));
            let firmer = next.min(mine);
            shared.firm = Some(if firmer > firm { (now, firmer) } else { (since, firmer) });
        } else if place == Place::Broker {
            shared.firm = None;
        }
        found.into_iter().for_each(|(kind, text)| self.find(kind, Some(queue), text));
    }

    fn gone(&mut self, by: Process) {
        for shared in self.queues.values_mut() {
            if shared.owners.remove(&by) {
                shared.gaps += 1;
                (shared.moved, shared.left, shared.reset) = (self.now, self.now, None);
            }
        }
        self.leaving.retain(|(leaving, _), _| *leaving != by);
    }

    fn end(&mut self) {
        let queues = std::mem::take(&mut self.queues);
        let mut places: BTreeMap<u64, (Queue, u64)> = BTreeMap::new();
        for (queue, shared) in &queues {
            for entry in shared.log.values() {
                let twice = places.insert(entry.value, (*queue, entry.offset));
                if let Some((other, offset)) = twice.filter(|_| !self.sends_may_repeat) {
                    let text = format!("{} is at q{queue} {} and at q{other} {offset}", entry.value, entry.offset);
                    self.find(Kind::DuplicateSend, Some(*queue), text);
                }
            }
            self.end_of(*queue, shared);
        }
    }

    fn end_of(&mut self, queue: Queue, shared: &Shared) {
        let all = || shared.wanted(0..u64::MAX).filter(|offset| !shared.excused.contains(offset));
        let unseen: Vec<u64> = all().filter(|offset| !shared.seen.contains(offset)).collect();
        let unprocessed: Vec<u64> = all().filter(|offset| !shared.processed.contains(offset)).collect();
        match self.contract {
            Contract::AtMostOnce => {
                // A process that ends between the commit and the hand-out loses one piece.
                let runs = || unseen.chunk_by(|a, b| shared.wanted(a + 1..*b).next().is_none());
                if runs().count() > shared.gaps || runs().any(|run| run.len() > PIECE) {
                    let text = format!("q{queue} {unseen:?}; at most {} pieces can be", shared.gaps);
                    self.find(Kind::Unseen, Some(queue), text);
                }
            }
            Contract::AtLeastOnce | Contract::ExactlyOnce => {
                if !unseen.is_empty() {
                    self.find(Kind::Unseen, Some(queue), format!("q{queue} {unseen:?}"));
                }
            }
        }
        if self.contract == Contract::AtLeastOnce && !unprocessed.is_empty() {
            self.find(Kind::Unprocessed, Some(queue), format!("q{queue} {unprocessed:?}"));
        }
        let is_exact = self.contract == Contract::ExactlyOnce;
        for offset in shared.wanted(0..u64::MAX).filter(|_| is_exact) {
            match self.outputs.get(&(queue, offset)).copied().unwrap_or_default() {
                0 => self.find(Kind::Unprocessed, Some(queue), format!("q{queue} {offset} is in no output")),
                1 => {}
                times => self.find(Kind::Duplicate, Some(queue), format!("q{queue} {offset} is in {times} outputs")),
            }
        }
    }
}

impl Reader {
    /// Why nothing more is handed out. `is_older`: it was taken from the queue before.
    fn refuses(&self, is_older: bool, epoch: Option<u64>) -> Option<(Kind, &'static str)> {
        if self.until.is_some() && !is_older {
            return Some((Kind::StalePoll, "which it lets go of"));
        }
        // What is left of a batch was taken from the queue before.
        (self.paused && epoch.is_some() && !is_older).then_some((Kind::PausedPoll, "which is paused"))
    }

    const fn at(at: u64, since: u64, is_told: bool) -> Self {
        Self {
            since,
            is_told,
            has_said: !is_told,
            paused: false,
            start: at,
            next: at,
            epoch: None,
            handed: BTreeSet::new(),
            done: BTreeSet::new(),
            unsure: BTreeSet::new(),
            until: None,
            leaves: false,
        }
    }
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;
