use super::*;
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds { messages: 1024, bytes: 16 << 20, batch: 32, receives: 8, largest: 4 << 20 };

fn key(topic: &str, broker: &str) -> SourceKey {
    SourceKey { topic: topic.into(), broker: broker.into() }
}

fn planner(bounds: Bounds, brokers: &[&str]) -> Planner {
    let mut planner = Planner::new(bounds, 0);
    planner.set_sources(brokers.iter().map(|broker| key("t", broker)).collect());
    planner
}

fn begin(planner: &mut Planner, now: Instant) -> Option<Begun> {
    planner.next(now).1
}

#[test]
fn r5_sources_take_turns_and_a_slow_one_does_not_starve_the_others() {
    let now = Instant::now();
    let mut planner = planner(BOUNDS, &["a", "b"]);
    let slow = begin(&mut planner, now).expect("a receive");
    assert_eq!(&*slow.source.broker, "a");
    for _ in 0..10 {
        let fast = begin(&mut planner, now).expect("b goes on while a waits");
        assert_eq!(&*fast.source.broker, "b");
        planner.on_done(&fast, Outcome::Messages(1), now, 0.0).expect("fine");
    }
}

#[test]
fn r5_after_the_last_source_it_is_the_firsts_turn() {
    let now = Instant::now();
    let mut planner = planner(BOUNDS, &["a", "b", "c"]);
    let mut order = String::new();
    for _ in 0..6 {
        let begun = begin(&mut planner, now).expect("a receive");
        order.push_str(&begun.source.broker);
        planner.on_done(&begun, Outcome::Messages(1), now, 0.0).expect("fine");
    }
    assert_eq!(order, "abcabc");
}

#[test]
fn r5_a_route_refresh_keeps_places_and_waits() {
    let now = Instant::now();
    let mut planner = planner(BOUNDS, &["a", "b"]);
    let first = begin(&mut planner, now).expect("a receive");
    planner.on_done(&first, Outcome::Failed(Error::new(ErrorKind::Unavailable, "away")), now, 0.0).expect("passing");
    planner.set_sources(vec![key("t", "b"), key("t", "a"), key("t", "c")]);
    let next: Vec<_> = std::iter::from_fn(|| begin(&mut planner, now)).map(|begun| begun.source.broker).collect();
    assert_eq!(next, ["b".into(), "c".into()] as [Arc<str>; 2], "a still waits, nothing began again at 0");
}

#[test]
fn r4_nothing_there_is_a_pause_and_no_error() {
    let now = Instant::now();
    let mut planner = planner(BOUNDS, &["a"]);
    let begun = begin(&mut planner, now).expect("a receive");
    let later = now + Duration::from_secs(20);
    planner.on_done(&begun, Outcome::Empty, later, 0.0).expect("no error");
    let begun = begin(&mut planner, later).expect("at once after a whole poll");
    let full = Error::new(ErrorKind::Throttled, "polling full");
    planner.on_done(&begun, Outcome::Failed(full), later, 0.0).expect("no error");
    assert_eq!(planner.next(later).0, Step::SleepUntil(later + BUSY));
    assert!(begin(&mut planner, later + BUSY).is_some(), "and then it goes on");
}

#[test]
fn r20_an_empty_answer_that_comes_at_once_makes_no_hot_loop() {
    let now = Instant::now();
    let mut planner = planner(BOUNDS, &["a"]);
    for expected in [20, 40, 80] {
        planner.wake();
        let begun = begin(&mut planner, now).expect("a receive");
        planner.on_done(&begun, Outcome::Empty, now, 0.0).expect("no error");
        assert_eq!(planner.next(now).0, Step::SleepUntil(now + Duration::from_millis(expected)));
    }
    planner.wake();
    let begun = begin(&mut planner, now).expect("a receive");
    planner.on_done(&begun, Outcome::Empty, now + QUICK, 0.0).expect("no error");
    assert!(begin(&mut planner, now).is_some(), "that was a long poll, if a short one");
}

#[test]
fn r11_a_place_that_becomes_free_wakes_the_loop() {
    let now = Instant::now();
    let mut planner = planner(Bounds { messages: 64, receives: 8, ..BOUNDS }, &["a", "b"]);
    for _ in 0..2 {
        let mut begun = begin(&mut planner, now).expect("room for two batches");
        for _ in 0..32 {
            planner.on_message(&mut begun, 100);
        }
        planner.on_done(&begun, Outcome::Messages(32), now, 0.0).expect("fine");
    }
    assert_eq!(planner.next(now).0, Step::Wait, "full");
    let woken: Vec<bool> = (0..32).map(|_| planner.on_taken(100)).collect();
    assert_eq!(woken.iter().filter(|woken| **woken).count(), 1, "woken once, when half a batch fits");
    assert!(woken[15]);
    assert!(begin(&mut planner, now).is_some());
}

