//! Leases and settlements: what is said when something is late, lost or refused.

use std::time::Duration;

use futures::future::join_all;
use futures::prelude::*;
use rocketmq_stream::embedded::Rpc;
use rocketmq_stream::{AckError, Delivery, Error, ErrorKind, Event, LeaseEvent, Operation, Renewal};

use crate::support::rig::{GROUP, Rig, TOPIC, builder};
use crate::support::{next, nothing_for, numbered, secs, send_all, take, within};

/// One message, held by the one consumer.
async fn holding(
    change: impl FnOnce(rocketmq_stream::SimpleConsumerBuilder) -> rocketmq_stream::SimpleConsumerBuilder,
) -> (Rig, rocketmq_stream::SimpleConsumer, Delivery) {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, ["held"]).await;
    let mut consumer = change(rig.consuming()).build().await.expect("build");
    let delivery = next(&mut consumer).await;
    (rig, consumer, delivery)
}

#[tokio::test(start_paused = true)]
async fn r7_an_expired_lease_is_not_retried_and_says_it_will_come_again() {
    let (rig, mut consumer, delivery) = holding(|b| b.invisible_duration(secs(10)).renewal(Renewal::Off)).await;
    tokio::time::sleep(secs(11)).await;
    let error = delivery.ack().await.expect_err("the lease is over");
    assert_eq!(error, AckError::LeaseExpired);
    assert!(error.to_string().contains("will be delivered again"), "{error}");
    let error = Error::from(error);
    assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidReceipt, Some(Operation::Ack)));
    assert_eq!(next(&mut consumer).await.message().delivery_attempt(), 2);
    assert!(rig.broker.calls(Rpc::AckMessage) <= 1, "an expired handle is not retried");
}

#[tokio::test(start_paused = true)]
async fn r7_a_lease_that_the_server_calls_expired_is_not_retried_either() {
    let (rig, mut consumer, delivery) = holding(|b| b).await;
    rig.broker.faults().on(Rpc::AckMessage).always().status(40013, "receipt handle is expired");
    let error = within(secs(5), "the answer", delivery.ack()).await.expect_err("the server has ended the lease");
    assert!(error.to_string().contains("will be delivered again"), "{error}");
    assert_eq!(rig.broker.calls(Rpc::AckMessage), 1, "\"receipt handle is expired\" is final");
    rig.broker.faults().clear();
    rig.broker.expire_leases();
    let again = next(&mut consumer).await;
    assert_eq!(again.message().delivery_attempt(), 2);
    again.ack().await.expect("ack");
}

#[tokio::test(start_paused = true)]
async fn r6_a_failed_renewal_does_not_spoil_the_handle() {
    let (rig, mut consumer, delivery) = holding(|b| b.invisible_duration(secs(10))).await;
    // An answer that is an error carries an empty handle.
    let failed = rig.broker.faults().on(Rpc::ChangeInvisibleDuration).status(50001, "the store is busy");
    nothing_for(secs(9), &mut consumer).await;
    assert_eq!(failed.hits(), 1);
    nothing_for(secs(10), &mut consumer).await;
    delivery.ack().await.expect("the handle is still the right one");
    nothing_for(secs(15), &mut consumer).await;
    assert_eq!(rig.broker.stats().redelivered, 0);
}

#[tokio::test(start_paused = true)]
async fn r18_a_nack_whose_reply_is_lost_is_not_repeated() {
    let (rig, mut consumer, delivery) = holding(|b| b).await;
    rig.broker.faults().on(Rpc::ChangeInvisibleDuration).lose_reply();
    let error = within(secs(30), "the answer", delivery.nack(secs(5))).await.expect_err("no reply came");
    assert_eq!(error, AckError::Unknown);
    let again = next(&mut consumer).await;
    assert_eq!(again.message().delivery_attempt(), 2);
    again.ack().await.expect("ack");
    nothing_for(secs(120), &mut consumer).await;
    assert_eq!(rig.broker.calls(Rpc::ChangeInvisibleDuration), 1, "each repeat makes a copy of the message");
    assert_eq!(rig.broker.stats().delivered, 2);
}

