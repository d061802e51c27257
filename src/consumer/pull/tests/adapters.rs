//! Gathering and filtering.

use super::*;
use crate::checkpoint::CommitMode;
use crate::consumer::pull::{Batches, MessageBatch, PullStreamExt, PulledMessages, SeekTo};
use futures_util::TryStreamExt;

/// Offsets of the messages of each queue, in a batch that is completed.
fn offsets(batch: MessageBatch) -> Vec<(u32, u64)> {
    let (messages, completion) = batch.into_parts();
    completion.complete();
    let place =
        |one: &crate::model::Message| (one.queue_id().unsigned_abs(), one.queue_offset().map_or(u64::MAX, Offset::get));
    messages.iter().map(place).collect()
}

/// Gathers what there is of queue 0, and hands nothing out.
async fn gather(batches: &mut Batches<PulledMessages>) {
    assert!(tokio::time::timeout(Duration::from_secs(1), batches.next()).await.is_err(), "it gathers still");
}

#[tokio::test(start_paused = true)]
async fn messages_are_gathered_by_number_or_by_time_and_completed_together() {
    let fake = Fake::new(&[25]);
    let consumer = build(subscribed(), &fake).await.unwrap();
    let control = consumer.control();
    let mut batches = consumer.per_message().batches(10, Duration::from_secs(1));
    for (length, mark) in [(10, 10), (10, 20), (5, 25)] {
        let batch = batches.try_next().await.unwrap().unwrap();
        assert_eq!(batch.messages().len(), length);
        batch.complete();
        assert_eq!(control.checkpoint().get(&q(0)), Some(at(mark)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_comes_after_what_was_gathered_before_it() {
    let fake = Fake::new(&[25, 25]);
    fake.with_log(&q(1), |log| (log.min, log.committed) = (20, Some(3)));
    fake.with_log(&q(0), |log| log.committed = Some(0));
    let start = StartFrom::committed_or_earliest();
    let consumer = build(subscribed().start_from(start), &fake).await.unwrap();
    let control = consumer.control();
    control.pause(&q(1)).unwrap();
    let mut batches = consumer.per_message().batches(100, Duration::from_secs(600));
    let resume = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        control.resume(&q(1)).unwrap();
    };
    let batch = tokio::join!(batches.try_next(), resume).0.unwrap().unwrap();
    assert_eq!(batch.messages().len(), 25, "the good ones");
    batch.complete();
    assert!(batches.try_next().await.is_err(), "then the gap of queue 1");
    assert!(batches.try_next().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn p6_what_was_gathered_is_not_handed_out_after_its_queue_was_given_up() {
    let fake = Fake::new(&[5, 3]);
    let consumer = build(subscribed(), &fake).await.unwrap();
    let control = consumer.control();
    control.pause(&q(1)).unwrap();
    let mut batches = consumer.per_message().batches(100, Duration::from_secs(60));
    gather(&mut batches).await;
    fake.set_members(&["a", "me"]); // queue 0 goes to a
    tokio::time::sleep(Duration::from_secs(1)).await;
    control.resume(&q(1)).unwrap();
    let batch = batches.try_next().await.unwrap().unwrap();
    assert_eq!(offsets(batch), [(1, 0), (1, 1), (1, 2)], "a reads queue 0");
}

#[tokio::test(start_paused = true)]
async fn p6_what_was_gathered_before_a_seek_is_not_handed_out_after_it() {
    let fake = Fake::new(&[5]);
    let consumer = build(subscribed(), &fake).await.unwrap();
    let control = consumer.control();
    let mut batches = consumer.per_message().batches(100, Duration::from_secs(60));
    gather(&mut batches).await;
    control.seek(&q(0), SeekTo::Offset(at(3))).await.unwrap();
    let batch = batches.try_next().await.unwrap().unwrap();
    assert_eq!(offsets(batch), [(0, 3), (0, 4)]);
    assert_eq!(control.checkpoint().get(&q(0)), Some(at(5)));
    // Also when nothing is left of it.
    fake.append(&q(0), 2);
    gather(&mut batches).await;
    control.seek(&q(0), SeekTo::End).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(300), batches.next()).await.is_err(), "nothing comes");
    fake.append(&q(0), 1);
    let batch = batches.try_next().await.unwrap().unwrap();
    assert_eq!(offsets(batch), [(0, 7)]);
}

#[tokio::test(start_paused = true)]
async fn at_most_once_what_was_gathered_is_handed_out_also_after_its_queue_was_given_up_but_not_after_a_seek() {
    let fake = Fake::new(&[5, 0]);
    let consumer = build(subscribed().commit_mode(CommitMode::AtMostOnce), &fake).await.unwrap();
    let control = consumer.control();
    let mut batches = consumer.per_message().batches(100, Duration::from_secs(60));
    gather(&mut batches).await;
    control.seek(&q(0), SeekTo::Offset(at(3))).await.unwrap();
    gather(&mut batches).await;
    fake.set_members(&["a", "me"]); // queue 0 goes to a
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.committed(&q(0)), Some(5), "where a begins, so nobody else reads what was gathered");
    let batch = batches.try_next().await.unwrap().unwrap();
    assert_eq!(offsets(batch), [(0, 3), (0, 4)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_filtered_out_is_completed() {
    let fake = Fake::new(&[10]);
    let consumer = build(subscribed(), &fake).await.unwrap();
    let control = consumer.control();
    let even = |message: &crate::model::Message| message.queue_offset().is_some_and(|offset| offset.get() % 2 == 0);
    let mut evens = consumer.per_message().try_filter_settled(even);
    for offset in [0, 2, 4, 6] {
        let message = evens.try_next().await.unwrap().unwrap();
        assert_eq!(message.message().queue_offset(), Some(at(offset)));
        message.complete();
    }
    assert_eq!(control.checkpoint().get(&q(0)), Some(at(7)));
}
