use std::collections::BTreeMap;

use md5::{Digest, Md5};

use crate::assignment::strategy::AssignmentStrategy;
use crate::model::MessageQueue;

/// As many as Java's default.
const VIRTUAL_NODES: usize = 10;

/// Members and queues on a ring of hashes: who joins or leaves moves only few queues, at the price of an uneven share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ConsistentHash;

impl AssignmentStrategy for ConsistentHash {
    fn assign(&self, me: &str, members: &[String], queues: &[MessageQueue]) -> Vec<MessageQueue> {
        let ring = ring(members);
        queues.iter().filter(|queue| owner(&ring, queue) == Some(me)).cloned().collect()
    }
}

/// Java's `ConsistentHashRouter`. Where two nodes have one hash, the later stands.
fn ring(members: &[String]) -> BTreeMap<u32, &str> {
    let mut ring: BTreeMap<u32, &str> = BTreeMap::new();
    let mut last: Option<&str> = None;
    for member in members {
        // An id that is listed again goes on counting where it stopped. Sorted, so it stands beside itself.
        let repeated = last == Some(member);
        let first = if repeated { ring.values().filter(|other| **other == member.as_str()).count() } else { 0 };
        for node in first..first + VIRTUAL_NODES {
            ring.insert(hash(&format!("{member}-{node}")), member);
        }
        last = Some(member);
    }
    ring
}

fn owner<'r>(ring: &BTreeMap<u32, &'r str>, queue: &MessageQueue) -> Option<&'r str> {
    // The text that Java's MessageQueue makes of itself.
    let (topic, broker, id) = (queue.topic(), queue.broker(), queue.id());
    let at = hash(&format!("MessageQueue [topic={topic}, brokerName={broker}, queueId={id}]"));
    let next = ring.range(at..).next().or_else(|| ring.first_key_value());
    next.map(|(_, member)| *member)
}

/// The first four bytes of the MD5, big endian.
pub(in crate::assignment) fn hash(text: &str) -> u32 {
    let digest = Md5::digest(text.as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}
