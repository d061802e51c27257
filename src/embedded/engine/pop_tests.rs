use super::*;
use crate::embedded::engine::tests::{INVISIBLE, claim, content, engine, made, pop, popped, request, seen, send};
use crate::embedded::engine::{Claim, Content, Counters, GroupConfig, WakeReason};

fn ordered(queues: u32, each: u32) -> Engine {
    let mut engine = engine(queues);
    engine.create_group("g", GroupConfig { fifo: true, max_attempts: 9 });
    for queue in 0..queues {
        for number in 0..each {
            engine.put("t", 0, queue, Record::fresh(content(&format!("q{queue}m{number}")))).unwrap();
        }
    }
    engine
}

#[test]
fn several_ordered_queues_answer_one_pop_up_to_its_maximum() {
    for (max, expected) in [(1, 1), (2, 2), (3, 3), (5, 5), (6, 6), (32, 6)] {
        assert_eq!(pop(&mut ordered(3, 2), "g", max, 0).len(), expected, "{max}");
    }
    let mut engine = ordered(3, 1);
    for round in 0..4 {
        let messages = pop(&mut engine, "g", 32, round);
        let mut queues: Vec<_> = messages.iter().map(|delivery| delivery.queue).collect();
        queues.sort_unstable();
        assert_eq!(queues, [0, 1, 2], "round {round}: no queue is left out");
        for delivery in messages {
            engine.ack(&claim(&delivery.handle), round).unwrap();
            engine.put("t", 0, delivery.queue, Record::fresh(content("next"))).unwrap();
        }
    }
}

#[test]
fn ordered_queues_take_turns() {
    let mut engine = ordered(2, 8);
    let mut queues = Vec::new();
    for now in 0..6 {
        let delivery = pop(&mut engine, "g", 1, now).remove(0);
        engine.ack(&claim(&delivery.handle), now).unwrap();
        queues.push(delivery.queue);
    }
    assert!(queues.windows(2).all(|pair| pair[0] != pair[1]), "{queues:?}");
}

#[test]
fn a_group_that_popped_before_its_topic_grew_reads_the_new_queues_too() {
    for fifo in [false, true] {
        let mut engine = engine(1);
        engine.create_group("g", GroupConfig { fifo, max_attempts: 9 });
        assert!(pop(&mut engine, "g", 32, 0).is_empty());
        engine.grow_topic("t", 3);
        for queue in 0..3 {
            engine.put("t", 0, queue, Record::fresh(content("m"))).unwrap();
        }
        assert_eq!(engine.waiting("g", "t", 1), 3, "ordered: {fifo}");
        assert_eq!(pop(&mut engine, "g", 32, 1).len(), 3, "ordered: {fifo}");
    }
}

#[test]
fn what_happened_is_counted() {
    for fifo in [false, true] {
        let mut engine = engine(1);
        engine.create_group("g", GroupConfig { fifo, max_attempts: 1 });
        for id in ["a", "b"] {
            engine.append("t", made(id, "", None), 0).unwrap();
        }
        engine.put("t", 0, 0, Record::fresh(content("c"))).unwrap();
        let held = pop(&mut engine, "g", 32, 0);
        assert_eq!(seen(&held), [("a", 1), ("b", 1), ("c", 1)]);
        for _ in 0..2 {
            engine.ack(&claim(&held[0].handle), 1).unwrap();
        }
        engine.ack(&claim(&held[1].handle), 1).unwrap();
        pop(&mut engine, "g", 32, INVISIBLE);
        let Counters { sent, pulled, delivered, acked, redelivered, dead_lettered } = engine.counters;
        assert_eq!((sent, pulled, delivered, dead_lettered), (3, 0, 3, 1), "ordered: {fifo}");
        // The copy of an ordered queue is acked when it is buried, and it never left its place.
        assert_eq!((acked, redelivered), if fifo { (3, 0) } else { (2, 1) }, "ordered: {fifo}");
    }
}

