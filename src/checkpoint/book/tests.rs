use super::under_way::PER_BROKER;
use super::*;
use crate::checkpoint::testing::{offset, positions, queue};
use crate::clock;
use crate::error::ErrorKind;

const BROKERS: Places = Places { store: false, brokers: true };
const BOTH: Places = Places { store: true, brokers: true };

fn epoch(number: usize) -> Epoch {
    (0..number).fold(Epoch::default(), |epoch, _| epoch.next())
}

fn commit(id: u32, epochs: usize, next: u64) -> Work {
    Work::Commit { queue: queue(id), epoch: epoch(epochs), next: offset(next) }
}

fn sent_to(work: Work) -> MessageQueue {
    let Work::Commit { queue, .. } = work else { panic!("{work:?}") };
    queue
}

fn failure(kind: ErrorKind) -> Error {
    Error::new(kind, "no").during(Operation::CommitOffset)
}

/// A book whose broker has had its first commit, of queue 1000.
fn book_with_first(now: Instant) -> Book {
    let mut book = Book::new(BROKERS);
    book.want(&queue(1000), epoch(0), offset(1));
    assert_eq!(book.work(now), [commit(1000, 0, 1)]);
    book.answered((&queue(1000), epoch(0), offset(1)), Ok(()), now, 0.0);
    book
}

#[test]
fn p1_each_change_is_sent_once_and_one_at_a_time() {
    let (mut book, now) = (Book::new(BROKERS), clock::now());
    book.want(&queue(1), epoch(0), offset(5));
    assert_eq!(book.work(now), [commit(1, 0, 5)]);
    book.want(&queue(1), epoch(0), offset(9));
    book.want(&queue(1), epoch(0), offset(7));
    assert_eq!(book.work(now), [], "the first is under way");
    book.answered((&queue(1), epoch(0), offset(5)), Ok(()), now, 0.0);
    assert_eq!(book.work(now), [commit(1, 0, 9)], "what was wanted meanwhile, and the larger of it");
    book.answered((&queue(1), epoch(0), offset(9)), Ok(()), now, 0.0);
    assert_eq!((book.work(now), book.next_wake()), (vec![], None));
}

#[test]
fn a_failure_is_tried_again_after_a_wait_that_grows() {
    let (mut book, start) = (Book::new(BROKERS), clock::now());
    book.want(&queue(1), epoch(0), offset(5));
    let mut now = start;
    for wait in [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
        assert_eq!(book.work(now).len(), 1);
        book.answered((&queue(1), epoch(0), offset(5)), Err(failure(ErrorKind::Timeout)), now, 0.0);
        let at = now + Duration::from_millis(wait);
        assert_eq!((book.next_wake(), book.work(now)), (Some(at), vec![]));
        now = at;
    }
    assert_eq!(book.take_events().len(), 1, "told once");
    book.work(now);
    book.answered((&queue(1), epoch(0), offset(5)), Ok(()), now, 0.0);
    book.want(&queue(1), epoch(0), offset(6));
    book.work(now);
    book.answered((&queue(1), epoch(0), offset(6)), Err(failure(ErrorKind::Timeout)), now, 0.0);
    assert_eq!(book.next_wake(), Some(now + FIRST_WAIT), "a success starts anew");
    assert_eq!(book.take_events().len(), 1, "and so does the telling");
}

#[test]
fn a_broker_that_does_not_answer_holds_a_few_commits_and_no_other_broker() {
    let now = clock::now();
    let (mut book, other) = (book_with_first(now), MessageQueue::new("orders", "broker-b", 0));
    (0..100).for_each(|id| book.want(&queue(id), epoch(0), offset(1)));
    book.want(&other, epoch(0), offset(1));
    let works = book.work(now);
    assert_eq!(works.len(), PER_BROKER + 1);
    assert_eq!((book.work(now), book.next_wake()), (vec![], None), "its answers call, no clock");
    book.answered((&queue(0), epoch(0), offset(1)), Err(failure(ErrorKind::Timeout)), now, 0.0);
    assert_eq!(book.work(now + FIRST_WAIT).len(), 0, "until the others are answered: it may have died");
    (1..8).for_each(|id| book.answered((&queue(id), epoch(0), offset(1)), Ok(()), now, 0.0));
    assert_eq!(book.work(now + FIRST_WAIT).len(), PER_BROKER);
    assert_eq!(book.next_wake(), None, "no hot loop over what is due and has no place");
}

