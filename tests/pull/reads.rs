//! What lies in the queues comes out of them: every message once, in order, as it was sent, through its filter.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::time::{Duration, SystemTime};

use futures::prelude::*;
use rocketmq_stream::{
    BodyDigest, BodyEncoding, DigestAlgorithm, ErrorKind, Filter, MessageType, OutboundMessage, StopAt,
};

use crate::admin::Outgoing;
use crate::cluster::{Cluster, Stored, Way, plain, with};
use crate::support::{PATIENCE, secs, text, unique, within};
use crate::tape::{Tape, next, read, sorted, to_end};

pub(crate) async fn every_message_comes_once_in_contiguous_ranges_of_its_queue(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    let stored = cluster.fill(&topic, 75).await;
    let mut consumer = cluster.reading(&group, &topic).until(StopAt::Now).build().await.expect("build");
    let control = consumer.control();
    assert_eq!(to_end(&mut consumer).await.all(), sorted(&stored));
    let ends = cluster.ends(&topic).await.into_iter().collect();
    assert_eq!(consumer.position(), ends);
    assert_eq!(control.checkpoint(), ends);
    assert!(consumer.next().await.is_none(), "it has ended for good");
    within(PATIENCE, "flush", control.flush()).await.expect("flush");
    for (queue, next) in ends.iter() {
        assert_eq!(cluster.committed(&group, queue).await, Some(next));
    }
}

pub(crate) async fn a_message_arrives_as_it_was_sent(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let producer = cluster.client().producer().topic(&topic).build().await.expect("build");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let message = OutboundMessage::new(&topic, "x is for identity: \u{1F600}\u{0}")
        .tag("paid")
        .keys(["order-42", "customer-7"])
        .property("amount", "12.50")
        .property("región", "EU mañana")
        .trace_context(trace);
    let before = SystemTime::now();
    let receipt = within(PATIENCE, "send", producer.send(message)).await.expect("send");
    let mut consumer = cluster.reading(&group, &topic).build().await.expect("build");
    let batch = next(&mut consumer).await;
    let received = &batch.messages()[0];
    assert_eq!(batch.len(), 1);
    assert_eq!(received.id(), receipt.message_id());
    assert_eq!(received.topic(), topic);
    assert_eq!(text(received), "x is for identity: \u{1F600}\u{0}");
    // Over gRPC there is none.
    let is_of_body =
        |digest: BodyDigest| (digest.algorithm(), digest.checksum()) == (DigestAlgorithm::Crc32, "517EBF09");
    assert!(received.body_digest().is_none_or(is_of_body), "{:?}", received.body_digest());
    assert_eq!(received.body_encoding(), BodyEncoding::Identity);
    assert_eq!(received.tag(), Some("paid"));
    assert_eq!(received.keys(), ["order-42", "customer-7"]);
    let properties: HashMap<_, _> = received.properties().iter().collect();
    assert_eq!(properties, HashMap::from([("amount", "12.50"), ("región", "EU mañana")]));
    assert_eq!(received.property("amount"), Some("12.50"));
    assert_eq!(received.trace_context(), Some(trace));
    assert_eq!((received.message_type(), received.message_group()), (MessageType::Normal, None));
    assert_eq!(received.queue_offset(), Some(receipt.offset()));
    assert_eq!(received.broker(), Some(batch.queue().broker()));
    assert_eq!(received.queue_id(), batch.queue().id().cast_signed());
    assert!(received.corrupted().is_none(), "{received:?}");
    assert!(!received.born_host().is_empty() && !received.store_host().is_empty(), "{received:?}");
    let (born, stored) = (received.born_timestamp().expect("born"), received.store_timestamp().expect("stored"));
    // A paused clock runs ahead of the real one while the test waits.
    let about = |time: SystemTime| time + secs(1) > before && time < SystemTime::now() + secs(600);
    assert!(about(born) && about(stored) && stored + secs(1) > born, "{born:?} {stored:?}");
    batch.complete();
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("zlib")
}

fn lz4(body: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(body).expect("lz4");
    encoder.finish().expect("lz4")
}

