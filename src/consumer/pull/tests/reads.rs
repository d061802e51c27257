//! Starts, ranges, completions and commits.

use super::*;
use crate::checkpoint::{CommitMode, MemoryCheckpoints};
use crate::consumer::pull::PullEvent;
use crate::error::ErrorKind;
use crate::model::{Checkpoint, OnOffsetGap};
use futures_util::TryStreamExt;

#[tokio::test(start_paused = true)]
async fn every_message_of_every_queue_comes_once_and_in_order() {
    let fake = Fake::new(&[100, 0, 33]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    let mut seen = vec![Vec::new(); 3];
    while seen.iter().map(Vec::len).sum::<usize>() < 133 {
        let batch = next(&mut consumer).await;
        let offsets = batch.messages().iter().filter_map(|one| one.queue_offset()).map(Offset::get);
        seen[batch.queue().id() as usize].extend(offsets);
        batch.complete();
    }
    assert_eq!(seen, [(0..100).collect::<Vec<_>>(), vec![], (0..33).collect()]);
    fake.append(&q(1), 3);
    let batch = next(&mut consumer).await;
    assert_eq!((batch.queue(), batch.len()), (&q(1), 3), "a parked poll brings what is sent later");
}

#[tokio::test(start_paused = true)]
async fn p1_what_is_committed_is_the_next_offset_and_p2_only_of_what_was_completed() {
    let fake = Fake::new(&[10]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    let first = next(&mut consumer).await;
    let rest = next(&mut consumer).await;
    assert_eq!((first.range(), rest.range()), (at(0)..at(1), at(1)..at(10)));
    assert_eq!(consumer.position().get(&q(0)), Some(at(10)), "handed out");
    let control = consumer.control();
    control.flush().await.unwrap();
    assert_eq!(fake.committed(&q(0)).unwrap_or(0), 0, "nothing was completed");
    rest.complete();
    control.flush().await.unwrap();
    assert_eq!(fake.committed(&q(0)).unwrap_or(0), 0, "the first is still open");
    first.complete();
    control.flush().await.unwrap();
    assert_eq!(fake.committed(&q(0)), Some(10));
}

#[tokio::test(start_paused = true)]
async fn filtered_ranges_are_part_of_the_ranges_and_of_what_is_committed() {
    let fake = Fake::new(&[40]);
    fake.with_log(&q(0), |log| log.hidden = (3..30).chain(35..40).collect());
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    let mut end = at(0);
    let mut messages = 0;
    while messages < 8 {
        let batch = next(&mut consumer).await;
        assert_eq!(batch.range().start, end, "no gap and no overlap");
        end = batch.range().end;
        messages += batch.len();
        batch.complete();
    }
    assert!(is_silent(&mut consumer).await);
    assert_eq!(consumer.position().get(&q(0)), Some(at(40)), "past what was filtered away");
    consumer.control().flush().await.unwrap();
    assert_eq!(fake.committed(&q(0)), Some(40));
}

#[tokio::test(start_paused = true)]
async fn a_store_of_its_own_comes_before_the_brokers_offset_and_is_mirrored_there() {
    let fake = Fake::new(&[50]);
    fake.with_log(&q(0), |log| log.committed = Some(40));
    let store = MemoryCheckpoints::new();
    crate::checkpoint::CheckpointStore::save(&store, "g", &Checkpoint::from_iter([(q(0), at(20))])).await.unwrap();
    let mut consumer = build(subscribed().checkpoints(store.clone()), &fake).await.unwrap();
    assert_eq!(read(&mut consumer, &q(0), 30).await, (20..50).collect::<Vec<_>>());
    consumer.control().shutdown(Duration::from_secs(5)).await.ignore();
    assert_eq!(store.get("g").get(&q(0)), Some(at(50)));
    assert_eq!(fake.committed(&q(0)), Some(50));
}

#[tokio::test(start_paused = true)]
async fn a_store_is_let_go_of_when_its_consumer_was_shut_down() {
    let fake = Fake::new(&[5]);
    let store = Arc::new(MemoryCheckpoints::new());
    let mut consumer = build(subscribed().checkpoints(Arc::clone(&store)), &fake).await.unwrap();
    let control = consumer.control();
    read(&mut consumer, &q(0), 5).await;
    assert!(control.shutdown(Duration::from_secs(5)).await.complete);
    assert_eq!(Arc::strong_count(&store), 1, "although consumer and control are still there");
    drop((consumer, control));
}

#[tokio::test(start_paused = true)]
async fn start_from_says_where_each_queue_begins() {
    let restored = Checkpoint::from_iter([(q(0), at(7))]);
    for (start, committed, expected) in [
        (StartFrom::Earliest, Some(20), 2),
        (StartFrom::Timestamp(message::stored_at(9)), Some(20), 9),
        (StartFrom::committed_or_earliest(), Some(20), 20),
        (StartFrom::committed_or_earliest(), None, 2),
        (StartFrom::Checkpoint(restored), Some(20), 7),
        (StartFrom::Offsets([(q(0), at(11))].into()), Some(20), 11),
    ] {
        let fake = Fake::new(&[30]);
        fake.with_log(&q(0), |log| (log.min, log.committed) = (2, committed));
        let mut consumer = build(subscribed().start_from(start.clone()), &fake).await.unwrap();
        let first = next(&mut consumer).await;
        assert_eq!(first.range().start, at(expected), "{start:?} with {committed:?} committed");
    }
    let fake = Fake::new(&[30]);
    let mut consumer = build(subscribed().start_from(StartFrom::Latest), &fake).await.unwrap();
    fake.append(&q(0), 1);
    assert_eq!(next(&mut consumer).await.range(), at(30)..at(31), "what is sent after the build");
}

#[tokio::test(start_paused = true)]
async fn p5_an_expired_offset_fails_once_and_then_the_stream_has_ended() {
    let fake = Fake::new(&[100]);
    fake.with_log(&q(0), |log| (log.min, log.committed) = (50, Some(10)));
    let start = StartFrom::committed_or_latest();
    let mut consumer = build(subscribed().start_from(start.clone()), &fake).await.unwrap();
    let error = next_error(&mut consumer).await;
    assert_eq!((error.kind(), error.queue()), (ErrorKind::OffsetOutOfRange, Some(&q(0))), "{error}");
    assert!(consumer.next().await.is_none());

    let lenient = subscribed().start_from(start).on_offset_gap(OnOffsetGap::Earliest);
    let mut consumer = build(lenient, &fake).await.unwrap();
    let mut events = consumer.control().events();
    assert_eq!(next(&mut consumer).await.range(), at(10)..at(51), "the gap is part of the range");
    let gap = events.next().await;
    assert!(matches!(gap, Some(PullEvent::Gap { at: from, to, .. }) if (from, to) == (at(10), at(50))), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_master_reading_goes_on_and_commits_wait_for_it() {
    let fake = Fake::new(&[10]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    let control = consumer.control();
    next(&mut consumer).await.complete();
    control.flush().await.unwrap();
    fake.state().without_master.insert("b".into());
    assert_eq!(read(&mut consumer, &q(0), 9).await.len(), 9, "from a slave");
    let error = control.flush().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(fake.committed(&q(0)), Some(1), "nothing was told to a slave");
    fake.state().master_is_back = true;
    let back = crate::clock::now();
    control.flush().await.unwrap();
    assert_eq!(fake.committed(&q(0)), Some(10));
    assert_eq!(crate::clock::now() - back, Duration::ZERO, "the route is asked for at once");
}

#[tokio::test(start_paused = true)]
async fn at_most_once_commits_before_it_hands_out() {
    let fake = Fake::new(&[10]);
    let mut consumer = build(subscribed().commit_mode(CommitMode::AtMostOnce), &fake).await.unwrap();
    let batch = next(&mut consumer).await;
    assert_eq!(fake.committed(&q(0)), Some(batch.range().end.get()), "before this program saw it");
    drop(batch);
    assert_eq!(next(&mut consumer).await.range().start, at(1), "a dropped completion is nothing special");
}

#[tokio::test(start_paused = true)]
async fn messages_come_one_by_one_each_with_its_own_completion() {
    let fake = Fake::new(&[5]);
    let consumer = build(subscribed(), &fake).await.unwrap();
    let control = consumer.control();
    let mut messages = consumer.per_message();
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(messages.try_next().await.unwrap().unwrap());
    }
    let third = held.remove(2);
    held.drain(..).for_each(crate::PulledMessage::complete);
    assert_eq!(control.checkpoint().get(&q(0)), Some(at(2)), "the third is open");
    third.complete();
    assert_eq!(control.checkpoint().get(&q(0)), Some(at(5)));
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_split_with_its_range_and_its_duty() {
    let fake = Fake::new(&[40]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    next(&mut consumer).await.complete();
    let batch = next(&mut consumer).await;
    let end = batch.range().end;
    let (head, tail) = batch.split_at(4);
    assert_eq!((head.range(), head.len()), (at(1)..at(5), 4));
    assert_eq!(tail.range(), at(5)..end);
    tail.complete();
    assert_eq!(consumer.control().checkpoint().get(&q(0)), Some(at(1)));
    let (nothing, all) = head.split_at(0);
    assert!(nothing.is_empty());
    drop(nothing);
    all.complete();
    assert_eq!(consumer.control().checkpoint().get(&q(0)), Some(end));
}

#[tokio::test(start_paused = true)]
async fn a_queue_with_too_much_open_waits_for_its_oldest_and_the_others_go_on() {
    let fake = Fake::new(&[500, 500]);
    let mut consumer = build(subscribed().max_open_messages(64), &fake).await.unwrap();
    let mut events = consumer.control().events();
    let mut held = Vec::new();
    let mut other = 0;
    for _ in 0..20 {
        let Ok(batch) = tokio::time::timeout(Duration::from_secs(1), consumer.next()).await else { break };
        let batch = batch.unwrap().unwrap();
        if *batch.queue() == q(0) {
            held.push(batch);
        } else {
            other += batch.len();
            batch.complete();
        }
    }
    let open: usize = held.iter().map(PullBatch::len).sum();
    assert!((64..64 + 32).contains(&open), "{open} open");
    assert_eq!(other, 500, "the other queue was not held up");
    let stalled = events.next().await;
    assert!(matches!(&stalled, Some(PullEvent::Stalled { queue, .. }) if *queue == q(0)), "{stalled:?}");
    held.into_iter().for_each(PullBatch::complete);
    assert_eq!(next(&mut consumer).await.range().start, at(open as u64), "and it goes on where it stopped");
}

#[tokio::test(start_paused = true)]
async fn the_lag_of_a_thousand_queues_is_asked_for_some_at_a_time() {
    let fake = Fake::new(&[1; 1000]);
    let consumer = build(subscribed().build_timeout(Duration::from_secs(60)), &fake).await.unwrap();
    fake.most_questions.store(0, std::sync::atomic::Ordering::SeqCst);
    let lags = consumer.control().lag().refreshed().await;
    assert!(lags.len() == 1000 && lags.iter().all(|one| one.max == Some(at(1))));
    let most = fake.most_questions.load(std::sync::atomic::Ordering::SeqCst);
    assert!((2..=2 * crate::consumer::pull::lag::AT_ONCE).contains(&most), "{most} questions at once");
}

#[tokio::test(start_paused = true)]
async fn p22_a_filter_that_does_not_parse_fails_the_build() {
    let fake = Fake::new(&[1]);
    fake.state().bad_filter = true;
    let sql = builder().subscribe("t", Filter::sql92("a >")).start_from(StartFrom::Earliest);
    let error = build(sql, &fake).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[tokio::test(start_paused = true)]
async fn p24_a_queue_that_does_not_exist_fails_the_build() {
    let fake = Fake::new(&[1]);
    let wrong = builder().assign([q(0), q(7)]).start_from(StartFrom::Earliest);
    let error = build(wrong, &fake).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("t@b:7"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_builder_says_what_is_wrong() {
    for (wrong, word) in [
        (builder().start_from(StartFrom::Earliest), "subscribe"),
        (builder().subscribe("t", Filter::all()), "start_from"),
        (subscribed().assign([q(0)]).share(0, 2), "assign"),
        (subscribed().share(2, 2), "share"),
        (builder().assign([q(0), q(0)]).start_from(StartFrom::Earliest), "assign"),
        (subscribed().assign([MessageQueue::new("u", "b", 0)]), "subscribe"),
        (subscribed().max_messages(0), "max_messages"),
        (subscribed().commit_interval(Duration::ZERO), "commit_interval"),
        (subscribed().subscribe("t", Filter::tag("x")), "twice"),
    ] {
        let error = build(wrong, &Fake::new(&[1])).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(word), "{word}: {error}");
    }
}
