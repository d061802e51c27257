use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;

pub(crate) fn tagged(id: &str, tag: &str) -> Arc<Content> {
    Arc::new(made(id, tag, None))
}

pub(crate) fn content(id: &str) -> Arc<Content> {
    tagged(id, "")
}

pub(crate) fn made(id: &str, tag: &str, message_group: Option<&str>) -> Content {
    Content {
        id: id.into(),
        kind: ContentKind::Normal,
        body: Bytes::from_static(b"body"),
        compressed: false,
        digest: "".into(),
        tag: Some(tag).filter(|tag| !tag.is_empty()).map(Into::into),
        keys: Vec::new(),
        properties: BTreeMap::new(),
        hidden: BTreeMap::new(),
        flag: 0,
        codec_bits: 0,
        message_group: message_group.map(Into::into),
        trace_context: None,
        delivery_at: None,
        born_at: 0,
        born_host: "".into(),
        stored_at: 0,
    }
}

pub(super) const INVISIBLE: Millis = 30_000;

pub(super) fn engine(queues: u32) -> Engine {
    cluster(1, queues)
}

/// A topic `t` with so many queues on each of so many brokers.
pub(super) fn cluster(brokers: usize, queues: u32) -> Engine {
    let config = EngineConfig { brokers, queue_bytes: usize::MAX, route_expiry: 10_000, type_cache_delay: 3_000 };
    let mut engine = Engine::new(config);
    engine.create_topic("t", queues, TopicType::Mixed);
    engine
}

/// A topic `t` with one message for each tag, spread over its queues in turn.
pub(crate) fn filled<const N: usize>(queues: u32, tags: [&str; N]) -> Engine {
    let mut engine = engine(queues);
    for (number, tag) in tags.into_iter().enumerate() {
        engine.append("t", made(&number.to_string(), tag, None), 0).unwrap();
    }
    engine.take_wakes();
    engine
}

pub(super) fn send(engine: &mut Engine, id: &str, now: Millis) {
    engine.append("t", made(id, "", None), now).unwrap();
}

pub(super) fn request(group: &str, max: usize) -> PopRequest<'_> {
    PopRequest {
        group,
        topic: "t",
        broker: 0,
        filter: &FilterProgram::All,
        max,
        invisible: INVISIBLE,
        attempt_id: None,
        renewed_by: None,
    }
}

pub(super) fn pop(engine: &mut Engine, group: &str, max: usize, now: Millis) -> Vec<Delivery> {
    popped(engine, &request(group, max), now)
}

pub(super) fn popped(engine: &mut Engine, request: &PopRequest<'_>, now: Millis) -> Vec<Delivery> {
    engine.advance(now);
    match engine.pop(request, now).unwrap() {
        Popped::Messages(messages) => messages,
        Popped::NoMatch | Popped::Empty => Vec::new(),
    }
}

pub(super) fn claim(handle: &str) -> Claim<'_> {
    Claim { group: "g", topic: "t", handle, proxy: 0 }
}

pub(super) fn change(invisible: Millis) -> Change {
    Change { invisible, suspend: false }
}

pub(super) fn seen(messages: &[Delivery]) -> Vec<(&str, u32)> {
    messages.iter().map(|delivery| (&*delivery.record.content.id, delivery.record.attempt())).collect()
}

#[test]
fn a_message_that_is_not_acked_comes_again_with_a_new_place_and_attempt() {
    let mut engine = engine(1);
    send(&mut engine, "a", 0);
    let first = pop(&mut engine, "g", 32, 0);
    assert_eq!(seen(&first), [("a", 1)]);
    assert_eq!(engine.next_deadline(), Some(INVISIBLE));
    assert_eq!(seen(&pop(&mut engine, "g", 32, INVISIBLE - 1)), []);
    engine.take_wakes();
    let again = pop(&mut engine, "g", 32, INVISIBLE);
    assert_eq!(seen(&again), [("a", 2)]);
    assert_ne!(first[0].handle, again[0].handle);
    let (topic, group) = ("t".into(), Some("g".into()));
    let wake = Wake { topic, broker: 0, queue: None, group, reason: WakeReason::Message };
    assert_eq!(engine.take_wakes(), [wake], "a redelivery wakes its own group");
}

