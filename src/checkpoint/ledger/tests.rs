use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::poll_fn;

use super::*;
use crate::checkpoint::Completion;
use crate::checkpoint::testing::{Told, begin, hand_out, offset, positions, queue};
use crate::clock;
use proptest::prelude::*;

#[test]
fn p2_a_checkpoint_has_what_was_completed_and_not_what_was_handed_out() {
    let ledger = Told::default().ledger();
    let (one, two) = (begin(&ledger, 1, 0, 100), begin(&ledger, 2, 0, 7));
    let first = hand_out(&one, 10);
    let _open = hand_out(&two, 10);
    assert_eq!(ledger.checkpoint(), positions([(1, 100), (2, 7)]));
    first.complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 110), (2, 7)]));
}

#[test]
fn queues_are_found_and_stand_with_what_is_open_while_they_are_owned() {
    let ledger = Told::default().ledger();
    let (one, two) = (begin(&ledger, 1, 0, 100), begin(&ledger, 2, 0, 7));
    let [first, _second] = [(); 2].map(|()| hand_out(&one, 2));
    let _third = hand_out(&one, 2);
    first.complete();
    assert_eq!(ledger.queue(&queue(1)).map(|found| found.standing()), Some(one.standing()));
    assert_eq!(ledger.standings(), [(queue(1), one.standing()), (queue(2), two.standing())]);
    let standing = one.standing();
    assert_eq!((standing.low_mark, standing.position), (offset(102), offset(106)));
    assert_eq!((standing.open, standing.window, standing.blocking), (4, 4, Some(offset(102)..offset(103))));
    drop(one.fence());
    assert!(ledger.queue(&queue(1)).is_none() && ledger.revoke(&queue(1)).is_none());
    assert_eq!(ledger.standings(), [(queue(2), two.standing())]);
    assert_eq!(ledger.revoke_all().len(), 1);
}

#[test]
fn p6_an_epoch_begins_once_and_ends_the_one_before() {
    let told = Told::default();
    let ledger = told.ledger();
    let before = begin(&ledger, 1, 0, 0);
    let old = hand_out(&before, 5);
    let again = ledger.begin(&queue(1), Epoch::default(), offset(0)).expect_err("the same epoch");
    assert_eq!(again.kind(), ErrorKind::Precondition);
    let now = begin(&ledger, 1, 1, 3);
    assert_eq!((before.epoch(), now.epoch()), (Epoch::default(), Epoch::default().next()));
    old.complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 3)]), "a completion of the old epoch moves nothing");
    assert_eq!(told.take(), ["late orders@broker-a:1 0..5"]);
    let refused = before.hand_out([offset(6)], clock::now()).expect_err("buffers of the old epoch are not handed out");
    assert_eq!((refused.kind(), refused.queue()), (ErrorKind::Closed, Some(&queue(1))));
    hand_out(&now, 2).complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 5)]));
    let back = ledger.begin(&queue(1), Epoch::default(), offset(0)).expect_err("an earlier epoch");
    assert!(back.to_string().contains("epoch 1"), "{back}");
}

#[test]
fn p8_what_nobody_has_seen_is_given_back_and_not_waited_for_and_nothing_more_is_handed_out() {
    let told = Told::default();
    let ledger = told.ledger();
    let one = begin(&ledger, 1, 0, 0);
    let mut seen = hand_out(&one, 10);
    let unseen = {
        let first = seen.take_first(4, offset(4));
        std::mem::replace(&mut seen, first)
    };
    ledger.revoke(&queue(1)).expect("it is owned");
    assert!(seen.is_revoking() && !seen.is_settled() && one.drained().now_or_never().is_none());
    unseen.give_back(Some(offset(7)));
    assert!(one.drained().now_or_never().is_none(), "what was seen is waited for");
    seen.complete();
    assert!(one.drained().now_or_never().is_some());
    assert_eq!(ledger.checkpoint(), positions([(1, 7)]), "there was no message before that");
    assert_eq!((told.take(), ledger.stats()), (vec![], LedgerStats::default()), "nobody dropped anything");
}

