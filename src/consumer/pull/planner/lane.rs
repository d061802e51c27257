//! One queue of a planner: how far it is handed out, buffered and asked for, and what an answer means for it.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use super::budget::{Load, lean};
use super::step::{Cause, Notice, Piece, Start, Stop};
use crate::error::{Error, ErrorKind, Operation};
use crate::model::{Epoch, Filter, Message, MessageQueue, Offset, OnOffsetGap};
use crate::retry::Backoff;
use crate::transport::{PullOutcome, Pulled};

/// Waits after a failure: a broker's return must be noticed within seconds.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// An empty answer that came sooner than this was no long poll: the next pull waits a little, so that a server which
/// answers at once cannot make a hot loop.
const QUICK: Duration = Duration::from_millis(200);
const EMPTY_BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// A broker that was killed loses what it had not flushed: some seconds of messages. An end that lies further back than
/// this is another queue under the same name (trap P18).
const FAR: u64 = 100_000;

/// Where a lane waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: a pull is under way, or nothing is wanted.
    Out,
    /// In one of the lines for a pull.
    InLine,
    /// Not before this time.
    Asleep(Instant),
}

#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) number: u64,
    /// What was asked for. When the queue's buffer was dropped meanwhile, the answer is of no use.
    pub(super) offset: Offset,
    pub(super) since: Instant,
    pub(super) reserved: Load,
    pub(super) is_parked: bool,
    /// Another pull may be under way beside it.
    pub(super) is_stray: bool,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) queue: MessageQueue,
    pub(super) filter: Filter,
    pub(super) epoch: Epoch,
    pub(super) birth: u64,
    /// First offset that is not yet handed out.
    pub(super) position: Offset,
    /// End of the last range, buffered or handed out: where the next one begins.
    covered: Offset,
    /// Where to pull next.
    pub(super) fetched: Offset,
    pub(super) buffer: VecDeque<(Piece, Load)>,
    pub(super) under_way: Option<UnderWay>,
    /// A long poll behind a buffer that was dropped since. A reset may be its answer, and is told once; nothing else counts.
    pub(super) stray: Option<UnderWay>,
    pub(super) place: Place,
    pub(super) is_ready: bool,
    pub(super) is_tail: bool,
    pub(super) paused: bool,
    pub(super) blocked: bool,
    pub(super) ended: bool,
    /// A restart was asked for: nothing happens until it begins.
    pub(super) restarting: bool,
    pub(super) stop: Option<Stop>,
    not_before: Option<SystemTime>,
    /// First offset and end of the queue, as the last answer said.
    pub(super) bounds: (Option<Offset>, Option<Offset>),
    pub(super) weight: usize,
    pub(super) replica: Option<u64>,
    failures: Backoff,
    empties: Backoff,
    /// A refused jump was told: once is enough until something else is answered.
    told_jump: bool,
}

/// What an answer means.
#[derive(Debug)]
pub(super) enum Meaning {
    /// Messages to be handed out; the range goes up to here.
    Messages(Vec<Message>, Offset),
    /// Nothing up to here.
    Nothing(Offset),
    /// Nothing yet; ask again, at once or after a wait.
    NotYet(Option<Duration>),
    /// As the policy says, reading goes on at a later offset.
    Gap(Notice, Offset),
    /// Reading goes on elsewhere, in a new epoch.
    Restart(Offset, Cause),
    /// The answer was refused; ask again after a wait.
    Refused(Option<Notice>, Duration),
    Fail(Error),
}

impl Lane {
    pub(super) fn new(start: Start, birth: u64) -> Self {
        Self {
            queue: start.queue,
            filter: start.filter,
            epoch: start.epoch,
            birth,
            position: start.at,
            covered: start.at,
            fetched: start.at,
            buffer: VecDeque::new(),
            under_way: None,
            stray: None,
            place: Place::Out,
            is_ready: false,
            is_tail: false,
            paused: false,
            blocked: false,
            ended: false,
            restarting: false,
            stop: start.stop,
            not_before: start.not_before,
            bounds: (None, None),
            weight: 0,
            replica: None,
            failures: Backoff::new(BACKOFF.0, BACKOFF.1),
            empties: Backoff::new(EMPTY_BACKOFF.0, EMPTY_BACKOFF.1),
            told_jump: false,
        }
    }

