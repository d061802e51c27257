//! Gathering and filtering.

use super::*;
use crate::consumer::pull::PullStreamExt;
use futures_util::TryStreamExt;

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
