//! How long a message is ours.

use rocketmq_stream::{AckError, Filter, Renewal, SimpleConsumerBuilder};

use crate::cluster::Cluster;
use crate::support::{PATIENCE, next, nothing_for, numbered, secs, send_all, sorted, take, text, within};

/// The shortest lease that Apache's servers grant, not renewed.
fn unrenewed(cluster: &dyn Cluster, topic: &str, group: &str) -> SimpleConsumerBuilder {
    let builder = cluster.client().simple_consumer(group).subscribe(topic, Filter::all());
    builder.invisible_duration(secs(10)).renewal(Renewal::Off)
}

pub(crate) async fn an_unsettled_message_comes_again_when_its_lease_ends(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    let sent = send_all(&cluster.producer().await, &topic, ["forgotten"]).await;
    let mut consumer = unrenewed(cluster, &topic, &group).build().await.expect("build");
    drop(next(&mut consumer).await);
    nothing_for(secs(7), &mut consumer).await;
    let again = next(&mut consumer).await;
    assert_eq!(again.message().id(), sent[0].message_id());
    assert_eq!((text(again.message()), again.message().delivery_attempt()), ("forgotten", 2));
    again.ack().await.expect("ack");
}

pub(crate) async fn r6_a_renewed_message_stays_hidden_and_can_be_acked(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    send_all(&cluster.producer().await, &topic, ["slow work"]).await;
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all());
    let mut consumer = builder.invisible_duration(secs(10)).build().await.expect("build");
    let control = consumer.control();
    let delivery = next(&mut consumer).await;
    nothing_for(secs(24), &mut consumer).await;
    assert!(control.stats().leases.renewals >= 2, "{:?}", control.stats());
    delivery.ack().await.expect("an ack after renewals");
    // With the first handle the ack would do nothing, and the message come again.
    nothing_for(secs(14), &mut consumer).await;
}

pub(crate) async fn an_extended_lease_hides_the_message_for_longer(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    send_all(&cluster.producer().await, &topic, ["extended"]).await;
    let mut consumer = unrenewed(cluster, &topic, &group).build().await.expect("build");
    let delivery = next(&mut consumer).await;
    delivery.extend(secs(40)).await.expect("extend");
    nothing_for(secs(16), &mut consumer).await;
    delivery.ack().await.expect("ack after the first lease would have ended");
    nothing_for(secs(4), &mut consumer).await;
}

pub(crate) async fn a_shortened_lease_brings_the_message_back_sooner(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    send_all(&cluster.producer().await, &topic, ["short"]).await;
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all());
    let mut consumer = builder.invisible_duration(secs(300)).renewal(Renewal::Off).build().await.expect("build");
    let delivery = next(&mut consumer).await;
    delivery.extend(secs(2)).await.expect("extend");
    let again = within(secs(20), "the message after its shortened lease", next(&mut consumer)).await;
    assert_eq!(again.message().delivery_attempt(), 2);
    again.ack().await.expect("ack");
}

pub(crate) async fn r7_an_expired_lease_cannot_be_acked_and_the_message_comes_again(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    send_all(&cluster.producer().await, &topic, ["late"]).await;
    let mut consumer = unrenewed(cluster, &topic, &group).build().await.expect("build");
    let delivery = next(&mut consumer).await;
    tokio::time::sleep(secs(11)).await;
    let error = within(secs(5), "the answer to a late ack", delivery.ack()).await.expect_err("too late");
    assert_eq!(error, AckError::LeaseExpired);
    assert!(error.to_string().contains("will be delivered again"), "{error}");
    let again = next(&mut consumer).await;
    assert_eq!(again.message().delivery_attempt(), 2);
    again.ack().await.expect("ack");
}