#[tokio::test(start_paused = true)]
async fn r18_a_dead_letter_whose_reply_is_lost_is_not_repeated() {
    let (rig, mut consumer, delivery) = holding(|b| b).await;
    rig.broker.faults().on(Rpc::ForwardMessageToDeadLetterQueue).lose_reply();
    let error = within(secs(30), "the answer", delivery.dead_letter()).await.expect_err("no reply came");
    assert_eq!(error, AckError::Unknown);
    nothing_for(secs(120), &mut consumer).await;
    assert_eq!(rig.broker.calls(Rpc::ForwardMessageToDeadLetterQueue), 1);
    assert_eq!(rig.broker.dead_letters(GROUP).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn r18_a_renewal_whose_reply_is_lost_is_not_repeated_and_the_ack_does_not_claim_success() {
    let (rig, mut consumer, delivery) = holding(|b| b.invisible_duration(secs(10))).await;
    let lost = rig.broker.faults().on(Rpc::ChangeInvisibleDuration).lose_reply();
    tokio::time::sleep(secs(12)).await;
    assert_eq!(lost.hits(), 1, "it was renewed once");
    let answer = delivery.ack().await;
    assert!(answer.is_err(), "the handle is an old one: an ack with it does nothing, whatever the server says");
    let again = next(&mut consumer).await;
    again.ack().await.expect("ack");
    nothing_for(secs(60), &mut consumer).await;
    assert_eq!(rig.broker.calls(Rpc::ChangeInvisibleDuration), 1);
    assert_eq!(rig.broker.stats().delivered, 2, "one lost reply makes no copies");
}

#[tokio::test(start_paused = true)]
async fn an_ack_whose_reply_is_lost_is_repeated_and_succeeds() {
    let (rig, mut consumer, delivery) = holding(|b| b).await;
    let lost = rig.broker.faults().on(Rpc::AckMessage).times(2).lose_reply();
    within(secs(25), "the ack", delivery.ack()).await.expect("an ack may be repeated");
    assert_eq!((lost.hits(), rig.broker.in_flight(GROUP, TOPIC)), (2, 0));
    nothing_for(secs(60), &mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn an_ack_that_is_never_answered_says_that_it_does_not_know() {
    let (rig, _consumer, delivery) = holding(|b| b.invisible_duration(secs(10)).renewal(Renewal::Off)).await;
    rig.broker.faults().on(Rpc::AckMessage).always().lose_reply();
    let error = within(secs(15), "the answer, when the lease is over", delivery.ack()).await.expect_err("no reply");
    assert_eq!(error, AckError::Unknown, "it was acted on, for all we know");
}

#[tokio::test(start_paused = true)]
async fn an_ack_that_was_duplicated_on_the_way_is_one_ack() {
    let (rig, mut consumer, delivery) = holding(|b| b).await;
    rig.broker.faults().on(Rpc::AckMessage).duplicate();
    delivery.ack().await.expect("ack");
    nothing_for(secs(60), &mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn r19_an_invalid_handle_while_a_broker_is_away_is_retried_while_the_lease_lasts() {
    let (rig, mut consumer, delivery) = holding(|b| b).await;
    let text = "cannot find broker broker-a";
    let refused = rig.broker.faults().on(Rpc::AckMessage).times(3).status(40013, text);
    within(secs(28), "the ack", delivery.ack()).await.expect("the handle was good all the time");
    assert_eq!(refused.hits(), 3);
    nothing_for(secs(60), &mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn r19_acks_go_through_when_the_broker_comes_back_in_time() {
    let (rig, mut consumer, delivery) = holding(|b| b.invisible_duration(secs(60))).await;
    rig.broker.stop_broker(0);
    let ack = tokio::spawn(delivery.ack());
    tokio::time::sleep(secs(20)).await; // beyond the 10 s after which it is out of the routes
    rig.broker.start_broker(0);
    within(secs(30), "the ack", ack).await.expect("no panic").expect("the lease lasted");
    assert_eq!(rig.broker.in_flight(GROUP, TOPIC), 0);
    nothing_for(secs(90), &mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn acks_are_batched_without_a_timer() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, numbered(128)).await;
    let mut consumer = rig.consumer().await;
    let alone = next(&mut consumer).await;
    let began = tokio::time::Instant::now();
    alone.ack().await.expect("ack");
    assert!(began.elapsed() < Duration::from_millis(1), "a lone ack waits for nothing, not {:?}", began.elapsed());
    assert_eq!(rig.broker.calls(Rpc::AckMessage), 1);
    let rest = take(&mut consumer, 127).await;
    for answer in join_all(rest.into_iter().map(Delivery::ack)).await {
        answer.expect("ack");
    }
    assert!(began.elapsed() < Duration::from_millis(50), "no timer: {:?}", began.elapsed());
    let calls = rig.broker.calls(Rpc::AckMessage);
    assert!((3..=8).contains(&calls), "127 acks at 64 each, the first at once: {calls} requests");
}

#[tokio::test(start_paused = true)]
async fn r23_a_leaked_delivery_is_hidden_no_longer_than_the_longest_lease() {
    let (rig, mut consumer, stuck) = holding(|b| b.invisible_duration(secs(10)).max_lease(secs(60))).await;
    let mut events = consumer.control().events();
    let began = tokio::time::Instant::now();
    nothing_for(secs(50), &mut consumer).await;
    assert!(!stuck.receipt().is_lost());
    within(secs(25), "the loss of the lease", stuck.lost()).await;
    assert!((secs(50)..=secs(71)).contains(&began.elapsed()), "{:?}", began.elapsed());
    let again = within(secs(20), "the message again", next(&mut consumer)).await;
    assert_eq!((again.message().id(), again.message().delivery_attempt()), (stuck.message().id(), 2));
    assert_eq!(stuck.ack().await, Err(AckError::LeaseExpired));
    let event = within(secs(1), "an event", events.next()).await.expect("the consumer lives");
    assert!(matches!(event, Event::Lease(LeaseEvent::Lost { .. })), "{event:?}");
    again.ack().await.expect("ack");
    assert_eq!(rig.broker.stats().acked, 1);
}

#[tokio::test(start_paused = true)]
async fn r23_a_receipt_that_is_dropped_is_counted_and_told_and_comes_again() {
    let (rig, mut consumer, delivery) = holding(|b| b.invisible_duration(secs(10))).await;
    let control = consumer.control();
    let mut events = control.events();
    drop(delivery);
    let event = within(secs(1), "an event", events.next()).await.expect("the consumer lives");
    assert!(matches!(event, Event::Lease(LeaseEvent::Dropped { .. })), "{event:?}");
    assert_eq!((control.stats().leases.dropped, control.stats().leases.held), (1, 0));
    let again = within(secs(15), "the message again: it is not renewed any more", next(&mut consumer)).await;
    assert_eq!(again.message().delivery_attempt(), 2);
    assert_eq!(rig.broker.calls(Rpc::ChangeInvisibleDuration), 0, "nothing is sent for a dropped receipt");
}

#[tokio::test(start_paused = true)]
async fn a_settlement_that_failed_unseen_is_an_event() {
    let (rig, consumer, delivery) = holding(|b| b).await;
    let mut events = consumer.control().events();
    rig.broker.faults().on(Rpc::AckMessage).status(40013, "receipt handle is expired");
    drop(delivery.ack());
    let event = within(secs(10), "an event", events.next()).await.expect("the consumer lives");
    assert!(matches!(event, Event::Lease(LeaseEvent::NotSettled { .. })), "{event:?}");
}

#[tokio::test(start_paused = true)]
async fn an_ack_is_sent_although_nobody_waits_for_it() {
    let (rig, mut consumer, delivery) = holding(|b| b).await;
    drop(delivery.ack());
    crate::support::eventually(secs(5), "the ack", || rig.broker.stats().acked == 1).await;
    nothing_for(secs(60), &mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_for_an_hour_with_few_requests() {
    let (rig, mut consumer, delivery) = holding(|b| b).await;
    nothing_for(secs(3600), &mut consumer).await;
    let renewals = consumer.control().stats().leases.renewals;
    // At two thirds of 30 s: one in 20 s.
    assert!((120..=360).contains(&renewals), "{renewals} renewals in an hour");
    delivery.ack().await.expect("ack");
    nothing_for(secs(60), &mut consumer).await;
    assert_eq!(rig.broker.stats().redelivered, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_server_renews_is_acked_with_its_first_handle() {
    let (rig, mut consumer, delivery) = holding(|b| b.renewal(Renewal::Server)).await;
    nothing_for(secs(300), &mut consumer).await;
    assert_eq!(rig.broker.calls(Rpc::ChangeInvisibleDuration), 0, "the server does it");
    delivery.ack().await.expect("ack");
    nothing_for(secs(120), &mut consumer).await;
    assert_eq!(rig.broker.stats().redelivered, 0);
}

#[tokio::test(start_paused = true)]
async fn r9_an_ack_reaches_the_broker_by_another_proxy_when_its_own_is_away() {
    for stopped in [0, 1] {
        let rig = Rig::start(builder().proxies(2)).await;
        send_all(&rig.producer().await, TOPIC, ["held"]).await;
        let mut consumer = rig.consuming().invisible_duration(secs(120)).build().await.expect("build");
        let delivery = next(&mut consumer).await;
        rig.broker.stop_proxy(stopped).await.expect("stop");
        within(secs(60), "the ack", delivery.ack()).await.expect("a handle names its broker, not its proxy");
        assert_eq!(rig.broker.stats().acked, 1);
    }
}
