//! What is done with a consumer or producer while it works, and its end.

use futures::prelude::*;
use rocketmq_stream::{AckError, ErrorKind, Filter, Health, OutboundMessage};

use crate::cluster::Cluster;
use crate::support::{next, nothing_for, numbered, secs, send_all, sorted, take_acked, text, within};

pub(crate) async fn a_paused_consumer_receives_nothing_until_it_resumes(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    let producer = cluster.producer().await;
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all());
    let mut consumer = builder.await_duration(secs(5)).build().await.expect("build");
    let control = consumer.control();
    send_all(&producer, &topic, ["before"]).await;
    assert_eq!(take_acked(&mut consumer, 1).await, ["before"]);
    control.pause();
    // A receive that is under way may still bring something: let it end.
    nothing_for(secs(7), &mut consumer).await;
    send_all(&producer, &topic, ["meanwhile"]).await;
    nothing_for(secs(8), &mut consumer).await;
    assert_eq!(control.stats().receives_under_way, 0);
    control.resume();
    assert_eq!(within(secs(10), "what was sent meanwhile", take_acked(&mut consumer, 1)).await, ["meanwhile"]);
}

pub(crate) async fn topics_are_subscribed_and_unsubscribed_at_run_time(cluster: &dyn Cluster) {
    let (one, two, group) = (cluster.topic(1), cluster.topic(1), cluster.group());
    let producer = cluster.producer().await;
    let client = cluster.client();
    let mut consumer = client.simple_consumer(&group).subscribe(&one, Filter::all()).build().await.expect("build");
    let control = consumer.control();
    send_all(&producer, &one, ["one"]).await;
    assert_eq!(take_acked(&mut consumer, 1).await, ["one"]);

    within(secs(15), "subscribe", control.subscribe(&two, Filter::all())).await.expect("subscribe");
    send_all(&producer, &two, ["two"]).await;
    assert_eq!(take_acked(&mut consumer, 1).await, ["two"]);

    assert!(control.unsubscribe(&one), "it was subscribed");
    assert!(!control.unsubscribe(&one), "it is not any more");
    send_all(&producer, &one, ["left behind"]).await;
    send_all(&producer, &two, ["two again"]).await;
    assert_eq!(take_acked(&mut consumer, 1).await, ["two again"]);
    nothing_for(secs(6), &mut consumer).await;

    let mut other = client.simple_consumer(&group).subscribe(&one, Filter::all()).build().await.expect("build");
    let delivery = within(secs(150), "what was left behind", next(&mut other)).await;
    assert_eq!((text(delivery.message()), delivery.message().delivery_attempt()), ("left behind", 1));
    delivery.ack().await.expect("ack");

    let missing = crate::support::unique("missing");
    let refused = within(secs(20), "a refusal", control.subscribe(&missing, Filter::all())).await;
    assert_eq!(refused.expect_err("there is no such topic").kind(), ErrorKind::NotFound);
}

pub(crate) async fn a_shutdown_says_what_was_still_held(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    send_all(&cluster.producer().await, &topic, numbered(3)).await;
    let mut consumer =
        cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all()).build().await.expect("build");
    let control = consumer.control();
    let (held, late) = (next(&mut consumer).await, next(&mut consumer).await);
    let lost = held.lost();
    let began = tokio::time::Instant::now();
    let shutdown = control.shutdown(secs(3));
    let settles_late = async {
        tokio::time::sleep(secs(1)).await;
        late.ack().await
    };
    let (report, acked) = within(secs(10), "shutdown", future::join(shutdown, settles_late)).await;
    acked.expect("a held receipt can be settled while the shutdown waits");
    assert!(began.elapsed() >= secs(3), "it waits for held receipts until the deadline");
    assert!(!report.complete, "{report:?}");
    assert_eq!((report.still_held, report.unanswered), (1, 0), "{report:?}");
    within(secs(1), "a held message is told to be lost", lost).await;
    assert_eq!(held.ack().await, Err(AckError::Closed));
    assert!(consumer.next().await.is_none(), "the stream has ended");
    assert_eq!(control.health().current(), Health::Closed);
}

pub(crate) async fn a_clean_shutdown_is_complete_and_ends_the_stream(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    let producer = cluster.producer().await;
    send_all(&producer, &topic, ["one"]).await;
    let mut consumer =
        cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all()).build().await.expect("build");
    let control = consumer.control();
    let acked = next(&mut consumer).await.ack(); // queued, not awaited
    let began = tokio::time::Instant::now();
    let report = within(secs(15), "shutdown", control.shutdown(secs(10))).await;
    assert!(report.complete, "{report:?}");
    assert!(began.elapsed() < secs(5), "nothing was held: it need not wait, but took {:?}", began.elapsed());
    acked.await.expect("what was queued is sent");
    assert!(consumer.next().await.is_none());
    let again = control.shutdown(secs(10)).await;
    assert!(again.complete, "a second shutdown does no harm: {again:?}");
    let refused = control.subscribe(&topic, Filter::all()).await;
    assert_eq!(refused.expect_err("it is shut down").kind(), ErrorKind::Closed);
}

pub(crate) async fn a_producer_that_is_shut_down_has_sent_everything(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(2), cluster.group());
    let producer = cluster.producer().await;
    let mut sink = producer.sink();
    for body in numbered(100) {
        sink.feed(OutboundMessage::new(&topic, body)).await.expect("feed");
    }
    drop(sink); // cancels nothing
    let report = within(secs(30), "shutdown", producer.shutdown(secs(20))).await;
    assert!(report.is_clean() && report.unanswered() == 0, "{report:?}");
    let refused = producer.send(OutboundMessage::new(&topic, "too late")).await.expect_err("it is shut down");
    assert_eq!((refused.kind(), &refused.message().body()[..]), (ErrorKind::Closed, &b"too late"[..]));
    let mut consumer =
        cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all()).build().await.expect("build");
    assert_eq!(sorted(take_acked(&mut consumer, 100).await), sorted(numbered(100)));
    nothing_for(secs(2), &mut consumer).await;
}
