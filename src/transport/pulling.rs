//! Pulling by offset, and what a group of pulling consumers asks its brokers for.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::{Endpoint, Filter, Message, MessageQueue, Offset};
use crate::transport::Call;

/// Pulling by offset. `at` is a broker (or a proxy's remoting port) that serves the queue. Every call has a deadline.
pub(crate) trait Pulling: fmt::Debug + Send + Sync {
    /// One pull. A gap, an empty tail and a range that was filtered away are answers, not errors; a timed-out pull may be
    /// repeated.
    fn pull<'a>(&'a self, at: &'a Endpoint, request: &'a PullRequest) -> Call<'a, Pulled>;

    /// The group's committed offset: the first that is not yet consumed. `None`: the broker has none.
    fn committed<'a>(
        &'a self,
        at: &'a Endpoint,
        group: &'a Arc<str>,
        queue: &'a MessageQueue,
    ) -> Call<'a, Option<Offset>>;

    /// Commits `next`, the first offset that is not yet consumed. A plain overwrite: whoever calls it must own the queue.
    fn commit<'a>(
        &'a self,
        at: &'a Endpoint,
        group: &'a Arc<str>,
        queue: &'a MessageQueue,
        next: Offset,
    ) -> Call<'a, ()>;

    /// The first offset that is there, or the one that will be written next. An unknown queue answers 0, never an error
    /// (trap P24): check it against the route first.
    fn bound<'a>(&'a self, at: &'a Endpoint, queue: &'a MessageQueue, bound: QueueBound) -> Call<'a, Offset>;

    /// The first offset that was stored at `time` or later; the end of the queue when there is none.
    fn offset_at<'a>(&'a self, at: &'a Endpoint, queue: &'a MessageQueue, time: SystemTime) -> Call<'a, Offset>;

    /// Asks the broker to parse a filter: a pull with an SQL92 filter that does not parse returns everything (trap P22).
    /// `InvalidArgument`: it does not parse. `Unsupported`: this server checks nothing, so that nobody knows (a proxy).
    fn check_filter<'a>(
        &'a self,
        at: &'a Endpoint,
        group: &'a Arc<str>,
        topic: &'a Arc<str>,
        filter: &'a Filter,
    ) -> Call<'a, ()>;

    /// The client ids of a group's members, as one broker knows them; may contain duplicates. Empty: none.
    fn members<'a>(&'a self, at: &'a Endpoint, group: &'a Arc<str>) -> Call<'a, Vec<Arc<str>>>;

    /// The names of all topics but those of clusters and brokers. Apache's retry, dead-letter and system topics are among
    /// them. A wire that has several servers to ask begins with `at`, and goes on to the others.
    fn topics<'a>(&'a self, at: &'a Endpoint) -> Call<'a, BTreeSet<Arc<str>>>;

    /// What one broker knows of a group's members. `None`: nobody of it is connected there.
    fn group_profile<'a>(&'a self, at: &'a Endpoint, group: &'a Arc<str>) -> Call<'a, Option<GroupProfile>>;
}

/// One pull.
#[derive(Debug, Clone)]
pub(crate) struct PullRequest {
    pub(crate) group: Arc<str>,
    pub(crate) queue: MessageQueue,
    pub(crate) offset: Offset,
    pub(crate) filter: Filter,
    /// At most so many; a server may give fewer (by default 32, and 8 from disk).
    pub(crate) max_messages: u32,
    /// How long the broker may hold the request while there is nothing. `None`: it answers at once.
    pub(crate) suspend: Option<Duration>,
}

/// The answer to a pull.
#[derive(Debug)]
pub(crate) struct Pulled {
    /// In the order of their offsets, none below the offset asked for; tag collisions are filtered out already.
    pub(crate) messages: Vec<Message>,
    /// Where to pull next: also past what was filtered away or is no more.
    pub(crate) next_offset: Offset,
    pub(crate) outcome: PullOutcome,
    /// The first offset that is there, if the server told.
    pub(crate) min_offset: Option<Offset>,
    /// The offset that will be written next, if the server told.
    pub(crate) max_offset: Option<Offset>,
    /// The member of the broker's group to read from next, 0 being the master.
    pub(crate) suggested_replica: Option<u64>,
}

/// What kind of answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullOutcome {
    /// There are messages, unless all of them were tag collisions.
    Found,
    /// A range was scanned and nothing matched: pull on at once.
    Filtered,
    /// There is nothing at this offset yet.
    Empty,
    /// The offset is below the first or beyond the last: `next_offset` is the server's correction (traps P4, P5).
    OutOfRange,
    /// An administrator has reset the group's offset: `next_offset` is the target (trap P29).
    Reset,
}

/// Which end of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueBound {
    /// The first offset that is there.
    Min,
    /// The offset that will be written next.
    Max,
}

/// How the members of a group consume, as their heartbeats say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupProfile {
    pub(crate) consume_kind: ConsumeKind,
    /// Ids of the members.
    pub(crate) members: Vec<Arc<str>>,
    /// Topic and filter, for each topic the group subscribes to.
    pub(crate) subscriptions: Vec<(Arc<str>, Filter)>,
}

/// A member's way to consume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConsumeKind {
    /// By offset.
    Pull,
    /// Java's remoting PushConsumer.
    Push,
    /// By lease.
    Pop,
    /// One this version does not know.
    Unknown,
}
