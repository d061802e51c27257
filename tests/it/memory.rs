//! What a consumer holds is bounded, also when nobody polls it.

use std::time::Duration;

use rocketmq_stream::OutboundMessage;

use crate::support::rig::{GROUP, Rig, TOPIC, builder};
use crate::support::{next, secs, within};

const BODY: usize = 64 << 10;
const BOUND: usize = 2 << 20;

/// 32 MiB of messages on a broker.
async fn full(brokers: usize) -> Rig {
    let rig = Rig::start(builder().brokers(brokers).queue_bytes(512 << 20)).await;
    let producer = rig.producer().await;
    let body = bytes::Bytes::from(vec![b'x'; BODY]);
    let sends = (0..512).map(|_| producer.send(OutboundMessage::new(TOPIC, body.clone())));
    futures::future::try_join_all(sends).await.expect("send");
    rig
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_not_polled_holds_its_bytes_and_a_tenth_more_at_most() {
    for brokers in [1, 4] {
        let rig = full(brokers).await;
        let mut consumer = rig.consuming().max_buffered_bytes(BOUND).build().await.expect("build");
        let control = consumer.control();
        next(&mut consumer).await.ack().await.expect("ack");
        let mut most = 0;
        for _ in 0..100 {
            tokio::time::sleep(secs(1)).await;
            // What the broker has handed out is what the client holds; it does not rely on the client's own count.
            most = most.max(rig.broker.in_flight(GROUP, TOPIC) * BODY);
            assert!(control.stats().buffered_bytes <= BOUND + BOUND / 10, "{:?}", control.stats());
        }
        assert!(most <= BOUND + BOUND / 10, "{brokers} brokers: {most} bytes held, {BOUND} allowed");
        assert!(most >= BOUND / 2, "{brokers} brokers: only {most} bytes of {BOUND} are used");
        // It is a bound, not an end.
        for _ in 0..300 {
            drop(next(&mut consumer).await.ack());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_bound_holds_while_a_slow_reader_polls() {
    let rig = full(2).await;
    let mut consumer = rig.consuming().max_buffered_bytes(BOUND).build().await.expect("build");
    let control = consumer.control();
    for _ in 0..300 {
        next(&mut consumer).await.ack().await.expect("ack");
        tokio::time::sleep(Duration::from_millis(5)).await;
        let held = control.stats().buffered_bytes;
        assert!(held <= BOUND + BOUND / 10, "{held} bytes held, {BOUND} allowed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_large_messages_gets_each_of_them_once() {
    let rig = full(2).await;
    let mut consumer = rig.consuming().max_buffered_bytes(BOUND).build().await.expect("build");
    for n in 0..100 {
        let delivery = next(&mut consumer).await;
        let attempt = delivery.message().delivery_attempt();
        assert_eq!(attempt, 1, "message {n}: its lease ended before its reader saw it");
        delivery.ack().await.expect("ack");
        tokio::time::sleep(secs(2)).await;
    }
    assert_eq!(rig.broker.stats().redelivered, 0);
}

#[tokio::test(start_paused = true)]
async fn one_message_larger_than_the_bound_still_passes() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    for _ in 0..3 {
        producer.send(OutboundMessage::new(TOPIC, vec![b'x'; 3 << 20])).await.expect("send");
    }
    let mut consumer = rig.consuming().max_buffered_bytes(1 << 20).build().await.expect("build");
    for _ in 0..3 {
        let delivery = within(secs(60), "a large message", next(&mut consumer)).await;
        delivery.ack().await.expect("ack");
    }
}

#[tokio::test(start_paused = true)]
async fn messages_that_were_handed_out_make_room() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    let sends = (0..400).map(|n| producer.send(OutboundMessage::new(TOPIC, format!("{n}"))));
    futures::future::try_join_all(sends).await.expect("send");
    let mut consumer = rig.consuming().max_buffered_messages(8).build().await.expect("build");
    // All held at once: the bound is of what is buffered, not of what the user works on.
    let mut held = Vec::new();
    while held.len() < 400 {
        held.push(within(secs(60), "a delivery", next(&mut consumer)).await);
    }
    for delivery in held {
        drop(delivery.ack());
    }
    crate::support::eventually(secs(10), "all acks", || rig.broker.stats().acked == 400).await;
}
