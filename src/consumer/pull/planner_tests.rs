use super::*;
use crate::consumer::pull::tests::message::{message, sized, stored_at};
use crate::model::{Epoch, Filter, OnOffsetGap};
use crate::transport::PullOutcome;
use proptest::prelude::*;

const OPTIONS: Options = Options {
    messages: 1024,
    bytes: 16 << 20,
    max_messages: 256,
    suspend: Duration::from_secs(20),
    on_gap: OnOffsetGap::Fail,
};

fn q(id: u32) -> MessageQueue {
    MessageQueue::new("t", "b", id)
}

fn at(offset: u64) -> Offset {
    Offset::new(offset)
}

fn start(id: u32, from: u64) -> Start {
    Start { queue: q(id), filter: Filter::all(), epoch: Epoch::default(), at: at(from), not_before: None, stop: None }
}

fn planner(options: Options, starts: impl IntoIterator<Item = Start>) -> Planner {
    let mut planner = Planner::new(options);
    for start in starts {
        assert_eq!(planner.begin(start), []);
    }
    planner
}

/// An answer with the messages of these offsets, and the queue's end.
fn found(id: u32, offsets: impl IntoIterator<Item = u64>, next: u64, end: u64) -> Pulled {
    let messages = offsets.into_iter().map(|offset| message(&q(id), offset)).collect();
    answer(PullOutcome::Found, messages, next, end)
}

fn answer(outcome: PullOutcome, messages: Vec<crate::model::Message>, next: u64, end: u64) -> Pulled {
    Pulled {
        messages,
        next_offset: at(next),
        outcome,
        min_offset: Some(at(0)),
        max_offset: Some(at(end)),
        suggested_replica: None,
    }
}

fn fetch(planner: &mut Planner, now: Instant) -> Fetch {
    match planner.next(now) {
        Step::Fetch(fetch) => fetch,
        other => panic!("a fetch was due, not {other:?}"),
    }
}

fn yielded(planner: &mut Planner, now: Instant) -> Piece {
    match served(planner, now) {
        Step::Yield(piece) => piece,
        other => panic!("a piece was due, not {other:?}"),
    }
}

/// The next step, once what was fetched was sent off.
fn served(planner: &mut Planner, now: Instant) -> Step {
    match planner.next(now) {
        Step::SendOff => planner.next(now),
        step => step,
    }
}

/// All fetches that are due now.
fn fetches(planner: &mut Planner, now: Instant) -> Vec<Fetch> {
    let mut all = Vec::new();
    loop {
        match planner.next(now) {
            Step::Fetch(fetch) => all.push(fetch),
            _ => return all,
        }
    }
}

fn range(piece: &Piece) -> (u64, u64) {
    (piece.range.start.get(), piece.range.end.get())
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "as the script says")
}

#[test]
fn one_pull_is_under_way_for_each_queue_and_the_next_goes_out_before_the_reader_is_served() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 5)]);
    let first = fetch(&mut planner, now);
    assert_eq!((first.offset, first.suspend), (at(5), None), "what a queue holds is not known yet: no long poll");
    assert!(matches!(planner.next(now), Step::Wait));
    planner.on_pulled(first.ticket, found(0, 5..8, 8, 20), now, 0.0);
    assert_eq!(fetch(&mut planner, now).offset, at(8), "at once, while the reader works on the first");
    assert!(matches!(planner.next(now), Step::SendOff), "and it is on its way by then");
    assert_eq!(range(&yielded(&mut planner, now)), (5, 8));
    assert!(matches!(planner.next(now), Step::Wait));
}

#[test]
fn a_queue_that_is_read_to_its_end_parks_a_long_poll() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 5)]);
    let first = fetch(&mut planner, now);
    assert!(matches!(planner.next(now), Step::Wait));
    planner.on_pulled(first.ticket, found(0, 5..8, 8, 8), now, 0.0);
    let parked = fetch(&mut planner, now);
    assert_eq!((parked.offset, parked.suspend), (at(8), Some(Duration::from_secs(20))));
    assert!(matches!(planner.next(now), Step::Yield(_)), "what came does not wait until it is on its way");
}

#[test]
fn ranges_follow_each_other_without_a_gap_also_over_what_was_filtered_away() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 0)]);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, found(0, [3, 5], 10, 100), now, 0.0);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, answer(PullOutcome::Filtered, vec![], 40, 100), now, 0.0);
    let pull = fetch(&mut planner, now);
    assert_eq!(pull.offset, at(40), "on at once after a filtered range");
    let piece = yielded(&mut planner, now);
    assert_eq!(range(&piece), (0, 40), "the filtered range joined the piece that waited");
    planner.on_pulled(pull.ticket, answer(PullOutcome::Filtered, vec![], 60, 100), now, 0.0);
    assert!(matches!(planner.next(now), Step::Skip { next, .. } if next == at(60)), "nothing waited: the mark moves");
    assert_eq!(planner.position(&q(0)), Some(at(60)));
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, found(0, 60..64, 64, 100), now, 0.0);
    let pull = fetch(&mut planner, now);
    assert_eq!(range(&yielded(&mut planner, now)), (40, 64), "and the next range begins where the last ended");
    assert_eq!(pull.offset, at(64));
}

