use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::model::pulled::{Chunk, Pulled};
use crate::model::{BodyDigest, BodyEncoding, Offset, Properties};

/// A message as it was received. Cheap to clone: the clones share one allocation and one body.
///
/// Messages that were pulled together share the bytes of their response, bodies included, which live as long as any of
/// them. Copy what you keep for long of a few of many.
#[derive(Clone)]
pub struct Message(Repr);

#[derive(Clone)]
enum Repr {
    /// A message of its own.
    Parts(Arc<MessageParts>),
    /// One of those of a pulled response.
    Pulled(Arc<Chunk>, u32),
}

/// How the two representations answer: the field of the one, the method of the other.
macro_rules! either {
    ($message:expr, $parts:ident => $field:expr, $pulled:ident => $method:expr) => {
        match &$message.0 {
            Repr::Parts($parts) => $field,
            Repr::Pulled(chunk, at) => {
                let $pulled: Pulled<'_> = chunk.get(*at);
                $method
            }
        }
    };
}

/// The id of a message, shared between the message and its receipt.
pub(crate) type MessageId = Arc<str>;

/// Everything a [`Message`] is made of.
#[derive(Debug, Clone)]
pub(crate) struct MessageParts {
    pub(crate) id: MessageId,
    pub(crate) topic: Arc<str>,
    pub(crate) body: Bytes,
    pub(crate) body_digest: Option<BodyDigest>,
    pub(crate) body_encoding: BodyEncoding,
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
        Self(Repr::Parts(Arc::new(parts)))
    }

    pub(crate) fn pulled(chunk: Arc<Chunk>, at: u32) -> Self {
        Self(Repr::Pulled(chunk, at))
    }

    /// The id the producer gave it. Redeliveries and retried sends keep it.
    #[must_use]
    pub fn id(&self) -> &str {
        either!(self, parts => &parts.id, pulled => pulled.id())
    }

    /// The topic it was asked for under.
    #[must_use]
    pub fn topic(&self) -> &str {
        either!(self, parts => &parts.topic, pulled => pulled.topic())
    }

    /// The body, decompressed. A clone of it shares the bytes.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        either!(self, parts => &parts.body, pulled => pulled.body())
    }

    /// The digest of the body as it was carried, if the wire told one.
    #[must_use]
    pub fn body_digest(&self) -> Option<BodyDigest> {
        either!(self, parts => parts.body_digest.clone(), pulled => pulled.body_digest())
    }

    /// How the body was carried; [`body`](Self::body) is decoded already.
    #[must_use]
    pub fn body_encoding(&self) -> BodyEncoding {
        either!(self, parts => parts.body_encoding, pulled => pulled.body_encoding())
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        either!(self, parts => parts.tag.as_deref(), pulled => pulled.raw().get("TAGS"))
    }

    /// The keys it can be looked up by.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        either!(self, parts => &parts.keys, pulled => pulled.keys())
    }

    /// The user properties.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        either!(self, parts => &parts.properties, pulled => pulled.properties())
    }

    /// The value of a user property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        either!(self, parts => parts.properties.get(name), pulled => pulled.property(name))
    }

    /// The message group, within which order is kept (FIFO messages).
    #[must_use]
    pub fn message_group(&self) -> Option<&str> {
        either!(self, parts => parts.message_group.as_deref(), pulled => pulled.raw().get("__SHARDINGKEY"))
    }

    /// The trace context its producer added.
    #[must_use]
    pub fn trace_context(&self) -> Option<&str> {
        either!(self, parts => parts.trace_context.as_deref(), pulled => pulled.raw().get("TRACE_CONTEXT"))
    }

    /// The lite topic, on servers that have them.
    #[must_use]
    pub fn lite_topic(&self) -> Option<&str> {
        either!(self, parts => parts.lite_topic.as_deref(), pulled => pulled.raw().get("__LITE_TOPIC"))
    }

    /// The priority, on topics of that type.
    #[must_use]
    pub fn priority(&self) -> Option<i32> {
        either!(self, parts => parts.priority, pulled => pulled.raw().get("_SYS_MSG_PRIORITY_").and_then(|value| value.parse().ok()))
    }

    /// What type of message it is.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        either!(self, parts => parts.message_type, pulled => pulled.message_type())
    }

    /// When its producer made it, by that machine's clock, to the millisecond.
    #[must_use]
    pub fn born_timestamp(&self) -> Option<SystemTime> {
        either!(self, parts => parts.born_timestamp, pulled => pulled.born_timestamp())
    }

    /// The host of its producer, as it was told to the server.
    #[must_use]
    pub fn born_host(&self) -> &str {
        either!(self, parts => &parts.born_host, pulled => pulled.born_host())
    }

    /// When the broker stored it, to the millisecond.
    #[must_use]
    pub fn store_timestamp(&self) -> Option<SystemTime> {
        either!(self, parts => parts.store_timestamp, pulled => pulled.store_timestamp())
    }

    /// The broker's address.
    #[must_use]
    pub fn store_host(&self) -> &str {
        either!(self, parts => &parts.store_host, pulled => pulled.store_host())
    }

    /// When it was to be delivered, for delayed messages.
    #[must_use]
    pub fn delivery_timestamp(&self) -> Option<SystemTime> {
        either!(self, parts => parts.delivery_timestamp, pulled => pulled.delivery_timestamp())
    }

    /// The broker it came from, if the wire told.
    #[must_use]
    pub fn broker(&self) -> Option<&str> {
        either!(self, parts => parts.broker.as_deref(), pulled => Some(pulled.broker()))
    }

    /// The queue it was read from. A redelivered message comes from a retry queue: this is no identity.
    #[must_use]
    pub fn queue_id(&self) -> i32 {
        either!(self, parts => parts.queue_id, pulled => pulled.queue_id())
    }

    /// Its offset in that queue. A redelivered message has another one: this is no identity.
    #[must_use]
    pub fn queue_offset(&self) -> Option<Offset> {
        either!(self, parts => parts.queue_offset, pulled => Some(pulled.record().queue_offset))
    }

    /// How long the server hides it, if the server said so. Apache's does not.
    #[must_use]
    pub fn invisible_duration(&self) -> Option<Duration> {
        either!(self, parts => parts.invisible_duration, _pulled => None)
    }

    /// Which delivery this is, from 1.
    #[must_use]
    pub fn delivery_attempt(&self) -> u32 {
        either!(self, parts => parts.delivery_attempt, pulled => pulled.record().delivery_attempt)
    }

    /// Where it came from, if it was read from a dead-letter queue of a server that tells.
    #[must_use]
    pub fn dead_letter_origin(&self) -> Option<&DeadLetterOrigin> {
        either!(self, parts => parts.dead_letter_origin.as_ref(), pulled => pulled.dead_letter_origin())
    }

    /// After what time the broker asks for the outcome of its transaction.
    #[must_use]
    pub fn transaction_recovery(&self) -> Option<Duration> {
        either!(self, parts => parts.transaction_recovery, pulled => pulled.transaction_recovery())
    }

    /// Why its body is not what the producer sent: then [`body`](Self::body) holds the bytes as they came.
    #[must_use]
    pub fn corrupted(&self) -> Option<&Corruption> {
        either!(self, parts => parts.corrupted.as_ref(), pulled => pulled.corrupted())
    }

    /// About how much memory it holds, in bytes: what the bounds of the consumers count.
    pub(crate) fn weight(&self) -> usize {
        either!(self, parts => parts.weight(), pulled => pulled.weight())
    }

    /// For a pulled message the buffer its body lies in, which is that of its whole response unless the body was compressed,
    /// and where. `None` for any other message.
    #[allow(dead_code, reason = "for Arrow, which reads columns out of chunks")]
    pub(crate) fn body_place(&self) -> Option<(&Bytes, Range<usize>)> {
        either!(self, _parts => None, pulled => Some(pulled.place()))
    }

    /// The properties of a pulled message as the broker stores them, system properties included: `name 0x01 value 0x02 …`.
    #[allow(dead_code, reason = "for Arrow, which reads columns out of chunks")]
    pub(crate) fn raw_properties(&self) -> Option<&[u8]> {
        either!(self, _parts => None, pulled => Some(pulled.raw_bytes()))
    }
}

impl MessageParts {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.body.len() + self.properties.size() + self.id.len()
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

#[cfg(test)]
mod tests;
