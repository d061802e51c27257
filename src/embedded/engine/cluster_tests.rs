use std::collections::BTreeSet;

use super::*;
use crate::embedded::engine::tests::{INVISIBLE, claim, cluster, engine, made, pop, seen};
use crate::embedded::engine::{Content, GroupConfig};

fn away(name: &str) -> Refusal {
    Refusal::Unreachable(name.into())
}

fn gone(name: &str) -> Refusal {
    Refusal::NoBroker(name.into())
}

#[test]
fn brokers_are_named_by_letters_and_then_by_numbers() {
    let names = |count| (0..count).map(|index| BrokerState::new(index).name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(28)[..2], ["broker-a", "broker-b"]);
    assert_eq!(names(28)[25..], ["broker-z", "broker-26", "broker-27"]);
    assert_eq!(BrokerState::new(300).name.as_ref(), "broker-300");
    let engine = cluster(3, 1);
    assert_eq!((engine.broker("broker-c"), engine.broker("broker-d")), (Some(2), None));
    assert_eq!((engine.broker_name(1), engine.broker_name(3)), ("broker-b", ""));
}

#[test]
fn a_broker_that_stopped_stays_in_the_routes_for_a_while() {
    let mut engine = cluster(3, 1);
    assert_eq!(engine.routed_brokers(0), [0, 1, 2]);
    engine.stop_broker(1, 1_000);
    for (now, routed, answer) in [(1_000, vec![0, 1, 2], away("broker-b")), (11_000, vec![0, 2], gone("broker-b"))] {
        assert_eq!(engine.routed_brokers(now), routed);
        assert_eq!(engine.running(1, now), Err(answer.clone()));
        assert_eq!(engine.reachable_topic("t", "broker-b", now), Err(answer));
        assert_eq!((engine.running(0, now), engine.running(2, now)), (Ok(()), Ok(())));
    }
    assert_eq!(engine.reachable_topic("t", "broker-c", 0), Ok(2));
    assert_eq!(engine.reachable_topic("x", "broker-c", 0), Err(Refusal::TopicNotFound("x".into())));
    engine.stop_broker(1, 9_000);
    assert_eq!(engine.running(1, 11_000), Err(gone("broker-b")), "it stopped once");
}

#[test]
fn what_waits_for_a_broker_that_stops_is_told_once_for_each_topic() {
    let mut engine = cluster(2, 1);
    engine.create_topic("u", 1, TopicType::Normal);
    engine.stop_broker(1, 0);
    engine.stop_broker(1, 1);
    let wakes = engine.take_wakes();
    let told: BTreeSet<_> =
        wakes.iter().map(|wake| (&*wake.topic, wake.broker, wake.reason == WakeReason::BrokerStopped)).collect();
    assert_eq!((wakes.len(), told), (2, [("t", 1, true), ("u", 1, true)].into()));
}

#[test]
fn a_receive_goes_to_the_broker_it_names_and_else_to_each_in_turn() {
    let mut engine = cluster(3, 1);
    for (name, broker) in [("broker-a", 0), ("broker-b", 1), ("broker-c", 2)] {
        assert_eq!(engine.receive_broker("t", name, 0), Ok(broker));
    }
    let turns =
        |engine: &mut Engine| (0..3).map(|_| engine.receive_broker("t", "", 20_000).unwrap()).collect::<BTreeSet<_>>();
    assert_eq!(turns(&mut engine), [0, 1, 2].into());
    engine.stop_broker(1, 5_000);
    assert_eq!(engine.receive_broker("t", "broker-b", 5_000), Err(away("broker-b")), "it is still in the routes");
    assert_eq!(turns(&mut engine), [0, 2].into(), "and now it is not");
    engine.stop_broker(0, 20_000);
    engine.stop_broker(2, 20_000);
    assert_eq!(engine.receive_broker("t", "", 20_000), Err(away("broker-a")));
    assert_eq!(engine.receive_broker("t", "", 30_000), Err(Refusal::TopicNotFound("t".into())));
}

#[test]
fn messages_go_to_the_brokers_that_run() {
    let mut engine = cluster(3, 2);
    engine.stop_broker(1, 0);
    let places: BTreeSet<_> = (0..4)
        .map(|number| {
            let appended = engine.append("t", made(&number.to_string(), "", None), 1).unwrap();
            (appended.broker, appended.queue, appended.offset)
        })
        .collect();
    assert_eq!(places, [(0, 0, 0), (0, 1, 0), (2, 0, 0), (2, 1, 0)].into());
    assert_eq!(engine.append("x", made("m", "", None), 1), Err(Refusal::TopicNotFound("x".into())));
}

