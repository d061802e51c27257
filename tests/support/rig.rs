//! An embedded broker and a client on it.

use rocketmq_stream::embedded::{Broker, BrokerBuilder, GroupOptions, TopicType};
use rocketmq_stream::{Client, ClientBuilder, Filter, Producer, SimpleConsumer, SimpleConsumerBuilder};

use super::{Calm, unique};

/// The topic that every rig has, with one queue on each broker.
pub(crate) const TOPIC: &str = "orders";
/// A group for it.
pub(crate) const GROUP: &str = "billing";

/// With [`TOPIC`], and Apache's limits.
pub(crate) fn builder() -> BrokerBuilder {
    Broker::builder().topic(TOPIC, 1)
}

/// Broker and client. The clock of the test is theirs too, also when it is paused.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) client: Client,
    pub(crate) broker: Broker,
    _calm: Calm,
}

impl Rig {
    pub(crate) async fn start(builder: BrokerBuilder) -> Self {
        Self::with(builder, |client| client).await
    }

    pub(crate) async fn with(builder: BrokerBuilder, change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        let broker = builder.start().await.expect("a broker");
        let client = Client::builder().access_point(broker.access_point());
        let client = change(client).build().expect("a client");
        Self { client, broker, _calm: Calm::default() }
    }

    pub(crate) async fn producer(&self) -> Producer {
        self.client.producer().build().await.expect("a producer")
    }

    /// Of [`GROUP`] on [`TOPIC`].
    pub(crate) fn consuming(&self) -> SimpleConsumerBuilder {
        self.client.simple_consumer(GROUP).subscribe(TOPIC, Filter::all())
    }

    pub(crate) async fn consumer(&self) -> SimpleConsumer {
        self.consuming().build().await.expect("a consumer")
    }

    /// A topic of its own.
    pub(crate) fn create_topic(&self, queues: u32) -> String {
        let name = unique("topic");
        self.broker.create_topic(&name, queues, TopicType::Normal).expect("a topic");
        name
    }

    pub(crate) fn create_fifo_topic(&self, queues: u32) -> String {
        let name = unique("fifo-topic");
        self.broker.create_topic(&name, queues, TopicType::Fifo).expect("a topic");
        name
    }

    pub(crate) fn create_fifo_group(&self) -> String {
        let name = unique("fifo-group");
        self.broker.create_group(GroupOptions::new(&name).fifo(true)).expect("a group");
        name
    }

    pub(crate) fn create_group_with_attempts(&self, attempts: u32) -> String {
        let name = unique("group");
        self.broker.create_group(GroupOptions::new(&name).max_attempts(attempts)).expect("a group");
        name
    }
}
