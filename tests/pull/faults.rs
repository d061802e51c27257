//! A broker goes away, before a consumer starts and while it reads.

use rocketmq_stream::{CheckpointEvent, PullEvent, StartFrom, StopAt};

use crate::cluster::{Cluster, Stored, plain};
use crate::support::{PATIENCE, secs, within};
use crate::tape::{Tape, event, nothing_for, read, sorted, to_end};

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
