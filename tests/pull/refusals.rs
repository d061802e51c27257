//! What is wrong is refused, once, by a typed error.

use std::collections::BTreeMap;

use futures::prelude::*;
use rocketmq_stream::{ErrorKind, OnOffsetGap, PullEvent, StartFrom};

use crate::cluster::{Cluster, plain};
use crate::support::{PATIENCE, secs, unique, within};
use crate::tape::{event, next, o};

pub(crate) async fn an_unknown_topic_is_not_found_within_the_build_timeout(cluster: &Cluster) {
    let (missing, group) = (unique("missing"), cluster.group().await);
    let builder = cluster.reading(&group, &missing).build_timeout(secs(4));
    let error = within(secs(20), "a refusal", builder.build()).await.expect_err("there is no such topic");
    assert_eq!((error.kind(), error.topic()), (ErrorKind::NotFound, Some(&*missing)), "{error}");
    assert_eq!(error.group(), Some(&*group), "{error}");
}

pub(crate) async fn p5_an_offset_beyond_the_end_ends_the_stream_unless_the_policy_says_otherwise(cluster: &Cluster) {
    let topic = cluster.topic(1).await;
    cluster.fill(&topic, 10).await;
    let queues = cluster.queues(&topic).await;
    let start = || {
        let offsets: BTreeMap<_, _> = [(queues[0].clone(), o(50)), (queues[1].clone(), o(10))].into();
        StartFrom::Offsets(offsets)
    };
    let group = cluster.group().await;
    let builder = cluster.reading(&group, &topic).start_from(start());
    let mut consumer = builder.on_offset_gap(OnOffsetGap::Fail).build().await.expect("build");
    let error = within(PATIENCE, "an error", consumer.next()).await.expect("an item").expect_err("beyond the end");
    assert_eq!((error.kind(), error.queue()), (ErrorKind::OffsetOutOfRange, Some(&queues[0])), "{error}");
    assert!(error.to_string().contains("50") && error.to_string().contains("10"), "{error}");
    assert!(within(PATIENCE, "the end", consumer.next()).await.is_none(), "once");
    drop(consumer);

    for policy in [OnOffsetGap::Earliest, OnOffsetGap::Latest] {
        let group = cluster.group().await;
        let builder = cluster.reading(&group, &topic).start_from(start()).on_offset_gap(policy);
        let mut consumer = builder.build().await.expect("build");
        let mut events = consumer.control().events();
        let end = cluster.ends(&topic).await[&queues[0]];
        let gap = event(&mut events, "a gap", |event| match event {
            PullEvent::Gap { queue, at, to } => Some((queue, at, to)),
            _ => None,
        });
        tokio::select! {
            gap = gap => assert_eq!(gap, (queues[0].clone(), o(50), end), "{policy:?}"),
            item = consumer.next() => panic!("{policy:?}: {item:?}"),
        }
        let stored = cluster.put(&queues[0], plain(1)).await;
        let batch = next(&mut consumer).await;
        assert_eq!((batch.range().start, batch.messages()[0].queue_offset()), (end, Some(stored[0].offset)));
        batch.complete();
    }
}

pub(crate) async fn p18_an_offset_far_beyond_the_end_is_refused_whatever_the_policy(cluster: &Cluster) {
    let (topic, group) = (cluster.topic(1).await, cluster.group().await);
    cluster.fill(&topic, 10).await;
    let far = cluster.queues(&topic).await.into_iter().map(|queue| (queue, o(1 << 40)));
    let builder = cluster.reading(&group, &topic).start_from(StartFrom::Offsets(far.collect()));
    let mut consumer = builder.on_offset_gap(OnOffsetGap::Earliest).build().await.expect("build");
    let error = within(PATIENCE, "an error", consumer.next()).await.expect("an item").expect_err("far beyond the end");
    assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error}");
    assert!(error.to_string().contains("seek"), "it says what to do: {error}");
}
