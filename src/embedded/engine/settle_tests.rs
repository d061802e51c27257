use super::*;
use crate::embedded::engine::tests::{INVISIBLE, change, claim, content, engine, pop, seen, send};
use crate::embedded::engine::{Delivery, GroupConfig};

/// A group `g` that holds the first message of `t`, which has `messages`.
fn held(fifo: bool, messages: usize) -> (Engine, Delivery) {
    let mut engine = engine(1);
    engine.create_group("g", GroupConfig { fifo, max_attempts: 9 });
    (0..messages).for_each(|number| send(&mut engine, &format!("m{number}"), 0));
    let first = pop(&mut engine, "g", 1, 0).remove(0);
    (engine, first)
}

fn with_offset(handle: &str, offset: u64) -> String {
    Handle { offset, ..Handle::parse(handle).unwrap() }.to_string()
}

#[test]
fn a_handle_names_a_place_that_its_topic_must_have() {
    for fifo in [false, true] {
        let (mut engine, delivery) = held(fifo, 2);
        engine.create_topic("other", 1, TopicType::Normal);
        let ack = |engine: &mut Engine, topic, handle: &str| engine.ack(&Claim { topic, ..claim(handle) }, 1);
        assert_eq!(ack(&mut engine, "nowhere", &delivery.handle), Err(Refusal::Abnormal), "ordered: {fifo}");
        assert_eq!(ack(&mut engine, "other", &delivery.handle), Err(Refusal::Abnormal), "ordered: {fifo}");
        for offset in [2, 3, u64::MAX] {
            let handle = with_offset(&delivery.handle, offset);
            assert_eq!(ack(&mut engine, "t", &handle), Err(Refusal::Abnormal), "offset {offset}, ordered: {fifo}");
        }
        engine.put("other", 0, 0, Record::fresh(content("x"))).unwrap();
        let elsewhere = ack(&mut engine, "other", &delivery.handle);
        // A lease knows its topic; an ordered queue has forgotten it, and there is nothing to ack.
        assert_eq!(elsewhere, if fifo { Ok(()) } else { Err(Refusal::Abnormal) });
        assert_eq!(ack(&mut engine, "t", &with_offset(&delivery.handle, 1)), Ok(()), "ordered: {fifo}");
    }
}

#[test]
fn a_change_with_an_older_handle_of_an_ordered_queue_answers_ok_with_a_handle_that_has_expired() {
    let (mut engine, first) = held(true, 1);
    let second = pop(&mut engine, "g", 1, INVISIBLE).remove(0);
    let now = INVISIBLE + 1;
    // The older handle with a time that is not over, as after a change.
    let older = Handle { invisible: 2 * INVISIBLE, ..Handle::parse(&first.handle).unwrap() }.to_string();
    let answered = engine.change(&claim(&older), change(60_000), now).unwrap();
    assert_eq!(engine.ack(&claim(&answered), now), Err(Refusal::Expired));
    assert_eq!(engine.next_deadline(), Some(2 * INVISIBLE), "the pop that counts is untouched");
    assert_eq!(engine.ack(&claim(&second.handle), now), Ok(()));
    assert_eq!(engine.in_flight("g", "t", now), 0);
}

#[test]
fn a_held_message_is_settled_as_ever_when_its_log_has_dropped_it() {
    let (mut engine, delivery) = held(false, 1);
    engine.expire("t", 0, 0, 1);
    let renewed = engine.change(&claim(&delivery.handle), change(5_000), 1).unwrap();
    assert_eq!(engine.dead_letter(&claim(&renewed), 2), Ok(()));
    assert_eq!(engine.messages("%DLQ%g").len(), 1);
    // What is neither held nor stored is nowhere.
    assert_eq!(engine.dead_letter(&claim(&renewed), 3), Err(Refusal::Abnormal));
    assert_eq!(engine.change(&claim(&renewed), change(5_000), 3), Err(Refusal::Abnormal));
}

#[test]
fn a_copy_that_came_again_is_nacked_and_buried_like_the_first() {
    let (mut engine, _) = held(false, 1);
    let again = pop(&mut engine, "g", 1, INVISIBLE).remove(0);
    let old = again.handle;
    let new = engine.change(&claim(&old), change(1_000), INVISIBLE).unwrap();
    engine.ack(&claim(&new), INVISIBLE).unwrap();
    // A replaced handle finds the copy in the log of retries.
    let copy = engine.change(&claim(&old), change(1_000), INVISIBLE + 1).unwrap();
    assert_eq!(seen(&pop(&mut engine, "g", 1, INVISIBLE + 1_001)), [("m0", 3)]);
    assert_eq!(engine.dead_letter(&claim(&copy), INVISIBLE + 1_001), Err(Refusal::Expired));
}

#[test]
fn what_others_hold_is_not_counted() {
    let (mut engine, _) = held(false, 3);
    assert_eq!(pop(&mut engine, "h", 2, 1).len(), 2);
    let flights = |engine: &Engine| {
        [("g", "t"), ("h", "t"), ("g", "other")].map(|(group, topic)| engine.in_flight(group, topic, 1))
    };
    assert_eq!(flights(&engine), [1, 2, 0]);
    assert_eq!((engine.waiting("g", "t", 1), engine.waiting("h", "t", 1)), (2, 1));
    assert_eq!(engine.expire_leases(5), 3);
}

#[test]
fn an_ordered_queue_counts_what_is_held_and_what_waits_behind_it() {
    let mut engine = engine(1);
    engine.create_group("g", GroupConfig { fifo: true, max_attempts: 9 });
    (0..5).for_each(|number| send(&mut engine, &format!("m{number}"), 0));
    let held = pop(&mut engine, "g", 3, 0);
    engine.ack(&claim(&held[1].handle), 1).unwrap();
    assert_eq!((engine.in_flight("g", "t", 1), engine.waiting("g", "t", 1)), (2, 2));
    // All that is not acked from the first on is handed out again, the one that was acked behind it too.
    assert_eq!((engine.in_flight("g", "t", INVISIBLE), engine.waiting("g", "t", INVISIBLE)), (0, 5));
    assert_eq!(engine.expire_leases(INVISIBLE), 2);
}

#[test]
fn a_group_that_was_sent_beyond_the_end_waits_for_nothing_until_the_end_has_come_there() {
    for fifo in [false, true] {
        let (mut engine, delivery) = held(fifo, 3);
        engine.ack(&claim(&delivery.handle), 1).unwrap();
        engine.reset_offset("g", "t", 0, 0, 5);
        assert!(pop(&mut engine, "g", 32, 2).is_empty(), "ordered: {fifo}");
        assert_eq!(engine.waiting("g", "t", 2), 0, "ordered: {fifo}");
        (3..6).for_each(|number| send(&mut engine, &format!("m{number}"), 3));
        assert_eq!(engine.waiting("g", "t", 3), 1, "ordered: {fifo}");
        assert_eq!(seen(&pop(&mut engine, "g", 32, 3)), [("m5", 1)], "ordered: {fifo}");
    }
}

#[test]
fn a_group_that_has_never_read_an_old_topic_waits_for_its_last_message_only() {
    let mut engine = engine(2);
    (0..6).for_each(|number| send(&mut engine, &format!("m{number}"), 0));
    assert_eq!(engine.waiting("new", "t", 0), 6);
    engine.mark_old("t");
    assert_eq!(engine.waiting("new", "t", 0), 2, "one of each queue");
    assert_eq!(pop(&mut engine, "new", 32, 0).len(), 2);
    assert_eq!(engine.waiting("new", "nowhere", 0), 0);
}
