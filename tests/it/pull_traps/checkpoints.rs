//! What is committed, and what a commit is worth.

use rocketmq_stream::{Checkpoint, CommitMode, MemoryCheckpoints, SeekTo, StopAt};

use super::*;

#[tokio::test(start_paused = true)]
async fn p1_what_is_committed_is_the_next_offset_and_who_comes_next_begins_there() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 50, "a");
    let mut first = rig.etl().build().await.expect("build");
    let batch = next(&mut first).await;
    let (last, after) = (offsets(&batch).last().copied().expect("a message"), batch.next_offset());
    assert_eq!(after, at(last + 1));
    batch.complete();
    ended(&first.control()).await;
    assert_eq!(rig.committed(&q(0)), Some(last + 1));
    let start = StartFrom::committed_or_earliest();
    let mut second = rig.etl().start_from(start).build().await.expect("build");
    assert_eq!(offsets(&next(&mut second).await)[0], last + 1, "not the last one again, and none left out");
}

#[tokio::test(start_paused = true)]
async fn p2_what_was_only_handed_out_is_never_committed() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 50, "a");
    let mut first = rig.etl().build().await.expect("build");
    let held = (next(&mut first).await, next(&mut first).await);
    tokio::time::sleep(secs(10)).await;
    assert_eq!(rig.committed(&q(0)).unwrap_or(0), 0, "after ten intervals");
    first.control().flush().await.expect("flush");
    assert_eq!(rig.committed(&q(0)).unwrap_or(0), 0, "after a flush");
    let report = first.control().shutdown(secs(2)).await;
    assert!(!report.complete, "{report:?}");
    assert_eq!(rig.committed(&q(0)).unwrap_or(0), 0, "after the shutdown");
    let start = StartFrom::committed_or_earliest();
    let mut second = rig.etl().start_from(start).build().await.expect("build");
    assert_eq!(offsets(&next(&mut second).await)[0], 0, "it comes again");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn p3_what_is_finished_first_waits_for_what_lies_before_it() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 10, "a");
    let consumer = rig.etl().build().await.expect("build");
    let control = consumer.control();
    let mut messages: Vec<_> = consumer.per_message().take(10).try_collect().await.expect("ten messages");
    let slow = messages.remove(3);
    messages.into_iter().rev().for_each(rocketmq_stream::PulledMessage::complete);
    control.flush().await.expect("flush");
    assert_eq!(rig.committed(&q(0)), Some(3), "up to the one that is open");
    slow.complete();
    control.flush().await.expect("flush");
    assert_eq!(rig.committed(&q(0)), Some(10));
}

#[tokio::test(start_paused = true)]
async fn p12_what_is_restored_wins_over_the_brokers_offset_once_and_a_gained_queue_begins_at_the_larger() {
    let rig = Pulls::start(2).await;
    rig.fill_all(100);
    for id in 0..2 {
        rig.broker.set_committed(GROUP, &q(id), Some(at(60))).expect("set");
    }
    let restored: Checkpoint = (0..2).map(|id| (q(id), at(20))).collect();
    let start = StartFrom::Checkpoint(restored);
    let mut first = rig.etl().start_from(start).build().await.expect("build");
    // As it was restored, right after the assignment, although the broker says 60.
    read_each(&mut first, &rig.broker.queues(TOPIC), 80).await;
    first.control().flush().await.expect("flush");
    let second = rig.etl().start_from(StartFrom::committed_or_earliest()).build().await.expect("build");
    let moved = halved(&first.control(), &second.control()).await;
    tokio::time::sleep(secs(5)).await;
    rig.broker.set_committed(GROUP, &moved, Some(at(5))).expect("a broker that forgot");
    ended(&second.control()).await;
    holds(&first.control(), 2).await;
    rig.fill(&moved, 10, "a");
    assert_eq!(read(&mut first, &moved, 10).await, (100..110).collect::<Vec<_>>(), "neither from 5 nor from 20");
}

