//! Faults on a real Apache RocketMQ: processes killed and started again, connections cut.
//!
//! ```sh
//! tests/apache/cluster.sh run -- cargo test --test faults
//! ```
//!
//! Without a server (`CLUSTER_SH` and `ACCESS_POINT` in the environment) nothing is checked, and one line says so; with
//! `REAL_SERVER_REQUIRED=1` that is a failure. The faults concern everybody, so the tests run one after the other.
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

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use admin::{Admin, Group, Outgoing, Topic};
use futures::future::join_all;
use futures::prelude::*;
use rocketmq_stream::{
    Client, Delivery, ErrorKind, Filter, OutboundMessage, Producer, RouteEndpoints, SimpleConsumer,
    SimpleConsumerBuilder,
};
use support::relay::Relay;
use support::{Calm, next, numbered, secs, send_all, take, text, unique, within};

/// Reading is back within this time after the port is.
const READING: Duration = Duration::from_secs(10);
/// Sending is: a proxy does not know the types of topics for up to 52 s after a broker's start.
const SENDING: Duration = Duration::from_secs(60);

/// Long enough for every outage here.
const LEASE: Duration = Duration::from_secs(120);

static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The real server, with a topic and a group of this test's own.
struct Server {
    access_point: String,
    topic: String,
    group: String,
    _calm: Calm,
}

impl Server {
    fn from_env() -> Option<Self> {
        let [access_point, _] = cluster_sh::from_env(["ACCESS_POINT", "CLUSTER_SH"], "tests/apache/cluster.sh")?;
        let admin = Admin::from_env().expect("the environment of cluster.sh");
        let (topic, group) = (unique("topic"), unique("group"));
        admin.create_topic(&Topic::new(&topic).queues(4)).expect("a topic");
        admin.create_group(&Group::new(&group)).expect("a group");
        Some(Self { access_point, topic, group, _calm: Calm::default() })
    }

    /// Puts a message into the first queue, past the proxy.
    async fn store(&self, body: &str) {
        let (topic, body) = (self.topic.clone(), body.as_bytes().to_vec());
        let store = move || {
            let admin = Admin::from_env().expect("the environment of cluster.sh");
            let queue = admin.queues(&topic).expect("a route").remove(0);
            admin.send(&topic, &queue, &[Outgoing { body, ..Outgoing::default() }]).expect("stored");
        };
        tokio::task::spawn_blocking(store).await.expect("no panic");
    }

    fn client(&self) -> Client {
        Client::builder().access_point(&self.access_point).build().expect("a client")
    }

    /// A client whose connections all go through the relay.
    async fn relayed(&self) -> (Relay, Client) {
        let relay = Relay::to(&self.access_point).await.expect("a relay");
        let client = Client::builder().access_point(relay.access_point()).route_endpoints(RouteEndpoints::AccessPoint);
        (relay, client.build().expect("a client"))
    }

    fn consuming(&self, client: &Client) -> SimpleConsumerBuilder {
        let builder = client.simple_consumer(&self.group).subscribe(&self.topic, Filter::all());
        builder.invisible_duration(LEASE)
    }
}

/// Settles everything that comes, in the background, and remembers when.
struct Reader {
    /// When each body was first acknowledged.
    acked: Arc<Mutex<HashMap<String, Instant>>>,
    failed: Arc<Mutex<Vec<String>>>,
    control: rocketmq_stream::SimpleControl,
    task: tokio::task::JoinHandle<()>,
}