#[test]
fn before_a_message_was_seen_little_is_asked_for_but_of_every_source() {
    let now = Instant::now();
    let mut planner = planner(BOUNDS, &["a", "b"]);
    let first: Vec<_> = std::iter::from_fn(|| begin(&mut planner, now)).collect();
    assert_eq!(first.iter().map(|begun| begun.max).collect::<Vec<_>>(), [2, 2], "16 MiB hold two of 4 MiB from each");
    let mut seen = first[0].clone();
    assert!(planner.on_message(&mut seen, 1000));
    planner.on_done(&seen, Outcome::Messages(1), now, 0.0).expect("fine");
    assert_eq!(begin(&mut planner, now).expect("a receive").max, 32, "now their size is known");
}

#[test]
fn no_more_is_asked_for_at_a_time_than_the_server_announced_and_at_least_one() {
    let now = Instant::now();
    for (announced, expected) in [(5, 5), (64, 64), (0, 1)] {
        let mut planner = planner(BOUNDS, &["a"]);
        let mut first = begin(&mut planner, now).expect("a receive");
        planner.on_message(&mut first, 1000);
        planner.on_done(&first, Outcome::Messages(1), now, 0.0).expect("fine");
        planner.set_batch(announced);
        assert_eq!(begin(&mut planner, now).expect("a receive").max, expected);
    }
}

/// Begins a receive of which so many messages of this size arrive before it ends.
fn receive(planner: &mut Planner, now: Instant, messages: u32, bytes: usize) -> u32 {
    let mut begun = begin(planner, now).expect("a receive");
    for _ in 0..messages {
        assert!(planner.on_message(&mut begun, bytes));
    }
    planner.on_done(&begun, Outcome::Messages(messages), now, 0.0).expect("fine");
    begun.max
}

#[test]
fn what_is_held_and_what_is_under_way_leave_the_rest_of_the_room() {
    let now = Instant::now();
    let mut planner = planner(Bounds { messages: 64, largest: 1000, ..BOUNDS }, &["a", "b", "c"]);
    assert_eq!(receive(&mut planner, now, 21, 1000), 21, "a third of the room");
    receive(&mut planner, now, 19, 1000);
    assert_eq!(begin(&mut planner, now).expect("24 are left").max, 21);
    assert_eq!(planner.next(now).0, Step::Wait, "room for three is not worth a receive");
}

#[test]
fn a_receive_that_has_ended_leaves_the_room_that_another_may_still_fill() {
    let now = Instant::now();
    let mut planner = planner(Bounds { messages: 64, largest: 1000, ..BOUNDS }, &["a", "b"]);
    let mut first = begin(&mut planner, now).expect("a receive");
    let other = begin(&mut planner, now).expect("of the other source");
    assert_eq!((first.max, other.max), (32, 32));
    (0..32).for_each(|_| assert!(planner.on_message(&mut first, 1000)));
    planner.on_done(&first, Outcome::Messages(32), now, 0.0).expect("fine");
    assert_eq!(planner.next(now).0, Step::Wait, "32 are held, and 32 may come");
}

#[test]
fn bytes_bound_what_is_asked_for_as_messages_do() {
    let now = Instant::now();
    let mut planner = planner(Bounds { bytes: 30_000, largest: 1000, ..BOUNDS }, &["a", "b", "c"]);
    assert_eq!(receive(&mut planner, now, 10, 1000), 10, "30 in all, for three sources");
    assert_eq!(receive(&mut planner, now, 10, 1000), 10);
    receive(&mut planner, now, 5, 1000);
    assert_eq!(begin(&mut planner, now).expect("half a share is left").max, 5);
}

#[test]
fn a_larger_message_counts_at_once_and_smaller_ones_slowly() {
    let now = Instant::now();
    let bounds = Bounds { messages: 1000, bytes: 160_000, batch: 1000, ..BOUNDS };
    let mut planner = planner(bounds, &["a"]);
    for (bytes, then_asked_for) in [(1600, 100), (320, 105), (3200, 50), (3200, 50)] {
        receive(&mut planner, now, 1, bytes);
        planner.on_taken(bytes);
        let begun = begin(&mut planner, now).expect("a receive");
        assert_eq!(begun.max, then_asked_for, "after {bytes} bytes");
        planner.on_done(&begun, Outcome::Messages(0), now, 0.0).expect("fine");
    }
}

#[test]
fn a_message_that_does_not_fit_is_given_back() {
    let now = Instant::now();
    let mut planner = planner(Bounds { bytes: 1000, ..BOUNDS }, &["a"]);
    let mut begun = begin(&mut planner, now).expect("a receive");
    assert!(planner.on_message(&mut begun, 5000), "one larger than the bound passes alone");
    assert!(!planner.on_message(&mut begun, 10), "and nothing beside it");
    planner.on_taken(5000);
    assert!(planner.on_message(&mut begun, 600));
    assert!(!planner.on_message(&mut begun, 600));
    assert_eq!(planner.held(), (1, 600));
}