#[test]
fn p15_queues_take_turns_and_a_slow_one_delays_nobody() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, (0..3).map(|id| start(id, 0)));
    let pulls = fetches(&mut planner, now);
    assert_eq!(pulls.len(), 3, "queue 2 never answers");
    let mut seen = Vec::new();
    let mut under_way: Vec<Fetch> = pulls.into_iter().take(2).collect();
    for _ in 0..4 {
        for pull in under_way.drain(..) {
            let id = pull.queue.id();
            let from = pull.offset.get();
            planner.on_pulled(pull.ticket, found(id, from..from + 2, from + 2, 1000), now, 0.0);
        }
        loop {
            match planner.next(now) {
                Step::Fetch(pull) => under_way.push(pull),
                Step::Yield(piece) => seen.push(piece.queue.id()),
                Step::SendOff => {}
                _ => break,
            }
        }
    }
    assert_eq!(seen, [0, 1, 0, 1, 0, 1, 0, 1]);
}

#[test]
fn p15_busy_queues_leave_room_for_the_long_poll_of_an_idle_one() {
    let now = Instant::now();
    let mut planner = planner(Options { messages: 64, ..OPTIONS }, [start(0, 0), start(1, 0)]);
    let [mut busy, idle] = fetches(&mut planner, now).try_into().expect("two");
    planner.on_pulled(idle.ticket, answer(PullOutcome::Empty, vec![], 0, 0), now, 0.0);
    let Step::Fetch(parked) = without_reader(&mut planner, now) else { panic!("a long poll is parked") };
    assert_eq!(parked.queue, q(1));
    // Nobody reads, so the busy queue takes all the room it can get.
    loop {
        let next = busy.offset.get() + u64::from(busy.max_messages);
        planner.on_pulled(busy.ticket, found(0, busy.offset.get()..next, next, 9000), now, 0.0);
        match without_reader(&mut planner, now) {
            Step::Fetch(fetch) => busy = fetch,
            _ => break,
        }
    }
    assert!(planner.held().0 > 32);
    planner.on_pulled(parked.ticket, found(1, 0..1, 1, 1), now, 0.0);
    let Step::Fetch(again) = without_reader(&mut planner, now) else { panic!("the idle queue waits for its next") };
    assert_eq!(again.queue, q(1));
}

#[test]
fn a_queue_that_has_left_its_tail_leaves_the_room_of_its_poll_to_all() {
    let now = Instant::now();
    let mut planner = planner(Options { messages: 64, ..OPTIONS }, [start(0, 0)]);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, answer(PullOutcome::Empty, vec![], 0, 0), now, 0.0);
    let parked = fetch(&mut planner, now);
    planner.on_pulled(parked.ticket, found(0, 0..1, 1, 9000), now, 0.0);
    let pull = fetch(&mut planner, now);
    assert_eq!((pull.suspend, pull.max_messages), (None, 63), "one is held");
}

#[test]
fn p16_what_is_held_is_bounded_over_all_queues_when_nobody_reads() {
    let now = Instant::now();
    let options = Options { bytes: 200_000, ..OPTIONS };
    let mut planner = planner(options, (0..50).map(|id| start(id, 0)));
    let mut waiting: VecDeque<Fetch> = VecDeque::new();
    let mut answers = 0;
    for _ in 0..5_000 {
        while let Step::Fetch(pull) = without_reader(&mut planner, now) {
            waiting.push_back(pull);
        }
        let Some(pull) = waiting.pop_front() else { break };
        answers += 1;
        let (id, from) = (pull.queue.id(), pull.offset.get());
        let messages: Vec<_> = (from..from + u64::from(pull.max_messages)).map(|o| sized(&q(id), o, 1000)).collect();
        let next = from + u64::from(pull.max_messages);
        planner.on_pulled(pull.ticket, answer(PullOutcome::Found, messages, next, 1 << 40), now, 0.0);
        let (held, bytes) = planner.held();
        assert!(bytes <= options.bytes && held <= options.messages, "{held} messages, {bytes} bytes");
    }
    assert!(waiting.is_empty(), "and then nothing is asked for any more");
    assert!(answers > 50, "every queue was asked: {answers}");
    assert!(planner.held().1 > options.bytes / 2, "the room is used");
}

#[test]
fn before_sizes_are_known_little_is_asked_for() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, (0..8).map(|id| start(id, 0)));
    let pulls = fetches(&mut planner, now);
    assert_eq!(pulls.iter().map(|pull| pull.max_messages).collect::<Vec<_>>(), [1; 8]);
    planner.on_pulled(pulls[0].ticket, found(0, 0..1, 1, 100_000), now, 0.0);
    assert_eq!(fetch(&mut planner, now).max_messages, 64, "then twice of what a broker usually gives");
}

#[test]
fn a_server_that_gives_more_is_asked_for_more() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 0)]);
    let mut asked = Vec::new();
    let mut from = 0;
    for _ in 0..5 {
        let pull = fetch(&mut planner, now);
        asked.push(pull.max_messages);
        let next = from + u64::from(pull.max_messages);
        planner.on_pulled(pull.ticket, found(0, from..next, next, 1 << 40), now, 0.0);
        from = next;
        let again = fetch(&mut planner, now);
        asked.push(again.max_messages);
        let next = from + u64::from(again.max_messages);
        planner.on_pulled(again.ticket, found(0, from..next, next, 1 << 40), now, 0.0);
        from = next;
        while planner.next_piece().is_some() {}
    }
    assert_eq!(asked[..5], [1, 64, 128, 256, 256]);
}

