use super::*;
use crate::clock;
use proptest::prelude::*;

const PATIENCE: Patience = Patience { max_attempts: 3, send_timeout: Duration::from_secs(60) };

fn group(name: &str) -> Option<GroupKey> {
    Some(("t".into(), name.into()))
}

fn send<T: std::fmt::Debug>(accumulator: &mut Accumulator<T>, now: Instant) -> Entry<T> {
    match accumulator.next(now) {
        Step::Send(entry) => entry,
        other => panic!("nothing to send: {other:?}"),
    }
}

fn wake_up<T: std::fmt::Debug>(accumulator: &mut Accumulator<T>, now: Instant) -> Instant {
    match accumulator.next(now) {
        Step::SleepUntil(at) => at,
        other => panic!("not asleep: {other:?}"),
    }
}

#[test]
fn messages_go_out_at_once_and_in_order() {
    let now = clock::now();
    let mut accumulator = Accumulator::new(PATIENCE);
    accumulator.accept("a", None, now);
    accumulator.accept("b", None, now);
    let (a, b) = (send(&mut accumulator, now), send(&mut accumulator, now));
    assert_eq!((a.payload, a.attempts(), a.sequence()), ("a", 1, 0));
    assert_eq!((b.payload, b.attempts(), b.sequence()), ("b", 1, 1));
    assert!(matches!(accumulator.next(now), Step::Wait));
    assert_eq!((accumulator.unanswered(), accumulator.next_sequence()), (2, 2));
    accumulator.succeeded(b);
    accumulator.succeeded(a);
    assert_eq!(accumulator.unanswered(), 0);
}

#[test]
fn s3_the_next_of_a_message_group_waits_for_the_answer_to_the_one_before() {
    let now = clock::now();
    let mut accumulator = Accumulator::new(PATIENCE);
    for (payload, key) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")] {
        accumulator.accept(payload, group(key), now);
    }
    let a1 = send(&mut accumulator, now);
    assert_eq!(a1.payload, "a1");
    assert_eq!(send(&mut accumulator, now).payload, "b1", "another group does not wait");
    assert!(matches!(accumulator.next(now), Step::Wait));
    // A repeat keeps its place.
    assert!(accumulator.failed(a1, Failure::Outage, Duration::ZERO, now, 0.0).is_none());
    let later = wake_up(&mut accumulator, now);
    let a1 = send(&mut accumulator, later);
    assert_eq!((a1.payload, a1.attempts()), ("a1", 2));
    accumulator.succeeded(a1);
    let a2 = send(&mut accumulator, later);
    assert_eq!(a2.payload, "a2");
    // One that is given up is answered, too.
    assert_eq!(accumulator.failed(a2, Failure::Final, Duration::ZERO, later, 0.0).unwrap().payload, "a2");
    let a3 = send(&mut accumulator, later);
    assert_eq!(a3.payload, "a3");
    accumulator.succeeded(a3);
    accumulator.accept("a4", group("a"), later);
    assert_eq!(send(&mut accumulator, later).payload, "a4", "a group without a message under way goes at once");
}

#[test]
fn attempts_that_may_have_stored_the_message_are_counted() {
    let mut now = clock::now();
    let mut accumulator = Accumulator::new(PATIENCE);
    accumulator.accept("a", None, now);
    for attempt in 1..=3 {
        let entry = send(&mut accumulator, now);
        assert_eq!(entry.attempts(), attempt);
        let given_up = accumulator.failed(entry, Failure::Counted, Duration::ZERO, now, 0.0);
        assert_eq!(given_up.is_some(), attempt == 3);
        if attempt < 3 {
            now = wake_up(&mut accumulator, now);
        }
    }
    assert_eq!(accumulator.unanswered(), 0);
}

#[test]
fn an_outage_and_a_throttle_last_until_the_deadline_and_the_last_try_is_at_it() {
    for failure in [Failure::Outage, Failure::Throttled] {
        let start = clock::now();
        let deadline = start + PATIENCE.send_timeout;
        let mut now = start;
        let mut accumulator = Accumulator::new(PATIENCE);
        accumulator.accept("a", None, now);
        let attempts = loop {
            let entry = send(&mut accumulator, now);
            if let Some(entry) = accumulator.failed(entry, failure, Duration::ZERO, now, 0.0) {
                break entry.attempts();
            }
            let at = wake_up(&mut accumulator, now);
            assert!(at > now && at - now <= LONGEST_WAIT);
            now = at;
        };
        assert_eq!(now, deadline);
        assert!((12..25).contains(&attempts), "{attempts}");
    }
}

