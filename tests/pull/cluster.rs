//! The servers under test, each by one way in.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;

use rocketmq_stream::embedded::Broker;
use rocketmq_stream::{Client, Filter, MessageQueue, Offset, PullConsumerBuilder, StartFrom};
use tokio::sync::Barrier;

use crate::admin::{self, Admin, Outgoing};
use crate::cluster_sh;
use crate::support::{secs, unique};

/// How a consumer reaches the queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The pull RPCs of a proxy that serves them.
    Grpc,
    /// Name server and brokers.
    Remoting,
    /// A proxy's remoting port.
    Proxy,
}

/// Two brokers, with topics and groups of this test's own. Fixtures are made over remoting, whatever the way in.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) way: Way,
    access_point: String,
    name_server: Option<String>,
    admin: Admin,
    /// Of the embedded cluster: it lives as long as this.
    broker: Option<Broker>,
    /// Of the real one.
    outage: Option<Arc<Outage>>,
}

/// One outage of the real server's second broker for several scenarios: each waits until all have come so far.
#[derive(Debug)]
pub(crate) struct Outage(Barrier);

impl Outage {
    pub(crate) fn of(scenarios: usize) -> Arc<Self> {
        Arc::new(Self(Barrier::new(scenarios)))
    }

    async fn together(&self, verb: &'static str) {
        if self.0.wait().await.is_leader() {
            cluster_sh::run_aside([verb, "broker-b"]).await;
        }
        self.0.wait().await;
    }
}

/// What goes into a queue, and where it came to lie.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stored {
    pub(crate) queue: MessageQueue,
    pub(crate) offset: Offset,
    pub(crate) body: String,
}

impl Cluster {
    pub(crate) async fn embedded(way: Way) -> Self {
        let broker = Broker::builder().brokers(2).start().await.expect("a broker");
        let name_server = broker.name_server();
        let admin = Admin::new(name_server.parse().expect("one address"), broker.broker_addresses(), None);
        Self {
            way,
            access_point: broker.access_point(),
            name_server: (way == Way::Remoting).then_some(name_server),
            admin,
            broker: Some(broker),
            outage: None,
        }
    }

    /// The server of `tests/apache/cluster.sh`, started with `BROKERS=2`.
    pub(crate) fn apache(way: Way) -> Option<Self> {
        let [access_point] = cluster_sh::from_env(["ACCESS_POINT"], "BROKERS=2 tests/apache/cluster.sh")?;
        assert!(env::var_os("BROKER_B").is_some(), "there is one broker: start the server with BROKERS=2");
        let name_server = cluster_sh::variable(if way == Way::Proxy { "PROXY_REMOTING" } else { "NAME_SERVER" });
        Some(Self {
            way,
            access_point,
            name_server: Some(name_server),
            admin: Admin::from_env().expect("the environment of cluster.sh"),
            broker: None,
            outage: None,
        })
    }

