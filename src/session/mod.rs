//! One live client identity: handshake, settings, heartbeat, routes, goodbye.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::model::{ClientSettings, Endpoint, Route, ServerSettings};
use crate::task::TaskGroup;
use crate::transport::{ServerCommand, Wire};

/// Which endpoint of a route to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RouteEndpoints {
    /// Those that the server names. One that differs from the access point only by its port, and does not answer, is
    /// replaced by the access point (a proxy behind a port mapping hands out a wrong port).
    #[default]
    Server,
    /// Always the access point.
    AccessPoint,
}

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

pub(crate) struct SessionConfig {
    pub(crate) wire: Arc<dyn Wire>,
    pub(crate) access_point: Vec<Endpoint>,
    pub(crate) settings: ClientSettings,
    pub(crate) route_endpoints: RouteEndpoints,
    /// How long the first handshake and the first routes may take.
    pub(crate) build_timeout: Duration,
}

/// Cheap to clone; the session ends when the last clone is gone or [`close`](Self::close) was called.
#[derive(Clone)]
pub(crate) struct Session {}

impl Session {
    /// Shakes hands with the access point, at most `build_timeout`; transient errors are retried until then.
    pub(crate) async fn open(config: SessionConfig) -> Result<Self> {
        todo!()
    }

    pub(crate) fn wire(&self) -> &Arc<dyn Wire> {
        todo!()
    }

    /// The route of a topic, from the cache. One look-up serves all that wait for it; when a refresh fails, the last
    /// good answer stays in use. New endpoints in it have shaken hands, or are being tried in the background.
    pub(crate) async fn route(&self, topic: &Arc<str>) -> Result<Arc<Route>> {
        todo!()
    }

    /// Ticks when a route changed or an endpoint went or came.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        todo!()
    }

    /// The endpoint to use among those of a broker: the first that answers (see [`RouteEndpoints`]).
    pub(crate) fn choose(&self, endpoints: &[Endpoint]) -> Endpoint {
        todo!()
    }

    /// Waits until this client is registered at an endpoint: no receive may come before (trap R1).
    pub(crate) async fn ready(&self, at: &Endpoint) -> Result<()> {
        todo!()
    }

    /// Tells that an endpoint failed a request, so that it is looked at now and not at the next heartbeat.
    pub(crate) fn report(&self, at: &Endpoint, error: &Error) {
        todo!()
    }

    /// What the server said last, of all endpoints merged.
    pub(crate) fn settings(&self) -> ServerSettings {
        todo!()
    }

    /// Writes new settings to every endpoint (a changed subscription, a producer's new topic), and to those that come.
    pub(crate) fn update(&self, change: impl FnOnce(&mut ClientSettings)) {
        todo!()
    }

    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        todo!()
    }

    /// Tasks that live as long as the session.
    pub(crate) fn tasks(&self) -> &TaskGroup {
        todo!()
    }

    /// Says goodbye to every endpoint and ends all tasks, at most `deadline`.
    pub(crate) async fn close(&self, deadline: Duration) {
        todo!()
    }
}
