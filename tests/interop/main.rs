//! What the official clients write we read, and what we write they read.
//!
//! ```sh
//! tests/apache/cluster.sh run -- cargo test --test interop    # on the real server
//! INTEROP=1 cargo test --test interop                         # on the embedded broker alone
//! ```
//!
//! Both need Java and Python, see README.md here; without the environment nothing is checked, and one line says so. With
//! `REAL_SERVER_REQUIRED=1` that is a failure.
#![allow(
    clippy::disallowed_methods,
    clippy::future_not_send,
    reason = "the rules on time, tasks and threads are for the library; tests are its users"
)]

#[path = "../apache/admin.rs"]
mod admin;
#[path = "../apache/cluster_sh.rs"]
mod cluster_sh;
#[path = "../support/mod.rs"]
mod support;

mod mixed;
mod official;

use std::collections::{BTreeSet, HashMap};
use std::env;
use std::time::Duration;

use admin::{Admin, Group, Topic};
use futures::prelude::*;
use official::{Language, Official};
use rocketmq_stream::embedded::{Broker, TopicType};
use rocketmq_stream::{Client, Filter, OutboundMessage};
use serde_json::Value;
use support::{Calm, next, nothing_for, numbered, secs, send_all, sorted, take, take_acked, text, unique, within};

/// A server, real or embedded, for clients of any language.
struct Server {
    access_point: String,
    name_server: Option<String>,
    embedded: Option<Broker>,
    _calm: Calm,
}

impl Server {
    fn real() -> Option<Self> {
        let names = ["ACCESS_POINT", "NAME_SERVER"];
        let [access_point, name_server] = cluster_sh::from_env(names, "tests/apache/cluster.sh")?;
        Some(Self { access_point, name_server: Some(name_server), embedded: None, _calm: Calm::default() })
    }

    /// Wherever official clients may be started: with `INTEROP=1`, or beside a real server.
    async fn embedded() -> Option<Self> {
        if env::var_os("INTEROP").is_none() {
            cluster_sh::from_env(["ACCESS_POINT"], "tests/apache/cluster.sh, or with INTEROP=1")?;
        }
        let broker = Broker::builder().start().await.expect("a broker");
        let (access_point, name_server) = (broker.access_point(), Some(broker.name_server()));
        Some(Self { access_point, name_server, embedded: Some(broker), _calm: Calm::default() })
    }

    fn topic(&self, queues: u32) -> String {
        let name = unique("topic");
        match &self.embedded {
            Some(broker) => broker.create_topic(&name, queues, TopicType::Normal).expect("a topic"),
            None => admin().create_topic(&Topic::new(&name).queues(queues)).expect("a topic"),
        }
        name
    }

    fn group(&self) -> String {
        let name = unique("group");
        if self.embedded.is_none() {
            admin().create_group(&Group::new(&name)).expect("a group");
        }
        name
    }

    fn client(&self) -> Client {
        Client::builder().access_point(&self.access_point).build().expect("a client")
    }

    fn official(&self, language: Language) -> Official {
        Official::new(language, &self.access_point, self.name_server.as_deref())
    }
}

fn admin() -> Admin {
    Admin::from_env().expect("the environment of cluster.sh")
}

fn string<'a>(line: &'a Value, field: &str) -> &'a str {
    line[field].as_str().unwrap_or_else(|| panic!("no {field} in {line}"))
}

