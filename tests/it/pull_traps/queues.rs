//! Queues that come, go and come back, and the members of a group.

use rocketmq_stream::{Checkpoint, CommitMode, MemoryCheckpoints};

use super::*;

#[tokio::test(start_paused = true)]
async fn p6_a_queue_lost_and_regained_while_nobody_polled_goes_on_where_its_other_owner_stopped() {
    let rig = Pulls::start(2).await;
    rig.fill_all(200);
    let mut first = rig.etl().build().await.expect("build");
    for id in 0..2 {
        next_of(&mut first, &q(id)).await.complete();
        next_of(&mut first, &q(id)).await.complete();
    }
    // Both queues have messages pulled ahead. Nobody polls the first consumer until it has its queue again.
    let mut second = rig.etl().start_from(StartFrom::committed_or_earliest()).build().await.expect("build");
    let moved = halved(&first.control(), &second.control()).await;
    let mut reached = 0;
    while reached < 150 {
        let batch = next_of(&mut second, &moved).await;
        reached = batch.next_offset().get();
        batch.complete();
    }
    ended(&second.control()).await;
    assert_eq!(rig.committed(&moved), Some(reached));
    holds(&first.control(), 2).await;
    tokio::time::sleep(secs(5)).await;
    let batch = next_of(&mut first, &moved).await;
    assert_eq!((batch.range().start, offsets(&batch)[0]), (at(reached), reached), "nothing of before comes out");
}

#[tokio::test(start_paused = true)]
async fn p7_what_is_completed_after_the_queue_went_does_not_overwrite_its_new_owner() {
    let rig = Pulls::start(2).await;
    rig.fill_all(100);
    let mut first = rig.etl().build().await.expect("build");
    let held = [next_of(&mut first, &q(0)).await, next_of(&mut first, &q(1)).await];
    let mut events = first.control().events();
    let mut second = rig.etl().start_from(StartFrom::committed_or_earliest()).build().await.expect("build");
    let moved = halved(&first.control(), &second.control()).await;
    tokio::time::sleep(secs(2)).await;
    assert_eq!(read(&mut second, &moved, 100).await[0], 0, "nothing of it was completed in time");
    second.control().flush().await.expect("flush");
    assert_eq!(rig.committed(&moved), Some(100));

    held.into_iter().for_each(PullBatch::complete);
    let late = event(&mut events, "that it was too late", |event| match event {
        PullEvent::Checkpoint(CheckpointEvent::Late { queue, .. }) => Some(queue.clone()),
        _ => None,
    });
    assert_eq!(late.await, moved);
    first.control().flush().await.expect("flush");
    let stale: Checkpoint = [(moved.clone(), at(1))].into_iter().collect();
    let error = is(first.control().commit(&stale).await, ErrorKind::Precondition);
    assert!(error.to_string().contains("assigned") || error.queue() == Some(&moved), "{error}");
    tokio::time::sleep(secs(10)).await;
    assert_eq!(rig.committed(&moved), Some(100), "its new owner's commit stays");
}

#[tokio::test(start_paused = true)]
async fn p8_what_was_handed_out_may_finish_and_is_committed_before_the_queue_is_given_up() {
    let rig = Pulls::start(2).await;
    rig.fill_all(100);
    let mut first = rig.etl().drain_timeout(secs(5)).build().await.expect("build");
    let held = [next_of(&mut first, &q(0)).await, next_of(&mut first, &q(1)).await];
    let ends = held.each_ref().map(PullBatch::next_offset);
    let mut events = first.control().events();
    let second = rig.etl().build().await.expect("build");
    let (lost, within) = event(&mut events, "that a queue goes", |event| match event {
        PullEvent::Revoking { queue, within } => Some((queue.clone(), *within)),
        _ => None,
    })
    .await;
    assert_eq!(within, secs(5));
    tokio::time::sleep(secs(3)).await;
    held.into_iter().for_each(PullBatch::complete);
    let reached = event(&mut events, "that it is gone", |event| match event {
        PullEvent::Revoked { queue, reached } => {
            assert_eq!(*queue, lost);
            Some(*reached)
        }
        _ => None,
    })
    .await;
    assert_eq!(reached, ends[lost.id() as usize]);
    assert_eq!(rig.committed(&lost), Some(reached.get()), "before it was given up");
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn p9_what_nobody_finishes_holds_up_neither_a_handover_nor_a_shutdown() {
    let rig = Pulls::start(2).await;
    rig.fill_all(100);
    let mut first = rig.etl().drain_timeout(secs(4)).build().await.expect("build");
    let held = [next_of(&mut first, &q(0)).await, next_of(&mut first, &q(1)).await];
    let mut events = first.control().events();
    // And no commit is answered any more.
    rig.broker.faults().on_remoting(COMMIT).always().lose_reply();
    let second = rig.etl().build().await.expect("build");
    let mut began = tokio::time::Instant::now();
    event(&mut events, "that a queue goes", |event| matches!(event, PullEvent::Revoking { .. }).then_some(())).await;
    event(&mut events, "that it is gone", |event| matches!(event, PullEvent::Revoked { .. }).then_some(())).await;
    assert!(began.elapsed() < secs(4 + 10 + 3), "{:?}", began.elapsed());
    began = tokio::time::Instant::now();
    let report = first.control().shutdown(secs(3)).await;
    assert!(began.elapsed() < secs(4), "{:?}", began.elapsed());
    assert!(!report.complete && report.open.len() == 1, "{report:?}");
    drop((held, second));
}

#[tokio::test(start_paused = true)]
async fn p9_a_shutdown_ends_when_nothing_is_left_to_wait_for() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 100, "a");
    let mut consumer = rig.etl().build().await.expect("build");
    next(&mut consumer).await.complete();
    let began = tokio::time::Instant::now();
    let report = consumer.control().shutdown(secs(600)).await;
    assert!(report.complete, "{report:?}");
    assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
    assert_eq!(rig.broker.members(GROUP, 0), Vec::<String>::new(), "it has left the group");
}

