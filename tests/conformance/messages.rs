//! What goes in comes out, where it should.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::prelude::*;
use rocketmq_stream::{BodyEncoding, DigestAlgorithm, Filter, MessageType, OutboundMessage};

use crate::cluster::Cluster;
use crate::support::{PATIENCE, next, nothing_for, numbered, secs, send_all, sorted, take_acked, text, within};

pub(crate) async fn a_message_arrives_as_it_was_sent(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(4), cluster.group());
    let producer = cluster.producer().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let message = OutboundMessage::new(&topic, "x is for identity: \u{1F600}\u{0}")
        .tag("paid")
        .keys(["order-42", "customer-7"])
        .property("amount", "12.50")
        .property("región", "EU mañana")
        .trace_context(trace);
    let receipt = producer.send(message).await.expect("send");
    assert!(receipt.attempts() >= 1, "a real server may refuse a topic's first messages for a moment");

    let mut consumer =
        cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all()).build().await.expect("build");
    let delivery = next(&mut consumer).await;
    let received = delivery.message();
    assert_eq!(received.id(), receipt.message_id());
    assert_eq!(received.topic(), topic);
    assert_eq!(text(received), "x is for identity: \u{1F600}\u{0}");
    let digest = received.body_digest().expect("servers send one");
    assert_eq!((digest.algorithm(), digest.checksum()), (DigestAlgorithm::Md5, "CB7E8E9AF632D723AB61CCBE5D245393"));
    assert_eq!(received.body_encoding(), BodyEncoding::Identity);
    assert_eq!(received.tag(), Some("paid"));
    assert_eq!(received.keys(), ["order-42", "customer-7"]);
    let properties: HashMap<_, _> = received.properties().iter().collect();
    assert_eq!(properties, HashMap::from([("amount", "12.50"), ("región", "EU mañana")]));
    assert_eq!(received.trace_context(), Some(trace));
    assert_eq!(received.message_type(), MessageType::Normal);
    assert_eq!((received.delivery_attempt(), received.message_group()), (1, None));
    assert_eq!(received.queue_offset(), Some(receipt.offset()));
    assert!(received.corrupted().is_none(), "{received:?}");
    assert!(!received.born_host().is_empty() && !received.store_host().is_empty(), "{received:?}");
    delivery.ack().await.expect("ack");
}

pub(crate) async fn timestamps_are_exact_to_the_millisecond(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    let producer = cluster.producer().await;
    for body in numbered(8) {
        producer.send(OutboundMessage::new(&topic, body)).await.expect("send");
        // Real time, by which a message is born, and that of the test, by which it is stored: it may be paused.
        std::thread::sleep(Duration::from_millis(37));
        tokio::time::sleep(Duration::from_millis(37)).await;
    }
    let mut consumer =
        cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all()).build().await.expect("build");
    let mut times = Vec::new();
    while times.len() < 8 {
        let delivery = next(&mut consumer).await;
        let message = delivery.message();
        times.push((message.born_timestamp().expect("born"), message.store_timestamp().expect("stored")));
        delivery.ack().await.expect("ack");
    }
    times.sort();
    for (born, stored) in &times {
        let now = SystemTime::now();
        // A paused clock may be ahead of the machine's.
        let near = |time: &SystemTime| now.duration_since(*time).unwrap_or_else(|e| e.duration()) < secs(60);
        assert!(near(born) && near(stored), "{born:?} {stored:?} {now:?}");
        assert!(*stored + secs(5) > *born, "stored long before it was born: {stored:?} {born:?}");
    }
    // 37 ms apart: to the second they would be equal, or 1 s apart.
    let millis = |time: &SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_millis();
    let born: Vec<_> = times.iter().map(|(born, _)| *born).collect();
    for pair in born.windows(2) {
        let apart = pair[1].duration_since(pair[0]).expect("sorted");
        assert!((Duration::from_millis(30)..secs(10)).contains(&apart), "{born:?}");
    }
    assert!(times.iter().any(|(_, stored)| millis(stored) != 0), "{times:?}");
}

pub(crate) async fn a_tag_filter_lets_only_its_tags_through(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(2), cluster.group());
    let producer = cluster.producer().await;
    for (body, tag) in [("1", "paid"), ("2", "open"), ("3", "shipped"), ("4", "paid2"), ("5", "paid")] {
        producer.send(OutboundMessage::new(&topic, body).tag(tag)).await.expect("send");
    }
    producer.send(OutboundMessage::new(&topic, "untagged")).await.expect("send");
    let filter = Filter::tag("paid || shipped");
    let mut consumer = cluster.client().simple_consumer(&group).subscribe(&topic, filter).build().await.expect("build");
    assert_eq!(sorted(take_acked(&mut consumer, 3).await), ["1", "3", "5"]);
    nothing_for(secs(6), &mut consumer).await;
}

pub(crate) async fn an_sql92_filter_looks_at_properties(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    let producer = cluster.producer().await;
    for (body, amount, region) in [("1", 50, "EU"), ("2", 150, "EU"), ("3", 150, "US"), ("4", 101, "EU")] {
        let message = OutboundMessage::new(&topic, body).property("amount", amount.to_string());
        producer.send(message.property("region", region)).await.expect("send");
    }
    let filter = Filter::sql92("amount > 100 AND region = 'EU'");
    let mut consumer = cluster.client().simple_consumer(&group).subscribe(&topic, filter).build().await.expect("build");
    assert_eq!(sorted(take_acked(&mut consumer, 2).await), ["2", "4"]);
    nothing_for(secs(6), &mut consumer).await;
}

