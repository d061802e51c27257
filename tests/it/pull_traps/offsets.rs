//! Where reading begins, goes on and ends.

use rocketmq_stream::{Checkpoint, OnOffsetGap, SeekTo, StopAt};

use super::*;

#[tokio::test(start_paused = true)]
async fn p4_an_offset_that_cannot_be_is_refused_here_and_never_sent() {
    let beyond = at(1 << 63);
    let starts =
        [StartFrom::Offsets([(q(0), beyond)].into()), StartFrom::Checkpoint([(q(0), beyond)].into_iter().collect())];
    for start in starts {
        let rig = Pulls::start(1).await;
        let error = is(rig.etl().start_from(start).build().await, ErrorKind::InvalidArgument);
        assert!(error.to_string().contains("2^63"), "{error}");
        assert_eq!(rig.calls(&[PULL, COMMIT]), 0, "nothing of it was sent");
    }

    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 10, "a");
    let mut consumer = rig.etl().build().await.expect("build");
    let control = consumer.control();
    is(control.seek(&q(0), SeekTo::Offset(beyond)).await, ErrorKind::InvalidArgument);
    assert_eq!(read(&mut consumer, &q(0), 10).await, (0..10).collect::<Vec<_>>(), "it goes on where it was");
    control.flush().await.expect("flush");
    let commits = rig.calls(&[COMMIT]);
    for impossible in [at(11), beyond] {
        let checkpoint: Checkpoint = [(q(0), impossible)].into_iter().collect();
        is(control.commit(&checkpoint).await, ErrorKind::InvalidArgument);
    }
    assert_eq!(rig.calls(&[COMMIT]), commits, "what was not handed out is not committed");
}

#[tokio::test(start_paused = true)]
async fn p5_an_offset_that_is_gone_fails_once_by_default_and_asks_no_more() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 100, "a");
    rig.broker.expire(&q(0), at(50)).expect("expired");
    rig.broker.set_committed(GROUP, &q(0), Some(at(10))).expect("set");
    let start = || rig.etl().start_from(StartFrom::committed_or_earliest());
    let mut strict = start().build().await.expect("build");
    let error = next_error(&mut strict).await;
    assert_eq!((error.kind(), error.queue()), (ErrorKind::OffsetOutOfRange, Some(&q(0))), "{error}");
    assert!(strict.next().await.is_none(), "an error comes once");
    let pulls = rig.calls(&[PULL]);
    tokio::time::sleep(secs(30)).await;
    assert!(strict.next().await.is_none());
    assert_eq!(rig.calls(&[PULL]), pulls, "no loop");
    assert_eq!(rig.committed(&q(0)), Some(10), "no silent jump");
}

#[tokio::test(start_paused = true)]
async fn p5_as_the_policy_says_reading_goes_on_and_says_so_once() {
    for (policy, first) in [(OnOffsetGap::Earliest, 50), (OnOffsetGap::Latest, 100)] {
        let rig = Pulls::start(1).await;
        rig.fill(&q(0), 100, "a");
        rig.broker.expire(&q(0), at(50)).expect("expired");
        rig.broker.set_committed(GROUP, &q(0), Some(at(10))).expect("set");
        let lenient = rig.etl().start_from(StartFrom::committed_or_earliest()).on_offset_gap(policy);
        let mut consumer = lenient.build().await.expect("build");
        let mut events = consumer.control().events();
        let later = async {
            tokio::time::sleep(secs(5)).await;
            rig.fill(&q(0), 10, "a");
        };
        let queue = q(0);
        let (seen, ()) = tokio::join!(read(&mut consumer, &queue, 110 - first), later);
        assert_eq!(seen, (first as u64..110).collect::<Vec<_>>(), "{policy:?}");
        let gaps = told(&mut events).into_iter().filter(|event| matches!(event, PullEvent::Gap { .. })).count();
        assert_eq!(gaps, 1, "{policy:?}");
        assert!(rig.calls(&[PULL]) < 50, "no loop: {}", rig.calls(&[PULL]));
    }
}

