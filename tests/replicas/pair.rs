//! The master, its slave, and a topic on both.

use std::net::SocketAddr;
use std::sync::{Once, OnceLock};
use std::time::Duration;

use rocketmq_stream::{Client, Filter, MessageQueue, PullConsumerBuilder, StartFrom};

use crate::admin::{Admin, Outgoing, Queue, Topic};
use crate::cluster_sh;
use crate::support::{PATIENCE, secs, unique};

/// Has a broker answer like one with a backlog far beyond its memory: readers of anything but the end are sent to the slave.
/// It is the master that sends them there, so it must know that the slave may be read.
const ALL_IS_OLD: &str = "accessMessageInMemoryMaxRatio=0\nslaveReadEnable=true";
/// As a server has it by default.
const ALL_IS_RECENT: &str = "accessMessageInMemoryMaxRatio=40\nslaveReadEnable=true";
/// The slave gets a byte in a second.
const STARVED: &str = "haFlowControlEnable=true\nmaxHaTransferByteInSecond=1";
const FED: &str = "haFlowControlEnable=false\nmaxHaTransferByteInSecond=104857600";

/// What there are topics for.
const TESTS: [&str; 3] = ["follow", "lag", "master-away"];

/// A pull by the code that brokers check.
const PULL_MESSAGE: i32 = 11;
const TOPIC_NOT_EXIST: i32 = 17;

/// A master with its slave, and one queue of this test's own.
#[derive(Debug)]
pub(crate) struct Pair {
    name_server: String,
    pub(crate) topic: String,
}

/// How many messages each of the two has handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HandedOut {
    pub(crate) master: u64,
    pub(crate) slave: u64,
}

impl Pair {
    /// With the topic of one of the [`TESTS`].
    pub(crate) async fn from_env(test: &str) -> Option<Self> {
        let start = "SLAVE=1 PROXY=0 tests/apache/cluster.sh";
        let [name_server, _] = cluster_sh::from_env(["NAME_SERVER", "SLAVE_BROKER"], start)?;
        let pair = Self { name_server, topic: topic_of(test) };
        pair.work(|pair| {
            static TOPICS: Once = Once::new();
            TOPICS.call_once(|| pair.create_topics());
            pair.configure_both(ALL_IS_RECENT);
            pair.configure_both(FED);
        })
        .await;
        Some(pair)
    }

    /// All at once: a slave copies its master's topics every minute, and knows nothing of them until then.
    fn create_topics(&self) {
        for topic in TESTS.map(topic_of) {
            self.admin().create_topic(&Topic::new(&topic).queues(1)).expect("a topic");
        }
        let group = unique("looks");
        let ask = |topic: &str| self.admin().pull_as(("", ""), PULL_MESSAGE, &group, topic, &Self::queue_at_slave());
        wait_until("the slave knows the topics", || {
            TESTS.map(topic_of).iter().all(|topic| ask(topic).expect("an answer of the slave").0 != TOPIC_NOT_EXIST)
        });
    }

    /// The master's address now: it may have moved.
    fn master() -> SocketAddr {
        let said = cluster_sh::run(&["env"]);
        let address = said.lines().find_map(|line| line.strip_prefix("export BROKER=")).expect("a master");
        address.parse().expect("an address")
    }

    fn slave() -> SocketAddr {
        cluster_sh::variable("SLAVE_BROKER").parse().expect("an address")
    }

    fn admin(&self) -> Admin {
        Admin::new(self.name_server.parse().expect("an address"), vec![Self::master()], None)
    }

    fn queue() -> Queue {
        Queue { broker_name: "broker-a".to_owned(), broker: Self::master(), id: 0 }
    }

    fn queue_at_slave() -> Queue {
        Queue { broker: Self::slave(), ..Self::queue() }
    }

    /// The queue as consumers call it.
    pub(crate) fn message_queue(&self) -> MessageQueue {
        MessageQueue::new(&*self.topic, "broker-a", 0)
    }