#[test]
fn a_reset_offset_is_where_the_next_pop_starts_in_ordered_groups_too() {
    for fifo in [false, true] {
        let mut engine = filled(1, ["x"; 4]);
        engine.create_group("g", GroupConfig { fifo, ..GroupConfig::default() });
        assert_eq!(pop(&mut engine, "g", 32, 0).len(), 4);
        engine.reset_offset("g", "t", 0, 0, 2);
        assert_eq!(seen(&pop(&mut engine, "g", 32, 1)), [("2", 1), ("3", 1)], "fifo: {fifo}");
        assert_eq!(seen(&pop(&mut engine, "g", 32, 2)), [], "once");
    }
}

#[test]
fn r7_an_expired_handle_is_refused_and_the_copy_is_untouched() {
    let mut engine = engine(1);
    send(&mut engine, "a", 0);
    let first = pop(&mut engine, "g", 1, 0);
    engine.advance(INVISIBLE);
    assert_eq!(engine.ack(&claim(&first[0].handle), INVISIBLE), Err(Refusal::Expired));
    assert_eq!(engine.change(&claim(&first[0].handle), change(0), INVISIBLE), Err(Refusal::Expired));
    assert_eq!(seen(&pop(&mut engine, "g", 1, INVISIBLE)), [("a", 2)]);
}

#[test]
fn an_ack_may_be_repeated_and_one_for_another_group_does_nothing() {
    let mut engine = engine(1);
    send(&mut engine, "a", 0);
    let held = pop(&mut engine, "g", 1, 0).remove(0).handle;
    assert_eq!(engine.ack(&Claim { group: "other", ..claim(&held) }, 1), Ok(()));
    assert_eq!(engine.in_flight("g", "t", 1), 1);
    assert_eq!(engine.ack(&Claim { topic: "%DLQ%g", ..claim(&held) }, 1), Err(Refusal::Abnormal));
    assert_eq!((engine.ack(&claim(&held), 1), engine.ack(&claim(&held), 2)), (Ok(()), Ok(())));
    assert_eq!(seen(&pop(&mut engine, "g", 1, 10 * INVISIBLE)), []);
    assert_eq!(engine.ack(&claim("nonsense"), 1), Err(Refusal::Unreadable("nonsense".into())));
    let elsewhere = held.replace("broker-a", "broker-x");
    assert_eq!(engine.ack(&claim(&elsewhere), 1), Err(Refusal::NoBroker("broker-x".into())));
}

#[test]
fn r6_only_the_newest_handle_settles_a_message() {
    let mut engine = engine(1);
    send(&mut engine, "a", 0);
    let old = pop(&mut engine, "g", 1, 0).remove(0).handle;
    let new = engine.change(&claim(&old), change(40_000), 10).unwrap();
    assert_ne!(old, new);
    assert_eq!(engine.ack(&claim(&old), 20), Ok(()), "answers OK and does nothing");
    assert_eq!(engine.in_flight("g", "t", 20), 1);
    assert_eq!(engine.ack(&claim(&new), 40_000), Ok(()));
    assert_eq!(seen(&pop(&mut engine, "g", 1, 90_000)), []);
}

#[test]
fn r18_a_change_with_a_replaced_handle_makes_a_second_copy() {
    let mut engine = engine(1);
    send(&mut engine, "a", 0);
    let old = pop(&mut engine, "g", 1, 0).remove(0).handle;
    let first = engine.change(&claim(&old), change(1_000), 0).unwrap();
    let second = engine.change(&claim(&old), change(1_000), 0).unwrap();
    assert_ne!(first, second);
    let copies = pop(&mut engine, "g", 32, 1_000);
    assert_eq!(seen(&copies), [("a", 2), ("a", 2)]);
    assert_eq!(engine.ack(&claim(&copies[0].handle), 1_001), Ok(()));
    assert_eq!(seen(&pop(&mut engine, "g", 32, 40_000)), [("a", 3)], "each copy lives on by itself");
}

#[test]
fn r10_a_suspension_costs_no_attempt() {
    let mut engine = engine(1);
    send(&mut engine, "a", 0);
    let held = pop(&mut engine, "g", 1, 0).remove(0).handle;
    engine.change(&claim(&held), Change { invisible: 0, suspend: true }, 5).unwrap();
    assert_eq!(seen(&pop(&mut engine, "g", 1, 5)), [("a", 1)]);
}

