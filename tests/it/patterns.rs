//! Topics that are subscribed to by a test of their names, over the embedded broker's remoting port.

use std::collections::BTreeSet;

use futures::prelude::*;
use rocketmq_stream::embedded::{Broker, TopicType};
use rocketmq_stream::{
    Client, ErrorKind, Filter, MessageQueue, OutboundMessage, PullConsumer, PullConsumerBuilder, StartFrom,
};

use crate::support::{Calm, secs, within};

const GROUP: &str = "etl";

struct Rig {
    broker: Broker,
    client: Client,
    _calm: Calm,
}

async fn rig(topics: &[&str]) -> Rig {
    let builder = topics.iter().fold(Broker::builder(), |builder, topic| builder.topic(*topic, 2));
    let broker = builder.start().await.expect("a broker");
    let client = Client::builder().access_point(broker.access_point()).name_server(broker.name_server());
    Rig { client: client.build().expect("a client"), broker, _calm: Calm::default() }
}

impl Rig {
    fn orders(&self, start: StartFrom) -> PullConsumerBuilder {
        let builder = self.client.pull_consumer(GROUP).start_from(start).topic_refresh(secs(5));
        builder.subscribe_matching(|topic| topic.starts_with("orders"), Filter::all())
    }

    async fn send(&self, topic: &str, count: usize) {
        let producer = self.client.producer().build().await.expect("a producer");
        for n in 0..count {
            producer.send(OutboundMessage::new(topic, format!("{topic} {n}")).tag("eu")).await.expect("sent");
        }
    }
}

/// The topics of so many messages.
async fn topics(consumer: &mut PullConsumer, messages: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < messages {
        let batch = within(secs(60), "a batch", consumer.try_next()).await.expect("no error").expect("no end");
        seen.extend(batch.messages().iter().map(|message| message.topic().to_owned()));
        batch.complete();
    }
    seen.sort();
    seen
}

#[tokio::test(start_paused = true)]
async fn every_topic_that_matches_is_read_and_one_that_is_created_later_from_its_first_message() {
    let rig = rig(&["orders-eu", "orders-us", "bills"]).await;
    for topic in ["orders-eu", "orders-us", "bills"] {
        rig.send(topic, 3).await;
    }
    let mut consumer = rig.orders(StartFrom::Earliest).build().await.expect("build");
    assert_eq!(topics(&mut consumer, 6).await, [["orders-eu"; 3], ["orders-us"; 3]].concat());

    rig.broker.create_topic("orders-jp", 2, TopicType::Normal).expect("a topic");
    rig.send("orders-jp", 4).await;
    assert_eq!(topics(&mut consumer, 4).await, ["orders-jp"; 4]);
    let held: BTreeSet<_> = consumer.control().assignment().iter().map(|(queue, _)| queue.topic().to_owned()).collect();
    assert_eq!(held.into_iter().collect::<Vec<_>>(), ["orders-eu", "orders-jp", "orders-us"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_topic_is_read_whole_also_by_who_began_at_the_end() {
    let rig = rig(&["orders-eu"]).await;
    rig.send("orders-eu", 3).await;
    let mut consumer = rig.orders(StartFrom::Latest).build().await.expect("build");
    tokio::time::sleep(secs(2)).await;
    rig.broker.create_topic("orders-jp", 2, TopicType::Normal).expect("a topic");
    rig.send("orders-jp", 4).await;
    assert_eq!(topics(&mut consumer, 4).await, ["orders-jp"; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_group_shares_the_topics_that_match_whoever_saw_them_first() {
    let rig = rig(&["orders-eu"]).await;
    let mut one = rig.orders(StartFrom::Earliest).build().await.expect("build");
    rig.broker.create_topic("orders-jp", 2, TopicType::Normal).expect("a topic");
    // This one sees a topic that the other does not know of yet.
    let mut two = rig.orders(StartFrom::Earliest).build().await.expect("a member that knows more may join");
    for topic in ["orders-eu", "orders-jp"] {
        rig.send(topic, 8).await;
    }
    let mut seen = BTreeSet::new();
    while seen.len() < 16 {
        let batch = tokio::select! {
            batch = one.try_next() => batch,
            batch = two.try_next() => batch,
            () = tokio::time::sleep(secs(60)) => panic!("only {seen:?}"),
        };
        let batch = batch.expect("no error").expect("no end");
        seen.extend(batch.messages().iter().map(|message| String::from_utf8_lossy(message.body()).into_owned()));
        batch.complete();
    }
    let queues = |consumer: &PullConsumer| -> BTreeSet<MessageQueue> {
        consumer.control().assignment().iter().map(|(queue, _)| queue.clone()).collect()
    };
    assert!(queues(&one).is_disjoint(&queues(&two)));
    assert_eq!(queues(&one).len() + queues(&two).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_matches_is_no_error_and_what_comes_is_filtered() {
    let rig = rig(&["bills"]).await;
    let builder = rig.client.pull_consumer(GROUP).start_from(StartFrom::Earliest).topic_refresh(secs(5));
    let builder = builder.subscribe_matching(|topic| topic.starts_with("orders"), Filter::tag("eu"));
    let mut consumer = builder.build().await.expect("it waits for topics");
    rig.broker.create_topic("orders-jp", 1, TopicType::Normal).expect("a topic");
    let producer = rig.client.producer().build().await.expect("a producer");
    producer.send(OutboundMessage::new("orders-jp", "us").tag("us")).await.expect("sent");
    rig.send("orders-jp", 2).await;
    assert_eq!(topics(&mut consumer, 2).await, ["orders-jp"; 2]);
}

#[tokio::test(start_paused = true)]
async fn tasks_that_are_numbered_share_topics_that_match() {
    let rig = rig(&["orders-eu", "bills"]).await;
    let mut held = BTreeSet::new();
    for index in 0..2 {
        let task = rig.orders(StartFrom::Earliest).share(index, 2).build().await.expect("build");
        held.extend(task.control().assignment().iter().map(|(queue, _)| queue.to_string()));
    }
    assert_eq!(held.into_iter().collect::<Vec<_>>(), ["orders-eu@broker-a:0", "orders-eu@broker-a:1"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_test_of_names_cannot_do_is_refused_by_name() {
    let rig = rig(&["orders-eu"]).await;
    let builder = || rig.client.pull_consumer(GROUP).start_from(StartFrom::Earliest);
    let sql = builder().subscribe_matching(|_| true, Filter::sql92("a > 1")).build().await.expect_err("SQL92");
    assert_eq!(
        (sql.kind(), sql.to_string().contains("subscribe_matching `a > 1`")),
        (ErrorKind::Config, true),
        "{sql}"
    );
    let queues = [MessageQueue::new("orders-eu", "broker-a", 0)];
    let both = builder().subscribe_matching(|_| true, Filter::all()).assign(queues).build().await.expect_err("both");
    assert_eq!((both.kind(), both.to_string().contains("assign")), (ErrorKind::Config, true), "{both}");
    let never = builder().subscribe_matching(|_| true, Filter::all()).topic_refresh(secs(0)).build().await;
    assert!(never.expect_err("never").to_string().contains("topic_refresh"));
    let grpc = Client::builder().access_point(rig.broker.access_point()).build().expect("a client");
    let grpc = grpc.pull_consumer(GROUP).start_from(StartFrom::Earliest).share(0, 1);
    let grpc = grpc.subscribe_matching(|_| true, Filter::all()).build().await.expect_err("no list of topics");
    assert_eq!((grpc.kind(), grpc.to_string().contains("name_server")), (ErrorKind::Unsupported, true), "{grpc}");
}
