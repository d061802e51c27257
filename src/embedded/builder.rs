//! What a cluster is made of.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::Broker;
use super::engine::{Engine, EngineConfig, GroupConfig, Millis, TopicType};
use super::settings::ServerConfig;
use crate::error::{Error, Result};
use crate::model::{Credentials, check_group, check_topic};

/// Most brokers or proxies of one cluster: it is one process.
const MAX_PARTS: usize = 64;

/// Most queues of a topic on one broker, as on Apache.
const MAX_QUEUES: u32 = 1000;

/// The options of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOptions {
    pub(crate) name: String,
    pub(crate) config: GroupConfig,
}

impl GroupOptions {
    /// A group with Apache's defaults: not ordered, 17 delivery attempts.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), config: GroupConfig::default() }
    }

    /// Deliver each queue in order (`consumeMessageOrderly`). Defaults to false.
    #[must_use]
    pub fn fifo(mut self, fifo: bool) -> Self {
        self.config.fifo = fifo;
        self
    }

    /// How often a message is delivered before it goes to the dead-letter queue. Defaults to 17: Apache's 16 retries.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.config.max_attempts = attempts;
        self
    }
}

impl<T: Into<String>> From<T> for GroupOptions {
    fn from(name: T) -> Self {
        Self::new(name)
    }
}

/// Builds a [`Broker`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `start`"]
pub struct BrokerBuilder {
    pub(crate) config: ServerConfig,
    pub(crate) grpc: SocketAddr,
    pub(crate) proxies: usize,
    /// Where the first name server listens; `None`: there is no remoting.
    pub(crate) remoting: Option<SocketAddr>,
    pub(crate) name_servers: usize,
    engine: EngineConfig,
    topics: Vec<(String, u32, TopicType)>,
    groups: Vec<GroupOptions>,
    #[cfg(feature = "tls")]
    tls: Option<Pem>,
}

/// A certificate chain and its key.
#[cfg(feature = "tls")]
#[derive(Clone)]
struct Pem {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

#[cfg(feature = "tls")]
impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pem").finish_non_exhaustive()
    }
}

impl Default for BrokerBuilder {
    fn default() -> Self {
        Self {
            config: ServerConfig::default(),
            grpc: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            proxies: 1,
            remoting: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)),
            name_servers: 1,
            engine: EngineConfig { brokers: 1, queue_bytes: 256 << 20, route_expiry: 10_000, type_cache_delay: 0 },
            topics: Vec::new(),
            groups: Vec::new(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl BrokerBuilder {
    /// Creates a topic for normal messages with this many queues on each broker.
    pub fn topic(self, name: impl Into<String>, queues: u32) -> Self {
        self.typed_topic(name, queues, TopicType::Normal)
    }

    /// Creates a topic of a type, with this many queues on each broker.
    pub fn typed_topic(mut self, name: impl Into<String>, queues: u32, kind: TopicType) -> Self {
        self.topics.push((name.into(), queues, kind));
        self
    }

    /// Creates a consumer group: a name, or [`GroupOptions`]. Groups that are not named here come into being when they are
    /// first used, with the defaults.
    pub fn group(mut self, group: impl Into<GroupOptions>) -> Self {
        self.groups.push(group.into());
        self
    }

    /// Creates a topic of 8 queues for normal messages when somebody asks for its route or sends to it. Defaults to false: a
    /// topic that does not exist is TOPIC_NOT_FOUND, as over gRPC on Apache RocketMQ.
    pub fn auto_create_topics(mut self, auto_create: bool) -> Self {
        self.config.auto_create_topics = auto_create;
        self
    }

    /// Whether the proxies serve pulling by offset: the RPCs PullMessage, GetOffset, UpdateOffset and QueryOffset, with the
    /// semantics of the rocketmq-rust proxy, and clients of the type PULL_CONSUMER. Defaults to true, so that a pull
    /// consumer needs no second address. `false` is Apache RocketMQ up to 5.5.0: UNIMPLEMENTED, and the type is refused.
    pub fn grpc_pull(mut self, serve: bool) -> Self {
        self.config.grpc_pull = serve;
        self
    }

    /// How many brokers the cluster has: `broker-a`, `broker-b`, … Defaults to 1.
    pub fn brokers(mut self, brokers: usize) -> Self {
        self.engine.brokers = brokers;
        self.config.brokers = brokers;
        self
    }

    /// How many proxies the cluster has, each with a port and a memory of its own for the settings of clients. Defaults to 1.
    pub fn proxies(mut self, proxies: usize) -> Self {
        self.proxies = proxies;
        self
    }

    /// Where the first proxy listens; the others take the ports after it. Defaults to `127.0.0.1:0`: any free ports.
    pub fn grpc(mut self, address: SocketAddr) -> Self {
        self.grpc = address;
        self
    }

    /// Where the first name server listens; the other name servers and then the brokers take the ports after it. Defaults to
    /// `127.0.0.1:0`: any free ports.
    pub fn remoting(mut self, address: SocketAddr) -> Self {
        self.remoting = Some(address);
        self
    }

    /// No name server, and no broker that is reached over remoting: gRPC only.
    pub fn without_remoting(mut self) -> Self {
        self.remoting = None;
        self
    }

    /// How many name servers the cluster has; all know the same. Defaults to 1.
    pub fn name_servers(mut self, name_servers: usize) -> Self {
        self.name_servers = name_servers;
        self
    }

    /// Requests must be signed with these keys. May be called for several users. Defaults to none: everyone may come.
    pub fn credentials(mut self, access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        self.config.credentials.push(Credentials::new(access_key, secret_key));
        self
    }

    /// Speaks TLS too, with this certificate chain and key in PEM. As on Apache, plaintext still works on the same port.
    /// Defaults to plaintext only.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, certificate_pem: impl Into<Vec<u8>>, key_pem: impl Into<Vec<u8>>) -> Self {
        self.tls = Some(Pem { certificate: certificate_pem.into(), key: key_pem.into() });
        self
    }

    /// The shortest and longest invisible duration of a receive. Defaults to 10 s and 12 h. A change of the invisible
    /// duration may also be shorter.
    pub fn invisible_duration(mut self, min: Duration, max: Duration) -> Self {
        (self.config.min_invisible, self.config.max_invisible) = (min, max);
        self
    }

    /// The invisible duration of receives that the server renews (`auto_renew`). Defaults to 60 s.
    pub fn renewed_invisible_duration(mut self, duration: Duration) -> Self {
        self.config.renewed_invisible = duration;
        self
    }

    /// The shortest and longest long poll: what a client asks for is moved into these bounds. Defaults to 5 s and 20 s.
    pub fn polling(mut self, min: Duration, max: Duration) -> Self {
        (self.config.min_polling, self.config.max_polling) = (min, max);
        self
    }

    /// The largest message body in bytes. Defaults to 4 MiB.
    pub fn max_body_size(mut self, bytes: usize) -> Self {
        self.config.limits = self.config.limits.max_body_size(bytes);
        self
    }

    /// After so long without a heartbeat a proxy forgets a client. Defaults to 120 s.
    pub fn client_expiry(mut self, expiry: Duration) -> Self {
        self.config.client_expiry = expiry;
        self
    }

    /// How many bytes each queue keeps; the oldest messages go, consumed or not. Defaults to 256 MiB.
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.engine.queue_bytes = bytes;
        self
    }