/// Reads and completes for so long; counts what comes.
async fn reads_for(time: Duration, consumer: &mut PullConsumer, seen: &mut Vec<(u32, u64)>) {
    let reading = async {
        loop {
            let batch = next(consumer).await;
            seen.extend(offsets(&batch).into_iter().map(|offset| (batch.queue().id(), offset)));
            batch.complete();
        }
    };
    assert!(tokio::time::timeout(time, reading).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn p12_a_queue_that_goes_to_another_member_and_comes_back_is_read_once() {
    let rig = Pulls::start(2).await;
    rig.fill_all(40);
    let stores = (MemoryCheckpoints::new(), MemoryCheckpoints::new());
    let mut first = rig.etl().checkpoints(stores.0.clone()).build().await.expect("build");
    let mut seen = Vec::new();
    reads_for(secs(3), &mut first, &mut seen).await;
    let start = StartFrom::committed_or_earliest();
    let mut second = rig.etl().start_from(start).checkpoints(stores.1.clone()).build().await.expect("build");
    halved(&first.control(), &second.control()).await;
    tokio::time::sleep(secs(2)).await;
    rig.fill_all(40);
    reads_for(secs(3), &mut second, &mut seen).await;
    ended(&second.control()).await;
    holds(&first.control(), 2).await;
    rig.fill_all(40);
    reads_for(secs(30), &mut first, &mut seen).await;
    seen.sort_unstable();
    let once: Vec<(u32, u64)> = (0..2).flat_map(|id| (0..120).map(move |offset| (id, offset))).collect();
    assert_eq!(seen, once);
}

#[tokio::test(start_paused = true)]
async fn p23_a_broker_that_forgot_a_commit_is_noticed_and_told_again() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 50, "a");
    let mut consumer = rig.etl().build().await.expect("build");
    let control = consumer.control();
    read(&mut consumer, &q(0), 50).await;
    control.flush().await.expect("flush");
    assert_eq!(rig.committed(&q(0)), Some(50));
    let mut events = control.events();
    rig.broker.set_committed(GROUP, &q(0), Some(at(10))).expect("set");
    control.lag().refreshed().await;
    let forgotten = event(&mut events, "that it was forgotten", |event| match event {
        PullEvent::Checkpoint(CheckpointEvent::Forgotten { committed, found, .. }) => Some((*committed, (*found)?)),
        _ => None,
    });
    assert_eq!(forgotten.await, (at(50), at(10)));
    control.flush().await.expect("flush");
    tokio::time::sleep(secs(2)).await;
    assert_eq!(rig.committed(&q(0)), Some(50), "it is told again");
}

#[tokio::test(start_paused = true)]
async fn p23_a_broker_that_comes_back_without_the_last_commits_is_told_again_though_nobody_polls_or_asks() {
    for found in [Some(10), None] {
        let rig = Pulls::with(Broker::builder().topic(TOPIC, 1).brokers(2)).await;
        let other = MessageQueue::new(TOPIC, "broker-b", 0);
        rig.fill_all(50);
        let mut consumer = rig.etl().build().await.expect("build");
        let control = consumer.control();
        read_each(&mut consumer, &[q(0), other.clone()], 50).await;
        control.flush().await.expect("flush");
        let mut events = control.events();
        // It restarts, as after a kill, and the first answer it gives is that it is busy.
        rig.broker.stop_broker(0);
        rig.broker.set_committed(GROUP, &q(0), found.map(at)).expect("set");
        tokio::time::sleep(secs(5)).await;
        let asked = rig.calls(&[QUERY_OFFSET]);
        rig.broker.faults().on_remoting(QUERY_OFFSET).at_broker(0).status(2, "busy");
        rig.broker.start_broker(0);
        let forgotten = event(&mut events, "that it was forgotten", |event| match event {
            PullEvent::Checkpoint(CheckpointEvent::Forgotten { queue, committed, found }) => {
                Some((queue.clone(), *committed, *found))
            }
            _ => None,
        });
        assert_eq!(forgotten.await, (q(0), at(50), found.map(at)));
        tokio::time::sleep(secs(5)).await;
        assert_eq!(rig.committed(&q(0)), Some(50), "it is told again");
        tokio::time::sleep(secs(120)).await;
        assert_eq!(rig.calls(&[QUERY_OFFSET]), asked + 2, "asked again once, and nobody else was");
    }
}

