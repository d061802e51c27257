//! Members of one group share its queues.

use std::collections::BTreeSet;
use std::future::Future;

use futures::prelude::*;
use rocketmq_stream::{
    Client, ErrorKind, FileCheckpoints, Filter, MessageQueue, PullConsumer, PullConsumerBuilder, PullEvent, StartFrom,
};

use crate::cluster::Cluster;
use crate::queues::{held, read_both};
use crate::support::{PATIENCE, eventually, secs, unique, within};
use crate::tape::{Tape, event, next, nothing_for, read, sorted};

fn member(client: &Client, group: &str, topic: &str) -> PullConsumerBuilder {
    let builder = client.pull_consumer(group).subscribe(topic, Filter::all());
    builder.start_from(StartFrom::committed_or_earliest()).build_timeout(secs(60)).commit_interval(secs(1))
}

/// Over gRPC nobody keeps a list of members: the error says what to set, and what else can be done.
async fn cannot_share(cluster: &Cluster) -> bool {
    if cluster.shares() {
        return false;
    }
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let error = member(&cluster.client(), &group, &topic).build().await.expect_err("not this way");
    assert_eq!((error.kind(), error.group()), (ErrorKind::Unsupported, Some(&*group)));
    let text = error.to_string();
    assert!(["name_server", "share", "assign"].iter().all(|word| text.contains(word)), "{text}");
    true
}

/// Polls all while it waits, as a member that works does. Nothing is there to be read.
async fn while_polled<T>(consumers: &mut [PullConsumer], wait: impl Future<Output = T>) -> T {
    let polls = future::select_all(consumers.iter_mut().map(|consumer| consumer.next()));
    tokio::select! {
        (item, who, _) = polls => panic!("member {who} read {item:?}"),
        done = wait => done,
    }
}

/// Every queue has one holder, and the sizes of the shares are these.
async fn settled(consumers: &mut [PullConsumer], sizes: &[usize], what: &str) {
    let controls: Vec<_> = consumers.iter().map(PullConsumer::control).collect();
    let is_settled = move || {
        let shares: Vec<BTreeSet<MessageQueue>> =
            controls.iter().map(|one| one.assignment().iter().map(|(queue, _)| queue.clone()).collect()).collect();
        let mut found: Vec<usize> = shares.iter().map(BTreeSet::len).collect();
        found.sort_unstable();
        let all: BTreeSet<MessageQueue> = shares.into_iter().flatten().collect();
        found == sizes && all.len() == sizes.iter().sum::<usize>()
    };
    while_polled(consumers, eventually(secs(90), format!("{what}: shares of {sizes:?}"), is_settled)).await;
}

pub(crate) async fn p19_two_members_share_the_queues_and_the_one_that_stays_takes_over(cluster: &Cluster) {
    if cannot_share(cluster).await {
        return;
    }
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    let client = cluster.client(); // both in one client
    let mut members = vec![member(&client, &group, &topic).build().await.expect("build")];
    settled(&mut members, &[4], "alone").await;
    members.push(member(&client, &group, &topic).build().await.expect("build"));
    settled(&mut members, &[2, 2], "two").await;

    let stored = cluster.fill(&topic, 20).await;
    let mut tapes = [Tape::default(), Tape::default()];
    read_both(&mut members, &mut tapes, stored.len()).await;
    let both = [&*tapes[0].read, &*tapes[1].read].concat();
    assert_eq!(sorted(&both), sorted(&stored), "each was read once");
    for (tape, queues) in tapes.iter().zip(held(&members)) {
        assert!(tape.read.iter().all(|one| queues.contains(&one.queue)), "each reads its own");
        assert!(!tape.read.is_empty());
    }

    let leaver = members.pop().expect("two");
    assert!(within(PATIENCE, "shutdown", leaver.control().shutdown(secs(30))).await.complete);
    drop(leaver);
    settled(&mut members, &[4], "alone again").await;
    let more = cluster.fill(&topic, 10).await;
    let mut tape = [Tape::default()];
    read_both(&mut members, &mut tape, more.len()).await;
    assert_eq!(tape[0].all(), sorted(&more), "what the other had committed does not come again");
}