#[test]
fn no_clock_calls_for_what_failed_while_others_have_all_its_brokers_places() {
    let now = clock::now();
    let mut book = book_with_first(now);
    (0..=PER_BROKER).for_each(|id| book.want(&queue(id as u32), epoch(0), offset(1)));
    assert_eq!(book.work(now).len(), PER_BROKER);
    book.answered((&queue(0), epoch(0), offset(1)), Err(failure(ErrorKind::Timeout)), now, 0.0);
    assert_eq!((book.next_wake(), book.work(now + FIRST_WAIT)), (None, vec![]));
    book.answered((&queue(1), epoch(0), offset(1)), Ok(()), now, 0.0);
    assert_eq!(book.work(now), [commit(PER_BROKER as u32, 0, 1)], "the last takes the place of one that is done");
    assert_eq!(book.next_wake(), Some(now + FIRST_WAIT));
}

#[test]
fn p23_the_first_commit_of_a_topic_goes_alone_to_each_broker() {
    let (mut book, now) = (Book::new(BROKERS), clock::now());
    let [other_broker, other_topic] =
        [("orders", "broker-b"), ("bills", "broker-a")].map(|(t, b)| MessageQueue::new(t, b, 0));
    [queue(1), queue(2), queue(3), other_broker.clone(), other_topic.clone()]
        .iter()
        .for_each(|queue| book.want(queue, epoch(0), offset(5)));
    let first: Vec<_> = book.work(now).into_iter().map(sent_to).collect();
    assert_eq!(first, [other_topic, queue(1), other_broker]);
    assert_eq!((book.work(now), book.next_wake()), (vec![], None), "the answer calls");
    book.answered((&queue(1), epoch(0), offset(5)), Ok(()), now, 0.0);
    assert_eq!(book.work(now), [commit(2, 0, 5), commit(3, 0, 5)]);
}

#[test]
fn p23_a_first_commit_that_failed_makes_room_for_another_first_one() {
    let (mut book, now) = (Book::new(BROKERS), clock::now());
    (1..=3).for_each(|id| book.want(&queue(id), epoch(0), offset(5)));
    assert_eq!(book.work(now), [commit(1, 0, 5)]);
    book.answered((&queue(1), epoch(0), offset(5)), Err(failure(ErrorKind::Timeout)), now, 0.0);
    assert_eq!(book.work(now), [commit(2, 0, 5)], "also alone");
    assert_eq!(book.work(now + FIRST_WAIT), []);
}

#[test]
fn p23_a_broker_that_may_have_died_or_has_forgotten_is_like_a_new_one() {
    let now = clock::now();
    for (kind, expected) in [(ErrorKind::Unavailable, 1), (ErrorKind::Timeout, 1), (ErrorKind::Throttled, 3)] {
        let mut book = book_with_first(now);
        book.want(&queue(1), epoch(0), offset(5));
        assert_eq!(book.work(now).len(), 1);
        book.answered((&queue(1), epoch(0), offset(5)), Err(failure(kind)), now, 0.0);
        (1..=3).for_each(|id| book.want(&queue(id), epoch(0), offset(6)));
        assert_eq!(book.work(now + FIRST_WAIT).len(), expected, "{kind:?}");
    }
    let mut book = book_with_first(now);
    book.found_at_broker(&queue(1000), Some(offset(1)), None);
    (1..=3).for_each(|id| book.want(&queue(id), epoch(0), offset(6)));
    assert_eq!(book.work(now).len(), 1);
}

#[test]
fn commits_go_together_to_a_broker_that_was_found_to_have_some_of_the_topic() {
    let (mut book, now) = (Book::new(BROKERS), clock::now());
    book.found_at_broker(&queue(9), None, Some(offset(3)));
    book.found_at_broker(&queue(1), None, None);
    (1..=3).for_each(|id| book.want(&queue(id), epoch(0), offset(6)));
    assert_eq!(book.work(now).len(), 3);
}

#[test]
fn p7_nothing_is_sent_for_a_queue_that_was_given_up() {
    let (mut book, now) = (Book::new(BROKERS), clock::now());
    book.want(&queue(1), epoch(0), offset(5));
    book.forget(&queue(1), epoch(0));
    assert_eq!((book.work(now), book.progress(&queue(1), offset(5), Reach::Everywhere)), (vec![], Progress::NotWanted));
    let event = book.take_events().pop();
    assert!(matches!(event, Some(CheckpointEvent::NotSavedOnRevoke { position, .. }) if position == offset(5)));
    book.want(&queue(1), epoch(1), offset(2));
    assert_eq!(book.work(now), [commit(1, 1, 2)], "who was owner meanwhile may have committed anything");
    book.forget(&queue(1), epoch(0));
    assert_ne!(
        book.progress(&queue(1), offset(2), Reach::Everywhere),
        Progress::NotWanted,
        "a late end of an earlier epoch"
    );
}