/// They send, we read: every field that both sides know.
async fn they_send(server: &Server, language: Language) {
    let (topic, group) = (server.topic(2), server.group());
    let arguments = ["--topic", &topic, "--count", "3", "--tag", "paid", "--key", "order-1", "--key", "customer-7"];
    let properties = ["--property", "amount=12.50", "--property", "region=EU mañana", "--body-prefix", "größe "];
    let sent = server.official(language).run("send", &[&arguments[..], &properties[..]].concat()).await;
    assert_eq!(sent.len(), 3, "{sent:?}");

    let filter = Filter::tag("paid");
    let consumer = server.client().simple_consumer(&group).subscribe(&topic, filter).build().await;
    let mut consumer = consumer.expect("build");
    let mut by_id: HashMap<String, _> = HashMap::new();
    for delivery in take(&mut consumer, 3).await {
        by_id.insert(delivery.message().id().to_owned(), delivery);
    }
    for line in &sent {
        let id = string(line, "message_id");
        let delivery = by_id.remove(id).unwrap_or_else(|| panic!("{language:?}: {id} was not received"));
        let message = delivery.message();
        assert_eq!(text(message), string(line, "body"), "{language:?}");
        assert_eq!(message.tag(), Some("paid"));
        let keys: BTreeSet<_> = message.keys().iter().map(String::as_str).collect();
        assert_eq!(keys, BTreeSet::from(["order-1", "customer-7"]), "Python does not keep their order");
        assert_eq!(message.property("amount"), Some("12.50"));
        assert_eq!(message.property("region"), Some("EU mañana"));
        assert!(message.corrupted().is_none() && message.born_timestamp().is_some());
        assert_eq!(message.delivery_attempt(), 1);
        delivery.ack().await.expect("ack");
    }
}

/// We send, they read.
async fn they_receive(server: &Server, language: Language) {
    let (topic, group) = (server.topic(2), server.group());
    let producer = server.client().producer().topic(&topic).build().await.expect("build");
    let mut ids = HashMap::new();
    for (body, tag) in [("größe 1", "paid"), ("2", "open"), ("größe 3", "paid")] {
        let message = OutboundMessage::new(&topic, body).tag(tag).keys(["order-1", "customer-7"]);
        let message = message.property("amount", "12.50").property("region", "EU mañana");
        let receipt = producer.send(message).await.expect("send");
        if tag == "paid" {
            ids.insert(receipt.message_id().to_owned(), body);
        }
    }
    let arguments = ["--topic", &topic, "--group", &group, "--count", "2", "--tag-filter", "paid", "--ack"];
    let received = server.official(language).run("receive", &arguments).await;
    assert_eq!(received.len(), 2, "{received:?}");
    for line in &received {
        let body = ids.remove(string(line, "message_id")).unwrap_or_else(|| panic!("not ours: {line}"));
        assert_eq!((string(line, "body"), string(line, "tag")), (body, "paid"), "{language:?}");
        let keys: BTreeSet<_> = line["keys"].as_array().expect("keys").iter().filter_map(Value::as_str).collect();
        assert_eq!(keys, BTreeSet::from(["order-1", "customer-7"]), "{language:?}");
        assert_eq!(string(&line["properties"], "amount"), "12.50");
        assert_eq!(string(&line["properties"], "region"), "EU mañana");
        assert_eq!(line["delivery_attempt"].as_u64(), Some(1));
    }
    // They acknowledged: nothing is left for us.
    let builder = server.client().simple_consumer(&group).subscribe(&topic, Filter::tag("paid"));
    nothing_for(secs(8), &mut builder.build().await.expect("build")).await;
}

/// A message they asked for again comes to us, and one we gave back comes to them, with its attempt and id.
async fn redeliveries_cross(server: &Server, language: Language) {
    let (topic, group) = (server.topic(1), server.group());
    let producer = server.client().producer().topic(&topic).build().await.expect("build");
    let sent = send_all(&producer, &topic, ["again"]).await;
    let arguments = ["--topic", &topic, "--group", &group, "--change-to-seconds", "3", "--timeout-seconds", "60"];
    let lines = server.official(language).run("change-invisible", &arguments).await;
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| string(line, "message_id") == sent[0].message_id()), "{lines:?}");
    assert_eq!(lines[1]["delivery_attempt"].as_u64(), Some(2), "{lines:?}");

    let sent = send_all(&producer, &topic, ["given back"]).await;
    let consumer = server.client().simple_consumer(&group).subscribe(&topic, Filter::all()).build().await;
    let mut consumer = consumer.expect("build");
    next(&mut consumer).await.nack(secs(1)).await.expect("nack");
    assert!(consumer.control().shutdown(secs(5)).await.complete);
    let arguments = ["--topic", &topic, "--group", &group, "--ack", "--timeout-seconds", "60"];
    let received = server.official(language).run("receive", &arguments).await;
    assert_eq!(string(&received[0], "message_id"), sent[0].message_id());
    assert_eq!(received[0]["delivery_attempt"].as_u64(), Some(2), "{received:?}");
}

