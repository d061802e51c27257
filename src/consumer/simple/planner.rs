//! What to receive next, from whom and how much: a function of what is buffered, under way and known of each source.
//!
//! A source is one topic on one broker (POP hands out per broker). Sources take turns, from a random start (trap R5). A
//! source whose answers come full gets more parallel receives, an idle one keeps one long poll.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::retry::{self, Backoff};

/// Waits after a failure: a server's return must be noticed within seconds.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// "Polling full" and "flow limit": the server is busy, not broken (trap R4).
const BUSY: Duration = Duration::from_millis(500);
/// An empty answer that came sooner than this was no long poll (trap R20): the next one waits a little, so that a server
/// which answers at once cannot make a hot loop.
const QUICK: Duration = Duration::from_millis(200);
/// So much patience with quick empty answers before the wait grows.
const EMPTY_BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What is held at most, and asked for at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// Most messages of one receive.
    pub(crate) batch: u32,
    /// Most receives under way, over all sources.
    pub(crate) receives: usize,
    /// Bytes of the largest message there may be: what each may weigh before one was seen.
    pub(crate) largest: usize,
}

/// A topic on a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceKey {
    pub(crate) topic: Arc<str>,
    pub(crate) broker: Arc<str>,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Receive up to `max` messages from this source.
    Receive { source: SourceKey, max: u32 },
    /// Nothing before this time, unless something changes.
    SleepUntil(Instant),
    /// Nothing until something changes.
    Wait,
}

/// How a receive ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It brought so many messages.
    Messages(u32),
    /// There were none.
    Empty,
    /// It failed; messages that came before the failure are counted as arrived.
    Failed(Error),
}

/// A receive that was begun, to be handed back when it ends.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    pub(crate) source: SourceKey,
    pub(crate) max: u32,
    pub(crate) at: Instant,
    /// How many of its messages have arrived.
    pub(crate) arrived: u32,
}

#[derive(Debug)]
struct Source {
    key: SourceKey,
    under_way: usize,
    /// How many receives may be under way here.
    width: usize,
    not_before: Option<Instant>,
    failures: Backoff,
    empties: Backoff,
}

/// The plan of one consumer.
#[derive(Debug)]
pub(crate) struct Planner {
    bounds: Bounds,
    sources: Vec<Source>,
    turn: usize,
    under_way: usize,
    held_messages: usize,
    held_bytes: usize,
    /// Messages that receives under way may still bring.
    reserved: usize,
    /// Bytes of a message, smoothed, leaning to the larger; unknown before the first.
    weight: Option<usize>,
    paused: bool,
    /// The last look found no room for a receive.
    starved: bool,
}

impl Planner {
    /// `start` is a random number: many consumers must not all begin with the same broker.
    pub(crate) fn new(bounds: Bounds, start: usize) -> Self {
        Self {
            bounds,
            sources: Vec::new(),
            turn: start,
            under_way: 0,
            held_messages: 0,
            held_bytes: 0,
            reserved: 0,
            weight: None,
            paused: false,
            starved: false,
        }
    }

    /// The topics and brokers to receive from now. Known ones keep their place and their waits.
    pub(crate) fn set_sources(&mut self, keys: Vec<SourceKey>) {
        self.sources.retain(|source| keys.contains(&source.key));
        for key in keys {
            if !self.sources.iter().any(|source| source.key == key) {
                self.sources.push(Source {
                    key,
                    under_way: 0,
                    width: 1,
                    not_before: None,
                    failures: Backoff::new(BACKOFF.0, BACKOFF.1),
                    empties: Backoff::new(EMPTY_BACKOFF.0, EMPTY_BACKOFF.1),
                });
            }
        }
    }

    pub(crate) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// So many messages may be asked for at most from now on (what the server announced).
    pub(crate) fn set_batch(&mut self, batch: u32) {
        self.bounds.batch = batch.max(1);
    }

    /// Ends the waits of all sources: the servers may be back.
    pub(crate) fn wake(&mut self) {
        for source in &mut self.sources {
            source.not_before = None;
        }
    }

    /// What to do at `now`; a `Receive` counts as under way from here on.
    pub(crate) fn next(&mut self, now: Instant) -> (Step, Option<Begun>) {
        let max = self.room();
        self.starved = max == 0;
        if self.paused || max == 0 || self.under_way >= self.bounds.receives {
            return (Step::Wait, None);
        }
        let (count, is_blind) = (self.sources.len(), self.weight.is_none());
        let mut earliest: Option<Instant> = None;
        for k in 0..count {
            let index = (self.turn + k) % count;
            let source = &mut self.sources[index];
            if source.under_way >= if is_blind { 1 } else { source.width } {
                continue;
            }
            match source.not_before {
                Some(at) if at > now => earliest = Some(earliest.map_or(at, |other| other.min(at))),
                _ => {
                    source.under_way += 1;
                    self.turn = (index + 1) % count;
                    self.under_way += 1;
                    self.reserved += max as usize;
                    let begun = Begun { source: source.key.clone(), max, at: now, arrived: 0 };
                    return (Step::Receive { source: begun.source.clone(), max }, Some(begun));
                }
            }
        }
        (earliest.map_or(Step::Wait, Step::SleepUntil), None)
    }

