//! PullConsumer over the embedded broker's remoting port.

use std::time::Duration;

use futures::prelude::*;
use rocketmq_stream::embedded::Broker;
use rocketmq_stream::{
    Client, Completion, ErrorKind, Filter, MessageQueue, Offset, OutboundMessage, PullBatch, PullConsumer,
    PullConsumerBuilder, SeekTo, StartFrom, StopAt,
};

const TOPIC: &str = "trades";

async fn started(queues: u32, messages: usize) -> (Broker, Client) {
    let broker = Broker::builder().topic(TOPIC, queues).start().await.unwrap();
    let client =
        Client::builder().access_point(broker.access_point()).name_server(broker.name_server()).build().unwrap();
    send(&client, messages).await;
    (broker, client)
}

async fn send(client: &Client, messages: usize) {
    let producer = client.producer().topic(TOPIC).build().await.unwrap();
    let sends = (0..messages).map(|n| {
        let tag = if n % 2 == 0 { "even" } else { "odd" };
        producer.send(OutboundMessage::new(TOPIC, format!("{n}")).tag(tag))
    });
    for sent in future::join_all(sends).await {
        sent.unwrap();
    }
}

fn etl(client: &Client) -> PullConsumerBuilder {
    client.pull_consumer("etl").subscribe(TOPIC, Filter::all()).start_from(StartFrom::Earliest)
}

async fn bodies(consumer: &mut PullConsumer) -> Vec<usize> {
    let mut bodies = Vec::new();
    while let Some(batch) = consumer.try_next().await.unwrap() {
        bodies.extend(
            batch.messages().iter().map(|one| std::str::from_utf8(one.body()).unwrap().parse::<usize>().unwrap()),
        );
        batch.complete();
    }
    bodies.sort_unstable();
    bodies
}

#[tokio::test]
async fn p14_a_read_until_now_brings_every_message_once_and_then_ends() {
    let (broker, client) = started(4, 300).await;
    let mut consumer = etl(&client).until(StopAt::Now).build().await.unwrap();
    assert_eq!(bodies(&mut consumer).await, (0..300).collect::<Vec<_>>());
    let position = consumer.position();
    assert!(consumer.control().shutdown(Duration::from_secs(5)).await.complete);

    send(&client, 40).await;
    let mut rest = etl(&client).start_from(StartFrom::Checkpoint(position)).until(StopAt::Now).build().await.unwrap();
    assert_eq!(bodies(&mut rest).await, (0..40).collect::<Vec<_>>(), "no gap and no overlap");
    drop(rest);
    broker.shutdown().await;
}

#[tokio::test]
async fn p1_the_next_member_begins_where_the_last_one_committed() {
    let (broker, client) = started(2, 50).await;
    let mut first = etl(&client).build().await.unwrap();
    let batch = first.try_next().await.unwrap().unwrap();
    let (queue, next): (MessageQueue, Offset) = (batch.queue().clone(), batch.next_offset());
    batch.complete();
    first.control().shutdown(Duration::from_secs(5)).await.ignore();

    let start = StartFrom::committed_or_earliest();
    let second = etl(&client).start_from(start).build().await.unwrap();
    assert_eq!(second.control().committed(&queue).await.unwrap(), Some(next));
    assert_eq!(second.position().get(&queue).unwrap_or(next), next);
    drop(second);
    broker.shutdown().await;
}

#[tokio::test]
async fn the_broker_filters_by_tag_and_the_ranges_say_so() {
    let (broker, client) = started(1, 100).await;
    let builder = client.pull_consumer("even").subscribe(TOPIC, Filter::tag("even")).start_from(StartFrom::Earliest);
    let mut consumer = builder.until(StopAt::Now).build().await.unwrap();
    let (mut end, mut count) = (Offset::new(0), 0);
    while let Some(batch) = consumer.try_next().await.unwrap() {
        assert_eq!(batch.range().start, end);
        assert!(batch.messages().iter().all(|one| one.tag() == Some("even")));
        (end, count) = (batch.next_offset(), count + batch.len());
        batch.complete();
    }
    assert_eq!(count, 50);
    assert_eq!(consumer.position().iter().map(|(_, next)| next).collect::<Vec<_>>(), [Offset::new(100)]);
    drop(consumer);
    broker.shutdown().await;
}

