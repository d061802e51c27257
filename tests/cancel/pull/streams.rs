//! `next` of every stream that a PullConsumer becomes, and its sink.

use std::pin::pin;

use futures::prelude::*;
use rocketmq_stream::{CommitMode, PullConsumer, PullStreamExt};

use super::{EACH, GROUP, Pulls, Seen, dropped_then_done, next_after_a_drop, next_item, poll_times, times};
use crate::MOST;
use crate::support::{PATIENCE, eventually, secs, within};

#[tokio::test(start_paused = true)]
async fn e4_next_takes_no_batch_when_it_is_dropped() {
    for polls in times(0..MOST) {
        let pulls = Pulls::start(2).await;
        let mut consumer = pulls.consumer().await;
        let mut seen = Seen::default();
        while seen.count < 2 * EACH {
            let batch = next_after_a_drop(&mut consumer, polls).await;
            seen.batch(&batch);
            assert_eq!(consumer.position().get(batch.queue()), Some(batch.next_offset()), "{polls} polls");
            batch.complete();
        }
        pulls.is_finished(&consumer.control(), &seen, polls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_stream_of_which_every_next_is_dropped_while_it_waits_gets_on() {
    for polls in times(1..5) {
        let pulls = Pulls::start(2).await;
        let mut consumer = pulls.consumer().await;
        let mut seen = Seen::default();
        let all = async {
            while seen.count < 2 * EACH {
                match poll_times(pin!(consumer.next()), polls).await {
                    Some(item) => {
                        let batch = item.expect("it goes on").expect("a batch");
                        seen.batch(&batch);
                        batch.complete();
                    }
                    None => tokio::time::sleep(secs(1)).await,
                }
            }
        };
        within(PATIENCE, "all batches", all).await;
        pulls.is_finished(&consumer.control(), &seen, polls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_at_most_once_a_next_that_is_dropped_while_its_position_is_saved_loses_nothing() {
    for polls in times(0..MOST) {
        let pulls = Pulls::start(2).await;
        let mut consumer = pulls.etl().commit_mode(CommitMode::AtMostOnce).build().await.expect("a consumer");
        let mut seen = Seen::default();
        while seen.count < 2 * EACH {
            let batch = next_after_a_drop(&mut consumer, polls).await;
            seen.batch(&batch);
            let saved = pulls.broker.committed(GROUP, batch.queue());
            assert_eq!(saved, Some(batch.next_offset()), "{polls} polls: it is saved before it is handed out");
        }
        pulls.is_finished(&consumer.control(), &seen, polls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_next_per_message_takes_no_message_when_it_is_dropped() {
    for polls in times(0..MOST) {
        let pulls = Pulls::start(2).await;
        let mut messages = pulls.consumer().await.per_message();
        let mut seen = Seen::default();
        while seen.count < 2 * EACH {
            let message = next_after_a_drop(&mut messages, polls).await;
            seen.message(message.message());
            message.complete();
            for (queue, next) in messages.position().iter() {
                assert_eq!(next.get(), seen.next(queue), "{polls} polls: {queue}");
            }
        }
        pulls.is_finished(&messages.control(), &seen, polls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_next_of_batches_keeps_what_was_gathered_when_it_is_dropped() {
    for polls in times(0..MOST) {
        let pulls = Pulls::start(2).await;
        let messages = pulls.consumer().await.per_message();
        let control = messages.control();
        let mut batches = messages.batches(7, secs(1));
        let mut seen = Seen::default();
        while seen.count < 2 * EACH {
            let batch = next_after_a_drop(&mut batches, polls).await;
            assert!((1..=7).contains(&batch.messages().len()), "{polls} polls");
            batch.messages().iter().for_each(|message| seen.message(message));
            batch.complete();
        }
        pulls.is_finished(&control, &seen, polls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_next_per_queue_loses_no_queue_and_no_batch_of_one_when_it_is_dropped() {
    for polls in times(0..MOST) {
        let pulls = Pulls::start(2).await;
        let mut queues = pulls.consumer().await.per_queue();
        let control = queues.control();
        let mut seen = Seen::default();
        let mut streams = Vec::new();
        for _ in 0..2 {
            streams.push(next_item(&mut queues).await);
        }
        assert_ne!(streams[0].queue(), streams[1].queue(), "{polls} polls");
        for turn in 0.. {
            let stream = &mut streams[turn % 2];
            if seen.count == 2 * EACH {
                break;
            }
            if seen.next(stream.queue()) == EACH {
                continue;
            }
            let batch = next_after_a_drop(stream, polls).await;
            assert_eq!(batch.queue(), stream.queue());
            assert_eq!(stream.position(), batch.next_offset(), "{polls} polls");
            seen.batch(&batch);
            batch.complete();
        }
        assert!(
            crate::poll_times(pin!(queues.next()), polls).await.is_none(),
            "{polls} polls: no queue comes out twice"
        );
        pulls.is_finished(&control, &seen, polls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_queue_stream_that_is_dropped_at_any_moment_gives_back_what_it_did_not_hand_out() {
    for polls in times(0..MOST) {
        let pulls = Pulls::start(2).await;
        let mut queues = pulls.consumer().await.per_queue();
        let mut seen = Seen::default();
        for _ in 0..4 {
            let mut stream = next_item(&mut queues).await;
            if let Some(item) = poll_times(pin!(stream.next()), polls).await {
                let batch = item.expect("it goes on").expect("a batch");
                seen.batch(&batch);
                batch.complete();
            }
        }
        // These are kept, so that their queues come out once more.
        let mut kept = Vec::new();
        while kept.len() < 2 {
            let mut stream = next_item(&mut queues).await;
            while seen.next(stream.queue()) < EACH {
                let batch = next_after_a_drop(&mut stream, polls).await;
                seen.batch(&batch);
                batch.complete();
            }
            kept.push(stream);
        }
        assert_eq!(seen.count, 2 * EACH, "{polls} polls");
        pulls.is_finished(&queues.control(), &seen, polls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_pull_consumer_that_is_dropped_at_any_moment_loses_nothing() {
    for polls in times(0..MOST) {
        let pulls = Pulls::start(2).await;
        let mut seen = Seen::default();
        let mut first = pulls.consumer().await;
        let batch = poll_times(pin!(first.next()), polls).await;
        if let Some(batch) = batch.map(|item| item.expect("it goes on").expect("a batch")) {
            seen.batch(&batch);
            batch.complete();
        }
        drop(first);
        eventually(secs(60), format!("it left, {polls} polls"), || pulls.broker.members(GROUP, 0).is_empty()).await;
        let mut second = pulls.consumer().await;
        read_all(&mut second, &mut seen, 2 * EACH).await;
        pulls.is_finished(&second.control(), &seen, polls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_build_of_a_pull_consumer_that_is_dropped_leaves_no_member_behind() {
    let mut built = false;
    for polls in times(0..2 * MOST) {
        let pulls = Pulls::start(2).await;
        let consumer = poll_times(pin!(pulls.etl().build()), polls).await;
        built |= consumer.is_some();
        drop(consumer);
        eventually(secs(200), format!("goodbye after {polls} polls"), || pulls.broker.members(GROUP, 0).is_empty())
            .await;
        let (mut consumer, mut seen) = (pulls.consumer().await, Seen::default());
        read_all(&mut consumer, &mut seen, 2 * EACH).await;
        pulls.is_finished(&consumer.control(), &seen, polls).await;
    }
    assert!(built, "so many polls should build it");
}

#[tokio::test(start_paused = true)]
async fn e4_a_completion_that_a_commit_sink_took_is_saved_whatever_is_dropped() {
    for polls in times(0..MOST) {
        let pulls = Pulls::start(1).await;
        let mut consumer = pulls.consumer().await;
        let control = consumer.control();
        let mut sink = control.commit_sink();
        let mut seen = Seen::default();
        while seen.count < EACH {
            let batch = next_after_a_drop(&mut consumer, polls).await;
            seen.batch(&batch);
            // A `send` that is never polled drops what it was given; that is the next test.
            let sent = crate::poll_times(pin!(sink.send(batch.into_completion())), polls.max(1)).await;
            assert!(sent.is_some_and(|sent| sent.is_ok()), "it never waits");
            drop(crate::poll_times(pin!(sink.flush()), polls).await);
        }
        let closed = poll_times(pin!(sink.close()), polls).await;
        if polls > 0 {
            // Nobody waits for it, and the next save by itself is an hour away.
            eventually(secs(60), format!("saved, {polls} polls"), || pulls.committed() == [Some(EACH)]).await;
        }
        assert!(closed.is_none_or(|closed| closed.is_ok()), "{polls} polls");
        within(PATIENCE, "close", sink.close()).await.expect("closed");
        assert_eq!(pulls.committed(), [Some(EACH)], "{polls} polls");
        pulls.is_finished(&control, &seen, polls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_completion_in_a_send_that_is_never_polled_is_read_again() {
    let pulls = Pulls::start(1).await;
    let mut consumer = pulls.consumer().await;
    let control = consumer.control();
    let mut seen = Seen::default();
    let first = next_after_a_drop(&mut consumer, 0).await;
    seen.batch(&first);
    first.complete();
    let second = next_after_a_drop(&mut consumer, 0).await;
    let mut sink = control.commit_sink();
    drop(sink.send(second.into_completion()));
    dropped_then_done(1, || control.flush()).await.expect("flush");
    assert_eq!(pulls.committed(), [Some(seen.next(&pulls.queues[0]))], "the mark stays before it");
    drop((sink, consumer));
    control.shutdown(secs(5)).await.ignore();
    let mut fresh = pulls.consumer().await;
    read_all(&mut fresh, &mut seen, EACH).await;
    pulls.is_finished(&fresh.control(), &seen, 0).await;
}

/// Until this many were seen, completed.
pub(super) async fn read_all(consumer: &mut PullConsumer, seen: &mut Seen, count: u64) {
    let all = async {
        while seen.count < count {
            let batch = consumer.next().await.expect("it goes on").expect("a batch");
            seen.batch(&batch);
            batch.complete();
        }
    };
    within(PATIENCE, "all batches", all).await;
}