macro_rules! crossings {
    ($($name:ident: $server:expr, $language:expr;)+) => {
        $(
            mod $name {
                use super::*;

                #[tokio::test]
                async fn they_send_and_we_read() {
                    if let Some(server) = $server { they_send(&server, $language).await; }
                }

                #[tokio::test]
                async fn we_send_and_they_read() {
                    if let Some(server) = $server { they_receive(&server, $language).await; }
                }

                #[tokio::test]
                async fn redeliveries_cross_over() {
                    if let Some(server) = $server { redeliveries_cross(&server, $language).await; }
                }
            }
        )+
    };
}

crossings! {
    java_on_the_real_server: Server::real(), Language::Java;
    java_on_the_embedded_broker: Server::embedded().await, Language::Java;
    python_on_the_embedded_broker: Server::embedded().await, Language::Python;
}

async fn compressed_bodies(server: &Server) {
    for codec in ["zlib", "lz4", "zstd"] {
        let (topic, group) = (server.topic(1), server.group());
        let arguments =
            ["--topic", &topic, "--codec", codec, "--count", "2", "--tag", "t", "--key", "k", "--property", "p=v"];
        let sent = server.official(Language::Java).run("send-compressed", &arguments).await;
        assert_eq!(sent.len(), 2, "{sent:?}");
        let builder = server.client().simple_consumer(&group).subscribe(&topic, Filter::all()).check_digest(true);
        let mut consumer = builder.build().await.expect("build");
        let mut bodies = Vec::new();
        for delivery in take(&mut consumer, 2).await {
            let message = delivery.message();
            assert!(message.corrupted().is_none(), "{codec}: {message:?}");
            assert_eq!((message.tag(), message.property("p")), (Some("t"), Some("v")), "{codec}");
            assert_eq!(message.keys(), ["k"]);
            bodies.push(text(message).to_owned());
            delivery.ack().await.expect("ack");
        }
        let expected = sent.iter().map(|line| string(line, "body").to_owned());
        assert_eq!(sorted(bodies), sorted(expected), "{codec}");
    }
}

#[tokio::test]
async fn compressed_bodies_of_the_official_java_client_are_read() {
    if let Some(server) = Server::real() {
        compressed_bodies(&server).await;
    }
}

#[tokio::test]
async fn compressed_bodies_are_read_on_the_embedded_broker_too() {
    if let Some(server) = Server::embedded().await {
        compressed_bodies(&server).await;
    }
}

/// What we send over gRPC their pull consumer reads over remoting, compressed bodies included.
async fn they_pull(server: &Server) {
    let (topic, group) = (server.topic(2), server.group());
    let producer = server.client().producer().topic(&topic).build().await.expect("build");
    let message = OutboundMessage::new(&topic, "over both wires").tag("t").keys(["k1", "k2"]).property("p", "v");
    producer.send(message).await.expect("send");
    let arguments = ["--topic", &topic, "--group", &group, "--tag-filter", "t"];
    let received = server.official(Language::Java).run("pull-receive", &arguments).await;
    assert_eq!((string(&received[0], "body"), string(&received[0], "tag")), ("over both wires", "t"));
    assert_eq!(received[0]["keys"], serde_json::json!(["k1", "k2"]));
    assert_eq!(string(&received[0]["properties"], "p"), "v");
}

#[tokio::test]
async fn our_messages_are_read_by_the_official_pull_consumer_over_remoting() {
    if let Some(server) = Server::real() {
        they_pull(&server).await;
    }
}

#[tokio::test]
async fn our_messages_are_pulled_from_the_embedded_broker_too() {
    if let Some(server) = Server::embedded().await {
        they_pull(&server).await;
    }
}