    /// What one receive asks for at most: idle sources keep a poll parked, and all of these together must fit.
    fn share(&self) -> usize {
        let sources = self.sources.len().max(1);
        let by_bytes = self.bounds.bytes / self.weight.unwrap_or(self.bounds.largest).max(1);
        (self.bounds.batch as usize).min(self.bounds.messages / sources).min(by_bytes / sources).max(1)
    }

    /// How many messages the next receive may ask for: its share, or none until there is room for half of it, so that a
    /// slow reader causes few large receives and not many small ones.
    fn room(&self) -> u32 {
        let share = self.share();
        let room = match self.weight {
            None => share,
            Some(weight) => {
                let messages = self.bounds.messages.saturating_sub(self.held_messages + self.reserved);
                let expected = self.held_bytes.saturating_add(self.reserved.saturating_mul(weight));
                messages.min(self.bounds.bytes.saturating_sub(expected) / weight.max(1)).min(share)
            }
        };
        let is_alone = self.held_messages + self.reserved == 0;
        match room {
            0 if is_alone => 1,
            room if is_alone || room >= share.div_ceil(2) => u32::try_from(room).unwrap_or(u32::MAX),
            _ => 0,
        }
    }

    /// A message arrived. `false`: it is heavier than was expected, there is no room for it, and it must be given back.
    pub(crate) fn on_message(&mut self, begun: &mut Begun, bytes: usize) -> bool {
        begun.arrived += 1;
        if begun.arrived <= begun.max {
            self.reserved = self.reserved.saturating_sub(1);
        }
        // Larger ones count at once, smaller ones slowly: too high a guess costs a smaller batch, too low a one memory.
        self.weight = Some(match self.weight {
            Some(known) if known > bytes => known - (known - bytes) / 16,
            _ => bytes,
        });
        let has_room =
            self.held_messages < self.bounds.messages && self.held_bytes.saturating_add(bytes) <= self.bounds.bytes;
        let fits = has_room || self.held_messages == 0;
        if fits {
            self.held_messages += 1;
            self.held_bytes += bytes;
        }
        fits
    }

    /// A buffered message was handed out or released. `true`: [`next`](Self::next) found no room for a receive, and now there
    /// is some.
    pub(crate) fn on_taken(&mut self, bytes: usize) -> bool {
        self.held_messages = self.held_messages.saturating_sub(1);
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
        let has_room = self.starved && self.room() > 0;
        self.starved &= !has_room;
        has_room
    }

    /// A receive ended. An error that no retry can mend is given back.
    pub(crate) fn on_done(&mut self, begun: &Begun, outcome: Outcome, now: Instant, jitter: f64) -> Result<(), Error> {
        self.under_way = self.under_way.saturating_sub(1);
        self.reserved = self.reserved.saturating_sub(begun.max.saturating_sub(begun.arrived) as usize);
        let (widest, sources) = (self.bounds.receives, self.sources.len().max(1));
        let Some(source) = self.sources.iter_mut().find(|source| source.key == begun.source) else {
            return Ok(()); // unsubscribed meanwhile
        };
        source.under_way = source.under_way.saturating_sub(1);
        match outcome {
            Outcome::Messages(count) => {
                source.failures.reset();
                source.empties.reset();
                source.not_before = None;
                if count >= begun.max {
                    source.width = (source.width + 1).min((widest / sources).max(1));
                }
            }
            Outcome::Empty => {
                source.failures.reset();
                source.width = 1;
                if now.saturating_duration_since(begun.at) < QUICK {
                    source.not_before = Some(now + source.empties.next(jitter));
                } else {
                    source.empties.reset();
                }
            }
            Outcome::Failed(error) if is_passing(&error) => {
                source.width = 1;
                let wait = source.failures.next(jitter);
                let busy = error.kind() == ErrorKind::Throttled;
                source.not_before = Some(now + if busy { wait.max(BUSY) } else { wait });
            }
            Outcome::Failed(error) => return Err(error),
        }
        Ok(())
    }

    pub(crate) const fn held(&self) -> (usize, usize) {
        (self.held_messages, self.held_bytes)
    }

    pub(crate) const fn receives_under_way(&self) -> usize {
        self.under_way
    }
}

/// Whether a failed receive may succeed later. A topic that is not found is a broker that is away (trap R19); one that
/// never existed was refused when the consumer was built.
fn is_passing(error: &Error) -> bool {
    error.kind().is_transient()
        || error.kind() == ErrorKind::NotFound
        || error.text().contains("no readable queue")
        || retry::is_outage(error)
}

#[cfg(test)]
#[path = "planner_tests.rs"]
#[allow(clippy::disallowed_methods, reason = "tables of cases begin at any time")]
mod tests;
