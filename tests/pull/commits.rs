//! What is committed, when, and what is not.

use futures::prelude::*;
use rocketmq_stream::{
    Checkpoint, CheckpointEvent, CommitMode, ErrorKind, FileCheckpoints, MessageQueue, PullBatch, PullEvent, SeekTo,
    StartFrom, StopAt,
};

use crate::cluster::{Cluster, plain};
use crate::support::{PATIENCE, secs, unique, within};
use crate::tape::{Tape, event, next, o, read, sorted, to_end};

/// A topic whose first queue has so many messages, and the other none.
async fn one_queue(cluster: &Cluster, messages: usize) -> (String, String, MessageQueue) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let queue = cluster.queues(&topic).await.remove(0);
    cluster.put(&queue, plain(messages)).await;
    (topic, group, queue)
}

pub(crate) async fn p1_the_next_member_begins_at_the_first_message_that_was_not_completed(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let stored = cluster.fill(&topic, 60).await;
    let mut first = cluster.reading(&group, &topic).max_messages(10).build().await.expect("build");
    let mut done = Tape::from(&first.position());
    for _ in 0..3 {
        let batch = next(&mut first).await;
        done.note(&batch);
        batch.complete();
    }
    drop(next(&mut first).await); // handed out, and not completed
    let control = first.control();
    let checkpoint = control.checkpoint();
    within(PATIENCE, "flush", control.flush()).await.expect("flush");
    for (queue, next) in checkpoint.iter().filter(|(_, next)| *next > o(0)) {
        assert_eq!(cluster.committed(&group, queue).await, Some(next));
        assert_eq!(control.committed(queue).await.expect("asked"), Some(next));
    }
    within(PATIENCE, "shutdown", control.shutdown(secs(1))).await.ignore();

    let builder = cluster.reading(&group, &topic).start_from(StartFrom::committed_or_earliest());
    let mut second = builder.until(StopAt::Now).build().await.expect("build");
    assert_eq!(second.position(), checkpoint);
    let rest = to_end(&mut second).await;
    assert_eq!(sorted(&[done.read, rest.read].concat()), sorted(&stored), "each message was completed once");
}

pub(crate) async fn p2_nothing_is_committed_that_was_only_handed_out(cluster: &Cluster) {
    let (topic, group, queue) = one_queue(cluster, 100).await;
    let builder = cluster.reading(&group, &topic).max_messages(10);
    let mut consumer = builder.commit_interval(secs(1)).build().await.expect("build");
    let mut held = Vec::new();
    let mut handed_out = 0;
    while handed_out < 50 {
        let batch = next(&mut consumer).await;
        handed_out += batch.len();
        held.push(batch);
    }
    tokio::time::sleep(secs(3)).await;
    within(PATIENCE, "flush", consumer.control().flush()).await.expect("flush");
    let committed = cluster.committed(&group, &queue).await;
    assert!(committed.is_none_or(|next| next == o(0)), "{committed:?}");
    let first = held.remove(0);
    let end = first.next_offset();
    first.complete();
    tokio::time::sleep(secs(3)).await; // the interval, without a flush
    assert_eq!(cluster.committed(&group, &queue).await, Some(end));
}

pub(crate) async fn p3_what_is_completed_out_of_order_waits_for_what_is_not(cluster: &Cluster) {
    let (topic, group, queue) = one_queue(cluster, 40).await;
    let mut consumer = cluster.reading(&group, &topic).max_messages(10).build().await.expect("build");
    let control = consumer.control();
    let (mut batches, mut seen) = (Vec::new(), 0);
    while seen < 40 {
        let batch = next(&mut consumer).await;
        seen += batch.len();
        batches.push(batch);
    }
    let first = batches.remove(0);
    let (head, tail) = first.split_at(3);
    let boundary = head.next_offset();
    assert_eq!(tail.range().start, boundary);
    batches.into_iter().rev().for_each(PullBatch::complete);
    tail.complete();
    within(PATIENCE, "flush", control.flush()).await.expect("flush");
    assert_eq!(control.checkpoint().get(&queue), Some(o(0)));
    assert!(cluster.committed(&group, &queue).await.is_none_or(|next| next == o(0)));
    head.complete();
    within(PATIENCE, "flush", control.flush()).await.expect("flush");
    assert_eq!(control.checkpoint().get(&queue), Some(o(40)));
    assert_eq!(cluster.committed(&group, &queue).await, Some(o(40)));
}