#[test]
fn a_queue_that_fails_backs_off_alone() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 0), start(1, 0)]);
    let [bad, good] = fetches(&mut planner, now).try_into().expect("two");
    planner.on_failed(bad.ticket, error(ErrorKind::Timeout), now, 0.0);
    planner.on_pulled(good.ticket, found(1, 0..1, 1, 9), now, 0.0);
    assert_eq!(fetch(&mut planner, now).queue, q(1));
    yielded(&mut planner, now);
    let Step::SleepUntil(until) = planner.next(now) else { panic!("it sleeps") };
    assert_eq!(until, now + Duration::from_millis(100));
    let again = fetch(&mut planner, until);
    assert_eq!((again.queue, again.max_messages), (q(0), 1), "a broker that failed is asked for little");
}

#[test]
fn a_fault_that_no_retry_can_mend_is_told_once() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 0)]);
    let pull = fetch(&mut planner, now);
    planner.on_failed(pull.ticket, error(ErrorKind::PermissionDenied), now, 0.0);
    assert!(matches!(planner.next(now), Step::Fail(error) if error.kind() == ErrorKind::PermissionDenied));
    assert!(matches!(planner.next(now), Step::Wait));
}

#[test]
fn an_empty_answer_that_comes_at_once_makes_no_hot_loop() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 0)]);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, answer(PullOutcome::Empty, vec![], 0, 0), now, 0.0);
    let parked = fetch(&mut planner, now);
    planner.on_pulled(parked.ticket, answer(PullOutcome::Empty, vec![], 0, 0), now, 0.0);
    assert!(matches!(planner.next(now), Step::SleepUntil(at) if at > now), "the long poll lasted no time at all");
    let later = now + Duration::from_secs(1);
    let parked = fetch(&mut planner, later);
    let end = later + Duration::from_secs(20);
    planner.on_pulled(parked.ticket, answer(PullOutcome::Empty, vec![], 0, 0), end, 0.0);
    let parked = fetch(&mut planner, end);
    assert!(parked.suspend.is_some(), "after a whole poll at once");
    let short = end + Duration::from_millis(200);
    planner.on_pulled(parked.ticket, answer(PullOutcome::Empty, vec![], 0, 0), short, 0.0);
    assert!(fetch(&mut planner, short).suspend.is_some(), "this was a poll, if a short one");
}

#[test]
fn p6_a_queue_lost_and_regained_drops_the_answers_and_the_buffer_of_before() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 0)]);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, found(0, 0..4, 4, 100), now, 0.0);
    let old = fetch(&mut planner, now);
    assert_eq!(planner.end(&q(0)), [old.ticket]);
    let epoch = Epoch::default().next();
    assert_eq!(planner.begin(Start { epoch, ..start(0, 2) }), []);
    assert_eq!(planner.on_pulled(old.ticket, found(0, 4..8, 8, 100), now, 0.0), None, "nobody waits for it");
    let new = fetch(&mut planner, now);
    assert_eq!(new.offset, at(2), "from the committed position");
    assert!(matches!(planner.next(now), Step::Wait), "what was buffered before is gone");
    planner.on_pulled(new.ticket, found(0, 2..4, 4, 4), now, 0.0);
    fetch(&mut planner, now);
    let piece = yielded(&mut planner, now);
    assert_eq!((range(&piece), piece.epoch), ((2, 4), epoch));
}

#[test]
fn p5_an_offset_that_is_gone_is_decided_by_the_declared_policy_once() {
    for (policy, goes_on) in
        [(OnOffsetGap::Fail, None), (OnOffsetGap::Earliest, Some(40)), (OnOffsetGap::Latest, Some(90))]
    {
        let now = Instant::now();
        let mut planner = planner(Options { on_gap: policy, ..OPTIONS }, [start(0, 17)]);
        let pull = fetch(&mut planner, now);
        planner.on_pulled(pull.ticket, answer(PullOutcome::OutOfRange, vec![], 40, 90), now, 0.0);
        match (planner.next(now), goes_on) {
            (Step::Fail(error), None) => {
                assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange);
                let text = error.to_string();
                assert!(text.contains("t@b:0") && text.contains("offset 17") && text.contains("40"), "{text}");
            }
            (Step::Tell(Notice::Gap { at: from, to, .. }), Some(next)) => {
                assert_eq!((from, to), (at(17), at(next)));
                assert!(matches!(planner.next(now), Step::Skip { next: skipped, .. } if skipped == at(next)));
                assert_eq!(fetch(&mut planner, now).offset, at(next));
            }
            (other, _) => panic!("{policy:?}: {other:?}"),
        }
    }
}

