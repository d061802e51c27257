//! What a `PullControl` saves and asks: a call that is dropped changes nothing for those after it.

use std::pin::pin;
use std::time::UNIX_EPOCH;

use futures::prelude::*;
use rocketmq_stream::{CommitMode, Offset};

use super::streams::read_all;
use super::{EACH, Pulls, Seen, dropped_then_done, next_after_a_drop, next_item, poll_times, times};
use crate::MOST;
use crate::support::{PATIENCE, eventually, secs, within};

#[tokio::test(start_paused = true)]
async fn e4_a_flush_of_positions_that_is_dropped_goes_on() {
    for polls in times(1..MOST) {
        let pulls = Pulls::start(2).await;
        let (mut consumer, mut seen) = (pulls.consumer().await, Seen::default());
        read_all(&mut consumer, &mut seen, 2 * EACH).await;
        let control = consumer.control();
        let flushed = poll_times(pin!(control.flush()), polls).await;
        assert!(flushed.is_none_or(|flushed| flushed.is_ok()), "{polls} polls");
        let saved = || pulls.committed() == [Some(EACH), Some(EACH)];
        eventually(secs(60), format!("saved, {polls} polls"), saved).await;
        pulls.is_finished(&control, &seen, polls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_flush_that_is_dropped_spoils_none_after_it() {
    for polls in times(0..MOST) {
        let pulls = Pulls::start(2).await;
        let (mut consumer, mut seen) = (pulls.consumer().await, Seen::default());
        let control = consumer.control();
        while seen.count < 2 * EACH {
            let batch = next_after_a_drop(&mut consumer, polls).await;
            seen.batch(&batch);
            let (queue, next) = (batch.queue().clone(), batch.next_offset());
            batch.complete();
            dropped_then_done(polls, || control.flush()).await.expect("flush");
            assert_eq!(control.committed(&queue).await.expect("an answer"), Some(next), "{polls} polls");
        }
        pulls.is_finished(&control, &seen, polls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_commit_of_a_checkpoint_that_is_dropped_was_made_or_not() {
    for polls in times(0..MOST) {
        let pulls = Pulls::start(2).await;
        let mut consumer = pulls.etl().commit_mode(CommitMode::Manual).build().await.expect("a consumer");
        let (control, mut seen) = (consumer.control(), Seen::default());
        read_all(&mut consumer, &mut seen, EACH).await;
        let half = consumer.position();
        let made = poll_times(pin!(control.commit(&half)), polls).await;
        assert!(made.as_ref().is_none_or(Result::is_ok), "{polls} polls: {made:?}");
        let at_half =
            || pulls.queues.iter().all(|queue| pulls.broker.committed(super::GROUP, queue) == half.get(queue));
        if polls > 0 {
            eventually(secs(60), format!("saved, {polls} polls"), at_half).await;
        } else {
            tokio::time::sleep(secs(60)).await;
            assert_eq!(pulls.committed(), [None, None], "nobody asked for it");
        }
        read_all(&mut consumer, &mut seen, 2 * EACH).await;
        let end = consumer.position();
        dropped_then_done(polls, || control.commit(&end)).await.expect("commit");
        assert_eq!(control.checkpoint(), end, "{polls} polls");
        pulls.is_finished(&control, &seen, polls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_question_that_is_dropped_is_answered_when_it_is_asked_again() {
    for polls in times(0..MOST) {
        let pulls = Pulls::start(2).await;
        let (mut consumer, mut seen) = (pulls.consumer().await, Seen::default());
        let (control, lag) = (consumer.control(), consumer.control().lag());
        while seen.count < 2 * EACH {
            let batch = next_after_a_drop(&mut consumer, polls).await;
            let queue = batch.queue().clone();
            let before = seen.next(&queue);
            let committed = dropped_then_done(polls, || control.committed(&queue)).await.expect("committed");
            assert_eq!(committed.map_or(0, Offset::get), before, "{polls} polls");
            let bounds = dropped_then_done(polls, || control.bounds(&queue)).await.expect("bounds");
            assert_eq!(bounds, Offset::new(0)..Offset::new(EACH), "{polls} polls");
            let first = dropped_then_done(polls, || control.offset_at(&queue, UNIX_EPOCH)).await.expect("offset_at");
            assert_eq!(first, Offset::new(0), "{polls} polls");
            seen.batch(&batch);
            batch.complete();
            control.flush().await.expect("flush");
            let lags = dropped_then_done(polls, || lag.refreshed()).await;
            let of_queue = lags.iter().find(|lag| lag.queue == queue).expect("of each queue");
            assert_eq!(of_queue.lag, Some(EACH - seen.next(&queue)), "{polls} polls");
            drop(crate::poll_times(pin!(lag.changed()), polls).await);
        }
        pulls.is_finished(&control, &seen, polls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_shutdown_of_pulling_that_is_dropped_can_be_asked_for_again() {
    for polls in 0..MOST {
        let pulls = Pulls::start(2).await;
        let (mut consumer, mut seen) = (pulls.consumer().await, Seen::default());
        read_all(&mut consumer, &mut seen, EACH).await;
        let open = next_item(&mut consumer).await;
        let control = consumer.control();
        let report = crate::poll_times(pin!(control.shutdown(secs(5))), polls).await;
        assert!(report.is_none(), "{polls} polls: a batch is open");
        // It was completed before the deadline.
        seen.batch(&open);
        open.complete();
        let report = within(secs(20), "shutdown", control.shutdown(secs(5))).await;
        assert!(report.complete, "{polls} polls: {report:?}");
        assert!(consumer.next().await.is_none(), "{polls} polls");
        let reached: Vec<_> = pulls.queues.iter().map(|queue| seen.next(queue)).collect();
        let saved: Vec<_> = pulls.committed().into_iter().map(Option::unwrap_or_default).collect();
        assert_eq!(saved, reached, "{polls} polls");
        assert!(pulls.broker.members(super::GROUP, 0).is_empty(), "{polls} polls: it left");
        let mut fresh = pulls.consumer().await;
        read_all(&mut fresh, &mut seen, 2 * EACH).await;
        pulls.is_finished(&fresh.control(), &seen, polls).await;
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_shutdown_with_nothing_open_that_is_dropped_loses_no_position() {
    for polls in times(0..MOST) {
        let pulls = Pulls::start(2).await;
        let (mut consumer, mut seen) = (pulls.consumer().await, Seen::default());
        read_all(&mut consumer, &mut seen, EACH).await;
        let control = consumer.control();
        drop(poll_times(pin!(control.shutdown(secs(5))), polls).await);
        // Nobody asks again: with the stream it all ends.
        drop((consumer, control));
        let gone = || pulls.broker.members(super::GROUP, 0).is_empty();
        eventually(secs(60), format!("it left, {polls} polls"), gone).await;
        let mut fresh = within(PATIENCE, "build", pulls.etl().build()).await.expect("a consumer");
        read_all(&mut fresh, &mut seen, 2 * EACH).await;
        pulls.is_finished(&fresh.control(), &seen, polls).await;
    }
}