#[test]
fn the_store_is_saved_whole_and_one_at_a_time() {
    let (mut book, now) = (Book::new(BOTH), clock::now());
    book.found_in_store(&positions([(1, 5), (2, 6), (3, 7)]));
    book.want(&queue(1), epoch(0), offset(5));
    book.want(&queue(2), epoch(0), offset(9));
    book.found_at_broker(&queue(3), None, Some(offset(7)));
    let works = book.work(now);
    assert_eq!(works, [Work::Save(positions([(2, 9)])), commit(1, 0, 5), commit(2, 0, 9)]);
    book.want(&queue(1), epoch(0), offset(6));
    assert_eq!(book.work(now), []);
    assert_eq!(book.progress(&queue(2), offset(9), Reach::Durable), Progress::Pending);
    book.saved(Ok(()), now, 0.0);
    assert_eq!(book.progress(&queue(2), offset(9), Reach::Durable), Progress::Saved);
    assert_eq!(
        book.progress(&queue(2), offset(9), Reach::Everywhere),
        Progress::Pending,
        "the broker has not answered"
    );
    assert_eq!(book.work(now), [Work::Save(positions([(1, 6)]))]);
    book.saved(Err(failure(ErrorKind::Unavailable)), now, 0.0);
    assert_eq!((book.work(now), book.next_wake()), (vec![], Some(now + FIRST_WAIT)));
    assert!(matches!(book.take_events()[..], [CheckpointEvent::NotSaved { queue: None, .. }]));
    assert!(book.failure(&queue(1), Reach::Durable).is_some());
    book.hurry(&positions([(1, 6)]));
    assert_eq!(book.work(now), [Work::Save(positions([(1, 6)]))]);
    assert_eq!(book.unsaved(Reach::Durable), positions([(1, 6)]));
}

#[test]
fn p23_a_position_that_goes_back_is_told_and_counts_as_saved_only_when_it_is() {
    let (mut book, now) = (Book::new(BROKERS), clock::now());
    book.want(&queue(1), epoch(0), offset(50));
    book.work(now);
    book.answered((&queue(1), epoch(0), offset(50)), Ok(()), now, 0.0);
    assert_eq!(book.progress(&queue(1), offset(40), Reach::Durable), Progress::Saved, "what is below is saved with it");
    book.want(&queue(1), epoch(1), offset(40));
    assert!(matches!(book.take_events()[..], [CheckpointEvent::Rewound { from, to, .. }]
        if (from, to) == (offset(50), offset(40))));
    assert_eq!(book.progress(&queue(1), offset(40), Reach::Durable), Progress::Pending, "50 is of another epoch");
    book.want(&queue(1), epoch(0), offset(60));
    assert_eq!(book.work(now), [commit(1, 1, 40)], "an earlier epoch says nothing any more");
}

#[test]
fn what_was_acknowledged_counts_no_more_while_a_position_before_it_is_under_way() {
    let (mut book, now) = (Book::new(BROKERS), clock::now());
    book.begins_at_broker(&queue(1), offset(16));
    book.want(&queue(1), epoch(1), offset(15));
    assert_eq!(book.work(now), [commit(1, 1, 15)]);
    book.want(&queue(1), epoch(1), offset(16));
    assert_eq!(book.progress(&queue(1), offset(16), Reach::Durable), Progress::Pending, "it has 15, or will");
    book.answered((&queue(1), epoch(1), offset(15)), Ok(()), now, 0.0);
    assert_eq!(book.work(now), [commit(1, 1, 16)]);
    book.answered((&queue(1), epoch(1), offset(16)), Ok(()), now, 0.0);
    assert_eq!(book.progress(&queue(1), offset(16), Reach::Durable), Progress::Saved);
}