#[test]
fn p18_an_answer_that_points_back_unasked_is_refused_and_told_once() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 500)]);
    let pull = fetch(&mut planner, now);
    let back = || answer(PullOutcome::Filtered, vec![], 3, 1000);
    planner.on_pulled(pull.ticket, back(), now, 0.0);
    let Step::Tell(Notice::JumpRefused { at: from, offered, .. }) = planner.next(now) else { panic!("it is told") };
    assert_eq!((from, offered), (at(500), at(3)));
    let Step::SleepUntil(until) = planner.next(now) else { panic!("it backs off") };
    let again = fetch(&mut planner, until);
    assert_eq!(again.offset, at(500), "and stays where it was");
    planner.on_pulled(again.ticket, back(), until, 0.0);
    assert!(matches!(planner.next(until), Step::SleepUntil(_)), "the second time it is not told");
}

#[test]
fn p18_where_a_slave_says_that_a_queue_ends_is_not_believed_and_the_master_is_asked() {
    let now = Instant::now();
    for (policy, outcome) in [
        (OnOffsetGap::Fail, PullOutcome::OutOfRange),
        (OnOffsetGap::Earliest, PullOutcome::OutOfRange),
        (OnOffsetGap::Latest, PullOutcome::OutOfRange),
        (OnOffsetGap::Fail, PullOutcome::Filtered),
    ] {
        let mut planner = planner(Options { on_gap: policy, ..OPTIONS }, [start(0, 8)]);
        let pull = fetch(&mut planner, now);
        let suggested = Pulled { suggested_replica: Some(1), ..found(0, 8..10, 10, 100) };
        planner.on_pulled(pull.ticket, suggested, now, 0.0);
        let pull = fetch(&mut planner, now);
        assert_eq!((pull.replica, pull.offset), (Some(1), at(10)));
        let behind = Pulled { suggested_replica: Some(1), ..answer(outcome, vec![], 5, 5) };
        planner.on_pulled(pull.ticket, behind, now, 0.0);
        let Step::Tell(Notice::JumpRefused { at: from, offered, .. }) = planner.next(now) else { panic!("it is told") };
        assert_eq!((from, offered), (at(10), at(5)));
        yielded(&mut planner, now);
        let again = fetch(&mut planner, now + Duration::from_secs(60));
        assert_eq!((again.replica, again.offset), (None, at(10)), "{policy:?}");
    }
}

#[test]
fn p18_an_end_far_back_is_refused_whatever_the_policy_and_a_near_one_is_where_it_goes_on() {
    let now = Instant::now();
    for policy in [OnOffsetGap::Earliest, OnOffsetGap::Latest] {
        let mut planner = planner(Options { on_gap: policy, ..OPTIONS }, [start(0, 1_000_000), start(1, 1_000)]);
        let [far, near] = fetches(&mut planner, now).try_into().expect("two");
        planner.on_pulled(far.ticket, answer(PullOutcome::OutOfRange, vec![], 0, 0), now, 0.0);
        assert!(matches!(planner.next(now), Step::Fail(error) if error.kind() == ErrorKind::OffsetOutOfRange));
        planner.on_pulled(near.ticket, answer(PullOutcome::OutOfRange, vec![], 990, 990), now, 0.0);
        let Step::Restart { to, cause, .. } = planner.next(now) else { panic!("it begins anew") };
        assert_eq!((to, cause), (at(990), Cause::BeyondEnd));
    }
}

#[test]
fn p18_a_hundred_thousand_back_are_lost_messages_and_more_are_not() {
    let now = Instant::now();
    let options = Options { on_gap: OnOffsetGap::Latest, ..OPTIONS };
    for (end, goes_on) in [(400_000, true), (399_999, false)] {
        let mut planner = planner(options, [start(0, 500_000)]);
        let pull = fetch(&mut planner, now);
        planner.on_pulled(pull.ticket, answer(PullOutcome::OutOfRange, vec![], end, end), now, 0.0);
        assert_eq!(matches!(planner.next(now), Step::Restart { to, .. } if to == at(end)), goes_on, "{end}");
    }
}

#[test]
fn each_queue_has_a_size_of_its_own_messages_and_a_larger_one_counts_at_once() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 0), start(1, 0)]);
    let (large, small) = (sized(&q(0), 0, 8_000), message(&q(0), 1));
    let (large_weight, small_weight) = (large.weight(), small.weight());
    let between = large_weight - (large_weight - small_weight) / 8;
    for (offset, message, weight) in [(0, large, large_weight), (1, small, between)] {
        let pull = fetches(&mut planner, now).remove(0);
        planner.on_pulled(pull.ticket, answer(PullOutcome::Found, vec![message], offset + 1, 100), now, 0.0);
        let of_both = [0, 1].map(|id| planner.lane_of(&q(id)).expect("read").weight);
        assert_eq!(of_both, [weight, 0]);
    }
}

#[test]
fn p29_a_reset_is_obeyed_whatever_the_policy() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 500)]);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, found(0, 500..510, 510, 1000), now, 0.0);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, answer(PullOutcome::Reset, vec![], 7, 1000), now, 0.0);
    let Step::Restart { from, to, cause, .. } = planner.next(now) else { panic!("it begins anew") };
    assert_eq!((from, to, cause), (at(500), at(7), Cause::Reset));
    assert!(matches!(planner.next(now), Step::Wait), "what was buffered is gone; nothing happens before it begins");
    planner.begin(Start { epoch: Epoch::default().next(), ..start(0, 7) });
    assert_eq!(fetch(&mut planner, now).offset, at(7));
}

