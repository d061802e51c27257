use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::model::{Limits, MessageType, Properties, check_topic};

/// A message to be sent. Setters may be chained; [`Producer::send`](crate::Producer::send) checks it.
///
/// A message is of one type: a message group makes it FIFO, a delivery time makes it a delayed one, a priority one of
/// that type; they exclude each other.
#[derive(Clone)]
pub struct OutboundMessage {
    topic: Arc<str>,
    body: Bytes,
    tag: Option<Box<str>>,
    keys: Vec<String>,
    properties: Properties,
    message_group: Option<Box<str>>,
    deliver_at: Option<SystemTime>,
    priority: Option<i32>,
    trace_context: Option<Box<str>>,
}

impl OutboundMessage {
    /// A message to a topic. The body is not copied when it is [`Bytes`], a `Vec<u8>` or a `String`.
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into().into(),
            body: body.into(),
            tag: None,
            keys: Vec::new(),
            properties: Properties::default(),
            message_group: None,
            deliver_at: None,
            priority: None,
            trace_context: None,
        }
    }

    /// Sets the tag, which consumers can filter by. Defaults to none.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into().into());
        self
    }

    /// Adds a key, by which the message can be looked up on the server.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Adds several keys.
    #[must_use]
    pub fn keys(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.keys.extend(keys.into_iter().map(Into::into));
        self
    }

    /// Sets a user property, which SQL92 filters can look at.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.set(name.into(), value.into());
        self
    }

    /// Sets the message group: messages of one group are delivered in order (topics of type FIFO). Defaults to none.
    #[must_use]
    pub fn message_group(mut self, group: impl Into<String>) -> Self {
        self.message_group = Some(group.into().into());
        self
    }

    /// Sets when it is delivered (topics of type DELAY), to the millisecond. Defaults to at once.
    #[must_use]
    pub fn deliver_at(mut self, time: SystemTime) -> Self {
        self.deliver_at = Some(time);
        self
    }

    /// Sets the priority, from 0, higher ones first (topics of type PRIORITY). Defaults to none.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Adds a trace context, e.g. a W3C `traceparent`, for the consumer. Defaults to none.
    #[must_use]
    pub fn trace_context(mut self, context: impl Into<String>) -> Self {
        self.trace_context = Some(context.into().into());
        self
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) fn shared_topic(&self) -> Arc<str> {
        Arc::clone(&self.topic)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The tag.
    #[must_use]
    pub fn get_tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The keys.
    #[must_use]
    pub fn get_keys(&self) -> &[String] {
        &self.keys
    }

    /// The user properties.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The message group.
    #[must_use]
    pub fn get_message_group(&self) -> Option<&str> {
        self.message_group.as_deref()
    }

    /// When it is delivered.
    #[must_use]
    pub fn get_deliver_at(&self) -> Option<SystemTime> {
        self.deliver_at
    }

    /// The priority.
    #[must_use]
    pub fn get_priority(&self) -> Option<i32> {
        self.priority
    }

    /// The trace context.
    #[must_use]
    pub fn get_trace_context(&self) -> Option<&str> {
        self.trace_context.as_deref()
    }

    /// The type that its fields make it.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        if self.message_group.is_some() {
            MessageType::Fifo
        } else if self.deliver_at.is_some() {
            MessageType::Delay
        } else if self.priority.is_some() {
            MessageType::Priority
        } else {
            MessageType::Normal
        }
    }

    /// About how much memory it holds, in bytes: what the bounds of the producer count.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + self.body.len() + self.properties.size() + self.keys.iter().map(String::len).sum::<usize>()
    }

    /// The rules of protocol.md C.1 that need no server.
    pub(crate) fn check(&self, limits: &Limits) -> Result<()> {
        let refuse = |field: &str, value: &str, rule: &str| Err(Error::argument(field, value, rule));
        check_topic(&self.topic, limits).map_err(|e| Error::argument("topic", &self.topic, e.text()))?;
        if let Some(tag) = &self.tag
            && (tag.trim().is_empty() || tag.contains('|') || tag.chars().any(char::is_control))
        {
            return refuse("tag", tag, "must not be blank, nor hold `|` or control characters");
        }
        if let Some(key) = self.keys.iter().find(|key| key.trim().is_empty() || key.chars().any(char::is_control)) {
            return refuse("key", key, "must not be blank, nor hold control characters");
        }
        if let Some(group) = &self.message_group
            && (group.trim().is_empty() || group.len() > limits.max_message_group_length)
        {
            let rule = format!("must not be blank, nor longer than {} bytes", limits.max_message_group_length);
            return refuse("message_group", group, &rule);
        }
        if self.priority.is_some_and(|priority| priority < 0) {
            return refuse("priority", &self.priority.unwrap_or(0).to_string(), "must not be negative");
        }
        let kinds = [self.message_group.is_some(), self.deliver_at.is_some(), self.priority.is_some()];
        if kinds.into_iter().filter(|set| *set).count() > 1 {
            return refuse("message", &self.topic, "message_group, deliver_at and priority exclude each other");
        }
        self.check_sizes(limits)
    }

    fn check_sizes(&self, limits: &Limits) -> Result<()> {
        use crate::error::ErrorKind::TooLarge;
        if self.body.is_empty() {
            return Err(Error::argument("body", "", "must not be empty: the server refuses it"));
        }
        if self.body.len() > limits.max_body_size {
            let text = format!("body of {} bytes: at most {} are allowed", self.body.len(), limits.max_body_size);
            return Err(Error::new(TooLarge, text));
        }
        if self.properties.len() > limits.max_properties {
            let text =
                format!("{} user properties: at most {} are allowed", self.properties.len(), limits.max_properties);
            return Err(Error::new(TooLarge, text));
        }
        let control = |text: &str| text.chars().any(char::is_control);
        if let Some((name, _)) = self.properties.iter().find(|(name, value)| control(name) || control(value)) {
            return Err(Error::argument("property", name, "names and values must not hold control characters"));
        }
        if let Some((name, _)) = self.properties.iter().find(|(name, _)| RESERVED.contains(name)) {
            return Err(Error::argument("property", name, "is a name that RocketMQ keeps for itself"));
        }
        let size = self.properties.size()
            + self.tag.as_deref().map_or(0, str::len)
            + self.keys.iter().map(String::len).sum::<usize>();
        if size > limits.max_properties_size {
            let text =
                format!("properties, tag and keys of {size} bytes: at most {} are allowed", limits.max_properties_size);
            return Err(Error::new(TooLarge, text));
        }
        Ok(())
    }
}