#[test]
fn what_may_have_been_saved_is_not_taken_for_what_was_acknowledged_before_it() {
    let (mut book, now) = (Book::new(BOTH), clock::now());
    book.found_in_store(&positions([(1, 10)]));
    book.begins_at_broker(&queue(1), offset(10));
    for next in [20, 25] {
        book.want(&queue(1), epoch(0), offset(next));
        book.hurry(&positions([(1, next)]));
        assert_eq!(book.work(now), [Work::Save(positions([(1, next)])), commit(1, 0, next)]);
        book.saved(Err(failure(ErrorKind::Timeout)), now, 0.0);
        book.answered((&queue(1), epoch(0), offset(next)), Err(failure(ErrorKind::Timeout)), now, 0.0);
        assert_eq!(book.committed(&queue(1)), Some(offset(10)), "that at least");
    }
    book.want(&queue(1), epoch(1), offset(10));
    assert_eq!(book.progress(&queue(1), offset(10), Reach::Durable), Progress::Pending, "20 or 25 may be there");
    book.hurry(&positions([(1, 10)]));
    assert_eq!(book.work(now), [Work::Save(positions([(1, 10)])), commit(1, 1, 10)]);
    book.saved(Ok(()), now, 0.0);
    book.answered((&queue(1), epoch(1), offset(10)), Ok(()), now, 0.0);
    assert_eq!(book.progress(&queue(1), offset(10), Reach::Everywhere), Progress::Saved);
    assert_eq!(book.work(now), []);
}

#[test]
fn what_is_below_is_saved_while_more_of_the_same_epoch_is_under_way() {
    let (mut book, now) = (Book::new(BROKERS), clock::now());
    for next in [5, 9, 12] {
        book.want(&queue(1), epoch(0), offset(next));
        book.hurry(&positions([(1, next)]));
        assert_eq!(book.work(now), [commit(1, 0, next)]);
        let answer = if next == 5 { Ok(()) } else { Err(failure(ErrorKind::Timeout)) };
        book.answered((&queue(1), epoch(0), offset(next)), answer, now, 0.0);
        assert_eq!(book.progress(&queue(1), offset(5), Reach::Durable), Progress::Saved, "whichever is there");
    }
    assert_eq!(book.progress(&queue(1), offset(9), Reach::Durable), Progress::Pending);
}

#[test]
fn p29_a_commit_of_before_a_reset_that_is_under_way_is_followed_by_one_of_its_place() {
    let (mut book, now) = (Book::new(BROKERS), clock::now());
    book.want(&queue(1), epoch(0), offset(40));
    assert_eq!(book.work(now), [commit(1, 0, 40)]);
    book.reset_at_broker(&queue(1), offset(5));
    book.want(&queue(1), epoch(1), offset(5));
    assert_eq!(book.progress(&queue(1), offset(5), Reach::Durable), Progress::Pending, "40 may come after it");
    book.answered((&queue(1), epoch(0), offset(40)), Err(failure(ErrorKind::Timeout)), now, 0.0);
    assert_eq!(book.work(now + FIRST_WAIT), [commit(1, 1, 5)]);
}

#[test]
fn p18_a_position_that_was_committed_before_a_reset_is_committed_again_after_it() {
    let (mut book, now) = (Book::new(BROKERS), clock::now());
    book.want(&queue(1), epoch(0), offset(40));
    assert_eq!(book.work(now), [commit(1, 0, 40)]);
    book.answered((&queue(1), epoch(0), offset(40)), Ok(()), now, 0.0);
    book.reset_at_broker(&queue(1), offset(5));
    book.want(&queue(1), epoch(1), offset(5));
    assert_eq!(book.work(now), [], "the broker has it already");
    book.want(&queue(1), epoch(1), offset(40));
    assert_eq!(book.work(now), [commit(1, 1, 40)]);
}

#[test]
fn p23_only_a_broker_that_has_less_than_before_has_forgotten() {
    let (mut book, now) = (Book::new(BROKERS), clock::now());
    book.found_at_broker(&queue(1), None, Some(offset(50)));
    book.want(&queue(1), epoch(0), offset(50));
    assert_eq!(book.work(now), [], "it is there already");
    book.want(&queue(1), epoch(0), offset(60));
    book.work(now);
    book.answered((&queue(1), epoch(0), offset(60)), Ok(()), now, 0.0);
    book.found_at_broker(&queue(1), Some(offset(50)), Some(offset(55)));
    book.found_at_broker(&queue(1), None, Some(offset(3)));
    assert_eq!((book.work(now), book.take_events().len()), (vec![], 0), "asked before the last commit was answered");
    book.found_at_broker(&queue(1), Some(offset(60)), Some(offset(57)));
    assert_eq!((book.work(now), book.take_events().len()), (vec![commit(1, 0, 60)], 1));
    book.answered((&queue(1), epoch(0), offset(60)), Ok(()), now, 0.0);
    book.found_at_broker(&queue(1), Some(offset(60)), None);
    assert_eq!((book.work(now), book.take_events().len()), (vec![commit(1, 0, 60)], 1), "it has forgotten all");
}