#[test]
fn p29_a_reset_is_obeyed_also_by_a_queue_whose_buffer_was_dropped_since_it_was_asked_for() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 0)]);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, found(0, 0..4, 4, 100), now, 0.0);
    let behind = fetch(&mut planner, now);
    planner.set_paused(&q(0), true);
    planner.on_pulled(behind.ticket, answer(PullOutcome::Reset, vec![], 70, 100), now, 0.0);
    let Step::Restart { from, to, cause, .. } = planner.next(now) else { panic!("nobody is told of it twice") };
    assert_eq!((from, to, cause), (at(0), at(70), Cause::Reset));
}

/// A queue that is read to its end at 4, of which nothing was handed out, and whose buffer was dropped: its long poll is
/// parked behind that.
fn with_a_stray_poll(now: Instant) -> (Planner, Fetch) {
    let mut planner = planner(OPTIONS, [start(0, 0)]);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, found(0, 0..4, 4, 4), now, 0.0);
    let parked = fetch(&mut planner, now);
    assert!(parked.suspend.is_some());
    planner.set_paused(&q(0), true);
    (planner, parked)
}

#[test]
fn a_queue_that_goes_on_waits_for_no_long_poll_behind_what_was_dropped() {
    let now = Instant::now();
    let (mut planner, stray) = with_a_stray_poll(now);
    assert!(matches!(planner.next(now), Step::Wait), "it is paused");
    planner.set_paused(&q(0), false);
    let pull = fetch(&mut planner, now);
    assert_eq!((pull.offset, pull.suspend), (at(0), None), "there is something");
    planner.on_pulled(pull.ticket, found(0, 0..4, 4, 4), now, 0.0);
    let parked = fetch(&mut planner, now);
    assert_eq!(range(&yielded(&mut planner, now)), (0, 4));
    planner.on_failed(stray.ticket, error(ErrorKind::PermissionDenied), now, 0.0);
    assert!(matches!(planner.next(now), Step::Wait), "the other pull will tell");
    planner.on_pulled(parked.ticket, found(0, 4..5, 5, 5), now, 0.0);
    fetch(&mut planner, now);
    assert_eq!(range(&yielded(&mut planner, now)), (4, 5));
}

#[test]
fn what_answers_a_long_poll_behind_what_was_dropped_comes_out_once() {
    let now = Instant::now();
    let (mut planner, stray) = with_a_stray_poll(now);
    planner.set_paused(&q(0), false);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(stray.ticket, found(0, 4..5, 5, 5), now, 0.0);
    assert!(matches!(planner.next(now), Step::Wait));
    planner.on_pulled(pull.ticket, found(0, 0..4, 4, 5), now, 0.0);
    let pull = fetch(&mut planner, now);
    assert_eq!((range(&yielded(&mut planner, now)), pull.offset), ((0, 4), at(4)));
}

#[test]
fn no_more_than_one_long_poll_is_left_behind() {
    let now = Instant::now();
    let (mut planner, stray) = with_a_stray_poll(now);
    planner.set_paused(&q(0), false);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, found(0, 0..4, 4, 4), now, 0.0);
    let parked = fetch(&mut planner, now);
    planner.set_paused(&q(0), true);
    planner.set_paused(&q(0), false);
    assert!(matches!(planner.next(now), Step::Wait), "two are parked at the broker");
    assert_eq!(planner.end(&q(0)), [parked.ticket, stray.ticket], "both are given up with the queue");
}

#[test]
fn p29_a_reset_is_obeyed_that_answers_a_long_poll_behind_what_was_dropped() {
    let now = Instant::now();
    let (mut planner, stray) = with_a_stray_poll(now);
    planner.set_paused(&q(0), false);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(stray.ticket, answer(PullOutcome::Reset, vec![], 70, 100), now, 0.0);
    planner.on_pulled(pull.ticket, found(0, 0..4, 4, 4), now, 0.0);
    let Step::Restart { from, to, cause, .. } = planner.next(now) else { panic!("nobody is told of it twice") };
    assert_eq!((from, to, cause), (at(0), at(70), Cause::Reset));
    assert!(matches!(planner.next(now), Step::Wait), "nothing of before comes out any more");
}

fn until(id: u32, from: u64, stop: u64, even_if_short: bool) -> Start {
    Start { stop: Some(Stop { at: at(stop), even_if_short }), ..start(id, from) }
}

#[test]
fn p14_a_bounded_read_ends_by_its_next_offset_and_not_by_the_last_message() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [until(0, 0, 10, true), until(1, 5, 5, true)]);
    planner.set_bounded(true, false);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, found(0, 0..4, 8, 20), now, 0.0);
    let pull = fetch(&mut planner, now);
    assert_eq!(range(&yielded(&mut planner, now)), (0, 8));
    planner.on_pulled(pull.ticket, answer(PullOutcome::Filtered, vec![], 15, 20), now, 0.0);
    assert!(matches!(planner.next(now), Step::Skip { next, .. } if next == at(10)), "not past the stop");
    assert!(matches!(planner.next(now), Step::Ended));
}

