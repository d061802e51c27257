//! Sending: every message is answered once, given back, or said to be unknown.

use std::error::Error as _;
use std::time::Duration;

use futures::prelude::*;
use rocketmq_stream::embedded::Rpc;
use rocketmq_stream::{Error, ErrorKind, Filter, Operation, OutboundMessage, SendStreamExt};

use crate::support::rig::{Rig, TOPIC, builder};
use crate::support::{eventually, next, numbered, secs, send_all, sorted, take_acked, within};

fn message(body: &str) -> OutboundMessage {
    OutboundMessage::new(TOPIC, body.to_owned())
}

fn stored(rig: &Rig) -> Vec<String> {
    let text = |body: &bytes::Bytes| String::from_utf8_lossy(body).into_owned();
    rig.broker.messages(TOPIC).iter().map(|message| text(&message.body)).collect()
}

#[tokio::test(start_paused = true)]
async fn s1_a_send_that_timed_out_is_retried_with_the_same_message_id_and_says_so() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    let lost = rig.broker.faults().on(Rpc::SendMessage).lose_reply();
    let receipt = within(secs(30), "send", producer.send(message("twice"))).await.expect("the second answer came");
    assert_eq!((lost.hits(), receipt.attempts()), (1, 2));
    let copies = rig.broker.messages(TOPIC);
    assert_eq!(copies.len(), 2, "the first one was stored too");
    assert!(copies.iter().all(|copy| copy.id == receipt.message_id()), "{copies:?}");
}

#[tokio::test(start_paused = true)]
async fn s1_a_send_that_is_never_answered_is_given_back_as_unknown() {
    let rig = Rig::start(builder()).await;
    let producer = rig.client.producer().max_attempts(2).build().await.expect("build");
    let lost = rig.broker.faults().on(Rpc::SendMessage).always().lose_reply();
    let failed = within(secs(60), "send", producer.send(message("who knows"))).await.expect_err("no answer");
    assert_eq!((failed.kind(), lost.hits()), (ErrorKind::Timeout, 2), "{failed:?}");
    assert!(failed.may_have_been_stored());
    assert_eq!(failed.error().operation(), Some(Operation::Send));
    assert_eq!(&failed.into_message().body()[..], b"who knows");
}

#[tokio::test(start_paused = true)]
async fn s1_a_producer_that_may_not_repeat_does_not() {
    let rig = Rig::start(builder()).await;
    let producer = rig.client.producer().max_attempts(1).build().await.expect("build");
    rig.broker.faults().on(Rpc::SendMessage).lose_reply();
    let failed = within(secs(60), "send", producer.send(message("once"))).await.expect_err("no answer");
    assert!(failed.may_have_been_stored());
    tokio::time::sleep(secs(60)).await;
    assert_eq!(stored(&rig), ["once"]);
}

