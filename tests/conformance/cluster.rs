//! The servers under test.

use std::fmt::Debug;

use rocketmq_stream::{Client, Producer};

use crate::admin::{self, Admin};
use crate::cluster_sh;
use crate::support::rig::{self, Rig};
use crate::support::{secs, unique};

/// A server with fresh topics and groups.
pub(crate) trait Cluster: Debug {
    fn access_point(&self) -> String;

    /// A NORMAL topic.
    fn topic(&self, queues: u32) -> String;

    fn fifo_topic(&self) -> String;

    fn group(&self) -> String;

    fn fifo_group(&self) -> String;

    /// A group that gives up a message after so many deliveries.
    fn group_with_attempts(&self, attempts: u32) -> String;

    fn client(&self) -> Client {
        Client::builder().access_point(self.access_point()).build().expect("a client")
    }
}

impl dyn Cluster + '_ {
    pub(crate) async fn producer(&self) -> Producer {
        self.client().producer().build().await.expect("a producer")
    }
}

/// The embedded broker, with Apache's limits.
#[derive(Debug)]
pub(crate) struct Embedded(Rig);

impl Embedded {
    pub(crate) async fn start() -> Self {
        Self(Rig::start(rig::builder()).await)
    }
}

impl Cluster for Embedded {
    fn access_point(&self) -> String {
        self.0.broker.access_point()
    }

    fn topic(&self, queues: u32) -> String {
        self.0.create_topic(queues)
    }

    fn fifo_topic(&self) -> String {
        self.0.create_fifo_topic(1)
    }

    fn group(&self) -> String {
        unique("group")
    }

    fn fifo_group(&self) -> String {
        self.0.create_fifo_group()
    }

    fn group_with_attempts(&self, attempts: u32) -> String {
        self.0.create_group_with_attempts(attempts)
    }
}

/// The server of `tests/apache/cluster.sh`.
#[derive(Debug)]
pub(crate) struct Apache {
    access_point: String,
    admin: Admin,
}

impl Apache {
    pub(crate) fn from_env() -> Option<Self> {
        let [access_point] = cluster_sh::from_env(["ACCESS_POINT"], "tests/apache/cluster.sh")?;
        Some(Self { access_point, admin: Admin::from_env().expect("the environment of cluster.sh") })
    }

    fn create_group(&self, change: impl FnOnce(admin::Group<'_>) -> admin::Group<'_>) -> String {
        let name = unique("group");
        self.admin.create_group(&change(admin::Group::new(&name))).expect("a group");
        name
    }
}

impl Cluster for Apache {
    fn access_point(&self) -> String {
        self.access_point.clone()
    }

    /// A starved server takes its time with the first requests; a repeated send would be stored twice.
    fn client(&self) -> Client {
        let builder = Client::builder().access_point(self.access_point()).request_timeout(secs(15));
        builder.build().expect("a client")
    }

    fn topic(&self, queues: u32) -> String {
        let name = unique("topic");
        self.admin.create_topic(&admin::Topic::new(&name).queues(queues)).expect("a topic");
        name
    }

    fn fifo_topic(&self) -> String {
        let name = unique("fifo-topic");
        self.admin.create_topic(&admin::Topic::new(&name).message_type("FIFO")).expect("a topic");
        name
    }

    fn group(&self) -> String {
        self.create_group(|group| group)
    }

    fn fifo_group(&self) -> String {
        self.create_group(|group| group.orderly())
    }

    fn group_with_attempts(&self, attempts: u32) -> String {
        self.create_group(|group| group.retry_max_times(attempts - 1))
    }
}
