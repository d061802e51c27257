//! The stream itself: what it asks for, when, and that it goes on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::prelude::*;
use futures::stream::FusedStream;
use rocketmq_stream::embedded::Rpc;
use rocketmq_stream::{Error, Filter, Health, OutboundMessage, Renewal};

use crate::support::rig::{GROUP, Rig, TOPIC, builder};
use crate::support::{
    PATIENCE, eventually, next, nothing_for, numbered, secs, send_all, sorted, take, take_acked, text, within,
};

#[tokio::test(start_paused = true)]
async fn no_message_is_asked_for_before_the_first_poll() {
    let rig = Rig::start(builder()).await;
    let mut consumer = rig.consumer().await;
    tokio::time::sleep(secs(30)).await;
    assert_eq!(rig.broker.calls(Rpc::ReceiveMessage), 0);
    send_all(&rig.producer().await, TOPIC, ["now"]).await;
    assert_eq!(take_acked(&mut consumer, 1).await, ["now"]);
}

#[tokio::test(start_paused = true)]
async fn r1_an_idle_consumer_is_not_forgotten() {
    let rig = Rig::start(builder().client_expiry(secs(60))).await;
    let mut consumer = rig.consumer().await;
    let producer = rig.producer().await;
    nothing_for(secs(1800), &mut consumer).await;
    assert_eq!(rig.broker.clients(0).len(), 2, "heartbeats keep both registered");
    send_all(&producer, TOPIC, ["late"]).await;
    assert_eq!(within(secs(5), "the message", take_acked(&mut consumer, 1)).await, ["late"]);
}

#[tokio::test(start_paused = true)]
async fn r1_no_receive_is_sent_before_the_settings_are_answered() {
    let rig = Rig::start(builder()).await;
    let mut consumer = rig.consumer().await;
    send_all(&rig.producer().await, TOPIC, numbered(2)).await;
    take_acked(&mut consumer, 1).await;
    rig.broker.stop_proxy(0).await.expect("stop");
    tokio::time::sleep(secs(3)).await;
    let asked = rig.broker.calls(Rpc::ReceiveMessage);
    // The first handshakes time out; long enough for every back-off to end meanwhile.
    let handshakes = rig.broker.faults().on(Rpc::Telemetry).times(3).delay(secs(60));
    rig.broker.start_proxy(0).await.expect("start");
    next(&mut consumer).await.ack().await.expect("it was buffered before the proxy stopped");
    eventually(secs(60), "the third handshake", || handshakes.hits() == 3).await;
    assert_eq!(rig.broker.calls(Rpc::ReceiveMessage), asked, "the server does not know this client yet");
    send_all(&rig.producer().await, TOPIC, ["after"]).await;
    drop(within(secs(60), "what came after", next(&mut consumer)).await);
}

#[tokio::test(start_paused = true)]
async fn r1_a_client_that_the_server_has_forgotten_tells_its_settings_again() {
    // It forgets before each heartbeat: no stream ends, only the answer to the heartbeat tells.
    let rig = Rig::start(builder().client_expiry(secs(4))).await;
    let mut consumer = rig.consumer().await;
    let producer = rig.producer().await;
    nothing_for(secs(120), &mut consumer).await;
    send_all(&producer, TOPIC, numbered(3)).await;
    let received = within(secs(60), "what was sent meanwhile", take_acked(&mut consumer, 3)).await;
    assert_eq!(sorted(received), sorted(numbered(3)));
    assert!(rig.broker.calls(Rpc::Telemetry) <= 4, "nobody connected anew: {}", rig.broker.calls(Rpc::Telemetry));
}