#[test]
fn p23_a_broker_that_has_what_it_acknowledged_has_forgotten_nothing() {
    let (mut book, now) = (Book::new(BROKERS), clock::now());
    book.want(&queue(1), epoch(0), offset(60));
    book.work(now);
    book.answered((&queue(1), epoch(0), offset(60)), Ok(()), now, 0.0);
    book.found_at_broker(&queue(1), book.committed(&queue(1)), Some(offset(60)));
    assert_eq!((book.committed(&queue(1)), book.take_events().len()), (Some(offset(60)), 0));
}

#[test]
fn no_clock_calls_for_what_is_under_way_or_not_wanted_any_more() {
    let (mut book, now) = (Book::new(BOTH), clock::now());
    book.want(&queue(1), epoch(0), offset(5));
    book.work(now);
    book.saved(Err(failure(ErrorKind::Timeout)), now, 0.0);
    book.answered((&queue(1), epoch(0), offset(5)), Err(failure(ErrorKind::Timeout)), now, 0.0);
    let later = now + FIRST_WAIT;
    assert_eq!((book.next_wake(), book.work(later).len()), (Some(later), 2));
    assert_eq!(book.next_wake(), None, "both are under way, and call by their answers");
    book.saved(Err(failure(ErrorKind::Timeout)), later, 0.0);
    book.answered((&queue(1), epoch(0), offset(5)), Err(failure(ErrorKind::Timeout)), later, 0.0);
    assert!(book.next_wake().is_some());
    book.forget(&queue(1), epoch(0));
    assert_eq!(book.next_wake(), None, "nothing is owed, to the store neither");
}

#[test]
fn a_commit_that_failed_and_is_found_at_the_broker_is_not_waited_for() {
    let (mut book, now) = (Book::new(BROKERS), clock::now());
    book.want(&queue(1), epoch(0), offset(5));
    book.work(now);
    book.answered((&queue(1), epoch(0), offset(5)), Err(failure(ErrorKind::Timeout)), now, 0.0);
    book.found_at_broker(&queue(1), None, Some(offset(5)));
    assert_eq!((book.next_wake(), book.work(now + FIRST_WAIT)), (None, vec![]));
}

#[test]
fn a_queue_that_is_ours_again_waits_for_what_is_under_way_and_not_for_a_failure_of_before() {
    let (mut book, now) = (Book::new(BROKERS), clock::now());
    book.want(&queue(1), epoch(0), offset(5));
    book.work(now);
    book.forget(&queue(1), epoch(0));
    book.want(&queue(1), epoch(1), offset(7));
    assert_eq!(book.work(now), [], "a commit of before could arrive after a new one");
    book.answered((&queue(1), epoch(0), offset(5)), Err(failure(ErrorKind::Timeout)), now, 0.0);
    assert_eq!(book.work(now), [], "it has failed, and waits");
    book.forget(&queue(1), epoch(1));
    book.want(&queue(1), epoch(2), offset(7));
    assert_eq!(book.work(now), [commit(1, 2, 7)]);
}

#[test]
fn with_a_store_alone_no_broker_counts_and_the_stores_failure_is_the_reason() {
    let (mut book, now) = (Book::new(Places { store: true, brokers: false }), clock::now());
    let wanted = positions([(1, 5)]);
    book.want(&queue(1), epoch(0), offset(5));
    assert_eq!(book.work(now), [Work::Save(wanted.clone())]);
    assert!(book.failure_among(&wanted, Reach::Everywhere).is_none());
    book.saved(Err(failure(ErrorKind::Unavailable)), now, 0.0);
    let reason = book.failure_among(&wanted, Reach::Everywhere).map(|error| error.kind());
    assert_eq!((reason, book.unsaved(Reach::Everywhere)), (Some(ErrorKind::Unavailable), wanted.clone()));
    book.hurry(&wanted);
    assert_eq!(book.work(now), [Work::Save(wanted)]);
    book.saved(Ok(()), now, 0.0);
    assert_eq!(book.progress(&queue(1), offset(5), Reach::Everywhere), Progress::Saved);
    assert_eq!((book.work(now), book.next_wake()), (vec![], None));
}

#[test]
fn only_what_cannot_pass_is_final() {
    for (kind, expected) in [
        (ErrorKind::Timeout, false),
        (ErrorKind::Unavailable, false),
        (ErrorKind::Throttled, false),
        (ErrorKind::PermissionDenied, true),
        (ErrorKind::Precondition, true),
        (ErrorKind::Unsupported, true),
    ] {
        assert_eq!(is_final(&failure(kind)), expected, "{kind:?}");
    }
}
