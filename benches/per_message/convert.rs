//! From the bytes of an answer of 32 messages to 32 [`Message`](crate::model::Message)s.

use std::collections::BTreeMap;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use prost::Message as _;

use crate::proto::receive_message_response::Content;
use crate::proto::{
    Digest, DigestType, Encoding, Message, MessageType, ReceiveMessageResponse, Resource, SystemProperties,
};
use crate::transport::ReceiveFrame;
use crate::transport::grpc::convert::{Reading, quick_message, receive_frame};

const MESSAGES: usize = 32;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("convert 32 messages");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    for size in [1 << 10, 64 << 10] {
        let frames = frames(size);
        let reading = reading();
        check(&frames, &reading, size);
        group.bench_function(format!("proto to Message, {size} B"), |bencher| {
            let decoded = || frames.iter().map(decode).collect::<Vec<_>>();
            let convert = |responses: Vec<_>| -> Vec<_> {
                responses.into_iter().map(|response| receive_frame(response, &reading)).collect()
            };
            bencher.iter_batched(decoded, convert, BatchSize::SmallInput);
        });
        group.bench_function(format!("bytes to Message, {size} B"), |bencher| {
            bencher.iter(|| {
                for frame in &frames {
                    drop(black_box(quick_message(frame, &reading)));
                }
            });
        });
    }
    group.finish();
}

/// No body is copied: each lies where it arrived.
fn check(frames: &[Bytes], reading: &Reading, size: usize) {
    for frame in frames {
        let read = [quick_message(frame, reading), receive_frame(decode(frame), reading).expect("a message")];
        for one in read {
            let Some(ReceiveFrame::Message { message, .. }) = one else { panic!("not a message") };
            assert_eq!(message.body().len(), size);
            assert!(frame.as_ptr_range().contains(&message.body().as_ptr()), "the body was copied");
        }
    }
}

fn decode(frame: &Bytes) -> ReceiveMessageResponse {
    ReceiveMessageResponse::decode(frame.clone()).expect("a good frame")
}

fn frames(size: usize) -> Vec<Bytes> {
    let body = Bytes::from(vec![b'x'; size]);
    (0..MESSAGES).map(|number| response(number, body.clone()).encode_to_vec().into()).collect()
}

fn reading() -> Reading {
    Reading {
        topic: "orders".into(),
        broker: Some("broker-a".into()),
        max_decompressed_size: 4 << 20,
        check_digest: false,
        is_delivery: true,
    }
}

/// What Apache's proxy sends for a message with a tag, a key and one property.
pub(crate) fn response(number: usize, body: Bytes) -> ReceiveMessageResponse {
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 123_000_000 });
    let system_properties = SystemProperties {
        tag: Some("paid".into()),
        keys: vec![number.to_string()],
        message_id: format!("01{number:030X}"),
        body_digest: Some(Digest {
            r#type: DigestType::Md5 as i32,
            checksum: "0CC175B9C0F1B6A831C399E269772661".into(),
        }),
        body_encoding: Encoding::Identity as i32,
        message_type: MessageType::Normal as i32,
        born_timestamp: time(1_700_000_000),
        born_host: "127.0.0.1:54321".into(),
        store_timestamp: time(1_700_000_001),
        store_host: "127.0.0.1:10911".into(),
        receipt_handle: Some(format!("{number} 1700000000000 30000 0 0 broker-a 3 1234567 {}", "x".repeat(90))),
        queue_id: 3,
        queue_offset: Some(1_234_567),
        invisible_duration: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        delivery_attempt: Some(1),
        ..SystemProperties::default()
    };
    let message = Message {
        topic: Some(Resource { resource_namespace: String::new(), name: "orders".into() }),
        user_properties: BTreeMap::from([("color".into(), "blue".into())]),
        system_properties: Some(system_properties),
        body,
    };
    ReceiveMessageResponse { content: Some(Content::Message(message)) }
}
