//! Our pull consumers and Java's in one group: who reads what, and who is not let in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rocketmq_stream::{ErrorKind, Producer, PullConsumer, PullControl, PullEvent, StartFrom, StopAt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::official::Member;
use super::support::{PATIENCE, eventually};
use super::*;

/// Who read each message, in the order of reading.
type Readers = Arc<Mutex<BTreeMap<String, Vec<&'static str>>>>;

fn note(readers: &Readers, body: &str, reader: &'static str) {
    readers.lock().unwrap_or_else(PoisonError::into_inner).entry(body.to_owned()).or_default().push(reader);
}

/// A server with both ways in, for a group of pull consumers.
struct Mixed {
    server: Server,
    client: Client,
    topic: String,
    group: String,
    readers: Readers,
    producer: Producer,
    sent: usize,
}

impl Mixed {
    async fn on(server: Server, queues: u32) -> Self {
        let (topic, group) = (server.topic(queues), server.group());
        let producer = server.client().producer().topic(&topic).build().await.expect("build");
        let client = pulling_client(&server);
        Self { server, client, topic, group, readers: Readers::default(), producer, sent: 0 }
    }

    /// One of ours, in a task that reads and completes.
    async fn join(&self, name: &'static str) -> Ours {
        let builder = self.client.pull_consumer(&self.group).subscribe(&self.topic, Filter::all());
        let consumer = within(PATIENCE, "build", builder.start_from(StartFrom::Earliest).build()).await.expect("build");
        Ours::new(name, consumer, Arc::clone(&self.readers))
    }

    /// Java's, in a process of its own.
    fn join_java(&self, name: &'static str) -> Java {
        let arguments = ["--topic", &self.topic, "--group", &self.group, "--timeout-seconds", "300"];
        Java::new(name, self.server.official(Language::Java).join("pull-member", &arguments), Arc::clone(&self.readers))
    }

    /// Sends while the group is quiet: then each message has one reader.
    async fn read_once(&mut self, count: usize, readers: &[&'static str]) {
        let bodies: Vec<String> = (self.sent..self.sent + count).map(|n| format!("m{n}")).collect();
        self.sent += count;
        send_all(&self.producer, &self.topic, bodies.clone()).await;
        let seen = || self.readers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        eventually(secs(60), "all are read", || bodies.iter().all(|body| seen().contains_key(body))).await;
        // Time for a second reader to show.
        tokio::time::sleep(secs(2)).await;
        let seen = seen();
        let mut took_part: Vec<&str> = Vec::new();
        for body in &bodies {
            assert_eq!(seen[body].len(), 1, "{body} was read by {:?}", seen[body]);
            took_part.push(seen[body][0]);
        }
        took_part.sort_unstable();
        took_part.dedup();
        assert_eq!(took_part, readers);
    }
}

fn pulling_client(server: &Server) -> Client {
    let name_server = server.name_server.as_deref().expect("both ways in");
    Client::builder().access_point(&server.access_point).name_server(name_server).build().expect("a client")
}

struct Ours {
    control: PullControl,
    task: JoinHandle<()>,
}

impl Ours {
    fn new(name: &'static str, mut consumer: PullConsumer, readers: Readers) -> Self {
        let control = consumer.control();
        let task = tokio::spawn(async move {
            while let Some(batch) = consumer.next().await {
                let batch = batch.expect("a batch");
                batch.messages().iter().for_each(|message| note(&readers, text(message), name));
                batch.complete();
            }
        });
        Self { control, task }
    }

    fn queues(&self) -> BTreeSet<String> {
        self.control.assignment().iter().map(|(queue, _)| queue.to_string()).collect()
    }

    async fn leave(self) {
        self.control.shutdown(secs(10)).await.ignore();
        within(secs(20), "the stream ends", self.task).await.expect("no panic");
    }
}

struct Java {
    queues: Arc<Mutex<BTreeSet<String>>>,
    leave: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

impl Java {
    fn new(name: &'static str, mut member: Member, readers: Readers) -> Self {
        let queues = Arc::<Mutex<BTreeSet<String>>>::default();
        let (leave, mut left) = mpsc::channel(1);
        let held = Arc::clone(&queues);
        let hear = move |line: &Value| match string(line, "event") {
            "received" => note(&readers, string(line, "body"), name),
            "assigned" => {
                let names = line["queues"].as_array().expect("queues").iter().filter_map(Value::as_str);
                *held.lock().unwrap_or_else(PoisonError::into_inner) = names.map(str::to_owned).collect();
            }
            _ => {}
        };
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    line = member.next() => hear(&line.expect("it has not left")),
                    _ = left.recv() => return member.leave().await.iter().for_each(&hear),
                }
            }
        });
        Self { queues, leave, task }
    }

    fn queues(&self) -> BTreeSet<String> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn leave(self) {
        self.leave.send(()).await.expect("it runs");
        within(secs(60), "Java leaves", self.task).await.expect("no panic");
    }
}