pub(crate) async fn compressed_and_large_bodies_come_out_as_they_went_in(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let plain = "compress me, compress me, compress me".repeat(200).into_bytes();
    let large: Vec<u8> = (0..900_000_u32).map(|n| b'a' + (n % 23) as u8).collect();
    let flagged = |body: &[u8], sys_flag| Outgoing { body: body.to_vec(), sys_flag, ..Outgoing::default() };
    let messages = vec![
        flagged(&zlib(&plain), 0x1), // as producers before 5.0 flag it
        flagged(&zlib(&plain), 0x301),
        flagged(&lz4(&plain), 0x101),
        flagged(b"xx", 0), // begins like zlib, and is not flagged
        flagged(&large, 0),
        flagged(&zlib(&large), 0x301),
        flagged(b"", 0),
    ];
    // An empty body is not stored by a broker.
    let messages: Vec<_> = messages.into_iter().filter(|one| !one.body.is_empty()).collect();
    cluster.put(&cluster.queues(&topic).await[0], messages).await;
    let mut consumer = cluster.reading(&group, &topic).until(StopAt::Now).build().await.expect("build");
    let mut bodies = Vec::new();
    while let Some(batch) = within(PATIENCE, "the next batch or the end", consumer.next()).await {
        let batch = batch.expect("a batch");
        assert!(batch.messages().iter().all(|one| one.corrupted().is_none()), "{batch:?}");
        bodies.extend(batch.messages().iter().map(|one| one.body().clone()));
        batch.complete();
    }
    let expected: [&[u8]; 6] = [&plain, &plain, &plain, b"xx", &large, &large];
    assert_eq!(bodies.len(), expected.len());
    for (n, (body, expected)) in bodies.iter().zip(expected).enumerate() {
        assert!(body == expected, "body {n}: {} bytes instead of {}", body.len(), expected.len());
    }
}

/// Every third message carries the first tag, the others one of the rest.
fn tagged(count: usize, tags: &[&str]) -> Vec<Outgoing> {
    (0..count).flat_map(|n| with(1, "TAGS", tags[n % tags.len()])).collect()
}

fn stored_with(stored: &[Stored], keep: impl Fn(usize) -> bool) -> Vec<Stored> {
    sorted(&stored.iter().enumerate().filter(|(n, _)| keep(*n)).map(|(_, one)| one.clone()).collect::<Vec<_>>())
}

pub(crate) async fn a_tag_filter_lets_only_its_tags_through_and_the_ranges_cover_the_rest(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let queue = &cluster.queues(&topic).await[1];
    // "BB" has the hash code of "Aa": a broker cannot tell them apart.
    let stored = cluster.put(queue, tagged(120, &["Aa", "BB", "shipped", "lost"])).await;
    let filter = Filter::tag("Aa || shipped");
    let builder = cluster.pulling(&group).subscribe(&topic, filter).share(0, 1);
    let mut consumer = builder.until(StopAt::Now).build().await.expect("build");
    let tape = to_end(&mut consumer).await;
    assert_eq!(tape.all(), stored_with(&stored, |n| n % 2 == 0));
    assert_eq!(consumer.position(), cluster.ends(&topic).await.into_iter().collect());
}

/// Only a broker says beforehand whether an SQL92 filter parses; with one that does not, it lets everything through.
fn checks_filters(cluster: &Cluster) -> bool {
    cluster.way == Way::Remoting
}

pub(crate) async fn an_sql92_filter_looks_at_properties_and_the_ranges_cover_the_rest(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let messages: Vec<Outgoing> = (0..120).flat_map(|n| with(1, "amount", &n.to_string())).collect();
    let stored = cluster.put(&cluster.queues(&topic).await[0], messages).await;
    let builder = cluster.pulling(&group).subscribe(&topic, Filter::sql92("amount BETWEEN 30 AND 59")).share(0, 1);
    let built = builder.until(StopAt::Now).build().await;
    if !checks_filters(cluster) {
        let error = built.expect_err("not this way");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        return;
    }
    let mut consumer = built.expect("build");
    assert_eq!(to_end(&mut consumer).await.all(), stored_with(&stored, |n| (30..60).contains(&n)));
    assert_eq!(consumer.position(), cluster.ends(&topic).await.into_iter().collect());
}

