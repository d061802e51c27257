//! Servers that are slow, silent, gone or back; and what is held meanwhile.

use rocketmq_stream::QueueStreams;
use tracing::Level;

use super::*;
use crate::logs::Log;

#[tokio::test(start_paused = true)]
async fn p15_a_broker_that_does_not_answer_delays_its_own_queues_only() {
    let rig = Pulls::with(Broker::builder().topic(TOPIC, 4).brokers(2)).await;
    rig.fill_all(200);
    let silent = rig.broker.faults().on_remoting(PULL).at_broker(1).always().lose_reply();
    let mut consumer = rig.etl().max_buffered_messages(64).build().await.expect("build");
    let mut seen = 0;
    let others = async {
        while seen < 4 * 200 {
            let batch = next(&mut consumer).await;
            assert_eq!(batch.queue().broker(), "broker-a");
            seen += batch.len();
            batch.complete();
        }
    };
    within(secs(2), "the queues of the broker that answers", others).await;
    assert!(silent.hits() > 0);
    rig.broker.faults().clear();
    let again = MessageQueue::new(TOPIC, "broker-b", 3);
    assert_eq!(read(&mut consumer, &again, 200).await, (0..200).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn p15_an_idle_queue_is_asked_while_others_are_busy() {
    let rig = Pulls::start(4).await;
    for id in 1..4 {
        rig.fill(&q(id), 3_000, "a");
    }
    let mut consumer = rig.etl().max_buffered_messages(64).build().await.expect("build");
    for _ in 0..20 {
        next(&mut consumer).await.complete();
    }
    rig.fill(&q(0), 1, "a");
    let mut between = 0;
    loop {
        let batch = next(&mut consumer).await;
        let is_it = batch.queue() == &q(0);
        batch.complete();
        if is_it {
            break;
        }
        between += 1;
    }
    assert!(between < 40, "{between} batches of busy queues came before the one of the idle queue");
}

async fn stream_of(streams: &mut QueueStreams) -> rocketmq_stream::QueueStream {
    let item = within(secs(30), "a queue stream", streams.next()).await;
    item.expect("the streams go on").expect("a stream")
}

#[tokio::test(start_paused = true)]
async fn p15_a_queue_stream_that_is_dropped_is_offered_again_at_once_to_who_waits_for_it() {
    let rig = Pulls::start(2).await;
    rig.fill_all(100);
    let mut streams = rig.etl().build().await.expect("build").per_queue();
    let (mut one, mut two) = (stream_of(&mut streams).await, stream_of(&mut streams).await);
    let batch = within(secs(30), "a batch", one.next()).await.expect("it goes on").expect("a batch");
    let (queue, after) = (one.queue().clone(), batch.next_offset());
    batch.complete();
    // By another task, while this one waits.
    let dropping = tokio::spawn(async move {
        tokio::time::sleep(secs(1)).await;
        drop(one);
    });
    let began = tokio::time::Instant::now();
    let again = stream_of(&mut streams).await;
    assert!(began.elapsed() < secs(2), "it was woken: {:?}", began.elapsed());
    dropping.await.expect("dropped");
    assert_eq!((again.queue(), again.position()), (&queue, after), "from what was completed");
    let mut seen = 0;
    while seen < 100 {
        let batch = within(secs(30), "the other queue", two.next()).await.expect("it goes on").expect("a batch");
        seen += batch.len();
        batch.complete();
    }
}

#[tokio::test(start_paused = true)]
async fn p16_what_is_pulled_ahead_is_bounded_over_all_queues_together() {
    const BODY: usize = 4 << 10;
    let rig = Pulls::with(Broker::builder().topic(TOPIC, 16)).await;
    for queue in rig.broker.queues(TOPIC) {
        for _ in 0..64 {
            let message = OutboundMessage::new(TOPIC, vec![b'x'; BODY]);
            rig.broker.append(&queue, message).expect("appended");
        }
    }
    for (messages, bytes) in [(48, 64 << 20), (4096, 256 << 10)] {
        let builder = rig.etl().max_buffered_messages(messages).max_buffered_bytes(bytes);
        let mut consumer = builder.build().await.expect("build");
        let before = rig.broker.stats().pulled;
        let mut taken = 0;
        for _ in 0..10 {
            let batch = next(&mut consumer).await;
            taken += batch.len();
            batch.complete();
            // Whatever was asked for has come by now.
            tokio::time::sleep(secs(30)).await;
        }
        let held = rig.broker.stats().pulled - before - taken as u64;
        let bound = messages.min(bytes / BODY) as u64;
        assert!(held <= bound + bound / 10, "{held} messages are held, of {messages} and {bytes} bytes");
        ended(&consumer.control()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn p17_a_broker_that_restarts_is_followed_and_told_of_once() {
    let (log, _guard) = Log::listen();
    let rig = Pulls::with(Broker::builder().topic(TOPIC, 2).brokers(2)).await;
    rig.fill_all(10);
    let mut consumer = rig.etl().build().await.expect("build");
    let away = MessageQueue::new(TOPIC, "broker-b", 1);
    read(&mut consumer, &away, 10).await;
    rig.broker.stop_broker(1);
    for _ in 0..40 {
        rig.fill(&q(0), 1, "a");
        next_of(&mut consumer, &q(0)).await.complete();
        tokio::time::sleep(secs(3)).await;
    }
    rig.fill(&away, 10, "a");
    rig.broker.start_broker(1);
    let began = tokio::time::Instant::now();
    assert_eq!(read(&mut consumer, &away, 10).await, (10..20).collect::<Vec<_>>(), "without a restart of ours");
    assert!(began.elapsed() < secs(10), "{:?}", began.elapsed());
    let lines = log.lines(Level::INFO);
    assert!(lines.len() <= 8, "two minutes without a broker are no storm: {lines:#?}");
}

#[tokio::test(start_paused = true)]
async fn p17_a_name_server_that_restarts_and_one_that_stays_away_are_followed() {
    let rig = Pulls::with(Broker::builder().topic(TOPIC, 1).name_servers(2)).await;
    rig.fill(&q(0), 10, "a");
    rig.broker.stop_name_server(0);
    let mut consumer = rig.etl().build().await.expect("the other one knows");
    read(&mut consumer, &q(0), 10).await;
    rig.broker.stop_name_server(1);
    rig.fill(&q(0), 10, "a");
    assert_eq!(read(&mut consumer, &q(0), 10).await.len(), 10, "what is known stays known");
    tokio::time::sleep(secs(120)).await;
    rig.broker.start_name_server(0);
    rig.broker.grow_topic(TOPIC, 2).expect("grown");
    rig.fill(&q(1), 10, "a");
    assert_eq!(read(&mut consumer, &q(1), 10).await.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn p22_an_sql92_filter_that_does_not_parse_is_refused_before_the_first_pull() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 10, "a");
    let sql = |text: &str| {
        let builder = rig.client.pull_consumer(GROUP).subscribe(TOPIC, Filter::sql92(text));
        builder.start_from(StartFrom::Earliest)
    };
    let error = is(sql("price >").build().await, ErrorKind::InvalidArgument);
    let text = error.to_string();
    assert!(["on topic trades", "`price >`"].iter().all(|part| text.contains(part)), "{error}");
    assert!(error.topic() == Some(TOPIC) && error.server_code().is_some(), "{error:?}");
    assert_eq!(rig.calls(&[PULL]), 0, "it would have returned every message");
    let priced = OutboundMessage::new(TOPIC, "dear").property("price", "7");
    rig.broker.append(&q(0), priced).expect("appended");
    let mut consumer = sql("price > 5").build().await.expect("build");
    assert_eq!(read(&mut consumer, &q(0), 1).await, [10]);
}

#[tokio::test(start_paused = true)]
async fn p25_a_poll_that_is_answered_late_is_waited_for_and_one_that_is_never_answered_is_given_up() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 1, "a");
    let mut consumer = rig.etl().await_duration(secs(10)).build().await.expect("build");
    read(&mut consumer, &q(0), 1).await;
    // The broker looks after held pulls every 5 s, and so answers up to 5 s too late.
    let late = rig.broker.faults().on_remoting(PULL).delay_reply(secs(5));
    let before = rig.calls(&[PULL]);
    nothing_for(Duration::from_millis(14_500), &mut consumer).await;
    assert_eq!((late.hits(), rig.calls(&[PULL])), (1, before + 1), "it was not given up early and asked again");
    // Now an answer is lost.
    nothing_for(secs(1), &mut consumer).await;
    rig.broker.faults().on_remoting(PULL).lose_reply();
    nothing_for(secs(12), &mut consumer).await;
    rig.fill(&q(0), 1, "a");
    let began = tokio::time::Instant::now();
    assert_eq!(read(&mut consumer, &q(0), 1).await, [1]);
    assert!(began.elapsed() < secs(10 + 6 + 3 + 2), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn p25_no_call_waits_for_ever_for_a_server_that_says_nothing() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 10, "a");
    let mut consumer = rig.etl().build().await.expect("build");
    let control = consumer.control();
    read(&mut consumer, &q(0), 10).await;
    for code in [QUERY_OFFSET, COMMIT, MAX_OFFSET, MIN_OFFSET] {
        rig.broker.faults().on_remoting(code).always().lose_reply();
    }
    let limit = secs(11);
    let queue = q(0);
    within(limit, "committed", control.committed(&queue)).await.expect_err("no answer");
    within(limit, "bounds", control.bounds(&queue)).await.expect_err("no answer");
    let error = within(limit, "flush", control.flush()).await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(within(limit, "lag", control.lag().refreshed()).await.len(), 1);
    let second = rig.etl().share(0, 1).build_timeout(secs(5));
    within(limit, "build", second.build()).await.map(drop).unwrap_or(());
}
