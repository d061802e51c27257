//! What a round of questions came to: which queues to hold, and when to ask again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::assignment::holding::Assignment;
use crate::assignment::strategy::Allocation;
use crate::error::Error;
use crate::model::{Endpoint, MessageQueue, Route};

/// As Java's clients: whatever was missed is put right by then.
pub(super) const CALM: Duration = Duration::from_secs(20);
/// As Java's clients after a round that did not come out.
pub(super) const SOON: Duration = Duration::from_secs(1);
/// A group that grows by a hundred members says so a hundred times, once per broker: rounds begin at least so far apart.
pub(super) const APART: Duration = Duration::from_millis(200);

/// What was learnt of one topic.
#[derive(Debug, Clone)]
pub(super) enum Learnt {
    /// How it is shared out, among how many members and of how many queues.
    Shared { allocation: Allocation, members: usize, queues: usize },
    /// No broker could tell, or the strategy is broken.
    Failed(Error),
}

/// Why a consumer holds what it holds.
#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// The first round is under way, or the brokers do not list this client yet.
    Joining,
    /// As the strategy says.
    Settled,
    /// There are more members than queues, and this one has none (trap P19). It takes over when another goes.
    Idle { members: usize, queues: usize },
    /// The brokers cannot be asked at the moment: what was held before is still held.
    Stale(Error),
}

impl Standing {
    /// Whether it tells nothing new; one failure is as good as another.
    pub(super) const fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Joining, Self::Joining) | (Self::Settled, Self::Settled) | (Self::Stale(_), Self::Stale(_)) => true,
            (Self::Idle { members, queues }, Self::Idle { members: m, queues: q }) => *members == *m && *queues == *q,
            _ => false,
        }
    }

    /// Told once, when it comes about.
    pub(super) fn log(&self) {
        match self {
            Self::Joining => tracing::debug!("not in the group's list of members"),
            Self::Settled => tracing::debug!("the assignment is settled"),
            Self::Idle { members, queues } => {
                tracing::info!(members, queues, "more members than queues; this one waits to take over");
            }
            Self::Stale(error) => {
                tracing::warn!(%error, "the group cannot be asked for; the assignment stays as it is")
            }
        }
    }
}

/// The outcome of a round.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) wanted: BTreeSet<MessageQueue>,
    pub(super) standing: Standing,
}

impl Outcome {
    /// When to ask again if nothing happens before.
    pub(super) const fn next(&self) -> Duration {
        match self.standing {
            Standing::Settled | Standing::Idle { .. } => CALM,
            Standing::Joining | Standing::Stale(_) => SOON,
        }
    }
}

/// A topic that nobody could tell about keeps its queues. One whose broker does not list this client loses them: the other
/// members have shared them out without it. A topic that is no longer learnt of loses them too.
pub(super) fn judge(held: &Assignment, learnt: &BTreeMap<Arc<str>, Learnt>) -> Outcome {
    let mut wanted = BTreeSet::new();
    let (mut failure, mut joining) = (None, false);
    let (mut members_seen, mut queues_seen) = (0, 0);
    for (topic, learnt) in learnt {
        match learnt {
            Learnt::Shared { allocation: Allocation::Mine(mine), members, queues } => {
                wanted.extend(mine.iter().cloned());
                members_seen = members_seen.max(*members);
                queues_seen += queues;
            }
            Learnt::Shared { allocation: Allocation::NotListed, .. } => joining = true,
            Learnt::Failed(error) => {
                wanted.extend(held.iter().map(|(queue, _)| queue).filter(|queue| *queue.topic() == **topic).cloned());
                failure = Some(error.clone());
            }
        }
    }
    let standing = match failure {
        Some(error) => Standing::Stale(error),
        None if joining => Standing::Joining,
        None if wanted.is_empty() => Standing::Idle { members: members_seen, queues: queues_seen },
        None => Standing::Settled,
    };
    Outcome { wanted, standing }
}

/// Numbered tasks share no list: what the route names is shared out. A queue whose broker is not in the route at all is kept:
/// its broker is away, and nobody else reads the queue meanwhile. One that its broker no longer has is let go.
pub(super) fn keep_while_away(held: &Assignment, route: &Route, shared: &mut BTreeSet<MessageQueue>) {
    let has_broker = |queue: &MessageQueue| route.queues.iter().any(|other| *other.broker == *queue.broker());
    let of_topic = held.iter().map(|(queue, _)| queue).filter(|queue| *queue.topic() == *route.topic);
    shared.extend(of_topic.filter(|queue| !has_broker(queue)).cloned());
}

/// Whom to ask for the members of a group: each broker that serves the topic to readers, the masters of all before any
/// slave. `first` is the place of the broker to begin with, so that not all ask the same one.
pub(super) fn whom_to_ask(route: &Route, first: usize) -> Vec<Endpoint> {
    let mut brokers = replicas_by_broker([route]);
    if !brokers.is_empty() {
        let middle = first % brokers.len();
        brokers.rotate_left(middle);
    }
    let deepest = brokers.iter().map(|(_, replicas)| replicas.len()).max().unwrap_or(0);
    let ranked = (0..deepest).flat_map(|rank| brokers.iter().filter_map(move |(_, replicas)| replicas.get(rank)));
    let mut asked: Vec<Endpoint> = Vec::new();
    for at in ranked {
        if !asked.contains(at) {
            asked.push(at.clone());
        }
    }
    asked
}

/// Each broker that serves the topics to readers, once, and where it is reached: its master before its slaves.
pub(super) fn replicas_by_broker<'r>(routes: impl IntoIterator<Item = &'r Route>) -> Vec<(Arc<str>, Vec<Endpoint>)> {
    let mut brokers: Vec<(Arc<str>, Vec<Endpoint>)> = Vec::new();
    let queues = routes.into_iter().flat_map(|route| &route.queues);
    for queue in queues.filter(|queue| queue.permission.readable()) {
        if brokers.iter().any(|(name, _)| *name == queue.broker) {
            continue;
        }
        let mut replicas: Vec<&(u64, Endpoint)> = queue.replicas.iter().collect();
        replicas.sort_by_key(|(id, _)| *id);
        let replicas: Vec<Endpoint> = replicas.into_iter().map(|(_, at)| at.clone()).collect();
        let reached = if replicas.is_empty() { queue.endpoints.to_vec() } else { replicas };
        brokers.push((Arc::clone(&queue.broker), reached));
    }
    brokers
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
