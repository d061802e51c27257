//! The remoting shell: name servers, and a port for each broker, over the shared cluster (protocol.md E).
//!
//! A name server answers routes and lists. A broker answers everything else; its members and locks are its own, as on
//! Apache, where a client has to send its heartbeat to every broker.

mod admin;
mod answer;
mod auth;
mod codes;
mod connection;
mod dispatch;
pub(crate) mod door;
mod group;
mod message;
mod name_server;
mod offsets;
mod peers;
mod pull;
mod send;
mod topics;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use self::door::Door;
use self::peers::Peers;
use super::cluster::Cluster;
use super::engine::Millis;
use super::engine::locks::Locks;
use super::engine::members::{ConnectionId, Members, Notify};
use super::socket::{Connections, open};
use crate::clock;
use crate::transport::remoting::command::Command;
use crate::transport::remoting::command::group::MembersChanged;

/// How often members that fell silent are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// What a port serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    NameServer,
    Broker(usize),
}

/// One port.
#[derive(Debug)]
pub(crate) struct Server {
    cluster: Arc<Cluster>,
    part: Part,
    door: Door,
    connections: Connections,
    peers: Peers,
    registry: Mutex<Registry>,
    next_connection: AtomicU64,
}

/// Who consumes at a broker, and who holds which queue.
#[derive(Debug, Default)]
struct Registry {
    members: Members,
    locks: Locks,
}

impl Server {
    pub(crate) fn new(cluster: Arc<Cluster>, part: Part, door: Door) -> Self {
        Self {
            cluster,
            part,
            door,
            connections: Connections::default(),
            peers: Peers::default(),
            registry: Mutex::default(),
            next_connection: AtomicU64::new(1),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.door.address()
    }

    /// Closes the port and cuts every connection. Members are forgotten with their connections.
    pub(crate) fn stop(&self) {
        self.door.shut();
        self.connections.cut();
    }

    /// Listens again on the old port.
    pub(crate) fn start(&self) -> io::Result<()> {
        self.door.reopen()
    }

    /// Cuts every connection; the port stays open.
    pub(crate) fn cut(&self) {
        self.connections.cut();
    }

    /// The ids of a group's members, sorted.
    pub(crate) fn members(&self, group: &str) -> Vec<String> {
        let ids = self.registry().members.ids(group).unwrap_or_default();
        let mut ids: Vec<_> = ids.iter().map(|id| id.to_string()).collect();
        ids.sort();
        ids
    }

    /// Serves until it is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut work = FuturesUnordered::new();
        let mut sweep = clock::interval(SWEEP);
        loop {
            tokio::select! {
                accepted = self.door.accept() => match accepted {
                    Ok((stream, peer)) => work.push(Arc::clone(&self).welcome(stream, peer)),
                    Err(error) => {
                        // A client that went away before it was accepted, or no file descriptor left for a while.
                        tracing::debug!(%error, "accepting a connection failed");
                        clock::sleep(Duration::from_millis(10)).await;
                    }
                },
                Some(()) = work.next() => {}
                _ = sweep.tick() => self.sweep(),
            }
        }
    }

    async fn welcome(self: Arc<Self>, stream: tokio::net::TcpStream, peer: SocketAddr) {
        let id = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let tls = self.cluster.config.tls.clone();
        match open(stream, peer, self.connections.token(), tls).await {
            Ok(stream) => connection::serve(self, stream, id).await,
            Err(error) => tracing::debug!(%error, "opening a connection failed"),
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is gone.
    fn left(&self, id: ConnectionId) {
        self.peers.leave(id);
        let notices = self.registry().members.close(id);
        self.notify(notices);
    }

    fn sweep(&self) {
        let expiry = self.cluster.config.client_expiry.as_millis() as Millis;
        let since = self.cluster.now().saturating_sub(expiry);
        let notices = self.registry().members.sweep(since);
        self.notify(notices);
    }

    /// Tells members that their group has changed.
    fn notify(&self, notices: Vec<Notify>) {
        for Notify { connection, group } in notices {
            self.peers.tell(connection, Command::one_way(&MembersChanged { group }));
        }
    }
}

#[cfg(test)]
mod tests;