#[test]
fn p14_what_lies_beyond_the_stop_is_left_for_later() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [until(0, 0, 10, true)]);
    planner.set_bounded(true, false);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, found(0, 0..16, 16, 20), now, 0.0);
    let piece = yielded(&mut planner, now);
    assert_eq!((range(&piece), piece.messages.len()), ((0, 10), 10));
    assert_eq!(planner.position(&q(0)), Some(at(10)), "where a live reader goes on");
    assert!(matches!(planner.next(now), Step::Ended));
}

#[test]
fn p14_a_queue_that_lost_its_tail_has_reached_its_end() {
    let now = Instant::now();
    for (even_if_short, ends) in [(true, true), (false, false)] {
        let mut planner = planner(OPTIONS, [until(0, 3, 10, even_if_short)]);
        planner.set_bounded(true, false);
        let pull = fetch(&mut planner, now);
        planner.on_pulled(pull.ticket, answer(PullOutcome::Empty, vec![], 3, 3), now, 0.0);
        assert_eq!(matches!(planner.next(now), Step::Ended), ends, "explicit offsets may still be written");
    }
}

#[test]
fn a_bounded_plan_goes_on_with_the_queues_that_are_left() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [until(0, 5, 5, true), until(1, 0, 10, true), until(2, 0, 10, true)]);
    planner.set_bounded(true, false);
    fetches(&mut planner, now);
    planner.end(&q(0));
    planner.end(&q(1));
    assert!(matches!(planner.next(now), Step::Wait), "2 is still read");
    planner.end(&q(2));
    assert!(matches!(planner.next(now), Step::Ended));
}

#[test]
fn a_bounded_plan_ends_after_the_fault_that_no_retry_can_mend() {
    let now = Instant::now();
    let faults: [fn(&mut Planner, Ticket, Instant); 2] = [
        |planner, ticket, now| _ = planner.on_failed(ticket, error(ErrorKind::PermissionDenied), now, 0.0),
        |planner, ticket, now| {
            let expired = answer(PullOutcome::OutOfRange, vec![], 7, 100);
            planner.on_pulled(ticket, expired, now, 0.0);
        },
    ];
    for fault in faults {
        let mut planner = planner(OPTIONS, [until(0, 0, 10, true)]);
        planner.set_bounded(true, false);
        let pull = fetch(&mut planner, now);
        fault(&mut planner, pull.ticket, now);
        assert!(matches!(planner.next(now), Step::Fail(_)));
        assert!(matches!(planner.next(now), Step::Ended));
        planner.end(&q(0));
        assert!(matches!(planner.next(now), Step::Ended));
    }
}

#[test]
fn a_bounded_plan_waits_for_queues_that_are_on_their_way() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, []);
    planner.set_bounded(true, true);
    assert!(matches!(planner.next(now), Step::Wait));
    planner.set_bounded(true, false);
    assert!(matches!(planner.next(now), Step::Ended));
}

#[test]
fn p13_messages_before_the_wanted_time_are_filtered_out_and_later_ones_never() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [Start { not_before: Some(stored_at(6)), ..start(0, 4) }]);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, found(0, 4..9, 9, 100), now, 0.0);
    let pull = fetch(&mut planner, now);
    let piece = yielded(&mut planner, now);
    assert_eq!(piece.messages.iter().filter_map(|one| one.queue_offset()).collect::<Vec<_>>(), [at(6), at(7), at(8)]);
    // The clock of the broker went back: what is stored after the first wanted message is wanted.
    planner.on_pulled(pull.ticket, found(0, [2], 10, 100), now, 0.0);
    fetch(&mut planner, now);
    assert_eq!(yielded(&mut planner, now).messages.len(), 1);
}

#[test]
fn a_paused_queue_gives_its_room_back_and_goes_on_where_it_was() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 0)]);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, found(0, 0..4, 4, 100), now, 0.0);
    let under_way = fetch(&mut planner, now);
    planner.set_paused(&q(0), true);
    assert_eq!(planner.held(), (0, 0));
    planner.on_pulled(under_way.ticket, found(0, 4..8, 8, 100), now, 0.0);
    assert!(matches!(planner.next(now), Step::Wait));
    planner.set_paused(&q(0), false);
    let pull = fetch(&mut planner, now);
    assert_eq!(pull.offset, at(0), "what was dropped is pulled again");
    planner.on_pulled(pull.ticket, found(0, 0..2, 2, 2), now, 0.0);
    fetch(&mut planner, now);
    assert_eq!(range(&yielded(&mut planner, now)), (0, 2));
}

#[test]
fn what_arrives_while_a_queue_is_held_is_pulled_again_when_it_goes_on() {
    let holds: [fn(&mut Planner, bool); 2] =
        [|planner, on| planner.set_paused(&q(0), on), |planner, on| planner.set_blocked(&q(0), on)];
    for hold in holds {
        let now = Instant::now();
        let mut planner = planner(OPTIONS, [start(0, 0)]);
        let pull = fetch(&mut planner, now);
        hold(&mut planner, true);
        planner.on_pulled(pull.ticket, found(0, 0..4, 4, 100), now, 0.0);
        assert_eq!(planner.held(), (0, 0));
        assert!(matches!(planner.next(now), Step::Wait));
        hold(&mut planner, false);
        let pull = fetch(&mut planner, now);
        assert_eq!(pull.offset, at(0));
        planner.on_pulled(pull.ticket, found(0, 0..4, 4, 100), now, 0.0);
        let _ = fetch(&mut planner, now);
        assert!(planner.held().0 == 4);
        hold(&mut planner, true);
        assert_eq!(planner.held(), (0, 0), "it keeps no room from the others");
    }
}