    pub(super) fn place_to_go_on(&self) -> Start {
        Start {
            queue: self.queue.clone(),
            filter: self.filter.clone(),
            epoch: self.epoch,
            at: self.position,
            not_before: self.not_before,
            stop: self.stop,
        }
    }

    /// Takes the pull with this number out: it is answered.
    pub(super) fn answered(&mut self, number: u64) -> Option<UnderWay> {
        let is_it = |pull: &mut UnderWay| pull.number == number;
        self.under_way.take_if(is_it).or_else(|| self.stray.take_if(is_it))
    }

    /// A long poll behind what was dropped holds nothing up: what was dropped may be there at once, and its answer not for
    /// a long time. One at most is left so to the broker.
    pub(super) fn let_stray(&mut self) {
        if self.stray.is_none() {
            let behind = self.under_way.take_if(|pull| pull.is_parked && pull.offset != self.fetched);
            self.stray = behind.map(|pull| UnderWay { is_stray: true, ..pull });
        }
    }

    pub(super) fn wants_pull(&self) -> bool {
        self.under_way.is_none()
            && !(self.paused || self.blocked || self.ended || self.restarting || self.has_fetched_all())
    }

    /// How many messages to hope for. A broker that failed is asked for one: it must not hold the room of the others.
    pub(super) fn backlog(&self) -> u64 {
        if self.failures.attempts() > 0 {
            return 1;
        }
        let end = self.stop.map_or(u64::MAX, |stop| stop.at.get());
        let known = self.bounds.1.map_or(u64::MAX, Offset::get);
        end.min(known).saturating_sub(self.fetched.get()).max(1)
    }

    pub(super) fn has_fetched_all(&self) -> bool {
        self.stop.is_some_and(|stop| self.fetched >= stop.at)
    }

    /// Takes a pull's failure that may pass; how long to wait.
    pub(super) fn after_failure(&mut self, jitter: f64) -> Duration {
        self.replica = None;
        self.bounds.1 = None; // whoever answers next tells how far the queue goes
        self.failures.next(jitter)
    }

    /// Judges an answer to the pull at [`fetched`](Self::fetched).
    pub(super) fn judge(
        &mut self,
        pulled: Pulled,
        asked: &UnderWay,
        policy: OnOffsetGap,
        now: Instant,
        jitter: f64,
    ) -> Meaning {
        self.failures.reset();
        self.bounds = (pulled.min_offset, pulled.max_offset);
        let suggested = pulled.suggested_replica.filter(|replica| *replica != 0);
        let is_of_slave = std::mem::replace(&mut self.replica, suggested).is_some();
        let is_gap = pulled.outcome == PullOutcome::OutOfRange;
        if pulled.outcome == PullOutcome::Reset {
            return Meaning::Restart(pulled.next_offset, Cause::Reset);
        }
        // Where a queue ends its master knows.
        if pulled.next_offset < self.fetched && (is_of_slave || !is_gap) {
            return self.refuse(pulled.next_offset, jitter);
        }
        if is_gap {
            return self.judge_gap(&pulled, policy);
        }
        self.told_jump = false;
        if pulled.messages.is_empty() && pulled.next_offset == self.fetched {
            return self.not_yet(asked, now, jitter);
        }
        self.empties.reset();
        let next = self.until_stop(pulled.next_offset);
        let messages = self.wanted(pulled.messages, next);
        if messages.is_empty() { Meaning::Nothing(next) } else { Meaning::Messages(messages, next) }
    }

    fn until_stop(&self, next: Offset) -> Offset {
        self.stop.map_or(next, |stop| next.min(stop.at))
    }

    /// Without what lies beyond the stop, and what was stored before the time that reading begins at.
    fn wanted(&self, mut messages: Vec<Message>, next: Offset) -> Vec<Message> {
        if let Some(time) = self.not_before {
            let early = messages.iter().take_while(|one| one.store_timestamp().is_some_and(|stored| stored < time));
            let early = early.count();
            messages.drain(..early);
        }
        if self.stop.is_some() {
            let kept = messages.partition_point(|one| one.queue_offset().is_none_or(|offset| offset < next));
            messages.truncate(kept);
        }
        messages
    }