#[tokio::test(start_paused = true)]
async fn p5_a_range_that_the_broker_filtered_away_is_passed_over() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 3, "a");
    rig.fill(&q(0), 5_000, "other");
    rig.fill(&q(0), 3, "a");
    let builder = rig.client.pull_consumer(GROUP).subscribe(TOPIC, Filter::tag("a"));
    let mut consumer = builder.start_from(StartFrom::Earliest).build().await.expect("build");
    assert_eq!(read(&mut consumer, &q(0), 6).await, [0, 1, 2, 5_003, 5_004, 5_005]);
    consumer.control().flush().await.expect("flush");
    assert_eq!(rig.committed(&q(0)), Some(5_006));
}

#[tokio::test(start_paused = true)]
async fn p13_who_begins_at_a_time_misses_nothing_of_then_and_gets_nothing_older() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 40, "a");
    tokio::time::sleep(secs(10)).await;
    rig.fill(&q(0), 40, "a");
    let mut all = rig.etl().until(StopAt::Now).build().await.expect("build");
    let mut stored = Vec::new();
    while let Some(batch) = all.try_next().await.expect("no error") {
        stored.extend(batch.messages().iter().map(|one| one.store_timestamp().expect("it was stored")));
        batch.complete();
    }
    ended(&all.control()).await;
    for time in [stored[40], stored[40] - secs(5)] {
        let start = StartFrom::Timestamp(time);
        let mut timed = rig.etl().start_from(start).until(StopAt::Now).build().await.expect("build");
        let expected: Vec<(u32, u64)> = (40..80).map(|offset| (0, offset)).collect();
        assert_eq!(to_its_end(&mut timed).await, expected);
        ended(&timed.control()).await;
    }
    let mut consumer = rig.etl().build().await.expect("build");
    let control = consumer.control();
    assert_eq!(control.offset_at(&q(0), stored[40]).await.expect("asked"), at(40));
    control.seek(&q(0), SeekTo::Timestamp(stored[40])).await.expect("seek");
    assert_eq!(offsets(&next(&mut consumer).await)[0], 40);
}

#[tokio::test(start_paused = true)]
async fn p14_a_bounded_read_ends_though_its_last_messages_are_filtered_or_expired() {
    let rig = Pulls::start(3).await;
    rig.fill(&q(0), 10, "a");
    rig.fill(&q(1), 10, "a");
    rig.fill(&q(1), 2_000, "other");
    rig.fill(&q(2), 10, "a");
    let only =
        |builder: PullConsumerBuilder| builder.start_from(StartFrom::Earliest).on_offset_gap(OnOffsetGap::Earliest);
    let builder = only(rig.client.pull_consumer(GROUP).subscribe(TOPIC, Filter::tag("a")));
    let mut bounded = builder.until(StopAt::Now).build().await.expect("build");
    rig.broker.expire(&q(2), at(10)).expect("expired");
    rig.fill(&q(0), 10, "a");
    let expected: Vec<(u32, u64)> = (0..2).flat_map(|id| (0..10).map(move |offset| (id, offset))).collect();
    assert_eq!(to_its_end(&mut bounded).await, expected);
    let position: Checkpoint = [(q(0), at(10)), (q(1), at(2_010)), (q(2), at(10))].into_iter().collect();
    assert_eq!(bounded.position(), position, "every queue has reached its end");
    ended(&bounded.control()).await;

    let live = rig.client.pull_consumer(GROUP).subscribe(TOPIC, Filter::tag("a"));
    let live = live.start_from(StartFrom::Checkpoint(position)).build().await;
    assert_eq!(read(&mut live.expect("build"), &q(0), 10).await, (10..20).collect::<Vec<_>>(), "no gap, no overlap");
}

#[tokio::test(start_paused = true)]
async fn p18_a_reset_by_an_administrator_is_followed() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 100, "a");
    let mut consumer = rig.etl().build().await.expect("build");
    let mut events = consumer.control().events();
    read(&mut consumer, &q(0), 100).await;
    consumer.control().flush().await.expect("flush");
    rig.broker.reset_offset(GROUP, &q(0), at(30)).expect("reset");
    assert_eq!(read(&mut consumer, &q(0), 70).await, (30..100).collect::<Vec<_>>());
    let reset = event(&mut events, "the reset", |event| match event {
        PullEvent::Reset { from, to, .. } => Some((*from, *to)),
        _ => None,
    });
    assert_eq!(reset.await, (at(100), at(30)));
}