#[test]
fn what_is_known_of_a_queue_can_be_asked() {
    let now = Instant::now();
    let epoch = Epoch::default().next();
    let begun = Start { epoch, not_before: Some(stored_at(1)), ..until(0, 5, 90, true) };
    let mut planner = planner(OPTIONS, [begun, start(1, 7)]);
    assert_eq!((planner.bounds_of(&q(0)), planner.position(&q(2))), ((None, None), None));
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, found(0, 5..8, 8, 100), now, 0.0);
    let (place, _) = planner.place_of(&q(0)).expect("it is read");
    assert_eq!((place.at, place.not_before), (at(5), None), "what is buffered is read again by who goes on");
    fetches(&mut planner, now);
    yielded(&mut planner, now);
    assert_eq!(planner.positions(), Checkpoint::from_iter([(q(0), at(8)), (q(1), at(7))]));
    let (place, _) = planner.place_of(&q(0)).expect("it is read");
    assert_eq!((place.queue, place.at, place.epoch), (q(0), at(8), epoch));
    assert_eq!(place.stop, Some(Stop { at: at(90), even_if_short: true }));
    assert_eq!(planner.bounds_of(&q(0)), (Some(at(0)), Some(at(100))));
}

#[test]
fn other_bounds_hold_from_the_next_pull_on() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 0)]);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, found(0, 0..1, 1, 1000), now, 0.0);
    planner.set_bounds(20, 1 << 20);
    assert_eq!(fetch(&mut planner, now).max_messages, 19, "one is held");
}

#[test]
fn a_queue_that_began_anew_while_it_stood_in_line_backs_off_like_any_other() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 0)]);
    assert_eq!(planner.begin(start(0, 5)), []);
    let pull = fetch(&mut planner, now);
    planner.on_failed(pull.ticket, error(ErrorKind::Timeout), now, 0.0);
    assert!(matches!(planner.next(now), Step::SleepUntil(_)), "its place of before is nobody's");
}

#[test]
fn an_answer_to_a_pull_behind_a_dropped_buffer_makes_no_hole() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 0)]);
    let pull = fetch(&mut planner, now);
    planner.on_pulled(pull.ticket, found(0, 0..4, 4, 100), now, 0.0);
    let behind = fetch(&mut planner, now);
    assert_eq!(behind.offset, at(4));
    planner.set_paused(&q(0), true);
    planner.set_paused(&q(0), false);
    planner.on_pulled(behind.ticket, found(0, 4..8, 8, 100), now, 0.0);
    assert_eq!(fetch(&mut planner, now).offset, at(0), "the first four were dropped, so they are pulled again");
    assert!(matches!(planner.next(now), Step::Wait));
}

#[test]
fn reads_follow_the_replica_that_the_broker_suggests_and_return_to_the_master_after_a_failure() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, [start(0, 0)]);
    let pull = fetch(&mut planner, now);
    assert_eq!(pull.replica, None);
    let suggested = Pulled { suggested_replica: Some(1), ..found(0, 0..1, 1, 9) };
    planner.on_pulled(pull.ticket, suggested, now, 0.0);
    let pull = fetch(&mut planner, now);
    assert_eq!(pull.replica, Some(1));
    planner.on_failed(pull.ticket, error(ErrorKind::Unavailable), now, 0.0);
    yielded(&mut planner, now);
    assert_eq!(fetch(&mut planner, now + Duration::from_secs(1)).replica, None);
}

#[test]
fn an_event_costs_the_same_with_ten_thousand_queues() {
    let now = Instant::now();
    let mut planner = planner(OPTIONS, (0..10_000).map(|id| start(id, 0)));
    let mut parked = Vec::new();
    for pull in std::iter::from_fn(|| match planner.next(now) {
        Step::Fetch(pull) => Some(pull),
        _ => None,
    })
    .collect::<Vec<_>>()
    {
        parked.push(pull);
    }
    // All are at their end: one by one they answer, and park.
    while let Some(pull) = parked.pop() {
        if pull.suspend.is_none() {
            planner.on_pulled(pull.ticket, answer(PullOutcome::Empty, vec![], 0, 0), now, 0.0);
        }
        while let Step::Fetch(next) = planner.next(now) {
            if next.suspend.is_none() {
                parked.push(next);
            }
        }
    }
    assert!(matches!(planner.next(now), Step::Wait), "each has its poll parked");
    let begun = Instant::now();
    for _ in 0..10_000 {
        assert!(matches!(planner.next(now), Step::Wait));
    }
    assert!(begun.elapsed() < Duration::from_millis(500), "no look at every queue: {:?}", begun.elapsed());
}

/// The next step while nobody takes what is handed out.
fn without_reader(planner: &mut Planner, now: Instant) -> Step {
    if let Some(step) = planner.told.pop_front() {
        return step;
    }
    planner.wake_up(now);
    let fetch = planner.next_at_tail(now).or_else(|| planner.next_behind(now));
    fetch.map_or(Step::Wait, Step::Fetch)
}