/// A topic made by `mqadmin`, messages of their producer, their pull consumer, and `mqadmin` tells how far it is: no program
/// but theirs, and the embedded broker.
#[tokio::test]
async fn the_official_clients_and_mqadmin_work_on_the_embedded_broker_unchanged() {
    let Some(server) = Server::embedded().await else { return };
    let broker = server.embedded.as_ref().expect("an embedded broker");
    let (topic, group, java) = (unique("topic"), server.group(), server.official(Language::Java));
    java.mqadmin("updateTopic", &["-c", "DefaultCluster", "-t", &topic, "-r", "2", "-w", "2"]).await;
    assert_eq!(broker.queues(&topic).len(), 2);
    let topics = java.mqadmin("topicList", &[]).await;
    assert!(topics.lines().any(|line| line.trim() == topic), "{topics}");

    let arguments = ["--topic", &topic, "--count", "10", "--tag", "t", "--key", "k", "--property", "p=v"];
    let sent = java.run("remoting-send", &arguments).await;
    let batch = java.run("remoting-send", &[&arguments[..], &["--batch"]].concat()).await;
    assert_eq!((sent.len(), batch.len(), broker.messages(&topic).len()), (10, 10, 20));

    let received = java.run("pull-receive", &["--topic", &topic, "--group", &group, "--count", "20"]).await;
    let id = |line: &Value| string(line, "message_id").to_owned();
    assert_eq!(sorted(received.iter().map(id)), sorted(sent.iter().chain(&batch).map(id)));
    assert!(received.iter().all(|line| string(&line["properties"], "p") == "v" && string(line, "tag") == "t"));

    let queues = broker.queues(&topic);
    let committed: u64 = queues.iter().filter_map(|queue| broker.committed(&group, queue)).map(|next| next.get()).sum();
    assert_eq!(committed, 20);
    let progress = java.mqadmin("consumerProgress", &["-g", &group]).await;
    let rows = progress.lines().filter(|line| line.contains(&topic[..20])).count();
    assert_eq!(rows, 2, "{progress}");
    assert!(progress.contains("Consume Diff Total: 0") || progress.contains("Diff Total: 0"), "{progress}");
}

async fn share_one_queue(server: &Server, language: Language) {
    let (topic, group) = (server.topic(1), server.group());
    let producer = server.client().producer().topic(&topic).build().await.expect("build");
    let builder = server.client().simple_consumer(&group).subscribe(&topic, Filter::all()).max_buffered_messages(4);
    let mut ours = builder.build().await.expect("build");
    let arguments = ["--topic", &topic, "--group", &group, "--count", "10", "--ack", "--timeout-seconds", "60"];
    let theirs = server.official(language).start("receive", &arguments);
    let sending = async {
        for body in numbered(2_000) {
            send_all(&producer, &topic, [body]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut received = 0;
    let reading = async {
        while let Some(item) = ours.next().await {
            item.expect("a delivery").ack().await.expect("ack");
            received += 1;
        }
    };
    let lines = tokio::select! {
        lines = theirs => lines,
        () = sending => panic!("the official client did not get 10 of 2 000"),
        () = reading => panic!("the stream ended"),
    };
    assert_eq!(lines.len(), 10);
    assert!(received >= 10, "only {received} came to us");
    assert!(ours.control().shutdown(secs(10)).await.complete);
}

#[tokio::test]
async fn one_of_ours_and_an_official_java_consumer_share_a_topic_of_one_queue() {
    if let Some(server) = Server::real() {
        share_one_queue(&server, Language::Java).await;
    }
}

#[tokio::test]
async fn they_share_it_on_the_embedded_broker_too() {
    if let Some(server) = Server::embedded().await {
        share_one_queue(&server, Language::Java).await;
        share_one_queue(&server, Language::Python).await;
    }
}

#[tokio::test]
async fn a_message_of_one_language_passes_through_all_of_them() {
    let Some(server) = Server::embedded().await else { return };
    let (topic, group) = (server.topic(1), server.group());
    let arguments = ["--topic", &topic, "--body-prefix", "relayed "];
    server.official(Language::Java).run("send", &arguments).await;
    server.official(Language::Python).run("send", &arguments).await;
    let builder = server.client().simple_consumer(&group).subscribe(&topic, Filter::all());
    let mut consumer = builder.build().await.expect("build");
    let received = within(secs(30), "both", take_acked(&mut consumer, 2)).await;
    assert_eq!(received, ["relayed 0", "relayed 0"]);
}