/// Every queue has one reader, and the sizes of the shares are these.
async fn settled(what: &str, shares: &(dyn Fn() -> Vec<BTreeSet<String>> + Sync), sizes: &[usize]) {
    let is_settled = || {
        let shares = shares();
        let mut found: Vec<usize> = shares.iter().map(BTreeSet::len).collect();
        found.sort_unstable();
        let all: BTreeSet<String> = shares.into_iter().flatten().collect();
        found == sizes && all.len() == sizes.iter().sum::<usize>()
    };
    eventually(secs(60), format!("{what}: shares of {sizes:?}"), is_settled).await;
}

async fn p19_members_in_both_languages_share_a_group_and_every_message_is_read_once_while_they_come_and_go(
    server: Server,
) {
    let mut mixed = Mixed::on(server, 8).await;
    let java = mixed.join_java("java");
    settled("Java alone", &|| vec![java.queues()], &[8]).await;
    mixed.read_once(40, &["java"]).await;

    let first = mixed.join("first").await;
    settled("one of each", &|| vec![java.queues(), first.queues()], &[4, 4]).await;
    mixed.read_once(80, &["first", "java"]).await;

    // Two of one group in one client.
    let second = mixed.join("second").await;
    settled("three", &|| vec![java.queues(), first.queues(), second.queues()], &[2, 3, 3]).await;
    mixed.read_once(120, &["first", "java", "second"]).await;

    java.leave().await;
    settled("Java has left", &|| vec![first.queues(), second.queues()], &[4, 4]).await;
    mixed.read_once(80, &["first", "second"]).await;

    let java = mixed.join_java("java");
    settled("Java is back", &|| vec![java.queues(), first.queues(), second.queues()], &[2, 3, 3]).await;
    first.leave().await;
    settled("one of ours has left", &|| vec![java.queues(), second.queues()], &[4, 4]).await;
    mixed.read_once(80, &["java", "second"]).await;
    second.leave().await;
    settled("Java alone again", &|| vec![java.queues()], &[8]).await;
    mixed.read_once(40, &["java"]).await;
    java.leave().await;
}

async fn p19_a_member_beyond_the_queues_is_told_so_waits_and_takes_over_when_one_goes(server: Server) {
    let mut mixed = Mixed::on(server, 1).await;
    let ours = mixed.join("ours").await;
    settled("ours alone", &|| vec![ours.queues()], &[1]).await;
    let mut events = ours.control.events();
    // Its id begins with an address, and stands before ours.
    let java = mixed.join_java("java");
    settled("one queue for two", &|| vec![java.queues(), ours.queues()], &[0, 1]).await;
    let is_idle = async { while !matches!(events.next().await, Some(PullEvent::Idle { members: 2, queues: 1 })) {} };
    within(secs(20), "an event says that there is no queue", is_idle).await;
    mixed.read_once(20, &["java"]).await;
    java.leave().await;
    settled("ours alone again", &|| vec![ours.queues()], &[1]).await;
    mixed.read_once(20, &["ours"]).await;
    ours.leave().await;
}

async fn p21_a_group_that_javas_push_consumer_uses_is_refused_by_name_and_goes_on_undisturbed(server: Server) {
    let mixed = Mixed::on(server, 2).await;
    let arguments = ["--topic", &mixed.topic, "--group", &mixed.group, "--timeout-seconds", "300"];
    let mut push = mixed.server.official(Language::Java).join("push-member", &arguments);
    let started = push.next().await.expect("it starts");
    assert_eq!(string(&started, "event"), "started");
    let builder = mixed.client.pull_consumer(&mixed.group).subscribe(&mixed.topic, Filter::all());
    let refused = within(PATIENCE, "build", builder.start_from(StartFrom::Earliest).build()).await;
    let error = refused.expect_err("a push consumer is in the group");
    assert_eq!((error.kind(), error.group()), (ErrorKind::Precondition, Some(&*mixed.group)), "{error}");
    let text = error.to_string();
    assert!(text.contains("PullConsumer") && text.contains("PushConsumer"), "{text}");
    send_all(&mixed.producer, &mixed.topic, ["undisturbed"]).await;
    let received = within(secs(60), "Java gets it", push.next()).await.expect("it goes on");
    assert_eq!(string(&received, "body"), "undisturbed");
    push.leave().await;
}

