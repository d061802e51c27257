use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;

pub(super) fn queue() -> MessageQueue {
    MessageQueue::new("orders", "broker-a", 3)
}

pub(super) fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

pub(super) fn host(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A plain message; tests change what they are about.
pub(super) fn storing<'a>(offset: u64, body: &'a [u8], properties: &'a str) -> Storing<'a> {
    Storing {
        queue_id: 3,
        flag: 7,
        queue_offset: Offset::new(offset),
        log_offset: 0x0123_4567,
        sys_flag: 0,
        born: at(1_700_000_000_123),
        born_host: host("10.0.0.1:54321"),
        stored: at(1_700_000_001_456),
        store_host: host("10.0.0.2:10911"),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body,
        topic: "orders",
        properties,
    }
}

pub(super) fn stored(messages: &[Storing<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        encode(message, &mut out).unwrap();
    }
    out
}

/// Everything from offset 0, whatever its tag.
pub(super) fn all(queue: &MessageQueue) -> Reading<'_> {
    let max_decompressed_size = 1 << 20;
    Reading { queue, from: Offset::new(0), offset_delta: 0, max_decompressed_size, check_digest: true, tags: &[] }
}

pub(super) fn decoded(response: impl Into<Bytes>) -> Decoded {
    decode(response.into(), &all(&queue())).unwrap()
}

pub(super) fn only(response: impl Into<Bytes>) -> Message {
    let decoded = decoded(response);
    assert_eq!((decoded.messages.len(), decoded.resume_at), (1, None));
    decoded.messages.into_iter().next().unwrap()
}

#[test]
fn what_is_stored_is_what_is_read() {
    let properties = join_properties([
        ("TAGS", "paid"),
        ("KEYS", "4711  4712"),
        ("UNIQ_KEY", "01ABCD"),
        ("region", "EU"),
        ("__SHARDINGKEY", "customer-1"),
        ("TRACE_CONTEXT", "00-1"),
        ("__CRC32#", "1234"),
    ]);
    let message = only(stored(&[Storing { reconsume_times: 2, ..storing(17, b"body", &properties) }]));
    assert_eq!((message.id(), message.topic(), &message.body()[..]), ("01ABCD", "orders", b"body".as_ref()));
    assert_eq!((message.tag(), message.keys()), (Some("paid"), ["4711".to_owned(), "4712".to_owned()].as_slice()));
    assert_eq!(message.properties().iter().collect::<Vec<_>>(), [("region", "EU")]);
    assert_eq!((message.property("region"), message.property("TAGS")), (Some("EU"), None));
    assert_eq!((message.message_group(), message.trace_context()), (Some("customer-1"), Some("00-1")));
    assert_eq!((message.born_host(), message.store_host()), ("10.0.0.1:54321", "10.0.0.2:10911"));
    assert_eq!(message.born_timestamp(), Some(at(1_700_000_000_123)));
    assert_eq!(message.store_timestamp(), Some(at(1_700_000_001_456)));
    assert_eq!((message.broker(), message.queue_id()), (Some("broker-a"), 3));
    assert_eq!((message.queue_offset(), message.delivery_attempt()), (Some(Offset::new(17)), 3));
    assert_eq!((message.message_type(), message.corrupted()), (crate::model::MessageType::Fifo, None));
    assert_eq!(message.raw_properties(), Some(properties.as_bytes()));
}
