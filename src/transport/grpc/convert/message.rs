//! A received message: what the server sent becomes a [`Message`], whatever it sent.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use crate::model::{
    BodyDigest, BodyEncoding, Corruption, DeadLetterOrigin, Held, Message, MessageParts, Offset, Properties,
};
use crate::proto::receive_message_response::Content;
use crate::proto::{self, Code};
use crate::transport::ReceiveFrame;
use crate::transport::body;
use crate::transport::grpc::convert::value::{algorithm, duration, encoding, message_type, system_time};

/// What the reader of a message knows beside the message.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// The topic as it was asked for: the proxy splits the stored name at `%`, so the one in the message cannot be used to
    /// settle it (trap R9).
    pub(crate) topic: Arc<str>,
    pub(crate) broker: Option<Arc<str>>,
    /// Largest body after decompression, in bytes.
    pub(crate) max_decompressed_size: usize,
    pub(crate) check_digest: bool,
    /// A delivery has a receipt handle; the message of a transaction check has none.
    pub(crate) is_delivery: bool,
}

/// A frame of a receive, or the status that ends it. `None`: nothing to tell (OK, or a content of a later version).
///
/// No order of the frames is assumed: Apache sends the status first, rocketmq-rust sends it last (protocol.md B.2).
pub(crate) fn receive_frame(
    response: proto::ReceiveMessageResponse,
    reading: &Reading,
) -> Result<Option<ReceiveFrame>, proto::Status> {
    Ok(match response.content {
        Some(Content::Message(message)) => {
            let (parts, handle) = read(message, reading);
            let held = Held::new(&parts.id, &handle);
            Some(ReceiveFrame::Message { message: Message::new(parts), held })
        }
        Some(Content::DeliveryTimestamp(time)) => system_time(&time).map(ReceiveFrame::DeliveryTimestamp),
        Some(Content::Status(status)) if status.code == Code::Ok as i32 => None,
        Some(Content::Status(status)) if status.code == Code::MessageNotFound as i32 => {
            Some(ReceiveFrame::Empty { text: status.message })
        }
        Some(Content::Status(status)) => return Err(status),
        None => None,
    })
}