impl fmt::Debug for OutboundMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundMessage")
            .field("topic", &self.topic)
            .field("tag", &self.tag)
            .field("keys", &self.keys)
            .field("body_len", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Property names the server keeps for itself (protocol.md C.2).
const RESERVED: &[&str] = &[
    "TRACE_ON",
    "MSG_REGION",
    "KEYS",
    "TAGS",
    "WAIT",
    "DELAY",
    "RETRY_TOPIC",
    "REAL_TOPIC",
    "REAL_QID",
    "TRAN_MSG",
    "PGROUP",
    "MIN_OFFSET",
    "MAX_OFFSET",
    "BUYER_ID",
    "ORIGIN_MESSAGE_ID",
    "TRANSFER_FLAG",
    "CORRECTION_FLAG",
    "MQ2_FLAG",
    "RECONSUME_TIME",
    "UNIQ_KEY",
    "MAX_RECONSUME_TIMES",
    "CONSUME_START_TIME",
    "POP_CK",
    "POP_CK_OFFSET",
    "1ST_POP_TIME",
    "TRAN_PREPARED_QUEUE_OFFSET",
    "DUP_INFO",
    "EXTEND_UNIQ_INFO",
    "INSTANCE_ID",
    "CORRELATION_ID",
    "REPLY_TO_CLIENT",
    "TTL",
    "ARRIVE_TIME",
    "PUSH_REPLY_TIME",
    "CLUSTER",
    "MSG_TYPE",
    "INNER_MULTI_QUEUE_OFFSET",
    "TIMER_DELAY_MS",
    "TIMER_DELAY_SEC",
    "TIMER_DELIVER_MS",
    "TIMER_ENQUEUE_MS",
    "TIMER_DEQUEUE_MS",
    "TIMER_ROLL_TIMES",
    "TIMER_OUT_MS",
    "TIMER_DEL_UNIQKEY",
    "TIMER_DELAY_LEVEL",
    "__BORNHOST",
    "BORN_TIMESTAMP",
    "DLQ_ORIGIN_TOPIC",
    "DLQ_ORIGIN_MESSAGE_ID",
    "__CRC32#",
    // Not reserved by the server, but it gives them a meaning of its own.
    "__SHARDINGKEY",
    "TRACE_CONTEXT",
    "CHECK_IMMUNITY_TIME_IN_SECONDS",
    "TRANSACTION_CHECK_TIMES",
    "__transactionId__",
    "INNER_NUM",
    "INNER_BASE",
    "INNER_MULTI_DISPATCH",
    "REDIRECT",
    "PROPERTY_FORWARD_QUEUE_ID",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn refused(message: OutboundMessage) -> String {
        message.check(&Limits::default()).expect_err("must be refused").to_string()
    }

    #[test]
    fn s6_what_the_protocol_forbids_is_refused_before_sending() {
        let message = || OutboundMessage::new("t", "b");
        for (message, field) in [
            (OutboundMessage::new("no topic!", "b"), "topic"),
            (OutboundMessage::new("t", ""), "body"),
            (message().tag("a|b"), "tag"),
            (message().tag(" "), "tag"),
            (message().tag("\u{1}"), "tag"),
            (message().key(""), "key"),
            (message().key("\u{1}"), "key"),
            (message().message_group(" "), "message_group"),
            (message().message_group("g".repeat(64)), "message_group"),
            (message().property("KEYS", "1"), "property"),
            (message().property("a", "\u{1}"), "property"),
            (message().priority(-1), "priority"),
            (message().message_group("g").deliver_at(SystemTime::UNIX_EPOCH), "exclude"),
        ] {
            let error = refused(message);
            assert!(error.contains(field), "{field}: {error}");
        }
    }

    #[test]
    fn what_the_protocol_just_allows_is_not_refused() {
        let message = || OutboundMessage::new("t", "b");
        for message in [
            message().priority(0),
            message().message_group("g".repeat(63)),
            message().tag("paid").keys(["1", "2"]).property("a", "1").trace_context("00-1"),
            (0..128).fold(message(), |message, i| message.property(format!("p{i}"), "v")),
        ] {
            message.check(&Limits::default()).expect("it is allowed");
        }
    }

    #[test]
    fn what_was_set_can_be_read_back() {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(5);
        let bare = OutboundMessage::new("orders", "body");
        assert_eq!((bare.topic(), &*bare.shared_topic(), &bare.body()[..]), ("orders", "orders", b"body".as_ref()));
        assert_eq!((bare.get_tag(), bare.get_keys().len(), bare.properties().len()), (None, 0, 0));
        assert_eq!((bare.get_message_group(), bare.get_trace_context()), (None, None));
        assert_eq!((bare.get_deliver_at(), bare.get_priority()), (None, None));
        let full = bare.tag("paid").key("1").keys(["2", "3"]).property("region", "EU").property("region", "US");
        let full = full.message_group("g").trace_context("00-1").deliver_at(at).priority(7);
        assert_eq!((full.get_tag(), full.get_keys().join(" ").as_str()), (Some("paid"), "1 2 3"));
        assert_eq!(full.properties().iter().collect::<Vec<_>>(), [("region", "US")]);
        assert_eq!((full.get_message_group(), full.get_trace_context()), (Some("g"), Some("00-1")));
        assert_eq!((full.get_deliver_at(), full.get_priority()), (Some(at), Some(7)));
    }

    #[test]
    fn a_message_weighs_what_its_body_properties_and_keys_weigh_and_a_little_more() {
        let bare = OutboundMessage::new("t", "").weight();
        let full = OutboundMessage::new("t", vec![0; 1000]).property("abc", "defg").keys(["12", "3"]).weight();
        assert_eq!(full - bare, 1000 + 7 + 3);
        assert!((1..500).contains(&bare), "{bare}: an empty one is not for nothing");
    }

    #[test]
    fn properties_tag_and_keys_are_limited_together() {
        let message = OutboundMessage::new("t", "b").property("a", "bc").tag("tags").keys(["12", "345"]);
        message.check(&Limits::default().max_properties_size(12)).expect("3, 4 and 5 bytes");
        let error = message.check(&Limits::default().max_properties_size(11)).expect_err("one too many");
        assert_eq!((error.kind(), error.text().contains("12 bytes")), (ErrorKind::TooLarge, true), "{error}");
    }

    #[test]
    fn sizes_are_limited_and_the_limits_can_be_raised() {
        let large = OutboundMessage::new("t", vec![0u8; (4 << 20) + 1]);
        assert_eq!(large.check(&Limits::default()).expect_err("too large").kind(), ErrorKind::TooLarge);
        assert!(large.check(&Limits::default().max_body_size(5 << 20)).is_ok());
        assert!(OutboundMessage::new("t", vec![0u8; 4 << 20]).check(&Limits::default()).is_ok());
        let many = (0..129).fold(OutboundMessage::new("t", "b"), |m, i| m.property(format!("p{i}"), "v"));
        assert_eq!(many.check(&Limits::default()).expect_err("too many").kind(), ErrorKind::TooLarge);
        let wide = OutboundMessage::new("t", "b").property("p", "v".repeat(16 << 10));
        assert_eq!(wide.check(&Limits::default()).expect_err("too wide").kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn the_fields_decide_the_type() {
        let message = || OutboundMessage::new("t", "b");
        assert_eq!(message().message_type(), MessageType::Normal);
        assert_eq!(message().message_group("g").message_type(), MessageType::Fifo);
        assert_eq!(message().deliver_at(SystemTime::UNIX_EPOCH).message_type(), MessageType::Delay);
        assert_eq!(message().priority(1).message_type(), MessageType::Priority);
    }
}
