//! What is done with a consumer while it works.

use std::time::Duration;

use futures::prelude::*;
use rocketmq_stream::{Checkpoint, CommitMode, ErrorKind, MessageQueue, PullEvent, SeekTo, StartFrom};

use crate::cluster::{Cluster, plain};
use crate::starts::two_lots;
use crate::support::{PATIENCE, secs, within};
use crate::tape::{Tape, event, next, nothing_for, o, read, sorted};

pub(crate) async fn p6_a_seek_to_an_offset_begins_a_new_epoch_there(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let queue = cluster.queues(&topic).await.remove(0);
    let stored = cluster.put(&queue, plain(60)).await;
    let mut consumer = cluster.reading(&group, &topic).max_messages(10).build().await.expect("build");
    let control = consumer.control();
    let mut tape = Tape::from(&consumer.position());
    let first = next(&mut consumer).await;
    tape.note(&first);
    let epoch = first.epoch();
    first.complete();
    for place in [45, 12] {
        // What was pulled ahead of the old place must not come.
        control.seek(&queue, SeekTo::Offset(o(place))).await.expect("seek");
        let batch = next(&mut consumer).await;
        assert_eq!(batch.range().start, o(place));
        assert!(batch.epoch() > epoch);
        tape.note(&batch);
        batch.complete();
    }
    within(PATIENCE, "flush", control.flush()).await.expect("flush");
    assert_eq!(cluster.committed(&group, &queue).await, consumer.position().get(&queue), "also backwards");
    let mut rest = Tape::from(&consumer.position());
    let at = usize::try_from(consumer.position().get(&queue).expect("it is read").get()).expect("small");
    read(&mut consumer, &mut rest, 60 - at).await;
    assert_eq!(rest.all(), sorted(&stored[at..]));
    let error = control.seek(&queue, SeekTo::Offset(o(1 << 63))).await.expect_err("no queue goes that far");
    assert_eq!((error.kind(), error.queue()), (ErrorKind::InvalidArgument, Some(&queue)), "{error}");
}

pub(crate) async fn p13_a_seek_to_a_timestamp_lands_on_the_first_message_of_that_time_or_later(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let (early, late, first) = two_lots(cluster, &topic).await;
    let mut consumer = cluster.reading(&group, &topic).build().await.expect("build");
    let control = consumer.control();
    let mut tape = Tape::from(&consumer.position());
    read(&mut consumer, &mut tape, early.len() + late.len()).await;
    for queue in cluster.queues(&topic).await {
        control.seek(&queue, SeekTo::Timestamp(first)).await.expect("seek");
    }
    let mut again = Tape::default();
    read(&mut consumer, &mut again, late.len()).await;
    assert_eq!(again.all(), sorted(&late));
}

pub(crate) async fn a_seek_goes_to_the_beginning_and_to_the_end(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let queue = cluster.queues(&topic).await.remove(0);
    let stored = cluster.put(&queue, plain(20)).await;
    let builder = cluster.reading(&group, &topic).start_from(StartFrom::Latest);
    let mut consumer = builder.build().await.expect("build");
    let control = consumer.control();
    nothing_for(secs(1), &mut consumer).await;
    control.seek(&queue, SeekTo::Beginning).await.expect("seek");
    let batch = next(&mut consumer).await;
    assert_eq!(batch.range().start, o(0));
    batch.complete();
    control.seek(&queue, SeekTo::End).await.expect("seek");
    nothing_for(secs(1), &mut consumer).await;
    assert_eq!(consumer.position().get(&queue), Some(o(20)));
    within(PATIENCE, "flush", control.flush()).await.expect("flush");
    assert_eq!(cluster.committed(&group, &queue).await, Some(o(20)));
    let more = cluster.put(&queue, plain(3)).await;
    let mut tape = Tape::default();
    read(&mut consumer, &mut tape, 3).await;
    assert_eq!(tape.read, more);
    assert_eq!(stored.len(), 20);
}

