//! What goes over the wire, seen by a tap between client and broker.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use futures::prelude::*;
use rocketmq_stream::{AckError, Client, Delivery, ErrorKind, Filter, RouteEndpoints, SimpleConsumerBuilder};

use crate::proto::receive_message_response::Content;
use crate::proto::{self, settings::PubSub};
use crate::support::rig::{GROUP, Rig, TOPIC, builder};
use crate::support::{next, nothing_for, numbered, secs, send_all, sorted, take, take_acked, within};
use crate::tap::{Seen, Tap};

/// A broker, a tap before it, and a client of the tap. Messages are sent past the tap.
struct Tapped {
    rig: Rig,
    tap: Tap,
    client: Client,
}

impl Tapped {
    async fn start() -> Self {
        let rig = Rig::start(builder()).await;
        let tap = Tap::to(&rig.broker.access_point()).await;
        let client = Client::builder().access_point(tap.access_point()).route_endpoints(RouteEndpoints::AccessPoint);
        let client = client.build().expect("a client");
        Self { rig, tap, client }
    }

    fn consuming(&self) -> SimpleConsumerBuilder {
        self.client.simple_consumer(GROUP).subscribe(TOPIC, Filter::all())
    }

    async fn send(&self, count: usize) {
        send_all(&self.rig.producer().await, TOPIC, numbered(count)).await;
    }

    fn receives(&self) -> Vec<(proto::ReceiveMessageRequest, Option<Duration>)> {
        let receive = |seen| match seen {
            Seen::Receive { request, deadline } => Some((request, deadline)),
            _ => None,
        };
        self.tap.seen().into_iter().filter_map(receive).collect()
    }

