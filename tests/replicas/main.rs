//! A broker with a slave, on a real Apache RocketMQ: reads that move to the slave and back, a slave that lags, and a master
//! that dies and comes back elsewhere.
//!
//! ```sh
//! SLAVE=1 PROXY=0 tests/apache/cluster.sh run -- cargo test --test replicas
//! ```
//!
//! Without such a server (`SLAVE_BROKER` in the environment) nothing is checked, and one line says so; with
//! `REAL_SERVER_REQUIRED=1` that is a failure. What is done to the brokers concerns everybody, so the tests run one after the
//! other.
#![allow(
    clippy::disallowed_methods,
    clippy::future_not_send,
    reason = "the rules on time, tasks and threads are for the library; tests are its users"
)]

#[path = "../apache/admin.rs"]
mod admin;
#[path = "../apache/cluster_sh.rs"]
mod cluster_sh;
mod pair;
#[path = "../support/mod.rs"]
mod support;

use futures::prelude::*;
use pair::Pair;
use rocketmq_stream::{CheckpointEvent, ErrorKind, PullConsumer, PullEvent};
use support::{Calm, PATIENCE, secs, text, unique, within};

static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// More than the brokers answer to one pull.
const BACKLOG: usize = 200;

/// Reads and completes so many messages of the one queue. They must follow each other.
async fn read(consumer: &mut PullConsumer, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let batch = within(PATIENCE, "the next batch", consumer.next()).await;
        let batch = batch.expect("the stream goes on").expect("what brokers do among themselves is no error");
        bodies.extend(batch.messages().iter().map(|message| text(message).to_owned()));
        batch.complete();
    }
    bodies
}

#[tokio::test]
async fn p17_reads_follow_the_masters_suggestion_to_its_slave_and_back() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some(pair) = Pair::from_env("follow").await else { return };
    let (_calm, group) = (Calm::default(), unique("group"));
    let old = pair.store(BACKLOG).await;
    pair.replicated().await;
    pair.send_readers_to_slave().await;
    let before = pair.handed_out().await;

    let mut consumer = pair.member(&group).build().await.expect("build");
    assert_eq!(read(&mut consumer, BACKLOG).await, old);
    let after = pair.handed_out().await;
    assert!(after.master > before.master, "the master is asked first: {before:?} {after:?}");
    assert!(after.slave - before.slave > BACKLOG as u64 / 2, "and then the slave: {before:?} {after:?}");

    pair.send_readers_to_master().await;
    let sent_back = pair.store(1).await; // the poll under way may still be the slave's
    assert_eq!(read(&mut consumer, 1).await, sent_back);
    let before = pair.handed_out().await;
    let new = pair.store(10).await;
    assert_eq!(read(&mut consumer, 10).await, new);
    let after = pair.handed_out().await;
    assert_eq!(after.slave, before.slave, "the master hands out what is new");
    assert!(within(PATIENCE, "shutdown", consumer.control().shutdown(secs(30))).await.complete);
    assert_eq!(pair.committed(&group).await, Some(i64::try_from(BACKLOG + 11).expect("small")));
}

#[tokio::test]
async fn p18_a_slave_that_lags_is_never_followed_backwards() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some(pair) = Pair::from_env("lag").await else { return };
    let (_calm, group) = (Calm::default(), unique("group"));
    let mut stored = pair.store(BACKLOG).await;
    pair.replicated().await;
    pair.starve_slave().await;
    pair.send_readers_to_slave().await;
    stored.extend(pair.store(BACKLOG).await);

    let mut consumer = pair.member(&group).build().await.expect("build");
    let mut events = consumer.control().events();
    assert_eq!(read(&mut consumer, stored.len()).await, stored);
    let at_slave = pair.slave_has().await;
    assert!(at_slave < stored.len() - BACKLOG / 2, "it did lag: it has {at_slave} of {}", stored.len());
    while let Some(Some(event)) = events.next().now_or_never() {
        let moved = matches!(event, PullEvent::Reset { .. } | PullEvent::Gap { .. } | PullEvent::JumpRefused { .. });
        assert!(!moved, "{event:?}");
    }
    pair.feed_slave().await;
    assert!(within(PATIENCE, "shutdown", consumer.control().shutdown(secs(30))).await.complete);
    assert_eq!(pair.committed(&group).await, Some(i64::try_from(stored.len()).expect("small")));
    pair.replicated().await;
}

#[tokio::test]
async fn p17_without_its_master_reading_goes_on_and_commits_wait_until_it_is_back_elsewhere() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Some(pair) = Pair::from_env("master-away").await else { return };
    let (_calm, group) = (Calm::default(), unique("group"));
    let stored = pair.store(BACKLOG).await;
    pair.replicated().await;
    let mut consumer = pair.member(&group).max_messages(8).max_buffered_messages(16).build().await.expect("build");
    let (control, mut events) = (consumer.control(), consumer.control().events());
    let mut bodies = read(&mut consumer, 8).await;
    within(PATIENCE, "flush", control.flush()).await.expect("the master is there");

    let before = pair.handed_out_by_slave().await;
    pair.kill_master().await;
    let left = BACKLOG - bodies.len();
    bodies.extend(read(&mut consumer, left).await);
    assert_eq!(bodies, stored);
    let by_slave = pair.handed_out_by_slave().await - before;
    assert!(by_slave > BACKLOG as u64 / 2, "the slave handed out {by_slave}");
    let late = within(PATIENCE, "flush", control.flush()).await.expect_err("nobody keeps offsets now");
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late}");
    let told = async {
        loop {
            let event = events.next().await.expect("the consumer lives");
            if let PullEvent::Checkpoint(CheckpointEvent::NotSaved { queue, .. }) = event {
                break queue;
            }
        }
    };
    assert_eq!(within(PATIENCE, "that commits wait", told).await, Some(pair.message_queue()));

    pair.bring_master_back_elsewhere().await;
    within(PATIENCE, "flush", control.flush()).await.expect("what waited is saved at its new address");
    assert_eq!(pair.committed(&group).await, Some(i64::try_from(BACKLOG).expect("small")));
    let new = pair.store(10).await;
    assert_eq!(read(&mut consumer, 10).await, new);
    assert!(within(PATIENCE, "shutdown", consumer.control().shutdown(secs(30))).await.complete);
    assert_eq!(pair.committed(&group).await, Some(i64::try_from(BACKLOG + 10).expect("small")));
}
