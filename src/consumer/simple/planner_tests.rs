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
