//! What a server's configuration decides, with Apache's defaults.

use std::time::Duration;

use super::engine::Millis;
use super::tls::Acceptor;
use crate::model::{Credentials, Limits};

#[derive(Debug, Clone)]
pub(crate) struct ServerConfig {
    pub(crate) brokers: usize,
    pub(crate) auto_create_topics: bool,
    pub(crate) auto_create_queues: u32,
    /// Whether the proxies serve the pull RPCs.
    pub(crate) grpc_pull: bool,
    pub(crate) credentials: Vec<Credentials>,
    pub(crate) limits: Limits,
    pub(crate) min_invisible: Duration,
    pub(crate) max_invisible: Duration,
    /// What a proxy that renews by itself starts with.
    pub(crate) renewed_invisible: Duration,
    pub(crate) min_polling: Duration,
    pub(crate) max_polling: Duration,
    pub(crate) max_delay: Duration,
    /// After so long without a heartbeat a client is forgotten.
    pub(crate) client_expiry: Duration,
    /// The port that routes name in place of the real one, as a proxy behind a port mapping does.
    pub(crate) advertised_port: Option<u16>,
    pub(crate) tls: Option<Acceptor>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            brokers: 1,
            auto_create_topics: false,
            auto_create_queues: 8,
            grpc_pull: true,
            credentials: Vec::new(),
            limits: Limits::default(),
            min_invisible: Duration::from_secs(10),
            max_invisible: Duration::from_secs(12 * 3600),
            renewed_invisible: Duration::from_secs(60),
            min_polling: Duration::from_secs(5),
            max_polling: Duration::from_secs(20),
            max_delay: Duration::from_secs(24 * 3600),
            client_expiry: Duration::from_secs(120),
            advertised_port: None,
            tls: None,
        }
    }
}

impl ServerConfig {
    /// What was handed to a client that is gone comes back after this time, in milliseconds.
    pub(crate) fn release_delay(&self) -> Millis {
        1000
    }
}
