//! Where a consumer begins.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures::prelude::*;
use rocketmq_stream::{Checkpoint, ErrorKind, MessageQueue, StartFrom, StopAt};

use crate::cluster::{Cluster, Stored, plain};
use crate::support::{PATIENCE, secs, within};
use crate::tape::{Tape, next, o, read, sorted, to_end};

/// What is stored in a queue from an offset on.
fn since(stored: &[Stored], start: &Checkpoint) -> Vec<Stored> {
    let kept: Vec<_> =
        stored.iter().filter(|one| start.get(&one.queue).is_none_or(|at| one.offset >= at)).cloned().collect();
    sorted(&kept)
}

/// When each message was stored, by its place.
pub(crate) async fn times(cluster: &Cluster, topic: &str) -> BTreeMap<Stored, SystemTime> {
    let group = cluster.group().await;
    let mut consumer = cluster.reading(&group, topic).until(StopAt::Now).build().await.expect("build");
    let (mut times, mut tape) = (BTreeMap::new(), Tape::default());
    while let Some(batch) = within(PATIENCE, "the next batch or the end", consumer.next()).await {
        let batch = batch.expect("a batch");
        let before = tape.read.len();
        tape.note(&batch);
        let stored = batch.messages().iter().map(|one| one.store_timestamp().expect("a time"));
        times.extend(tape.read[before..].iter().cloned().zip(stored));
        batch.complete();
    }
    times
}

/// Messages in both queues in two lots, a second apart, and when the second began.
pub(crate) async fn two_lots(cluster: &Cluster, topic: &str) -> (Vec<Stored>, Vec<Stored>, SystemTime) {
    let early = cluster.fill(topic, 30).await;
    tokio::time::sleep(secs(1)).await;
    let late = cluster.fill(topic, 30).await;
    let times = times(cluster, topic).await;
    let time_of = |stored: &[Stored]| stored.iter().map(|one| times[one]).collect::<Vec<_>>();
    let first = *time_of(&late).iter().min().expect("some");
    assert!(time_of(&early).iter().all(|time| *time < first));
    (early, late, first)
}

pub(crate) async fn earliest_begins_at_the_first_message(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    let stored = cluster.fill(&topic, 10).await;
    // It is not asked for.
    cluster.overwrite(&group, &cluster.queues(&topic).await[0], o(7)).await;
    let builder = cluster.reading(&group, &topic).start_from(StartFrom::Earliest);
    let mut consumer = builder.until(StopAt::Now).build().await.expect("build");
    assert!(consumer.position().iter().all(|(_, at)| at == o(0)), "{:?}", consumer.position());
    assert_eq!(to_end(&mut consumer).await.all(), sorted(&stored));
}

pub(crate) async fn p11_latest_begins_at_what_is_stored_after_the_start(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let queues = cluster.queues(&topic).await;
    cluster.put(&queues[0], plain(10)).await;
    let mut consumer = cluster.reading(&group, &topic).start_from(StartFrom::Latest).build().await.expect("build");
    assert_eq!(consumer.position(), [(queues[0].clone(), o(10)), (queues[1].clone(), o(0))].into_iter().collect());
    // Before it is polled for the first time.
    let stored = cluster.fill(&topic, 15).await;
    let mut tape = Tape::from(&consumer.position());
    read(&mut consumer, &mut tape, stored.len()).await;
    assert_eq!(tape.all(), sorted(&stored));
}

pub(crate) async fn p13_a_timestamp_begins_at_the_first_message_that_was_stored_then_or_later(cluster: &Cluster) {
    let topic = cluster.topic(1).await;
    let (early, late, first) = two_lots(cluster, &topic).await;
    let all = [early, late.clone()].concat();
    let long_ago = first - Duration::from_secs(86_400);
    let never = first + Duration::from_secs(30 * 86_400);
    for (time, expected) in [(first, sorted(&late)), (long_ago, sorted(&all)), (never, Vec::new())] {
        let group = cluster.group().await;
        let builder = cluster.reading(&group, &topic).start_from(StartFrom::Timestamp(time));
        let mut consumer = builder.until(StopAt::Now).build().await.expect("build");
        assert_eq!(to_end(&mut consumer).await.all(), expected, "{time:?}, the second lot begins at {first:?}");
        assert_eq!(consumer.position(), cluster.ends(&topic).await.into_iter().collect());
    }
}