pub(crate) async fn p7_a_completion_from_before_a_seek_is_told_and_not_committed(cluster: &Cluster) {
    let (topic, group, queue) = one_queue(cluster, 40).await;
    let mut consumer = cluster.reading(&group, &topic).build().await.expect("build");
    let control = consumer.control();
    let mut events = control.events();
    let old = next(&mut consumer).await;
    let range = old.range();
    control.seek(&queue, SeekTo::Offset(o(5))).await.expect("seek");
    old.complete();
    let late = event(&mut events, "a late completion", |event| match event {
        PullEvent::Checkpoint(CheckpointEvent::Late { queue, range }) => Some((queue, range)),
        _ => None,
    });
    assert_eq!(late.await, (queue.clone(), range));
    within(PATIENCE, "flush", control.flush()).await.expect("flush");
    assert_eq!(cluster.committed(&group, &queue).await, Some(o(5)), "the place of the seek");
    let again = next(&mut consumer).await;
    assert_eq!(again.range().start, o(5));
    let end = again.next_offset();
    again.complete();
    within(PATIENCE, "flush", control.flush()).await.expect("flush");
    assert_eq!(cluster.committed(&group, &queue).await, Some(end));
}

pub(crate) async fn p7_a_checkpoint_of_queues_that_are_not_held_is_refused_and_the_rest_is_saved(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    cluster.fill(&topic, 20).await;
    let queues = cluster.queues(&topic).await;
    let mut consumer = cluster.pulling(&group).assign([queues[0].clone()]).build().await.expect("build");
    let control = consumer.control();
    let held = next(&mut consumer).await;
    let both = Checkpoint::from_iter([(queues[0].clone(), held.next_offset()), (queues[1].clone(), o(7))]);
    let error = within(PATIENCE, "commit", control.commit(&both)).await.expect_err("one is not held");
    assert_eq!((error.kind(), error.queue()), (ErrorKind::Precondition, Some(&queues[1])), "{error}");
    assert_eq!(cluster.committed(&group, &queues[0]).await, Some(held.next_offset()));
    assert_eq!(cluster.committed(&group, &queues[1]).await, None);
    let end = held.next_offset();
    held.complete();
    within(PATIENCE, "shutdown", control.shutdown(secs(30))).await.ignore();
    let late = Checkpoint::from_iter([(queues[0].clone(), o(1))]);
    assert!(within(PATIENCE, "commit", control.commit(&late)).await.is_err(), "it is shut down");
    assert_eq!(cluster.committed(&group, &queues[0]).await, Some(end));
}

pub(crate) async fn a_checkpoint_beyond_what_was_handed_out_is_refused(cluster: &Cluster) {
    let (topic, group, queue) = one_queue(cluster, 20).await;
    let mut consumer = cluster.reading(&group, &topic).max_messages(5).build().await.expect("build");
    let control = consumer.control();
    let batch = next(&mut consumer).await;
    let end = consumer.position().get(&queue).expect("it is read");
    let beyond = Checkpoint::from_iter([(queue.clone(), o(end.get() + 1))]);
    let error = within(PATIENCE, "commit", control.commit(&beyond)).await.expect_err("beyond");
    assert_eq!((error.kind(), error.queue()), (ErrorKind::InvalidArgument, Some(&queue)), "{error}");
    assert_eq!(control.checkpoint().get(&queue), Some(o(0)), "nothing was completed");
    within(PATIENCE, "commit", control.commit(&consumer.position())).await.expect("commit");
    assert_eq!(control.checkpoint().get(&queue), Some(end), "everything below is complete");
    assert_eq!(cluster.committed(&group, &queue).await, Some(end));
    batch.complete();
}

pub(crate) async fn a_commit_sink_is_durable_when_it_is_closed(cluster: &Cluster) {
    // Several queues on each broker: of two first commits that come together, Apache 5.5.0 may forget one (trap P23).
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    cluster.fill(&topic, 30).await;
    let consumer = cluster.reading(&group, &topic).until(StopAt::Now).build().await.expect("build");
    let control = consumer.control();
    let work = consumer.map_ok(|batch| async move {
        tokio::time::sleep(secs(batch.queue().id().into()) / 20).await;
        Ok(batch.into_completion())
    });
    let pipeline = work.try_buffer_unordered(4).forward(control.commit_sink());
    within(PATIENCE, "the pipeline", pipeline).await.expect("it ends well");
    for (queue, end) in cluster.ends(&topic).await {
        assert_eq!(cluster.committed(&group, &queue).await, Some(end));
    }
}

/// Of two first commits of a group that arrive together Apache 5.5.0 acknowledges both and may forget one.
pub(crate) async fn p23_the_first_commits_of_many_queues_are_all_kept(cluster: &Cluster) {
    let topic = cluster.topic(8).await;
    cluster.fill(&topic, 64).await;
    let ends = cluster.ends(&topic).await;
    for _ in 0..8 {
        let group = cluster.group().await;
        let mut consumer = cluster.reading(&group, &topic).until(StopAt::Now).build().await.expect("build");
        let mut held = Vec::new();
        while let Some(batch) = within(PATIENCE, "a batch", consumer.try_next()).await.expect("no error") {
            held.push(batch);
        }
        held.into_iter().for_each(PullBatch::complete);
        within(PATIENCE, "flush", consumer.control().flush()).await.expect("flush");
        for (queue, end) in &ends {
            assert_eq!(cluster.committed(&group, queue).await, Some(*end), "{queue} in {group}");
        }
    }
}