#[test]
fn completions_of_one_queue_in_one_epoch_lie_beside_each_other() {
    let ledger = Told::default().ledger();
    let (one, two) = (begin(&ledger, 1, 0, 0), begin(&ledger, 2, 0, 0));
    let (first, second, other) = (hand_out(&one, 3), hand_out(&one, 3), hand_out(&two, 3));
    assert!(first.is_beside(&second) && !first.is_beside(&other));
    let again = hand_out(&begin(&ledger, 1, 1, 0), 3);
    assert!(!first.is_beside(&again), "it began anew");
    let joined: Completion = [second, other].into_iter().collect();
    assert!(!joined.is_beside(&first) && !first.is_beside(&joined));
    [first, again, joined].into_iter().for_each(Completion::complete);
}

#[test]
fn p8_who_gives_back_is_handed_out_nothing_more() {
    let ledger = Told::default().ledger();
    let one = begin(&ledger, 1, 0, 0);
    hand_out(&one, 3).give_back(None);
    assert_eq!(one.standing().position, offset(0));
    let refused = one.hand_out([offset(1)], clock::now()).expect_err("its numbers were given back");
    assert_eq!(refused.kind(), ErrorKind::Closed);
    // What is not ours any more is left as it is; what was taken apart goes back as a whole.
    let two = begin(&ledger, 2, 0, 0);
    let late = hand_out(&two, 3);
    drop(two.fence());
    late.give_back(Some(offset(2)));
    assert_eq!(two.standing().low_mark, offset(0));
    let three = begin(&ledger, 3, 0, 0);
    let mut shares = hand_out(&three, 3).split(2);
    let (first, second) = (shares.next().expect("two"), shares.next().expect("two"));
    second.give_back(Some(offset(2)));
    first.complete();
    assert_eq!((three.standing().low_mark, three.standing().open), (offset(0), 0));
}

#[test]
fn p7_completions_of_a_queue_that_was_given_up_are_refused_counted_and_told_once() {
    let told = Told::default();
    let ledger = told.ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let (first, second, third) = (hand_out(&queue_ledger, 5), hand_out(&queue_ledger, 5), hand_out(&queue_ledger, 5));
    first.complete();
    assert_eq!(queue_ledger.fence().map(|fenced| fenced.low_mark), Some(offset(5)));
    assert!(queue_ledger.fence().is_none(), "it is fenced once");
    second.complete();
    third.complete();
    assert_eq!(ledger.stats(), LedgerStats { late: 2, dropped: 0 });
    assert_eq!(told.take(), ["late orders@broker-a:1 5..10"]);
    assert!(ledger.checkpoint().is_empty());
    let refused = ledger.complete_below(&positions([(1, 5)])).expect_err("it is not ours");
    assert_eq!((refused.kind(), refused.queue()), (ErrorKind::Precondition, Some(&queue(1))));
}

#[test]
fn p8_what_was_handed_out_may_finish_after_a_revoke_and_nothing_more_is_handed_out() {
    let ledger = Told::default().ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let (first, second) = (hand_out(&queue_ledger, 5), hand_out(&queue_ledger, 5));
    assert!(queue_ledger.may_hand_out());
    let revoked = ledger.revoke(&queue(1)).expect("ours");
    assert!(!queue_ledger.may_hand_out());
    assert!(queue_ledger.hand_out([offset(11)], clock::now()).is_err());
    queue_ledger.skip_to(offset(90));
    assert_eq!(revoked.drained().now_or_never(), None);
    second.complete();
    assert_eq!(revoked.drained().now_or_never(), None);
    first.complete();
    assert_eq!(revoked.drained().now_or_never(), Some(()));
    assert_eq!(revoked.fence().map(|fenced| fenced.low_mark), Some(offset(10)));
}

#[tokio::test(start_paused = true)]
async fn p8_who_waits_for_a_queue_to_drain_is_woken_by_the_last_completion_and_by_the_fence() {
    let ledger = Told::default().ledger();
    let second = Duration::from_secs(1);
    let (completed, fenced) = (begin(&ledger, 1, 0, 0), begin(&ledger, 2, 0, 0));
    let (first, _second) = (hand_out(&completed, 5), hand_out(&fenced, 5));
    assert_eq!(ledger.revoke_all().len(), 2);
    for queue in [&completed, &fenced] {
        assert!(clock::timeout(second, queue.drained()).await.is_none(), "{queue:?} has something open");
    }
    let (woken, ()) = tokio::join!(clock::timeout(second, completed.drained()), async { first.complete() });
    assert!(woken.is_some(), "the last completion wakes");
    let (woken, _) = tokio::join!(clock::timeout(second, fenced.drained()), async { drop(fenced.fence()) });
    assert!(woken.is_some(), "the fence wakes");
}

