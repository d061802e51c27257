use std::collections::BTreeMap;

use proptest::option;
use proptest::prelude::*;
use prost::Message as _;
use prost_types::Timestamp;

use super::*;
use crate::proto::receive_message_response::Content;
use crate::proto::{self, ReceiveMessageResponse};
use crate::transport::grpc::convert::message::receive_frame;

fn reading() -> Reading {
    Reading {
        topic: "%DLQ%billing".into(),
        broker: Some("broker-a".into()),
        max_decompressed_size: 1 << 20,
        check_digest: false,
        is_delivery: true,
    }
}

fn system() -> proto::SystemProperties {
    proto::SystemProperties {
        tag: Some("paid".into()),
        keys: vec!["42".into(), "43".into()],
        message_id: "01AA".into(),
        body_digest: Some(proto::Digest { r#type: proto::DigestType::Md5 as i32, checksum: "00".into() }),
        body_encoding: proto::Encoding::Identity as i32,
        message_type: proto::MessageType::Fifo as i32,
        born_timestamp: Some(Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 }),
        born_host: "producer".into(),
        store_timestamp: Some(Timestamp { seconds: 1_700_000_001, nanos: 7_000_000 }),
        store_host: "1.2.3.4:10911".into(),
        receipt_handle: Some("handle".into()),
        queue_id: 3,
        queue_offset: Some(17),
        invisible_duration: Some(prost_types::Duration { seconds: 30, nanos: 5 }),
        delivery_attempt: Some(2),
        message_group: Some("group".into()),
        trace_context: Some("trace".into()),
        ..proto::SystemProperties::default()
    }
}

fn wire(system: proto::SystemProperties) -> proto::Message {
    let properties = [("region", "EU"), ("__SHARDINGKEY", "group"), ("a", ""), ("ä", "ö")];
    proto::Message {
        topic: Some(proto::Resource { resource_namespace: "%DLQ".into(), name: "billing".into() }),
        user_properties: properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        system_properties: Some(system),
        body: Bytes::from_static(b"the body"),
    }
}

fn encoded(message: proto::Message) -> Bytes {
    ReceiveMessageResponse { content: Some(Content::Message(message)) }.encode_to_vec().into()
}

fn quick(message: proto::Message) -> Option<String> {
    quick_message(&encoded(message), &reading()).map(|frame| told(&frame))
}

/// Everything that a frame of a message says.
fn told(frame: &ReceiveFrame) -> String {
    let ReceiveFrame::Message { message: m, held } = frame else { panic!("{frame:?}") };
    let texts = (m.id(), m.topic(), m.tag(), m.keys(), m.properties(), m.message_group(), m.trace_context());
    let places = (m.born_timestamp(), m.born_host(), m.store_timestamp(), m.store_host(), m.broker(), m.queue_id());
    let numbers = (m.queue_offset(), m.invisible_duration(), m.delivery_attempt(), m.message_type(), m.priority());
    let rare = (m.lite_topic(), m.delivery_timestamp(), m.dead_letter_origin(), m.transaction_recovery());
    let body = (m.body(), m.body_digest(), m.body_encoding(), m.corrupted());
    format!("{texts:?} {places:?} {numbers:?} {rare:?} {body:?} {held:?}")
}

/// What the generated code makes of it.
fn slow(frame: &Bytes) -> String {
    let response = ReceiveMessageResponse::decode(frame.clone()).expect("what is read quickly is sound");
    told(&receive_frame(response, &reading()).expect("a message").expect("a message"))
}

#[test]
fn a_usual_message_is_read_quickly_and_its_body_lies_where_it_arrived() {
    let frame = encoded(wire(system()));
    let read = quick_message(&frame, &reading()).expect("nothing is unusual");
    assert_eq!(told(&read), slow(&frame));
    let ReceiveFrame::Message { message, held } = read else { panic!("{read:?}") };
    assert!(frame.as_ptr_range().contains(&message.body().as_ptr()));
    assert!(frame.as_ptr_range().contains(&held.handle_bytes().as_ptr()));
    let bare = proto::SystemProperties {
        message_id: "01".into(),
        receipt_handle: Some("h".into()),
        ..proto::SystemProperties::default()
    };
    assert!(quick(proto::Message { system_properties: Some(bare), ..proto::Message::default() }).is_some());
}

#[test]
fn r12_r13_what_is_unusual_is_left_to_the_generated_code() {
    for (what, system) in [
        ("a compressed body", proto::SystemProperties { body_encoding: proto::Encoding::Gzip as i32, ..system() }),
        ("an unknown encoding", proto::SystemProperties { body_encoding: 7, ..system() }),
        ("no id", proto::SystemProperties { message_id: String::new(), ..system() }),
        ("no handle", proto::SystemProperties { receipt_handle: None, ..system() }),
        ("an empty handle", proto::SystemProperties { receipt_handle: Some(String::new()), ..system() }),
        ("a delay", proto::SystemProperties { delivery_timestamp: Some(Timestamp::default()), ..system() }),
        ("an origin", proto::SystemProperties { dead_letter_queue: Some(Default::default()), ..system() }),
        ("a lite topic", proto::SystemProperties { lite_topic: Some("lite".into()), ..system() }),
        ("a priority", proto::SystemProperties { priority: Some(1), ..system() }),
        (
            "a transaction",
            proto::SystemProperties { orphaned_transaction_recovery_duration: Some(Default::default()), ..system() },
        ),
    ] {
        assert_eq!(quick(wire(system)), None, "{what}");
    }
    assert_eq!(quick(proto::Message { system_properties: None, ..wire(system()) }), None, "no system properties");
    let frame = encoded(wire(system()));
    assert!(quick_message(&frame, &Reading { check_digest: true, ..reading() }).is_none(), "a digest to check");
    assert!(quick_message(&frame, &Reading { is_delivery: false, ..reading() }).is_none(), "no delivery");
    let twice = Bytes::from([&frame[..], &frame[..]].concat());
    assert!(quick_message(&twice, &reading()).is_none(), "two messages, which would have to be merged");
    let status = ReceiveMessageResponse { content: Some(Content::Status(proto::Status::default())) };
    assert!(quick_message(&status.encode_to_vec().into(), &reading()).is_none(), "a status");
}

#[test]
fn a_field_that_comes_twice_is_left_to_the_generated_code() {
    let time = proto::SystemProperties { born_timestamp: system().born_timestamp, ..Default::default() };
    let times = [system().encode_to_vec(), time.encode_to_vec()].concat();
    let digest = proto::SystemProperties { body_digest: system().body_digest, ..Default::default() };
    let digests = [system().encode_to_vec(), digest.encode_to_vec()].concat();
    let part = proto::Message { system_properties: Some(system()), ..Default::default() }.encode_to_vec();
    let property = |value: &str| proto::Message {
        user_properties: BTreeMap::from([("a".to_owned(), value.to_owned())]),
        ..Default::default()
    };
    let mut with_times = Vec::new();
    super::super::fields::put(&mut with_times, 3, &times);
    let mut with_digests = Vec::new();
    super::super::fields::put(&mut with_digests, 3, &digests);
    for message in [
        [part.clone(), part.clone()].concat(),
        [part.clone(), property("1").encode_to_vec(), property("2").encode_to_vec()].concat(),
        with_times,
        with_digests,
    ] {
        let mut frame = Vec::new();
        super::super::fields::put(&mut frame, 2, &message);
        assert!(quick_message(&frame.into(), &reading()).is_none());
    }
}

#[test]
fn r12_what_does_not_decode_is_left_to_the_generated_code_also_in_fields_that_nobody_reads() {
    let topic = proto::Resource { resource_namespace: "nnnn".into(), name: "tttt".into() };
    let digest = proto::Digest { r#type: 1, checksum: "cccc".into() };
    let message = proto::Message {
        topic: Some(topic),
        ..wire(proto::SystemProperties { body_digest: Some(digest), ..system() })
    };
    let frame = encoded(message);
    assert!(quick_message(&frame, &reading()).is_some());
    for text in [b"nnnn", b"tttt", b"cccc"] {
        let mut bytes = frame.to_vec();
        let at = bytes.windows(4).position(|window| window == text).unwrap();
        bytes[at] = 0xFF;
        assert!(quick_message(&bytes.into(), &reading()).is_none(), "{text:?} is no text");
    }
    // Its number as a text of one byte, and its text as a number.
    for digest in [&[0x0A, 1, b'x'][..], &[0x10, 7]] {
        let mut system = system().encode_to_vec();
        super::super::fields::put(&mut system, 4, digest);
        let (mut message, mut frame) = (Vec::new(), Vec::new());
        super::super::fields::put(&mut message, 3, &system);
        super::super::fields::put(&mut frame, 2, &message);
        assert!(quick_message(&frame.into(), &reading()).is_none(), "{digest:?} is no digest");
    }
}

fn times() -> impl Strategy<Value = Option<Timestamp>> {
    option::of((any::<i64>(), any::<i32>()).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos }))
}