#[tokio::test(start_paused = true)]
async fn s1_a_connection_cut_in_the_middle_of_a_send_is_an_attempt_that_may_have_stored_it() {
    let rig = Rig::start(builder()).await;
    // 1: never repeat such a send.
    let producer = rig.client.producer().max_attempts(1).build().await.expect("build");
    send_all(&producer, TOPIC, ["warm"]).await;
    rig.broker.faults().on(Rpc::SendMessage).disconnect();
    let failed = within(secs(60), "send", producer.send(message("cut"))).await.expect_err("it may be stored already");
    assert!(failed.may_have_been_stored(), "{failed:?}");
    assert_eq!(&failed.into_message().body()[..], b"cut");
    // With more attempts it is repeated, and the receipt says so.
    let producer = rig.producer().await;
    rig.broker.faults().on(Rpc::SendMessage).disconnect();
    let receipt = within(secs(60), "send", producer.send(message("cut"))).await.expect("send");
    assert_eq!(receipt.attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn s1_a_send_that_died_with_its_broker_may_be_stored_and_counts_as_an_attempt() {
    let rig = Rig::start(builder()).await;
    let producer = rig.client.producer().max_attempts(3).build().await.expect("build");
    let on_its_way = "RemotingSendRequestException: send request to 127.0.0.1:10911 failed";
    let fault = rig.broker.faults().on(Rpc::SendMessage).times(3).status(50001, on_its_way);
    let failed = within(secs(60), "send", producer.send(message("who knows"))).await.expect_err("three attempts");
    assert_eq!((failed.kind(), fault.hits()), (ErrorKind::Server, 3), "{failed:?}");
    assert!(failed.may_have_been_stored(), "{failed:?}");
    // What never reached the broker is tried for as long as the message has time.
    let refused = rig.broker.faults().on(Rpc::SendMessage).times(8).status(50001, "connect to 127.0.0.1:10911 failed");
    let receipt = within(secs(60), "send", producer.send(message("waits"))).await.expect("the broker is back");
    assert_eq!((refused.hits(), receipt.attempts(), stored(&rig)), (8, 9, vec!["waits".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn s2_a_failed_send_gives_the_message_back_and_the_others_are_untouched() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    rig.broker.faults().on(Rpc::SendMessage).after(2).status(40300, "no right to write to this topic");
    let sends = (0..5).map(|n| {
        let whole = message(&format!("m{n}")).tag("t").keys(["k1", "k2"]).property("p", "v").trace_context("trace");
        producer.send(whole)
    });
    let results = future::join_all(sends).await;
    let (sent, failed): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((sent.len(), failed.len()), (4, 1));
    let failed = failed.into_iter().next().expect("one").expect_err("refused");
    assert_eq!(failed.kind(), ErrorKind::PermissionDenied);
    assert_eq!(failed.error().server_code(), Some(40300));
    assert!(!failed.may_have_been_stored(), "the server refused it");
    let back = failed.into_message();
    assert_eq!((back.get_tag(), back.get_trace_context()), (Some("t"), Some("trace")));
    assert_eq!((back.get_keys(), back.properties().get("p")), (&["k1".into(), "k2".into()][..], Some("v")));
    let mut all = stored(&rig);
    all.push(String::from_utf8(back.body().to_vec()).expect("text"));
    assert_eq!(sorted(all), sorted(numbered(5)));
}

#[tokio::test(start_paused = true)]
async fn s4_a_flush_returns_only_when_every_accepted_message_was_answered() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    let mut sink = producer.sink();
    rig.broker.faults().on(Rpc::SendMessage).times(5).delay(secs(2));
    for body in numbered(5) {
        sink.feed(message(&body)).await.expect("feed");
    }
    let began = tokio::time::Instant::now();
    sink.flush().await.expect("flush");
    assert!(began.elapsed() >= secs(2), "flushed after {:?}", began.elapsed());
    assert_eq!(stored(&rig).len(), 5);

    rig.broker.faults().on(Rpc::SendMessage).times(5).delay(secs(2));
    for body in numbered(5) {
        sink.feed(message(&body)).await.expect("feed");
    }
    drop(sink);
    producer.flush().await.expect("the producer's flush covers a dropped sink");
    assert_eq!(stored(&rig).len(), 10);
}

#[tokio::test(start_paused = true)]
async fn s4_a_flush_error_names_the_message_and_gives_it_back() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    let mut sink = producer.sink();
    rig.broker.faults().on(Rpc::SendMessage).after(1).status(40300, "no right to write to this topic");
    for body in numbered(4) {
        sink.feed(message(&body).key(format!("key-of-{body}"))).await.expect("feed");
    }
    let error = within(secs(30), "flush", sink.flush()).await.expect_err("one was refused");
    let unsent = error.into_unsent().expect("it carries the message");
    assert_eq!(unsent.len(), 1);
    let body = String::from_utf8(unsent[0].body().to_vec()).expect("text");
    assert!(!stored(&rig).contains(&body), "{body} is the one that was not stored");
    assert_eq!(stored(&rig).len(), 3, "the others are untouched");
    sink.send(unsent.into_iter().next().expect("one")).await.expect("the sink can be used further");
    sink.close().await.expect("close");
    assert_eq!(sorted(stored(&rig)), sorted(numbered(4)));
}

#[tokio::test(start_paused = true)]
async fn s4_a_failure_that_nobody_was_told_of_is_told_by_the_producers_flush() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    rig.broker.faults().on(Rpc::SendMessage).status(40300, "no right to write to this topic");
    let mut sink = producer.sink();
    sink.feed(message("unlucky")).await.expect("feed");
    drop(sink);
    let error = within(secs(30), "flush", producer.flush()).await.expect_err("one was refused");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let unsent = error.into_unsent().expect("it carries the message");
    assert_eq!(&unsent[0].body()[..], b"unlucky");
    producer.flush().await.expect("told once");
}

#[tokio::test(start_paused = true)]
async fn forward_ends_with_an_error_of_the_stream_and_what_was_accepted_is_sent() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    rig.broker.faults().on(Rpc::SendMessage).times(3).delay(secs(1));
    let items = numbered(3).map(|body| Ok(message(&body)));
    let failing = stream::iter(items.chain([Err(anyhow::anyhow!("the source failed"))]));
    let sink = producer.sink().sink_err_into::<anyhow::Error>();
    let error = failing.forward(sink).await.expect_err("the source failed");
    assert_eq!(error.to_string(), "the source failed");
    producer.flush().await.expect("flush");
    assert_eq!(sorted(stored(&rig)), sorted(numbered(3)));
}

#[tokio::test(start_paused = true)]
async fn the_messages_in_flight_are_bounded() {
    let rig = Rig::start(builder()).await;
    let producer = rig.client.producer().max_in_flight(4).build().await.expect("build");
    rig.broker.faults().on(Rpc::SendMessage).always().delay(secs(1));
    let began = tokio::time::Instant::now();
    let sends = (0..12).map(|n| producer.send(message(&format!("m{n}"))));
    let all = future::try_join_all(sends);
    let look = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(rig.broker.calls(Rpc::SendMessage), 4, "the fifth waits for room");
    };
    let (sent, ()) = future::join(all, look).await;
    assert_eq!(sent.expect("send").len(), 12);
    assert!(began.elapsed() >= secs(3), "three rounds of four: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_bytes_in_flight_are_bounded_and_a_larger_message_goes_alone() {
    let rig = Rig::start(builder()).await;
    let producer = rig.client.producer().max_in_flight_bytes(10_000).build().await.expect("build");
    rig.broker.faults().on(Rpc::SendMessage).always().delay(secs(1));
    let sends = [4_000, 4_000, 4_000, 50_000].map(|size| producer.send(OutboundMessage::new(TOPIC, vec![b'x'; size])));
    let look = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(rig.broker.calls(Rpc::SendMessage), 2);
    };
    let (sent, ()) = within(secs(30), "all sends", future::join(future::try_join_all(sends), look)).await;
    assert_eq!(sent.expect("send").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_dropped_after_it_was_accepted_is_sent_all_the_same() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    rig.broker.faults().on(Rpc::SendMessage).delay(secs(1));
    let send = producer.send(message("accepted"));
    assert!(tokio::time::timeout(Duration::from_millis(500), send).await.is_err(), "no answer yet");
    producer.flush().await.expect("flush");
    assert_eq!(stored(&rig), ["accepted"]);
}

#[tokio::test(start_paused = true)]
async fn send_with_brings_along_what_goes_with_a_message_in_order() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    rig.broker.faults().on(Rpc::SendMessage).times(3).delay(secs(1));
    let items = (0..20).map(|n| Ok::<_, Error>((message(&format!("m{n}")), n)));
    let sent: Vec<_> = stream::iter(items).send_with(&producer, 8).try_collect().await.expect("send");
    assert_eq!(sent.iter().map(|(_, n)| *n).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    let ids: Vec<_> = sent.iter().map(|(receipt, _)| receipt.message_id().to_owned()).collect();
    assert_eq!(sorted(ids), sorted(rig.broker.messages(TOPIC).into_iter().map(|message| message.id)));
}

#[tokio::test(start_paused = true)]
async fn consume_transform_produce_settles_only_what_was_sent() {
    let rig = Rig::start(builder()).await;
    let out = rig.create_topic(1);
    let producer = rig.producer().await;
    send_all(&producer, TOPIC, numbered(20)).await;
    let mut consumer = rig.consuming().invisible_duration(secs(10)).build().await.expect("build");
    let refused = rig.broker.faults().on(Rpc::SendMessage).after(5).status(40300, "no right to write");
    let results: Vec<_> = consumer
        .by_ref()
        .take(20)
        .map_ok(|delivery| (OutboundMessage::new(&out, delivery.message().body().clone()), delivery))
        .send_with(&producer, 4)
        .then(|item| async {
            let (_, delivery) = item?;
            delivery.ack().await?;
            Ok::<_, Error>(())
        })
        .collect()
        .await;
    assert_eq!((results.len(), refused.hits()), (20, 1));
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1, "one error item, and the stream went on");
    assert_eq!((rig.broker.stats().acked, rig.broker.messages(&out).len()), (19, 19));
    let again = within(secs(30), "the one that was not sent comes again", next(&mut consumer)).await;
    assert_eq!(again.message().delivery_attempt(), 2);
}