    /// How long a stopped broker stays in the routes. Defaults to 10 s.
    pub fn route_expiry(mut self, expiry: Duration) -> Self {
        self.engine.route_expiry = expiry.as_millis() as Millis;
        self
    }

    /// How long after a broker came back the proxies do not know the types of its topics, so that sends answer "expected type
    /// is UNSPECIFIED". Defaults to zero; about 40 s on Apache.
    pub fn type_cache_delay(mut self, delay: Duration) -> Self {
        self.engine.type_cache_delay = delay.as_millis() as Millis;
        self
    }

    /// The port that routes name, as a proxy behind a port mapping would. Defaults to the port it listens on.
    pub fn advertised_port(mut self, port: u16) -> Self {
        self.config.advertised_port = Some(port);
        self
    }

    /// Starts the cluster on the current Tokio runtime.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) when a setting breaks a rule or an address cannot be listened on.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    #[cfg_attr(not(feature = "tls"), allow(unused_mut, reason = "TLS is what there is to prepare"))]
    pub async fn start(mut self) -> Result<Broker> {
        self.check()?;
        #[cfg(feature = "tls")]
        if let Some(Pem { certificate, key }) = &self.tls {
            self.config.tls = Some(super::tls::Acceptor::new(certificate, key)?);
        }
        let mut engine = Engine::new(self.engine.clone());
        for (name, queues, kind) in &self.topics {
            engine.create_topic(name, *queues, *kind);
        }
        for group in &self.groups {
            engine.create_group(&group.name, group.config.clone());
        }
        Broker::launch(self, engine).await
    }

    fn check(&self) -> Result<()> {
        for (name, queues, _) in &self.topics {
            check_topic(name, &self.config.limits)?;
            check_queues(*queues)?;
        }
        for group in &self.groups {
            check_group(&group.name, &self.config.limits)?;
            check_attempts(group)?;
        }
        let parts = [("brokers", self.engine.brokers), ("proxies", self.proxies), ("name_servers", self.name_servers)];
        for (field, count) in parts {
            if !(1..=MAX_PARTS).contains(&count) {
                return Err(Error::config(field, count, &format!("must be 1 to {MAX_PARTS}")));
            }
        }
        let config = &self.config;
        for (field, min, max) in [
            ("invisible_duration", config.min_invisible, config.max_invisible),
            ("polling", config.min_polling, config.max_polling),
        ] {
            if min > max {
                return Err(Error::config(
                    field,
                    format!("{min:?}, {max:?}"),
                    "the shortest is longer than the longest",
                ));
            }
        }
        Ok(())
    }
}

pub(crate) fn check_queues(queues: u32) -> Result<()> {
    if (1..=MAX_QUEUES).contains(&queues) {
        return Ok(());
    }
    Err(Error::config("queues", queues, &format!("must be 1 to {MAX_QUEUES}")))
}

pub(crate) fn check_attempts(group: &GroupOptions) -> Result<()> {
    if group.config.max_attempts > 0 {
        return Ok(());
    }
    Err(Error::config("max_attempts", 0, "must be 1 or more"))
}