pub(crate) async fn several_topics_come_from_one_consumer(cluster: &dyn Cluster) {
    let (one, two, three, group) = (cluster.topic(1), cluster.topic(2), cluster.topic(1), cluster.group());
    let producer = cluster.producer().await;
    let mut consumer = cluster
        .client()
        .simple_consumer(&group)
        .subscribe(&one, Filter::all())
        .subscribe(&two, Filter::tag("a"))
        .subscribe(&three, Filter::all())
        .build()
        .await
        .expect("build");
    send_all(&producer, &one, ["one"]).await;
    for tag in ["a", "b"] {
        producer.send(OutboundMessage::new(&two, format!("two {tag}")).tag(tag)).await.expect("send");
    }
    send_all(&producer, &three, ["three"]).await;
    assert_eq!(sorted(take_acked(&mut consumer, 3).await), ["one", "three", "two a"]);
    nothing_for(secs(3), &mut consumer).await;
}

pub(crate) async fn a_body_of_four_mebibytes_passes_both_ways(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    let body: Vec<u8> = (0..4_u32 << 20).map(|n| (n * 31 % 251) as u8).collect();
    let producer = cluster.producer().await;
    for _ in 0..2 {
        let message = OutboundMessage::new(&topic, body.clone());
        within(PATIENCE, "send", producer.send(message)).await.expect("send");
    }
    let mut consumer =
        cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all()).build().await.expect("build");
    for _ in 0..2 {
        let delivery = next(&mut consumer).await;
        assert!(delivery.message().body() == &body, "the body differs");
        delivery.ack().await.expect("ack");
    }
}

pub(crate) async fn hundreds_of_messages_are_each_received_once(cluster: &dyn Cluster) {
    const COUNT: usize = 400;
    let (topic, group) = (cluster.topic(4), cluster.group());
    let producer = cluster.producer().await;
    let messages = numbered(COUNT).map(|body| Ok(OutboundMessage::new(&topic, body)));
    within(PATIENCE, "forward", stream::iter(messages).forward(producer.sink())).await.expect("forward");

    let consumer =
        cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all()).build().await.expect("build");
    let control = consumer.control();
    let settled = consumer
        .take(COUNT)
        .map_ok(|delivery| async move {
            let body = text(delivery.message()).to_owned();
            delivery.ack().await?;
            Ok::<_, rocketmq_stream::Error>(body)
        })
        .try_buffer_unordered(64)
        .try_collect::<Vec<_>>();
    let bodies = within(PATIENCE, "400 deliveries and acks", settled).await.expect("ack");
    assert_eq!(sorted(bodies), sorted(numbered(COUNT)));
    assert_eq!(control.stats().leases.acked, COUNT as u64);
}

pub(crate) async fn two_consumers_of_a_group_on_one_queue_both_receive(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    let producer = cluster.producer().await;
    let member = async || {
        let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all());
        builder.max_buffered_messages(4).build().await.expect("build")
    };
    let (one, two) = (member().await, member().await);
    let mut all = stream::select(one.map(|item| (1, item)), two.map(|item| (2, item)));
    let mut received = HashMap::new();
    let until = tokio::time::Instant::now() + PATIENCE;
    while received.len() < 2 {
        assert!(tokio::time::Instant::now() < until, "one of two gets everything: {received:?}");
        send_all(&producer, &topic, numbered(16)).await;
        for _ in 0..16 {
            let (who, item) = within(PATIENCE, "a delivery", all.next()).await.expect("the streams go on");
            // Held for a moment, so that the other one has its turn.
            tokio::time::sleep(Duration::from_millis(20)).await;
            item.expect("a delivery").ack().await.expect("ack");
            *received.entry(who).or_insert(0) += 1;
        }
    }
}

pub(crate) async fn r3_an_await_duration_of_one_second_works(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    let producer = cluster.producer().await;
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all()).await_duration(secs(1));
    let receiver = builder.clone().build_receiver().await.expect("build");
    let began = tokio::time::Instant::now();
    assert_eq!(receiver.receive(1, secs(10)).await.expect("an empty answer is no error").len(), 0);
    assert!(began.elapsed() < secs(9), "the server waits 5 s at least, not {:?}", began.elapsed());

    // A stream of several such polls; a poll cut short by its deadline would lose the message until its lease ends.
    let mut consumer = builder.invisible_duration(secs(300)).build().await.expect("build");
    nothing_for(secs(12), &mut consumer).await;
    send_all(&producer, &topic, ["late"]).await;
    assert_eq!(take_acked(&mut consumer, 1).await, ["late"]);
}

pub(crate) async fn an_empty_receive_is_ok_and_empty(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all());
    let receiver = builder.await_duration(secs(5)).build_receiver().await.expect("build");
    let received = within(secs(15), "an empty receive", receiver.receive(32, secs(10))).await;
    assert!(received.expect("no error").is_empty());
}

pub(crate) async fn r15_a_new_group_on_a_young_topic_reads_it_from_the_beginning(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    send_all(&cluster.producer().await, &topic, numbered(5)).await;
    let mut consumer =
        cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all()).build().await.expect("build");
    assert_eq!(sorted(take_acked(&mut consumer, 5).await), sorted(numbered(5)));
}