#[tokio::test(start_paused = true)]
async fn p23_a_checkpoint_of_our_own_wins_over_a_broker_that_forgot() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 50, "a");
    let store = MemoryCheckpoints::new();
    let mut first = rig.etl().checkpoints(store.clone()).build().await.expect("build");
    read(&mut first, &q(0), 50).await;
    ended(&first.control()).await;
    rig.broker.set_committed(GROUP, &q(0), Some(at(10))).expect("set");
    rig.fill(&q(0), 5, "a");
    let start = StartFrom::committed_or_earliest();
    let again = rig.etl().start_from(start).checkpoints(store).until(StopAt::Now).build().await;
    let seen = to_its_end(&mut again.expect("build")).await;
    assert_eq!(seen, (50..55).map(|offset| (0, offset)).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn p6_a_range_that_was_skipped_before_a_seek_moves_nothing_after_it() {
    let rig = Pulls::with(Broker::builder().topic(TOPIC, 1).brokers(2)).await;
    let other = MessageQueue::new(TOPIC, "broker-b", 0);
    rig.fill(&q(0), 40, "a");
    rig.fill(&other, 5, "a");
    rig.fill(&other, 5, "skipped");
    let begin = [(q(0), at(0)), (other.clone(), at(5))];
    let builder = rig.client.pull_consumer(GROUP).subscribe(TOPIC, Filter::tag("a"));
    let builder = builder.start_from(StartFrom::Offsets(begin.into())).commit_mode(CommitMode::AtMostOnce);
    let mut consumer = builder.build().await.expect("build");
    let control = consumer.control();
    // The first piece of one queue waits to be committed. Meanwhile the other queue's answer comes: nothing from 5 to 10.
    rig.broker.faults().on_remoting(COMMIT).delay_reply(secs(4));
    rig.broker.faults().on_remoting(PULL).at_broker(1).delay_reply(secs(1));
    assert!(tokio::time::timeout(secs(2), consumer.next()).await.is_err(), "it waits for the commit");
    control.seek(&other, SeekTo::Offset(at(0))).await.expect("seek");
    let first = next(&mut consumer).await;
    assert_eq!(first.queue(), &q(0));
    assert_eq!(control.checkpoint().get(&other), Some(at(0)), "where it was set");
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.extend(offsets(&next_of(&mut consumer, &other).await));
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn p6_what_waited_for_its_commit_is_not_handed_out_after_a_seek() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 100, "a");
    let mut consumer = rig.etl().commit_mode(CommitMode::AtMostOnce).build().await.expect("build");
    let control = consumer.control();
    rig.broker.faults().on_remoting(COMMIT).delay_reply(secs(2));
    assert!(tokio::time::timeout(secs(1), consumer.next()).await.is_err(), "it waits for the commit");
    control.seek(&q(0), SeekTo::Offset(at(70))).await.expect("seek");
    let mut seen = Vec::new();
    while seen.len() < 30 {
        seen.extend(offsets(&next(&mut consumer).await));
    }
    assert_eq!(seen, (70..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn at_most_once_in_a_group_begins_where_whoever_was_further_stopped_the_store_or_the_broker() {
    let (once, least) = (CommitMode::AtMostOnce, CommitMode::AtLeastOnce);
    for (mode, in_group, stored, committed, first) in [
        (once, true, 40, Some(60), 60),
        (once, true, 60, Some(40), 60),
        (once, true, 40, None, 40),
        // Nobody else reads what is not shared out, and at least once nothing may be left out: the store alone counts.
        (once, false, 40, Some(60), 40),
        (least, true, 40, Some(60), 40),
    ] {
        let rig = Pulls::start(1).await;
        rig.fill(&q(0), 100, "a");
        rig.broker.set_committed(GROUP, &q(0), committed.map(at)).expect("set");
        let store = MemoryCheckpoints::new();
        let known: Checkpoint = [(q(0), at(stored))].into_iter().collect();
        rocketmq_stream::CheckpointStore::save(&store, GROUP, &known).await.expect("saved");
        let builder = rig.etl().commit_mode(mode).checkpoints(store);
        let builder = if in_group { builder } else { builder.share(0, 1) };
        let mut consumer = builder.build().await.expect("build");
        assert_eq!(offsets(&next(&mut consumer).await)[0], first, "{mode:?} {in_group} {stored} {committed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_once_in_a_group_hands_nothing_out_that_the_next_member_would_read_again() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 100, "a");
    let store = MemoryCheckpoints::new();
    let once = |builder: PullConsumerBuilder| builder.commit_mode(CommitMode::AtMostOnce);
    rig.broker.faults().on_remoting(COMMIT).delay(secs(3));
    let mut first = once(rig.etl()).checkpoints(store.clone()).build().await.expect("build");
    nothing_for(secs(2), &mut first).await;
    assert!(store.get(GROUP).get(&q(0)) > Some(at(0)), "the store alone is not enough: the others do not see it");
    let batch = next(&mut first).await;
    assert_eq!((batch.range().start, rig.committed(&q(0))), (at(0), Some(batch.next_offset().get())));

    let builder = once(rig.etl()).checkpoints(store).mirror_to_brokers(false);
    let error = is(builder.clone().build().await, ErrorKind::Config);
    assert!(error.to_string().contains("mirror_to_brokers") && error.to_string().contains("share"), "{error}");
    drop(builder.share(0, 1).build().await.expect("nobody takes its queues over"));
}
