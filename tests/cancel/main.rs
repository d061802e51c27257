//! Every public future and stream is polled N times and dropped, for each N: nothing is lost, nothing leaks.
#![allow(
    clippy::disallowed_methods,
    clippy::future_not_send,
    reason = "the rules on time, tasks and threads are for the library; tests are its users"
)]

mod pull;
#[path = "../support/mod.rs"]
mod support;

use std::pin::{Pin, pin};
use std::time::Duration;

use futures::future::poll_fn;
use futures::prelude::*;
use rocketmq_stream::embedded::Rpc;
use rocketmq_stream::{Filter, OutboundMessage, SendStreamExt};

use support::rig::{GROUP, Rig, TOPIC, builder};
use support::{eventually, next, nothing_for, numbered, secs, send_all, sorted, take, take_acked, text, within};

/// Polls a future at most so often, giving everyone else a turn between; `None` when it was not done by then.
async fn poll_times<F: Future>(mut future: Pin<&mut F>, times: usize) -> Option<F::Output> {
    for _ in 0..times {
        let polled = poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await;
        if let std::task::Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Enough polls for any of these futures to be done when nothing waits for time.
const MOST: usize = 40;

#[tokio::test(start_paused = true)]
async fn e4_next_takes_no_message_when_it_is_dropped() {
    for polls in 0..MOST {
        let rig = Rig::start(builder()).await;
        send_all(&rig.producer().await, TOPIC, numbered(8)).await;
        let mut consumer = rig.consumer().await;
        let mut bodies = Vec::new();
        // Every second `next` is dropped after so many polls.
        while bodies.len() < 8 {
            let taken = poll_times(pin!(consumer.next()), polls).await;
            let delivery = match taken {
                Some(item) => item.expect("it goes on").expect("a delivery"),
                None => next(&mut consumer).await,
            };
            assert_eq!(delivery.message().delivery_attempt(), 1);
            bodies.push(text(delivery.message()).to_owned());
            delivery.ack().await.expect("ack");
        }
        assert_eq!(sorted(bodies), sorted(numbered(8)), "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_send_that_is_dropped_was_sent_once_or_never() {
    for polls in 0..MOST {
        let rig = Rig::start(builder()).await;
        let producer = rig.producer().await;
        let sent = poll_times(pin!(producer.send(OutboundMessage::new(TOPIC, "dropped"))), polls).await;
        producer.flush().await.expect("flush");
        let stored = rig.broker.messages(TOPIC).len();
        assert!(stored <= 1, "{polls} polls: {stored} copies");
        assert!(sent.is_none() || stored == 1, "{polls} polls: it was answered");
        assert!(polls == 0 || stored == 1, "{polls} polls: there was room, so it was accepted");
        // Its place is free again.
        let report = within(secs(10), "shutdown", producer.shutdown(secs(5))).await;
        assert!(report.is_clean(), "{polls} polls: {report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_send_that_waits_for_room_and_is_dropped_sends_nothing_and_takes_no_room() {
    for polls in 0..10 {
        let rig = Rig::start(builder()).await;
        let producer = rig.client.producer().max_in_flight(1).build().await.expect("build");
        rig.broker.faults().on(Rpc::SendMessage).delay(secs(1));
        let first = tokio::spawn({
            let producer = producer.clone();
            async move { producer.send(OutboundMessage::new(TOPIC, "first")).await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let waiting = poll_times(pin!(producer.send(OutboundMessage::new(TOPIC, "waits"))), polls).await;
        assert!(waiting.is_none(), "there is no room");
        let third = producer.send(OutboundMessage::new(TOPIC, "third"));
        within(secs(10), "a send after the dropped one", third).await.expect("send");
        first.await.expect("no panic").expect("send");
        let bodies: Vec<_> = rig.broker.messages(TOPIC).into_iter().map(|message| message.body).collect();
        assert_eq!(bodies, ["first", "third"], "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn e4_settlements_go_on_without_their_futures() {
    for polls in 0..MOST {
        let rig = Rig::start(builder()).await;
        send_all(&rig.producer().await, TOPIC, numbered(3)).await;
        let mut consumer = rig.consumer().await;
        let deliveries = take(&mut consumer, 3).await;
        let [acked, nacked, dead] = <[_; 3]>::try_from(deliveries).expect("three");
        let ack = poll_times(pin!(acked.ack()), polls).await;
        let nack = poll_times(pin!(nacked.nack(secs(1))), polls).await;
        let dead = poll_times(pin!(dead.dead_letter()), polls).await;
        assert!([ack, nack, dead].into_iter().flatten().all(|answer| answer.is_ok()));
        let again = next(&mut consumer).await;
        assert_eq!(again.message().delivery_attempt(), 2, "the nack took place");
        again.ack().await.expect("ack");
        nothing_for(secs(60), &mut consumer).await;
        assert_eq!(rig.broker.dead_letters(GROUP).len(), 1);
        let leases = consumer.control().stats().leases;
        assert_eq!((leases.acked, leases.nacked, leases.dead_lettered), (2, 1, 1), "{polls} polls");
        assert_eq!(rig.broker.in_flight(GROUP, TOPIC), 0, "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn e4_an_extension_goes_on_without_its_future_and_the_ack_after_it_counts() {
    for polls in 0..10 {
        let rig = Rig::start(builder()).await;
        send_all(&rig.producer().await, TOPIC, ["extended"]).await;
        let mut consumer = rig.consumer().await;
        let delivery = next(&mut consumer).await;
        drop(poll_times(pin!(delivery.extend(secs(300))), polls).await);
        delivery.ack().await.expect("ack");
        nothing_for(secs(400), &mut consumer).await;
        assert_eq!(rig.broker.stats().acked, 1, "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_plain_receive_that_is_dropped_gives_back_what_had_arrived() {
    for polls in 0..MOST {
        let rig = Rig::start(builder()).await;
        send_all(&rig.producer().await, TOPIC, numbered(5)).await;
        let receiver = rig.consuming().build_receiver().await.expect("build");
        let received = poll_times(pin!(receiver.receive(5, secs(600))), polls).await;
        if let Some(received) = received {
            assert_eq!(received.expect("receive").len(), 5);
            continue;
        }
        // Long before the 600 s are over. One whose messages were on the wire when it was dropped is given back by the
        // server, which notices that nobody reads.
        let all = async {
            let mut bodies = Vec::new();
            while bodies.len() < 5 {
                for delivery in receiver.receive(5, secs(600)).await.expect("receive") {
                    assert_eq!(delivery.message().delivery_attempt(), 1, "{polls} polls");
                    bodies.push(text(delivery.message()).to_owned());
                    delivery.ack().await.expect("ack");
                }
            }
            bodies
        };
        let bodies = within(secs(60), format!("all messages after {polls} polls"), all).await;
        assert_eq!(sorted(bodies), sorted(numbered(5)), "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_consumer_that_is_dropped_at_any_moment_loses_nothing() {
    for polls in 0..MOST {
        let rig = Rig::start(builder()).await;
        send_all(&rig.producer().await, TOPIC, numbered(5)).await;
        let mut first = rig.consuming().invisible_duration(secs(600)).build().await.expect("build");
        let seen = poll_times(pin!(first.next()), polls).await;
        drop(first);
        let seen = seen.map(|item| item.expect("it goes on").expect("a delivery"));
        let mut bodies: Vec<_> = seen.iter().map(|delivery| text(delivery.message()).to_owned()).collect();
        let mut second = rig.consumer().await;
        let left = 5 - bodies.len();
        for delivery in within(secs(60), format!("the rest, {polls} polls"), take(&mut second, left)).await {
            assert_eq!(delivery.message().delivery_attempt(), 1, "{polls} polls");
            bodies.push(text(delivery.message()).to_owned());
        }
        assert_eq!(sorted(bodies), sorted(numbered(5)), "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_build_that_is_dropped_leaves_no_client_behind() {
    for polls in 0..MOST {
        let rig = Rig::start(builder()).await;
        drop(poll_times(pin!(rig.consuming().build()), polls).await);
        drop(poll_times(pin!(rig.client.producer().topic(TOPIC).build()), polls).await);
        let gone = || rig.broker.clients(0).is_empty();
        eventually(secs(200), format!("goodbye after {polls} polls"), gone).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_subscription_that_is_dropped_was_made_or_not() {
    for polls in 0..MOST {
        let rig = Rig::start(builder()).await;
        let other = rig.create_topic(1);
        let producer = rig.producer().await;
        let mut consumer = rig.consumer().await;
        let control = consumer.control();
        let made = poll_times(pin!(control.subscribe(&other, Filter::all())), polls).await;
        if made.is_none() {
            control.unsubscribe(&other);
        }
        // Whatever became of it, the consumer and another attempt work.
        control.subscribe(&other, Filter::all()).await.expect("subscribe");
        send_all(&producer, TOPIC, ["old"]).await;
        send_all(&producer, &other, ["new"]).await;
        assert_eq!(sorted(take_acked(&mut consumer, 2).await), ["new", "old"], "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_shutdown_that_is_dropped_can_be_asked_for_again() {
    for polls in 0..MOST {
        let rig = Rig::start(builder()).await;
        let producer = rig.producer().await;
        send_all(&producer, TOPIC, numbered(5)).await;
        let mut consumer = rig.consuming().invisible_duration(secs(600)).build().await.expect("build");
        let control = consumer.control();
        drop(next(&mut consumer).await.ack());
        let _ = poll_times(pin!(control.shutdown(secs(5))), polls).await;
        let report = within(secs(20), "shutdown", control.shutdown(secs(5))).await;
        assert!(report.complete, "{polls} polls: {report:?}");
        drop(poll_times(pin!(producer.shutdown(secs(5))), polls).await);
        assert!(within(secs(20), "shutdown", producer.shutdown(secs(5))).await.is_clean(), "{polls} polls");
        eventually(secs(10), "goodbyes", || rig.broker.clients(0).is_empty()).await;
        tokio::time::sleep(secs(5)).await;
        assert_eq!(rig.broker.in_flight(GROUP, TOPIC), 0, "{polls} polls");
        assert_eq!((rig.broker.stats().acked, rig.broker.waiting(GROUP, TOPIC)), (1, 4), "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_flush_that_is_dropped_cancels_nothing() {
    for polls in 0..MOST {
        let rig = Rig::start(builder()).await;
        let producer = rig.producer().await;
        let mut sink = producer.sink();
        for body in numbered(5) {
            sink.feed(OutboundMessage::new(TOPIC, body)).await.expect("feed");
        }
        drop(poll_times(pin!(sink.flush()), polls).await);
        drop(poll_times(pin!(producer.flush()), polls).await);
        sink.close().await.expect("close");
        assert_eq!(rig.broker.messages(TOPIC).len(), 5, "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_sink_send_that_is_dropped_was_sent_once_or_never() {
    for polls in 0..MOST {
        let rig = Rig::start(builder()).await;
        let producer = rig.producer().await;
        let mut sink = producer.sink();
        drop(poll_times(pin!(sink.send(OutboundMessage::new(TOPIC, "maybe"))), polls).await);
        drop(sink);
        producer.flush().await.expect("flush");
        let stored = rig.broker.messages(TOPIC).len();
        assert!(stored <= 1, "{polls} polls");
        assert!(producer.shutdown(secs(5)).await.is_clean(), "{polls} polls: no place was lost");
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_send_with_that_is_dropped_sends_what_it_took_once() {
    for polls in 0..MOST {
        let rig = Rig::start(builder()).await;
        let producer = rig.producer().await;
        let taken = std::cell::Cell::new(0);
        {
            let items = numbered(6).map(|body| {
                taken.set(taken.get() + 1);
                Ok::<_, rocketmq_stream::Error>((OutboundMessage::new(TOPIC, body), ()))
            });
            let mut sending = stream::iter(items).send_with(&producer, 2);
            drop(poll_times(pin!(sending.next()), polls).await);
            // `next` is cancel safe too: the stream goes on where it was.
            drop(poll_times(pin!(sending.next()), polls).await);
        }
        producer.flush().await.expect("flush");
        let stored = rig.broker.messages(TOPIC).len();
        assert!(stored <= taken.get() && taken.get() <= stored + 1, "{polls} polls: {stored} of {}", taken.get());
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_wait_for_health_or_for_a_lost_lease_can_be_dropped() {
    for polls in 0..10 {
        let rig = Rig::start(builder()).await;
        send_all(&rig.producer().await, TOPIC, ["held"]).await;
        let builder = rig.consuming().invisible_duration(secs(10)).max_lease(secs(10));
        let mut consumer = builder.build().await.expect("build");
        let mut health = consumer.control().health();
        let delivery = next(&mut consumer).await;
        let _ = poll_times(pin!(health.changed()), polls).await;
        let _ = poll_times(pin!(delivery.lost()), polls).await;
        within(secs(20), "the loss", delivery.lost()).await;
        rig.broker.stop_proxy(0).await.expect("stop");
        within(secs(60), "a change of health", health.changed()).await.expect("it goes on");
    }
}