/// Nobody of such a group sends heartbeats with its name, so the server has no `%RETRY%` topic of it, by which mqadmin finds
/// the brokers to ask. With the topic's name it needs none.
async fn mqadmin_shows_the_progress_of_a_group_that_only_shares_when_it_is_told_the_topic(server: Server) {
    let mixed = Mixed::on(server, 4).await;
    send_all(&mixed.producer, &mixed.topic, numbered(40)).await;
    let builder = mixed.client.pull_consumer(&mixed.group).subscribe(&mixed.topic, Filter::all()).share(0, 1);
    let builder = builder.start_from(StartFrom::Earliest).until(StopAt::Now);
    let mut consumer = within(PATIENCE, "build", builder.build()).await.expect("build");
    let mut read = 0;
    while let Some(batch) = within(PATIENCE, "the next batch or the end", consumer.next()).await {
        let batch = batch.expect("a batch");
        read += batch.len();
        batch.complete();
    }
    assert_eq!(read, 40);
    within(secs(10), "flush", consumer.control().flush()).await.expect("committed");
    send_all(&mixed.producer, &mixed.topic, ["one more"]).await;
    let admin = mixed.server.official(Language::Java);
    let progress = admin.mqadmin("consumerProgress", &["-g", &mixed.group, "-t", &mixed.topic]).await;
    assert!(progress.contains(&mixed.topic) && progress.contains("Consume Diff Total: 1"), "{progress}");
}

async fn r22_a_group_whose_members_subscribe_otherwise_is_refused(server: Server) {
    let mixed = Mixed::on(server, 2).await;
    let java = mixed.join_java("java");
    settled("Java alone", &|| vec![java.queues()], &[2]).await;
    let builder = mixed.client.pull_consumer(&mixed.group).subscribe(&mixed.topic, Filter::tag("paid"));
    let refused = within(PATIENCE, "build", builder.start_from(StartFrom::Earliest).build()).await;
    let error = refused.expect_err("other subscriptions");
    assert_eq!(error.kind(), ErrorKind::Precondition, "{error}");
    assert!(error.to_string().contains("(paid)") && error.to_string().contains("(*)"), "{error}");
    java.leave().await;
}

macro_rules! on_both {
    ($($name:ident)+) => {
        mod on_the_real_server {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(server) = Server::real() { super::$name(server).await; }
            })+
        }

        mod on_the_embedded_broker {
            use super::*;

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(server) = Server::embedded().await { super::$name(server).await; }
            })+
        }
    };
}

on_both! {
    p19_members_in_both_languages_share_a_group_and_every_message_is_read_once_while_they_come_and_go
    p19_a_member_beyond_the_queues_is_told_so_waits_and_takes_over_when_one_goes
    p21_a_group_that_javas_push_consumer_uses_is_refused_by_name_and_goes_on_undisturbed
    r22_a_group_whose_members_subscribe_otherwise_is_refused
    mqadmin_shows_the_progress_of_a_group_that_only_shares_when_it_is_told_the_topic
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqadmin_shows_our_members_their_offsets_and_their_state_and_resets_them() {
    let Some(server) = Server::real() else { return };
    let mut mixed = Mixed::on(server, 2).await;
    let ours = mixed.join("ours").await;
    mixed.read_once(10, &["ours"]).await;
    within(secs(10), "flush", ours.control.flush()).await.expect("committed");

    let admin = mixed.server.official(Language::Java);
    let connections = admin.mqadmin("consumerConnection", &["-g", &mixed.group]).await;
    assert!(connections.contains("rocketmq-stream@") && connections.contains("CONSUME_ACTIVELY"), "{connections}");
    let progress = admin.mqadmin("consumerProgress", &["-g", &mixed.group]).await;
    assert!(progress.contains(&mixed.topic) && progress.contains("Consume Diff Total: 0"), "{progress}");
    let id = connections.split_whitespace().find(|word| word.starts_with("rocketmq-stream@")).expect("our id");
    let status = admin.mqadmin("consumerStatus", &["-g", &mixed.group, "-i", id]).await;
    for part in ["PROP_CONSUMER_START_TIMESTAMP", "CONSUME_ACTIVELY", &mixed.topic, "broker-a"] {
        assert!(status.contains(part), "no {part} in {status}");
    }

    let reset = admin.mqadmin("resetOffsetByTime", &["-g", &mixed.group, "-t", &mixed.topic, "-s", "0"]).await;
    let again =
        || mixed.readers.lock().unwrap_or_else(PoisonError::into_inner).values().all(|readers| readers.len() == 2);
    eventually(secs(60), format!("all are read again after {reset}"), again).await;
    ours.leave().await;
}
