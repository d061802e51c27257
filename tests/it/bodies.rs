//! Bodies as other clients write them, and messages that came damaged.

use std::collections::HashMap;
use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use futures::prelude::*;
use rocketmq_stream::{
    Client, ClientBuilder, Corruption, Filter, Limits, OnMalformed, RouteEndpoints, SimpleConsumerBuilder,
};

use crate::proto::{self, Encoding};
use crate::support::rig::{GROUP, Rig, TOPIC, builder};
use crate::support::{next, nothing_for, numbered, secs, send_all, sorted, take, text, within};
use crate::tap::Tap;

const TEXT: &str = "a body that compresses, a body that compresses, a body that compresses, a body that compresses";

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory").into()
}

fn zlib(bytes: &[u8]) -> Bytes {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory").into()
}

fn lz4(bytes: &[u8]) -> Bytes {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory").into()
}

fn zstd(bytes: &[u8]) -> Bytes {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest).into()
}

/// A broker whose consumers read through a tap that changes messages, by body.
struct Changed {
    rig: Rig,
    client: Client,
}

type Change = Box<dyn FnMut(&mut proto::Message) + Send>;

impl Changed {
    async fn start(
        change: impl FnOnce(ClientBuilder) -> ClientBuilder,
        mut messages: HashMap<&'static str, Change>,
    ) -> Self {
        let rig = Rig::start(builder()).await;
        let tap = Tap::to(&rig.broker.access_point()).await;
        let client = Client::builder().access_point(tap.access_point()).route_endpoints(RouteEndpoints::AccessPoint);
        let client = change(client).build().expect("a client");
        let bodies: Vec<_> = messages.keys().map(|body| (*body).to_owned()).collect();
        tap.change(|changes| {
            changes.received = Some(Box::new(move |message| {
                let body = String::from_utf8_lossy(&message.body).into_owned();
                if let Some(change) = messages.get_mut(body.as_str()) {
                    change(message);
                }
            }));
        });
        send_all(&rig.producer().await, TOPIC, bodies).await;
        Self { rig, client }
    }

    fn consuming(&self) -> SimpleConsumerBuilder {
        self.client.simple_consumer(GROUP).subscribe(TOPIC, Filter::all())
    }
}

fn encoded(body: Bytes, encoding: Encoding) -> Change {
    Box::new(move |message| {
        message.body = body.clone();
        let system = message.system_properties.get_or_insert_default();
        system.body_encoding = encoding.into();
        system.body_digest = None;
    })
}

#[tokio::test(start_paused = true)]
async fn r13_compressed_bodies_come_out_right_by_their_magic_bytes() {
    // The enum value GZIP means "compressed": zlib is what most producers write under it.
    let written: [(&str, Change); 4] = [
        ("gzip", encoded(gzip(TEXT.as_bytes()), Encoding::Gzip)),
        ("zlib", encoded(zlib(TEXT.as_bytes()), Encoding::Gzip)),
        ("lz4", encoded(lz4(TEXT.as_bytes()), Encoding::Gzip)),
        ("zstd", encoded(zstd(TEXT.as_bytes()), Encoding::Gzip)),
    ];
    let changed = Changed::start(|client| client, written.into()).await;
    let mut consumer = changed.consuming().build().await.expect("build");
    for delivery in take(&mut consumer, 4).await {
        assert_eq!(text(delivery.message()), TEXT);
        assert!(delivery.message().corrupted().is_none());
        delivery.ack().await.expect("ack");
    }
}