#[tokio::test(start_paused = true)]
async fn p10_a_queue_that_was_paused_and_lost_is_not_paused_when_it_comes_back() {
    let rig = Pulls::start(2).await;
    rig.fill_all(50);
    let mut first = rig.etl().build().await.expect("build");
    let control = first.control();
    for id in 0..2 {
        control.pause(&q(id)).expect("paused");
    }
    nothing_for(secs(30), &mut first).await;
    let second = rig.etl().build().await.expect("build");
    let moved = halved(&control, &second.control()).await;
    ended(&second.control()).await;
    holds(&control, 2).await;
    let batch = next(&mut first).await;
    assert_eq!((batch.queue(), batch.range().start), (&moved, at(0)), "the other one is paused as it was");
}

#[tokio::test(start_paused = true)]
async fn p10_a_commit_that_fails_stops_no_reading_and_is_made_up_for() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 500, "a");
    let mut consumer = rig.etl().build().await.expect("build");
    let refused = rig.broker.faults().on_remoting(COMMIT).times(4).status(2, "busy");
    let mut seen = Vec::new();
    while seen.len() < 500 {
        let batch = next(&mut consumer).await;
        seen.extend(offsets(&batch));
        batch.complete();
        tokio::time::sleep(secs(1)).await;
    }
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
    assert_eq!(refused.hits(), 4, "commits did fail");
    consumer.control().flush().await.expect("flush");
    assert_eq!(rig.committed(&q(0)), Some(500));
}

