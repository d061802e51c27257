//! The remoting wire: to name servers and brokers, and to a proxy's remoting port.
//!
//! `frame`, `command` and `stored` are the pure half: they know its bytes, and the embedded broker speaks by them, too.
//! `connection` carries requests and answers; `rpc` finds the connection, signs, and judges the answer; `routing`,
//! `presence` and `pulling` are what is asked for. A wire belongs to one client identity, since a broker knows one client
//! for each connection: a second one evicts the first silently (trap P28).

pub(crate) mod command;
mod connection;
pub(crate) mod frame;
mod presence;
mod pulling;
mod routing;
mod rpc;
pub(crate) mod stored;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::model::{Credentials, Endpoint, Limits, Scheme, Subscription};
use crate::transport::remoting::rpc::Rpc;
use crate::transport::tls::TlsOptions;

/// What a remoting wire is made from; it belongs to one client identity.
#[derive(Debug, Clone)]
pub(crate) struct RemotingConfig {
    pub(crate) client_id: Arc<str>,
    /// For name servers and brokers alike.
    pub(crate) scheme: Scheme,
    pub(crate) tls: TlsOptions,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) namespace: Arc<str>,
    /// Never empty.
    pub(crate) name_servers: Vec<Endpoint>,
    pub(crate) request_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) limits: Limits,
    /// Whether the checksums of bodies are checked.
    pub(crate) check_digest: bool,
}

/// The remoting wire of one client identity. It opens a connection per endpoint when that is first called.
pub(crate) struct RemotingWire {
    rpc: Arc<Rpc>,
    client_id: Arc<str>,
    name_servers: Vec<Endpoint>,
    /// The name server that answered last: asked first the next time.
    answering: AtomicUsize,
    /// What a heartbeat said last of the subscriptions, and when that was made.
    subscribed: Arc<Mutex<(Vec<Subscription>, i64)>>,
    max_decompressed_size: usize,
    check_digest: bool,
}

impl RemotingWire {
    /// Opens nothing.
    ///
    /// # Errors
    /// `Config` when TLS cannot be set up.
    pub(crate) fn new(config: RemotingConfig) -> Result<Self> {
        if config.name_servers.is_empty() {
            return Err(Error::config("name_server", "", "at least one address is needed"));
        }
        Ok(Self {
            rpc: Arc::new(Rpc::new(&config)?),
            client_id: config.client_id,
            // Many clients do not all ask the same one.
            answering: AtomicUsize::new(fastrand::usize(..config.name_servers.len())),
            name_servers: config.name_servers,
            subscribed: Arc::default(),
            max_decompressed_size: config.limits.max_decompressed_size,
            check_digest: config.check_digest,
        })
    }

    /// What this client is called in lists of members.
    pub(crate) const fn client_id(&self) -> &Arc<str> {
        &self.client_id
    }

    /// All name servers, the one that answered last in front.
    fn name_servers_in_turn(&self) -> impl Iterator<Item = (usize, &Endpoint)> {
        let first = self.answering.load(Ordering::Relaxed);
        let (before, from) = self.name_servers.split_at(first.min(self.name_servers.len()));
        from.iter().enumerate().map(move |(at, server)| (at + first, server)).chain(before.iter().enumerate())
    }
}

impl fmt::Debug for RemotingWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemotingWire")
            .field("client_id", &self.client_id)
            .field("name_servers", &self.name_servers)
            .finish_non_exhaustive()
    }
}