    fn acks(&self) -> Vec<proto::AckMessageRequest> {
        let ack = |seen| if let Seen::Ack(request) = seen { Some(request) } else { None };
        self.tap.seen().into_iter().filter_map(ack).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn r1_settings_come_before_the_first_receive_and_again_after_every_reconnect() {
    let tapped = Tapped::start().await;
    tapped.send(1).await;
    let mut consumer = tapped.consuming().build().await.expect("build");
    take_acked(&mut consumer, 1).await;
    for _ in 0..3 {
        let seen = tapped.tap.seen();
        let settings = seen.iter().position(|seen| matches!(seen, Seen::Settings(_))).expect("settings are sent");
        let receive = seen.iter().position(|seen| matches!(seen, Seen::Receive { .. })).expect("a receive");
        assert!(settings < receive, "{seen:#?}");
        // The broker behind the tap forgets the client; its streams end.
        tapped.rig.broker.stop_proxy(0).await.expect("stop");
        tokio::time::sleep(secs(3)).await;
        tapped.tap.forget();
        tapped.rig.broker.start_proxy(0).await.expect("start");
        tapped.send(1).await;
        within(secs(60), "a message after the restart", take_acked(&mut consumer, 1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn r2_each_field_of_the_servers_settings_is_read_on_its_own() {
    type Change = fn(&mut proto::Settings);
    let changes: [(&str, Change); 6] = [
        ("metric", |settings| settings.metric = None),
        ("backoff_policy", |settings| settings.backoff_policy = None),
        ("request_timeout", |settings| settings.request_timeout = None),
        ("user_agent", |settings| settings.user_agent = None),
        ("access_point", |settings| settings.access_point = None),
        ("everything but the subscription", |settings| {
            *settings = proto::Settings { pub_sub: settings.pub_sub.take(), ..proto::Settings::default() };
        }),
    ];
    for (name, change) in changes {
        let tapped = Tapped::start().await;
        tapped.tap.change(|changes| changes.settings = Some(Box::new(change)));
        tapped.rig.broker.create_group(rocketmq_stream::embedded::GroupOptions::new("ordered").fifo(true)).expect("g");
        tapped.send(1).await;
        let mut consumer = tapped.consuming().build().await.unwrap_or_else(|error| panic!("without {name}: {error}"));
        take_acked(&mut consumer, 1).await;
        // What is there still counts.
        let fifo = tapped.client.simple_consumer("ordered").subscribe(TOPIC, Filter::all()).build().await;
        assert_eq!(fifo.expect_err("a FIFO group").kind(), ErrorKind::Unsupported, "without {name}");
        let producer = tapped.client.producer().topic(TOPIC).build().await;
        producer.unwrap_or_else(|error| panic!("without {name}: {error}"));
    }
}

#[tokio::test(start_paused = true)]
async fn r2_settings_without_any_field_still_work() {
    let tapped = Tapped::start().await;
    tapped.tap.change(|changes| changes.settings = Some(Box::new(|settings| *settings = proto::Settings::default())));
    tapped.send(1).await;
    let mut consumer = tapped.consuming().build().await.expect("build");
    take_acked(&mut consumer, 1).await;
}

#[tokio::test(start_paused = true)]
async fn r2_a_receive_batch_the_server_announces_is_kept() {
    let tapped = Tapped::start().await;
    tapped.tap.change(|changes| {
        changes.settings = Some(Box::new(|settings| {
            if let Some(PubSub::Subscription(subscription)) = &mut settings.pub_sub {
                subscription.receive_batch_size = Some(7);
            }
        }));
    });
    tapped.send(30).await;
    let mut consumer = tapped.consuming().build().await.expect("build");
    take_acked(&mut consumer, 30).await;
    let sizes: HashSet<_> = tapped.receives().iter().map(|(request, _)| request.batch_size).collect();
    assert!(sizes.iter().all(|size| (1..=7).contains(size)), "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn r3_the_deadline_of_a_receive_outlives_its_poll_by_three_seconds_at_least() {
    for await_seconds in [1, 4, 5, 20, 90] {
        let tapped = Tapped::start().await;
        let mut consumer = tapped.consuming().await_duration(secs(await_seconds)).build().await.expect("build");
        nothing_for(secs(50), &mut consumer).await;
        let receives = tapped.receives();
        assert!(receives.len() >= 2, "await {await_seconds} s: {} receives in 50 s", receives.len());
        for (request, deadline) in receives {
            let deadline = deadline.expect("a server refuses a receive without a deadline");
            let poll = request.long_polling_timeout.expect("the await duration is asked for");
            let poll = secs(u64::try_from(poll.seconds).expect("not negative"));
            assert_eq!(poll, secs(await_seconds));
            // Apache's proxy polls for 5 s at least and 20 s at most, whatever it is asked for.
            assert!(deadline >= poll.max(secs(5)) + secs(3) - Duration::from_millis(50), "{poll:?}: {deadline:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn r5_the_rotation_over_brokers_starts_anywhere() {
    let rig = Rig::start(builder().brokers(4).polling(Duration::ZERO, secs(1))).await;
    let tap = Tap::to(&rig.broker.access_point()).await;
    let client = Client::builder().access_point(tap.access_point()).route_endpoints(RouteEndpoints::AccessPoint);
    let client = client.build().expect("a client");
    let mut first = HashSet::new();
    for _ in 0..40 {
        tap.forget();
        let receiver = client.simple_consumer(GROUP).subscribe(TOPIC, Filter::all()).await_duration(secs(1));
        let receiver = receiver.build_receiver().await.expect("build");
        let mut round = HashSet::new();
        for n in 0..4 {
            receiver.receive(1, secs(10)).await.expect("receive");
            let broker = tap.seen().into_iter().rev().find_map(|seen| match seen {
                Seen::Receive { request, .. } => request.message_queue?.broker.map(|broker| broker.name),
                _ => None,
            });
            let broker = broker.expect("a receive names its broker");
            if n == 0 {
                first.insert(broker.clone());
            }
            round.insert(broker);
        }
        assert_eq!(round.len(), 4, "each broker has its turn");
    }
    assert!(first.len() >= 3, "40 consumers all began at {first:?}");
}

#[tokio::test(start_paused = true)]
async fn r5_streams_begin_at_any_broker() {
    let rig = Rig::start(builder().brokers(4)).await;
    let tap = Tap::to(&rig.broker.access_point()).await;
    let client = Client::builder().access_point(tap.access_point()).route_endpoints(RouteEndpoints::AccessPoint);
    let client = client.build().expect("a client");
    let mut first = HashSet::new();
    for _ in 0..40 {
        tap.forget();
        let mut consumer = client.simple_consumer(GROUP).subscribe(TOPIC, Filter::all()).build().await.expect("build");
        nothing_for(secs(1), &mut consumer).await;
        first.extend(tap.seen().into_iter().find_map(|seen| match seen {
            Seen::Receive { request, .. } => request.message_queue?.broker.map(|broker| broker.name),
            _ => None,
        }));
    }
    assert!(first.len() >= 3, "40 consumers all began at {first:?}");
}

#[tokio::test(start_paused = true)]
async fn r5_brokers_take_turns_when_there_is_room_for_one_receive_only() {
    let rig = Rig::start(builder().brokers(3)).await;
    let brokers = rig.broker.queues(TOPIC);
    for queue in &brokers {
        for body in numbered(30) {
            rig.broker.append(queue, rocketmq_stream::OutboundMessage::new(TOPIC, body)).expect("appended");
        }
    }
    let mut consumer = rig.consuming().max_buffered_messages(1).build().await.expect("build");
    let mut seen = HashSet::new();
    for delivery in take(&mut consumer, 12).await {
        seen.extend(delivery.message().broker().map(ToOwned::to_owned));
        delivery.ack().await.expect("ack");
    }
    assert_eq!(seen.len(), brokers.len(), "one full broker starves no other: {seen:?}");
}

#[tokio::test(start_paused = true)]
async fn r8_a_mixed_answer_in_another_order_is_told_to_each_its_own() {
    let tapped = Tapped::start().await;
    tapped.send(30).await;
    let mut consumer = tapped.consuming().build().await.expect("build");
    let deliveries = take(&mut consumer, 30).await;
    let ids: Vec<_> = deliveries.iter().map(|delivery| delivery.message().id().to_owned()).collect();
    let refused: HashSet<_> = ids.iter().step_by(4).cloned().collect();
    tapped.tap.change(|changes| {
        let refused = refused.clone();
        changes.acked = Some(Box::new(move |answer| {
            for entry in &mut answer.entries {
                if refused.contains(&entry.message_id) {
                    entry.status = Some(proto::Status { code: 40013, message: "receipt handle is expired".into() });
                }
            }
            answer.status = Some(proto::Status { code: 30000, message: "ok".into() });
            answer.entries.reverse();
        }));
    });
    let answers = join_all(deliveries.into_iter().map(Delivery::ack)).await;
    for (id, answer) in ids.iter().zip(answers) {
        assert_eq!(answer.is_err(), refused.contains(id), "{id}: {answer:?}");
    }
    let acks = tapped.acks();
    assert!(acks.len() < 30, "several share a request");
    assert!(acks.iter().all(|request| request.entries.len() <= 64));
}

#[tokio::test(start_paused = true)]
async fn r8_an_entry_that_is_missing_in_the_answer_is_not_acked() {
    let tapped = Tapped::start().await;
    tapped.send(1).await;
    let mut consumer = tapped.consuming().invisible_duration(secs(10)).build().await.expect("build");
    let delivery = next(&mut consumer).await;
    tapped.tap.change(|changes| changes.acked = Some(Box::new(|answer| answer.entries.clear())));
    let answer = within(secs(120), "an answer", delivery.ack()).await;
    assert!(answer.is_err(), "nothing said that this message was acked");
}

#[tokio::test(start_paused = true)]
async fn r6_the_newest_handle_is_the_one_that_is_used() {
    let tapped = Tapped::start().await;
    tapped.send(1).await;
    let mut consumer = tapped.consuming().invisible_duration(secs(10)).build().await.expect("build");
    let delivery = next(&mut consumer).await;
    nothing_for(secs(25), &mut consumer).await;
    delivery.ack().await.expect("ack");
    let changed: Vec<_> = tapped.tap.seen();
    let mut handles: Vec<String> = Vec::new();
    for seen in &changed {
        match seen {
            Seen::Change(request) => handles.push(request.receipt_handle.clone()),
            Seen::Ack(request) => handles.push(request.entries[0].receipt_handle.clone()),
            _ => {}
        }
    }
    assert!(handles.len() >= 3, "two renewals and an ack: {handles:?}");
    let distinct: HashSet<_> = handles.iter().collect();
    assert_eq!(distinct.len(), handles.len(), "a handle was used twice: {handles:?}");
}

#[tokio::test(start_paused = true)]
async fn r6_an_empty_handle_in_an_answer_does_not_replace_a_good_one() {
    for failed in [true, false] {
        let tapped = Tapped::start().await;
        tapped.send(1).await;
        let mut consumer = tapped.consuming().invisible_duration(secs(10)).build().await.expect("build");
        let delivery = next(&mut consumer).await;
        tapped.tap.change(|changes| {
            changes.changed = Some(Box::new(move |answer| {
                answer.receipt_handle.clear();
                if failed {
                    answer.status = Some(proto::Status { code: 50001, message: "the store is busy".into() });
                }
            }));
        });
        nothing_for(secs(9), &mut consumer).await;
        let answer = within(secs(60), "an answer", delivery.ack()).await;
        // The renewal took place, and its handle is not known: nothing can be promised.
        assert!(failed || answer.is_err(), "{answer:?}");
        for ack in tapped.acks() {
            assert!(ack.entries.iter().all(|entry| !entry.receipt_handle.is_empty()), "{ack:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn r9_an_ack_names_the_topic_that_was_asked_for() {
    let tapped = Tapped::start().await;
    tapped.send(1).await;
    let mut consumer = tapped.consuming().build().await.expect("build");
    // A redelivery comes from a retry topic; it is acked under its own.
    next(&mut consumer).await.nack(Duration::ZERO).await.expect("nack");
    next(&mut consumer).await.dead_letter().await.expect("dead letter");
    let dead = format!("%DLQ%{GROUP}");
    let subscribed = tapped.client.simple_consumer("undertaker").subscribe(&dead, Filter::all());
    let mut letters = subscribed.build().await.expect("build");
    next(&mut letters).await.ack().await.expect("ack");
    let name = |topic: &Option<proto::Resource>| topic.as_ref().map(|topic| topic.name.clone()).unwrap_or_default();
    let mut topics = Vec::new();
    for seen in tapped.tap.seen() {
        match seen {
            Seen::Change(request) => topics.push(("change", name(&request.topic))),
            Seen::DeadLetter(request) => topics.push(("dead letter", name(&request.topic))),
            Seen::Ack(request) => topics.push(("ack", name(&request.topic))),
            _ => {}
        }
    }
    assert_eq!(topics, [("change", TOPIC.into()), ("dead letter", TOPIC.into()), ("ack", dead)]);
}

#[tokio::test(start_paused = true)]
async fn r10_an_unseen_message_is_released_with_suspend() {
    let tapped = Tapped::start().await;
    tapped.send(20).await;
    let mut consumer = tapped.consuming().build().await.expect("build");
    next(&mut consumer).await.ack().await.expect("ack");
    let control = consumer.control();
    assert!(control.shutdown(secs(10)).await.complete);
    let change = |seen| if let Seen::Change(request) = seen { Some(request) } else { None };
    let changes: Vec<_> = tapped.tap.seen().into_iter().filter_map(change).collect();
    assert_eq!(changes.len(), 19);
    assert!(changes.iter().all(|change| change.suspend == Some(true)), "{changes:?}");
    assert!(tapped.tap.seen().iter().any(|seen| matches!(seen, Seen::Goodbye)));
}

#[tokio::test(start_paused = true)]
async fn a_nack_costs_an_attempt_and_says_so() {
    let tapped = Tapped::start().await;
    tapped.send(1).await;
    let mut consumer = tapped.consuming().build().await.expect("build");
    next(&mut consumer).await.nack(secs(3)).await.expect("nack");
    let changes: Vec<_> = tapped.tap.seen();
    let change = changes.iter().find_map(|seen| if let Seen::Change(request) = seen { Some(request) } else { None });
    let change = change.expect("a nack is a change of the invisible duration");
    assert_ne!(change.suspend, Some(true));
    assert_eq!(change.invisible_duration.as_ref().map(|d| (d.seconds, d.nanos)), Some((3, 0)));
}

#[tokio::test(start_paused = true)]
async fn r17_a_server_whose_clock_is_off_by_a_day_changes_no_lease() {
    for offset in [-86_400, 86_400] {
        let tapped = Tapped::start().await;
        tapped.send(2).await;
        tapped.tap.change(|changes| {
            changes.frames = Some(Box::new(move |mut frames| {
                for frame in &mut frames {
                    match &mut frame.content {
                        Some(Content::DeliveryTimestamp(at)) => at.seconds += offset,
                        Some(Content::Message(message)) => {
                            let system = message.system_properties.get_or_insert_default();
                            for time in [&mut system.store_timestamp, &mut system.born_timestamp].into_iter().flatten()
                            {
                                time.seconds += offset;
                            }
                        }
                        _ => {}
                    }
                }
                frames
            }));
        });
        let mut consumer = tapped.consuming().invisible_duration(secs(10)).build().await.expect("build");
        let (one, two) = (next(&mut consumer).await, next(&mut consumer).await);
        nothing_for(secs(60), &mut consumer).await;
        assert!(!one.receipt().is_lost() && !two.receipt().is_lost(), "{offset} s");
        one.ack().await.expect("ack");
        two.ack().await.expect("ack");
        assert_eq!(tapped.rig.broker.stats().redelivered, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_receive_is_understood_in_any_order_of_its_frames() {
    let tapped = Tapped::start().await;
    tapped.send(5).await;
    // rocketmq-rust's order: timestamp, messages, status.
    tapped.tap.change(|changes| {
        changes.frames = Some(Box::new(|mut frames| {
            frames.reverse();
            frames
        }));
    });
    let mut consumer = tapped.consuming().build().await.expect("build");
    assert_eq!(sorted(take_acked(&mut consumer, 5).await), sorted(numbered(5)));
    nothing_for(secs(40), &mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn a_receive_without_status_or_timestamp_hands_out_its_messages() {
    let tapped = Tapped::start().await;
    tapped.send(5).await;
    tapped.tap.change(|changes| {
        changes.frames = Some(Box::new(|mut frames| {
            frames.retain(|frame| matches!(frame.content, Some(Content::Message(_))));
            frames
        }));
    });
    let mut consumer = tapped.consuming().build().await.expect("build");
    assert_eq!(sorted(take_acked(&mut consumer, 5).await), sorted(numbered(5)));
}

#[tokio::test(start_paused = true)]
async fn frames_without_content_are_passed_over() {
    let tapped = Tapped::start().await;
    tapped.send(3).await;
    tapped.tap.change(|changes| {
        changes.frames = Some(Box::new(|frames| {
            let empty = || proto::ReceiveMessageResponse { content: None };
            frames.into_iter().flat_map(|frame| [empty(), frame, empty()]).collect()
        }));
    });
    let mut consumer = tapped.consuming().build().await.expect("build");
    assert_eq!(sorted(take_acked(&mut consumer, 3).await), sorted(numbered(3)));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_twice_in_one_answer_is_handed_out_and_acked() {
    let tapped = Tapped::start().await;
    tapped.send(1).await;
    tapped.tap.change(|changes| {
        changes.frames = Some(Box::new(|frames| {
            let twice = |frame: proto::ReceiveMessageResponse| match frame.content {
                Some(Content::Message(_)) => vec![frame.clone(), frame],
                _ => vec![frame],
            };
            frames.into_iter().flat_map(twice).collect()
        }));
    });
    let mut consumer = tapped.consuming().build().await.expect("build");
    for delivery in take(&mut consumer, 1).await {
        let answer = within(secs(60), "an answer", delivery.ack()).await;
        assert!(matches!(answer, Ok(()) | Err(AckError::LeaseExpired)), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_look_up_serves_all_who_wait_for_a_route() {
    let tapped = Tapped::start().await;
    let producer = tapped.client.producer().build().await.expect("build");
    tapped.tap.forget();
    let sends = (0..100).map(|n| producer.send(rocketmq_stream::OutboundMessage::new(TOPIC, format!("{n}"))));
    future::try_join_all(sends).await.expect("send");
    let look_ups = tapped.tap.seen().iter().filter(|seen| matches!(seen, Seen::Route(_))).count();
    assert!(look_ups <= 2, "{look_ups} look-ups for 100 sends at once");
}