pub(crate) async fn p19_three_members_share_uneven_queues_and_a_fourth_waits_quietly(cluster: &Cluster) {
    if cannot_share(cluster).await {
        return;
    }
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    let mut members = Vec::new();
    for _ in 0..3 {
        members.push(member(&cluster.client(), &group, &topic).build().await.expect("build"));
    }
    settled(&mut members, &[1, 1, 2], "three").await;
    members.push(member(&cluster.client(), &group, &topic).build().await.expect("build"));
    settled(&mut members, &[1, 1, 1, 1], "four").await;
    let mut events: Vec<_> = members.iter().map(|one| one.control().events()).collect();
    members.push(member(&cluster.client(), &group, &topic).build().await.expect("build"));
    events.push(members[4].control().events());
    settled(&mut members, &[0, 1, 1, 1, 1], "five").await;
    let idle = members.iter().position(|one| one.control().assignment().is_empty()).expect("one has none");
    if idle != 4 {
        // Who was idle from the start tells nothing new.
        let told = event(&mut events[idle], "that there is no queue", |event| match event {
            PullEvent::Idle { members, queues } => Some((members, queues)),
            _ => None,
        });
        assert_eq!(told.await, (5, 4));
    }
    let stored = cluster.fill(&topic, 10).await;
    let mut tapes: Vec<Tape> = members.iter().map(|_| Tape::default()).collect();
    read_both(&mut members, &mut tapes, stored.len()).await;
    let all: Vec<_> = tapes.iter().flat_map(|tape| tape.read.clone()).collect();
    assert_eq!(sorted(&all), sorted(&stored));
    assert!(tapes[idle].read.is_empty(), "it waits");

    // Queues move between those who stay too, and RocketMQ has no hand-over: what is not committed by then is read again.
    for member in &members {
        member.control().flush().await.expect("flush");
    }
    let leaver = members.remove((idle + 1) % 5);
    assert!(within(PATIENCE, "shutdown", leaver.control().shutdown(secs(30))).await.complete);
    settled(&mut members, &[1, 1, 1, 1], "the idle one has taken over").await;
}

pub(crate) async fn p19_a_queue_that_appears_later_has_one_reader_in_the_group(cluster: &Cluster) {
    if cannot_share(cluster).await {
        return;
    }
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let mut members = Vec::new();
    for _ in 0..2 {
        let builder = member(&cluster.client(), &group, &topic).start_from(StartFrom::Latest);
        members.push(builder.build().await.expect("build"));
    }
    settled(&mut members, &[1, 1], "two").await;
    cluster.grow(&topic, 3).await;
    let stored = cluster.fill(&topic, 5).await;
    let mut tapes = [Tape::default(), Tape::default()];
    read_both(&mut members, &mut tapes, stored.len()).await;
    settled(&mut members, &[3, 3], "two with more queues").await;
    let more = cluster.fill(&topic, 5).await;
    read_both(&mut members, &mut tapes, stored.len() + more.len()).await;
    let both = [&*tapes[0].read, &*tapes[1].read].concat();
    assert_eq!(sorted(&both), sorted(&[stored, more].concat()), "none was skipped, none was read twice");
}

/// Documented as "one group, one way in": a proxy keeps a list of members of its own.
pub(crate) async fn p26_both_read_every_queue(brokers: &Cluster, proxy: &Cluster) {
    let (topic, group) = (brokers.topic(2).await, brokers.group().await);
    let mut members = Vec::new();
    for cluster in [brokers, proxy] {
        members.push(member(&cluster.client(), &group, &topic).build().await.expect("build"));
    }
    // Longer than a round of the sharing takes.
    while_polled(&mut members, tokio::time::sleep(secs(25))).await;
    assert_eq!(held(&members).iter().map(BTreeSet::len).collect::<Vec<_>>(), [4, 4]);
    let stored = brokers.fill(&topic, 5).await;
    let mut tapes = [Tape::default(), Tape::default()];
    read_both(&mut members, &mut tapes, 2 * stored.len()).await;
    for tape in tapes {
        assert_eq!(tape.all(), sorted(&stored), "each read every message");
    }
}