/// A broker comes to know a group when somebody pulls for it, or says hello as its member; here nobody has.
pub(crate) async fn the_first_commit_of_a_group_that_no_broker_knows_is_kept_before_anybody_pulls(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, unique("group"));
    cluster.fill(&topic, 10).await;
    let consumer = cluster.reading(&group, &topic).build().await.expect("build");
    let control = consumer.control();
    let [first, second] = [0, 1].map(|at| control.assignment().iter().nth(at).expect("two queues").0.clone());
    control.seek(&first, SeekTo::Offset(o(7))).await.expect("seek");
    within(PATIENCE, "flush", control.flush()).await.expect("flush");
    assert_eq!(cluster.committed(&group, &first).await, Some(o(7)));
    assert_eq!(cluster.committed(&group, &second).await, Some(o(0)));
}

pub(crate) async fn p12_a_file_of_checkpoints_wins_over_what_the_brokers_have(cluster: &Cluster) {
    let (topic, group, queue) = one_queue(cluster, 40).await;
    let folder = std::env::temp_dir().join(unique("pull"));
    std::fs::create_dir(&folder).expect("a folder");
    let path = folder.join("etl.ckpt");
    let store = || FileCheckpoints::open(&path).expect("open");
    let builder = cluster.reading(&group, &topic).max_messages(10).checkpoints(store());
    let mut first = builder.build().await.expect("build");
    let mut done = Tape::from(&first.position());
    let batch = next(&mut first).await;
    done.note(&batch);
    let reached = batch.next_offset();
    batch.complete();
    let control = first.control();
    assert!(within(PATIENCE, "shutdown", control.shutdown(secs(30))).await.complete);
    assert_eq!(cluster.committed(&group, &queue).await, Some(reached), "brokers are told too");
    cluster.overwrite(&group, &queue, o(33)).await;
    // `Earliest` is for queues that nothing is known of.
    let second = cluster.reading(&group, &topic).checkpoints(store()).until(StopAt::Now).build().await;
    let mut second = second.expect("build");
    assert_eq!(second.position().get(&queue), Some(reached));
    assert_eq!(to_end(&mut second).await.read.len() + done.read.len(), 40);
    drop(second);
    std::fs::remove_dir_all(&folder).expect("the folder");
}

pub(crate) async fn p23_a_commit_that_the_broker_forgot_is_noticed_and_repeated(cluster: &Cluster) {
    let (topic, group, queue) = one_queue(cluster, 20).await;
    let mut consumer = cluster.reading(&group, &topic).build().await.expect("build");
    let control = consumer.control();
    let mut events = control.events();
    let mut tape = Tape::from(&consumer.position());
    read(&mut consumer, &mut tape, 20).await;
    within(PATIENCE, "flush", control.flush()).await.expect("flush");
    // What a kill does to the last seconds of commits: an older one is there, or (−1) none at all.
    for (left, expected) in [(o(3), Some(o(3))), (o(u64::MAX), None)] {
        cluster.overwrite(&group, &queue, left).await;
        control.lag().refreshed().await;
        let forgotten = event(&mut events, "that it was forgotten", |event| match event {
            PullEvent::Checkpoint(CheckpointEvent::Forgotten { queue, committed, found }) => {
                Some((queue, committed, found))
            }
            _ => None,
        });
        assert_eq!(forgotten.await, (queue.clone(), o(20), expected));
        let again = async {
            while cluster.committed(&group, &queue).await != Some(o(20)) {
                tokio::time::sleep(secs(1)).await;
            }
        };
        within(secs(30), "the commit is repeated", again).await;
    }
}

pub(crate) async fn at_most_once_commits_before_it_hands_out(cluster: &Cluster) {
    let (topic, group, queue) = one_queue(cluster, 30).await;
    let builder = cluster.reading(&group, &topic).max_messages(10).commit_mode(CommitMode::AtMostOnce);
    let mut consumer = builder.build().await.expect("build");
    for _ in 0..2 {
        let batch = next(&mut consumer).await;
        assert_eq!(cluster.committed(&group, &queue).await, Some(batch.next_offset()));
        drop(batch); // completing changes nothing
    }
    let dropped = consumer.position().get(&queue).expect("it is read");
    drop(consumer);
    let builder = cluster.reading(&group, &topic).start_from(StartFrom::committed_or_earliest());
    let mut second = builder.build().await.expect("build");
    assert_eq!(next(&mut second).await.range().start, dropped);
}
