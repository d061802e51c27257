//! What to do next with a set of queues: hand out, pull, sleep or wait. A function of what is buffered, under way and known
//! of each queue; nothing in it takes longer the more queues there are.
//!
//! ```text
//!            pulled, failed          ┌── tails ──┐ long polls, a share of their own
//! start ──▶ lane ──────────▶ buffer  ├── behind ─┤ in turn, within the budget      ──▶ Fetch
//!   seek     │  │                │   └── asleep ─┘ backing off, each alone
//!   reset    │  └ paused, blocked└──▶ ready, in turn                                ──▶ Yield
//!   revoke   └ ended at its stop
//! ```

mod budget;
mod lane;
mod step;
mod turns;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::model::{Checkpoint, MessageQueue, Offset};
use crate::transport::{PullOutcome, Pulled};

use budget::{Budget, Load};
use lane::{Lane, Meaning, Place, UnderWay};
pub(crate) use step::{Cause, Fetch, Notice, Options, Piece, Start, Step, Stop, Ticket};

/// The broker is busy, not broken.
const BUSY: Duration = Duration::from_millis(500);

/// A lane and its birth: a line may still name a lane that is gone.
type Key = (usize, u64);

/// The plan for a set of queues.
#[derive(Debug)]
pub(crate) struct Planner {
    options: Options,
    budget: Budget,
    lanes: Vec<Option<Lane>>,
    free: Vec<usize>,
    index: HashMap<MessageQueue, usize>,
    births: u64,
    pulls: u64,
    /// Lines of lanes that want to pull.
    behind: VecDeque<Key>,
    tails: VecDeque<Key>,
    asleep: BTreeSet<(Instant, Key)>,
    /// The line of lanes with something to hand out.
    ready: VecDeque<Key>,
    told: VecDeque<Step>,
    /// Something that is answered at once was fetched since the reader was last told to send it off.
    is_unsent: bool,
    /// Lanes that have not reached their stop.
    open: usize,
    /// Ends when no lane is open, and no more queues are expected.
    is_bounded: bool,
    expects_queues: bool,
}