#[test]
fn a_wait_is_at_least_what_the_server_asks_for() {
    let now = clock::now();
    let mut accumulator = Accumulator::new(PATIENCE);
    accumulator.accept("a", None, now);
    let entry = send(&mut accumulator, now);
    accumulator.failed(entry, Failure::Throttled, Duration::from_secs(7), now, 0.5);
    assert_eq!(wake_up(&mut accumulator, now), now + Duration::from_secs(7));
    let seventh = now + Duration::from_secs(7);
    let entry = send(&mut accumulator, seventh);
    accumulator.failed(entry, Failure::Throttled, Duration::ZERO, seventh, 0.0);
    assert_eq!(wake_up(&mut accumulator, seventh), seventh + FIRST_WAIT * 2);
    let later = seventh + FIRST_WAIT * 2;
    let entry = send(&mut accumulator, later);
    accumulator.failed(entry, Failure::Throttled, Duration::MAX, later, 0.0);
    assert_eq!(wake_up(&mut accumulator, later), now + PATIENCE.send_timeout, "an absurd one is cut");
}

#[test]
fn of_two_repeats_the_earlier_comes_first_and_of_two_at_once_the_one_accepted_first() {
    for (first, second, order) in
        [(2, 1, ["second", "first"]), (1, 2, ["first", "second"]), (1, 1, ["first", "second"])]
    {
        for second_fails_first in [false, true] {
            let now = clock::now();
            let mut accumulator = Accumulator::new(PATIENCE);
            accumulator.accept("first", None, now);
            accumulator.accept("second", None, now);
            let waits = [(send(&mut accumulator, now), first), (send(&mut accumulator, now), second)];
            let mut waits = Vec::from(waits);
            if second_fails_first {
                waits.reverse();
            }
            for (entry, seconds) in waits {
                accumulator.failed(entry, Failure::Outage, Duration::from_secs(seconds), now, 0.0);
            }
            assert_eq!(wake_up(&mut accumulator, now), now + Duration::from_secs(1));
            let both_are_due = now + Duration::from_secs(2);
            let sent = [(); 2].map(|()| send(&mut accumulator, both_are_due).payload);
            assert_eq!(sent, order, "{first} s and {second} s");
        }
    }
}

#[test]
fn what_is_drained_is_everything_that_is_not_under_way() {
    let now = clock::now();
    let mut accumulator = Accumulator::new(PATIENCE);
    for (payload, key) in
        [("a1", group("a")), ("a2", group("a")), ("later", None), ("under way", None), ("ready", None)]
    {
        accumulator.accept(payload, key, now);
    }
    let a1 = send(&mut accumulator, now);
    let later = send(&mut accumulator, now);
    accumulator.failed(later, Failure::Outage, Duration::ZERO, now, 0.0);
    let under_way = send(&mut accumulator, now);
    let drained: Vec<_> = accumulator.drain().into_iter().map(|entry| entry.payload).collect();
    assert_eq!(drained, ["a2", "later", "ready"]);
    assert_eq!(accumulator.unanswered(), 2);
    accumulator.succeeded(a1);
    accumulator.succeeded(under_way);
    assert_eq!(accumulator.unanswered(), 0);
    assert!(matches!(accumulator.next(now), Step::Wait));
}

proptest! {
    /// Whatever fails and in whatever order the answers come: each message is answered once, and the messages of a group
    /// are stored in the order of acceptance.
    #[test]
    fn s3_every_message_is_answered_once_and_groups_keep_their_order(
        groups in prop::collection::vec(prop::option::of(0u8..3), 1..40),
        choices in prop::collection::vec((any::<prop::sample::Index>(), 0u8..6), 1..400),
    ) {
        let mut now = clock::now();
        let mut accumulator = Accumulator::new(PATIENCE);
        for (n, key) in groups.iter().enumerate() {
            accumulator.accept(n, key.and_then(|key| group(&key.to_string())), now);
        }
        let (mut under_way, mut answered) = (Vec::new(), Vec::new());
        let mut choices = choices.iter().cycle();
        while accumulator.unanswered() > 0 {
            match accumulator.next(now) {
                Step::Send(entry) => { under_way.push(entry); continue }
                Step::SleepUntil(at) if under_way.is_empty() => { now = at; continue }
                Step::SleepUntil(_) | Step::Wait => {}
            }
            let (index, outcome) = choices.next().unwrap();
            let entry: Entry<usize> = under_way.swap_remove(index.index(under_way.len()));
            let failure = match outcome {
                0 => Failure::Final,
                1 => Failure::Counted,
                2 => Failure::Outage,
                _ => { answered.push(accumulator.succeeded(entry).payload); continue }
            };
            answered.extend(accumulator.failed(entry, failure, Duration::ZERO, now, 0.3).map(|entry| entry.payload));
        }
        for key in 0..3 {
            let of_group: Vec<_> = answered.iter().filter(|n| groups[**n] == Some(key)).collect();
            prop_assert!(of_group.is_sorted());
        }
        answered.sort_unstable();
        prop_assert_eq!(answered, (0..groups.len()).collect::<Vec<_>>());
    }
}
