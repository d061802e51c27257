use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::model::{Offset, Properties};

/// A message as it was received. Cheap to clone: the clones share one allocation and one body.
#[derive(Clone)]
pub struct Message(Arc<MessageParts>);

/// The id of a message, shared between the message and its receipt.
pub(crate) type MessageId = Arc<str>;

/// Everything a [`Message`] is made of.
#[derive(Debug, Clone)]
pub(crate) struct MessageParts {
    pub(crate) id: MessageId,
    pub(crate) topic: Arc<str>,
    pub(crate) body: Bytes,
    pub(crate) tag: Option<Box<str>>,
    pub(crate) keys: Vec<String>,
    pub(crate) properties: Properties,
    pub(crate) message_group: Option<Box<str>>,
    pub(crate) trace_context: Option<Box<str>>,
    pub(crate) lite_topic: Option<Box<str>>,
    pub(crate) priority: Option<i32>,
    pub(crate) message_type: MessageType,
    pub(crate) born_timestamp: Option<SystemTime>,
    pub(crate) born_host: Box<str>,
    pub(crate) store_timestamp: Option<SystemTime>,
    pub(crate) store_host: Box<str>,
    pub(crate) delivery_timestamp: Option<SystemTime>,
    pub(crate) broker: Option<Arc<str>>,
    pub(crate) queue_id: i32,
    pub(crate) queue_offset: Option<Offset>,
    pub(crate) invisible_duration: Option<Duration>,
    pub(crate) delivery_attempt: u32,
    pub(crate) dead_letter_origin: Option<DeadLetterOrigin>,
    pub(crate) transaction_recovery: Option<Duration>,
    pub(crate) corrupted: Option<Corruption>,
}

impl Message {
    pub(crate) fn new(parts: MessageParts) -> Self {
        Self(Arc::new(parts))
    }

    /// The id the producer gave it. Redeliveries and retried sends keep it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    pub(crate) fn shared_id(&self) -> MessageId {
        Arc::clone(&self.0.id)
    }

    /// The topic it was asked for under.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// The body, decompressed. A clone of it shares the bytes.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.0.body
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.0.tag.as_deref()
    }

    /// The keys it can be looked up by.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.0.keys
    }

    /// The user properties.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.0.properties
    }

    /// The value of a user property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.0.properties.get(name)
    }

    /// The message group, within which order is kept (FIFO messages).
    #[must_use]
    pub fn message_group(&self) -> Option<&str> {
        self.0.message_group.as_deref()
    }

    /// The trace context its producer added.
    #[must_use]
    pub fn trace_context(&self) -> Option<&str> {
        self.0.trace_context.as_deref()
    }

    /// The lite topic, on servers that have them.
    #[must_use]
    pub fn lite_topic(&self) -> Option<&str> {
        self.0.lite_topic.as_deref()
    }

    /// The priority, on topics of that type.
    #[must_use]
    pub fn priority(&self) -> Option<i32> {
        self.0.priority
    }

    /// What type of message it is.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        self.0.message_type
    }

    /// When its producer made it, by that machine's clock, to the millisecond.
    #[must_use]
    pub fn born_timestamp(&self) -> Option<SystemTime> {
        self.0.born_timestamp
    }

    /// The host of its producer, as it was told to the server.
    #[must_use]
    pub fn born_host(&self) -> &str {
        &self.0.born_host
    }

    /// When the broker stored it, to the millisecond.
    #[must_use]
    pub fn store_timestamp(&self) -> Option<SystemTime> {
        self.0.store_timestamp
    }

    /// The broker's address.
    #[must_use]
    pub fn store_host(&self) -> &str {
        &self.0.store_host
    }

    /// When it was to be delivered, for delayed messages.
    #[must_use]
    pub fn delivery_timestamp(&self) -> Option<SystemTime> {
        self.0.delivery_timestamp
    }

    /// The broker it came from, if the wire told.
    #[must_use]
    pub fn broker(&self) -> Option<&str> {
        self.0.broker.as_deref()
    }

    /// The queue it was read from. A redelivered message comes from a retry queue: this is no identity.
    #[must_use]
    pub fn queue_id(&self) -> i32 {
        self.0.queue_id
    }

    /// Its offset in that queue. A redelivered message has another one: this is no identity.
    #[must_use]
    pub fn queue_offset(&self) -> Option<Offset> {
        self.0.queue_offset
    }

    /// How long the server hides it, if the server said so. Apache's does not.
    #[must_use]
    pub fn invisible_duration(&self) -> Option<Duration> {
        self.0.invisible_duration
    }

    /// Which delivery this is, from 1.
    #[must_use]
    pub fn delivery_attempt(&self) -> u32 {
        self.0.delivery_attempt
    }

    /// Where it came from, if it was read from a dead-letter queue of a server that tells.
    #[must_use]
    pub fn dead_letter_origin(&self) -> Option<&DeadLetterOrigin> {
        self.0.dead_letter_origin.as_ref()
    }

    /// After what time the broker asks for the outcome of its transaction.
    #[must_use]
    pub fn transaction_recovery(&self) -> Option<Duration> {
        self.0.transaction_recovery
    }

    /// Why its body is not what the producer sent: then [`body`](Self::body) holds the bytes as they came.
    #[must_use]
    pub fn corrupted(&self) -> Option<&Corruption> {
        self.0.corrupted.as_ref()
    }

    /// About how much memory it holds, in bytes: what the bounds of the consumers count.
    pub(crate) fn weight(&self) -> usize {
        let parts = &*self.0;
        size_of::<MessageParts>() + parts.body.len() + parts.properties.size() + parts.id.len()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id())
            .field("topic", &self.topic())
            .field("tag", &self.tag())
            .field("keys", &self.keys())
            .field("body_len", &self.body().len())
            .field("delivery_attempt", &self.delivery_attempt())
            .finish_non_exhaustive()
    }
}

/// The type of a message; a topic takes one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum MessageType {
    /// No order, no delay.
    #[default]
    Normal,
    /// In order within its message group.
    Fifo,
    /// Delivered at a later time.
    Delay,
    /// Delivered when its transaction was committed.
    Transaction,
    /// To a lite topic.
    Lite,
    /// Higher priority first.
    Priority,
    /// A type this crate does not know.
    Unknown,
}

/// Where a dead-letter message came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterOrigin {
    /// The topic.
    pub topic: Box<str>,
    /// The id it had there.
    pub message_id: Box<str>,
}

/// Why the body of a message is not what its producer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Corruption {
    /// The digest of the carried bytes differs from the one the server sent.
    Digest {
        /// The digest of the wire.
        expected: Box<str>,
        /// The digest of the bytes.
        actual: Box<str>,
    },
    /// The body was flagged as compressed and could not be decompressed.
    Decompression {
        /// What the codec said.
        reason: Box<str>,
    },
    /// A part of the message was missing or could not be read.
    Malformed {
        /// Which part.
        reason: Box<str>,
    },
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest { expected, actual } => write!(f, "the body's digest is {actual}, the wire says {expected}"),
            Self::Decompression { reason } => write!(f, "the body cannot be decompressed: {reason}"),
            Self::Malformed { reason } => write!(f, "malformed: {reason}"),
        }
    }
}
