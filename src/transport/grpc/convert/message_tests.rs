use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use prost_types::Timestamp;

use super::*;
use crate::model::{DigestAlgorithm, MessageType};
use crate::proto::Encoding;

fn reading() -> Reading {
    Reading {
        topic: "%DLQ%billing".into(),
        broker: Some("broker-a".into()),
        max_decompressed_size: 1 << 20,
        check_digest: true,
        is_delivery: true,
    }
}

fn system() -> proto::SystemProperties {
    proto::SystemProperties {
        tag: Some("paid".into()),
        keys: vec!["42".into(), "43".into()],
        message_id: "01AA".into(),
        body_encoding: Encoding::Identity as i32,
        message_type: proto::MessageType::Fifo as i32,
        born_timestamp: Some(Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 }),
        born_host: "producer".into(),
        store_timestamp: Some(Timestamp { seconds: 1_700_000_001, nanos: 7_000_000 }),
        store_host: "1.2.3.4:10911".into(),
        delivery_timestamp: Some(Timestamp { seconds: 1_700_000_002, nanos: 0 }),
        receipt_handle: Some("handle".into()),
        queue_id: 3,
        queue_offset: Some(17),
        invisible_duration: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        delivery_attempt: Some(2),
        message_group: Some("group".into()),
        trace_context: Some("trace".into()),
        orphaned_transaction_recovery_duration: Some(prost_types::Duration { seconds: 6, nanos: 0 }),
        dead_letter_queue: Some(proto::DeadLetterQueue { topic: "orders".into(), message_id: "02".into() }),
        lite_topic: Some("lite".into()),
        priority: Some(4),
        body_digest: None,
    }
}

fn wire(system: proto::SystemProperties, body: &[u8]) -> proto::Message {
    proto::Message {
        topic: Some(proto::Resource { resource_namespace: "%DLQ".into(), name: "billing".into() }),
        user_properties: [("region", "EU"), ("__SHARDINGKEY", "group"), ("TRACE_CONTEXT", "trace"), ("DUP_INFO", "x")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        system_properties: Some(system),
        body: Bytes::copy_from_slice(body),
    }
}

fn message(wire: proto::Message) -> Message {
    Message::new(read(wire, &reading()).0)
}

fn corruption(system: proto::SystemProperties, body: &[u8]) -> String {
    message(wire(system, body)).corrupted().expect("it is corrupted").to_string()
}

#[test]
fn every_field_of_a_message_is_read() {
    let (parts, handle) = read(wire(system(), b"body"), &reading());
    let message = Message::new(parts);
    assert_eq!(handle, "handle");
    assert_eq!((message.id(), message.body().as_ref(), message.tag()), ("01AA", b"body".as_ref(), Some("paid")));
    assert_eq!(message.keys(), ["42", "43"]);
    assert_eq!(message.born_timestamp(), Some(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)));
    assert_eq!(message.store_timestamp(), Some(UNIX_EPOCH + Duration::from_millis(1_700_000_001_007)));
    assert_eq!(message.delivery_timestamp(), Some(UNIX_EPOCH + Duration::from_secs(1_700_000_002)));
    assert_eq!((message.born_host(), message.store_host()), ("producer", "1.2.3.4:10911"));
    assert_eq!((message.queue_id(), message.queue_offset().map(Offset::get)), (3, Some(17)));
    assert_eq!(message.invisible_duration(), Some(Duration::from_secs(30)));
    assert_eq!(message.transaction_recovery(), Some(Duration::from_secs(6)));
    assert_eq!((message.delivery_attempt(), message.message_type()), (2, MessageType::Fifo));
    assert_eq!((message.message_group(), message.trace_context()), (Some("group"), Some("trace")));
    assert_eq!((message.lite_topic(), message.priority(), message.broker()), (Some("lite"), Some(4), Some("broker-a")));
    let origin = message.dead_letter_origin().unwrap();
    assert_eq!((&*origin.topic, &*origin.message_id), ("orders", "02"));
    assert_eq!((message.body_digest(), message.body_encoding()), (None, BodyEncoding::Identity));
    assert_eq!(message.corrupted(), None);
}

