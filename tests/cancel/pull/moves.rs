//! Seeks, assignments and events, whose futures are dropped.

use std::pin::pin;
use std::time::{Duration, UNIX_EPOCH};

use futures::prelude::*;
use rocketmq_stream::{Offset, SeekTo};

use super::streams::read_all;
use super::{EACH, Pulls, Seen, next_after_a_drop, poll_times, times};
use crate::MOST;
use crate::support::{PATIENCE, secs, within};

#[tokio::test(start_paused = true)]
async fn e4_a_seek_that_is_dropped_was_made_or_changed_nothing() {
    let targets = [
        (SeekTo::Offset(Offset::new(1)), 1),
        (SeekTo::Beginning, 0),
        (SeekTo::Timestamp(UNIX_EPOCH), 0),
        (SeekTo::End, EACH),
    ];
    let mut made = [false; 4];
    for polls in times(0..MOST) {
        for ((target, place), made) in targets.into_iter().zip(&mut made) {
            let pulls = Pulls::start(1).await;
            let (mut consumer, mut seen) = (pulls.consumer().await, Seen::default());
            let (control, queue) = (consumer.control(), pulls.queues[0].clone());
            let batch = next_after_a_drop(&mut consumer, polls).await;
            seen.batch(&batch);
            batch.complete();
            let sought = poll_times(pin!(control.seek(&queue, target)), polls).await;
            if let Some(sought) = sought {
                sought.expect("it is ours");
                *made = true;
                seen.next.insert(queue.clone(), place);
            }
            let at = consumer.position().get(&queue).map(Offset::get);
            assert_eq!(at, Some(seen.next(&queue)), "{polls} polls, {target:?}");
            pulls.fill();
            while seen.next(&queue) < 2 * EACH {
                let batch = next_after_a_drop(&mut consumer, polls).await;
                seen.batch(&batch);
                batch.complete();
            }
            pulls.is_finished(&control, &seen, polls).await;
        }
    }
    assert_eq!(made, [true; 4], "so many polls should make them all");
}

#[tokio::test(start_paused = true)]
async fn e4_no_change_of_the_assignment_is_missed_by_a_watch_whose_futures_are_dropped() {
    for polls in times(1..10) {
        let pulls = Pulls::start(2).await;
        let (mut first, mut seen) = (pulls.consumer().await, Seen::default());
        read_all(&mut first, &mut seen, 2 * EACH).await;
        let mut watch = first.control().assignments();
        assert_eq!(watch.current().len(), 2);
        assert!(
            crate::poll_times(pin!(watch.changed()), polls).await.is_none(),
            "{polls} polls: it is told of nothing old"
        );
        let second = pulls.consumer().await;
        let told = async {
            loop {
                if let Some(changed) = poll_times(pin!(watch.changed()), polls).await {
                    return changed.expect("it goes on");
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let halved = within(PATIENCE, format!("a change, {polls} polls"), told).await;
        assert_eq!(halved.len(), 1, "{polls} polls");
        assert!(crate::poll_times(pin!(watch.changed()), polls).await.is_none(), "{polls} polls: it is told once");
        drop(second);
        let whole = within(PATIENCE, format!("another, {polls} polls"), watch.changed()).await;
        assert_eq!(whole.map(|assignment| assignment.len()), Some(2), "{polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn e4_no_event_is_missed_by_a_reader_whose_futures_are_dropped() {
    for polls in times(0..10) {
        let pulls = Pulls::start(2).await;
        let (mut first, mut seen) = (pulls.consumer().await, Seen::default());
        let (mut dropping, patient) = (first.control().events(), first.control().events());
        read_all(&mut first, &mut seen, 2 * EACH).await;
        let second = pulls.consumer().await;
        let mut told = Vec::new();
        let until = tokio::time::Instant::now() + secs(60);
        while tokio::time::Instant::now() < until {
            match poll_times(pin!(dropping.next()), polls).await {
                Some(event) => told.push(format!("{:?}", event.expect("it goes on"))),
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        first.control().shutdown(secs(5)).await.ignore();
        drop((first, second));
        let collect = async {
            told.extend(dropping.map(|event| format!("{event:?}")).collect::<Vec<_>>().await);
            patient.map(|event| format!("{event:?}")).collect::<Vec<_>>().await
        };
        let all = within(PATIENCE, "the end of the events", collect).await;
        assert_eq!(told, all, "{polls} polls");
        assert!(all.iter().any(|event| event.contains("Revoked")), "{all:?}");
    }
}