#[test]
fn the_end_of_an_ordered_lease_wakes_its_group_and_nothing_before_it_does() {
    let mut engine = engine(2);
    engine.create_group("g", GroupConfig { fifo: true, max_attempts: 9 });
    send(&mut engine, "a", 0);
    pop(&mut engine, "g", 1, 0);
    engine.take_wakes();
    engine.advance(INVISIBLE - 1);
    assert_eq!((engine.take_wakes(), engine.next_deadline()), (vec![], Some(INVISIBLE)));
    engine.advance(INVISIBLE);
    let wakes = engine.take_wakes();
    assert_eq!(wakes.len(), 1);
    assert_eq!((wakes[0].group.as_deref(), wakes[0].queue, wakes[0].reason), (Some("g"), None, WakeReason::Message));
    assert_eq!(engine.next_deadline(), None);
}

#[test]
fn ordered_queues_that_are_held_at_once_have_each_its_own_timer() {
    let mut engine = ordered(3, 1);
    for now in [0, 10, 20] {
        assert_eq!(pop(&mut engine, "g", 1, now).len(), 1);
    }
    engine.take_wakes();
    for now in [0, 10, 20] {
        assert_eq!(engine.next_deadline(), Some(now + INVISIBLE));
        engine.advance(now + INVISIBLE);
        assert_eq!(engine.take_wakes().len(), 1);
    }
    assert_eq!(engine.next_deadline(), None);
}

#[test]
fn a_proxy_renews_the_leases_of_an_ordered_queue_until_its_client_is_gone() {
    let mut engine = ordered(1, 2);
    let by_proxy = PopRequest { renewed_by: Some((1, "client".into())), ..request("g", 2) };
    let held = popped(&mut engine, &by_proxy, 0);
    engine.take_wakes();
    engine.advance(INVISIBLE);
    assert_eq!((engine.take_wakes(), engine.next_deadline()), (vec![], Some(INVISIBLE + 60_000)));
    assert_eq!(engine.in_flight("g", "t", INVISIBLE), 2);
    let now = INVISIBLE + 1;
    assert_eq!(engine.ack(&claim(&held[0].handle), now), Err(Refusal::Expired), "another proxy");
    assert_eq!(engine.ack(&Claim { proxy: 1, ..claim(&held[0].handle) }, now), Ok(()));
    assert_eq!(engine.in_flight("g", "t", now), 1);
    engine.release(0, None, now + 5);
    engine.release(1, Some("another"), now + 5);
    assert_eq!(engine.next_deadline(), Some(INVISIBLE + 60_000), "it is not theirs");
    engine.release(1, Some("client"), now + 5);
    assert_eq!(engine.next_deadline(), Some(now + 5));
    assert_eq!(seen(&pop(&mut engine, "g", 2, now + 5)), [("q0m1", 2)]);
}

#[test]
fn a_delayed_message_is_stored_when_its_time_comes_and_two_of_one_time_are_both_there() {
    let mut engine = engine(1);
    for (id, delivery_at) in [("late", 5_000), ("too", 5_000), ("now", 100), ("past", 99)] {
        let delayed = Content { delivery_at: Some(delivery_at), ..made(id, "", None) };
        engine.append("t", delayed, 100).unwrap();
    }
    let ids =
        |engine: &Engine| engine.messages("t").iter().map(|at| at.record.content.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&engine), ["now", "past"]);
    engine.advance(5_000);
    assert_eq!(ids(&engine), ["now", "past", "late", "too"]);
    let placed = engine.messages("t");
    let stored: Vec<_> = placed.iter().map(|at| (at.offset, at.record.stored_at)).collect();
    assert_eq!(stored, [(0, 0), (1, 0), (2, 5_000), (3, 5_000)]);
    assert!(placed.iter().all(|at| (at.broker, at.queue) == ("broker-a", 0)));
    let log: Vec<_> = placed.iter().map(|at| at.record.log_offset).collect();
    let sizes: Vec<_> = placed.iter().map(|at| at.record.content.wire_size() as u64).collect();
    assert_eq!(log, [0, sizes[0], sizes[0] + sizes[1], sizes[0] + sizes[1] + sizes[2]], "one behind the other");
}
