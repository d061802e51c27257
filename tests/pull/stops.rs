//! Where a bounded consumer ends, and how one goes on from there.

use std::collections::BTreeMap;

use rocketmq_stream::{Checkpoint, StartFrom, StopAt};

use crate::cluster::{Cluster, Stored, plain};
use crate::starts::two_lots;
use crate::support::{PATIENCE, secs, within};
use crate::tape::{Tape, nothing_for, o, read, sorted, to_end};

/// Goes on live, and reads exactly the rest.
async fn goes_on(cluster: &Cluster, group: &str, topic: &str, from: Checkpoint, rest: &[Stored]) {
    let builder = cluster.reading(group, topic).start_from(StartFrom::Checkpoint(from));
    let mut live = builder.build().await.expect("build");
    let mut tape = Tape::from(&live.position());
    read(&mut live, &mut tape, rest.len()).await;
    assert_eq!(tape.all(), sorted(rest), "no gap and no overlap");
    let more = cluster.fill(topic, 2).await;
    read(&mut live, &mut tape, rest.len() + more.len()).await;
    assert_eq!(tape.all(), sorted(&[rest, &more].concat()), "live");
    nothing_for(secs(1), &mut live).await;
}

pub(crate) async fn p14_a_read_until_now_goes_on_live_from_its_checkpoint_without_gap_or_overlap(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let before = cluster.fill(&topic, 50).await;
    let mut consumer = cluster.reading(&group, &topic).until(StopAt::Now).build().await.expect("build");
    let after = cluster.fill(&topic, 20).await;
    assert_eq!(to_end(&mut consumer).await.all(), sorted(&before), "what came after `now` is not read");
    let control = consumer.control();
    let checkpoint = control.checkpoint();
    assert_eq!(consumer.position(), checkpoint);
    assert!(within(PATIENCE, "shutdown", control.shutdown(secs(30))).await.complete);
    goes_on(cluster, &group, &topic, checkpoint, &after).await;
}

pub(crate) async fn a_read_until_a_timestamp_goes_on_live_from_its_checkpoint_without_gap_or_overlap(
    cluster: &Cluster,
) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let (early, late, first) = two_lots(cluster, &topic).await;
    let mut consumer = cluster.reading(&group, &topic).until(StopAt::Timestamp(first)).build().await.expect("build");
    assert_eq!(to_end(&mut consumer).await.all(), sorted(&early));
    goes_on(cluster, &group, &topic, consumer.control().checkpoint(), &late).await;
}

pub(crate) async fn a_read_until_offsets_ends_there_and_where_none_is_named_at_its_beginning(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let stored = cluster.fill(&topic, 40).await;
    let queues = cluster.queues(&topic).await;
    let stop: BTreeMap<_, _> = [(queues[0].clone(), o(35))].into();
    let mut consumer = cluster.reading(&group, &topic).until(StopAt::Offsets(stop)).build().await.expect("build");
    let (early, late): (Vec<_>, Vec<_>) =
        stored.into_iter().partition(|one| one.queue == queues[0] && one.offset < o(35));
    assert_eq!(to_end(&mut consumer).await.all(), sorted(&early));
    let position = [(queues[0].clone(), o(35)), (queues[1].clone(), o(0))].into_iter().collect();
    assert_eq!(consumer.position(), position);
    goes_on(cluster, &group, &topic, position, &late).await;
}

pub(crate) async fn a_read_of_an_empty_topic_until_now_ends_at_once(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    let mut consumer = cluster.reading(&group, &topic).until(StopAt::Now).build().await.expect("build");
    cluster.put(&cluster.queues(&topic).await[0], plain(1)).await;
    let tape = within(secs(10), "the end", to_end(&mut consumer)).await;
    assert_eq!(tape.read, []);
    assert!(consumer.position().iter().all(|(_, at)| at == o(0)));
}
