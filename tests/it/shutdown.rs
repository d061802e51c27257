//! Ends: nothing is left behind, nothing waits for longer than it was told to.

use std::time::Duration;

use futures::prelude::*;
use rocketmq_stream::embedded::Rpc;
use rocketmq_stream::{AckError, Client, Filter, Health, HealthWatch, RouteEndpoints, SimpleConsumerBuilder};

use crate::support::relay::Relay;
use crate::support::rig::{GROUP, Rig, TOPIC, builder};
use crate::support::{eventually, next, numbered, secs, send_all, take, within};

#[tokio::test(start_paused = true)]
async fn r10_a_shutdown_leaves_no_message_to_its_lease() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, numbered(100)).await;
    let mut consumer = rig.consuming().invisible_duration(secs(3600)).build().await.expect("build");
    let control = consumer.control();
    for delivery in take(&mut consumer, 10).await {
        drop(delivery.ack());
    }
    let report = within(secs(15), "shutdown", control.shutdown(secs(10))).await;
    assert!(report.complete, "{report:?}");
    tokio::time::sleep(secs(10)).await;
    assert_eq!(rig.broker.in_flight(GROUP, TOPIC), 0, "none waits for its lease of an hour");
    assert_eq!(rig.broker.waiting(GROUP, TOPIC), 90);
    assert_eq!(rig.broker.stats().acked, 10);
}

#[tokio::test(start_paused = true)]
async fn r10_messages_of_a_receive_that_was_under_way_are_released_too() {
    for pause in [0, 1, 2, 5, 10] {
        let rig = Rig::start(builder()).await;
        let producer = rig.producer().await;
        let mut consumer = rig.consuming().invisible_duration(secs(3600)).build().await.expect("build");
        let control = consumer.control();
        assert!(consumer.next().now_or_never().is_none(), "a receive is under way now");
        tokio::time::sleep(secs(1)).await;
        // The messages and the end race each other.
        send_all(&producer, TOPIC, numbered(5)).await;
        for _ in 0..pause {
            tokio::task::yield_now().await;
        }
        within(secs(15), "shutdown", control.shutdown(secs(10))).await.ignore();
        tokio::time::sleep(secs(10)).await;
        assert_eq!(rig.broker.in_flight(GROUP, TOPIC), 0, "after {pause} yields: a message waits for its lease");
        let mut other = rig.consumer().await;
        for delivery in take(&mut other, 5).await {
            assert_eq!(delivery.message().delivery_attempt(), 1);
        }
    }
}

/// A consumer whose connection can be frozen: what the server has written then is on its way.
async fn over_a_relay(rig: &Rig) -> (Relay, SimpleConsumerBuilder) {
    let relay = Relay::to(&rig.broker.access_point()).await.expect("a relay");
    let client = Client::builder().access_point(relay.access_point()).route_endpoints(RouteEndpoints::AccessPoint);
    let client = client.build().expect("a client");
    (relay, client.simple_consumer(GROUP).subscribe(TOPIC, Filter::all()).invisible_duration(secs(3600)))
}

/// The server believes that it has handed out this message: only we can give it back.
async fn write_into(relay: &Relay, rig: &Rig) {
    relay.freeze();
    send_all(&rig.producer().await, TOPIC, ["on its way"]).await;
    eventually(secs(1), "a message on its way", || rig.broker.in_flight(GROUP, TOPIC) == 1).await;
}

async fn it_comes_again_unseen(rig: &Rig) {
    let mut other = rig.consumer().await;
    let delivery = within(secs(60), "what was on its way", next(&mut other)).await;
    assert_eq!(delivery.message().delivery_attempt(), 1);
    delivery.ack().await.expect("ack");
}