    /// Fixtures block.
    async fn work<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> T + Send + 'static) -> T {
        let pair = Self { name_server: self.name_server.clone(), topic: self.topic.clone() };
        tokio::task::spawn_blocking(move || work(&pair)).await.expect("no panic")
    }

    fn configure_both(&self, settings: &str) {
        for broker in [Self::master(), Self::slave()] {
            self.admin().configure(broker, settings).expect("configured");
        }
    }

    /// Stores so many messages; their bodies.
    pub(crate) async fn store(&self, count: usize) -> Vec<String> {
        let bodies: Vec<String> = (0..count).map(|_| format!("{:<1024}", unique("m"))).collect();
        let outgoing = bodies.iter().map(|body| Outgoing { body: body.clone().into_bytes(), ..Outgoing::default() });
        let outgoing: Vec<_> = outgoing.collect();
        self.work(move |pair| {
            pair.admin().send(&pair.topic, &Self::queue(), &outgoing).expect("stored");
        })
        .await;
        bodies
    }

    /// Until the slave has what the master has.
    pub(crate) async fn replicated(&self) {
        let wait = |pair: &Self| {
            let end = pair.end(&Self::queue());
            wait_until("the slave has it all", || pair.end(&Self::queue_at_slave()) >= end);
        };
        self.work(wait).await;
    }

    fn end(&self, queue: &Queue) -> i64 {
        self.admin().max_offset(&self.topic, queue).expect("an offset")
    }

    /// How many messages the slave has of the queue.
    pub(crate) async fn slave_has(&self) -> usize {
        self.work(|pair| usize::try_from(pair.end(&Self::queue_at_slave())).expect("an offset")).await
    }

    /// Readers of anything but the end are sent to the slave.
    pub(crate) async fn send_readers_to_slave(&self) {
        self.work(|pair| pair.configure_both(ALL_IS_OLD)).await;
    }

    /// And all of them to the master.
    pub(crate) async fn send_readers_to_master(&self) {
        self.work(|pair| pair.configure_both(ALL_IS_RECENT)).await;
    }

    /// From now on the slave gets nothing to speak of.
    pub(crate) async fn starve_slave(&self) {
        self.work(|pair| pair.admin().configure(Self::master(), STARVED).expect("configured")).await;
    }

    pub(crate) async fn feed_slave(&self) {
        self.work(|pair| pair.admin().configure(Self::master(), FED).expect("configured")).await;
    }

    pub(crate) async fn handed_out(&self) -> HandedOut {
        let of = |pair: &Self, broker| pair.admin().handed_out(broker).expect("a number");
        self.work(move |pair| HandedOut { master: of(pair, Self::master()), slave: of(pair, Self::slave()) }).await
    }

    pub(crate) async fn handed_out_by_slave(&self) -> u64 {
        self.work(|pair| pair.admin().handed_out(Self::slave()).expect("a number")).await
    }

    /// What the group has committed, as the master says.
    pub(crate) async fn committed(&self, group: &str) -> Option<i64> {
        let group = group.to_owned();
        let ask = move |pair: &Self| pair.admin().committed_offset(&group, &pair.topic, &Self::queue());
        self.work(ask).await.expect("an answer of the master")
    }

    /// As a crash does.
    pub(crate) async fn kill_master(&self) {
        cluster_sh::run_aside(["kill", "broker-a"]).await;
    }

    /// Its store at another port: what a machine that took over its disk looks like. Returns when routes show it.
    pub(crate) async fn bring_master_back_elsewhere(&self) {
        let bring = |pair: &Self| {
            let before = Self::master();
            cluster_sh::run(&["move", "broker-a"]);
            assert_ne!(Self::master(), before);
            pair.admin().await_queues(&pair.topic, 1).expect("a route");
        };
        self.work(bring).await;
    }

    /// A member of a group that no broker has heard of.
    pub(crate) fn member(&self, group: &str) -> PullConsumerBuilder {
        let client = Client::builder().name_server(&self.name_server).build().expect("a client");
        let builder = client.pull_consumer(group).start_from(StartFrom::Earliest);
        builder.subscribe(&self.topic, Filter::all()).commit_interval(secs(1))
    }
}

fn topic_of(test: &str) -> String {
    static PREFIX: OnceLock<String> = OnceLock::new();
    format!("{}-{test}", PREFIX.get_or_init(|| unique("topic")))
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(std::time::Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
