//! How the members of a group share out the queues of a topic, each by itself and all with the same result.

mod ring;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::model::MessageQueue;

pub use ring::ConsistentHash;
pub(super) use ring::hash;

/// Decides which queues of one topic a member of a group reads.
///
/// Every member asks its own strategy with the same lists, and nobody compares the answers. So **all members of a group
/// must use the same strategy**, and it must depend on nothing but its arguments: else a queue is read by two members, or
/// by none. [`Average`], [`Circle`] and [`ConsistentHash`] give what Java's clients give under the names
/// `AllocateMessageQueueAveragely` (their default and ours), `AllocateMessageQueueAveragelyByCircle` and
/// `AllocateMessageQueueConsistentHash`, so members in both languages may share a group (protocol.md E.10).
pub trait AssignmentStrategy: Send + Sync {
    /// The queues of `me`, out of `queues`.
    ///
    /// * `members`: the client ids of the group, sorted by their UTF-16 code units as Java sorts text. `me` is among them. An
    ///   id stands there twice while a broker holds two connections of it, as Java's clients see it too.
    /// * `queues`: the readable queues of one topic, each once, sorted by topic, broker and the number of the queue.
    ///
    /// The order of the answer does not matter. A queue that was not offered makes the answer void: the assignment stays as
    /// it is, and the error is reported.
    fn assign(&self, me: &str, members: &[String], queues: &[MessageQueue]) -> Vec<MessageQueue>;
}

/// A contiguous range of the queues for each member; the first members have one more when it does not come out even.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Average;

/// Every n-th queue, where n is the number of members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Circle;

impl AssignmentStrategy for Average {
    fn assign(&self, me: &str, members: &[String], queues: &[MessageQueue]) -> Vec<MessageQueue> {
        let Some(index) = position(me, members) else { return Vec::new() };
        let (size, rest) = (queues.len() / members.len(), queues.len() % members.len());
        let start = index * size + index.min(rest);
        let end = start + size + usize::from(index < rest);
        queues[start..end].to_vec()
    }
}

impl AssignmentStrategy for Circle {
    fn assign(&self, me: &str, members: &[String], queues: &[MessageQueue]) -> Vec<MessageQueue> {
        let Some(index) = position(me, members) else { return Vec::new() };
        queues.iter().skip(index).step_by(members.len()).cloned().collect()
    }
}

fn position(me: &str, members: &[String]) -> Option<usize> {
    members.iter().position(|member| member == me)
}

/// What came of sharing out a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Allocation {
    /// These are mine; none is an answer too (trap P19).
    Mine(BTreeSet<MessageQueue>),
    /// The broker does not list this client yet, or no longer: whatever it reads now, another member may read too.
    NotListed,
}

/// Shares out one topic: sorts as Java does, asks the strategy, and checks what it says.
///
/// Ids that the broker lists twice are left standing twice, because Java's clients let them stand: a list that some members
/// cleaned and others did not would give one queue to two of them. The broker drops the dead connection within 120 s.
pub(super) fn allocate(
    strategy: &dyn AssignmentStrategy,
    me: &str,
    members: &[Arc<str>],
    queues: BTreeSet<MessageQueue>,
) -> Result<Allocation> {
    if !members.iter().any(|member| **member == *me) {
        return Ok(Allocation::NotListed);
    }
    let mut members: Vec<String> = members.iter().map(|member| member.as_ref().to_owned()).collect();
    members.sort_by(|a, b| java_order(a, b));
    let mut queues: Vec<MessageQueue> = queues.into_iter().collect();
    queues.sort_by(java_queue_order);
    let asked = catch_unwind(AssertUnwindSafe(|| strategy.assign(me, &members, &queues)));
    let mine = asked.map_err(|_| broken("it panicked".to_owned()))?;
    let stray = mine.iter().find(|queue| queues.binary_search_by(|offered| java_queue_order(offered, queue)).is_err());
    match stray {
        Some(queue) => Err(broken(format!("it answered {queue}, which was not offered"))),
        None => Ok(Allocation::Mine(mine.into_iter().collect())),
    }
}

fn broken(what: String) -> Error {
    let text = format!("the assignment strategy is broken: {what}; the queues stay assigned as they are");
    Error::new(ErrorKind::Config, text)
}

/// Java compares text by its UTF-16 code units; Rust's order differs beyond U+FFFF.
fn java_order(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

fn java_queue_order(a: &MessageQueue, b: &MessageQueue) -> Ordering {
    let names = java_order(a.topic(), b.topic()).then_with(|| java_order(a.broker(), b.broker()));
    names.then_with(|| a.id().cmp(&b.id()))
}

#[cfg(test)]
#[path = "strategy_tests.rs"]
mod tests;
