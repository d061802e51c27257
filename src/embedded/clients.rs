//! The clients a proxy knows: their settings, and the stream on which commands reach them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::engine::Millis;
use super::settings::ServerConfig;
use crate::proto;

/// A registered client.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// As the client wrote them.
    pub(crate) settings: proto::Settings,
    pub(crate) seen: Millis,
    /// To the telemetry stream of its newest settings.
    pub(crate) commands: mpsc::Sender<proto::TelemetryCommand>,
}

/// The registry of one proxy. It is forgotten when the proxy stops.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    known: Mutex<HashMap<Arc<str>, Client>>,
    /// How often the proxy has stopped.
    life: AtomicU64,
}

/// Answers to commands that somebody waits for, by nonce.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    waiting: Mutex<HashMap<String, oneshot::Sender<String>>>,
}

impl Asked {
    /// Waits for the answer that carries this nonce.
    pub(crate) fn ask(&self, nonce: &str) -> oneshot::Receiver<String> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(nonce.into(), sender);
        receiver
    }

    /// An answer came. One that nobody waits for any more is ignored.
    pub(crate) fn answered(&self, nonce: &str, answer: String) {
        let asked = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(nonce);
        if asked.is_some_and(|asked| asked.send(answer).is_err()) {
            tracing::debug!(nonce, "nobody waits for this answer any more");
        }
    }
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Client>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn register(&self, id: &Arc<str>, client: Client) {
        self.lock().insert(Arc::clone(id), client);
    }

    /// The settings of a client that is still registered.
    pub(crate) fn settings(&self, id: &str) -> Option<proto::Settings> {
        self.lock().get(id).map(|client| client.settings.clone())
    }

    pub(crate) fn knows(&self, id: &str) -> bool {
        self.lock().contains_key(id)
    }

    /// A sign of life. `false`: nobody knows this client.
    pub(crate) fn touch(&self, id: &str, now: Millis) -> bool {
        self.lock().get_mut(id).map(|client| client.seen = now).is_some()
    }

    /// `false`: nobody knew it.
    pub(crate) fn forget(&self, id: &str) -> bool {
        self.lock().remove(id).is_some()
    }

    /// The proxy stops.
    pub(crate) fn forget_all(&self) {
        self.life.fetch_add(1, Ordering::Relaxed);
        self.lock().clear();
    }

    pub(crate) fn life(&self) -> u64 {
        self.life.load(Ordering::Relaxed)
    }

    /// Removes and returns those that fell silent.
    pub(crate) fn sweep(&self, now: Millis, config: &ServerConfig) -> Vec<Arc<str>> {
        let mut known = self.lock();
        let silent = |client: &Client| now.saturating_sub(client.seen) > config.client_expiry.as_millis() as Millis;
        let gone: Vec<_> = known.iter().filter(|(_, client)| silent(client)).map(|(id, _)| Arc::clone(id)).collect();
        for id in &gone {
            known.remove(id);
        }
        gone
    }

    /// The ids of all clients, sorted.
    pub(crate) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.lock().keys().map(|id| id.to_string()).collect();
        ids.sort();
        ids
    }

    pub(crate) fn commands(&self, id: &str) -> Option<mpsc::Sender<proto::TelemetryCommand>> {
        self.lock().get(id).map(|client| client.commands.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_silent_too_long_is_forgotten() {
        let (clients, config) = (Clients::default(), ServerConfig::default());
        let expiry = config.client_expiry.as_millis() as Millis;
        let (commands, _receiver) = mpsc::channel(1);
        let client = Client { settings: proto::Settings::default(), seen: 0, commands };
        clients.register(&"a".into(), client.clone());
        clients.register(&"b".into(), client);
        assert!(clients.touch("b", 1) && !clients.touch("c", 1));
        assert_eq!(clients.sweep(expiry, &config), []);
        assert_eq!(clients.sweep(expiry + 1, &config), ["a".into()]);
        assert_eq!((clients.ids(), clients.knows("a")), (vec!["b".to_owned()], false));
        assert!(clients.forget("b") && !clients.forget("b"));
    }
}