/// A message as the model has it, and its receipt handle, which is empty when the server sent none. The body is not copied.
pub(crate) fn read(message: proto::Message, reading: &Reading) -> (MessageParts, String) {
    let mut faults = Faults::default();
    let system = message.system_properties.unwrap_or_else(|| {
        faults.note("it has no system properties");
        proto::SystemProperties::default()
    });
    if faults.is_empty() {
        faults.note_if(system.message_id.is_empty(), "it has no id");
        let handle = system.receipt_handle.as_deref().unwrap_or_default();
        faults.note_if(reading.is_delivery && handle.is_empty(), "it has no receipt handle, and cannot be settled");
    }
    let (body, damage) = read_body(message.body, &system, reading);
    let parts = MessageParts {
        id: system.message_id.into(),
        topic: Arc::clone(&reading.topic),
        body,
        body_digest: system.body_digest.map(|digest| BodyDigest::new(algorithm(digest.r#type), &digest.checksum)),
        body_encoding: encoding(system.body_encoding),
        tag: system.tag.map(String::into_boxed_str),
        keys: system.keys,
        properties: user_properties(message.user_properties),
        message_group: system.message_group.map(String::into_boxed_str),
        trace_context: system.trace_context.map(String::into_boxed_str),
        lite_topic: system.lite_topic.map(String::into_boxed_str),
        priority: system.priority,
        message_type: message_type(system.message_type),
        born_timestamp: system.born_timestamp.as_ref().and_then(system_time),
        born_host: system.born_host.into_boxed_str(),
        store_timestamp: system.store_timestamp.as_ref().and_then(system_time),
        store_host: system.store_host.into_boxed_str(),
        delivery_timestamp: system.delivery_timestamp.as_ref().and_then(system_time),
        broker: reading.broker.clone(),
        queue_id: system.queue_id,
        queue_offset: system.queue_offset.and_then(|offset| u64::try_from(offset).ok()).map(Offset::new),
        invisible_duration: system.invisible_duration.as_ref().map(duration),
        delivery_attempt: system.delivery_attempt.map_or(1, |attempt| attempt.max(1).unsigned_abs()),
        dead_letter_origin: system.dead_letter_queue.map(|origin| DeadLetterOrigin {
            topic: origin.topic.into_boxed_str(),
            message_id: origin.message_id.into_boxed_str(),
        }),
        transaction_recovery: system.orphaned_transaction_recovery_duration.as_ref().map(duration),
        corrupted: faults.corruption().or(damage),
    };
    (parts, system.receipt_handle.unwrap_or_default())
}

/// The body as its producer sent it; if that cannot be had, the bytes as they came and the reason.
fn read_body(carried: Bytes, system: &proto::SystemProperties, reading: &Reading) -> (Bytes, Option<Corruption>) {
    if let Some(digest) = system.body_digest.as_ref().filter(|_| reading.check_digest)
        && let Some(corruption) = check_digest(&carried, digest)
    {
        return (carried, Some(corruption));
    }
    match encoding(system.body_encoding) {
        BodyEncoding::Identity => (carried, None),
        BodyEncoding::Compressed => match body::decompress(&carried, reading.max_decompressed_size) {
            Ok(body) => (body, None),
            Err(error) => (carried, Some(Corruption::Decompression { reason: error.to_string().into() })),
        },
        BodyEncoding::Unknown => {
            let reason = format!("its body encoding {} is none this version knows", system.body_encoding);
            (carried, Some(Corruption::Malformed { reason: reason.into() }))
        }
    }
}

fn check_digest(carried: &[u8], digest: &proto::Digest) -> Option<Corruption> {
    let actual = body::digest_mismatch(algorithm(digest.r#type), carried, &digest.checksum)?;
    Some(Corruption::Digest { expected: digest.checksum.as_str().into(), actual: actual.into() })
}

/// The server's own properties, which it leaves among the user's (protocol.md C.2). What they say is in fields of their own.
const LEFT_BY_THE_SERVER: &[&str] = &[
    "CHECK_IMMUNITY_TIME_IN_SECONDS",
    "DUP_INFO",
    "INNER_BASE",
    "INNER_MULTI_DISPATCH",
    "INNER_NUM",
    "PROPERTY_FORWARD_QUEUE_ID",
    "REDIRECT",
    "TRACE_CONTEXT",
    "TRANSACTION_CHECK_TIMES",
    "__SHARDINGKEY",
    "__transactionId__",
];

pub(super) fn is_left_by_the_server(name: &str) -> bool {
    LEFT_BY_THE_SERVER.binary_search(&name).is_ok()
}

fn user_properties(properties: std::collections::BTreeMap<String, String>) -> Properties {
    Properties::from_pairs(properties.into_iter().filter(|(name, _)| !is_left_by_the_server(name)))
}

/// What is wrong with a message; mostly nothing.
#[derive(Default)]
struct Faults(String);

impl Faults {
    fn note(&mut self, fault: &str) {
        if !self.0.is_empty() {
            self.0.push_str("; ");
        }
        self.0.push_str(fault);
    }

    fn note_if(&mut self, is_so: bool, fault: &str) {
        if is_so {
            self.note(fault);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn corruption(self) -> Option<Corruption> {
        (!self.is_empty()).then(|| Corruption::Malformed { reason: self.0.into() })
    }
}

/// A frame that is not of the interface (a string that is not UTF-8, say), with what it needs to be settled.
#[derive(Debug)]
pub(crate) struct Damaged {
    frame: SalvagedMessage,
    reason: prost::DecodeError,
}

impl Damaged {
    /// Looks for the message in a frame that did not decode. `Err` when there is none.
    pub(crate) fn salvage(frame: Bytes, reason: prost::DecodeError) -> Result<Self, prost::DecodeError> {
        match SalvagedResponse::decode(frame) {
            Ok(SalvagedResponse { message: Some(frame) }) => Ok(Self { frame, reason }),
            _ => Err(reason),
        }
    }
}

/// A message that could not be read is delivered all the same: it must neither vanish nor fail its neighbours (trap R12).
pub(crate) fn damaged_frame(damaged: Damaged, reading: &Reading) -> ReceiveFrame {
    let (parts, handle) = read_damaged(damaged, reading);
    let held = Held::new(&parts.id, &handle);
    ReceiveFrame::Message { message: Message::new(parts), held }
}

/// What can be read of a message that does not decode.
pub(super) fn read_damaged(damaged: Damaged, reading: &Reading) -> (MessageParts, String) {
    let system = damaged.frame.system_properties.unwrap_or_default();
    let handle = String::from_utf8(system.receipt_handle.into()).unwrap_or_default();
    let readable = proto::Message {
        system_properties: Some(proto::SystemProperties {
            message_id: String::from_utf8_lossy(&system.message_id).into_owned(),
            queue_id: system.queue_id,
            queue_offset: system.queue_offset,
            ..proto::SystemProperties::default()
        }),
        body: damaged.frame.body,
        ..proto::Message::default()
    };
    let reason = Corruption::Malformed { reason: damaged.reason.to_string().into() };
    (MessageParts { corrupted: Some(reason), ..read(readable, reading).0 }, handle)
}

/// `ReceiveMessageResponse` and `PullMessageResponse`, in which the message has the same number, with only the fields that a
/// settlement or a position needs, and strings as bytes, which cannot be invalid.
#[derive(Clone, PartialEq, prost::Message)]
struct SalvagedResponse {
    #[prost(message, optional, tag = "2")]
    message: Option<SalvagedMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SalvagedMessage {
    #[prost(message, optional, tag = "3")]
    system_properties: Option<SalvagedProperties>,
    #[prost(bytes = "bytes", tag = "4")]
    body: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SalvagedProperties {
    #[prost(bytes = "bytes", tag = "3")]
    message_id: Bytes,
    #[prost(bytes = "bytes", tag = "12")]
    receipt_handle: Bytes,
    #[prost(int32, tag = "13")]
    queue_id: i32,
    #[prost(int64, optional, tag = "14")]
    queue_offset: Option<i64>,
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