#[tokio::test(start_paused = true)]
async fn r13_a_body_that_is_not_flagged_is_left_alone_whatever_it_begins_with() {
    let plain = [("zlib", zlib(b"inner")), ("gzip", gzip(b"inner")), ("zstd", zstd(b"inner")), ("lz4", lz4(b"inner"))];
    for encoding in [Encoding::Identity, Encoding::Unspecified] {
        let written = plain.clone().map(|(name, body)| (name, encoded(body, encoding)));
        let changed = Changed::start(|client| client, written.into()).await;
        let mut consumer = changed.consuming().build().await.expect("build");
        for delivery in take(&mut consumer, 4).await {
            let body = delivery.message().body();
            assert!(plain.iter().any(|(_, plain)| plain == body), "{encoding:?}: {body:?} was changed");
            assert!(delivery.message().corrupted().is_none());
            delivery.ack().await.expect("ack");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn r13_a_body_that_begins_with_x_passes_through_the_broker_as_it_is() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, ["x\u{9c}marks the spot", "x", "x\u{1}"]).await;
    let mut consumer = rig.consumer().await;
    let bodies: Vec<_> = take(&mut consumer, 3).await.iter().map(|d| text(d.message()).to_owned()).collect();
    assert_eq!(sorted(bodies), sorted(["x\u{9c}marks the spot", "x", "x\u{1}"].map(String::from)));
}

#[tokio::test(start_paused = true)]
async fn r13_the_size_after_decompression_is_bounded() {
    let bomb = zlib(&vec![0; 8 << 20]);
    assert!(bomb.len() < 64 << 10);
    let limits = Limits::default().max_decompressed_size(1 << 20);
    let written = [("bomb", encoded(bomb.clone(), Encoding::Gzip)), ("good", encoded(zlib(b"fine"), Encoding::Gzip))];
    let changed = Changed::start(|client| client.limits(limits), written.into()).await;
    let mut consumer = changed.consuming().build().await.expect("build");
    let mut seen = 0;
    for delivery in take(&mut consumer, 2).await {
        match delivery.message().corrupted() {
            None => assert_eq!(text(delivery.message()), "fine"),
            Some(Corruption::Decompression { .. }) => {
                assert_eq!(delivery.message().body(), &bomb, "the bytes as they came");
                seen += 1;
            }
            Some(other) => panic!("{other:?}"),
        }
        delivery.ack().await.expect("ack");
    }
    assert_eq!(seen, 1);
}

#[tokio::test(start_paused = true)]
async fn r13_digests_are_of_the_bytes_on_the_wire() {
    use crate::proto::DigestType;
    let digested = |body: Bytes, kind: DigestType, checksum: String| -> Change {
        Box::new(move |message| {
            message.body = body.clone();
            let system = message.system_properties.get_or_insert_default();
            system.body_encoding = Encoding::Gzip.into();
            system.body_digest = Some(proto::Digest { r#type: kind.into(), checksum: checksum.clone() });
        })
    };
    let wire = zlib(b"digested");
    let crc = crc32fast::hash(&wire);
    let written: [(&str, Change); 3] = [
        ("crc", digested(wire.clone(), DigestType::Crc32, format!("{crc:X}"))),
        ("crc padded", digested(wire.clone(), DigestType::Crc32, format!("{crc:08X}"))),
        ("unknown", digested(wire, DigestType::Unspecified, "whatever".into())),
    ];
    let changed = Changed::start(|client| client, written.into()).await;
    let mut consumer = changed.consuming().check_digest(true).build().await.expect("build");
    for delivery in take(&mut consumer, 3).await {
        assert_eq!(text(delivery.message()), "digested");
        assert!(delivery.message().corrupted().is_none(), "{:?}", delivery.message());
    }
}

/// Two good messages with a broken one among them.
fn broken(how: impl FnMut(&mut proto::Message) + Send + 'static) -> HashMap<&'static str, Change> {
    HashMap::from([
        ("good 1", Box::new(|_: &mut proto::Message| {}) as Change),
        ("bad", Box::new(how)),
        ("good 2", Box::new(|_: &mut proto::Message| {})),
    ])
}

fn wrong_digest(message: &mut proto::Message) {
    let system = message.system_properties.get_or_insert_default();
    system.body_digest = Some(proto::Digest { r#type: proto::DigestType::Md5.into(), checksum: "00".repeat(16) });
}

#[tokio::test(start_paused = true)]
async fn r12_a_malformed_message_is_delivered_with_its_reason_and_spares_its_neighbours() {
    type How = fn(&mut proto::Message);
    let ways: [(&str, How); 4] = [
        ("digest", wrong_digest),
        ("garbage under a codec", |message| {
            message.system_properties.get_or_insert_default().body_encoding = Encoding::Gzip.into();
        }),
        ("cut off", |message| {
            let whole = gzip(TEXT.as_bytes());
            message.body = whole.slice(..whole.len() / 2);
            let system = message.system_properties.get_or_insert_default();
            system.body_encoding = Encoding::Gzip.into();
            system.body_digest = None;
        }),
        ("an encoding nobody knows", |message| {
            message.system_properties.get_or_insert_default().body_encoding = 77;
        }),
    ];
    for (name, how) in ways {
        let changed = Changed::start(|client| client, broken(how)).await;
        let mut consumer = changed.consuming().check_digest(true).build().await.expect("build");
        let mut reasons = Vec::new();
        let mut good = Vec::new();
        for delivery in take(&mut consumer, 3).await {
            let message = delivery.message();
            match message.corrupted() {
                Some(reason) => reasons.push(reason.to_string()),
                None => good.push(text(message).to_owned()),
            }
            assert_eq!(message.topic(), TOPIC);
            delivery.ack().await.expect("a damaged message can be settled");
        }
        assert_eq!(sorted(good), ["good 1", "good 2"], "{name}");
        assert!(reasons.len() == 1 && !reasons[0].is_empty(), "{name}: {reasons:?}");
        assert_eq!(changed.rig.broker.stats().acked, 3, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn r12_a_message_without_system_properties_or_topic_does_not_harm_its_neighbours() {
    type How = fn(&mut proto::Message);
    let ways: [(&str, How); 3] = [
        ("no system properties", |message| message.system_properties = None),
        ("no topic", |message| message.topic = None),
        ("no receipt handle", |message| {
            message.system_properties.get_or_insert_default().receipt_handle = None;
        }),
    ];
    for (name, how) in ways {
        let changed = Changed::start(|client| client, broken(how)).await;
        let mut consumer = changed.consuming().build().await.expect("build");
        let mut bodies = Vec::new();
        for delivery in within(secs(60), name, take(&mut consumer, 3)).await {
            let body = text(delivery.message()).to_owned();
            if body == "bad" && name != "no topic" {
                assert!(delivery.message().corrupted().is_some(), "{name}: {:?}", delivery.message());
            }
            bodies.push(body);
            // Without a handle it cannot be settled, and must say so.
            let answer = within(secs(60), name, delivery.ack()).await;
            assert!(answer.is_ok() || bodies.last().is_some_and(|body| body == "bad"), "{name}: {answer:?}");
        }
        assert_eq!(sorted(bodies), ["bad", "good 1", "good 2"], "{name}: nothing is dropped in silence");
    }
}

#[tokio::test(start_paused = true)]
async fn r12_a_malformed_message_can_go_to_the_dead_letters() {
    let changed = Changed::start(|client| client, broken(wrong_digest)).await;
    let consuming = changed.consuming().check_digest(true).on_malformed(OnMalformed::DeadLetter);
    let mut consumer = consuming.build().await.expect("build");
    let good: Vec<_> = take(&mut consumer, 2).await.iter().map(|d| text(d.message()).to_owned()).collect();
    assert_eq!(sorted(good), ["good 1", "good 2"]);
    nothing_for(secs(5), &mut consumer).await;
    let letters = changed.rig.broker.dead_letters(GROUP);
    assert_eq!(letters.len(), 1);
    assert_eq!(&letters[0].body[..], b"bad");
    assert_eq!(consumer.control().stats().leases.dead_lettered, 1, "it is counted");
}

#[tokio::test(start_paused = true)]
async fn r12_a_malformed_message_can_end_the_stream_and_comes_again() {
    let changed = Changed::start(|client| client, broken(wrong_digest)).await;
    let consuming = changed.consuming().check_digest(true).on_malformed(OnMalformed::Fail);
    let mut consumer = consuming.invisible_duration(secs(10)).build().await.expect("build");
    let mut good = 0;
    let error = loop {
        match within(secs(30), "an item", consumer.next()).await.expect("an item") {
            Ok(delivery) => {
                delivery.ack().await.expect("ack");
                good += 1;
            }
            Err(error) => break error,
        }
    };
    assert!(good <= 2);
    let bad = changed.rig.broker.messages(TOPIC).into_iter().find(|message| &message.body[..] == b"bad").expect("bad");
    assert!(error.to_string().contains(&bad.id), "it names the message: {error}");
    assert!(consumer.next().await.is_none());
    drop(consumer);
    // Everything that was not acked is still there.
    let mut other = changed.rig.consumer().await;
    let mut rest = Vec::new();
    while rest.len() < 3 - good {
        rest.push(text(next(&mut other).await.message()).to_owned());
    }
    assert!(rest.contains(&"bad".to_owned()), "{rest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_bodies_of_every_size_come_back_as_they_were() {
    let rig = Rig::start(builder()).await;
    let bodies: Vec<String> = numbered(100).enumerate().map(|(n, body)| body + &"z".repeat(n * n * 7)).collect();
    send_all(&rig.producer().await, TOPIC, bodies.clone()).await;
    let mut consumer = rig.consumer().await;
    let received: Vec<_> = take(&mut consumer, 100).await.iter().map(|d| text(d.message()).to_owned()).collect();
    assert_eq!(sorted(received), sorted(bodies));
}