/// What a reader under test does next.
#[derive(Debug, Clone)]
enum Act {
    Answer { which: usize, give: u64, filtered: u64 },
    Fail { which: usize },
    Seek { id: u32, to: u64 },
    Pause { id: u32, on: bool },
    Advance,
    Read { on: bool },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (any::<usize>(), 0u64..40, 0u64..10).prop_map(|(which, give, filtered)| Act::Answer { which, give, filtered }),
        1 => any::<usize>().prop_map(|which| Act::Fail { which }),
        1 => (0u32..4, 0u64..300).prop_map(|(id, to)| Act::Seek { id, to }),
        1 => (0u32..4, any::<bool>()).prop_map(|(id, on)| Act::Pause { id, on }),
        1 => Just(Act::Advance),
        1 => any::<bool>().prop_map(|on| Act::Read { on }),
    ]
}

const END: u64 = 400;

/// Which offsets have a message for us; the rest was filtered away by the broker.
fn is_visible(offset: u64) -> bool {
    offset % 13 < 9
}

/// Plays the broker: up to `give` messages, then up to `filtered` offsets without one.
fn played(fetch: &Fetch, give: u64, filtered: u64) -> Pulled {
    let from = fetch.offset.get();
    let give = give.min(u64::from(fetch.max_messages)) as usize;
    let offsets: Vec<u64> = (from..END).filter(|offset| is_visible(*offset)).take(give).collect();
    let scanned = offsets.last().map_or(from, |last| last + 1);
    let hidden = (scanned..END).take_while(|offset| !is_visible(*offset)).take(filtered as usize).count() as u64;
    let next = scanned + hidden;
    let outcome = match (offsets.is_empty(), next > from) {
        (true, false) => PullOutcome::Empty,
        (true, true) => PullOutcome::Filtered,
        _ => PullOutcome::Found,
    };
    answer(outcome, offsets.into_iter().map(|offset| message(&fetch.queue, offset)).collect(), next, END)
}

proptest! {
    /// Whatever happens, each queue hands out every message from where it began, once and in order; its ranges tile its
    /// offsets; nothing is held beyond the bounds; and once all is resumed and answered, every queue is read to its end.
    #[test]
    fn nothing_is_lost_repeated_or_reordered(acts in prop::collection::vec(act(), 1..200), messages in 1usize..200) {
        let mut now = Instant::now();
        let mut planner = planner(Options { messages, ..OPTIONS }, (0..4).map(|id| start(id, 0)));
        let mut expected: HashMap<MessageQueue, u64> = (0..4).map(|id| (q(id), 0)).collect();
        let mut under_way: Vec<Fetch> = Vec::new();
        let mut reading = true;
        let finish = (0..4).map(|id| Act::Pause { id, on: false }).chain([Act::Read { on: true }]);
        let answers = (0..4_000).flat_map(|which| [Act::Answer { which, give: 40, filtered: 1 }, Act::Advance]);
        for act in acts.into_iter().chain(finish).chain(answers) {
            match act {
                Act::Answer { which, give, filtered } if !under_way.is_empty() => {
                    let pull = under_way.swap_remove(which % under_way.len());
                    let pulled = played(&pull, give, filtered);
                    planner.on_pulled(pull.ticket, pulled, now, 0.5);
                }
                Act::Fail { which } if !under_way.is_empty() => {
                    let pull = under_way.swap_remove(which % under_way.len());
                    planner.on_failed(pull.ticket, error(ErrorKind::Timeout), now, 0.5);
                }
                Act::Seek { id, to } => {
                    planner.begin(start(id, to));
                    expected.insert(q(id), to);
                }
                Act::Pause { id, on } => planner.set_paused(&q(id), on),
                Act::Advance => now += Duration::from_secs(4),
                Act::Read { on } => reading = on,
                _ => {}
            }
            let mut sent_off = false;
            loop {
                match if reading { planner.next(now) } else { without_reader(&mut planner, now) } {
                    Step::Fetch(pull) => under_way.push(pull),
                    Step::SendOff => {
                        prop_assert!(!sent_off, "there was nothing to hand out");
                        sent_off = true;
                        continue;
                    }
                    Step::Yield(piece) => {
                        let known = expected.get_mut(&piece.queue).expect("known");
                        prop_assert!(range(&piece).0 <= *known, "a gap before {piece:?}");
                        let visible: Vec<u64> = (*known..range(&piece).1).filter(|offset| is_visible(*offset)).collect();
                        let got: Vec<u64> =
                            piece.messages.iter().filter_map(|one| one.queue_offset()).map(Offset::get).collect();
                        prop_assert_eq!(got, visible);
                        *known = range(&piece).1;
                    }
                    Step::Skip { queue, next, .. } => {
                        let known = expected.insert(queue, next.get()).unwrap_or_default();
                        prop_assert!((known..next.get()).all(|offset| !is_visible(offset)), "skipped a message");
                    }
                    Step::SleepUntil(_) | Step::Wait => {
                        prop_assert!(!sent_off, "there was nothing to hand out");
                        break;
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
                sent_off = false;
                let held = planner.held().0;
                prop_assert!(held <= messages.max(1) + 32, "{held} held");
            }
        }
        for id in 0..4 {
            prop_assert_eq!(planner.position(&q(id)), Some(at(END)), "queue {} stands still", id);
        }
    }
}