#[test]
fn p4_a_commit_beyond_what_was_handed_out_is_refused_and_completes_nothing() {
    let ledger = Told::default().ledger();
    let (one, two) = (begin(&ledger, 1, 0, 0), begin(&ledger, 2, 0, 0));
    let _open = (hand_out(&one, 5), hand_out(&two, 5));
    let refused = ledger.complete_below(&positions([(1, 5), (2, 6)])).expect_err("6 was not handed out");
    assert_eq!((refused.kind(), refused.queue()), (ErrorKind::InvalidArgument, Some(&queue(2))));
    assert!(refused.to_string().contains("offset `6`: only what lies before offset 5"), "{refused}");
    assert_eq!(ledger.checkpoint(), positions([(1, 0), (2, 0)]));
    ledger.complete_below(&positions([(1, 5), (2, 3)])).expect("both were handed out");
    assert_eq!(ledger.checkpoint(), positions([(1, 5), (2, 3)]));
}

#[test]
fn p7_a_commit_completes_the_queues_that_are_ours_and_names_one_that_is_not() {
    let ledger = Told::default().ledger();
    let one = begin(&ledger, 1, 0, 0);
    let open = hand_out(&one, 5);
    let refused = ledger.complete_below(&positions([(1, 5), (9, 5)])).expect_err("9 is not ours");
    assert_eq!(refused.queue(), Some(&queue(9)));
    assert_eq!(ledger.checkpoint(), positions([(1, 5)]));
    open.complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 5)]), "completing it again changes nothing");
}

async fn trouble(ledger: &Ledger) -> Option<Error> {
    poll_fn(|cx| ledger.poll_trouble(cx)).now_or_never()
}

#[tokio::test]
async fn a_dropped_completion_is_told_and_once_it_holds_others_ends_the_stream() {
    let told = Told::default();
    let ledger = told.ledger();
    let queue_ledger = begin(&ledger, 1, 0, 40);
    let (first, second, third) = (hand_out(&queue_ledger, 2), hand_out(&queue_ledger, 2), hand_out(&queue_ledger, 2));
    drop(first);
    assert_eq!(told.take(), ["dropped orders@broker-a:1 40..42"]);
    assert!(trouble(&ledger).await.is_none(), "nothing is held up yet: a checkpoint may pass it");
    second.complete();
    let error = trouble(&ledger).await.expect("what was completed behind it can never be committed");
    assert_eq!((error.kind(), error.queue()), (ErrorKind::Precondition, Some(&queue(1))));
    assert!(error.to_string().contains("offsets 40..41 was dropped"), "{error}");
    third.complete();
    assert!(trouble(&ledger).await.is_none(), "told once");
    assert_eq!((ledger.stats().dropped, ledger.checkpoint()), (1, positions([(1, 40)])));
}

#[tokio::test]
async fn an_engine_that_drops_completions_and_commits_checkpoints_is_not_disturbed() {
    let told = Told::default();
    let ledger = told.ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    for barrier in 1..=10 {
        for _ in 0..10 {
            drop(hand_out(&queue_ledger, 8));
            let position = queue_ledger.standing().position;
            queue_ledger.skip_to(offset(position.get() + 2));
        }
        ledger.complete_below(&positions([(1, barrier * 100)])).expect("handed out");
        assert_eq!(ledger.checkpoint(), positions([(1, barrier * 100)]));
    }
    assert!(trouble(&ledger).await.is_none());
    assert_eq!((told.take().len(), ledger.stats().dropped), (10, 100), "told once until the mark moves, and counted");
}

#[tokio::test]
async fn a_queue_that_pauses_behind_a_dropped_completion_ends_the_stream() {
    let ledger = Told::default().ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    drop(hand_out(&queue_ledger, 8));
    let room = poll_fn(|cx| queue_ledger.poll_room(cx, 8)).now_or_never();
    assert!(room.is_none() && trouble(&ledger).await.is_some());
}