pub(crate) async fn p22_an_sql92_filter_that_does_not_parse_is_refused_before_anything_is_read(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    cluster.fill(&topic, 2).await;
    for expression in ["amount >", "((", "amount = 'x"] {
        let builder = cluster.pulling(&group).subscribe(&topic, Filter::sql92(expression)).share(0, 1);
        let error = builder.build().await.expect_err(expression);
        let kind = if checks_filters(cluster) { ErrorKind::InvalidArgument } else { ErrorKind::Unsupported };
        assert_eq!((error.kind(), error.topic()), (kind, Some(&*topic)), "{expression}: {error}");
    }
}

pub(crate) async fn p14_a_bounded_read_ends_though_its_tail_is_filtered_away(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let queues = cluster.queues(&topic).await;
    let stored = cluster.put(&queues[0], with(40, "TAGS", "paid")).await;
    // More than a broker looks at in one pull.
    cluster.put(&queues[0], with(900, "TAGS", "lost")).await;
    cluster.put(&queues[1], with(10, "TAGS", "lost")).await;
    let builder = cluster.pulling(&group).subscribe(&topic, Filter::tag("paid")).share(0, 1);
    let mut consumer = builder.until(StopAt::Now).build().await.expect("build");
    let control = consumer.control();
    assert_eq!(to_end(&mut consumer).await.all(), sorted(&stored));
    let ends = cluster.ends(&topic).await.into_iter().collect();
    assert_eq!(consumer.position(), ends);
    assert_eq!(control.checkpoint(), ends, "what was filtered away is done");
    assert!(within(PATIENCE, "shutdown", control.shutdown(secs(30))).await.complete);
    for (queue, next) in ends.iter() {
        assert_eq!(cluster.committed(&group, queue).await, Some(next), "{queue}");
    }
}

pub(crate) async fn several_topics_come_from_one_consumer_each_through_its_own_filter(cluster: &Cluster) {
    let (one, two, group) = (cluster.topic(1).await, cluster.topic(2).await, cluster.group().await);
    let mut expected = cluster.fill(&one, 20).await;
    let queue = &cluster.queues(&two).await[3];
    let tagged = cluster.put(queue, tagged(20, &["yes", "no"])).await;
    expected.extend(stored_with(&tagged, |n| n % 2 == 0));
    let builder = cluster.pulling(&group).subscribe(&one, Filter::all()).subscribe(&two, Filter::tag("yes"));
    let mut consumer = builder.share(0, 1).until(StopAt::Now).build().await.expect("build");
    assert_eq!(to_end(&mut consumer).await.all(), sorted(&expected));
}

pub(crate) async fn messages_come_one_by_one_when_that_is_wanted(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let stored = cluster.fill(&topic, 50).await;
    let consumer = cluster.reading(&group, &topic).until(StopAt::Now).build().await.expect("build");
    let control = consumer.control();
    let mut messages = consumer.per_message();
    let mut bodies = BTreeSet::new();
    while let Some(message) = within(PATIENCE, "the next message or the end", messages.next()).await {
        let message = message.expect("a message");
        assert!(bodies.insert(text(message.message()).to_owned()), "twice");
        message.complete();
    }
    assert_eq!(bodies, stored.into_iter().map(|one| one.body).collect());
    assert_eq!(control.checkpoint(), cluster.ends(&topic).await.into_iter().collect());
}

pub(crate) async fn a_waiting_consumer_gets_a_message_as_soon_as_it_is_stored(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let mut consumer = cluster.reading(&group, &topic).build().await.expect("build");
    let mut tape = Tape::from(&consumer.position());
    crate::tape::nothing_for(secs(2), &mut consumer).await;
    for round in 0..3 {
        let queue = &cluster.queues(&topic).await[round % 2];
        cluster.put(queue, plain(1)).await;
        // Far less than a poll lasts, far more than a starved server needs to wake one.
        let reading = read(&mut consumer, &mut tape, round + 1);
        within(Duration::from_secs(12), unique("message"), reading).await;
    }
}