pub(crate) async fn p27_members_hand_no_queue_to_who_assigns_or_shares(cluster: &Cluster) {
    if cannot_share(cluster).await {
        return;
    }
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    let mut members = vec![member(&cluster.client(), &group, &topic).build().await.expect("build")];
    settled(&mut members, &[4], "alone").await;
    let queues = cluster.queues(&topic).await;
    let aside = cluster.pulling(&group).assign([queues[0].clone()]).build().await.expect("build");
    let numbered = cluster.reading(&group, &topic).build().await.expect("build");
    let mut assignments = members[0].control().assignments();
    // Longer than a round of the sharing takes.
    let moved = while_polled(&mut members, tokio::time::timeout(secs(25), assignments.changed())).await;
    assert!(moved.is_err(), "the member lost queues: {moved:?}");
    assert_eq!((aside.control().assignment().len(), numbered.control().assignment().len()), (1, 4));
}

fn with_file(client: &Client, group: &str, topic: &str, file: &std::path::Path) -> PullConsumerBuilder {
    let builder =
        client.pull_consumer(group).subscribe(topic, Filter::all()).start_from(StartFrom::committed_or_earliest());
    let builder = builder.checkpoints(FileCheckpoints::open(file).expect("open")).commit_interval(secs(1));
    builder.build_timeout(secs(60)).max_messages(10)
}

pub(crate) async fn p12_a_queue_that_goes_to_another_member_and_back_is_read_once(cluster: &Cluster) {
    if cannot_share(cluster).await {
        return;
    }
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    let folder = std::env::temp_dir().join(unique("pull"));
    std::fs::create_dir(&folder).expect("a folder");
    let client = cluster.client();
    let first = with_file(&client, &group, &topic, &folder.join("a.ckpt")).build().await.expect("build");
    let mut members = vec![first];
    settled(&mut members, &[4], "A alone").await;
    let mut stored = cluster.fill(&topic, 50).await;
    // A reads a part of every queue, and stands still: what it has pulled ahead must not come out of it later.
    let mut output = Tape::from(&members[0].position());
    let has_all_begun = |tape: &Tape| {
        let queues: BTreeSet<_> = tape.read.iter().map(|one| one.queue.clone()).collect();
        queues.len() == 4
    };
    while !has_all_begun(&output) {
        let batch = next(&mut members[0]).await;
        output.note(&batch);
        batch.complete();
    }
    within(PATIENCE, "flush", members[0].control().flush()).await.expect("flush");

    let mut second = with_file(&client, &group, &topic, &folder.join("b.ckpt")).build().await.expect("build");
    let shares = [members[0].control(), second.control()];
    let halved = || shares.iter().all(|one| one.assignment().len() == 2);
    eventually(secs(90), "two shares of two", halved).await;
    let moved: Vec<_> = shares[1].assignment().iter().map(|(queue, _)| queue.clone()).collect();
    let already = output.read.iter().filter(|one| moved.contains(&one.queue)).count();
    let mut other = Tape::default();
    read(&mut second, &mut other, 100 - already).await; // the rest of its queues
    assert!(within(PATIENCE, "shutdown", second.control().shutdown(secs(30))).await.complete);
    drop(second);
    eventually(secs(90), "A has all again", || shares[0].assignment().len() == 4).await;

    stored.extend(cluster.fill(&topic, 5).await);
    let rest = stored.len() - other.read.len();
    read(&mut members[0], &mut output, rest).await;
    let joined = [&*output.read, &*other.read].concat();
    assert_eq!(sorted(&joined), sorted(&stored), "each message is in one output, once");
    nothing_for(secs(1), &mut members[0]).await;
    std::fs::remove_dir_all(&folder).expect("the folder");
}
