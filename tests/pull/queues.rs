//! Which queues a consumer reads that shares with nobody, and reading them apart.

use std::collections::{BTreeMap, BTreeSet};

use futures::prelude::*;
use rocketmq_stream::{ErrorKind, Filter, MessageQueue, PullConsumer, QueueStream, QueueStreams, StartFrom, StopAt};

use crate::cluster::{Cluster, Way};
use crate::support::{PATIENCE, secs, unique, within};
use crate::tape::{Tape, next, nothing_for, o, read, sorted, to_end};

pub(crate) async fn assigned_queues_are_read_and_no_others(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    let stored = cluster.fill(&topic, 20).await;
    let queues = cluster.queues(&topic).await;
    let mine = [queues[1].clone(), queues[2].clone()];
    assert_ne!(mine[0].broker(), mine[1].broker());
    let mut consumer = cluster.pulling(&group).assign(mine.clone()).until(StopAt::Now).build().await.expect("build");
    assert_eq!(consumer.control().assignment().iter().map(|(queue, _)| queue.clone()).collect::<Vec<_>>(), mine);
    let expected: Vec<_> = stored.into_iter().filter(|one| mine.contains(&one.queue)).collect();
    assert_eq!(to_end(&mut consumer).await.all(), sorted(&expected));
}

pub(crate) async fn queues_that_do_not_exist_or_are_named_twice_are_refused(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    let good = cluster.queues(&topic).await.remove(0);
    let absent = [
        MessageQueue::new(&*topic, good.broker(), 2),
        MessageQueue::new(&*topic, good.broker(), u32::MAX),
        MessageQueue::new(&*topic, "broker-z", 0),
    ];
    for queue in absent {
        let builder = cluster.pulling(&group).assign([good.clone(), queue.clone()]).build_timeout(secs(3));
        let error = within(secs(20), "a refusal", builder.build()).await.expect_err("it is not there");
        assert_eq!((error.kind(), error.topic()), (ErrorKind::NotFound, Some(&*topic)), "{error}");
        assert!(error.to_string().contains(&queue.to_string()), "{error}");
    }
    let error = cluster.pulling(&group).assign([good.clone(), good.clone()]).build().await.expect_err("twice");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains(&good.to_string()), "{error}");
}

pub(crate) async fn numbered_tasks_read_every_queue_once(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(3).await, cluster.group().await);
    let stored = cluster.fill(&topic, 10).await;
    let mut all = Vec::new();
    let client = cluster.client();
    for index in 0..4 {
        let builder = client.pull_consumer(&group).subscribe(&topic, Filter::all()).share(index, 4);
        let builder = builder.start_from(StartFrom::committed_or_earliest()).build_timeout(secs(60));
        let mut task = builder.until(StopAt::Now).build().await.expect("build");
        all.extend(to_end(&mut task).await.read);
        within(PATIENCE, "shutdown", task.control().shutdown(secs(30))).await.ignore();
    }
    assert_eq!(sorted(&all), sorted(&stored));
}

pub(crate) async fn topics_that_match_are_read_and_those_that_are_created_later_from_their_beginning(
    cluster: &Cluster,
) {
    let (first, group) = (cluster.topic(1).await, cluster.group().await);
    let other = cluster.topic(1).await;
    let mut stored = cluster.fill(&first, 10).await;
    let later = unique("later");
    let builder = cluster.pulling(&group).share(0, 1).topic_refresh(secs(1));
    let (known, start) = (first.clone(), later.clone());
    let builder =
        builder.subscribe_matching(move |topic| topic == known || topic.starts_with(&start), Filter::all()).build();
    let mut consumer = match within(PATIENCE, "build", builder).await {
        Err(error) if cluster.way != Way::Remoting => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            return assert!(error.to_string().contains("name_server"), "{error}");
        }
        built => built.expect("build"),
    };
    let mut tape = Tape::default();
    read(&mut consumer, &mut tape, stored.len()).await;
    cluster.grow(&later, 1).await;
    stored.extend(cluster.fill(&later, 10).await);
    cluster.fill(&other, 10).await;
    read(&mut consumer, &mut tape, stored.len()).await;
    assert_eq!(tape.all(), sorted(&stored));
    nothing_for(secs(5), &mut consumer).await;
}

/// A name server lists these too.
pub(crate) async fn topics_that_the_servers_keep_for_themselves_match_nothing(cluster: &Cluster) {
    if cluster.way != Way::Remoting {
        return; // no topics are listed this way in: see above
    }
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    let builder = cluster.pulling(&group).share(0, 1).subscribe_matching(|_| true, Filter::all());
    let consumer = within(PATIENCE, "build", builder.build()).await.expect("build");
    let assignment = consumer.control().assignment();
    let topics: BTreeSet<&str> = assignment.iter().map(|(queue, _)| queue.topic()).collect();
    assert!(topics.contains(&*topic), "{topics:?}");
    let of_the_servers = |topic: &&&str| {
        let named = ["DefaultCluster", "broker-a", "broker-b", "TBW102", "SCHEDULE_TOPIC_XXXX"].contains(*topic);
        named || topic.starts_with(['%']) || topic.to_lowercase().starts_with("rmq_sys") || topic.contains("REPLY")
    };
    assert_eq!(topics.iter().filter(of_the_servers).collect::<Vec<_>>(), Vec::<&&str>::new());
}

