//! Bounded reads, shutdown, dropping.

use super::*;
use crate::clock;
use crate::consumer::pull::CommitSink;
use crate::model::{Checkpoint, StopAt};
use futures_util::{SinkExt, TryStreamExt};

async fn all(consumer: &mut PullConsumer) -> Vec<(u32, u64)> {
    let mut seen = Vec::new();
    while let Some(batch) = consumer.try_next().await.unwrap() {
        let id = batch.queue().id();
        seen.extend(batch.messages().iter().filter_map(|one| one.queue_offset()).map(|offset| (id, offset.get())));
        batch.complete();
    }
    seen.sort_unstable();
    seen
}

#[tokio::test(start_paused = true)]
async fn p14_a_read_until_now_ends_also_with_a_filtered_tail_and_goes_on_live_without_gap_or_overlap() {
    let fake = Fake::new(&[20, 0, 30]);
    fake.with_log(&q(2), |log| log.hidden = (10..30).collect());
    let mut bounded = build(subscribed().until(StopAt::Now), &fake).await.unwrap();
    fake.append(&q(0), 5);
    fake.append(&q(1), 5);
    let mut seen = all(&mut bounded).await;
    assert_eq!(seen.len(), 20 + 10);
    let position = bounded.position();
    let expected: Checkpoint = [(q(0), at(20)), (q(1), at(0)), (q(2), at(30))].into_iter().collect();
    assert_eq!(position, expected);
    bounded.control().shutdown(Duration::from_secs(5)).await.ignore();

    let fake2 = Fake::new(&[25, 5, 30]);
    fake2.with_log(&q(2), |log| log.hidden = (10..30).collect());
    let live = subscribed().start_from(StartFrom::Checkpoint(position)).until(StopAt::Now);
    seen.extend(all(&mut build(live, &fake2).await.unwrap()).await);
    seen.sort_unstable();
    let expected: Vec<_> =
        (0..25).map(|o| (0, o)).chain((0..5).map(|o| (1, o))).chain((0..10).map(|o| (2, o))).collect();
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn p14_a_read_until_a_time_or_until_offsets_stops_before_them() {
    let fake = Fake::new(&[20]);
    let mut timed = build(subscribed().until(StopAt::Timestamp(message::stored_at(12))), &fake).await.unwrap();
    assert_eq!(all(&mut timed).await.len(), 12);
    let mut offsets = build(subscribed().until(StopAt::Offsets([(q(0), at(25))].into())), &fake).await.unwrap();
    let more = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        fake.append(&q(0), 10);
    };
    assert_eq!(tokio::join!(all(&mut offsets), more).0.len(), 25, "explicit offsets are waited for");
}

#[tokio::test(start_paused = true)]
async fn a_bounded_read_of_a_member_without_queues_ends_at_once() {
    let fake = Fake::new(&[20]);
    fake.set_members(&["a", "me"]);
    let mut consumer = build(subscribed().until(StopAt::Now), &fake).await.unwrap();
    assert!(all(&mut consumer).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_what_is_handed_out_saves_it_and_says_goodbye() {
    let fake = Fake::new(&[10]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    let control = consumer.control();
    let first = next(&mut consumer).await;
    let later = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        first.complete();
    };
    let report = tokio::join!(control.shutdown(Duration::from_secs(10)), later).0;
    assert!(report.complete, "{report:?}");
    assert_eq!(fake.committed(&q(0)), Some(1));
    assert!(fake.closed.load(std::sync::atomic::Ordering::SeqCst));
    assert!(consumer.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn p9_a_completion_that_never_comes_does_not_hang_a_shutdown() {
    let fake = Fake::new(&[10]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    let held = next(&mut consumer).await;
    let begun = clock::now();
    let report = consumer.control().shutdown(Duration::from_secs(3)).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!((report.complete, &report.open[..]), (false, &[(q(0), 1)][..]));
    held.complete();
    assert_eq!(fake.committed(&q(0)).unwrap_or(0), 0, "p7: too late");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_lets_what_was_handed_out_finish_and_leaves_the_group() {
    let fake = Fake::new(&[10]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    let batch = next(&mut consumer).await;
    drop(consumer);
    batch.complete();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.committed(&q(0)), Some(1));
    assert!(fake.closed.load(std::sync::atomic::Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_closed_sink_means_durable() {
    let fake = Fake::new(&[10]);
    let consumer = build(subscribed().until(StopAt::Now), &fake).await.unwrap();
    let control = consumer.control();
    let sink: CommitSink = control.commit_sink();
    consumer.map_ok(PullBatch::into_completion).forward(sink).await.unwrap();
    assert_eq!(fake.committed(&q(0)), Some(10));
    let mut sink = control.commit_sink();
    sink.close().await.unwrap();
    sink.close().await.unwrap();
}
