//! Messages between the wire and the engine.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use md5::{Digest as _, Md5};

use crate::embedded::engine::{Content, ContentKind, Delivery, Millis, Record, TopicType};
use crate::proto;
use crate::transport::body;

pub(super) fn millis(timestamp: &prost_types::Timestamp) -> Millis {
    let seconds = u64::try_from(timestamp.seconds).unwrap_or(0);
    seconds.saturating_mul(1000) + u64::try_from(timestamp.nanos).unwrap_or(0) / 1_000_000
}

pub(super) fn timestamp(millis: Millis) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: (millis / 1000) as i64, nanos: (millis % 1000) as i32 * 1_000_000 }
}

/// Negative durations count as zero.
pub(super) fn duration(duration: &prost_types::Duration) -> Duration {
    Duration::try_from(*duration).unwrap_or(Duration::ZERO)
}

pub(super) fn wire_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.as_secs() as i64, nanos: duration.subsec_nanos() as i32 }
}

pub(super) fn resource(name: &str) -> proto::Resource {
    proto::Resource { resource_namespace: String::new(), name: name.into() }
}

/// FIFO and DELAY are told by the properties; only TRANSACTION by the type the producer names.
fn kind(system: &proto::SystemProperties, message_group: Option<&str>) -> ContentKind {
    if system.message_type() == proto::MessageType::Transaction {
        ContentKind::Transaction
    } else if system.delivery_timestamp.is_some() {
        ContentKind::Delay
    } else if message_group.is_some() {
        ContentKind::Fifo
    } else {
        ContentKind::Normal
    }
}

/// A checked message on its way in. `peer` is the producer's address where it names no host itself.
pub(super) fn content(message: proto::Message, peer: &str, now: Millis) -> Content {
    let system = message.system_properties.unwrap_or_default();
    let mut properties = message.user_properties;
    let message_group = system.message_group.clone().or_else(|| properties.get("__SHARDINGKEY").cloned());
    // Apache keeps these among the properties, and does not hide them from readers.
    if let Some(group) = &message_group {
        properties.insert("__SHARDINGKEY".into(), group.clone());
    }
    if let Some(trace) = &system.trace_context {
        properties.insert("TRACE_CONTEXT".into(), trace.clone());
    }
    let delivery_at = system.delivery_timestamp.as_ref().map(millis);
    Content {
        kind: kind(&system, message_group.as_deref()),
        compressed: system.body_encoding() == proto::Encoding::Gzip,
        digest: digest(&message.body),
        body: message.body,
        id: system.message_id.into(),
        tag: system.tag.map(Into::into),
        // Stored joined by blanks, so a key with a blank comes back as two.
        keys: system.keys.iter().flat_map(|key| key.split_whitespace()).map(Into::into).collect(),
        properties,
        hidden: BTreeMap::new(),
        flag: 0,
        codec_bits: 0,
        message_group: message_group.map(Into::into),
        trace_context: system.trace_context.map(Into::into),
        delivery_at,
        born_at: system.born_timestamp.as_ref().map_or(now, millis),
        born_host: if system.born_host.is_empty() { peer.into() } else { system.born_host.into() },
        stored_at: now,
    }
}

fn digest(body: &[u8]) -> Box<str> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let nibbles = Md5::digest(body).into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(HEX[usize::from(nibble)])).collect::<String>().into()
}

/// A delivery as the wire carries it. `topic` is the one that was asked for.
pub(super) fn message(delivery: Delivery, topic: &str, store_host: &str) -> proto::Message {
    let Delivery { record, queue, offset, handle } = delivery;
    let content = &record.content;
    let system = proto::SystemProperties {
        body_digest: Some(proto::Digest {
            r#type: proto::DigestType::Md5.into(),
            checksum: content.digest.as_ref().into(),
        }),
        body_encoding: if content.compressed { proto::Encoding::Gzip } else { proto::Encoding::Identity }.into(),
        receipt_handle: Some(handle),
        delivery_attempt: Some(record.attempt() as i32),
        ..system_properties(&record, queue, offset, store_host)
    };
    whole(content, topic, system, content.body.clone())
}