#[tokio::test(start_paused = true)]
async fn r19_a_send_refused_for_a_cold_type_cache_is_retried() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    let text = "TopicMessageType validate failed, the expected type is UNSPECIFIED, but actual type is NORMAL";
    let cold = rig.broker.faults().on(Rpc::SendMessage).times(4).status(40014, text);
    let receipt = within(secs(60), "send", producer.send(message("patient"))).await.expect("the cache got warm");
    assert_eq!(cold.hits(), 4);
    assert_eq!(rig.broker.messages(TOPIC)[0].id, receipt.message_id());
}

#[tokio::test(start_paused = true)]
async fn a_wrong_type_that_is_final_is_not_retried() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    let text = "TopicMessageType validate failed, the expected type is FIFO, but actual type is NORMAL";
    let refused = rig.broker.faults().on(Rpc::SendMessage).always().status(40014, text);
    let failed = within(secs(5), "send", producer.send(message("wrong"))).await.expect_err("refused");
    assert_eq!((failed.kind(), refused.hits()), (ErrorKind::Precondition, 1));
}

#[tokio::test(start_paused = true)]
async fn a_throttled_send_is_repeated_with_pauses_and_stored_once() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    let busy = rig.broker.faults().on(Rpc::SendMessage).times(5).status(42900, "[REJECTREQUEST] system busy");
    let began = tokio::time::Instant::now();
    within(secs(60), "send", producer.send(message("later"))).await.expect("send");
    assert_eq!((busy.hits(), stored(&rig).len()), (5, 1));
    assert!(began.elapsed() >= Duration::from_millis(50), "without a pause: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn sends_survive_a_broker_that_is_away_for_twenty_seconds_and_forty_with_a_cold_cache() {
    let rig = Rig::start(builder().type_cache_delay(secs(40))).await;
    let producer = rig.producer().await;
    rig.broker.stop_broker(0);
    let sends = future::try_join_all((0..50).map(|n| producer.send(message(&format!("m{n}")))));
    let back = async {
        tokio::time::sleep(secs(20)).await;
        rig.broker.start_broker(0);
    };
    let (sent, ()) = within(secs(110), "all sends", future::join(sends, back)).await;
    assert_eq!(sent.expect("every send is answered").len(), 50);
    assert_eq!(sorted(stored(&rig)), sorted(numbered(50)), "each exactly once: nothing was ever unclear");
}