#[test]
fn a_completion_dropped_after_its_stream_is_nothing_special() {
    let told = Told::default();
    let ledger = told.ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let (first, second) = (hand_out(&queue_ledger, 5), hand_out(&queue_ledger, 5));
    ledger.stream_ended();
    drop(second);
    first.complete();
    assert_eq!(
        (told.take().len(), ledger.stats(), ledger.checkpoint()),
        (0, LedgerStats::default(), positions([(1, 5)]))
    );
}

#[tokio::test]
async fn a_paused_queue_is_woken_when_its_window_is_small_enough() {
    let ledger = Told::default().ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let (first, second) = (hand_out(&queue_ledger, 5), hand_out(&queue_ledger, 5));
    let mut room = tokio_test_task(poll_fn(move |cx| queue_ledger.poll_room(cx, 6)));
    assert!(!room.is_ready());
    second.complete();
    assert!(!room.is_woken(), "the window still begins at the first");
    first.complete();
    assert!(room.is_woken() && room.is_ready());
}

#[tokio::test]
async fn a_paused_queue_that_is_given_up_is_woken_and_pauses_no_more() {
    let ledger = Told::default().ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let (_open, paused) = (hand_out(&queue_ledger, 5), queue_ledger.clone());
    let mut room = tokio_test_task(poll_fn(move |cx| paused.poll_room(cx, 0)));
    assert!(!room.is_ready());
    drop(queue_ledger.fence());
    assert!(room.is_woken() && room.is_ready());
}

#[tokio::test]
async fn a_queue_stays_paused_while_its_window_is_as_large_as_the_limit() {
    let ledger = Told::default().ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let [first, second, _third] = [(); 3].map(|()| hand_out(&queue_ledger, 5));
    let mut room = tokio_test_task(poll_fn(move |cx| queue_ledger.poll_room(cx, 10)));
    assert!(!room.is_ready());
    first.complete();
    assert!(!room.is_woken() && !room.is_ready());
    second.complete();
    assert!(room.is_woken() && room.is_ready());
}

#[tokio::test]
async fn a_completion_dropped_before_what_is_completed_already_ends_the_stream_at_once() {
    let ledger = Told::default().ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let (first, second) = (hand_out(&queue_ledger, 2), hand_out(&queue_ledger, 2));
    second.complete();
    assert!(trouble(&ledger).await.is_none());
    drop(first);
    assert!(trouble(&ledger).await.is_some());
}

/// A future and whether it was woken.
struct Spied<F> {
    future: std::pin::Pin<Box<F>>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

fn tokio_test_task<F: Future>(future: F) -> Spied<F> {
    Spied { future: Box::pin(future), woken: Arc::default() }
}

impl<F: Future> Spied<F> {
    fn is_ready(&mut self) -> bool {
        let waker = Arc::clone(&self.woken).into();
        self.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::Acquire)
    }
}

#[test]
fn what_is_handed_out_with_a_huge_gap_keeps_its_exact_range() {
    let ledger = Told::default().ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let far = 1 << 40;
    let lone = queue_ledger.hand_out([offset(far)], clock::now()).expect("handed out");
    assert_eq!(lone.range(), Some(offset(far - 1)..offset(far)));
    let wide = queue_ledger.hand_out([offset(far + 1), offset(2 * far), offset(2 * far + 1)], clock::now());
    let wide = wide.expect("handed out");
    assert_eq!(wide.range(), Some(offset(far)..offset(2 * far + 1)));
    wide.complete();
    lone.complete();
    assert_eq!(ledger.checkpoint(), positions([(1, 2 * far + 1)]));
}

#[test]
fn a_piece_has_the_gap_before_it_while_one_run_can_cover_it() {
    let widest = u64::from(u32::MAX);
    for (end, start) in [(widest, 0), (widest + 1, widest)] {
        let ledger = Told::default().ledger();
        let queue_ledger = begin(&ledger, 1, 0, 0);
        let piece = queue_ledger.hand_out([offset(end)], clock::now()).expect("handed out");
        assert_eq!(piece.range(), Some(offset(start)..offset(end)));
        piece.complete();
        assert_eq!(ledger.checkpoint(), positions([(1, end)]));
    }
}