/// A pulled message as the rocketmq-rust proxy carries it: the body decompressed, without a digest and without a handle. A
/// body that cannot be decompressed goes as it is, and says so.
pub(super) fn pulled(
    place: (u32, u64),
    record: &Record,
    topic: &str,
    store_host: &str,
    max_decompressed: usize,
) -> proto::Message {
    let (queue, offset) = place;
    let content = &record.content;
    let decompressed = if content.compressed { body::decompress(&content.body, max_decompressed).ok() } else { None };
    let is_compressed = content.compressed && decompressed.is_none();
    let system = proto::SystemProperties {
        body_encoding: if is_compressed { proto::Encoding::Gzip } else { proto::Encoding::Identity }.into(),
        ..system_properties(record, queue, offset, store_host)
    };
    whole(content, topic, system, decompressed.unwrap_or_else(|| content.body.clone()))
}

fn whole(content: &Content, topic: &str, system: proto::SystemProperties, body: Bytes) -> proto::Message {
    proto::Message {
        topic: Some(resource(topic)),
        user_properties: content.properties.clone(),
        system_properties: Some(system),
        body,
    }
}

/// What both ways of reading carry.
fn system_properties(record: &Record, queue: u32, offset: u64, store_host: &str) -> proto::SystemProperties {
    let (content, dead) = (&record.content, record.dead_letter);
    proto::SystemProperties {
        tag: content.tag.as_deref().map(Into::into),
        keys: content.keys.clone(),
        message_id: content.id.as_ref().into(),
        message_type: message_type(content.kind, dead).into(),
        born_timestamp: Some(timestamp(content.born_at)),
        born_host: content.born_host.as_ref().into(),
        store_timestamp: Some(timestamp(record.stored_at)),
        store_host: store_host.into(),
        delivery_timestamp: content.delivery_at.map(timestamp),
        queue_id: queue as i32,
        queue_offset: Some(offset as i64),
        message_group: content.message_group.as_deref().map(Into::into),
        trace_context: content.trace_context.as_deref().map(Into::into),
        ..proto::SystemProperties::default()
    }
}

/// Dead letters read as DELAY on 5.5.0: a property of their way into the queue is left on them.
fn message_type(kind: ContentKind, dead_letter: bool) -> proto::MessageType {
    match kind {
        ContentKind::Transaction => proto::MessageType::Transaction,
        _ if dead_letter => proto::MessageType::Delay,
        ContentKind::Delay => proto::MessageType::Delay,
        ContentKind::Fifo => proto::MessageType::Fifo,
        ContentKind::Normal => proto::MessageType::Normal,
    }
}

/// What a route says a topic takes.
pub(super) fn accepted_types(kind: TopicType) -> Vec<i32> {
    kind.accepts().iter().map(|kind| message_type(*kind, false).into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_md5_in_upper_case_over_the_bytes_as_carried() {
        assert_eq!(&*digest(b"hello"), "5D41402ABC4B2A76B9719D911017C592");
    }

    #[test]
    fn times_keep_their_milliseconds_and_negative_ones_are_the_past() {
        assert_eq!(millis(&timestamp(1_700_000_000_123)), 1_700_000_000_123);
        assert_eq!(millis(&prost_types::Timestamp { seconds: -5, nanos: 7 }), 0);
        assert_eq!(duration(&wire_duration(Duration::from_millis(1500))), Duration::from_millis(1500));
        assert_eq!(duration(&prost_types::Duration { seconds: -1, nanos: 0 }), Duration::ZERO);
    }

    #[test]
    fn the_kind_of_a_message_follows_its_properties() {
        let system = proto::SystemProperties { message_type: proto::MessageType::Fifo.into(), ..Default::default() };
        assert_eq!(kind(&system, None), ContentKind::Normal, "the type alone makes nothing FIFO");
        assert_eq!(kind(&system, Some("g")), ContentKind::Fifo);
        let delayed = proto::SystemProperties { delivery_timestamp: Some(timestamp(1)), ..system };
        assert_eq!(kind(&delayed, None), ContentKind::Delay);
    }
}