#[tokio::test(start_paused = true)]
async fn p11_a_queue_whose_broker_was_down_at_the_start_skips_nothing_and_reads_nothing_old() {
    let rig = Pulls::with(Broker::builder().topic(TOPIC, 1).brokers(2)).await;
    let away = MessageQueue::new(TOPIC, "broker-b", 0);
    rig.fill(&away, 20, "old");
    rig.broker.stop_broker(1);
    tokio::time::sleep(secs(2)).await;
    let mut consumer = rig.etl().start_from(StartFrom::Latest).build().await.expect("build");
    tokio::time::sleep(secs(2)).await;
    rig.fill(&away, 20, "new");
    rig.fill(&q(0), 20, "new");
    assert_eq!(read(&mut consumer, &q(0), 20).await, (0..20).collect::<Vec<_>>(), "the other broker is read meanwhile");
    rig.broker.start_broker(1);
    assert_eq!(read(&mut consumer, &away, 20).await, (20..40).collect::<Vec<_>>());
    nothing_for(secs(60), &mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn p11_a_new_queue_is_read_from_its_first_message_also_under_latest() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 20, "old");
    let mut consumer = rig.etl().start_from(StartFrom::Latest).build().await.expect("build");
    tokio::time::sleep(secs(2)).await;
    rig.broker.grow_topic(TOPIC, 2).expect("grown");
    rig.fill(&q(1), 20, "new");
    assert_eq!(read(&mut consumer, &q(1), 20).await, (0..20).collect::<Vec<_>>(), "nothing of it is skipped");
    nothing_for(secs(60), &mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn p11_a_queue_that_appears_later_begins_at_its_own_checkpoint() {
    let rig = Pulls::with(Broker::builder().topic(TOPIC, 1).brokers(2)).await;
    let away = MessageQueue::new(TOPIC, "broker-b", 0);
    rig.fill(&away, 20, "a");
    let store = MemoryCheckpoints::new();
    let known: Checkpoint = [(away.clone(), at(12))].into_iter().collect();
    rocketmq_stream::CheckpointStore::save(&store, GROUP, &known).await.expect("saved");
    rig.broker.stop_broker(1);
    let builder = rig.etl().start_from(StartFrom::Latest).checkpoints(store);
    let mut consumer = builder.build().await.expect("build");
    rig.broker.start_broker(1);
    assert_eq!(read(&mut consumer, &away, 8).await, (12..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn p11_where_a_member_begins_by_itself_is_committed_at_once_and_who_comes_next_skips_nothing() {
    let start = StartFrom::committed_or_latest();
    for first in [StartFrom::Latest, StartFrom::Earliest, start.clone(), StartFrom::committed_or_earliest()] {
        let rig = Pulls::start(1).await;
        rig.fill(&q(0), 10, "a");
        let expected =
            if matches!(&first, StartFrom::Earliest) || first == StartFrom::committed_or_earliest() { 0 } else { 10 };
        let mut first = rig.etl().commit_interval(secs(3_600)).start_from(first).build().await.expect("build");
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(rig.committed(&q(0)), Some(expected), "nobody has completed anything, so nothing is passed over");
        rig.fill(&q(0), 5, "a");
        let held = next(&mut first).await;
        // It says no word more, as one that is killed.
        let builder = rig.other_client().pull_consumer(GROUP).subscribe(TOPIC, Filter::all());
        let mut second = builder.share(0, 1).start_from(start.clone()).build().await.expect("build");
        assert_eq!(read(&mut second, &q(0), 15 - expected as usize).await, (expected..15).collect::<Vec<_>>());
        drop(held);
    }
}

#[tokio::test(start_paused = true)]
async fn p11_a_member_that_commits_only_what_it_is_told_to_commits_no_start_either() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 10, "a");
    let mut consumer = rig.etl().commit_mode(CommitMode::Manual).build().await.expect("build");
    next(&mut consumer).await.complete();
    tokio::time::sleep(secs(10)).await;
    ended(&consumer.control()).await;
    assert_eq!(rig.committed(&q(0)), None);
}

#[tokio::test(start_paused = true)]
async fn p19_queues_are_spread_evenly_and_who_has_none_waits_and_takes_over() {
    let rig = Pulls::start(3).await;
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(rig.etl().build().await.expect("build"));
    }
    for member in &members {
        holds(&member.control(), 1).await;
    }
    for _ in 0..2 {
        members.push(rig.etl().build().await.expect("a member without queues is no error"));
    }
    tokio::time::sleep(secs(60)).await;
    let mut held: Vec<usize> = members.iter().map(|member| member.control().assignment().len()).collect();
    held.sort_unstable();
    assert_eq!(held, [0, 0, 1, 1, 1]);
    for member in &members {
        let is_idle =
            told(&mut member.control().events()).iter().any(|event| matches!(event, PullEvent::Idle { queues: 3, .. }));
        assert!(is_idle || !member.control().assignment().is_empty(), "who has none is told so");
    }
    // They wait, without an error and without an end …
    let (mut idle, mut busy): (Vec<_>, Vec<_>) =
        members.into_iter().partition(|member| member.control().assignment().is_empty());
    nothing_for(secs(60), &mut idle[0]).await;
    // … and one of them takes over when another goes.
    let gone = busy.remove(0);
    ended(&gone.control()).await;
    tokio::time::sleep(secs(60)).await;
    let left = idle.iter().chain(&busy).map(|member| member.control().assignment().len());
    assert_eq!(left.sum::<usize>(), 3, "no queue is left to nobody");
    rig.fill_all(1);
    let each = idle.iter_mut().chain(&mut busy).filter(|member| member.control().assignment().len() == 1);
    for member in each {
        next(member).await.complete();
    }
}

#[tokio::test(start_paused = true)]
async fn p27_who_assigns_or_shares_joins_no_list_and_takes_no_queue_from_those_who_subscribe() {
    let rig = Pulls::start(4).await;
    rig.fill_all(10);
    let mut subscriber = rig.etl().build().await.expect("build");
    let assigned = rig.client.pull_consumer(GROUP).assign([q(0), q(1)]).start_from(StartFrom::Earliest);
    let mut assigned = assigned.build().await.expect("build");
    let mut sharing = rig.etl().share(0, 2).build().await.expect("build");
    read_each(&mut assigned, &[q(0), q(1)], 10).await;
    next(&mut sharing).await.complete();
    tokio::time::sleep(secs(60)).await;
    assert_eq!(rig.broker.members(GROUP, 0).len(), 1, "the subscriber");
    assert_eq!(subscriber.control().assignment().len(), 4, "all queues are still its own");
    read_each(&mut subscriber, &rig.broker.queues(TOPIC), 10).await;
}

#[tokio::test(start_paused = true)]
async fn p26_members_that_come_in_another_way_do_not_see_each_other_and_both_read_every_queue() {
    let rig = Pulls::start(4).await;
    rig.fill_all(10);
    let mut at_the_brokers = rig.etl().build().await.expect("build");
    let through_the_proxy = Client::builder().access_point(rig.broker.access_point()).build().expect("a client");
    // Over gRPC there is no list of members; so its queues are numbered, as one task of one.
    let mut other = etl(&through_the_proxy).share(0, 1).build().await.expect("nobody notices");
    read_each(&mut at_the_brokers, &rig.broker.queues(TOPIC), 10).await;
    tokio::time::sleep(secs(30)).await;
    assert_eq!(at_the_brokers.control().assignment().len(), 4);
    assert_eq!(other.control().assignment().len(), 4, "twice");
    read_each(&mut other, &rig.broker.queues(TOPIC), 10).await;
    let readme = include_str!("../../../README.md");
    assert!(readme.contains("One group, one way in"), "and the documentation says so");
}
