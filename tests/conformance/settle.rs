//! Acks, nacks, dead letters.

use futures::future::join_all;
use rocketmq_stream::{AckError, Filter, OutboundMessage, Renewal};

use crate::cluster::Cluster;
use crate::support::{next, nothing_for, numbered, secs, send_all, take, text, within};

pub(crate) async fn an_acked_message_does_not_come_again(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    send_all(&cluster.producer().await, &topic, numbered(3)).await;
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all());
    let mut consumer = builder.invisible_duration(secs(10)).build().await.expect("build");
    let control = consumer.control();
    for delivery in take(&mut consumer, 3).await {
        delivery.ack().await.expect("ack");
    }
    assert_eq!((control.stats().leases.acked, control.stats().leases.held), (3, 0));
    nothing_for(secs(15), &mut consumer).await;
}

pub(crate) async fn a_nacked_message_comes_again_with_attempt_2_and_the_same_id(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    let producer = cluster.producer().await;
    let message = OutboundMessage::new(&topic, "not yet").tag("t").key("k").property("p", "v");
    let sent = producer.send(message).await.expect("send");
    let mut consumer =
        cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all()).build().await.expect("build");
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.message().delivery_attempt(), 1);
    delivery.nack(secs(2)).await.expect("nack");
    let again = within(secs(20), "the nacked message", next(&mut consumer)).await;
    let message = again.message();
    assert_eq!((message.id(), message.delivery_attempt()), (sent.message_id(), 2));
    // A redelivery is read under the topic that was asked for, and is whole.
    assert_eq!((message.topic(), text(message), message.tag()), (&*topic, "not yet", Some("t")));
    assert_eq!((message.keys(), message.property("p")), (&["k".to_owned()][..], Some("v")));
    again.ack().await.expect("ack");
    nothing_for(secs(3), &mut consumer).await;
}

pub(crate) async fn a_redelivered_message_can_be_acked(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    send_all(&cluster.producer().await, &topic, ["again"]).await;
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all());
    let mut consumer = builder.invisible_duration(secs(10)).build().await.expect("build");
    next(&mut consumer).await.nack(secs(0)).await.expect("nack");
    let again = next(&mut consumer).await;
    assert_eq!(again.message().delivery_attempt(), 2);
    again.ack().await.expect("ack");
    nothing_for(secs(14), &mut consumer).await;
}

pub(crate) async fn r9_a_dead_letter_is_read_and_acked_under_its_own_topic(cluster: &dyn Cluster) {
    let (topic, group, undertaker) = (cluster.topic(1), cluster.group(), cluster.group());
    let producer = cluster.producer().await;
    let message = OutboundMessage::new(&topic, "poison").tag("t").key("k").property("p", "v");
    let sent = producer.send(message).await.expect("send");
    let client = cluster.client();
    let mut consumer = client.simple_consumer(&group).subscribe(&topic, Filter::all()).build().await.expect("build");
    next(&mut consumer).await.dead_letter().await.expect("dead letter");
    nothing_for(secs(5), &mut consumer).await;

    let dead = format!("%DLQ%{group}");
    let builder = client.simple_consumer(&undertaker).subscribe(&dead, Filter::all());
    let builder = builder.build_timeout(secs(30)).invisible_duration(secs(10));
    let mut letters = builder.build().await.expect("the dead-letter topic exists");
    let letter = next(&mut letters).await;
    let message = letter.message();
    assert_eq!((message.id(), text(message)), (sent.message_id(), "poison"));
    assert_eq!((message.topic(), message.tag(), message.property("p")), (&*dead, Some("t"), Some("v")));
    assert_eq!(message.keys(), ["k"]);
    // An ack that names another topic is refused; one that names none is lost. This one must count.
    letter.ack().await.expect("ack");
    nothing_for(secs(14), &mut letters).await;
}

pub(crate) async fn a_message_that_is_nacked_too_often_becomes_a_dead_letter(cluster: &dyn Cluster) {
    let (topic, group, undertaker) = (cluster.topic(1), cluster.group_with_attempts(2), cluster.group());
    let sent = send_all(&cluster.producer().await, &topic, ["hopeless"]).await;
    let client = cluster.client();
    let mut consumer = client.simple_consumer(&group).subscribe(&topic, Filter::all()).build().await.expect("build");
    for attempt in [1, 2] {
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.message().delivery_attempt(), attempt);
        delivery.nack(secs(0)).await.expect("nack");
    }
    nothing_for(secs(12), &mut consumer).await;
    let dead = format!("%DLQ%{group}");
    let builder = client.simple_consumer(&undertaker).subscribe(&dead, Filter::all()).build_timeout(secs(30));
    let mut letters = builder.build().await.expect("the dead-letter topic exists");
    let letter = next(&mut letters).await;
    assert_eq!(letter.message().id(), sent[0].message_id());
    letter.ack().await.expect("ack");
}

pub(crate) async fn r8_acks_of_one_batch_are_judged_one_by_one(cluster: &dyn Cluster) {
    let (topic, group) = (cluster.topic(1), cluster.group());
    send_all(&cluster.producer().await, &topic, numbered(12)).await;
    let builder = cluster.client().simple_consumer(&group).subscribe(&topic, Filter::all());
    let mut consumer = builder.invisible_duration(secs(10)).renewal(Renewal::Off).build().await.expect("build");
    let deliveries = take(&mut consumer, 12).await;
    // Every third one keeps its ten seconds, the others get more.
    for (n, delivery) in deliveries.iter().enumerate().filter(|(n, _)| n % 3 != 0) {
        delivery.extend(secs(60)).await.unwrap_or_else(|error| panic!("extend {n}: {error}"));
    }
    tokio::time::sleep(secs(11)).await;
    let answers = join_all(deliveries.into_iter().map(rocketmq_stream::Delivery::ack)).await;
    for (n, answer) in answers.into_iter().enumerate() {
        let expected = if n % 3 == 0 { Err(AckError::LeaseExpired) } else { Ok(()) };
        assert_eq!(answer, expected, "ack {n}");
    }
    let again = take(&mut consumer, 4).await;
    let attempts: Vec<_> = again.iter().map(|delivery| delivery.message().delivery_attempt()).collect();
    assert!(attempts.iter().all(|attempt| *attempt >= 2), "{attempts:?}");
    join_all(again.into_iter().map(rocketmq_stream::Delivery::ack)).await;
    nothing_for(secs(3), &mut consumer).await;
}

pub(crate) async fn acks_of_several_topics_go_their_own_ways(cluster: &dyn Cluster) {
    let (one, two, group) = (cluster.topic(2), cluster.topic(2), cluster.group());
    let producer = cluster.producer().await;
    send_all(&producer, &one, numbered(20)).await;
    send_all(&producer, &two, numbered(20)).await;
    let builder = cluster.client().simple_consumer(&group);
    let builder = builder.subscribe(&one, Filter::all()).subscribe(&two, Filter::all()).invisible_duration(secs(10));
    let mut consumer = builder.build().await.expect("build");
    let deliveries = take(&mut consumer, 40).await;
    for answer in join_all(deliveries.into_iter().map(rocketmq_stream::Delivery::ack)).await {
        answer.expect("ack");
    }
    nothing_for(secs(14), &mut consumer).await;
}
