use tokio::sync::watch;

/// How well a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// The first handshake is under way.
    Connecting,
    /// Every endpoint in use answers.
    Healthy,
    /// Some endpoints do not answer; those that do go on.
    Degraded,
    /// No endpoint answers; connecting goes on with growing waits.
    Down,
    /// It was shut down.
    Closed,
}

/// How well a consumer or producer is connected, as a value to look at and to wait on.
#[derive(Debug, Clone)]
pub struct HealthWatch(watch::Receiver<Health>);

impl HealthWatch {
    pub(crate) fn new(watch: watch::Receiver<Health>) -> Self {
        Self(watch)
    }

    /// The health now.
    #[must_use]
    pub fn current(&self) -> Health {
        *self.0.borrow()
    }

    /// The next change; `None` once the client was shut down: there will be none. Cancel safe.
    pub async fn changed(&mut self) -> Option<Health> {
        if self.current() == Health::Closed {
            return None;
        }
        self.0.changed().await.ok()?;
        Some(*self.0.borrow_and_update())
    }
}