#[tokio::test(start_paused = true)]
async fn sends_that_outlive_their_timeout_are_given_back() {
    let rig = Rig::start(builder()).await;
    let producer = rig.client.producer().send_timeout(secs(10)).build().await.expect("build");
    rig.broker.stop_broker(0);
    let began = tokio::time::Instant::now();
    let failed = within(secs(20), "send", producer.send(message("nowhere"))).await.expect_err("no broker");
    assert!(failed.error().is_retryable() || failed.kind() == ErrorKind::NotFound, "{failed:?}");
    assert!(began.elapsed() >= secs(9), "it was tried for its time: {:?}", began.elapsed());
    assert_eq!(&failed.message().body()[..], b"nowhere");
}

#[tokio::test(start_paused = true)]
async fn sends_go_to_every_broker_and_queue() {
    let rig = Rig::start(builder().brokers(2)).await;
    let topic = rig.create_topic(2);
    send_all(&rig.producer().await, &topic, numbered(40)).await;
    let mut places: Vec<_> = rig.broker.messages(&topic).into_iter().map(|m| (m.broker, m.queue)).collect();
    places.dedup();
    assert_eq!(places.len(), 4, "{places:?}");
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_is_dropped_sends_what_it_accepted() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    let mut sink = producer.sink();
    for body in numbered(20) {
        sink.feed(message(&body)).await.expect("feed");
    }
    drop((sink, producer));
    eventually(secs(10), "all are sent", || stored(&rig).len() == 20).await;
    eventually(secs(10), "it says goodbye", || rig.broker.clients(0).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_reports_what_is_unanswered_and_untold() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    let faults = rig.broker.faults();
    faults.on(Rpc::SendMessage).status(40300, "no right to write");
    let mut sink = producer.sink();
    sink.feed(message("refused, and nobody is told")).await.expect("feed");
    drop(sink);
    tokio::time::sleep(secs(1)).await;
    faults.on(Rpc::SendMessage).always().lose_reply();
    let unanswered = tokio::spawn({
        let producer = producer.clone();
        async move { producer.send(message("unanswered")).await }
    });
    tokio::time::sleep(secs(1)).await;
    let began = tokio::time::Instant::now();
    let report = within(secs(10), "shutdown", producer.shutdown(secs(1))).await;
    assert!(began.elapsed() < secs(5), "the deadline is 1 s, and a goodbye: {:?}", began.elapsed());
    assert!(!report.is_clean());
    assert_eq!((report.unanswered(), report.untold().len()), (1, 1), "{report:?}");
    let failed = unanswered.await.expect("no panic").expect_err("it was given up");
    assert_eq!(&failed.message().body()[..], b"unanswered");
    assert!(failed.may_have_been_stored(), "it was, in fact");
    assert_eq!(&report.into_unsent()[0].body()[..], b"refused, and nobody is told");
}

#[tokio::test(start_paused = true)]
async fn e2_a_send_error_says_operation_place_server_code_and_text_one_level_deep() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    rig.broker.faults().on(Rpc::SendMessage).status(40300, "User:u has no permission to access Topic:orders");
    let failed = producer.send(message("secret body")).await.expect_err("refused");
    let error = failed.error();
    assert_eq!((error.operation(), error.topic()), (Some(Operation::Send), Some(TOPIC)));
    assert_eq!(error.endpoint().map(ToString::to_string), Some(rig.broker.access_point()));
    let text = error.to_string();
    for part in ["send", TOPIC, &rig.broker.access_point(), "40300", "has no permission"] {
        assert!(text.contains(part), "`{part}` is missing: {text}");
    }
    let mut level: Option<&dyn std::error::Error> = error.source();
    let mut above = text;
    while let Some(cause) = level {
        let below = cause.to_string();
        assert!(!above.contains(&below), "a level repeats the one below it: {above} / {below}");
        (above, level) = (below, cause.source());
    }
    assert!(!format!("{failed} {failed:?}").contains("secret body"), "a body does not belong in logs");
}