impl Reader {
    fn start(mut consumer: SimpleConsumer) -> Self {
        let (acked, failed) = (Arc::<Mutex<HashMap<_, _>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let control = consumer.control();
        let task = tokio::spawn({
            let (acked, failed) = (Arc::clone(&acked), Arc::clone(&failed));
            async move {
                while let Some(item) = consumer.next().await {
                    let delivery = item.expect("an outage is no error of the stream");
                    let body = text(delivery.message()).to_owned();
                    match delivery.ack().await {
                        Ok(()) => drop(acked.lock().expect("no panic").entry(body).or_insert_with(Instant::now)),
                        Err(error) => failed.lock().expect("no panic").push(format!("{body}: {error}")),
                    }
                }
            }
        });
        Self { acked, failed, control, task }
    }

    async fn wait_for(&self, body: &str, limit: Duration) -> Instant {
        let until = Instant::now() + limit;
        loop {
            if let Some(at) = self.acked.lock().expect("no panic").get(body) {
                return *at;
            }
            assert!(Instant::now() < until, "{body} was not acknowledged within {limit:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Until everything was read. What a connection or a server took along when it went comes again after its lease.
    async fn wait_for_all(&self, written: &Written) {
        let until = Instant::now() + LEASE + secs(60);
        for body in &written.stored {
            self.wait_for(body, until.saturating_duration_since(Instant::now())).await;
        }
    }

    async fn end(self) -> HashSet<String> {
        assert!(self.control.shutdown(secs(20)).await.complete);
        self.task.await.expect("no panic");
        assert_eq!(*self.failed.lock().expect("no panic"), [""; 0], "every lease had time left");
        let acked = self.acked.lock().expect("no panic");
        acked.keys().cloned().collect()
    }
}

/// Sends without a pause until it is told to stop; every send is answered.
struct Writer {
    stop: tokio::sync::watch::Sender<bool>,
    task: tokio::task::JoinHandle<Written>,
}

#[derive(Default)]
struct Written {
    stored: Vec<String>,
    /// Given back: perhaps stored.
    unknown: Vec<String>,
    /// Given back: not stored.
    refused: Vec<String>,
    /// The longest time between two sends that worked, and when it ended.
    longest_gap: (Duration, Option<Instant>),
}

impl Writer {
    fn start(producer: Producer, topic: String) -> Self {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let task = tokio::spawn(async move {
            let mut written = Written::default();
            let mut last = Instant::now();
            for n in 0.. {
                if *stopped.borrow() {
                    break;
                }
                let body = format!("w{n}");
                match producer.send(OutboundMessage::new(&topic, body.clone())).await {
                    Ok(_) => {
                        let now = Instant::now();
                        if now - last > written.longest_gap.0 {
                            written.longest_gap = (now - last, Some(now));
                        }
                        last = now;
                        written.stored.push(body);
                    }
                    Err(failed) if failed.may_have_been_stored() => written.unknown.push(body),
                    Err(failed) => {
                        assert!(failed.error().is_retryable() || failed.kind() == ErrorKind::NotFound, "{failed:?}");
                        written.refused.push(body);
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            written
        });
        Self { stop, task }
    }

    async fn end(self) -> Written {
        self.stop.send_replace(true);
        within(secs(150), "the last send", self.task).await.expect("no panic")
    }
}

/// What was written must have been read, nothing else, and nothing refused.
fn compare(written: &Written, read: &HashSet<String>) {
    for body in &written.stored {
        assert!(read.contains(body), "{body} was stored and not read");
    }
    let known: HashSet<_> = written.stored.iter().chain(&written.unknown).collect();
    for body in read.iter().filter(|body| body.starts_with('w')) {
        assert!(known.contains(body), "{body} was said not to be stored, and was read");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_is_killed_and_restarted_is_survived() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let Some(server) = Server::from_env() else { return };
    let client = server.client();
    let producer = client.producer().topic(&server.topic).build().await.expect("build");
    send_all(&producer, &server.topic, numbered(100)).await;
    let mut consumer = server.consuming(&client).build().await.expect("build");
    let held = take(&mut consumer, 50).await;
    let writer = Writer::start(producer.clone(), server.topic.clone());

    cluster_sh::run_aside(["kill", "proxy"]).await;
    // Acks that meet a dead port wait for it, as long as their leases last.
    let acks: Vec<_> = held.into_iter().map(Delivery::ack).collect();
    tokio::time::sleep(secs(3)).await;
    cluster_sh::run_aside(["start", "proxy"]).await;
    let back = Instant::now();
    for answer in within(secs(60), "all acks", join_all(acks)).await {
        answer.expect("every lease had time left");
    }
    let reader = Reader::start(consumer);
    let sent = within(SENDING, "a send", producer.send(OutboundMessage::new(&server.topic, "after"))).await;
    sent.expect("send");
    let sendable = Instant::now();
    reader.wait_for("after", READING).await;
    assert!(sendable - back < SENDING);
    tokio::time::sleep(secs(5)).await;
    let written = writer.end().await;
    reader.wait_for_all(&written).await;
    compare(&written, &reader.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_resumes_within_ten_seconds_of_the_proxys_port() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let Some(server) = Server::from_env() else { return };
    let client = server.client();
    let producer = client.producer().topic(&server.topic).build().await.expect("build");
    let mut consumer = server.consuming(&client).build().await.expect("build");
    send_all(&producer, &server.topic, numbered(200)).await;
    next(&mut consumer).await.ack().await.expect("ack");
    // The consumer is idle in a poll.
    cluster_sh::run_aside(["kill", "proxy"]).await;
    // Long enough for the back-off to have grown, and for the dead proxy's polls to have ended: they would take the message.
    tokio::time::sleep(secs(26)).await;
    server.store("waiting").await;
    let port = tokio::spawn(port_is_open(server.access_point.clone()));
    let reader = Reader::start(consumer);
    cluster_sh::run_aside(["start", "proxy"]).await;
    let opened = port.await.expect("no panic");
    let read = reader.wait_for("waiting", secs(30)).await;
    assert!(read - opened < READING, "read {:?} after the port was open", read - opened);
    let late = tokio::time::timeout(SENDING, producer.send(OutboundMessage::new(&server.topic, "late"))).await;
    late.expect("sends are back within 60 s").expect("send");
    reader.wait_for("late", READING).await;
    for body in numbered(200).skip(100) {
        reader.wait_for(&body, LEASE + secs(60)).await;
    }
}

async fn port_is_open(access_point: String) -> Instant {
    while tokio::net::TcpStream::connect(&access_point).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Instant::now()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_for_twenty_seconds_is_survived() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let Some(server) = Server::from_env() else { return };
    let client = server.client();
    let producer = client.producer().topic(&server.topic).build().await.expect("build");
    send_all(&producer, &server.topic, numbered(100)).await;
    let mut consumer = server.consuming(&client).build().await.expect("build");
    let held = take(&mut consumer, 50).await;
    let writer = Writer::start(producer.clone(), server.topic.clone());
    tokio::time::sleep(secs(6)).await; // offsets are flushed every 5 s: a kill loses those of the last moments
    cluster_sh::run_aside(["kill", "broker-a"]).await;
    let acks: Vec<_> = held.into_iter().map(Delivery::ack).collect();
    let reader = Reader::start(consumer);
    tokio::time::sleep(secs(20)).await;
    cluster_sh::run_aside(["start", "broker-a"]).await;
    let back = Instant::now();
    for answer in within(secs(100), "all acks", join_all(acks)).await {
        answer.expect("every lease had time left");
    }
    let sent = tokio::time::timeout(SENDING, producer.send(OutboundMessage::new(&server.topic, "after"))).await;
    sent.expect("sends are back within 60 s").expect("send");
    reader.wait_for("after", READING).await;
    assert!(back.elapsed() < SENDING + READING, "{:?}", back.elapsed());
    let written = writer.end().await;
    assert!(written.refused.len() + written.unknown.len() <= 2, "sends wait: {:?}", written.refused);
    assert!(written.longest_gap.0 < secs(20) + SENDING + secs(15), "no send for {:?}", written.longest_gap.0);
    reader.wait_for_all(&written).await;
    compare(&written, &reader.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_in_the_middle_of_acks_and_sends_lose_nothing() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let Some(server) = Server::from_env() else { return };
    let (relay, client) = server.relayed().await;
    let producer = client.producer().topic(&server.topic).build().await.expect("build");
    let reader = Reader::start(server.consuming(&client).build().await.expect("build"));
    let writer = Writer::start(producer.clone(), server.topic.clone());
    for _ in 0..10 {
        tokio::time::sleep(secs(2)).await;
        relay.cut();
    }
    relay.close();
    tokio::time::sleep(secs(5)).await;
    relay.open();
    let back = Instant::now();
    let sent = within(SENDING, "a send", producer.send(OutboundMessage::new(&server.topic, "after"))).await;
    sent.expect("send");
    let read = reader.wait_for("after", READING).await;
    assert!(read - back < SENDING, "{:?}", read - back);
    let written = writer.end().await;
    assert!(written.stored.len() > 100, "only {} sends in 25 s", written.stored.len());
    reader.wait_for_all(&written).await;
    compare(&written, &reader.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_whose_connection_is_frozen_is_sent_again_over_another() {
    let _turn = ONE_AT_A_TIME.lock().await;
    let Some(server) = Server::from_env() else { return };
    let (relay, client) = server.relayed().await;
    let producer = server.client().producer().build().await.expect("build");
    send_all(&producer, &server.topic, numbered(32)).await;
    let mut consumer = server.consuming(&client).build().await.expect("build");
    let deliveries = take(&mut consumer, 32).await;
    relay.freeze();
    let acks: Vec<_> = deliveries.into_iter().map(Delivery::ack).collect();
    tokio::time::sleep(secs(5)).await;
    relay.cut();
    relay.open();
    for answer in within(secs(60), "all acks", join_all(acks)).await {
        answer.expect("every lease had time left");
    }
}
