//! From the body of a pull response of 32 stored messages to 32 [`Message`](crate::model::Message)s, and dropping them.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput};

use crate::model::{Message, MessageQueue, Offset};
use crate::transport::remoting::stored::{Reading, Storing, decode, encode, join_properties};

const MESSAGES: u64 = 32;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stored 32 messages");
    group.throughput(Throughput::Elements(MESSAGES));
    let queue = MessageQueue::new("orders", "broker-a", 3);
    let reading = reading(&queue, &[]);
    for size in [128, 1 << 10] {
        let response = response(size);
        check(&messages(&response, &reading), &response, size);
        group.bench_function(format!("bytes to Message, {size} B"), |bencher| {
            bencher.iter(|| drop(black_box(messages(&response, &reading))));
        });
        group.bench_function(format!("bytes to Message of one tag, {size} B"), |bencher| {
            let reading = Reading { tags: &["paid"], ..reading };
            bencher.iter(|| drop(black_box(messages(&response, &reading))));
        });
        group.bench_function(format!("bytes to Message and its body, {size} B"), |bencher| {
            bencher.iter(|| messages(&response, &reading).iter().map(first_byte).sum::<usize>());
        });
        group.bench_function(format!("bytes to Message and its id, tag and property, {size} B"), |bencher| {
            bencher.iter(|| messages(&response, &reading).iter().map(lengths).sum::<usize>());
        });
    }
    group.finish();
}

fn first_byte(message: &Message) -> usize {
    message.body().first().copied().map_or(0, usize::from)
}

fn lengths(message: &Message) -> usize {
    message.id().len() + message.tag().map_or(0, str::len) + message.property("region").map_or(0, str::len)
}

fn messages(response: &Bytes, reading: &Reading<'_>) -> Vec<Message> {
    decode(response.clone(), reading).expect("a good response").messages
}

/// No body is copied, and no property: each lies where it arrived.
fn check(messages: &[Message], response: &Bytes, size: usize) {
    assert_eq!(messages.len() as u64, MESSAGES);
    for message in messages {
        assert_eq!((message.body().len(), message.tag(), message.corrupted()), (size, Some("paid"), None));
        let place = message.body().as_ptr_range();
        assert!(response.as_ptr_range().contains(&place.start), "the body was copied");
        let (buffer, range) = message.body_place().expect("a pulled message");
        assert_eq!((buffer.as_ptr(), &buffer[range]), (response.as_ptr(), &message.body()[..]), "one chunk for all");
        let property = message.property("region").expect("a property").as_ptr();
        assert!(response.as_ptr_range().contains(&property), "the property was copied");
    }
}

/// What a broker sends for messages with a tag, a key and one property.
fn response(size: usize) -> Bytes {
    let (body, mut out) = (vec![b'x'; size], BytesMut::new());
    let host = |text: &str| text.parse::<SocketAddr>().expect("an address");
    for number in 0..MESSAGES {
        let (key, id) = (number.to_string(), format!("01{number:030X}"));
        let properties = [("MIN_OFFSET", "0"), ("region", "EU"), ("KEYS", &key), ("UNIQ_KEY", &id), ("TAGS", "paid")];
        let message = Storing {
            queue_id: 3,
            flag: 0,
            queue_offset: Offset::new(1_234_567 + number),
            log_offset: 1 << 40,
            sys_flag: 0,
            born: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            born_host: host("127.0.0.1:54321"),
            stored: UNIX_EPOCH + Duration::from_millis(1_700_000_000_124),
            store_host: host("127.0.0.1:10911"),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: &body,
            topic: "orders",
            properties: &join_properties(properties),
        };
        encode(&message, &mut out).expect("it fits");
    }
    out.freeze()
}

fn reading<'a>(queue: &'a MessageQueue, tags: &'a [&'a str]) -> Reading<'a> {
    let from = Offset::new(1_234_567);
    Reading { queue, from, offset_delta: 0, max_decompressed_size: 64 << 20, check_digest: false, tags }
}