fn systems() -> impl Strategy<Value = proto::SystemProperties> {
    let texts =
        (option::of(".{0,5}"), prop::collection::vec(".{0,5}", 0..3), ".{0,40}", ".{0,9}", option::of(".{0,200}"));
    let numbers = (any::<i32>(), any::<i32>(), option::of(any::<i64>()), option::of(any::<i32>()), 0..3i32);
    (texts, numbers, times(), times(), option::of(".{0,5}"), option::of(".{0,5}")).prop_map(
        |((tag, keys, message_id, host, receipt_handle), numbers, born, stored, message_group, trace_context)| {
            let (queue_id, message_type, queue_offset, delivery_attempt, body_encoding) = numbers;
            proto::SystemProperties {
                tag,
                keys,
                message_id,
                born_host: host.clone(),
                store_host: host,
                receipt_handle,
                queue_id,
                message_type,
                queue_offset,
                delivery_attempt,
                body_encoding,
                born_timestamp: born,
                store_timestamp: stored,
                message_group,
                trace_context,
                ..proto::SystemProperties::default()
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_read_quickly_is_what_the_generated_code_reads(
        system in systems(),
        properties in prop::collection::btree_map("[a-c]{1,2}|DUP_INFO", ".{0,5}", 0..4),
        body in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let is_usual = !system.message_id.is_empty()
            && system.receipt_handle.as_ref().is_some_and(|handle| !handle.is_empty())
            && system.body_encoding != proto::Encoding::Gzip as i32;
        let message = proto::Message {
            topic: None,
            user_properties: properties,
            system_properties: Some(system),
            body: body.into(),
        };
        let frame = encoded(message);
        let read = quick_message(&frame, &reading());
        prop_assert_eq!(read.is_some(), is_usual);
        if let Some(read) = read {
            prop_assert_eq!(told(&read), slow(&frame));
        }
    }

    #[test]
    fn r12_a_damaged_frame_is_read_quickly_only_as_the_generated_code_reads_it(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(wire(system())).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let frame = Bytes::from(bytes);
        if let Some(read) = quick_message(&frame, &reading()) {
            prop_assert_eq!(told(&read), slow(&frame));
        }
    }

    #[test]
    fn no_bytes_of_a_frame_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = quick_message(&noise.into(), &reading());
    }
}