#[tokio::test(start_paused = true)]
async fn p18_an_end_that_lies_far_back_is_not_followed_whatever_the_policy() {
    for policy in [OnOffsetGap::Earliest, OnOffsetGap::Latest] {
        let rig = Pulls::start(1).await;
        rig.fill(&q(0), 10, "a");
        let start = StartFrom::Offsets([(q(0), at(5_000_000))].into());
        let mut consumer = rig.etl().start_from(start).on_offset_gap(policy).build().await.expect("build");
        let error = next_error(&mut consumer).await;
        assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error}");
        assert!(error.to_string().contains("5000000") && error.to_string().contains("end 10"), "{error}");
        ended(&consumer.control()).await;
        assert_eq!(rig.committed(&q(0)).unwrap_or(5_000_000), 5_000_000, "and nothing is committed of it");
    }
}

#[tokio::test(start_paused = true)]
async fn p20_expired_messages_are_no_lag() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 100, "a");
    rig.broker.set_committed(GROUP, &q(0), Some(at(10))).expect("set");
    rig.broker.expire(&q(0), at(60)).expect("expired");
    let watching = rig.etl().start_from(StartFrom::committed_or_earliest()).build().await.expect("build");
    let lags = watching.control().lag().refreshed().await;
    assert_eq!((lags.len(), lags[0].committed, lags[0].lag), (1, Some(at(10)), Some(40)), "{lags:?}");
}

#[tokio::test(start_paused = true)]
async fn p24_a_queue_that_does_not_exist_is_told_from_one_that_is_empty() {
    let rig = Pulls::start(2).await;
    let absent = [q(7), MessageQueue::new(TOPIC, "broker-z", 0)];
    for queue in &absent {
        let builder = rig.client.pull_consumer(GROUP).assign([q(0), queue.clone()]).start_from(StartFrom::Earliest);
        let error = is(builder.build_timeout(secs(2)).build().await, ErrorKind::NotFound);
        assert!(error.to_string().contains(&queue.to_string()), "{error}");
    }
    let consumer = rig.etl().build().await.expect("build");
    let control = consumer.control();
    let asked = rig.calls(&[QUERY_OFFSET, MIN_OFFSET, MAX_OFFSET]);
    for queue in &absent {
        is(control.bounds(queue).await, ErrorKind::Unavailable);
        is(control.committed(queue).await, ErrorKind::Unavailable);
        is(control.seek(queue, SeekTo::End).await, ErrorKind::Unavailable);
    }
    assert_eq!(rig.calls(&[QUERY_OFFSET, MIN_OFFSET, MAX_OFFSET]), asked, "a broker would have answered 0");
    assert_eq!(control.bounds(&q(1)).await.expect("asked"), at(0)..at(0), "this one is empty");
}

#[tokio::test(start_paused = true)]
async fn p29_a_reset_is_never_taken_for_a_gap() {
    for policy in [OnOffsetGap::Fail, OnOffsetGap::Earliest, OnOffsetGap::Latest] {
        for to in [0, 30, 90] {
            let rig = Pulls::start(1).await;
            rig.fill(&q(0), 100, "a");
            let start = StartFrom::Offsets([(q(0), at(50))].into());
            let mut consumer = rig.etl().start_from(start).on_offset_gap(policy).build().await.expect("build");
            let mut events = consumer.control().events();
            rig.broker.reset_offset(GROUP, &q(0), at(to)).expect("reset");
            let all = read(&mut consumer, &q(0), 100 - to as usize).await;
            assert_eq!(all, (to..100).collect::<Vec<_>>(), "{policy:?}");
            let told = told(&mut events);
            assert!(told.iter().any(|event| matches!(event, PullEvent::Reset { .. })), "{policy:?}: {told:?}");
            assert!(!told.iter().any(|event| matches!(event, PullEvent::Gap { .. })), "{policy:?}: {told:?}");
        }
    }
}