pub(crate) async fn r10_what_no_user_saw_is_released_at_shutdown_without_an_attempt(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    send_all(&cluster.producer().await, &topic, numbered(20)).await;
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all());
    let builder = builder.invisible_duration(secs(300));
    let mut first = builder.clone().build().await.expect("build");
    let control = first.control();
    let seen = next(&mut first).await;
    let seen_body = text(seen.message()).to_owned();
    seen.ack().await.expect("ack");
    crate::support::eventually(secs(10), "a full buffer", || control.stats().buffered_messages == 19).await;
    let report = within(secs(15), "shutdown", control.shutdown(secs(10))).await;
    assert!(report.complete, "{report:?}");

    let mut second = builder.build().await.expect("build");
    let rest = within(secs(150), "what was released, long before its lease ends", take(&mut second, 19)).await;
    for delivery in &rest {
        assert_eq!(delivery.message().delivery_attempt(), 1, "a message that nobody saw cost an attempt");
    }
    let bodies = rest.iter().map(|delivery| text(delivery.message()).to_owned());
    assert_eq!(sorted(bodies.chain([seen_body])), sorted(numbered(20)));
    for delivery in rest {
        within(PATIENCE, "ack", delivery.ack()).await.expect("ack");
    }
}

pub(crate) async fn r10_what_a_dropped_consumer_buffered_is_released_without_an_attempt(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    send_all(&cluster.producer().await, &topic, numbered(10)).await;
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all());
    let builder = builder.invisible_duration(secs(300));
    let mut first = builder.clone().build().await.expect("build");
    let held = next(&mut first).await;
    drop(first);
    // A receipt that is held works on.
    within(secs(5), "ack after the stream was dropped", held.ack()).await.expect("ack");

    let mut second = builder.build().await.expect("build");
    for delivery in within(secs(150), "what was released", take(&mut second, 9)).await {
        assert_eq!(delivery.message().delivery_attempt(), 1);
        delivery.ack().await.expect("ack");
    }
    nothing_for(secs(3), &mut second).await;
}

/// Nobody tells the broker that a consumer has gone: its poll waits on, and takes what is sent next.
pub(crate) async fn r10_what_the_poll_of_a_dropped_consumer_takes_comes_back_soon_without_an_attempt(
    cluster: &dyn Cluster,
) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    let producer = cluster.producer().await;
    send_all(&producer, &topic, ["seen"]).await;
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all());
    let builder = builder.invisible_duration(secs(300));
    let mut first = builder.clone().build().await.expect("build");
    next(&mut first).await.ack().await.expect("ack");
    let control = first.control();
    crate::support::eventually(secs(10), "an idle poll", || control.stats().receives_under_way == 1).await;
    tokio::time::sleep(secs(1)).await; // so that it waits at the broker
    drop((first, control));
    let mut second = builder.build().await.expect("build");
    let sent = send_all(&producer, &topic, ["not seen"]).await;
    let delivery = within(secs(60), "what the other one's poll took", next(&mut second)).await;
    assert_eq!((delivery.message().id(), delivery.message().delivery_attempt()), (sent[0].message_id(), 1));
    delivery.ack().await.expect("ack");
}

pub(crate) async fn r10_what_a_cancelled_receive_takes_comes_back_soon_without_an_attempt(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    let producer = cluster.producer().await;
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all());
    let receiver = builder.build_receiver().await.expect("build");
    let cancelled = tokio::time::timeout(secs(2), receiver.receive(8, secs(300))).await;
    assert!(cancelled.is_err(), "there is no message yet: {cancelled:?}");
    let sent = send_all(&producer, &topic, ["not seen"]).await;
    let next = async {
        loop {
            if let Some(delivery) = receiver.receive(8, secs(300)).await.expect("receive").pop() {
                return delivery;
            }
        }
    };
    let delivery = within(secs(60), "what the cancelled call took", next).await;
    assert_eq!((delivery.message().id(), delivery.message().delivery_attempt()), (sent[0].message_id(), 1));
    delivery.ack().await.expect("ack");
}