#[tokio::test(start_paused = true)]
async fn r1_r20_a_proxy_that_was_restarted_is_told_the_settings_again_at_once() {
    let rig = Rig::start(builder()).await;
    // No renewal falls into an outage: one whose answer is lost would leave the lease in doubt (trap R18).
    let mut consumer = rig.consuming().invisible_duration(secs(600)).build().await.expect("build");
    let producer = rig.producer().await;
    send_all(&producer, TOPIC, ["before"]).await;
    assert_eq!(take_acked(&mut consumer, 1).await, ["before"]);
    let held = {
        send_all(&producer, TOPIC, ["held"]).await;
        next(&mut consumer).await
    };
    for _ in 0..3 {
        rig.broker.stop_proxy(0).await.expect("stop");
        assert_eq!(rig.broker.clients(0).len(), 0, "its memory is gone");
        nothing_for(secs(5), &mut consumer).await;
        rig.broker.start_proxy(0).await.expect("start");
        let began = tokio::time::Instant::now();
        let sent = producer.send(OutboundMessage::new(TOPIC, "after"));
        within(secs(60), "a send after the restart", sent).await.expect("send");
        let back = within(secs(10), "reading resumes", take_acked(&mut consumer, 1)).await;
        assert_eq!(back, ["after"]);
        assert!(began.elapsed() < secs(10), "{:?}", began.elapsed());
    }
    held.ack().await.expect("a handle from before the restart is good");
    assert_eq!(rig.broker.stats().redelivered, 0);
}

#[tokio::test(start_paused = true)]
async fn r4_no_message_and_polling_full_are_pauses_not_errors() {
    let rig = Rig::start(builder()).await;
    let faults = rig.broker.faults();
    let full = faults.on(Rpc::ReceiveMessage).times(5).status(42900, "polling full");
    let none = faults.on(Rpc::ReceiveMessage).times(5).status(40401, "no match message");
    let mut consumer = rig.consumer().await;
    send_all(&rig.producer().await, TOPIC, ["there"]).await;
    let received = within(secs(60), "the message after the pauses", take_acked(&mut consumer, 1)).await;
    assert_eq!(received, ["there"]);
    assert_eq!((full.hits(), none.hits()), (5, 5));
    assert_eq!(consumer.control().health().current(), Health::Healthy);
}

