//! What is in the cluster, for tests.

use bytes::Bytes;

use super::Broker;
use super::engine::{Counters, Engine};
use super::fault::Rpc;

/// A message that lies in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredMessage {
    /// The id its producer gave it.
    pub id: String,
    /// The broker it lies on.
    pub broker: String,
    /// Its queue there.
    pub queue: u32,
    /// Its offset in the queue.
    pub offset: u64,
    /// The body as it was sent.
    pub body: Bytes,
    /// The tag.
    pub tag: Option<String>,
    /// The keys.
    pub keys: Vec<String>,
    /// The user's properties, and those of the system that readers see too.
    pub properties: Vec<(String, String)>,
    /// The message group of a FIFO message.
    pub message_group: Option<String>,
}

/// Counts of messages since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Taken from producers.
    pub sent: u64,
    /// Handed out to pulls, repetitions included.
    pub pulled: u64,
    /// Handed out under leases, redeliveries included.
    pub delivered: u64,
    /// Acknowledged: acks that ended a lease.
    pub acked: u64,
    /// Come back from an expired lease or a nack. Ordered groups are not counted: there nothing is copied.
    pub redelivered: u64,
    /// Moved to dead-letter queues.
    pub dead_lettered: u64,
}

impl Broker {
    /// All messages a topic still holds, consumed or not, by broker, queue and offset. Empty for an unknown topic.
    #[must_use]
    pub fn messages(&self, topic: &str) -> Vec<StoredMessage> {
        self.cluster().with(|engine, _| stored(engine, topic))
    }

    /// The dead letters of a consumer group.
    #[must_use]
    pub fn dead_letters(&self, group: &str) -> Vec<StoredMessage> {
        self.messages(&format!("%DLQ%{group}"))
    }

    /// How many messages of the topic members of the group hold: handed out, neither settled nor expired.
    #[must_use]
    pub fn in_flight(&self, group: &str, topic: &str) -> usize {
        self.cluster().with(|engine, now| engine.in_flight(group, topic, now))
    }

    /// How many messages of the topic the group can still receive, redeliveries included; those it holds do not count.
    #[must_use]
    pub fn waiting(&self, group: &str, topic: &str) -> u64 {
        self.cluster().with(|engine, now| engine.waiting(group, topic, now))
    }

    /// Counts of messages since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Counters { sent, pulled, delivered, acked, redelivered, dead_lettered } =
            self.cluster().with(|engine, _| engine.counters);
        Stats { sent, pulled, delivered, acked, redelivered, dead_lettered }
    }

    /// How many requests of an RPC have come in, refused ones included.
    #[must_use]
    pub fn calls(&self, rpc: Rpc) -> u64 {
        self.cluster().calls(rpc)
    }

    /// How many remoting requests of a code have come in, at name servers and brokers, refused ones included.
    #[must_use]
    pub fn remoting_calls(&self, code: i32) -> u64 {
        self.cluster().remoting_calls(code)
    }

    /// The ids of the remoting clients that a broker, counted from 0, knows as members of a group; sorted. One id is there
    /// twice when it has two connections.
    #[must_use]
    pub fn members(&self, group: &str, broker: usize) -> Vec<String> {
        self.remoting.as_ref().map(|remoting| remoting.members(group, broker)).unwrap_or_default()
    }

    /// The ids of the clients that are registered at a proxy, counted from 0; sorted.
    #[must_use]
    pub fn clients(&self, proxy: usize) -> Vec<String> {
        self.cluster().clients.get(proxy).map(super::clients::Clients::ids).unwrap_or_default()
    }

    /// The names of all topics, sorted.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        let mut topics: Vec<String> = self.cluster().with(|engine, _| engine.topics().map(Into::into).collect());
        topics.sort();
        topics
    }
}

fn stored(engine: &Engine, topic: &str) -> Vec<StoredMessage> {
    let message = |placed: super::engine::Placed<'_>| {
        let content = &placed.record.content;
        StoredMessage {
            id: content.id.to_string(),
            broker: placed.broker.into(),
            queue: placed.queue,
            offset: placed.offset,
            body: content.body.clone(),
            tag: content.tag.as_deref().map(Into::into),
            keys: content.keys.clone(),
            properties: content.properties.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            message_group: content.message_group.as_deref().map(Into::into),
        }
    };
    engine.messages(topic).into_iter().map(message).collect()
}