pub(crate) async fn p10_a_paused_queue_brings_nothing_and_the_others_go_on(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let queues = cluster.queues(&topic).await;
    let mut consumer = cluster.reading(&group, &topic).max_messages(10).build().await.expect("build");
    let control = consumer.control();
    let mut tape = Tape::from(&consumer.position());
    let mut stored = cluster.fill(&topic, 30).await;
    let batch = next(&mut consumer).await;
    tape.note(&batch);
    batch.complete();
    control.pause(&queues[0]).expect("held");
    let before = tape.read.iter().filter(|one| one.queue == queues[0]).count();
    // Also what was pulled ahead stays.
    read(&mut consumer, &mut tape, before + 30).await;
    stored.extend(cluster.fill(&topic, 5).await);
    read(&mut consumer, &mut tape, before + 35).await;
    nothing_for(secs(3), &mut consumer).await;
    assert_eq!(tape.read.iter().filter(|one| one.queue == queues[0]).count(), before);
    control.resume(&queues[0]).expect("held");
    read(&mut consumer, &mut tape, stored.len()).await;
    assert_eq!(tape.all(), sorted(&stored));
    // A queue that begins anew is not paused any more.
    control.pause(&queues[0]).expect("held");
    control.seek(&queues[0], SeekTo::Offset(o(30))).await.expect("seek");
    assert_eq!(next(&mut consumer).await.range().start, o(30));
}

pub(crate) async fn offsets_of_queues_and_times_can_be_asked_for(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let (early, _, first) = two_lots(cluster, &topic).await;
    let count = early.len() as u64 / 2;
    let queues = cluster.queues(&topic).await;
    // Where it begins is not committed either.
    let builder = cluster.reading(&group, &topic).commit_mode(CommitMode::Manual);
    let consumer = builder.build().await.expect("build");
    let control = consumer.control();
    cluster.overwrite(&group, &queues[0], o(7)).await;
    assert_eq!(control.committed(&queues[0]).await.expect("asked"), Some(o(7)));
    assert_eq!(control.committed(&queues[1]).await.expect("asked"), None);
    for queue in &queues {
        assert_eq!(control.bounds(queue).await.expect("asked"), o(0)..o(2 * count));
        assert!(control.offset_at(queue, first).await.expect("asked") >= o(count));
        let long_ago = first - Duration::from_secs(86_400);
        assert_eq!(control.offset_at(queue, long_ago).await.expect("asked"), o(0));
        let later = first + Duration::from_secs(30 * 86_400);
        assert_eq!(control.offset_at(queue, later).await.expect("asked"), o(2 * count));
    }
    // P24: a broker would answer 0.
    let absent = MessageQueue::new(&*topic, queues[0].broker(), 77);
    assert!(control.bounds(&absent).await.is_err());
    assert!(control.committed(&absent).await.is_err());
    assert!(control.offset_at(&absent, first).await.is_err());
}

pub(crate) async fn p20_the_lag_is_told_per_queue(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let queues = cluster.queues(&topic).await;
    cluster.put(&queues[0], plain(20)).await;
    let mut consumer = cluster.reading(&group, &topic).max_messages(10).build().await.expect("build");
    let control = consumer.control();
    // The first pull brings as much as it dares to ask for; the lag is of what comes after it.
    let first = next(&mut consumer).await;
    let start = first.next_offset().get();
    first.complete();
    let (done, open) = next(&mut consumer).await.split_at(2);
    done.complete();
    within(PATIENCE, "flush", control.flush()).await.expect("flush");
    cluster.put(&queues[0], plain(5)).await;
    tokio::time::sleep(secs(1)).await;
    let lags = within(PATIENCE, "the lag", control.lag().refreshed()).await;
    assert_eq!(lags.iter().map(|lag| lag.queue.clone()).collect::<Vec<_>>(), queues);
    let (lag, idle) = (&lags[0], &lags[1]);
    assert_eq!(
        (lag.min, lag.max, lag.committed, lag.low_mark),
        (Some(o(0)), Some(o(25)), Some(o(start + 2)), o(start + 2))
    );
    assert_eq!((lag.lag, lag.next), (Some(23 - start), open.next_offset()));
    assert_eq!((lag.open, lag.blocked_by.clone()), (open.len() as u64, Some(o(start + 2)..o(start + 3))));
    assert!(lag.oldest_open.is_some_and(|age| age >= secs(1)), "{lag:?}");
    assert_eq!((idle.lag, idle.max, idle.open, idle.oldest_open), (Some(0), Some(o(0)), 0, None));
    open.complete();
    let mut rest = Tape::from(&consumer.position());
    let left = 25 - usize::try_from(consumer.position().get(&queues[0]).expect("read").get()).expect("small");
    read(&mut consumer, &mut rest, left).await;
    within(PATIENCE, "flush", control.flush()).await.expect("flush");
    let lags = within(PATIENCE, "the lag", control.lag().every(secs(1)).changed()).await;
    assert!(lags.iter().all(|lag| lag.lag == Some(0) && lag.blocked_by.is_none()), "{lags:?}");
}