#[tokio::test(start_paused = true)]
async fn messages_of_a_fifo_topic_keep_the_order_of_their_group_through_retries() {
    let rig = Rig::start(builder()).await;
    let (topic, group) = (rig.create_fifo_topic(2), rig.create_fifo_group());
    let producer = rig.producer().await;
    rig.broker.faults().on(Rpc::SendMessage).after(1).times(3).status(42900, "system busy");
    let sends = (0..10).map(|n| producer.send(OutboundMessage::new(&topic, format!("{n}")).message_group("g")));
    within(secs(60), "all sends", future::try_join_all(sends)).await.expect("send");
    let bodies: Vec<_> = rig.broker.messages(&topic).into_iter().map(|m| m.body).collect();
    assert_eq!(bodies, (0..10).map(|n| bytes::Bytes::from(n.to_string())).collect::<Vec<_>>());
    let receiver = rig.client.simple_consumer(&group).subscribe(&topic, Filter::all()).build_receiver().await;
    let batch = receiver.expect("build").receive(10, secs(30)).await.expect("receive");
    assert_eq!(batch.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_what_is_received() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    let messages = numbered(500).map(|body| Ok(message(&body)));
    stream::iter(messages).forward(producer.sink()).await.expect("forward");
    assert_eq!(sorted(take_acked(&mut rig.consumer().await, 500).await), sorted(numbered(500)));
}