#[test]
fn full_answers_widen_a_source_and_an_empty_one_narrows_it() {
    let now = Instant::now();
    let mut planner = planner(BOUNDS, &["a"]);
    for expected in 1..=8 {
        let begun: Vec<_> = std::iter::from_fn(|| begin(&mut planner, now)).collect();
        assert_eq!(begun.len(), expected);
        for mut one in begun {
            for _ in 0..one.max {
                planner.on_message(&mut one, 10);
                planner.on_taken(10);
            }
            let outcome = if one.max > 0 && planner.receives_under_way() == expected {
                Outcome::Messages(one.max)
            } else {
                Outcome::Messages(0)
            };
            planner.on_done(&one, outcome, now, 0.0).expect("fine");
        }
    }
    let begun: Vec<_> = std::iter::from_fn(|| begin(&mut planner, now)).collect();
    assert_eq!(begun.len(), 8, "never more than the bound");
    planner.on_done(&begun[0], Outcome::Empty, now + Duration::from_secs(5), 0.0).expect("fine");
    assert!(begin(&mut planner, now).is_none());
}

#[test]
fn a_busy_source_leaves_the_others_their_part_of_the_receives() {
    let now = Instant::now();
    let mut planner = planner(Bounds { largest: 1000, ..BOUNDS }, &["a", "b"]);
    let mut busy = begin(&mut planner, now).expect("of a");
    let _idle = begin(&mut planner, now).expect("of b");
    for _ in 0..20 {
        (0..busy.max).for_each(|_| assert!(planner.on_message(&mut busy, 10)));
        (0..busy.max).for_each(|_| _ = planner.on_taken(10));
        planner.on_done(&busy, Outcome::Messages(busy.max), now, 0.0).expect("fine");
        busy = begin(&mut planner, now).expect("of a again");
    }
    while begin(&mut planner, now).is_some() {}
    assert_eq!(planner.receives_under_way(), 4 + 1, "eight in all: four for each of two");
}

#[test]
fn a_fault_that_no_retry_mends_is_given_back_and_one_that_may_pass_is_not() {
    for (kind, text, passing) in [
        (ErrorKind::Unavailable, "", true),
        (ErrorKind::Timeout, "", true),
        (ErrorKind::Server, "connect to broker failed", true),
        (ErrorKind::NotFound, "TOPIC_NOT_FOUND while the broker is away", true),
        (ErrorKind::PermissionDenied, "no readable queue", true),
        (ErrorKind::PermissionDenied, "no right", false),
        (ErrorKind::Unauthenticated, "", false),
        (ErrorKind::InvalidArgument, "ILLEGAL_INVISIBLE_TIME", false),
    ] {
        let now = Instant::now();
        let mut planner = planner(BOUNDS, &["a"]);
        let begun = begin(&mut planner, now).expect("a receive");
        let outcome = planner.on_done(&begun, Outcome::Failed(Error::new(kind, text)), now, 0.0);
        assert_eq!(outcome.is_ok(), passing, "{kind:?} {text}");
    }
}

#[test]
fn a_paused_plan_asks_for_nothing() {
    let now = Instant::now();
    let mut planner = planner(BOUNDS, &["a"]);
    planner.set_paused(true);
    assert_eq!(planner.next(now).0, Step::Wait);
    planner.set_paused(false);
    assert!(begin(&mut planner, now).is_some());
}

proptest! {
    #[test]
    fn what_is_held_stays_within_the_bounds_and_room_always_comes_back(
        weights in prop::collection::vec(1usize..200_000, 1..400),
        messages in 1usize..200,
        bytes in 1000usize..2_000_000,
        seed in any::<u64>(),
    ) {
        let now = Instant::now();
        let mut planner = planner(Bounds { messages, bytes, batch: 32, receives: 4, largest: 200_000 }, &["a", "b", "c"]);
        let mut buffer: std::collections::VecDeque<usize> = Default::default();
        let mut open: Vec<Begun> = Vec::new();
        let mut random = fastrand::Rng::with_seed(seed);
        for weight in weights {
            while let Some(begun) = begin(&mut planner, now) {
                open.push(begun);
            }
            if !open.is_empty() && (buffer.is_empty() || random.bool()) {
                let index = random.usize(..open.len());
                if planner.on_message(&mut open[index], weight) {
                    buffer.push_back(weight);
                }
                if open[index].arrived == open[index].max {
                    let done = open.swap_remove(index);
                    planner.on_done(&done, Outcome::Messages(done.max), now, 0.0).expect("fine");
                }
            } else if let Some(weight) = buffer.pop_front() {
                planner.on_taken(weight);
            }
            let (held_messages, held_bytes) = planner.held();
            prop_assert!(held_messages <= messages.max(1));
            prop_assert!(held_bytes <= bytes || held_messages == 1, "{held_bytes} of {bytes}");
        }
        for done in open.drain(..) {
            planner.on_done(&done, Outcome::Empty, now + Duration::from_secs(9), 0.0).expect("fine");
        }
        while let Some(weight) = buffer.pop_front() {
            planner.on_taken(weight);
        }
        prop_assert_eq!(planner.held(), (0, 0));
        prop_assert!(begin(&mut planner, now + Duration::from_secs(9)).is_some(), "an empty plan receives");
    }
}
