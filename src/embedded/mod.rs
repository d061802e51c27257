//! A RocketMQ cluster in this process: in memory, on loopback, speaking the real gRPC and remoting protocols.
//!
//! It is for first steps and for tests. Everything a client of RocketMQ 5 does with normal messages works as on Apache
//! RocketMQ 5.5.0: receiving under leases, redelivery, dead letters, TAG and SQL92 filters, long polling, ordered groups,
//! delayed messages, limits and error codes. It is not a server: nothing is written to disk.
//!
//! ```
//! # async fn example() -> rocketmq_stream::Result<()> {
//! use rocketmq_stream::embedded::{Broker, GroupOptions};
//!
//! let broker = Broker::builder()
//!     .topic("orders", 8)
//!     .group(GroupOptions::new("billing").max_attempts(3))
//!     .start()
//!     .await?;
//! println!("listens at {}", broker.access_point());
//! // … point clients there …
//! assert_eq!(broker.in_flight("billing", "orders"), 0);
//! broker.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it does not serve
//!
//! Transactions (a send of a transactional message answers NOT_IMPLEMENTED), lite topics and priorities.
//!
//! # Pulling
//!
//! The gRPC pull RPCs work as on the rocketmq-rust proxy; Apache's has none of them:
//! [`grpc_pull(false)`](BrokerBuilder::grpc_pull) is Apache.
//!
//! The remoting protocol is served on ports of its own: name servers at [`Broker::name_server`], and one port for each broker,
//! which routes name. Java's `DefaultLitePullConsumer`, `DefaultMQProducer` and `mqadmin` work with it, and so does what they
//! rely on: routes, pulls that wait, offsets, searches by time, heartbeats, consumer lists and their notices, statistics, resets
//! of offsets, questions to a client by way of its broker. Receiving and acknowledging is for gRPC only, and so are groups of
//! Java's remoting PushConsumer beyond their heartbeats and pulls. A request that is not known is answered with code 3.
//!
//! Pulls commit to offsets of their own: what a group has received under leases moves nothing there.
//!
//! ```
//! # async fn example() -> rocketmq_stream::Result<()> {
//! use rocketmq_stream::embedded::Broker;
//! use rocketmq_stream::{MessageQueue, Offset, OutboundMessage};
//!
//! let broker = Broker::builder().topic("orders", 4).brokers(2).start().await?;
//! println!("name server: {}", broker.name_server());
//! let queue = MessageQueue::new("orders", "broker-b", 3);
//! broker.append(&queue, OutboundMessage::new("orders", "by hand"))?; // no producer is needed
//! broker.expire(&queue, Offset::new(1))?; // its time is over
//! assert_eq!(broker.offsets(&queue), Some(Offset::new(1)..Offset::new(1)));
//! # Ok(())
//! # }
//! ```
//!
//! # Where a consumer group starts
//!
//! As on Apache: a group that is new to a **young** topic, whose first message is still there, reads it from the beginning. A
//! group that is new to an **old** topic starts at the **last** message of each queue. A topic grows old when its oldest
//! messages are dropped, or by [`Broker::mark_old`].
//!
//! # Time
//!
//! The cluster reads the time of day once and then follows Tokio's clock: on a current-thread runtime whose clock is paused, its
//! leases and polls follow that clock. Run broker and clients on the same runtime then.
//!
//! # Faults
//!
//! [`Broker::faults`] makes requests go wrong by script; [`Broker::stop_proxy`], [`Broker::stop_broker`] and
//! [`Broker::expire_leases`] make parts of the cluster go away.

mod arrivals;
mod builder;
mod clients;
mod cluster;
pub(crate) mod engine;
mod fault;
mod grpc;
mod hold;
mod inspect;
mod parts;
mod pollers;
mod queues;
mod remoting;
mod reserved;
mod settings;
mod socket;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "plain.rs"]
mod tls;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;

pub use builder::{BrokerBuilder, GroupOptions};
use cluster::Cluster;
use engine::Engine;
pub use engine::TopicType;
pub use fault::{Fault, FaultBuilder, Faults, Rpc};
use grpc::listener::serve;
pub use inspect::{Stats, StoredMessage};
use parts::Remoting;
use socket::Connections;

