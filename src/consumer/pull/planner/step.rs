//! What a planner is told and what it answers.

use std::time::{Duration, Instant, SystemTime};

use crate::error::Error;
use crate::model::{Epoch, Filter, Message, MessageQueue, Offset, OffsetRange, OnOffsetGap};

/// What is held and asked for at most, and what is done about gaps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Messages pulled and not handed out, over all queues.
    pub(crate) messages: usize,
    /// Their bytes, decoded.
    pub(crate) bytes: usize,
    /// Most messages of one pull.
    pub(crate) max_messages: u32,
    /// How long a broker may hold a pull at the end of a queue.
    pub(crate) suspend: Duration,
    pub(crate) on_gap: OnOffsetGap,
}

/// A queue to be read, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) queue: MessageQueue,
    pub(crate) filter: Filter,
    pub(crate) epoch: Epoch,
    pub(crate) at: Offset,
    /// Messages at the beginning that were stored before this time are not handed out (trap P13).
    pub(crate) not_before: Option<SystemTime>,
    pub(crate) stop: Option<Stop>,
}

/// Where the reading of a queue ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Before this offset.
    pub(crate) at: Offset,
    /// Nothing is waited for: a queue that ends before `at` (its tail is lost, or invisible) has reached its end.
    pub(crate) even_if_short: bool,
}

/// Names one pull: the answer to a pull that was given up meanwhile finds no one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ticket {
    pub(super) slot: usize,
    pub(super) number: u64,
}

/// A pull to be begun.
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    pub(crate) ticket: Ticket,
    pub(crate) queue: MessageQueue,
    pub(crate) filter: Filter,
    pub(crate) offset: Offset,
    pub(crate) max_messages: u32,
    /// `None`: answer at once, there is something.
    pub(crate) suspend: Option<Duration>,
    /// The member of the broker's group to ask, as the broker suggested. `None`: the master.
    pub(crate) replica: Option<u64>,
}

/// Messages of one queue to be handed out, and the range they stand for: the ranges of one epoch follow each other without
/// a gap, also over what was filtered away.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) queue: MessageQueue,
    pub(crate) epoch: Epoch,
    pub(crate) range: OffsetRange,
    pub(crate) messages: Vec<Message>,
}

/// What the user should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The offset asked for was not there; reading goes on at `to`, as the policy says.
    Gap { queue: MessageQueue, at: Offset, to: Offset },
    /// A server answered a pull at `at` with the earlier offset `offered`, unasked; it was not followed.
    JumpRefused { queue: MessageQueue, at: Offset, offered: Offset },
}

/// Why a queue begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// An administrator reset the group's offset.
    Reset,
    /// The offset lay beyond the end of the queue.
    BeyondEnd,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Step {
    Yield(Piece),
    /// There is nothing to hand out before `next`: the position moves on all the same.
    Skip {
        queue: MessageQueue,
        epoch: Epoch,
        next: Offset,
    },
    Fetch(Fetch),
    /// The queue goes on at `to`, in a new epoch: answer with [`begin`](super::Planner::begin).
    Restart {
        queue: MessageQueue,
        from: Offset,
        to: Offset,
        cause: Cause,
    },
    Tell(Notice),
    /// No retry can mend it.
    Fail(Error),
    /// There is something to hand out, but whoever writes what was fetched last shall come first: the servers work on it
    /// while the user works on that. Not for long polls.
    SendOff,
    /// Every queue has reached its end.
    Ended,
    /// Nothing before this time, unless something changes.
    SleepUntil(Instant),
    /// Nothing until something changes.
    Wait,
}