#[test]
fn a_producer_may_choose_the_broker_and_the_queue() {
    let mut engine = cluster(2, 2);
    let mut put = |topic: &str, queue, now| engine.append_at(topic, (1, queue), made("m", "", None), now);
    for offset in 0..2 {
        assert_eq!(put("t", Some(1), 0), Ok(Appended { broker: 1, queue: 1, offset }));
    }
    let queues: BTreeSet<_> = (0..2).map(|_| put("t", None, 0).unwrap().queue).collect();
    assert_eq!(queues, [0, 1].into(), "without a queue, any of that broker's in turn");
    assert_eq!(put("t", Some(2), 0), Err(Refusal::NoQueue { queue: 2, queues: 2 }));
    assert_eq!(put("x", Some(0), 0), Err(Refusal::TopicNotFound("x".into())));
    engine.stop_broker(1, 0);
    assert_eq!(engine.append_at("t", (1, Some(0)), made("m", "", None), 0), Err(away("broker-b")));
}

#[test]
fn the_types_of_topics_are_not_known_for_a_while_after_a_broker_started() {
    let mut engine = cluster(2, 1);
    engine.create_topic("t", 1, TopicType::Fifo);
    assert_eq!((engine.cached_type("t", 0), engine.cached_type("x", 0)), (Some(TopicType::Fifo), None));
    engine.start_broker(1, 500);
    assert_eq!(engine.cached_type("t", 500), Some(TopicType::Fifo), "it was running");
    engine.stop_broker(1, 500);
    engine.start_broker(1, 1_000);
    for (now, known) in [(1_000, None), (3_999, None), (4_000, Some(TopicType::Fifo)), (4_001, Some(TopicType::Fifo))] {
        assert_eq!(engine.cached_type("t", now), known, "{now}");
    }
    assert_eq!(engine.topic("t"), Some((TopicType::Fifo, 1)), "the type itself is known all the time");
}

#[test]
fn nothing_of_a_deleted_topic_comes_into_one_of_its_name() {
    for fifo in [false, true] {
        let mut engine = engine(4);
        engine.create_topic("u", 1, TopicType::Normal);
        engine.create_group("g", GroupConfig { fifo, max_attempts: 9 });
        let late = |id: &str| Content { delivery_at: Some(INVISIBLE), ..made(id, "", None) };
        for queue in 0..4 {
            engine.append_at("t", (0, Some(queue)), made("old", "", None), 0).unwrap();
            engine.append_at("t", (0, Some(queue)), late("old and late"), 0).unwrap();
        }
        engine.append("u", late("another's"), 0).unwrap();
        let held = pop(&mut engine, "g", 32, 0);
        assert_eq!((held.len(), engine.in_flight("g", "t", 0)), (4, 4), "ordered: {fifo}");

        engine.delete_topic("t");
        engine.create_topic("t", 1, TopicType::Normal);
        assert_eq!((engine.in_flight("g", "t", 1), engine.next_deadline()), (0, Some(INVISIBLE)), "ordered: {fifo}");
        engine.append("t", made("new", "", None), 1).unwrap();
        assert_eq!(seen(&pop(&mut engine, "g", 32, 1)), [("new", 1)], "ordered: {fifo}");
        assert_eq!(engine.expire_leases(INVISIBLE), 1, "ordered: {fifo}");
        assert_eq!(seen(&pop(&mut engine, "g", 32, INVISIBLE)), [("new", 2)], "ordered: {fifo}");
        assert!(engine.ack(&claim(&held[3].handle), 2).is_err(), "ordered: {fifo}");
        assert_eq!((engine.messages("t").len(), engine.messages("u").len()), (1, 1), "ordered: {fifo}");
    }
}

#[test]
fn topics_and_groups_are_there_from_when_they_are_made_or_used() {
    let mut engine = engine(1);
    engine.create_topic("u", 1, TopicType::Normal);
    assert_eq!(engine.topics().collect::<BTreeSet<_>>(), ["t", "u"].into());
    engine.delete_topic("t");
    assert_eq!(engine.topics().collect::<Vec<_>>(), ["u"]);
    assert!(!engine.has_group("g"));
    engine.ensure_group("g");
    assert!(engine.has_group("g") && !engine.has_group("h"));
    assert_eq!(engine.group_config("h").max_attempts, 17, "Apache's default");
    assert!(!engine.mark_old("t") && engine.mark_old("u"));
}