    /// Blocking work, beside the runtime that the embedded broker needs. A paused clock waits for it.
    pub(crate) async fn admin<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Admin) -> Result<T, admin::AdminError> + Send + 'static,
    ) -> T {
        let admin = self.admin.clone();
        let done = tokio::task::spawn_blocking(move || work(&admin)).await.expect("no panic");
        done.unwrap_or_else(|error| panic!("{error}"))
    }

    /// With its part in an outage.
    pub(crate) fn during(self, outage: &Arc<Outage>) -> Self {
        Self { outage: Some(Arc::clone(outage)), ..self }
    }

    fn outage(&self) -> &Outage {
        self.outage.as_ref().expect("this scenario was not told of an outage")
    }

    /// Kills the second broker; the real one by SIGKILL.
    pub(crate) async fn kill_broker_b(&self) {
        match &self.broker {
            Some(broker) => broker.stop_broker(1),
            None => self.outage().together("kill").await,
        }
    }

    /// Returns when it serves again, and routes show it.
    pub(crate) async fn start_broker_b(&self, topic: &str, queues: usize) {
        match &self.broker {
            Some(broker) => {
                broker.start_broker(1);
                tokio::time::sleep(secs(1)).await; // a paused clock stands while fixtures are made
            }
            None => self.outage().together("start").await,
        }
        let topic = topic.to_owned();
        self.admin(move |admin| admin.await_queues(&topic, queues)).await;
    }

    /// With an access point for its producers, and a name server where that is the way in.
    pub(crate) fn client(&self) -> Client {
        let mut builder = Client::builder().access_point(&self.access_point).request_timeout(secs(15));
        if let Some(name_server) = &self.name_server {
            builder = builder.name_server(name_server);
        }
        builder.build().expect("a client")
    }

    /// A NORMAL topic with so many queues on each of the two brokers.
    pub(crate) async fn topic(&self, queues: u32) -> String {
        let name = unique("topic");
        self.grow(&name, queues).await;
        name
    }

    /// Makes the topic if it is not there. Returns when name server and proxy show the new queues.
    pub(crate) async fn grow(&self, topic: &str, queues: u32) {
        let topic = topic.to_owned();
        self.admin(move |admin| admin.create_topic(&admin::Topic::new(&topic).queues(queues))).await;
    }

    /// A group that exists on every broker, as an administrator makes it.
    pub(crate) async fn group(&self) -> String {
        let name = unique("group");
        let group = name.clone();
        self.admin(move |admin| admin.create_group(&admin::Group::new(&group))).await;
        name
    }

    async fn places(&self, topic: &str) -> BTreeMap<MessageQueue, admin::Queue> {
        let name = topic.to_owned();
        let places = self.admin(move |admin| admin.queues(&name)).await;
        let named = places.into_iter().map(|place| (MessageQueue::new(topic, &*place.broker_name, place.id), place));
        named.collect()
    }

    /// The queues of a topic, in order.
    pub(crate) async fn queues(&self, topic: &str) -> Vec<MessageQueue> {
        self.places(topic).await.into_keys().collect()
    }

    async fn place(&self, queue: &MessageQueue) -> admin::Queue {
        self.places(queue.topic()).await.remove(queue).expect("it exists")
    }

    /// Stores messages in one queue.
    pub(crate) async fn put(&self, queue: &MessageQueue, messages: Vec<Outgoing>) -> Vec<Stored> {
        let (place, topic) = (self.place(queue).await, queue.topic().to_owned());
        let sent = messages.clone();
        let offsets = self.admin(move |admin| admin.send(&topic, &place, &sent)).await;
        let stored = offsets.into_iter().zip(messages).map(|(offset, message)| Stored {
            queue: queue.clone(),
            offset: Offset::new(u64::try_from(offset).expect("an offset")),
            body: String::from_utf8_lossy(&message.body).into_owned(),
        });
        stored.collect()
    }

    /// Stores so many messages in each queue of the topic; bodies differ also between calls.
    pub(crate) async fn fill(&self, topic: &str, each: usize) -> Vec<Stored> {
        let mut stored = Vec::new();
        for queue in self.queues(topic).await {
            stored.extend(self.put(&queue, plain(each)).await);
        }
        stored
    }

    /// The end of each queue, as the brokers say.
    pub(crate) async fn ends(&self, topic: &str) -> BTreeMap<MessageQueue, Offset> {
        let (places, name) = (self.places(topic).await, topic.to_owned());
        let ask = move |admin: &Admin| {
            let end = |(queue, place): (MessageQueue, admin::Queue)| {
                Ok((queue, Offset::new(admin.max_offset(&name, &place)?.cast_unsigned())))
            };
            places.into_iter().map(end).collect()
        };
        self.admin(ask).await
    }

    /// What the group has committed, as the broker says.
    pub(crate) async fn committed(&self, group: &str, queue: &MessageQueue) -> Option<Offset> {
        let (group, place, topic) = (group.to_owned(), self.place(queue).await, queue.topic().to_owned());
        let committed = self.admin(move |admin| admin.committed_offset(&group, &topic, &place)).await;
        committed.map(|offset| Offset::new(offset.cast_unsigned()))
    }

    /// Overwrites what the group has committed: what another program does, or a broker that was killed.
    pub(crate) async fn overwrite(&self, group: &str, queue: &MessageQueue, next: Offset) {
        let (group, place, topic) = (group.to_owned(), self.place(queue).await, queue.topic().to_owned());
        let next = next.get().cast_signed();
        self.admin(move |admin| admin.set_offset(&group, &topic, &place, next)).await;
    }

    /// Resets the group, as an administrator does.
    pub(crate) async fn reset(&self, group: &str, queue: &MessageQueue, to: Offset) {
        let (group, place, topic) = (group.to_owned(), self.place(queue).await, queue.topic().to_owned());
        let to = to.get().cast_signed();
        self.admin(move |admin| admin.reset_offset(&group, &topic, &place, to)).await;
    }

    /// A consumer that reads all queues of a topic and takes no part in the group's sharing: that works on every way in.
    pub(crate) fn reading(&self, group: &str, topic: &str) -> PullConsumerBuilder {
        self.pulling(group).subscribe(topic, Filter::all()).share(0, 1)
    }

    /// With patience for a starved server, and from the beginning.
    pub(crate) fn pulling(&self, group: &str) -> PullConsumerBuilder {
        self.client().pull_consumer(group).start_from(StartFrom::Earliest).build_timeout(secs(60))
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.broker.is_some()
    }

    /// Whether consumers of a group can share its queues among themselves, this way in.
    pub(crate) fn shares(&self) -> bool {
        self.way != Way::Grpc
    }
}

/// Messages with bodies of their own.
pub(crate) fn plain(count: usize) -> Vec<Outgoing> {
    (0..count).map(|_| Outgoing { body: unique("m").into_bytes(), ..Outgoing::default() }).collect()
}

/// The same, with a property.
pub(crate) fn with(count: usize, name: &str, value: &str) -> Vec<Outgoing> {
    let property = (name.to_owned(), value.to_owned());
    plain(count).into_iter().map(|one| Outgoing { properties: vec![property.clone()], ..one }).collect()
}
