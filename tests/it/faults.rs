//! Servers that go away and come back, and connections that are cut.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::future::join_all;
use futures::prelude::*;
use rocketmq_stream::embedded::Rpc;
use rocketmq_stream::{Delivery, ErrorKind, OutboundMessage, RouteEndpoints};

use crate::support::relay::Relay;
use crate::support::rig::{GROUP, Rig, TOPIC, builder};
use crate::support::{nothing_for, numbered, secs, send_all, sorted, take, take_acked, text, within};

#[tokio::test(start_paused = true)]
async fn a_connection_cut_in_the_middle_of_an_ack_is_healed() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, numbered(64)).await;
    let mut consumer = rig.consumer().await;
    let deliveries = take(&mut consumer, 64).await;
    let cut = rig.broker.faults().on(Rpc::AckMessage).times(2).disconnect();
    for answer in within(secs(25), "all acks", join_all(deliveries.into_iter().map(Delivery::ack))).await {
        answer.expect("every lease had time left");
    }
    assert_eq!((cut.hits(), rig.broker.stats().acked), (2, 64));
    nothing_for(secs(60), &mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn connections_cut_again_and_again_lose_nothing() {
    const COUNT: usize = 200;
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    let mut consumer = rig.consuming().invisible_duration(secs(60)).build().await.expect("build");
    let mut received: HashMap<String, u32> = HashMap::new();
    let sending = async {
        let mut ids = HashSet::new();
        for body in numbered(COUNT) {
            let receipt = producer.send(OutboundMessage::new(TOPIC, body)).await.expect("send");
            ids.insert(receipt.message_id().to_owned());
        }
        ids
    };
    let cutting = async {
        for _ in 0..10 {
            tokio::time::sleep(secs(3)).await;
            rig.broker.cut_connections(0).expect("there is a proxy");
        }
    };
    let receiving = async {
        while received.len() < COUNT {
            let delivery = crate::support::next(&mut consumer).await;
            let body = text(delivery.message()).to_owned();
            tokio::time::sleep(Duration::from_millis(100)).await;
            if delivery.ack().await.is_ok() {
                *received.entry(body).or_default() += 1;
            }
        }
    };
    let all = future::join3(sending, cutting, receiving);
    let (ids, (), ()) = within(secs(600), "everything", all).await;
    assert_eq!(ids.len(), COUNT);
    assert_eq!(sorted(received.into_keys()), sorted(numbered(COUNT)));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_was_away_goes_on_where_it_was() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    let mut consumer = rig.consuming().invisible_duration(secs(120)).build().await.expect("build");
    send_all(&producer, TOPIC, numbered(10)).await;
    let held = take(&mut consumer, 10).await;
    for _ in 0..3 {
        rig.broker.stop_broker(0);
        nothing_for(secs(20), &mut consumer).await;
        rig.broker.start_broker(0);
        let began = tokio::time::Instant::now();
        send_all(&producer, TOPIC, ["back"]).await;
        assert_eq!(within(secs(60), "a message", take_acked(&mut consumer, 1)).await, ["back"]);
        assert!(began.elapsed() < secs(30), "{:?}", began.elapsed());
    }
    for answer in join_all(held.into_iter().map(Delivery::ack)).await {
        answer.expect("leases outlive a broker's absence");
    }
    assert_eq!((rig.broker.stats().redelivered, rig.broker.in_flight(GROUP, TOPIC)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_not_found_for_a_moment_does_not_fail_a_build() {
    let rig = Rig::start(builder()).await;
    let text = "No topic route info in name server for the topic: orders";
    let cold = rig.broker.faults().on(Rpc::QueryRoute).times(3).status(40402, text);
    let mut consumer = rig.consumer().await;
    assert_eq!(cold.hits(), 3);
    let cold = rig.broker.faults().on(Rpc::QueryRoute).times(3).status(50001, "connect to 127.0.0.1:9876 failed");
    let producer = rig.client.producer().topic(TOPIC).build().await.expect("build");
    assert_eq!(cold.hits(), 3);
    send_all(&producer, TOPIC, ["there"]).await;
    assert_eq!(take_acked(&mut consumer, 1).await, ["there"]);
}

#[tokio::test(start_paused = true)]
async fn a_build_waits_for_a_server_that_starts() {
    let rig = Rig::start(builder()).await;
    rig.broker.stop_proxy(0).await.expect("stop");
    let start = async {
        tokio::time::sleep(secs(4)).await;
        rig.broker.start_proxy(0).await.expect("start");
    };
    let (built, ()) = future::join(rig.consuming().build(), start).await;
    drop(built.expect("it was there within the build timeout"));
}

#[tokio::test(start_paused = true)]
async fn a_build_without_a_server_fails_within_its_timeout() {
    let rig = Rig::start(builder()).await;
    rig.broker.stop_proxy(0).await.expect("stop");
    let began = tokio::time::Instant::now();
    let error = rig.consuming().build_timeout(secs(5)).build().await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(began.elapsed() <= secs(7), "{:?}", began.elapsed());
    let error = rig.client.producer().build_timeout(secs(5)).build().await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(began.elapsed() <= secs(14), "{:?}", began.elapsed());
    assert!(error.to_string().contains(&rig.broker.access_point()), "it says where: {error}");
}

#[tokio::test(start_paused = true)]
async fn the_second_proxy_serves_while_the_first_is_away() {
    for stopped in [0, 1] {
        let rig = Rig::start(builder().proxies(2)).await;
        let producer = rig.producer().await;
        let mut consumer = rig.consumer().await;
        send_all(&producer, TOPIC, ["both"]).await;
        take_acked(&mut consumer, 1).await;
        rig.broker.stop_proxy(stopped).await.expect("stop");
        let began = tokio::time::Instant::now();
        send_all(&producer, TOPIC, ["one"]).await;
        assert!(began.elapsed() < secs(30), "a send by the other proxy: {:?}", began.elapsed());
        let received = within(secs(30), "a message by the other proxy", take_acked(&mut consumer, 1)).await;
        assert_eq!(received, ["one"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_behind_a_port_mapping_is_reached_by_its_access_point() {
    // Nothing listens on port 9: the route names it, as a proxy in a container names its inner port.
    let rig = Rig::start(builder().advertised_port(9)).await;
    for policy in [RouteEndpoints::Server, RouteEndpoints::AccessPoint] {
        let client = rocketmq_stream::Client::builder().access_point(rig.broker.access_point());
        let client = client.route_endpoints(policy).build().expect("a client");
        let producer = client.producer().topic(TOPIC).build().await.expect("build");
        within(secs(30), "send", producer.send(OutboundMessage::new(TOPIC, "mapped"))).await.expect("send");
        let subscribed = client.simple_consumer(GROUP).subscribe(TOPIC, rocketmq_stream::Filter::all());
        let mut consumer = subscribed.build().await.expect("build");
        let received = within(secs(30), "a message", take_acked(&mut consumer, 1)).await;
        assert_eq!(received, ["mapped"], "{policy:?}");
        assert!(consumer.control().shutdown(secs(5)).await.complete);
    }
}

#[tokio::test]
async fn a_frozen_connection_is_noticed_and_replaced() {
    let rig = Rig::start(builder()).await;
    let relay = Relay::to(&rig.broker.access_point()).await.expect("a relay");
    let client = rocketmq_stream::Client::builder().access_point(relay.access_point());
    let client = client.route_endpoints(RouteEndpoints::AccessPoint).request_timeout(secs(1)).build().expect("client");
    let producer = client.producer().request_timeout(secs(1)).build().await.expect("build");
    send_all(&producer, TOPIC, ["flows"]).await;
    relay.freeze();
    let send = producer.send(OutboundMessage::new(TOPIC, "frozen"));
    let thaw = async {
        tokio::time::sleep(Duration::from_millis(2500)).await;
        relay.open();
    };
    let (sent, ()) = within(secs(30), "a send", future::join(send, thaw)).await;
    let receipt = sent.expect("it went through in the end");
    assert!(receipt.attempts() >= 2, "{receipt:?}");
    let copies = rig.broker.messages(TOPIC).iter().filter(|m| m.id == receipt.message_id()).count();
    assert!(copies >= 1);
}

#[tokio::test]
async fn a_port_that_refuses_for_a_while_is_connected_to_again() {
    let rig = Rig::start(builder()).await;
    let relay = Relay::to(&rig.broker.access_point()).await.expect("a relay");
    let client = rocketmq_stream::Client::builder().access_point(relay.access_point());
    let client = client.route_endpoints(RouteEndpoints::AccessPoint).build().expect("client");
    let subscribed = client.simple_consumer(GROUP).subscribe(TOPIC, rocketmq_stream::Filter::all());
    let mut consumer = subscribed.build().await.expect("build");
    let producer = rig.producer().await;
    send_all(&producer, TOPIC, ["one"]).await;
    take_acked(&mut consumer, 1).await;
    relay.close();
    nothing_for(secs(4), &mut consumer).await;
    let tries = relay.accepted();
    assert!(tries < 60, "{tries} connections in 4 s: there is a pause between them");
    relay.open();
    send_all(&producer, TOPIC, ["two"]).await;
    let received = within(secs(10), "reading resumes", take_acked(&mut consumer, 1)).await;
    assert_eq!(received, ["two"]);
}

#[tokio::test(start_paused = true)]
async fn heartbeats_and_telemetry_that_fail_for_a_while_do_not_end_a_consumer() {
    let rig = Rig::start(builder()).await;
    let mut consumer = rig.consumer().await;
    let faults = rig.broker.faults();
    faults.on(Rpc::Heartbeat).times(3).grpc_status(14, "unavailable");
    faults.on(Rpc::Heartbeat).times(3).status(40015, "cannot find client settings for this client");
    faults.on(Rpc::Telemetry).times(2).grpc_status(13, "internal");
    nothing_for(secs(300), &mut consumer).await;
    send_all(&rig.producer().await, TOPIC, ["alive"]).await;
    assert_eq!(within(secs(30), "a message", take_acked(&mut consumer, 1)).await, ["alive"]);
}

#[tokio::test(start_paused = true)]
async fn a_receive_of_a_client_that_the_server_forgot_is_answered_by_a_new_handshake() {
    let rig = Rig::start(builder()).await;
    let mut consumer = rig.consumer().await;
    let text = "process message failed. cannot find client settings";
    rig.broker.faults().on(Rpc::ReceiveMessage).times(2).status(50001, text);
    send_all(&rig.producer().await, TOPIC, ["there"]).await;
    assert_eq!(within(secs(30), "a message", take_acked(&mut consumer, 1)).await, ["there"]);
}
