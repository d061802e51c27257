//! The clients that are connected to one port, and the requests this side sends them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::embedded::engine::members::ConnectionId;
use crate::transport::remoting::command::{Command, Kind};

/// Where commands for one connection go.
#[derive(Debug)]
struct Peer {
    outbox: mpsc::Sender<Command>,
    /// Answers of the client that somebody waits for.
    asked: HashMap<i32, oneshot::Sender<Command>>,
}

/// All connections of one port.
#[derive(Debug, Default)]
pub(super) struct Peers {
    connected: Mutex<HashMap<ConnectionId, Peer>>,
    next_opaque: AtomicI32,
}

impl Peers {
    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, Peer>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn join(&self, id: ConnectionId, outbox: mpsc::Sender<Command>) {
        self.lock().insert(id, Peer { outbox, asked: HashMap::new() });
    }

    /// Whoever waits for an answer on this connection is told that none comes.
    pub(super) fn leave(&self, id: ConnectionId) {
        self.lock().remove(&id);
    }

    /// Sends a request that wants no answer. A client that does not read is not waited for.
    pub(super) fn tell(&self, id: ConnectionId, command: Command) {
        let command = Command { opaque: self.next_opaque.fetch_add(1, Ordering::Relaxed), ..command };
        let told = self.lock().get(&id).map(|peer| peer.outbox.try_send(command));
        if let Some(Err(error)) = told {
            tracing::debug!(connection = id, %error, "a notice was not sent: this client does not read");
        }
    }

    /// Sends a request and waits for its answer. `None`: the client is gone, does not read, or did not answer in time.
    pub(super) async fn ask(&self, id: ConnectionId, command: Command, patience: Duration) -> Option<Command> {
        let opaque = self.next_opaque.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        {
            let mut connected = self.lock();
            let peer = connected.get_mut(&id)?;
            peer.outbox.try_send(Command { opaque, kind: Kind::Request, ..command }).ok()?;
            peer.asked.insert(opaque, sender);
        }
        let answer = clock::timeout(patience, answer).await;
        if let Some(peer) = self.lock().get_mut(&id) {
            peer.asked.remove(&opaque);
        }
        answer?.ok()
    }

    /// An answer came. One that nobody waits for any more is ignored.
    pub(super) fn answered(&self, id: ConnectionId, answer: Command) {
        let opaque = answer.opaque;
        let waiting = self.lock().get_mut(&id).and_then(|peer| peer.asked.remove(&opaque));
        if waiting.is_none_or(|waiting| waiting.send(answer).is_err()) {
            tracing::debug!(connection = id, opaque, "nobody waits for this answer any more");
        }
    }
}