#[test]
fn after_the_last_attempt_a_message_is_in_the_dead_letter_queue() {
    let mut engine = engine(1);
    engine.create_group("g", GroupConfig { max_attempts: 2, ..GroupConfig::default() });
    send(&mut engine, "a", 0);
    for attempt in 1..=2 {
        let at = Millis::from(attempt) * INVISIBLE;
        assert_eq!(seen(&pop(&mut engine, "g", 1, at)), [("a", attempt)]);
    }
    engine.advance(3 * INVISIBLE);
    let pop = engine.pop(&request("g", 32), 3 * INVISIBLE);
    assert!(matches!(pop, Ok(Popped::NoMatch)), "the move consumes a receive");
    let dead = popped(&mut engine, &PopRequest { topic: "%DLQ%g", ..request("g", 32) }, 3 * INVISIBLE);
    assert_eq!(seen(&dead), [("a", 2)]);
    assert!(dead[0].record.dead_letter, "it says of itself what it is");
}

#[test]
fn r18_a_dead_letter_that_is_forwarded_twice_is_there_twice() {
    let mut engine = engine(1);
    send(&mut engine, "a", 0);
    let held = pop(&mut engine, "g", 1, 0).remove(0).handle;
    assert_eq!(engine.dead_letter(&claim(&held), 1), Ok(()));
    assert_eq!(engine.dead_letter(&claim(&held), 1), Ok(()));
    assert_eq!(engine.messages("%DLQ%g").len(), 2);
    assert_eq!(seen(&pop(&mut engine, "g", 1, 2 * INVISIBLE)), [], "and it is settled");
}

#[test]
fn a_lease_a_proxy_renews_is_acked_with_its_first_handle_there_and_nowhere_else() {
    let mut engine = engine(1);
    send(&mut engine, "a", 0);
    let held = popped(&mut engine, &PopRequest { renewed_by: Some((1, "client".into())), ..request("g", 1) }, 0);
    let now = INVISIBLE + 10_000;
    engine.advance(now);
    assert_eq!(engine.in_flight("g", "t", now), 1);
    assert_eq!(engine.next_deadline(), Some(now + 60_000), "a minute longer");
    assert_eq!(engine.ack(&claim(&held[0].handle), now), Err(Refusal::Expired));
    assert_eq!(engine.ack(&Claim { proxy: 1, ..claim(&held[0].handle) }, now), Ok(()));
    assert_eq!(engine.in_flight("g", "t", now), 0);
}

#[test]
fn what_a_proxy_renewed_for_a_client_that_left_comes_back_soon() {
    let mut engine = engine(1);
    send(&mut engine, "a", 0);
    popped(&mut engine, &PopRequest { renewed_by: Some((0, "gone".into())), ..request("g", 1) }, 0);
    engine.release(0, Some("other"), 1_000);
    assert_eq!(engine.next_deadline(), Some(INVISIBLE));
    engine.release(0, Some("gone"), 1_000);
    assert_eq!(engine.next_deadline(), Some(1_000));
    assert_eq!(seen(&pop(&mut engine, "g", 1, 1_000)), [("a", 2)]);
}

#[test]
fn a_delayed_message_is_not_there_before_its_time() {
    let mut engine = engine(1);
    engine.append("t", Content { delivery_at: Some(5_000), ..made("late", "", None) }, 0).unwrap();
    assert_eq!((seen(&pop(&mut engine, "g", 1, 4_999)).len(), engine.next_deadline()), (0, Some(5_000)));
    assert_eq!(seen(&pop(&mut engine, "g", 1, 5_000)), [("late", 1)]);
}

#[test]
fn a_broker_that_stopped_is_unreachable_first_and_forgotten_later() {
    let mut engine = engine(1);
    send(&mut engine, "a", 0);
    let held = pop(&mut engine, "g", 1, 0).remove(0).handle;
    engine.take_wakes();
    engine.stop_broker(0, 1_000);
    assert_eq!(engine.take_wakes()[0].reason, WakeReason::BrokerStopped);
    let away = Refusal::Unreachable("broker-a".into());
    assert_eq!(engine.ack(&claim(&held), 1_001), Err(away.clone()));
    assert_eq!(engine.append("t", made("b", "", None), 1_001), Err(away));
    assert_eq!(engine.ack(&claim(&held), 11_000), Err(Refusal::NoBroker("broker-a".into())));
    assert_eq!(engine.append("t", made("b", "", None), 11_000), Err(Refusal::TopicNotFound("t".into())));
    assert!(engine.routed_brokers(11_000).is_empty());
    engine.start_broker(0, 12_000);
    assert_eq!(engine.ack(&claim(&held), 12_000), Ok(()), "handles survive");
}