#[tokio::test(start_paused = true)]
async fn r10_an_answer_that_crosses_the_drop_of_the_consumer_is_given_back() {
    let rig = Rig::start(builder()).await;
    let (relay, consuming) = over_a_relay(&rig).await;
    let mut consumer = consuming.build().await.expect("build");
    assert!(consumer.next().now_or_never().is_none());
    tokio::time::sleep(secs(3)).await; // the poll waits at the broker
    write_into(&relay, &rig).await;
    drop(consumer);
    tokio::time::sleep(secs(5)).await;
    relay.open();
    it_comes_again_unseen(&rig).await;
    eventually(secs(30), "goodbye", || rig.broker.clients(0).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn r10_a_shutdown_waits_for_an_answer_to_a_receive_that_has_just_begun() {
    let rig = Rig::start(builder()).await;
    let (relay, consuming) = over_a_relay(&rig).await;
    let mut consumer = consuming.build().await.expect("build");
    let control = consumer.control();
    assert!(consumer.next().now_or_never().is_none());
    tokio::time::sleep(Duration::from_millis(100)).await;
    write_into(&relay, &rig).await;
    let opening = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        relay.open();
    };
    let (report, ()) = within(secs(15), "shutdown", future::join(control.shutdown(secs(10)), opening)).await;
    assert!(report.complete, "{report:?}");
    it_comes_again_unseen(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn r10_a_shutdown_does_not_wait_for_a_receive_that_waits_at_the_broker() {
    let rig = Rig::start(builder()).await;
    let mut consumer = rig.consumer().await;
    assert!(consumer.next().now_or_never().is_none());
    let receiver = rig.consuming().build_receiver().await.expect("build");
    assert!(tokio::time::timeout(secs(2), receiver.receive(1, secs(10))).await.is_err());
    for shutdown in [consumer.control().shutdown(secs(10)).boxed(), receiver.shutdown(secs(10)).boxed()] {
        let began = tokio::time::Instant::now();
        assert!(shutdown.await.complete);
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn r10_an_answer_that_crosses_the_cancellation_of_a_plain_receive_is_given_back() {
    for then_shut_down in [false, true] {
        let rig = Rig::start(builder()).await;
        let (relay, consuming) = over_a_relay(&rig).await;
        let receiver = consuming.build_receiver().await.expect("build");
        let patience = Duration::from_millis(if then_shut_down { 100 } else { 5_000 });
        assert!(tokio::time::timeout(patience, receiver.receive(32, secs(3600))).await.is_err());
        write_into(&relay, &rig).await;
        let opening = async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            relay.open();
        };
        if then_shut_down {
            let (report, ()) = future::join(receiver.shutdown(secs(10)), opening).await;
            assert!(report.complete, "{report:?}");
        } else {
            opening.await;
        }
        it_comes_again_unseen(&rig).await;
    }
}

#[tokio::test(start_paused = true)]
async fn r10_many_rolling_deploys_dead_letter_nothing() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, numbered(30)).await;
    for _ in 0..25 {
        let mut consumer = rig.consumer().await;
        let control = consumer.control();
        let seen = next(&mut consumer).await;
        assert_eq!(seen.message().delivery_attempt(), 1, "an unseen message cost an attempt");
        seen.ack().await.expect("ack");
        let report = control.shutdown(secs(10)).await;
        assert!(report.complete, "{report:?}");
    }
    assert_eq!(rig.broker.dead_letters(GROUP).len(), 0);
    for delivery in take(&mut rig.consumer().await, 5).await {
        assert_eq!(delivery.message().delivery_attempt(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_says_goodbye() {
    let rig = Rig::start(builder()).await;
    let consumer = rig.consumer().await;
    let producer = rig.producer().await;
    assert_eq!(rig.broker.clients(0).len(), 2);
    assert!(consumer.control().shutdown(secs(5)).await.complete);
    assert!(producer.shutdown(secs(5)).await.is_clean());
    assert_eq!(rig.broker.clients(0).len(), 0);
    assert_eq!(rig.broker.calls(Rpc::NotifyClientTermination), 2);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_dropped_says_goodbye_when_its_last_receipt_is_gone() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, ["held"]).await;
    let mut consumer = rig.consuming().invisible_duration(secs(10)).build().await.expect("build");
    let delivery = next(&mut consumer).await;
    drop(consumer);
    tokio::time::sleep(secs(60)).await;
    assert!(!rig.broker.clients(0).is_empty(), "a held receipt keeps the session");
    delivery.ack().await.expect("it was renewed all the time");
    eventually(secs(10), "goodbye", || rig.broker.clients(0).is_empty()).await;
    assert_eq!(rig.broker.stats().redelivered, 0);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_keeps_its_deadline_when_the_server_is_gone() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, numbered(10)).await;
    let mut consumer = rig.consumer().await;
    let control = consumer.control();
    let acks: Vec<_> = {
        let deliveries = take(&mut consumer, 5).await;
        rig.broker.stop_proxy(0).await.expect("stop");
        deliveries.into_iter().map(|delivery| delivery.ack()).collect()
    };
    let began = tokio::time::Instant::now();
    let report = within(secs(20), "shutdown", control.shutdown(secs(3))).await;
    assert!(began.elapsed() <= secs(9), "3 s, and a goodbye: {:?}", began.elapsed());
    assert!(!report.complete, "{report:?}");
    for ack in acks {
        let error = within(secs(1), "an answer for each ack", ack).await.expect_err("no server");
        assert!(matches!(error, AckError::Closed | AckError::Unknown), "{error}");
    }
    assert!(consumer.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_acks_whose_answers_are_slow() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, numbered(3)).await;
    let mut consumer = rig.consumer().await;
    let control = consumer.control();
    let deliveries = take(&mut consumer, 3).await;
    rig.broker.faults().on(Rpc::AckMessage).times(2).delay(secs(2));
    let acks: Vec<_> = deliveries.into_iter().map(|delivery| delivery.ack()).collect();
    let report = within(secs(20), "shutdown", control.shutdown(secs(10))).await;
    assert!(report.complete, "{report:?}");
    for ack in acks {
        ack.now_or_never().expect("answered before the shutdown ended").expect("ack");
    }
    assert_eq!(rig.broker.stats().acked, 3);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_next_ends_when_the_consumer_is_shut_down() {
    let rig = Rig::start(builder()).await;
    let mut consumer = rig.consumer().await;
    let control = consumer.control();
    let ending = async {
        tokio::time::sleep(secs(7)).await;
        control.shutdown(secs(5)).await
    };
    let (item, report) = within(secs(15), "the end", future::join(consumer.next(), ending)).await;
    assert!(item.is_none() && report.complete, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn two_shutdowns_at_once_both_end() {
    let rig = Rig::start(builder()).await;
    let consumer = rig.consumer().await;
    let (one, two) = (consumer.control(), consumer.control());
    let both = future::join(one.shutdown(secs(5)), two.shutdown(secs(5)));
    let (one, two) = within(secs(15), "both", both).await;
    assert!(one.complete && two.complete, "{one:?} {two:?}");
}

#[tokio::test(start_paused = true)]
async fn health_tells_of_an_outage_and_of_its_end() {
    let rig = Rig::start(builder()).await;
    let mut consumer = rig.consumer().await;
    let producer = rig.producer().await;
    assert!(consumer.next().now_or_never().is_none());
    let mut both = [consumer.control().health(), producer.health()];
    assert_eq!(both.each_ref().map(HealthWatch::current), [Health::Healthy; 2]);
    rig.broker.stop_proxy(0).await.expect("stop");
    for health in &mut both {
        within(secs(60), "health is Down", until(health, Health::Down)).await;
    }
    rig.broker.start_proxy(0).await.expect("start");
    for health in &mut both {
        within(secs(60), "health is Healthy again", until(health, Health::Healthy)).await;
    }
    assert!(consumer.control().shutdown(secs(5)).await.complete);
    assert!(producer.shutdown(secs(5)).await.is_clean());
    for mut health in both {
        let last = async {
            while health.changed().await.is_some() {}
            health.current()
        };
        assert_eq!(within(secs(10), "health is Closed, for ever", last).await, Health::Closed);
    }
}

async fn until(health: &mut HealthWatch, wanted: Health) {
    while health.current() != wanted {
        health.changed().await.expect("it goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn one_proxy_of_two_away_is_degraded() {
    let rig = Rig::start(builder().proxies(2)).await;
    let mut consumer = rig.consumer().await;
    let mut health = consumer.control().health();
    assert!(consumer.next().now_or_never().is_none());
    tokio::time::sleep(Duration::from_secs(2)).await;
    rig.broker.stop_proxy(1).await.expect("stop");
    let degraded = async {
        while health.current() != Health::Degraded {
            health.changed().await.expect("it goes on");
        }
    };
    within(secs(60), "health is Degraded", degraded).await;
    let producer = rig.producer().await;
    send_all(&producer, TOPIC, ["still"]).await;
    within(secs(20), "a message", next(&mut consumer)).await.ack().await.expect("ack");
}
