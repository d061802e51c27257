//! A broker goes away under a consumer, and a queue goes from member to member.

use rocketmq_stream::{
    CheckpointEvent, Client, FileCheckpoints, Filter, PullConsumerBuilder, PullEvent, StartFrom, StopAt,
};

use crate::cluster::{Cluster, Stored, plain};
use crate::members::settled;
use crate::support::{PATIENCE, secs, unique, within};
use crate::tape::{Tape, event, next, nothing_for, read, sorted, to_end};

/// Under `Latest`, with broker-b away while the consumer starts.
async fn latest_without_broker_b(cluster: &Cluster, topic: &str, group: &str) {
    let built = cluster.reading(group, topic).start_from(StartFrom::Latest).build();
    let mut consumer = within(PATIENCE, "build", built).await.expect("one broker is enough");
    let mut tape = Tape::from(&consumer.position());
    assert!(consumer.position().iter().all(|(queue, _)| queue.broker() == "broker-a"), "{:?}", consumer.position());
    let mut stored: Vec<Stored> = Vec::new();
    for queue in cluster.queues(topic).await.iter().filter(|queue| queue.broker() == "broker-a") {
        stored.extend(cluster.put(queue, plain(5)).await);
    }
    read(&mut consumer, &mut tape, stored.len()).await;

    cluster.start_broker_b(topic, 4).await;
    stored.extend(cluster.fill(topic, 5).await); // before the consumer knows of it
    read(&mut consumer, &mut tape, stored.len()).await;
    stored.extend(cluster.fill(topic, 5).await);
    read(&mut consumer, &mut tape, stored.len()).await;
    assert_eq!(tape.all(), sorted(&stored), "nothing is skipped, nothing old is read");
    nothing_for(secs(1), &mut consumer).await;
}

pub(crate) async fn p11_messages_of_a_broker_that_was_down_at_the_start_are_read_from_the_start_instant_on(
    cluster: &Cluster,
) {
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    cluster.fill(&topic, 10).await; // old: not wanted
    tokio::time::sleep(secs(1)).await;
    cluster.kill_broker_b().await; // the routes still show it for a while
    latest_without_broker_b(cluster, &topic, &group).await;
}

pub(crate) async fn p11_messages_of_a_broker_that_was_in_no_route_at_the_start_are_read_from_the_start_instant_on(
    cluster: &Cluster,
) {
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    cluster.fill(&topic, 10).await;
    cluster.kill_broker_b().await;
    tokio::time::sleep(secs(15)).await;
    latest_without_broker_b(cluster, &topic, &group).await;
}

pub(crate) async fn p23_a_broker_that_is_killed_and_restarted_under_a_reader_loses_nothing_and_skips_nothing(
    cluster: &Cluster,
) {
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    let mut stored = cluster.fill(&topic, 40).await;
    let mut consumer = cluster.reading(&group, &topic).commit_interval(secs(1)).build().await.expect("build");
    let control = consumer.control();
    let mut events = control.events();
    let mut tape = Tape::from(&consumer.position());
    read(&mut consumer, &mut tape, stored.len()).await;
    within(PATIENCE, "flush", control.flush()).await.expect("flush");
    let committed = control.checkpoint();
    cluster.kill_broker_b().await; // the last seconds of commits go with it
    nothing_for(secs(5), &mut consumer).await; // an outage is no item
    cluster.start_broker_b(&topic, 4).await;
    if cluster.is_embedded() {
        // The embedded broker forgets nothing by itself.
        for (queue, _) in committed.iter().filter(|(queue, _)| queue.broker() == "broker-b") {
            cluster.overwrite(&group, queue, crate::tape::o(7)).await;
        }
    }
    let mut forgotten = 0;
    for (queue, next) in committed.iter() {
        forgotten += usize::from(cluster.committed(&group, queue).await != Some(next));
    }
    // Somebody looks: what was forgotten is told, and committed again.
    let repaired = async {
        loop {
            control.lag().refreshed().await;
            let mut is_whole = true;
            for (queue, next) in committed.iter() {
                is_whole &= cluster.committed(&group, queue).await == Some(next);
            }
            if is_whole {
                break;
            }
            tokio::time::sleep(secs(1)).await;
        }
    };
    within(secs(120), "all is committed again", repaired).await;
    assert!(!cluster.is_embedded() || forgotten == 2);
    for _ in 0..forgotten {
        let told = event(&mut events, "that it was forgotten", |event| {
            matches!(event, PullEvent::Checkpoint(CheckpointEvent::Forgotten { .. })).then_some(())
        });
        told.await;
    }

    stored.extend(cluster.fill(&topic, 20).await);
    read(&mut consumer, &mut tape, stored.len()).await;
    assert_eq!(tape.all(), sorted(&stored), "each once");
    assert!(within(PATIENCE, "shutdown", control.shutdown(secs(60))).await.complete);
    let next_member = cluster.reading(&group, &topic).start_from(StartFrom::committed_or_earliest());
    let mut next_member = next_member.until(StopAt::Now).build().await.expect("build");
    assert_eq!(to_end(&mut next_member).await.read, [], "all of it was committed");
}