#[test]
fn an_ordered_queue_wakes_its_group_when_it_is_free() {
    let mut engine = engine(1);
    engine.create_group("g", GroupConfig { fifo: true, max_attempts: 2 });
    for id in ["a", "b"] {
        engine.append("t", made(id, "", Some("same")), 0).unwrap();
    }
    let first = pop(&mut engine, "g", 1, 0);
    assert_eq!(seen(&pop(&mut engine, "g", 1, 1)), [], "the queue is blocked");
    engine.take_wakes();
    assert_eq!(engine.ack(&claim(&first[0].handle), 2), Ok(()));
    assert_eq!(engine.take_wakes().len(), 1);
    let second = pop(&mut engine, "g", 1, 3);
    assert_eq!(seen(&second), [("b", 1)]);
    let nacked = engine.change(&claim(&second[0].handle), change(1_000), 10).unwrap();
    assert_eq!(engine.next_deadline(), Some(1_010));
    assert_eq!(engine.ack(&claim(&nacked), 1_010), Err(Refusal::Expired));
    assert_eq!(seen(&pop(&mut engine, "g", 1, 1_010)), [("b", 2)]);
    assert_eq!(seen(&pop(&mut engine, "g", 1, 90_000)), [], "after two attempts it is dead");
    assert_eq!(engine.messages("%DLQ%g").len(), 1);
    assert_eq!((engine.waiting("g", "t", 90_000), engine.in_flight("g", "t", 90_000)), (0, 0));
}

#[test]
fn leases_that_were_made_to_expire_refuse_their_handles() {
    for fifo in [false, true] {
        let mut engine = engine(1);
        engine.create_group("g", GroupConfig { fifo, max_attempts: 9 });
        send(&mut engine, "a", 0);
        let held = pop(&mut engine, "g", 1, 0).remove(0).handle;
        assert_eq!(engine.in_flight("g", "t", 0), 1);
        assert_eq!(engine.expire_leases(5), 1);
        assert_eq!(engine.next_deadline(), Some(5));
        engine.advance(5);
        assert_eq!(engine.ack(&claim(&held), 5), Err(Refusal::Expired), "fifo: {fifo}");
        let again = pop(&mut engine, "g", 1, 5);
        assert_eq!(seen(&again), [("a", 2)]);
        assert_eq!(engine.ack(&claim(&again[0].handle), 6), Ok(()));
        assert_eq!((engine.in_flight("g", "t", 6), engine.waiting("g", "t", 6)), (0, 0));
    }
}