#[test]
fn how_a_body_was_carried_is_told_checked_or_not() {
    let told = |kind: i32, encoding: i32| {
        let digest = Some(proto::Digest { r#type: kind, checksum: "00ff".into() });
        let system = proto::SystemProperties { body_digest: digest, body_encoding: encoding, ..system() };
        let message = message(wire(system, b"body"));
        let digest = message.body_digest().unwrap();
        assert_eq!(digest.checksum(), "00ff");
        (digest.algorithm(), message.body_encoding())
    };
    use {BodyEncoding as E, DigestAlgorithm as A};
    let expected = [(A::Unknown, E::Identity), (A::Crc32, E::Identity), (A::Md5, E::Compressed), (A::Sha1, E::Unknown)];
    assert_eq!([0, 1, 2, 3].map(|code| told(code, code)), expected);
    assert_eq!(told(4, -1), (A::Unknown, E::Unknown));
}

#[test]
fn r9_the_topic_of_a_message_is_the_one_asked_for() {
    assert_eq!(message(wire(system(), b"")).topic(), "%DLQ%billing");
}

#[test]
fn the_servers_own_properties_are_not_the_users() {
    let message = message(wire(system(), b""));
    assert_eq!(message.properties().iter().collect::<Vec<_>>(), [("region", "EU")]);
    assert!(LEFT_BY_THE_SERVER.is_sorted(), "they are searched by halving");
}

#[test]
fn a_body_is_not_copied() {
    let body = Bytes::from(vec![7; 1_000]);
    let at = body.as_ptr();
    let (parts, _) = read(proto::Message { body, ..wire(system(), b"") }, &reading());
    assert_eq!(parts.body.as_ptr(), at);
}

#[test]
fn r13_only_a_body_that_is_flagged_as_compressed_is_decompressed() {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"plain").unwrap();
    let zlib = encoder.finish().unwrap();
    let flagged = proto::SystemProperties { body_encoding: Encoding::Gzip as i32, ..system() };
    assert_eq!(message(wire(flagged, &zlib)).body(), "plain");
    assert_eq!(message(wire(system(), &zlib)).body(), &zlib);
    assert_eq!(message(wire(system(), b"xylophone")).body(), "xylophone");
}

#[test]
fn a_digest_is_that_of_the_carried_bytes_and_checked_only_on_demand() {
    let digest = |checksum: &str| proto::Digest { r#type: proto::DigestType::Md5 as i32, checksum: checksum.into() };
    let good = proto::SystemProperties { body_digest: Some(digest("25f9e794323b453885f5181f1b624d0b")), ..system() };
    assert_eq!(message(wire(good, b"123456789")).corrupted(), None);
    let bad = proto::SystemProperties { body_digest: Some(digest("00")), ..system() };
    assert!(corruption(bad.clone(), b"123456789").contains("25F9E794323B453885F5181F1B624D0B"));
    let unchecked = read(wire(bad, b"123456789"), &Reading { check_digest: false, ..reading() }).0;
    assert_eq!(unchecked.corrupted, None);
    let unknown = proto::Digest { r#type: 9, checksum: "?".into() };
    let unknown = proto::SystemProperties { body_digest: Some(unknown), ..system() };
    assert_eq!(message(wire(unknown, b"")).corrupted(), None, "one that cannot be computed says nothing");
}

#[test]
fn r12_a_malformed_message_is_delivered_and_says_what_is_wrong() {
    let no_id = proto::SystemProperties { message_id: String::new(), ..system() };
    assert_eq!(corruption(no_id, b""), "malformed: it has no id");
    let no_handle = proto::SystemProperties { receipt_handle: None, ..system() };
    assert!(corruption(no_handle, b"").contains("no receipt handle"));
    let neither = proto::SystemProperties { receipt_handle: None, message_id: String::new(), ..system() };
    assert!(corruption(neither, b"").contains("no id; it has no receipt handle"));
    let encoding = proto::SystemProperties { body_encoding: 7, ..system() };
    assert!(corruption(encoding, b"").contains("encoding 7"));
    let not_compressed = proto::SystemProperties { body_encoding: Encoding::Gzip as i32, ..system() };
    assert!(corruption(not_compressed.clone(), b"plain").contains("cannot be decompressed"));
    assert_eq!(message(wire(not_compressed, b"plain")).body(), "plain", "the bytes as they came");

    let (parts, handle) = read(proto::Message { system_properties: None, ..wire(system(), b"body") }, &reading());
    assert_eq!((&*parts.id, handle.as_str(), &parts.body[..]), ("", "", b"body".as_ref()));
    assert!(parts.corrupted.unwrap().to_string().contains("no system properties"));
}

#[test]
fn a_message_of_a_transaction_check_needs_no_handle() {
    let system = proto::SystemProperties { receipt_handle: None, ..system() };
    let (parts, _) = read(wire(system, b""), &Reading { is_delivery: false, ..reading() });
    assert_eq!(parts.corrupted, None);
}

#[test]
fn absurd_numbers_are_bounded() {
    let system = proto::SystemProperties {
        delivery_attempt: Some(-3),
        queue_offset: Some(-1),
        message_type: 77,
        born_timestamp: Some(Timestamp { seconds: i64::MAX, nanos: i32::MIN }),
        store_timestamp: Some(Timestamp { seconds: i64::MIN, nanos: -1 }),
        invisible_duration: Some(prost_types::Duration { seconds: i64::MIN, nanos: i32::MIN }),
        ..system()
    };
    let message = message(wire(system, b""));
    assert_eq!((message.delivery_attempt(), message.queue_offset()), (1, None));
    assert_eq!(message.message_type(), MessageType::Unknown);
    assert_eq!(message.invisible_duration(), Some(Duration::ZERO));
    assert_eq!(message.corrupted(), None);
}

#[test]
fn frames_mean_what_they_say() {
    let frame = |content| receive_frame(proto::ReceiveMessageResponse { content }, &reading());
    let status = |code, message: &str| Some(Content::Status(proto::Status { code, message: message.into() }));
    assert!(matches!(frame(status(20000, "OK")), Ok(None)));
    assert!(
        matches!(frame(status(40401, "no new message")), Ok(Some(ReceiveFrame::Empty { text })) if text == "no new message")
    );
    assert_eq!(frame(status(42900, "polling full")).unwrap_err().code, 42900);
    assert!(matches!(frame(None), Ok(None)));
    let time = frame(Some(Content::DeliveryTimestamp(Timestamp { seconds: 5, nanos: 0 })));
    assert!(matches!(time, Ok(Some(ReceiveFrame::DeliveryTimestamp(at))) if at == UNIX_EPOCH + Duration::from_secs(5)));
    let message = frame(Some(Content::Message(wire(system(), b"body"))));
    assert!(matches!(message, Ok(Some(ReceiveFrame::Message { held, .. })) if held.handle() == "handle"));
}

#[test]
fn r12_a_frame_with_an_invalid_string_is_delivered_with_what_settles_it() {
    let frame = proto::ReceiveMessageResponse { content: Some(Content::Message(wire(system(), b"the body"))) };
    let mut bytes = frame.encode_to_vec();
    let tag = bytes.windows(4).position(|window| window == b"paid").unwrap();
    bytes[tag] = 0xFF;
    let bytes = Bytes::from(bytes);
    let reason = proto::ReceiveMessageResponse::decode(bytes.clone()).expect_err("not UTF-8");
    let damaged = Damaged::salvage(bytes, reason).expect("the message is in it");
    let ReceiveFrame::Message { message, held } = damaged_frame(damaged, &reading()) else { panic!("no message") };
    assert_eq!((message.id(), held.handle(), &message.body()[..]), ("01AA", "handle", b"the body".as_ref()));
    assert_eq!(message.topic(), "%DLQ%billing");
    assert!(matches!(message.corrupted(), Some(Corruption::Malformed { .. })));
}

#[test]
fn a_frame_without_a_message_is_not_salvaged() {
    let reason = proto::ReceiveMessageResponse::decode(&b"\xFF"[..]).unwrap_err();
    assert!(Damaged::salvage(Bytes::from_static(b"\xFF"), reason).is_err());
}

proptest! {
    #[test]
    fn no_bytes_of_a_frame_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let frame = Bytes::from(noise);
        match proto::ReceiveMessageResponse::decode(frame.clone()) {
            Ok(response) => drop(receive_frame(response, &reading())),
            Err(reason) => drop(Damaged::salvage(frame, reason).map(|damaged| damaged_frame(damaged, &reading()))),
        }
    }

    #[test]
    fn a_damaged_frame_does_not_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let frame = proto::ReceiveMessageResponse { content: Some(Content::Message(wire(system(), b"the body"))) };
        let mut bytes = frame.encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let bytes = Bytes::from(bytes);
        match proto::ReceiveMessageResponse::decode(bytes.clone()) {
            Ok(response) => drop(receive_frame(response, &reading())),
            Err(reason) => drop(Damaged::salvage(bytes, reason).map(|damaged| damaged_frame(damaged, &reading()))),
        }
    }
}
