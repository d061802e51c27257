use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;

use super::*;
use crate::checkpoint::testing::{Behaviour, FakeBroker, Told, begin, hand_out, offset, positions, queue};
use crate::checkpoint::{CheckpointStore, Completion, MemoryCheckpoints, load_positions};
use crate::error::BoxError;

const SECOND: Duration = Duration::from_secs(1);

/// A consumer's ledger and committer, a broker, and what was told.
struct Rig {
    broker: Arc<FakeBroker>,
    told: Told,
    ledger: Ledger,
    committer: Committer,
    tasks: TaskGroup,
}

fn options(broker: &Arc<FakeBroker>) -> CommitterOptions {
    CommitterOptions { target: Some(Arc::clone(broker) as Arc<dyn CommitTarget>), ..CommitterOptions::new("etl") }
}

fn rig(change: impl FnOnce(CommitterOptions) -> CommitterOptions) -> Rig {
    let (broker, told, tasks) = (Arc::new(FakeBroker::default()), Told::default(), TaskGroup::new());
    let ledger = told.ledger();
    let committer = Committer::start(&tasks, &ledger, change(options(&broker)));
    Rig { broker, told, ledger, committer, tasks }
}

fn plain() -> Rig {
    rig(|options| options)
}

/// Saves only when it is told to.
fn seldom() -> Rig {
    rig(|options| CommitterOptions { interval: 3_600 * SECOND, ..options })
}

fn stored(store: &Arc<ShakyStore>) -> impl FnOnce(CommitterOptions) -> CommitterOptions {
    let store = Arc::clone(store) as Arc<dyn AnyStore>;
    |options| CommitterOptions { store: Some(store), ..options }
}

fn in_mode(mode: CommitMode) -> Rig {
    rig(|options| CommitterOptions { mode, ..options })
}

/// The group has committed on this topic before: no commit is the first, which goes alone.
fn has_committed_before(committer: &Committer) {
    committer.found(&queue(1000), None, Some(offset(1)));
}

/// A store in memory that fails on demand.
#[derive(Default)]
struct ShakyStore {
    inner: MemoryCheckpoints,
    fails: AtomicBool,
}

impl CheckpointStore for ShakyStore {
    async fn load(&self, group: &str) -> Result<Checkpoint, BoxError> {
        CheckpointStore::load(&self.inner, group).await
    }

    async fn save(&self, group: &str, checkpoint: &Checkpoint) -> Result<(), BoxError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err("the disk is full".into());
        }
        CheckpointStore::save(&self.inner, group, checkpoint).await
    }
}

#[tokio::test(start_paused = true)]
async fn p1_p2_at_each_interval_the_next_offsets_of_what_is_completed_are_committed() {
    let Rig { broker, ledger, committer: _committer, tasks: _tasks, .. } = plain();
    let queue_ledger = begin(&ledger, 1, 0, 100);
    hand_out(&queue_ledger, 5).complete();
    let open = hand_out(&queue_ledger, 5);
    assert!(broker.committed().is_empty());
    clock::sleep(6 * SECOND).await;
    assert_eq!(broker.committed(), positions([(1, 105)]));
    open.complete();
    assert_eq!(broker.committed(), positions([(1, 105)]));
    clock::sleep(5 * SECOND).await;
    assert_eq!(broker.committed(), positions([(1, 110)]));
}

#[tokio::test(start_paused = true)]
async fn many_completions_are_one_commit_and_no_change_is_none() {
    let Rig { broker, ledger, committer: _committer, tasks: _tasks, .. } = plain();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    for _ in 0..1000 {
        hand_out(&queue_ledger, 3).complete();
        clock::sleep(SECOND / 1000).await;
    }
    clock::sleep(30 * SECOND).await;
    assert_eq!(broker.take_log(), [(1, 3000)]);
}

