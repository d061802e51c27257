//! Messages as a wire that pulls would give them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::{BodyEncoding, Message, MessageParts, MessageQueue, MessageType, Offset, Properties};

/// The message at `offset` of a queue, stored `offset` seconds after the epoch; its body names queue and offset.
pub(crate) fn message(queue: &MessageQueue, offset: u64) -> Message {
    sized(queue, offset, 0)
}

/// The same, with a body of at least `size` bytes.
pub(crate) fn sized(queue: &MessageQueue, offset: u64, size: usize) -> Message {
    let mut body = format!("{queue} {offset}").into_bytes();
    body.resize(body.len().max(size), b' ');
    Message::new(MessageParts {
        id: format!("{queue}-{offset}").into(),
        topic: Arc::clone(queue.shared_topic()),
        body: body.into(),
        body_digest: None,
        body_encoding: BodyEncoding::Identity,
        tag: None,
        keys: Vec::new(),
        properties: Properties::default(),
        message_group: None,
        trace_context: None,
        lite_topic: None,
        priority: None,
        message_type: MessageType::Normal,
        born_timestamp: None,
        born_host: "".into(),
        store_timestamp: Some(stored_at(offset)),
        store_host: "".into(),
        delivery_timestamp: None,
        broker: Some(queue.broker().into()),
        queue_id: i32::try_from(queue.id()).unwrap(),
        queue_offset: Some(Offset::new(offset)),
        invisible_duration: None,
        delivery_attempt: 1,
        dead_letter_origin: None,
        transaction_recovery: None,
        corrupted: None,
    })
}

pub(crate) fn stored_at(offset: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(offset)
}