#[test]
fn offsets_that_do_not_rise_are_the_servers_fault() {
    let ledger = Told::default().ledger();
    let queue_ledger = begin(&ledger, 1, 0, 10);
    let error = queue_ledger.hand_out([offset(11), offset(11)], clock::now()).expect_err("twice the same");
    assert_eq!((error.kind(), queue_ledger.standing().open), (ErrorKind::Protocol, 0));
}

#[test]
fn what_is_committed_before_it_is_handed_out_is_complete_at_once() {
    let told = Told::default();
    let ledger = told.ledger();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let done = queue_ledger.hand_out_completed((1..=5).map(offset), clock::now()).expect("handed out");
    assert_eq!(done.range(), Some(offset(0)..offset(5)));
    assert_eq!(ledger.checkpoint(), positions([(1, 5)]));
    drop(done);
    assert!(told.take().is_empty(), "there is nothing left to complete");
}

#[derive(Debug, Clone)]
enum Act {
    Begin(u32),
    HandOut(u32, u64),
    Finish(prop::sample::Index, Finish),
    Fence(u32),
}

#[derive(Debug, Clone, Copy)]
enum Finish {
    Complete,
    Split,
    Merge,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let finish = prop_oneof![Just(Finish::Complete), Just(Finish::Split), Just(Finish::Merge)];
    let act = prop_oneof![
        1 => (0u32..3).prop_map(Act::Begin),
        4 => (0u32..3, 1u64..40).prop_map(|(queue, count)| Act::HandOut(queue, count)),
        5 => (any::<prop::sample::Index>(), finish).prop_map(|(at, how)| Act::Finish(at, how)),
        1 => (0u32..3).prop_map(Act::Fence),
    ];
    prop::collection::vec(act, 1..80)
}

proptest! {
    /// Whatever is completed, split, merged and fenced: a mark never passes what is not completed, never goes back
    /// within an epoch, and in the end, when all is completed, is where the hand-out is.
    #[test]
    fn a_low_mark_is_the_first_offset_that_is_not_completed(acts in acts()) {
        let ledger = Told::default().ledger();
        let mut epochs = [0usize; 3];
        let mut owned: BTreeMap<u32, QueueLedger> = BTreeMap::new();
        // Queue, epoch, first offset and completion of what is open.
        let mut held: Vec<(u32, usize, u64, Vec<Completion>)> = Vec::new();
        let mut marks: BTreeMap<u32, u64> = BTreeMap::new();
        for act in acts {
            match act {
                Act::Begin(id) => {
                    let start = u64::from(id) * 1000 + epochs[id as usize] as u64;
                    owned.insert(id, begin(&ledger, id, epochs[id as usize], start));
                    epochs[id as usize] += 1;
                    marks.insert(id, start);
                }
                Act::HandOut(id, count) => if let Some(queue) = owned.get(&id) {
                    let from = queue.standing().position.get();
                    held.push((id, epochs[id as usize], from, vec![hand_out(queue, count)]));
                },
                Act::Finish(at, how) if !held.is_empty() => {
                    let at = at.index(held.len());
                    let (id, epoch, from, mut parts) = held.swap_remove(at);
                    match how {
                        Finish::Complete => parts.into_iter().for_each(Completion::complete),
                        Finish::Split => {
                            let mut shares = parts.remove(0).split(2);
                            shares.next().expect("two").complete();
                            held.push((id, epoch, from, vec![shares.next().expect("two")]));
                        }
                        Finish::Merge => {
                            let merged = parts.into_iter().collect();
                            held.push((id, epoch, from, vec![merged]));
                        }
                    }
                }
                Act::Fence(id) => drop(owned.remove(&id).and_then(|queue| queue.fence())),
                Act::Finish(..) => {}
            }
            for (id, queue) in &owned {
                let open = held.iter().filter(|(of, epoch, ..)| of == id && *epoch == epochs[*id as usize]);
                let expected = open.map(|(_, _, from, _)| *from).min();
                let standing = queue.standing();
                prop_assert_eq!(standing.low_mark.get(), expected.unwrap_or_else(|| standing.position.get()));
                prop_assert!(standing.low_mark.get() >= marks[id]);
                marks.insert(*id, standing.low_mark.get());
            }
        }
    }
}