mod properties {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Send,
        Pop(usize),
        Ack(usize),
        Nack(usize, Millis, bool),
        Bury(usize),
        Wait(Millis),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Send),
            (1..5usize).prop_map(Step::Pop),
            any::<usize>().prop_map(Step::Ack),
            (any::<usize>(), 0..20_000u64, any::<bool>()).prop_map(|(n, t, suspend)| Step::Nack(n, t, suspend)),
            any::<usize>().prop_map(Step::Bury),
            (0..INVISIBLE).prop_map(Step::Wait),
        ]
    }

    /// What a test knows about the cluster: who holds what, with which handle, until when.
    #[derive(Default)]
    struct Model {
        held: HashMap<String, (String, Millis)>,
        settled: HashSet<String>,
        sent: usize,
        buried: usize,
        now: Millis,
    }

    impl Model {
        fn pick(&self, index: usize) -> Option<(String, String)> {
            let mut held: Vec<_> = self.held.iter().map(|(id, (handle, _))| (id.clone(), handle.clone())).collect();
            held.sort();
            (!held.is_empty()).then(|| held.swap_remove(index % held.len()))
        }

        fn apply(&mut self, engine: &mut Engine, step: Step) {
            self.held.retain(|_, (_, until)| *until > self.now);
            engine.advance(self.now);
            match step {
                Step::Send => {
                    self.sent += 1;
                    let id = format!("m{}", self.sent);
                    engine.append("t", made(&id, "", Some(&format!("g{}", self.sent % 3))), self.now).unwrap();
                }
                Step::Pop(max) => {
                    for delivery in pop(engine, "g", max, self.now) {
                        let id = delivery.record.content.id.to_string();
                        assert!(!self.settled.contains(&id), "{id} was settled and came again");
                        let until = self.now + INVISIBLE;
                        let before = self.held.insert(id.clone(), (delivery.handle, until));
                        assert!(before.is_none(), "{id} has two holders");
                    }
                }
                Step::Ack(index) => {
                    let Some((id, handle)) = self.pick(index) else { return };
                    engine.ack(&claim(&handle), self.now).unwrap();
                    self.held.remove(&id);
                    self.settled.insert(id);
                }
                Step::Bury(index) => {
                    let Some((id, handle)) = self.pick(index) else { return };
                    engine.dead_letter(&claim(&handle), self.now).unwrap();
                    self.buried += 1;
                    self.held.remove(&id);
                    self.settled.insert(id);
                }
                Step::Nack(index, after, suspend) => {
                    let Some((id, handle)) = self.pick(index) else { return };
                    let handle = engine.change(&claim(&handle), Change { invisible: after, suspend }, self.now);
                    self.held.insert(id, (handle.unwrap(), self.now + after));
                }
                Step::Wait(time) => self.now += time,
            }
        }

        /// Every message is acked, held, waiting or in the dead-letter queue; and an empty engine has nothing to do.
        fn check(&self, engine: &mut Engine) {
            engine.advance(self.now);
            let held = self.held.values().filter(|(_, until)| *until > self.now).count();
            assert_eq!(engine.in_flight("g", "t", self.now), held);
            let given_up = engine.counters.dead_lettered as usize - self.buried;
            let waiting = engine.waiting("g", "t", self.now) as usize;
            let settled = self.settled.len();
            let known = waiting + held + settled + given_up;
            assert_eq!(known, self.sent, "{waiting} waiting, {held} held, {settled} settled, {given_up} given up");
        }

        /// Takes everything that is left, and counts.
        fn drain(mut self, engine: &mut Engine) {
            let mut seen: HashSet<String> = self.settled.clone();
            for _ in 0..40 {
                self.now += 2 * INVISIBLE;
                for delivery in pop(engine, "g", 32, self.now) {
                    engine.ack(&claim(&delivery.handle), self.now).unwrap();
                    seen.insert(delivery.record.content.id.to_string());
                }
            }
            seen.extend(engine.messages("%DLQ%g").iter().map(|dead| dead.record.content.id.to_string()));
            assert_eq!(seen.len(), self.sent, "a message is lost");
            assert_eq!((engine.in_flight("g", "t", self.now), engine.waiting("g", "t", self.now)), (0, 0));
            assert_eq!(engine.next_deadline(), None);
        }
    }

    proptest! {
        #[test]
        fn no_message_is_lost_or_has_two_holders(steps in prop::collection::vec(step(), 1..80), max_attempts in 1..4u32) {
            let mut engine = engine(3);
            engine.create_group("g", GroupConfig { max_attempts, ..GroupConfig::default() });
            let mut model = Model::default();
            for step in steps {
                model.apply(&mut engine, step);
                model.check(&mut engine);
            }
            model.drain(&mut engine);
        }

        #[test]
        fn an_ordered_group_gets_every_message_group_in_order(steps in prop::collection::vec(step(), 1..80)) {
            let mut engine = engine(2);
            engine.create_group("g", GroupConfig { fifo: true, max_attempts: u32::MAX });
            let (mut now, mut sent) = (0, 0usize);
            let mut next: HashMap<String, usize> = HashMap::new();
            for step in steps {
                engine.advance(now);
                match step {
                    Step::Send => {
                        sent += 1;
                        let group = format!("g{}", sent % 3);
                        engine.append("t", made(&sent.to_string(), "", Some(&group)), now).unwrap();
                    }
                    Step::Wait(time) => now += time,
                    Step::Pop(max) | Step::Ack(max) => check_order(&mut engine, &mut next, max % 5, usize::MAX, now),
                    Step::Nack(acked, ..) | Step::Bury(acked) => check_order(&mut engine, &mut next, 4, acked % 4, now),
                }
            }
            for _ in 0..sent + 2 {
                now += 2 * INVISIBLE;
                check_order(&mut engine, &mut next, 32, usize::MAX, now);
            }
            prop_assert_eq!(engine.waiting("g", "t", now), 0);
            for (group, last) in next {
                let of_group = (1..=sent).filter(|n| format!("g{}", n % 3) == group).max();
                prop_assert_eq!(Some(last), of_group);
            }
        }
    }

    /// Pops, and acks the first `acked` messages in order: no message may come before an earlier one of its message group
    /// was acked.
    fn check_order(engine: &mut Engine, next: &mut HashMap<String, usize>, max: usize, acked: usize, now: Millis) {
        let mut expected = next.clone();
        for (index, delivery) in pop(engine, "g", max, now).into_iter().enumerate() {
            let content = &delivery.record.content;
            let number: usize = content.id.parse().unwrap();
            let group = content.message_group.as_deref().unwrap().to_owned();
            let before = expected.insert(group.clone(), number).unwrap_or(0);
            assert!(number > before && number - before <= 3, "{number} came after {before}");
            if index < acked {
                engine.ack(&claim(&delivery.handle), now).unwrap();
                next.insert(group, number);
            }
        }
    }
}