#[tokio::test]
async fn r20_an_empty_answer_that_comes_at_once_makes_no_hot_loop() {
    let rig = Rig::start(builder()).await;
    rig.broker.faults().on(Rpc::ReceiveMessage).always().status(40401, "no match message");
    let mut consumer = rig.consumer().await;
    nothing_for(secs(2), &mut consumer).await;
    let calls = rig.broker.calls(Rpc::ReceiveMessage);
    assert!((2..=400).contains(&calls), "{calls} receives in 2 s");
    // And no idle detection: the next message comes at once.
    rig.broker.faults().clear();
    let began = std::time::Instant::now();
    send_all(&rig.producer().await, TOPIC, ["there"]).await;
    assert_eq!(take_acked(&mut consumer, 1).await, ["there"]);
    assert!(began.elapsed() < secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn receives_that_fail_at_once_make_no_hot_loop() {
    let rig = Rig::start(builder()).await;
    rig.broker.faults().on(Rpc::ReceiveMessage).always().status(50001, "the store is busy");
    let mut consumer = rig.consumer().await;
    nothing_for(secs(2), &mut consumer).await;
    let calls = rig.broker.calls(Rpc::ReceiveMessage);
    assert!((2..=60).contains(&calls), "{calls} receives in 2 s");
}

#[tokio::test(start_paused = true)]
async fn r5_one_broker_that_is_away_does_not_starve_the_other() {
    let rig = Rig::start(builder().brokers(2)).await;
    let mut consumer = rig.consumer().await;
    let producer = rig.producer().await;
    send_all(&producer, TOPIC, numbered(4)).await;
    take_acked(&mut consumer, 4).await;
    rig.broker.stop_broker(1);
    for round in 0..20 {
        let began = tokio::time::Instant::now();
        send_all(&producer, TOPIC, [format!("{round}")]).await;
        let sent = began.elapsed();
        within(secs(2), "a message of the broker that is there", take_acked(&mut consumer, 1)).await;
        assert!(sent < secs(10), "sends go to the broker that is there, after {sent:?}");
        tokio::time::sleep(secs(2)).await;
    }
    rig.broker.start_broker(1);
    tokio::time::sleep(secs(60)).await;
    send_all(&producer, TOPIC, numbered(4)).await;
    take_acked(&mut consumer, 4).await;
    let brokers: HashSet<_> = rig.broker.messages(TOPIC).into_iter().rev().take(60).map(|m| m.broker).collect();
    assert_eq!(brokers.len(), 2, "the broker that came back is used again");
}

#[tokio::test(start_paused = true)]
async fn r11_a_full_buffer_wakes_the_receives_when_there_is_room_and_not_by_a_timer() {
    const COUNT: usize = 300;
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, numbered(COUNT)).await;
    let mut consumer = rig.consuming().max_buffered_messages(2).build().await.expect("build");
    let control = consumer.control();
    let began = tokio::time::Instant::now();
    for n in 0..COUNT {
        let delivery = next(&mut consumer).await;
        drop(delivery.ack());
        assert!(control.stats().buffered_messages <= 2, "message {n}: {:?}", control.stats());
    }
    assert!(began.elapsed() < secs(1), "{COUNT} messages with room for 2 took {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn r15_a_new_group_starts_at_the_end_of_an_old_topic() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    send_all(&producer, TOPIC, numbered(50)).await;
    rig.broker.mark_old(TOPIC).expect("the topic exists");
    let mut consumer = rig.consumer().await;
    // The last message of the queue, as on Apache's servers, and what comes from now on.
    assert_eq!(take_acked(&mut consumer, 1).await, ["m49"]);
    nothing_for(secs(30), &mut consumer).await;
    send_all(&producer, TOPIC, ["new"]).await;
    assert_eq!(take_acked(&mut consumer, 1).await, ["new"]);
    // From then on the group has its place.
    drop(consumer);
    send_all(&producer, TOPIC, ["while away"]).await;
    assert_eq!(take_acked(&mut rig.consumer().await, 1).await, ["while away"]);
}

#[test]
fn r15_the_documentation_says_where_a_new_group_starts() {
    let readme = include_str!("../../README.md");
    assert!(readme.contains("A new group starts at the end of an old topic"));
}

#[tokio::test(start_paused = true)]
async fn r22_members_with_different_filters_lose_messages_and_the_documentation_says_so() {
    let rig = Rig::start(builder()).await;
    let member = async |tag: &str| {
        let builder = rig.client.simple_consumer(GROUP).subscribe(TOPIC, Filter::tag(tag));
        builder.build().await.expect("build")
    };
    let mut red = member("red").await;
    let producer = rig.producer().await;
    producer.send(OutboundMessage::new(TOPIC, "1").tag("blue")).await.expect("send");
    producer.send(OutboundMessage::new(TOPIC, "2").tag("red")).await.expect("send");
    assert_eq!(take_acked(&mut red, 1).await, ["2"]);
    drop(red);
    // What the filter of one member skipped is consumed for the group. A broker that differed here would make this
    // library's warnings wrong.
    nothing_for(secs(60), &mut member("blue").await).await;
    let readme = include_str!("../../README.md");
    assert!(readme.contains("same topics with the same filters"));
}

#[test]
fn r24_no_example_lets_one_failure_end_the_others() {
    for (name, text) in [
        ("quickstart", include_str!("../../examples/quickstart.rs")),
        ("simple_ack", include_str!("../../examples/simple_ack.rs")),
    ] {
        assert!(!text.contains("try_for_each"), "{name}: an ack that fails must concern its own message only");
    }
    assert!(include_str!("../../README.md").contains("Settle per item with `for_each_concurrent`"));
}

#[tokio::test(start_paused = true)]
async fn r24_one_failure_does_not_end_a_pipeline_of_sixty_four() {
    const COUNT: usize = 200;
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, numbered(COUNT)).await;
    let consumer = rig.consuming().invisible_duration(secs(10)).renewal(Renewal::Off).build().await.expect("build");
    let control = consumer.control();
    let (acked, late) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (acked, late) = (&acked, &late);
    let process = consumer.for_each_concurrent(64, |item| async move {
        let delivery = item.expect("no error item");
        let message = delivery.message().clone();
        // One in fifty is too slow the first time, one fails the first time.
        let number: usize = text(&message)[1..].parse().expect("a number");
        let settled = match (number % 50, message.delivery_attempt()) {
            (7, 1) => {
                tokio::time::sleep(secs(12)).await;
                delivery.ack()
            }
            (8, 1) => delivery.nack(secs(1)),
            _ => delivery.ack(),
        };
        let nacked = number % 50 == 8 && message.delivery_attempt() == 1;
        match settled.await {
            Ok(()) if nacked => {}
            Ok(()) => drop(acked.fetch_add(1, Ordering::Relaxed)),
            Err(_) => drop(late.fetch_add(1, Ordering::Relaxed)),
        }
    });
    let enough = async {
        eventually(secs(120), "all acks", || acked.load(Ordering::Relaxed) == COUNT).await;
        control.shutdown(secs(10)).await
    };
    let ((), report) = within(secs(200), "the pipeline", future::join(process, enough)).await;
    assert!(report.complete, "{report:?}");
    assert_eq!(late.load(Ordering::Relaxed), 4);
    assert_eq!(rig.broker.stats().acked, COUNT as u64);
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_comes_once_and_then_the_stream_is_over() {
    let rig = Rig::start(builder()).await;
    let mut consumer = rig.consumer().await;
    send_all(&rig.producer().await, TOPIC, ["good"]).await;
    assert_eq!(take_acked(&mut consumer, 1).await, ["good"]);
    rig.broker.faults().on(Rpc::ReceiveMessage).always().status(40300, "no right to read this topic");
    let mut item = within(secs(60), "an error", consumer.next()).await;
    let error = item.take().expect("an item").expect_err("a permanent error");
    assert!(!error.is_retryable(), "{error:?}");
    assert_eq!(error.server_code(), Some(40300));
    assert!(!consumer.is_terminated() || consumer.next().await.is_none());
    for _ in 0..3 {
        assert!(consumer.next().await.is_none());
    }
    assert!(consumer.is_terminated());
}

#[tokio::test(start_paused = true)]
async fn what_was_buffered_comes_before_the_error() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, numbered(30)).await;
    let mut consumer = rig.consumer().await;
    let first = next(&mut consumer).await;
    let control = consumer.control();
    eventually(secs(5), "a full buffer", || control.stats().buffered_messages == 29).await;
    rig.broker.faults().on(Rpc::ReceiveMessage).always().status(40300, "no right to read this topic");
    send_all(&rig.producer().await, TOPIC, ["wakes a poll"]).await;
    tokio::time::sleep(secs(60)).await;
    let rest: Vec<Result<_, Error>> = within(PATIENCE, "the end", consumer.collect()).await;
    let (last, good) = rest.split_last().expect("items");
    assert!(last.is_err(), "the error is last");
    assert!(good.iter().all(Result::is_ok) && good.len() >= 29, "{} good ones", good.len());
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_receive_whose_answer_is_lost_delays_its_messages_and_nothing_else() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    rig.broker.faults().on(Rpc::ReceiveMessage).lose_reply();
    send_all(&producer, TOPIC, ["lost for a while"]).await;
    let mut consumer = rig.consuming().invisible_duration(secs(10)).build().await.expect("build");
    let again = within(secs(60), "the message after its lease", next(&mut consumer)).await;
    assert_eq!((text(again.message()), again.message().delivery_attempt()), ("lost for a while", 2));
    again.ack().await.expect("ack");
}