use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{check_group, check_topic};
use crate::proto;
use crate::proto::telemetry_command::Command;
use crate::task::TaskGroup;

/// How long ending a task may take.
const STOP: Duration = Duration::from_secs(5);

/// How long a client may take to answer a command; Apache's proxy waits as long.
const COMMAND: Duration = Duration::from_secs(5);

/// A running cluster. Dropping it stops it.
pub struct Broker {
    cluster: Arc<Cluster>,
    addresses: Vec<SocketAddr>,
    proxies: Vec<Mutex<Option<Running>>>,
    remoting: Option<Remoting>,
    tasks: TaskGroup,
}

/// A proxy that listens. Dropping it closes the port and cuts its connections.
struct Running {
    connections: Connections,
    tasks: TaskGroup,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.connections.cut();
    }
}

impl Broker {
    /// A cluster for first steps: one broker, one proxy on a free port of 127.0.0.1, and **topics that are created when they
    /// are first used**, with 8 queues for normal messages. Over gRPC Apache RocketMQ creates no topics;
    /// [`builder`](Self::builder) does as Apache does.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when no port can be listened on.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub async fn start() -> Result<Self> {
        Self::builder().auto_create_topics(true).start().await
    }

    /// Builds a cluster with Apache's defaults.
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::default()
    }

    async fn launch(builder: BrokerBuilder, engine: Engine) -> Result<Self> {
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for index in 0..builder.proxies {
            let address = nth("grpc", builder.grpc, index)?;
            let listener = listen(address).await?;
            addresses.push(listener.local_addr().map_err(|e| cannot_listen("grpc", address, e))?);
            listeners.push(listener);
        }
        let doors = parts::Doors::open(&builder)?;
        let ports = addresses.iter().map(SocketAddr::port).collect();
        let brokers = doors.as_ref().map(parts::Doors::broker_addresses).unwrap_or_default();
        let cluster = Arc::new(Cluster::new(builder.config, engine, ports, brokers));
        let tasks = TaskGroup::new();
        tasks.spawn("embedded broker: timers", Arc::clone(&cluster).run_timers());
        let remoting = doors.map(|doors| Remoting::start(doors, &cluster, &tasks));
        let proxies = addresses.iter().map(|_| Mutex::new(None)).collect();
        let broker = Self { cluster, addresses, proxies, remoting, tasks };
        for (proxy, listener) in listeners.into_iter().enumerate() {
            broker.run(proxy, listener);
        }
        Ok(broker)
    }

    fn run(&self, proxy: usize, listener: TcpListener) {
        let (connections, tasks) = (Connections::default(), TaskGroup::new());
        let service = grpc::Proxy { cluster: Arc::clone(&self.cluster), index: proxy };
        tasks.spawn("embedded broker: proxy", serve(service, listener, connections.clone()));
        *self.slot(proxy) = Some(Running { connections, tasks });
    }

    fn slot(&self, proxy: usize) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.proxies[proxy].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What clients are given: `host:port`, and with several proxies all of them, separated by `;`.
    #[must_use]
    pub fn access_point(&self) -> String {
        let addresses: Vec<_> = self.addresses().iter().map(ToString::to_string).collect();
        addresses.join(";")
    }

    /// Where the proxies listen. A proxy on all interfaces is named by its loopback address.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.addresses.iter().copied().map(reachable).collect()
    }

    /// The name servers, for clients of the remoting protocol: `host:port`, and with several all of them, separated by `;`.
    /// Empty when the cluster was built [`without_remoting`](BrokerBuilder::without_remoting).
    #[must_use]
    pub fn name_server(&self) -> String {
        let addresses = self.remoting.iter().flat_map(Remoting::name_servers).map(|address| address.to_string());
        addresses.collect::<Vec<_>>().join(";")
    }

    /// Where the brokers listen for clients of the remoting protocol, by their number; routes name them.
    #[must_use]
    pub fn broker_addresses(&self) -> Vec<SocketAddr> {
        self.cluster.broker_addresses.clone()
    }

    /// Creates a topic with this many queues on each broker, or changes the type of one that exists; its queues stay.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) for a bad name or number of queues.
    pub fn create_topic(&self, name: &str, queues: u32, kind: TopicType) -> Result<()> {
        check_topic(name, &self.cluster.config.limits)?;
        builder::check_queues(queues)?;
        self.cluster.with(|engine, _| engine.create_topic(name, queues, kind));
        Ok(())
    }

    /// Creates a consumer group, or replaces its options. Clients hear of it with their next settings.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) for a bad name or no attempts.
    pub fn create_group(&self, group: impl Into<GroupOptions>) -> Result<()> {
        let group = group.into();
        check_group(&group.name, &self.cluster.config.limits)?;
        builder::check_attempts(&group)?;
        self.cluster.with(|engine, _| engine.create_group(&group.name, group.config));
        Ok(())
    }

    /// Makes a topic old: a group that reads it for the first time starts at the last message of each queue.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when there is no such topic.
    pub fn mark_old(&self, topic: &str) -> Result<()> {
        if self.cluster.with(|engine, _| engine.mark_old(topic)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, format!("mark_old `{topic}`: there is no such topic")).on_topic(topic))
    }

    /// The script of what goes wrong.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.cluster.faults
    }

    /// Ends every lease now, as if its invisible duration were over. Returns how many there were.
    pub fn expire_leases(&self) -> usize {
        self.cluster.with(|engine, now| engine.expire_leases(now))
    }

    /// Asks a client for its threads, as an administrator would, over its telemetry stream.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when no proxy knows the client, [`Timeout`](ErrorKind::Timeout) when it does not answer
    /// within 5 s.
    pub async fn thread_stack_trace(&self, client_id: &str) -> Result<String> {
        let nonce = format!("{:016x}", fastrand::u64(..));
        let answer = self.cluster.asked.ask(&nonce);
        self.command(client_id, Command::PrintThreadStackTraceCommand(proto::PrintThreadStackTraceCommand { nonce }))?;
        let answer = clock::timeout(COMMAND, answer).await.and_then(Result::ok);
        let text = format!("print thread stack trace of client `{client_id}`: no answer within {COMMAND:?}");
        answer.ok_or_else(|| Error::new(ErrorKind::Timeout, text))
    }

    /// Tells a client to connect anew (`reconnect_endpoints_command`).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when no proxy knows the client.
    pub fn reconnect_endpoints(&self, client_id: &str) -> Result<()> {
        let nonce = format!("{:016x}", fastrand::u64(..));
        self.command(client_id, Command::ReconnectEndpointsCommand(proto::ReconnectEndpointsCommand { nonce }))
    }

    /// Through the first proxy that has an open stream of the client.
    fn command(&self, client_id: &str, command: Command) -> Result<()> {
        let command = proto::TelemetryCommand { status: None, command: Some(command) };
        let mut streams = self.cluster.clients.iter().filter_map(|clients| clients.commands(client_id));
        if streams.any(|commands| commands.try_send(command.clone()).is_ok()) {
            return Ok(());
        }
        let text = format!("command to client `{client_id}`: no proxy has an open telemetry stream of it");
        Err(Error::new(ErrorKind::NotFound, text))
    }

    /// Stops everything and waits for the end.
    pub async fn shutdown(self) {
        for proxy in 0..self.proxies.len() {
            self.close(proxy).await;
        }
        self.remoting.iter().for_each(Remoting::stop);
        if !self.tasks.shutdown(STOP).await {
            tracing::warn!("a task of the embedded broker did not end within {STOP:?}");
        }
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("access_point", &self.access_point()).finish_non_exhaustive()
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| cannot_listen("grpc", address, error))
}

fn cannot_listen(field: &str, address: SocketAddr, error: std::io::Error) -> Error {
    Error::config(field, address, "cannot listen there; choose a free port, or 0 for any").with_source(error)
}

/// The address that lies `index` ports behind; any free one behind port 0.
fn nth(field: &str, first: SocketAddr, index: usize) -> Result<SocketAddr> {
    if first.port() == 0 {
        return Ok(first);
    }
    let port = u16::try_from(usize::from(first.port()) + index);
    let port = port.map_err(|_| Error::config(field, first, "no ports are left behind it for all that listen"))?;
    Ok(SocketAddr::new(first.ip(), port))
}

/// An address on all interfaces is reached by its loopback address.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
        _ => address,
    }
}

#[cfg(test)]
mod tests;