#[tokio::test]
async fn two_members_share_the_queues_and_one_that_leaves_hands_its_own_over() {
    let (broker, client) = started(4, 0).await;
    let mut first = etl(&client).build().await.unwrap();
    let second = etl(&client).build().await.unwrap();
    let control = first.control();
    let mut assignments = control.assignments();
    let halved = async {
        while assignments.current().len() != 2 {
            assignments.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), halved).await.expect("the queues were not shared");
    assert_eq!(second.control().assignment().len(), 2);
    second.control().shutdown(Duration::from_secs(5)).await.ignore();
    let mut assignments = control.assignments();
    let whole = async {
        while assignments.current().len() != 4 {
            assignments.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), whole).await.expect("the queues did not come back");
    send(&client, 100).await;
    let mut seen = 0;
    while seen < 100 {
        let batch: PullBatch =
            tokio::time::timeout(Duration::from_secs(20), first.try_next()).await.unwrap().unwrap().unwrap();
        seen += batch.len();
        batch.complete();
    }
    drop(first);
    broker.shutdown().await;
}

#[tokio::test]
async fn p21_a_group_that_receives_is_not_pulled_from_by_the_same_client() {
    let (broker, client) = started(1, 0).await;
    let simple = client.simple_consumer("etl").subscribe(TOPIC, Filter::all()).build().await.unwrap();
    let error = etl(&client).build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Precondition, "{error}");
    drop(simple);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_pipeline_forwards_its_completions_and_they_are_durable_when_it_ends() {
    let (broker, client) = started(4, 200).await;
    let consumer = etl(&client).share(0, 1).until(StopAt::Now).build().await.unwrap();
    let control = consumer.control();
    let work = |batch: PullBatch| async move { Ok::<Completion, rocketmq_stream::Error>(batch.into_completion()) };
    consumer.map_ok(work).try_buffer_unordered(8).forward(control.commit_sink()).await.unwrap();
    let mut committed = 0;
    for (queue, next) in control.checkpoint().iter() {
        let at_broker = control.committed(queue).await.unwrap();
        assert_eq!(at_broker, Some(next));
        committed += next.get();
    }
    assert_eq!(committed, 200);
    control.shutdown(Duration::from_secs(5)).await.ignore();
    broker.shutdown().await;
}

#[tokio::test]
async fn a_seek_reads_again_and_lag_counts_what_is_not_committed() {
    let (broker, client) = started(1, 30).await;
    let mut consumer = etl(&client).build().await.unwrap();
    let control = consumer.control();
    let mut seen = 0;
    while seen < 30 {
        let batch = consumer.try_next().await.unwrap().unwrap();
        seen += batch.len();
        batch.complete();
    }
    control.flush().await.unwrap();
    let queue = MessageQueue::new(TOPIC, control.assignment().iter().next().unwrap().0.broker(), 0);
    control.seek(&queue, SeekTo::Offset(Offset::new(12))).await.unwrap();
    assert_eq!(consumer.try_next().await.unwrap().unwrap().range().start, Offset::new(12));
    control.flush().await.unwrap();
    let lags = control.lag().refreshed().await;
    assert_eq!((lags.len(), lags[0].lag), (1, Some(18)), "{lags:?}");
    drop(consumer);
    broker.shutdown().await;
}

#[tokio::test]
async fn sharing_within_the_group_needs_a_name_server_and_the_error_names_the_setter() {
    let broker = Broker::builder().topic(TOPIC, 1).start().await.unwrap();
    let client = Client::builder().access_point(broker.access_point()).build().unwrap();
    let error = etl(&client).build().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("name_server"), "{error}");
    broker.shutdown().await;
}

#[tokio::test]
async fn a_server_that_serves_pulls_over_grpc_is_read_without_a_name_server() {
    let (broker, _) = started(4, 200).await;
    let client = Client::builder().access_point(broker.access_point()).build().unwrap();
    let mut consumer = etl(&client).share(0, 1).until(StopAt::Now).build().await.unwrap();
    let control = consumer.control();
    assert_eq!(bodies(&mut consumer).await, (0..200).collect::<Vec<_>>());
    control.flush().await.unwrap();
    for (queue, next) in control.checkpoint().iter() {
        assert_eq!(control.committed(queue).await.unwrap(), Some(next));
    }
    control.shutdown(Duration::from_secs(5)).await.ignore();
    broker.shutdown().await;
}

#[tokio::test]
async fn a_proxy_that_does_not_serve_pulls_is_told_apart_and_the_error_names_the_setter() {
    let broker = Broker::builder().topic(TOPIC, 1).grpc_pull(false).start().await.unwrap();
    let client = Client::builder().access_point(broker.access_point()).build().unwrap();
    let error = etl(&client).share(0, 1).build().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("name_server"), "{error}");
    broker.shutdown().await;
}