#[tokio::test(start_paused = true)]
async fn a_flush_returns_when_what_was_completed_before_it_is_durable() {
    let Rig { broker, ledger, committer, tasks: _tasks, .. } = plain();
    broker.behave(1, Behaviour::Slowly(2 * SECOND));
    let queue_ledger = begin(&ledger, 1, 0, 0);
    hand_out(&queue_ledger, 5).complete();
    let begun = clock::now();
    committer.flush().await.expect("saved");
    assert_eq!((broker.committed(), clock::now() - begun >= 2 * SECOND), (positions([(1, 5)]), true));
    let begun = clock::now();
    committer.flush().await.expect("it is saved already");
    assert_eq!(clock::now() - begun, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn e4_a_flush_that_is_dropped_goes_on() {
    let Rig { broker, ledger, committer, tasks: _tasks, .. } = plain();
    broker.behave(1, Behaviour::Slowly(SECOND));
    let queue_ledger = begin(&ledger, 1, 0, 0);
    hand_out(&queue_ledger, 5).complete();
    assert!(committer.flush().now_or_never().is_none());
    clock::sleep(2 * SECOND).await;
    assert_eq!(broker.committed(), positions([(1, 5)]));
}

#[tokio::test(start_paused = true)]
async fn p8_p7_a_queue_that_is_given_up_drains_is_committed_and_then_fenced() {
    let Rig { broker, told, ledger, committer, tasks: _tasks } = plain();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let (first, second) = (hand_out(&queue_ledger, 5), hand_out(&queue_ledger, 5));
    let limit = 3 * SECOND;
    let lost = [queue(1)];
    let begun = clock::now();
    tokio::join!(committer.give_up(&lost, limit), async {
        clock::sleep(SECOND).await;
        first.complete();
    });
    assert_eq!(clock::now() - begun, limit, "the second did not finish in time");
    assert_eq!(broker.committed(), positions([(1, 5)]));
    broker.forbid(1, true);
    second.complete();
    clock::sleep(20 * SECOND).await;
    committer.flush().await.expect("nothing is to be saved");
    assert_eq!((told.take(), ledger.stats().late), (vec!["late orders@broker-a:1 5..10".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn p9_giving_up_is_bounded_also_when_nothing_answers_and_says_what_was_not_saved() {
    let Rig { broker, told, ledger, committer, tasks: _tasks } = plain();
    has_committed_before(&committer);
    broker.behave(1, Behaviour::Never);
    let (one, two) = (begin(&ledger, 1, 0, 0), begin(&ledger, 2, 0, 0));
    hand_out(&one, 5).complete();
    hand_out(&two, 5).complete();
    let _open = hand_out(&one, 5);
    let begun = clock::now();
    committer.give_up(&[queue(1), queue(2)], 3 * SECOND).await;
    assert_eq!(clock::now() - begun, 13 * SECOND, "the drain's limit and the save's");
    assert_eq!(broker.committed(), positions([(2, 5)]));
    assert_eq!(told.take(), ["not saved on revoke orders@broker-a:1 5"]);
}

#[tokio::test(start_paused = true)]
async fn e4_giving_up_that_is_dropped_fences_all_the_same() {
    let Rig { broker, told, ledger, committer, tasks: _tasks } = plain();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let open = hand_out(&queue_ledger, 5);
    assert!(committer.give_up(&[queue(1)], SECOND).now_or_never().is_none());
    broker.forbid(1, true);
    open.complete();
    clock::sleep(20 * SECOND).await;
    assert_eq!(told.take(), ["not saved on revoke orders@broker-a:1 0", "late orders@broker-a:1 0..5"]);
}

#[tokio::test(start_paused = true)]
async fn one_failing_queue_does_not_hold_the_others() {
    let Rig { broker, ledger, committer, tasks: _tasks, .. } = plain();
    has_committed_before(&committer);
    broker.behave(0, Behaviour::Never);
    broker.behave(1, Behaviour::Fails(ErrorKind::Throttled));
    let queues: Vec<_> = (0..100).map(|id| begin(&ledger, id, 0, 0)).collect();
    for round in 1..=3 {
        queues.iter().for_each(|queue| hand_out(queue, 1).complete());
        clock::sleep(5 * SECOND + SECOND / 10).await;
        assert_eq!(broker.committed().len(), 98);
        assert!(broker.committed().iter().all(|(_, next)| next == offset(round)), "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_with_longer_and_longer_waits_and_told_once() {
    let Rig { broker, told, ledger, committer: _committer, tasks: _tasks } = plain();
    broker.behave(1, Behaviour::Fails(ErrorKind::Timeout));
    let queue_ledger = begin(&ledger, 1, 0, 0);
    hand_out(&queue_ledger, 5).complete();
    clock::sleep(65 * SECOND).await;
    let tries = broker.take_log().len();
    assert!((8..20).contains(&tries), "{tries} tries in a minute");
    broker.behave(1, Behaviour::Well);
    clock::sleep(10 * SECOND).await;
    assert_eq!(broker.committed(), positions([(1, 5)]));
    assert_eq!(told.take(), ["not saved orders@broker-a:1: commit offset on queue orders@broker-a:1: no"]);
}

#[tokio::test(start_paused = true)]
async fn a_flush_fails_at_once_when_it_cannot_succeed_and_in_time_when_it_does_not() {
    let Rig { broker, ledger, committer, tasks: _tasks, .. } = plain();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    hand_out(&queue_ledger, 5).complete();
    broker.behave(1, Behaviour::Fails(ErrorKind::PermissionDenied));
    let begun = clock::now();
    let error = committer.flush().await.expect_err("it may not");
    assert_eq!((error.kind(), clock::now() - begun), (ErrorKind::PermissionDenied, Duration::ZERO));
    broker.behave(1, Behaviour::Fails(ErrorKind::Unavailable));
    let error = committer.flush().await.expect_err("it cannot");
    assert_eq!((error.kind(), clock::now() - begun), (ErrorKind::Timeout, 10 * SECOND));
    let cause = std::error::Error::source(&error).expect("the last failure").to_string();
    assert!(cause.contains("commit offset on queue orders@broker-a:1"), "{cause}");
    broker.behave(1, Behaviour::Well);
    committer.flush().await.expect("a flush does not wait for the back-off of earlier failures");
    assert_eq!(clock::now() - begun, 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_flush_ends_when_a_queue_is_set_elsewhere_and_is_saved_there() {
    for place in [3, 20] {
        let Rig { broker, ledger, committer, tasks: _tasks, .. } = seldom();
        hand_out(&begin(&ledger, 1, 0, 0), 10).complete();
        broker.behave(1, Behaviour::Fails(ErrorKind::Unavailable));
        let begun = clock::now();
        let (flushed, _sought) = tokio::join!(committer.flush(), async {
            clock::sleep(SECOND).await;
            broker.behave(1, Behaviour::Slowly(SECOND));
            let sought = begin(&ledger, 1, 1, place);
            committer.save_start(&queue(1));
            sought
        });
        flushed.expect("what was completed before counts no more");
        assert_eq!(broker.committed(), positions([(1, place)]));
        assert!(clock::now() - begun < 5 * SECOND, "{:?}", clock::now() - begun);
    }
}

#[tokio::test(start_paused = true)]
async fn p29_a_flush_ends_when_an_administrator_resets_the_group() {
    for place in [3, 20] {
        let Rig { broker, ledger, committer, tasks: _tasks, .. } = seldom();
        hand_out(&begin(&ledger, 1, 0, 0), 10).complete();
        broker.behave(1, Behaviour::Fails(ErrorKind::Unavailable));
        let begun = clock::now();
        let (flushed, _reset) = tokio::join!(committer.flush(), async {
            clock::sleep(SECOND).await;
            let reset = begin(&ledger, 1, 1, place);
            committer.reset(&queue(1), offset(place));
            reset
        });
        flushed.expect("the broker has the place of the reset");
        assert_eq!(clock::now() - begun, SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_no_queue_that_begins_anew_behind_what_it_waits_for() {
    let Rig { broker, ledger, committer, tasks: _tasks, .. } = seldom();
    has_committed_before(&committer);
    let (one, two) = (begin(&ledger, 1, 0, 0), begin(&ledger, 2, 0, 0));
    hand_out(&one, 5).complete();
    hand_out(&two, 5).complete();
    broker.behave(2, Behaviour::Fails(ErrorKind::Unavailable));
    let begun = clock::now();
    let (flushed, _given_back) = tokio::join!(committer.flush(), async {
        hand_out(&one, 5).complete();
        committer.save_start(&queue(1));
        clock::sleep(SECOND).await;
        let given_back = begin(&ledger, 1, 1, 10);
        committer.save_start(&queue(1));
        broker.behave(2, Behaviour::Well);
        given_back
    });
    flushed.expect("all of it is saved");
    assert_eq!(broker.committed(), positions([(1, 10), (2, 5)]));
    assert!(clock::now() - begun < 3 * SECOND, "{:?}", clock::now() - begun);
}

#[tokio::test(start_paused = true)]
async fn a_commit_says_when_its_queue_was_set_to_before_it_meanwhile() {
    for (mode, place, is_void) in [
        (CommitMode::AtLeastOnce, 3, true),
        (CommitMode::AtLeastOnce, 20, false),
        (CommitMode::Manual, 3, true),
        (CommitMode::Manual, 20, true),
    ] {
        let Rig { broker, ledger, committer, tasks: _tasks, .. } = in_mode(mode);
        let _open = hand_out(&begin(&ledger, 1, 0, 0), 10);
        broker.behave(1, Behaviour::Fails(ErrorKind::Unavailable));
        let wanted = positions([(1, 10)]);
        let begun = clock::now();
        let (committed, _reset) = tokio::join!(committer.commit(&wanted), async {
            clock::sleep(SECOND).await;
            let reset = begin(&ledger, 1, 1, place);
            committer.reset(&queue(1), offset(place));
            reset
        });
        assert_eq!((committed.is_err(), clock::now() - begun), (is_void, SECOND), "{mode:?} {place}");
        if let Err(error) = committed {
            assert_eq!((error.kind(), error.queue()), (ErrorKind::Precondition, Some(&queue(1))));
            assert!(error.to_string().contains("was set elsewhere meanwhile"), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_store_durable_means_in_the_store_and_the_brokers_are_a_mirror() {
    let store = Arc::new(ShakyStore::default());
    let Rig { broker, ledger, committer, told, tasks: _tasks } = rig(stored(&store));
    has_committed_before(&committer);
    broker.behave(1, Behaviour::Never);
    let (one, two) = (begin(&ledger, 1, 0, 0), begin(&ledger, 2, 0, 0));
    hand_out(&one, 5).complete();
    hand_out(&two, 6).complete();
    committer.flush().await.expect("the store has it");
    assert_eq!(store.inner.get("etl"), positions([(1, 5), (2, 6)]));
    clock::sleep(SECOND).await;
    assert_eq!(broker.committed(), positions([(2, 6)]), "admin tools see it");

    store.fails.store(true, Ordering::Relaxed);
    hand_out(&two, 1).complete();
    let error = committer.flush().await.expect_err("the store does not have it");
    assert_eq!((error.kind(), broker.committed()), (ErrorKind::Timeout, positions([(2, 7)])));
    store.fails.store(false, Ordering::Relaxed);
    committer.flush().await.expect("the store is well again");
    assert_eq!(store.inner.get("etl"), positions([(1, 5), (2, 7)]));
    let told = told.take();
    assert_eq!(told.len(), 1, "told once: {told:?}");
    assert!(told[0].starts_with("not saved: checkpoint in group etl: the checkpoint store failed to save"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn p12_what_the_store_has_is_loaded_and_not_saved_again() {
    let store = Arc::new(ShakyStore::default());
    CheckpointStore::save(&store.inner, "etl", &positions([(1, 50), (2, 60)])).await.expect("saved");
    let found = load_positions(&*store, &"etl".into(), SECOND).await.expect("loaded");
    assert_eq!(found, positions([(1, 50), (2, 60)]));
    let stored = stored(&store);
    let Rig { broker: _, ledger, committer: _committer, told, tasks: _tasks } =
        rig(move |options| CommitterOptions { found, ..stored(options) });
    let (_same, _back) = (begin(&ledger, 1, 0, 50), begin(&ledger, 2, 0, 40));
    store.fails.store(true, Ordering::Relaxed);
    clock::sleep(6 * SECOND).await;
    let told = told.take();
    assert_eq!(told[0], "rewound orders@broker-a:2 60 to 40", "a position that goes back is never silent (trap P23)");
}

#[tokio::test(start_paused = true)]
async fn p23_a_broker_that_has_forgotten_a_commit_is_told_again() {
    let Rig { broker, told, ledger, committer, tasks: _tasks } = plain();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    hand_out(&queue_ledger, 5).complete();
    committer.flush().await.expect("saved");
    let before = committer.committed(&queue(1));
    assert_eq!(before, Some(offset(5)));
    committer.found(&queue(1), before, Some(offset(5)));
    clock::sleep(6 * SECOND).await;
    assert_eq!((broker.take_log().len(), told.take().len()), (1, 0));
    committer.found(&queue(1), before, Some(offset(2)));
    clock::sleep(SECOND).await;
    assert_eq!(broker.take_log(), [(1, 5)]);
    assert_eq!(told.take(), ["forgotten orders@broker-a:1 5 to 2"]);
}

#[tokio::test(start_paused = true)]
async fn p6_a_queue_that_is_ours_again_is_committed_from_where_it_began() {
    let Rig { broker, told, ledger, committer, tasks: _tasks } = plain();
    let first = begin(&ledger, 1, 0, 0);
    hand_out(&first, 50).complete();
    committer.give_up(&[queue(1)], SECOND).await;
    let second = begin(&ledger, 1, 1, 80);
    hand_out(&second, 2).complete();
    committer.flush().await.expect("saved");
    let third = begin(&ledger, 1, 2, 20);
    hand_out(&third, 2).complete();
    committer.flush().await.expect("saved");
    assert_eq!(broker.take_log(), [(1, 50), (1, 82), (1, 22)]);
    assert_eq!(told.take(), ["rewound orders@broker-a:1 82 to 22"]);
}

#[tokio::test(start_paused = true)]
async fn p6_a_late_answer_of_an_earlier_epoch_does_not_overtake() {
    let Rig { broker, ledger, committer, tasks: _tasks, .. } = plain();
    let first = begin(&ledger, 1, 0, 0);
    hand_out(&first, 50).complete();
    broker.behave(1, Behaviour::Slowly(4 * SECOND));
    assert!(committer.flush().now_or_never().is_none());
    clock::sleep(SECOND).await;
    broker.behave(1, Behaviour::Well);
    let second = begin(&ledger, 1, 1, 20);
    hand_out(&second, 2).complete();
    committer.flush().await.expect("saved");
    assert_eq!(broker.take_log(), [(1, 50), (1, 22)], "one at a time: the last word is the new epoch's");
    assert_eq!(broker.committed(), positions([(1, 22)]));
}

#[tokio::test(start_paused = true)]
async fn in_manual_mode_only_a_commit_saves() {
    let Rig { broker, ledger, committer, tasks: _tasks, .. } = in_mode(CommitMode::Manual);
    let (one, two) = (begin(&ledger, 1, 0, 0), begin(&ledger, 2, 0, 0));
    hand_out(&one, 5).complete();
    hand_out(&two, 5).complete();
    clock::sleep(20 * SECOND).await;
    committer.flush().await.expect("nothing is to be saved");
    assert!(broker.committed().is_empty());
    committer.commit(&positions([(1, 3)])).await.expect("saved");
    assert_eq!(broker.take_log(), [(1, 3)]);
    committer.give_up(&[queue(1), queue(2)], SECOND).await;
    assert!(broker.take_log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn at_most_once_is_durable_before_it_is_handed_out() {
    let Rig { broker, ledger, committer, tasks: _tasks, .. } = in_mode(CommitMode::AtMostOnce);
    broker.behave(1, Behaviour::Slowly(SECOND));
    let queue_ledger = begin(&ledger, 1, 0, 10);
    committer.commit_before(&queue_ledger, offset(13)).await.expect("saved");
    assert_eq!(broker.committed(), positions([(1, 13)]));
    let ends = [11, 12, 13].map(offset);
    let batch = queue_ledger.hand_out_completed(ends, clock::now()).expect("handed out");
    assert_eq!(batch.range(), Some(offset(10)..offset(13)));
    broker.behave(1, Behaviour::Fails(ErrorKind::PermissionDenied));
    let error = committer.commit_before(&queue_ledger, offset(14)).await.expect_err("then nothing may be handed out");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

#[tokio::test(start_paused = true)]
async fn p7_at_most_once_commits_nothing_of_a_queue_that_was_given_up() {
    let Rig { broker, ledger, committer, tasks: _tasks, .. } = in_mode(CommitMode::AtMostOnce);
    let queue_ledger = begin(&ledger, 1, 0, 10);
    committer.give_up(&[queue(1)], SECOND).await;
    broker.forbid(1, true);
    let error = committer.commit_before(&queue_ledger, offset(13)).await.expect_err("it is not ours");
    assert_eq!((error.kind(), error.queue()), (ErrorKind::Closed, Some(&queue(1))));
    clock::sleep(20 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn p7_at_most_once_what_is_not_saved_of_a_queue_that_is_given_up_is_not_saved_any_more() {
    let Rig { broker, told, ledger, committer, tasks: _tasks } = in_mode(CommitMode::AtMostOnce);
    broker.behave(1, Behaviour::Fails(ErrorKind::Unavailable));
    let queue_ledger = begin(&ledger, 1, 0, 10);
    committer.save_start(&queue(1));
    assert!(committer.commit_before(&queue_ledger, offset(13)).now_or_never().is_none(), "nothing is handed out");
    clock::sleep(SECOND / 10).await;
    broker.behave(1, Behaviour::Well);
    broker.take_log();
    let begun = clock::now();
    committer.give_up(&[queue(1)], SECOND).await;
    assert_eq!(clock::now() - begun, Duration::ZERO, "there is nothing to wait for");
    clock::sleep(20 * SECOND).await;
    assert!(broker.take_log().is_empty(), "another owner may have committed more");
    assert_eq!(told.take().len(), 1, "that the first try failed, and nothing of messages that come again");
}

#[tokio::test(start_paused = true)]
async fn p7_what_is_completed_after_closing_is_refused_and_told() {
    let Rig { ledger, committer, told, tasks: _tasks, .. } = plain();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let open = hand_out(&queue_ledger, 5);
    let unfinished = committer.close(SECOND).await;
    assert_eq!(unfinished.open, [(queue(1), 5)]);
    open.complete();
    assert_eq!(told.take(), ["late orders@broker-a:1 0..5"]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_a_checkpoint_completes_what_lies_below_it_and_is_durable() {
    let Rig { broker, ledger, committer, tasks: _tasks, .. } = plain();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let (_first, second) = (hand_out(&queue_ledger, 5), hand_out(&queue_ledger, 5));
    second.complete();
    committer.commit(&positions([(1, 5)])).await.expect("saved");
    assert_eq!(broker.committed(), positions([(1, 5)]), "what was asked for, at least");
    committer.flush().await.expect("saved");
    assert_eq!(broker.committed(), positions([(1, 10)]));
    committer.commit(&positions([(1, 2)])).await.expect("all below it is durable");
    assert_eq!(broker.committed(), positions([(1, 10)]), "a commit does not go back");
}

#[tokio::test(start_paused = true)]
async fn p7_a_commit_saves_the_queues_that_are_ours_and_refuses_the_others() {
    let Rig { broker, ledger, committer, tasks: _tasks, .. } = plain();
    let (one, two) = (begin(&ledger, 1, 0, 0), begin(&ledger, 2, 0, 0));
    let _open = (hand_out(&one, 5), hand_out(&two, 5));
    committer.give_up(&[queue(2)], Duration::ZERO).await;
    broker.forbid(2, true);
    let error = committer.commit(&positions([(1, 5), (2, 5)])).await.expect_err("2 is not ours");
    assert_eq!((error.kind(), error.queue()), (ErrorKind::Precondition, Some(&queue(2))));
    assert_eq!(broker.committed().get(&queue(1)), Some(offset(5)));
    let error = committer.commit(&positions([(1, 6)])).await.expect_err("6 was not handed out");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn when_nobody_is_left_what_was_completed_is_saved_once_more() {
    let Rig { broker, ledger, committer, tasks, .. } = plain();
    let queue_ledger = begin(&ledger, 1, 0, 0);
    let last = hand_out(&queue_ledger, 5);
    drop((ledger, committer, queue_ledger));
    clock::sleep(SECOND).await;
    assert!(broker.committed().is_empty(), "a completion keeps the committer");
    last.complete();
    clock::sleep(SECOND).await;
    assert_eq!(broker.committed(), positions([(1, 5)]));
    assert!(tasks.join(SECOND).await, "and then it ends");
}

#[tokio::test(start_paused = true)]
async fn tasks_that_are_cancelled_end_soon_and_save_before() {
    let Rig { broker, ledger, committer, tasks, .. } = plain();
    broker.behave(2, Behaviour::Never);
    let (one, two) = (begin(&ledger, 1, 0, 0), begin(&ledger, 2, 0, 0));
    hand_out(&one, 5).complete();
    hand_out(&two, 5).complete();
    assert!(tasks.shutdown(LAST_TRIES + SECOND).await, "one that does not answer does not hold it for ever");
    assert_eq!(broker.committed(), positions([(1, 5)]));
    let error = committer.flush().await.expect_err("the committer has ended");
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn p9_closing_waits_for_what_is_open_saves_and_tells_what_was_not_finished() {
    let Rig { broker, told, ledger, committer, tasks } = plain();
    broker.behave(2, Behaviour::Never);
    let (one, two) = (begin(&ledger, 1, 0, 0), begin(&ledger, 2, 0, 0));
    let (first, second) = (hand_out(&one, 5), hand_out(&two, 5));
    let stays = hand_out(&two, 3);
    let begun = clock::now();
    let closing = committer.close(5 * SECOND);
    let (unfinished, ()) = tokio::join!(closing, async {
        clock::sleep(SECOND).await;
        first.complete();
        second.complete();
    });
    assert_eq!(clock::now() - begun, 5 * SECOND);
    let expected = Unfinished { open: vec![(queue(2), 3)], unsaved: positions([(2, 5)]) };
    assert_eq!((unfinished, broker.committed()), (expected, positions([(1, 5)])));
    assert!(tasks.join(SECOND).await, "the task ends");
    stays.complete();
    assert_eq!(told.take(), ["late orders@broker-a:2 5..8"]);
    let nothing = plain();
    assert_eq!(nothing.committer.close(SECOND).await, Unfinished::default());
}

/// A history: random hand-outs, completions, revokes and new epochs over a broker that fails now and then; crashes in
/// between. At every moment, and after every crash, what is committed is at or below what is completed, and what is
/// completed at or below what is handed out.
mod history {
    use std::collections::BTreeMap;
    use std::collections::btree_map::Entry;

    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Act {
        HandOut(u32, u64),
        Complete(prop::sample::Index),
        Wait(u64),
        Flush,
        GiveUp(u32),
        Begin(u32),
        Behave(u32, u8),
        Crash,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let id = 0u32..3;
        let act = prop_oneof![
            6 => (id.clone(), 1u64..20).prop_map(|(id, count)| Act::HandOut(id, count)),
            8 => any::<prop::sample::Index>().prop_map(Act::Complete),
            3 => (1u64..7000).prop_map(Act::Wait),
            1 => Just(Act::Flush),
            1 => id.clone().prop_map(Act::GiveUp),
            2 => id.clone().prop_map(Act::Begin),
            1 => (id, 0u8..4).prop_map(|(id, how)| Act::Behave(id, how)),
            1 => Just(Act::Crash),
        ];
        prop::collection::vec(act, 1..60)
    }

    /// What a process reaches the broker through: a crash closes it, and nothing of what is still under way arrives.
    #[derive(Debug)]
    struct Door {
        broker: Arc<FakeBroker>,
        is_shut: AtomicBool,
    }

    impl CommitTarget for Door {
        fn commit<'a>(&'a self, queue: &'a MessageQueue, next: Offset) -> Call<'a, ()> {
            if self.is_shut.load(Ordering::Relaxed) {
                return Box::pin(std::future::pending());
            }
            self.broker.commit(queue, next)
        }
    }

    /// One process, until it crashes.
    struct Process {
        rig: Rig,
        door: Arc<Door>,
        owned: BTreeMap<u32, QueueLedger>,
        epochs: BTreeMap<u32, usize>,
        held: Vec<(u32, usize, u64, u64, Completion)>,
    }

    /// What the outside world sees: which offsets were completed, by anybody, ever.
    #[derive(Default)]
    struct World {
        completed: BTreeMap<u32, Vec<(u64, u64)>>,
    }

    impl World {
        fn complete(&mut self, id: u32, from: u64, to: u64) {
            self.completed.entry(id).or_default().push((from, to));
        }

        /// The first offset that nobody has completed.
        fn first_open(&self, id: u32) -> u64 {
            let mut ranges = self.completed.get(&id).cloned().unwrap_or_default();
            ranges.sort_unstable();
            ranges.into_iter().fold(0, |first, (from, to)| if from <= first { first.max(to) } else { first })
        }
    }

    fn process(broker: &Arc<FakeBroker>) -> Process {
        let (told, tasks) = (Told::default(), TaskGroup::new());
        let ledger = told.ledger();
        let door = Arc::new(Door { broker: Arc::clone(broker), is_shut: AtomicBool::new(false) });
        let options = CommitterOptions { target: Some(Arc::<Door>::clone(&door)), ..options(broker) };
        let committer = Committer::start(&tasks, &ledger, options);
        let rig = Rig { broker: Arc::clone(broker), told, ledger, committer, tasks };
        (0..3).for_each(|id| broker.forbid(id, true));
        Process { rig, door, owned: BTreeMap::new(), epochs: BTreeMap::new(), held: Vec::new() }
    }

    async fn act(process: &mut Process, world: &mut World, act: Act) {
        let Process { rig, owned, epochs, held, .. } = process;
        match act {
            Act::HandOut(id, count) => {
                if let Some(queue) = owned.get(&id) {
                    let from = queue.standing().position.get();
                    held.push((id, epochs[&id], from, from + count, hand_out(queue, count)));
                }
            }
            Act::Complete(at) if !held.is_empty() => {
                let (id, epoch, from, to, completion) = held.swap_remove(at.index(held.len()));
                completion.complete();
                if owned.contains_key(&id) && epochs[&id] == epoch {
                    world.complete(id, from, to);
                }
            }
            Act::Complete(_) => {}
            Act::Wait(millis) => clock::sleep(Duration::from_millis(millis)).await,
            Act::Flush => {
                let marks = rig.ledger.checkpoint();
                if rig.committer.flush().await.is_ok() {
                    let saved = rig.broker.committed();
                    assert!(marks.iter().all(|(queue, next)| saved.get(queue) >= Some(next)), "{marks:?} > {saved:?}");
                }
            }
            Act::GiveUp(id) => {
                if owned.remove(&id).is_some() {
                    rig.committer.give_up(&[queue(id)], SECOND).await;
                    rig.broker.forbid(id, true);
                }
            }
            Act::Begin(id) => {
                if let Entry::Vacant(entry) = owned.entry(id) {
                    let start = rig.broker.committed().get(&queue(id)).map_or(0, Offset::get);
                    let epoch = epochs.entry(id).and_modify(|epoch| *epoch += 1).or_default();
                    rig.broker.forbid(id, false);
                    entry.insert(begin(&rig.ledger, id, *epoch, start));
                }
            }
            Act::Behave(id, how) => rig.broker.behave(
                id,
                match how {
                    0 => Behaviour::Fails(ErrorKind::Timeout),
                    1 => Behaviour::Slowly(Duration::from_millis(700)),
                    2 => Behaviour::Fails(ErrorKind::PermissionDenied),
                    _ => Behaviour::Well,
                },
            ),
            Act::Crash => unreachable!("the caller does it"),
        }
    }

    fn check(broker: &FakeBroker, world: &World) {
        for (queue, next) in broker.committed().iter() {
            let first_open = world.first_open(queue.id());
            assert!(next.get() <= first_open, "{queue} is committed at {next}, and {first_open} is not completed");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn nothing_is_committed_that_was_not_completed_and_nothing_completed_is_lost(acts in acts()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.expect("a runtime").block_on(async {
                let (broker, mut world) = (Arc::new(FakeBroker::default()), World::default());
                let mut running = process(&broker);
                for next in acts {
                    if matches!(next, Act::Crash) {
                        // No last save arrives, and completions come to nothing.
                        running.door.is_shut.store(true, Ordering::Relaxed);
                        drop(running.rig.tasks);
                        running.held.clear();
                        running = process(&broker);
                    } else {
                        act(&mut running, &mut world, next).await;
                    }
                    check(&broker, &world);
                }
                (0..3).for_each(|id| broker.behave(id, Behaviour::Well));
                let marks = running.rig.ledger.checkpoint();
                let unfinished = running.rig.committer.close(20 * SECOND).await;
                assert_eq!(unfinished.unsaved, Checkpoint::new());
                let saved = broker.committed();
                assert!(marks.iter().all(|(queue, next)| saved.get(queue) >= Some(next)), "{marks:?} > {saved:?}");
                check(&broker, &world);
            });
        }
    }
}