fn member(client: &Client, group: &str, topic: &str, file: &std::path::Path) -> PullConsumerBuilder {
    let builder =
        client.pull_consumer(group).subscribe(topic, Filter::all()).start_from(StartFrom::committed_or_earliest());
    let builder = builder.checkpoints(FileCheckpoints::open(file).expect("open")).commit_interval(secs(1));
    builder.build_timeout(secs(60)).max_messages(10)
}

pub(crate) async fn p12_a_queue_that_goes_to_another_member_and_back_is_read_once(cluster: &Cluster) {
    if !cluster.shares() {
        return; // `members` asserts the error
    }
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    let folder = std::env::temp_dir().join(unique("pull"));
    std::fs::create_dir(&folder).expect("a folder");
    let client = cluster.client();
    let first = member(&client, &group, &topic, &folder.join("a.ckpt")).build().await.expect("build");
    let mut members = vec![first];
    settled(&mut members, &[4], "A alone").await;
    let mut stored = cluster.fill(&topic, 50).await;
    // A reads a part of every queue, and stands still: what it has pulled ahead must not come out of it later.
    let mut output = Tape::from(&members[0].position());
    let has_all_begun = |tape: &Tape| {
        let queues: std::collections::BTreeSet<_> = tape.read.iter().map(|one| one.queue.clone()).collect();
        queues.len() == 4
    };
    while !has_all_begun(&output) {
        let batch = next(&mut members[0]).await;
        output.note(&batch);
        batch.complete();
    }
    within(PATIENCE, "flush", members[0].control().flush()).await.expect("flush");

    let mut second = member(&client, &group, &topic, &folder.join("b.ckpt")).build().await.expect("build");
    let shares = [members[0].control(), second.control()];
    let halved = || shares.iter().all(|one| one.assignment().len() == 2);
    crate::support::eventually(secs(90), "two shares of two", halved).await;
    let moved: Vec<_> = shares[1].assignment().iter().map(|(queue, _)| queue.clone()).collect();
    let already = output.read.iter().filter(|one| moved.contains(&one.queue)).count();
    let mut other = Tape::default();
    read(&mut second, &mut other, 100 - already).await; // the rest of its queues
    assert!(within(PATIENCE, "shutdown", second.control().shutdown(secs(30))).await.complete);
    drop(second);
    crate::support::eventually(secs(90), "A has all again", || shares[0].assignment().len() == 4).await;

    stored.extend(cluster.fill(&topic, 5).await);
    let rest = stored.len() - other.read.len();
    read(&mut members[0], &mut output, rest).await;
    let joined = [&*output.read, &*other.read].concat();
    assert_eq!(sorted(&joined), sorted(&stored), "each message is in one output, once");
    nothing_for(secs(1), &mut members[0]).await;
    std::fs::remove_dir_all(&folder).expect("the folder");
}