#[tokio::test(start_paused = true)]
async fn several_topics_and_brokers_are_polled_side_by_side() {
    let rig = Rig::start(builder().brokers(2)).await;
    let topics: Vec<_> = (0..3).map(|_| rig.create_topic(2)).collect();
    let start = rig.client.simple_consumer("many");
    let subscribed = topics.iter().fold(start, |builder, topic| builder.subscribe(topic, Filter::all()));
    let mut consumer = subscribed.build().await.expect("build");
    let control = consumer.control();
    nothing_for(secs(30), &mut consumer).await;
    assert_eq!(control.stats().receives_under_way, 6, "one for each topic and broker");
    let producer = rig.producer().await;
    for topic in &topics {
        let began = tokio::time::Instant::now();
        send_all(&producer, topic, ["quick"]).await;
        take_acked(&mut consumer, 1).await;
        assert!(began.elapsed() < secs(1), "an idle poll holds up nobody: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn max_receives_bounds_the_receives_and_every_topic_has_its_turn() {
    let rig = Rig::start(builder()).await;
    let topics: Vec<_> = (0..5).map(|_| rig.create_topic(1)).collect();
    let start = rig.client.simple_consumer("many").max_receives(2).await_duration(secs(5));
    let subscribed = topics.iter().fold(start, |builder, topic| builder.subscribe(topic, Filter::all()));
    let mut consumer = subscribed.build().await.expect("build");
    let control = consumer.control();
    let producer = rig.producer().await;
    for topic in &topics {
        send_all(&producer, topic, [topic.as_str()]).await;
    }
    let received = within(secs(60), "one of each topic", take_acked(&mut consumer, 5)).await;
    assert_eq!(sorted(received), sorted(topics));
    assert!(control.stats().receives_under_way <= 2, "{:?}", control.stats());
}

#[tokio::test(start_paused = true)]
async fn an_ack_sink_acks_what_it_is_given_and_survives_a_lost_lease() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, numbered(20)).await;
    let mut consumer = rig.consuming().invisible_duration(secs(10)).renewal(Renewal::Off).build().await.expect("build");
    let mut sink = consumer.control().ack_sink();
    let deliveries = take(&mut consumer, 20).await;
    tokio::time::sleep(secs(11)).await;
    for delivery in deliveries {
        sink.send(delivery.into_parts().1).await.expect("a lost lease does not end the sink");
    }
    assert_eq!(sink.not_acked(), 20);
    for delivery in take(&mut consumer, 20).await {
        sink.feed(delivery.into_parts().1).await.expect("feed");
    }
    sink.close().await.expect("close");
    assert_eq!((rig.broker.stats().acked, sink.not_acked()), (20, 20));
}