pub(crate) async fn p11_a_queue_that_appears_later_is_read_from_the_start_instant_on(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    cluster.fill(&topic, 10).await; // old: not wanted
    let mut consumer = cluster.reading(&group, &topic).start_from(StartFrom::Latest).build().await.expect("build");
    let mut tape = Tape::from(&consumer.position());
    tokio::time::sleep(secs(1)).await;
    cluster.grow(&topic, 2).await;
    // Every new queue has messages before the consumer knows of it.
    let mut stored = cluster.fill(&topic, 5).await;
    read(&mut consumer, &mut tape, stored.len()).await;
    stored.extend(cluster.fill(&topic, 5).await);
    read(&mut consumer, &mut tape, stored.len()).await;
    assert_eq!(tape.all(), sorted(&stored));
    assert_eq!(consumer.control().assignment().len(), 4);
    nothing_for(secs(1), &mut consumer).await;
}

/// The streams of so many queues.
async fn streams(all: &mut QueueStreams, count: usize) -> BTreeMap<MessageQueue, QueueStream> {
    let mut streams = BTreeMap::new();
    while streams.len() < count {
        let stream = within(PATIENCE, "a queue's stream", all.next()).await.expect("it goes on").expect("a stream");
        assert!(streams.insert(stream.queue().clone(), stream).is_none(), "a queue came twice");
    }
    streams
}

pub(crate) async fn p15_queue_streams_do_not_wait_for_one_that_nobody_polls(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(2).await, cluster.group().await);
    let stored = cluster.fill(&topic, 100).await;
    // Bounds that one queue alone could fill.
    let consumer = cluster.reading(&group, &topic).max_buffered_messages(40).build().await.expect("build");
    let control = consumer.control();
    let mut all = consumer.per_queue();
    let mut apart = streams(&mut all, 4).await;
    let idle = apart.pop_last().expect("four").1;
    for (queue, stream) in &mut apart {
        let mut tape = Tape::default();
        while tape.read.len() < 100 {
            let batch = next(stream).await;
            tape.note(&batch);
            assert_eq!(stream.position(), batch.next_offset());
            batch.complete();
        }
        let expected: Vec<_> = stored.iter().filter(|one| one.queue == *queue).cloned().collect();
        assert_eq!(tape.all(), sorted(&expected));
    }
    assert_eq!(idle.position(), o(0));
    let idle_queue = idle.queue().clone();
    within(PATIENCE, "flush", control.flush()).await.expect("flush");
    for queue in apart.keys() {
        assert_eq!(cluster.committed(&group, queue).await, Some(o(100)));
    }
    assert!(cluster.committed(&group, &idle_queue).await.is_none_or(|next| next == o(0)));
    assert!(within(PATIENCE, "shutdown", control.shutdown(secs(30))).await.complete);
    for stream in apart.values_mut() {
        assert!(within(PATIENCE, "the end", stream.next()).await.is_none());
    }
    assert!(within(PATIENCE, "the end", all.next()).await.is_none());
}

pub(crate) async fn p15_a_queue_stream_that_is_dropped_gives_its_queue_back_from_the_first_open_message(
    cluster: &Cluster,
) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    cluster.fill(&topic, 40).await;
    let consumer = cluster.reading(&group, &topic).max_messages(10).build().await.expect("build");
    let mut all = consumer.per_queue();
    let mut apart = streams(&mut all, 2).await;
    let (queue, mut first) = apart.pop_first().expect("two");
    let (_, mut other) = apart.pop_first().expect("one");
    let done = next(&mut first).await;
    let open_from = done.next_offset();
    done.complete();
    drop(next(&mut first).await); // not completed
    drop(first);
    let mut again = streams(&mut all, 1).await.pop_first().expect("it comes out again").1;
    assert_eq!((again.queue(), again.position()), (&queue, open_from));
    let mut tape = Tape::default();
    while tape.read.len() < 40 - usize::try_from(open_from.get()).expect("small") {
        let batch = next(&mut again).await;
        tape.note(&batch);
        batch.complete();
    }
    let offsets: Vec<_> = tape.all().iter().map(|one| one.offset).collect();
    assert_eq!(offsets, (open_from.get()..40).map(o).collect::<Vec<_>>());
    assert_eq!(next(&mut other).await.range().start, o(0), "the other was not disturbed");
}

/// Reads two consumers at once until so many messages have come from both; who read what.
pub(crate) async fn read_both(consumers: &mut [PullConsumer], tapes: &mut [Tape], count: usize) {
    while tapes.iter().map(|tape| tape.read.len()).sum::<usize>() < count {
        let nexts = consumers.iter_mut().map(|consumer| consumer.next());
        let (batch, who, _) = within(PATIENCE, "the next batch", future::select_all(nexts)).await;
        let batch = batch.expect("the stream goes on").expect("a batch");
        tapes[who].note(&batch);
        batch.complete();
    }
}

/// Whose queues they are.
pub(crate) fn held(consumers: &[PullConsumer]) -> Vec<BTreeSet<MessageQueue>> {
    let of = |consumer: &PullConsumer| consumer.control().assignment().iter().map(|(queue, _)| queue.clone()).collect();
    consumers.iter().map(of).collect()
}