    fn not_yet(&mut self, asked: &UnderWay, now: Instant, jitter: f64) -> Meaning {
        if self.stop.is_some_and(|stop| stop.even_if_short) {
            self.stop = Some(Stop { at: self.fetched, even_if_short: true });
            return Meaning::NotYet(None);
        }
        let was_quick = asked.is_parked && now.saturating_duration_since(asked.since) < QUICK;
        Meaning::NotYet(if was_quick {
            Some(self.empties.next(jitter))
        } else {
            self.empties.reset();
            None
        })
    }

    /// A server that points back, unasked: a slave that lags behind, or a queue that began anew (trap P18). The master is asked
    /// next.
    fn refuse(&mut self, offered: Offset, jitter: f64) -> Meaning {
        self.replica = None;
        let notice = Notice::JumpRefused { queue: self.queue.clone(), at: self.fetched, offered };
        let first = !std::mem::replace(&mut self.told_jump, true);
        Meaning::Refused(first.then_some(notice), self.failures.next(jitter))
    }

    /// The offset is not there: the declared policy decides, once (trap P5).
    fn judge_gap(&mut self, pulled: &Pulled, policy: OnOffsetGap) -> Meaning {
        let (at, to) = (self.fetched, pulled.next_offset);
        if to == at {
            return Meaning::NotYet(Some(self.empties.next(1.0))); // the end of an empty queue: no gap
        }
        if to < at {
            return self.judge_beyond(to, policy);
        }
        let to = match policy {
            OnOffsetGap::Latest => pulled.max_offset.unwrap_or(to).max(to),
            OnOffsetGap::Earliest => to,
            OnOffsetGap::Fail => {
                let text = format!(
                    "offset {at} is below the queue's first offset {to} (messages expired); \
                     set on_offset_gap(OnOffsetGap::Earliest) to go on at {to}"
                );
                return Meaning::Fail(self.out_of_range(text));
            }
        };
        Meaning::Gap(Notice::Gap { queue: self.queue.clone(), at, to }, self.until_stop(to))
    }

    fn judge_beyond(&mut self, end: Offset, policy: OnOffsetGap) -> Meaning {
        let at = self.fetched;
        let far = at.get() - end.get() > FAR;
        if far || policy == OnOffsetGap::Fail {
            let advice = if far {
                "too far back to be lost messages: is it another queue under the same name? seek to where reading shall go on"
            } else {
                "the broker lost messages, or the offset is of another queue; set on_offset_gap(OnOffsetGap::Latest) to go on at the end"
            };
            let text = format!("offset {at} is beyond the queue's end {end}; {advice}");
            return Meaning::Fail(self.out_of_range(text));
        }
        Meaning::Restart(end, Cause::BeyondEnd)
    }

    fn out_of_range(&self, text: String) -> Error {
        Error::new(ErrorKind::OffsetOutOfRange, text).during(Operation::Pull).on_queue(&self.queue)
    }

    /// Buffers messages up to `next`.
    pub(super) fn buffer(&mut self, messages: Vec<Message>, next: Offset, load: Load) {
        let range = self.covered..next;
        self.covered = next;
        self.fetched = next;
        self.not_before = None; // what follows may be older, by the clock of another broker; it is wanted
        self.buffer.push_back((Piece { queue: self.queue.clone(), epoch: self.epoch, range, messages }, load));
    }

    pub(super) fn weigh(&mut self, load: Load) {
        if let Some(each) = load.bytes.checked_div(load.messages) {
            self.weight = lean(Some(self.weight), each);
        }
    }

    /// There is nothing before `next`. `true`: nothing is buffered, so the position moved.
    pub(super) fn skip_to(&mut self, next: Offset) -> bool {
        self.fetched = next;
        if let Some((last, _)) = self.buffer.back_mut() {
            last.range.end = next;
            self.covered = next;
            return false;
        }
        let moved = next > self.position;
        self.position = self.position.max(next);
        moved
    }

    /// Takes the next piece to be handed out.
    pub(super) fn take(&mut self) -> Option<(Piece, Load)> {
        let (piece, load) = self.buffer.pop_front()?;
        self.position = piece.range.end;
        Some((piece, load))
    }

    /// Forgets what is buffered; it is pulled again. What it held.
    pub(super) fn drop_buffer(&mut self) -> Load {
        let mut dropped = Load::default();
        if let Some((first, _)) = self.buffer.front() {
            self.covered = first.range.start;
            self.fetched = self.position;
        }
        for (_, load) in self.buffer.drain(..) {
            dropped.messages += load.messages;
            dropped.bytes += load.bytes;
        }
        dropped
    }
}