#[tokio::test(start_paused = true)]
async fn what_was_fed_to_an_ack_sink_is_acked_although_it_is_dropped() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, numbered(10)).await;
    let mut consumer = rig.consumer().await;
    let mut sink = consumer.control().ack_sink();
    for delivery in take(&mut consumer, 10).await {
        sink.feed(delivery.into_parts().1).await.expect("feed");
    }
    drop(sink);
    eventually(secs(5), "the acks", || rig.broker.stats().acked == 10).await;
}

#[tokio::test(start_paused = true)]
async fn the_server_can_ask_for_a_stack_trace_and_for_a_new_connection() {
    let rig = Rig::start(builder()).await;
    let mut consumer = rig.consumer().await;
    nothing_for(secs(1), &mut consumer).await;
    let id = rig.broker.clients(0).pop().expect("registered");
    rig.broker.thread_stack_trace(&id).await.expect("an answer");
    rig.broker.reconnect_endpoints(&id).expect("the stream is open");
    send_all(&rig.producer().await, TOPIC, ["after"]).await;
    let received = within(secs(10), "a message after the reconnect", take_acked(&mut consumer, 1)).await;
    assert_eq!(received, ["after"]);
}

#[tokio::test(start_paused = true)]
async fn the_server_is_not_asked_for_more_than_the_reader_has_room_for() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, numbered(500)).await;
    let mut consumer = rig.consuming().max_buffered_messages(10).build().await.expect("build");
    drop(next(&mut consumer).await.ack());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(consumer.control().stats().buffered_messages <= 10);
    assert!(rig.broker.in_flight(GROUP, TOPIC) <= 11, "{} are held", rig.broker.in_flight(GROUP, TOPIC));
}

#[tokio::test(start_paused = true)]
async fn buffered_messages_that_nobody_takes_keep_their_leases() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, numbered(5)).await;
    let mut consumer = rig.consuming().invisible_duration(secs(10)).build().await.expect("build");
    next(&mut consumer).await.ack().await.expect("ack");
    tokio::time::sleep(secs(120)).await;
    for delivery in take(&mut consumer, 4).await {
        assert_eq!(delivery.message().delivery_attempt(), 1, "nobody saw it: it costs no attempt");
        delivery.ack().await.expect("ack");
    }
    assert_eq!(rig.broker.stats().redelivered, 0);
}
