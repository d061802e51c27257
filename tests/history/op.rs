//! The words of a history.

use std::fmt;
use std::ops::Range;

/// A queue, as a number.
pub(crate) type Queue = usize;
/// One life of a consumer or producer: who starts again after a crash has another number.
pub(crate) type Process = usize;

/// What a run promises.
#[allow(clippy::enum_variant_names, reason = "that is what they are called")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contract {
    /// Nothing that was committed is unprocessed; what was committed is not read again.
    AtLeastOnce,
    /// Nothing is handed out twice; what was handed out is committed.
    AtMostOnce,
    /// Every message is once in the outputs.
    ExactlyOnce,
}

/// Why a queue begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// With its process. `stored` is what the store of the process had for it.
    Started { stored: Option<u64> },
    /// With its process, which was told to begin it at this position of a checkpoint.
    Restored { at: u64 },
    /// The queue came to a process that runs.
    Gained,
    /// The process was told to read from there.
    Sought,
    /// An administrator has reset the group, and the process has followed.
    Reset,
    /// One of its streams gave it back.
    GivenBack,
}

/// Where a position is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// By the broker, for the group.
    Broker,
    /// In a store that outlives the processes that use it.
    Store(usize),
}

/// How a send ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Stored {
        queue: Queue,
        offset: u64,
    },
    /// For sure not stored.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// A message as it lies in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) offset: u64,
    pub(crate) value: u64,
    /// Whether the filter of the group lets it pass.
    pub(crate) wanted: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Send {
        by: Process,
        value: u64,
        sent: Sent,
    },
    /// From here on a send may be stored twice, because its answer may be lost.
    RepliesLost,
    Begin {
        by: Process,
        queue: Queue,
        at: u64,
        why: Why,
    },
    /// Handed out: a contiguous range, and what lay in it, as offsets and values.
    Poll {
        by: Process,
        queue: Queue,
        epoch: Option<u64>,
        range: Range<u64>,
        messages: Vec<(u64, u64)>,
        /// They were gathered from several polls, so they may be older than what the process was told since.
        gathered: bool,
    },
    /// The messages of the range were processed, and the consumer was told. `late`: the queue has begun anew since.
    Complete {
        by: Process,
        queue: Queue,
        range: Range<u64>,
        late: bool,
    },
    Revoking {
        by: Process,
        queue: Queue,
        within: u64,
    },
    Revoked {
        by: Process,
        queue: Queue,
        reached: u64,
        /// What was saved of it at this moment, where the least is; `None`: it was told that not all could be.
        saved: Option<u64>,
    },
    /// Nothing is to be handed out of the queue, or again.
    Paused {
        by: Process,
        queue: Queue,
        paused: bool,
    },
    /// The process was told that everything below is saved in this place.
    Durable {
        by: Process,
        queue: Queue,
        next: u64,
        place: Place,
    },
    /// What is saved there, as seen from outside.
    Observe {
        queue: Queue,
        next: u64,
        place: Place,
    },
    /// An administrator has reset the group: the next pull of the queue is told so.
    Reset {
        queue: Queue,
        to: u64,
    },
    /// The broker has forgotten commits, and has this now.
    Forgets {
        queue: Queue,
        next: u64,
    },
    /// The process has looked what the broker has.
    Asked {
        by: Process,
        queue: Queue,
    },
    /// From here on, and until it is `over`, an answer that a broker gives need not be heard.
    Trouble {
        over: bool,
    },
    Crash {
        by: Process,
    },
    /// It was told to end soon: what is open is not waited for any longer than that.
    Leaving {
        by: Process,
    },
    Leave {
        by: Process,
    },
    /// A result that outlives crashes.
    Output {
        by: Process,
        queue: Queue,
        offset: u64,
    },
    /// The stream of the process failed without a reason that the schedule knows.
    Fail {
        by: Process,
        error: String,
    },
    /// What was to happen did not.
    Stuck {
        what: String,
    },
    /// What a queue holds at the end.
    Log {
        queue: Queue,
        entries: Vec<Entry>,
    },
    /// What the schedule did, for the reader.
    Note {
        what: String,
    },
}

/// An operation and its time in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at: u64,
    pub(crate) op: Op,
}

impl Op {
    /// The queue it is about.
    pub(crate) const fn queue(&self) -> Option<Queue> {
        match self {
            Self::Begin { queue, .. }
            | Self::Poll { queue, .. }
            | Self::Complete { queue, .. }
            | Self::Revoking { queue, .. }
            | Self::Revoked { queue, .. }
            | Self::Paused { queue, .. }
            | Self::Reset { queue, .. }
            | Self::Forgets { queue, .. }
            | Self::Asked { queue, .. }
            | Self::Durable { queue, .. }
            | Self::Observe { queue, .. }
            | Self::Output { queue, .. }
            | Self::Log { queue, .. } => Some(*queue),
            _ => None,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>9.3}s  ", self.at as f64 / 1000.0)?;
        match &self.op {
            Op::Send { by, value, sent } => write!(f, "p{by} sends {value}: {sent:?}"),
            Op::Begin { by, queue, at, why } => write!(f, "p{by} begins q{queue} at {at}, {why:?}"),
            Op::Poll { by, queue, epoch, range, messages, .. } => {
                let epoch = epoch.map_or_else(String::new, |epoch| format!(" in epoch {epoch}"));
                write!(f, "p{by} gets q{queue} {}..{}{epoch}, {} messages", range.start, range.end, messages.len())
            }
            Op::Complete { by, queue, range, late } => {
                let late = if *late { ", too late" } else { "" };
                write!(f, "p{by} completes q{queue} {}..{}{late}", range.start, range.end)
            }
            Op::Revoking { by, queue, within } => write!(f, "p{by} loses q{queue} within {within} ms"),
            Op::Revoked { by, queue, reached, saved } => {
                write!(f, "p{by} has given up q{queue} at {reached}, saved: {saved:?}")
            }
            Op::Paused { by, queue, paused } => {
                write!(f, "p{by} {} q{queue}", if *paused { "pauses" } else { "resumes" })
            }
            Op::Reset { queue, to } => write!(f, "q{queue} is reset to {to}"),
            Op::Forgets { queue, next } => write!(f, "the broker of q{queue} has forgotten, and has {next}"),
            Op::Asked { by, queue } => write!(f, "p{by} looks what the broker of q{queue} has"),
            Op::Trouble { over: false } => write!(f, "answers may be lost"),
            Op::Trouble { over: true } => write!(f, "answers are lost no more"),
            Op::Durable { by, queue, next, place } => write!(f, "p{by} is told that q{queue} {next} is in {place:?}"),
            Op::Observe { queue, next, place } => write!(f, "q{queue} is {next} in {place:?}"),
            Op::Crash { by } => write!(f, "p{by} crashes"),
            Op::Leaving { by } => write!(f, "p{by} is leaving"),
            Op::Leave { by } => write!(f, "p{by} has left"),
            Op::Output { by, queue, offset } => write!(f, "p{by} writes q{queue} {offset}"),
            Op::Fail { by, error } => write!(f, "p{by} FAILS: {error}"),
            Op::Stuck { what } => write!(f, "STUCK: {what}"),
            Op::Log { queue, entries } => write!(f, "q{queue} holds {} messages", entries.len()),
            Op::RepliesLost => write!(f, "answers to sends may be lost"),
            Op::Note { what } => write!(f, "-- {what}"),
        }
    }
}