impl Planner {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            budget: Budget::new(&options),
            lanes: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            births: 0,
            pulls: 0,
            behind: VecDeque::new(),
            tails: VecDeque::new(),
            asleep: BTreeSet::new(),
            ready: VecDeque::new(),
            told: VecDeque::new(),
            is_unsent: false,
            open: 0,
            is_bounded: false,
            expects_queues: false,
        }
    }

    // ---- which queues, and from where

    /// Reads a queue from here on. One that is read already begins anew: what is buffered of it is dropped, and the answers
    /// to its pulls, which are returned to be given up, will find no one (trap P6).
    pub(crate) fn begin(&mut self, start: Start) -> Vec<Ticket> {
        let known = self.index.get(&start.queue).and_then(|slot| self.lanes[*slot].as_ref());
        let weight = known.map_or(0, |lane| lane.weight);
        let given_up = self.end(&start.queue);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.lanes.push(None);
            self.lanes.len() - 1
        });
        self.births += 1;
        self.index.insert(start.queue.clone(), slot);
        let mut lane = Lane::new(start, self.births);
        lane.weight = weight;
        self.lanes[slot] = Some(lane);
        self.open += 1;
        self.settle(slot);
        given_up
    }

    /// Reads a queue no longer; what is buffered of it is dropped.
    pub(crate) fn end(&mut self, queue: &MessageQueue) -> Vec<Ticket> {
        let Some(slot) = self.index.remove(queue) else { return Vec::new() };
        let Some(mut lane) = self.lanes[slot].take() else { return Vec::new() };
        self.free.push(slot);
        self.budget.release(lane.drop_buffer());
        if let Place::Asleep(at) = lane.place {
            self.asleep.remove(&(at, (slot, lane.birth)));
        }
        if lane.is_tail {
            self.budget.tail_went();
        }
        if !lane.ended {
            self.open -= 1;
        }
        let pulls = lane.under_way.into_iter().chain(lane.stray);
        let given_up = pulls.map(|pull| {
            self.budget.release_reserved(pull.reserved);
            Ticket { slot, number: pull.number }
        });
        given_up.collect()
    }

    /// Hands nothing out of a queue and pulls nothing for it until it is resumed. A pull under way goes on.
    pub(crate) fn set_paused(&mut self, queue: &MessageQueue, paused: bool) {
        self.hold(queue, |lane| std::mem::replace(&mut lane.paused, paused));
    }

    /// Like a pause: so much of a queue is handed out and not completed that its tracker takes no more.
    pub(crate) fn set_blocked(&mut self, queue: &MessageQueue, blocked: bool) {
        self.hold(queue, |lane| std::mem::replace(&mut lane.blocked, blocked));
    }

    /// A queue that is held keeps no room from the others: what is buffered of it is pulled again when it goes on.
    fn hold(&mut self, queue: &MessageQueue, change: impl FnOnce(&mut Lane) -> bool) {
        let Some(&slot) = self.index.get(queue) else { return };
        let Some(lane) = self.lanes[slot].as_mut() else { return };
        change(lane);
        if lane.paused || lane.blocked {
            self.budget.release(lane.drop_buffer());
            lane.let_stray();
            let was_tail = lane.is_tail;
            self.rest(slot, None, was_tail);
        }
        self.settle(slot);
    }

    /// Whether the plan ends once every queue has reached its stop; and whether more queues are on their way.
    pub(crate) fn set_bounded(&mut self, is_bounded: bool, expects_queues: bool) {
        (self.is_bounded, self.expects_queues) = (is_bounded, expects_queues);
    }

    /// Other bounds from now on.
    pub(crate) fn set_bounds(&mut self, messages: usize, bytes: usize) {
        self.budget.set_bounds(messages, bytes);
    }

    // ---- what is known

    /// First offset of each queue that is not yet handed out.
    pub(crate) fn positions(&self) -> Checkpoint {
        self.lanes.iter().flatten().map(|lane| (lane.queue.clone(), lane.position)).collect()
    }

    /// Where another planner would have to begin to go on after what was handed out, and whether it is paused.
    pub(crate) fn place_of(&self, queue: &MessageQueue) -> Option<(Start, bool)> {
        self.lane_of(queue).map(|lane| (lane.place_to_go_on(), lane.paused))
    }

    pub(crate) fn position(&self, queue: &MessageQueue) -> Option<Offset> {
        self.lane_of(queue).map(|lane| lane.position)
    }

    /// First offset and end of a queue, as its last answer said.
    pub(crate) fn bounds_of(&self, queue: &MessageQueue) -> (Option<Offset>, Option<Offset>) {
        self.lane_of(queue).map_or((None, None), |lane| lane.bounds)
    }

    /// Messages and bytes that are buffered.
    pub(crate) const fn held(&self) -> (usize, usize) {
        let held = self.budget.held();
        (held.messages, held.bytes)
    }

    fn lane_of(&self, queue: &MessageQueue) -> Option<&Lane> {
        self.lanes[*self.index.get(queue)?].as_ref()
    }

    // ---- answers

    /// The answer to a pull; the queue it was for, unless the pull was given up.
    pub(crate) fn on_pulled(
        &mut self,
        ticket: Ticket,
        pulled: Pulled,
        now: Instant,
        jitter: f64,
    ) -> Option<MessageQueue> {
        let policy = self.options.on_gap;
        let (lane, asked) = self.answered(ticket)?;
        let queue = lane.queue.clone();
        let load = Load {
            messages: pulled.messages.len(),
            bytes: pulled.messages.iter().map(crate::model::Message::weight).sum(),
        };
        lane.weigh(load);
        // A reset is told once, wherever the pull was. Once it was, nothing of before counts.
        if (asked.offset != lane.fetched || lane.restarting) && pulled.outcome != PullOutcome::Reset {
            let was_tail = lane.is_tail;
            self.rest(ticket.slot, None, was_tail);
            return Some(queue);
        }
        let is_held = lane.paused || lane.blocked;
        let meaning = lane.judge(pulled, &asked, policy, now, jitter);
        let is_tail = matches!(meaning, Meaning::NotYet(_));
        let wait = self.follow(ticket.slot, meaning, load, is_held);
        self.rest(ticket.slot, wait.map(|wait| now + wait), is_tail);
        Some(queue)
    }

    /// A pull failed. What no retry can mend is told by [`Step::Fail`]; a failing queue backs off alone.
    pub(crate) fn on_failed(
        &mut self,
        ticket: Ticket,
        error: Error,
        now: Instant,
        jitter: f64,
    ) -> Option<MessageQueue> {
        let (lane, asked) = self.answered(ticket)?;
        let queue = lane.queue.clone();
        if asked.is_stray {
            return Some(queue); // the pull beside it will tell
        }
        if !is_passing(&error) {
            lane.ended = true;
            self.open -= 1;
            self.told.push_back(Step::Fail(error));
            return Some(queue);
        }
        let wait = lane.after_failure(jitter);
        let wait = if error.kind() == ErrorKind::Throttled { wait.max(BUSY) } else { wait };
        self.rest(ticket.slot, Some(now + wait), false);
        Some(queue)
    }

    fn answered(&mut self, ticket: Ticket) -> Option<(&mut Lane, UnderWay)> {
        let lane = self.lanes.get_mut(ticket.slot)?.as_mut()?;
        let asked = lane.answered(ticket.number)?;
        self.budget.release_reserved(asked.reserved);
        Some((lane, asked))
    }

    /// Does what an answer means; how long the queue must wait before it pulls again.
    fn follow(&mut self, slot: usize, meaning: Meaning, load: Load, is_held: bool) -> Option<Duration> {
        let lane = self.lanes[slot].as_mut()?;
        match meaning {
            Meaning::Messages(messages, next) if !is_held => {
                if self.budget.take_in(load) {
                    lane.buffer(messages, next, load);
                    self.get_ready(slot);
                }
            }
            Meaning::Messages(..) => {} // pulled again when it goes on
            Meaning::Nothing(next) => self.skip(slot, next),
            Meaning::NotYet(wait) => return wait,
            Meaning::Gap(notice, to) => {
                self.told.push_back(Step::Tell(notice));
                self.skip(slot, to);
            }
            Meaning::Restart(to, cause) => {
                lane.restarting = true;
                let dropped = lane.drop_buffer();
                let (queue, from) = (lane.queue.clone(), lane.position);
                self.budget.release(dropped);
                self.told.push_back(Step::Restart { queue, from, to, cause });
            }
            Meaning::Refused(notice, wait) => {
                self.told.extend(notice.map(Step::Tell));
                return Some(wait);
            }
            Meaning::Fail(error) => {
                lane.ended = true;
                self.open -= 1;
                self.told.push_back(Step::Fail(error));
            }
        }
        None
    }

    fn skip(&mut self, slot: usize, next: Offset) {
        if let Some(lane) = self.lanes[slot].as_mut()
            && lane.skip_to(next)
        {
            self.told.push_back(Step::Skip { queue: lane.queue.clone(), epoch: lane.epoch, next });
        }
    }
}

/// Whether a failed pull may succeed later. A topic that is not found is a broker that is away, or a queue that was just
/// taken away; one that never existed was refused when the consumer was built.
fn is_passing(error: &Error) -> bool {
    error.kind().is_transient() || error.kind() == ErrorKind::NotFound
}

#[cfg(test)]
#[path = "planner_tests.rs"]
#[allow(clippy::disallowed_methods, reason = "tables of cases begin at any time")]
mod tests;