pub(crate) async fn explicit_offsets_are_obeyed_and_a_queue_without_one_is_refused(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let stored = cluster.fill(&topic, 10).await;
    let queues = cluster.queues(&topic).await;
    let offsets: BTreeMap<MessageQueue, _> = [(queues[0].clone(), o(4)), (queues[1].clone(), o(9))].into();
    let builder = cluster.reading(&group, &topic).start_from(StartFrom::Offsets(offsets.clone()));
    let mut consumer = builder.until(StopAt::Now).build().await.expect("build");
    let start: Checkpoint = offsets.into_iter().collect();
    assert_eq!(consumer.position(), start);
    assert_eq!(to_end(&mut consumer).await.all(), since(&stored, &start));

    let one = [(queues[0].clone(), o(4))].into();
    let unnamed = cluster.reading(&group, &topic).start_from(StartFrom::Offsets(one)).build().await;
    let error = unnamed.expect_err("a queue has no offset");
    assert_eq!((error.kind(), error.queue()), (ErrorKind::InvalidArgument, Some(&queues[1])), "{error}");
}

pub(crate) async fn p12_a_checkpoint_is_obeyed_after_a_round_trip_through_json_and_wins_over_the_brokers_offsets(
    cluster: &Cluster,
) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let stored = cluster.fill(&topic, 40).await;
    let queues = cluster.queues(&topic).await;
    let mut first = cluster.reading(&group, &topic).build().await.expect("build");
    let mut tape = Tape::from(&first.position());
    let batch = next(&mut first).await;
    tape.note(&batch);
    batch.complete();
    let position = first.position();
    assert!(within(PATIENCE, "shutdown", first.control().shutdown(secs(30))).await.complete);
    cluster.overwrite(&group, &queues[0], o(39)).await;
    cluster.overwrite(&group, &queues[1], o(1)).await;

    let text = position.to_json();
    let restored = Checkpoint::from_json(&text).expect("its own text");
    assert_eq!(restored, position);
    let builder = cluster.reading(&group, &topic).start_from(StartFrom::Checkpoint(restored));
    let mut second = builder.until(StopAt::Now).build().await.expect("build");
    assert_eq!(second.position(), position);
    let rest = to_end(&mut second).await;
    assert_eq!(rest.all(), since(&stored, &position));
    assert_eq!(sorted(&[tape.read, rest.read].concat()), sorted(&stored), "no gap and no overlap");
}

pub(crate) async fn committed_offsets_are_obeyed_and_without_one_the_other_choice(cluster: &Cluster) {
    let topic = cluster.topic(1).await;
    let stored = cluster.fill(&topic, 10).await;
    let queues = cluster.queues(&topic).await;
    for (start, other) in [(StartFrom::committed_or_earliest(), 0), (StartFrom::committed_or_latest(), 10)] {
        let group = cluster.group().await;
        cluster.overwrite(&group, &queues[0], o(6)).await;
        let builder = cluster.reading(&group, &topic).start_from(start);
        let mut consumer = builder.until(StopAt::Now).build().await.expect("build");
        let place = [(queues[0].clone(), o(6)), (queues[1].clone(), o(other))].into_iter().collect();
        assert_eq!(consumer.position(), place);
        assert_eq!(to_end(&mut consumer).await.all(), since(&stored, &place));
    }
}

pub(crate) async fn p4_an_offset_that_no_queue_can_have_is_refused(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let queues = cluster.queues(&topic).await;
    let all = queues.iter().map(|queue| (queue.clone(), o(1 << 63)));
    let offsets = StartFrom::Offsets(all.clone().collect());
    let checkpoint = StartFrom::Checkpoint(all.collect());
    for start in [offsets, checkpoint] {
        let refused = cluster.reading(&group, &topic).start_from(start.clone()).build().await;
        let error = refused.expect_err("no queue goes that far");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{start:?}: {error}");
        assert!(error.queue().is_some_and(|queue| queues.contains(queue)), "{error}");
    }
}

pub(crate) async fn a_checkpoint_of_another_topic_is_refused(cluster: &Cluster) {
    let (topic, other, group) = (cluster.topic(1).await, cluster.topic(1).await, cluster.group().await);
    let queue = cluster.queues(&other).await.remove(0);
    let checkpoint = Checkpoint::from_iter([(queue.clone(), o(3))]);
    let refused = cluster.reading(&group, &topic).start_from(StartFrom::Checkpoint(checkpoint)).build().await;
    let error = refused.expect_err("it is another consumer's");
    assert_eq!((error.kind(), error.queue()), (ErrorKind::InvalidArgument, Some(&queue)), "{error}");
    nothing_is_committed(cluster, &group, &topic).await;
}

async fn nothing_is_committed(cluster: &Cluster, group: &str, topic: &str) {
    for queue in cluster.queues(topic).await {
        assert_eq!(cluster.committed(group, &queue).await, None, "{queue}");
    }
}