pub(crate) async fn a_shutdown_says_what_was_left_open(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let queue = cluster.queues(&topic).await.remove(0);
    cluster.put(&queue, plain(20)).await;
    let mut consumer = cluster.reading(&group, &topic).max_messages(5).build().await.expect("build");
    let control = consumer.control();
    let done = next(&mut consumer).await;
    let committed = done.next_offset();
    done.complete();
    let open = next(&mut consumer).await;
    let report = within(secs(60), "shutdown", control.shutdown(secs(2))).await;
    assert!(!report.complete);
    assert_eq!(report.open, [(queue.clone(), open.len() as u64)]);
    assert_eq!(report.unsaved, Checkpoint::new());
    assert!(within(PATIENCE, "the end", consumer.next()).await.is_none());
    assert_eq!(cluster.committed(&group, &queue).await, Some(committed));
    open.complete(); // too late
    tokio::time::sleep(secs(2)).await;
    assert_eq!(cluster.committed(&group, &queue).await, Some(committed));
}

pub(crate) async fn a_queue_that_is_not_held_can_be_neither_paused_nor_moved(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    cluster.fill(&topic, 3).await;
    let queues = cluster.queues(&topic).await;
    let consumer = cluster.pulling(&group).assign([queues[0].clone()]).build().await.expect("build");
    let control = consumer.control();
    let errors = [
        control.pause(&queues[1]).expect_err("not held"),
        control.resume(&queues[1]).expect_err("not held"),
        control.seek(&queues[1], SeekTo::Offset(o(1))).await.expect_err("not held"),
        control.seek(&queues[1], SeekTo::End).await.expect_err("not held"),
    ];
    for error in errors {
        assert_eq!((error.kind(), error.queue()), (ErrorKind::Precondition, Some(&queues[1])), "{error}");
    }
}

pub(crate) async fn p18_p29_an_administrators_reset_is_obeyed_forwards_and_backwards(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let queue = cluster.queues(&topic).await.remove(0);
    cluster.put(&queue, plain(40)).await;
    // Short polls: a reset is told to the next one.
    let mut consumer = cluster.reading(&group, &topic).await_duration(secs(1)).build().await.expect("build");
    let control = consumer.control();
    let mut events = control.events();
    let mut tape = Tape::from(&consumer.position());
    read(&mut consumer, &mut tape, 40).await;
    within(PATIENCE, "flush", control.flush()).await.expect("flush");

    for (to, brings) in [(5, 35), (38, 2)] {
        cluster.reset(&group, &queue, o(to)).await;
        let mut again = Tape::default();
        read(&mut consumer, &mut again, brings).await;
        assert_eq!(again.read[0].offset, o(to));
        let reset = event(&mut events, "a reset", |event| match event {
            PullEvent::Reset { queue, from, to } => Some((queue, from, to)),
            PullEvent::Gap { .. } | PullEvent::JumpRefused { .. } => panic!("a reset is no gap: {event:?}"),
            _ => None,
        });
        assert_eq!(reset.await, (queue.clone(), o(40), o(to)));
        within(PATIENCE, "flush", control.flush()).await.expect("flush");
        assert_eq!(cluster.committed(&group, &queue).await, Some(o(40)));
    }
}
