//! Seek, pause, reset.

use super::*;
use crate::checkpoint::CommitMode;
use crate::consumer::pull::{PullEvent, SeekTo};
use crate::error::ErrorKind;
use crate::model::{Checkpoint, OnOffsetGap};

#[tokio::test(start_paused = true)]
async fn p6_after_a_seek_nothing_of_before_is_handed_out_and_late_completions_change_nothing() {
    let fake = Fake::new(&[100]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    let control = consumer.control();
    next(&mut consumer).await.complete();
    let old = next(&mut consumer).await;
    control.seek(&q(0), SeekTo::Offset(at(5))).await.unwrap();
    let new = next(&mut consumer).await;
    assert_eq!(new.range().start, at(5));
    assert!(new.epoch() > old.epoch());
    old.complete();
    assert_eq!(control.checkpoint().get(&q(0)), Some(at(5)));
    control.flush().await.unwrap();
    assert_eq!(fake.committed(&q(0)), Some(5), "what is committed follows the seek");
}

#[tokio::test(start_paused = true)]
async fn p6_a_seek_does_not_wait_for_the_position_of_before() {
    let fake = Fake::new(&[100]);
    let mut consumer = build(subscribed().commit_mode(CommitMode::AtMostOnce), &fake).await.unwrap();
    next(&mut consumer).await.complete();
    fake.state().mute.insert(q(0));
    let saved_in_vain = tokio::time::timeout(Duration::from_secs(1), next(&mut consumer)).await;
    assert!(saved_in_vain.is_err(), "nothing before it is saved");
    consumer.control().seek(&q(0), SeekTo::Offset(at(0))).await.unwrap();
    fake.state().mute.clear();
    fake.set_down("b", true); // what was under way fails
    tokio::time::sleep(Duration::from_secs(6)).await; // longer than an interval: the new place is to be saved
    fake.set_down("b", false);
    let batch = tokio::time::timeout(Duration::from_secs(5), next(&mut consumer)).await.expect("it goes on");
    assert_eq!(batch.range().start, at(0));
}

#[tokio::test(start_paused = true)]
async fn p6_what_is_left_of_a_batch_is_not_handed_out_after_a_seek() {
    let fake = Fake::new(&[100]);
    let consumer = build(subscribed(), &fake).await.unwrap();
    let control = consumer.control();
    let mut messages = consumer.per_message();
    for _ in 0..5 {
        messages.next().await.unwrap().unwrap().complete();
    }
    assert_eq!(messages.position().get(&q(0)), Some(at(5)));
    control.seek(&q(0), SeekTo::Offset(at(50))).await.unwrap();
    assert_eq!(messages.position().get(&q(0)), Some(at(50)), "what is left of before does not count");
    let next = messages.next().await.unwrap().unwrap();
    assert_eq!(next.message().queue_offset(), Some(at(50)));
}

#[tokio::test(start_paused = true)]
async fn p13_a_seek_by_time_lands_on_the_first_message_of_that_time() {
    let fake = Fake::new(&[100]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    consumer.control().seek(&q(0), SeekTo::Timestamp(message::stored_at(42))).await.unwrap();
    let batch = next(&mut consumer).await;
    assert_eq!(batch.messages()[0].queue_offset(), Some(at(42)));
}

#[tokio::test(start_paused = true)]
async fn p13_an_index_of_times_that_points_too_late_or_too_early_loses_nothing_and_brings_nothing_older() {
    for (late, early) in [(0, 0), (3, 0), (50, 0), (0, 3), (0, 30)] {
        let fake = Fake::new(&[100]);
        fake.with_log(&q(0), |log| (log.index_is_late_by, log.index_is_early_by) = (late, early));
        let time = message::stored_at(42);
        let start = subscribed().start_from(StartFrom::Timestamp(time));
        let mut started = build(start, &fake).await.unwrap();
        assert_eq!(read(&mut started, &q(0), 58).await, (42..100).collect::<Vec<_>>(), "late {late} early {early}");
        let mut sought = build(subscribed(), &fake).await.unwrap();
        sought.control().seek(&q(0), SeekTo::Timestamp(time)).await.unwrap();
        assert_eq!(read(&mut sought, &q(0), 58).await, (42..100).collect::<Vec<_>>(), "late {late} early {early}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_seek_to_the_end_or_the_beginning_asks_the_broker() {
    let fake = Fake::new(&[100]);
    fake.with_log(&q(0), |log| log.min = 3);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    let control = consumer.control();
    control.seek(&q(0), SeekTo::End).await.unwrap();
    fake.append(&q(0), 1);
    assert_eq!(next(&mut consumer).await.range(), at(100)..at(101));
    control.seek(&q(0), SeekTo::Beginning).await.unwrap();
    assert_eq!(next(&mut consumer).await.range().start, at(3));
    let error = control.seek(&q(9), SeekTo::Offset(at(0))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Precondition, "{error}");
    let error = control.seek(&q(0), SeekTo::Offset(at(u64::MAX))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "p4: {error}");
}

#[tokio::test(start_paused = true)]
async fn a_paused_queue_rests_and_goes_on_where_it_was() {
    let fake = Fake::new(&[100, 5]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    let control = consumer.control();
    control.pause(&q(0)).unwrap();
    assert_eq!(read(&mut consumer, &q(1), 5).await, [0, 1, 2, 3, 4]);
    assert!(is_silent(&mut consumer).await);
    control.resume(&q(0)).unwrap();
    assert_eq!(next(&mut consumer).await.range().start, at(0));
}

#[tokio::test(start_paused = true)]
async fn what_was_dropped_of_a_queue_at_its_end_comes_again_at_once_when_the_queue_goes_on() {
    let soon = Duration::from_secs(1);
    let fake = Fake::new(&[20]);
    let mut consumer = build(subscribed().max_messages(5).max_open_messages(8), &fake).await.unwrap();
    let mut held = Vec::new();
    while let Ok(batch) = tokio::time::timeout(soon, consumer.next()).await {
        held.push(batch.unwrap().unwrap());
    }
    let count = held.iter().map(PullBatch::len).sum::<usize>();
    assert!((8..20).contains(&count), "{count}: it stalls, with the rest pulled ahead and a long poll behind that");
    held.into_iter().for_each(PullBatch::complete);
    let rest = tokio::time::timeout(soon, read(&mut consumer, &q(0), 20 - count)).await;
    assert_eq!(rest.expect("no long poll is waited for").last(), Some(&19));

    fake.append(&q(0), 10);
    let control = consumer.control();
    next(&mut consumer).await.complete();
    control.pause(&q(0)).unwrap();
    assert!(tokio::time::timeout(soon, consumer.next()).await.is_err(), "it is paused");
    control.resume(&q(0)).unwrap();
    tokio::time::timeout(soon, next(&mut consumer)).await.expect("nor here").complete();
}

#[tokio::test(start_paused = true)]
async fn p29_a_reset_by_an_administrator_is_obeyed_and_what_is_committed_follows_it() {
    let fake = Fake::new(&[100]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    let mut events = consumer.control().events();
    read(&mut consumer, &q(0), 100).await;
    // A broker has the offset of a reset from then on, whether it was committed or not.
    fake.with_log(&q(0), |log| (log.reset, log.committed) = (Some(30), Some(30)));
    let batch = next(&mut consumer).await;
    assert_eq!(batch.range().start, at(30));
    let event = events.next().await;
    assert!(matches!(event, Some(PullEvent::Reset { from, to, .. }) if (from, to) == (at(100), at(30))), "{event:?}");
    consumer.control().flush().await.unwrap();
    assert_eq!(fake.committed(&q(0)), Some(30));
}

#[tokio::test(start_paused = true)]
async fn p29_the_position_of_before_a_reset_is_not_committed_over_it() {
    for mode in [CommitMode::AtLeastOnce, CommitMode::Manual] {
        let fake = Fake::new(&[100]);
        let mut consumer = build(subscribed().commit_mode(mode), &fake).await.unwrap();
        let control = consumer.control();
        read(&mut consumer, &q(0), 100).await;
        control.commit(&consumer.position()).await.unwrap();
        assert_eq!(fake.committed(&q(0)), Some(100));
        fake.with_log(&q(0), |log| (log.reset, log.committed) = (Some(30), Some(30)));
        let batch = next(&mut consumer).await;
        assert_eq!(batch.range().start, at(30));
        // Who begins now begins there, also when this process dies before it has saved anything.
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(fake.committed(&q(0)), Some(30), "{mode:?}");
        }
        let end = batch.range().end;
        batch.complete();
        control.commit(&Checkpoint::from_iter([(q(0), end)])).await.unwrap();
        assert_eq!(fake.committed(&q(0)), Some(end.get()), "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_ends_when_its_queue_is_set_elsewhere_meanwhile() {
    let seldom = || subscribed().commit_interval(Duration::from_secs(3_600)).on_offset_gap(OnOffsetGap::Latest);
    let fake = Fake::new(&[100]);
    let mut consumer = build(seldom(), &fake).await.unwrap();
    let control = consumer.control();
    read(&mut consumer, &q(0), 100).await;
    fake.set_down("b", true);
    let (flushed, ()) = tokio::join!(control.flush(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        control.seek(&q(0), SeekTo::Offset(at(5))).await.unwrap();
        fake.set_down("b", false);
    });
    flushed.expect("its place of before is not waited for");
    assert_eq!(fake.committed(&q(0)), Some(5));

    // A broker that lost messages.
    read(&mut consumer, &q(0), 95).await;
    fake.state().mute.insert(q(0));
    let (flushed, _) = tokio::join!(control.flush(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        fake.with_log(&q(0), |log| log.max = 60);
        let gone_on = tokio::time::timeout(Duration::from_secs(3), consumer.next()).await;
        fake.set_down("b", true); // what was under way fails
        fake.state().mute.clear();
        fake.tick();
        tokio::time::sleep(Duration::from_secs(1)).await;
        fake.set_down("b", false);
        gone_on
    });
    flushed.expect("nor is this one");
    assert_eq!(fake.committed(&q(0)), Some(60));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_down_or_silent_delays_its_own_queues_only() {
    let fake = Fake::new(&[40]);
    let other = MessageQueue::new("t", "c", 0);
    fake.with_log(&other, |log| log.max = 40);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    fake.set_down("c", true);
    assert_eq!(read(&mut consumer, &q(0), 40).await.len(), 40);
    fake.set_down("c", false);
    assert_eq!(read(&mut consumer, &other, 40).await.len(), 40, "and it is noticed when it is back");
    fake.state().silent.insert("c".into());
    fake.append(&q(0), 5);
    assert_eq!(read(&mut consumer, &q(0), 5).await.len(), 5);
}
