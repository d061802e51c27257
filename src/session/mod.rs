//! One live client identity: handshake, settings, heartbeat, routes, goodbye.

mod choice;
mod connector;
mod groups;
mod health;
mod link;
mod routes;
mod shared;

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{ClientSettings, Endpoint, Route, ServerSettings};
use crate::retry::Backoff;
use crate::task::TaskGroup;
use crate::transport::{GroupRequest, Wire};
pub(crate) use connector::Connector;
pub(crate) use groups::{GroupUse, Groups};
pub use health::{Health, HealthWatch};

use choice::Reach;
use link::{Common, LinkState};
use routes::Routes;
use shared::{Shared, refresh_routes, say_goodbye, watch_health};

/// Which endpoint of a route to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RouteEndpoints {
    /// Those that the server names. One that differs from the access point only by its port, and does not answer, is
    /// replaced by the access point (a proxy behind a port mapping hands out a wrong port).
    #[default]
    Server,
    /// Always the access point. With [`name_server`](crate::ClientBuilder::name_server): always that address, which must be
    /// a proxy's remoting port then.
    AccessPoint,
}

/// Who keeps the register of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enrolment {
    /// The access point, and each endpoint that is used: the proxies of gRPC.
    Entrance,
    /// Each member of each broker in the routes, for itself. The name servers, where one enters, know no clients. A proxy's
    /// remoting port names itself as the broker.
    Brokers,
}

pub(crate) struct SessionConfig {
    pub(crate) wire: Arc<dyn Wire>,
    pub(crate) access_point: Vec<Endpoint>,
    pub(crate) settings: ClientSettings,
    pub(crate) route_endpoints: RouteEndpoints,
    pub(crate) enrolment: Enrolment,
    /// Who answers what brokers ask of a consumer; without, they are refused.
    pub(crate) requests: Option<mpsc::Sender<GroupRequest>>,
    /// How long the first handshake and the first routes may take.
    pub(crate) build_timeout: Duration,
}

/// Cheap to clone; the session ends when the last clone is gone or [`close`](Self::close) was called.
#[derive(Clone)]
pub(crate) struct Session(Arc<Inner>);

/// What lives as long as the session. Its tasks hold [`Shared`], never this: dropping it ends them.
struct Inner {
    shared: Arc<Shared>,
    tasks: Arc<TaskGroup>,
    group: GroupHold,
}

/// The consumer's group, until the session has ended.
type GroupHold = Arc<Mutex<Option<GroupUse>>>;

impl Session {
    /// Shakes hands with the access point, at most `build_timeout`; transient errors are retried until then. Where brokers
    /// enrol clients, there is nothing to do before the first route.
    ///
    /// # Errors
    /// What the server refused, or the last failure when the time was over.
    pub(crate) async fn open(config: SessionConfig) -> Result<Self> {
        let common = Common {
            wire: config.wire,
            client: watch::Sender::new(config.settings),
            server: watch::Sender::new(ServerSettings::default()),
            changes: watch::Sender::new(0),
            members: watch::Sender::new(0),
            handshakes: AtomicU64::new(0),
            requests: config.requests,
        };
        let tasks = Arc::new(TaskGroup::new());
        let shared = Arc::new(Shared {
            common: Arc::new(common),
            access_point: config.access_point,
            route_endpoints: config.route_endpoints,
            enrolment: config.enrolment,
            tasks: Arc::downgrade(&tasks),
            links: Mutex::default(),
            routes: Routes::default(),
            health: watch::Sender::new(Health::Connecting),
            stale: Notify::new(),
        });
        let session = Self(Arc::new(Inner { shared, tasks, group: GroupHold::default() }));
        session.spawn_tasks();
        if config.enrolment == Enrolment::Entrance {
            for at in &session.0.shared.access_point {
                session.0.shared.link(at);
            }
            session.first_handshake(config.build_timeout).await?;
        }
        Ok(session)
    }

    fn spawn_tasks(&self) {
        let Inner { shared, tasks, group } = &*self.0;
        tasks.spawn("route refresh", refresh_routes(Arc::clone(shared)));
        tasks.spawn("health", watch_health(Arc::clone(shared)));
        let (shared, group, token) = (Arc::clone(shared), Arc::clone(group), tasks.token());
        tasks.spawn_to_end("goodbye", async move {
            token.cancelled().await;
            say_goodbye(&shared).await;
            shared.end();
            hold(&group, None);
        });
    }

    /// Until one endpoint of the access point is ready, all refused, or the time is over.
    async fn first_handshake(&self, limit: Duration) -> Result<()> {
        let mut changes = self.changes();
        let shaken = async {
            loop {
                changes.mark_unchanged();
                if let Some(outcome) = self.0.shared.access_outcome() {
                    return outcome;
                }
                if changes.changed().await.is_err() {
                    return Err(Error::closed("client"));
                }
            }
        };
        let outcome = clock::timeout(limit, shaken).await;
        outcome.unwrap_or_else(|| Err(self.0.shared.last_failure(limit)))
    }

    /// The route of a topic, from the cache. One look-up serves all that wait for it; when a refresh fails, the last
    /// good answer stays in use. New endpoints in it shake hands in the background.
    pub(crate) async fn route(&self, topic: &Arc<str>) -> Result<Arc<Route>> {
        match self.0.shared.routes.known(topic) {
            Some(route) => Ok(route),
            None => self.0.shared.refresh(topic).await,
        }
    }

    /// The route of a topic, asked for now. One look-up serves all that wait for it.
    pub(crate) async fn fresh_route(&self, topic: &Arc<str>) -> Result<Arc<Route>> {
        self.0.shared.refresh(topic).await
    }

    /// The last good route of a topic, without asking.
    pub(crate) fn known_route(&self, topic: &str) -> Option<Arc<Route>> {
        self.0.shared.routes.known(topic)
    }

    /// The route of a topic whose absence may be passing (a cold cache, a broker away): asked again until `limit`.
    pub(crate) async fn route_within(&self, topic: &Arc<str>, limit: Duration) -> Result<Arc<Route>> {
        let until = clock::now() + limit;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        loop {
            let error = match self.route(topic).await {
                Ok(route) => return Ok(route),
                Err(error) => error,
            };
            let wait = backoff.next(fastrand::f64());
            let may_pass = error.kind().is_transient() || error.kind() == ErrorKind::NotFound;
            if !may_pass || clock::now() + wait > until {
                return Err(error);
            }
            clock::sleep(wait).await;
        }
    }

    /// Ticks when a route changed or an endpoint went or came.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.shared.common.changes.subscribe()
    }

    /// The endpoint to use among those of a broker: the first that answers (see [`RouteEndpoints`]).
    pub(crate) fn choose(&self, offered: &[Endpoint]) -> Endpoint {
        let chosen = self.0.shared.choose(offered);
        self.0.shared.link(&chosen);
        chosen
    }

    /// Waits until this client is registered at an endpoint: no receive may come before (trap R1).
    ///
    /// # Errors
    /// What the server refused, or why it is lost at the moment (transient): the caller may choose another one.
    pub(crate) async fn ready(&self, at: &Endpoint) -> Result<()> {
        let mut state = self.0.shared.link(at);
        loop {
            match &*state.borrow_and_update() {
                LinkState::Ready(_) => return Ok(()),
                LinkState::Refused(error) | LinkState::Lost(error) => return Err(error.clone()),
                LinkState::Connecting => {}
            }
            if state.changed().await.is_err() {
                return Err(Error::closed("client"));
            }
        }
    }

    /// Waits until it is settled, for every broker of a route, whether this client is registered there: only then its
    /// members' lists are to be relied on. Takes at most as long as one handshake.
    #[cfg(test)]
    pub(crate) async fn enrolled(&self, route: &Route) {
        for at in self.0.shared.members(route) {
            let mut state = self.0.shared.link(&at);
            let settled = state.wait_for(|state| !matches!(state, LinkState::Connecting)).await;
            drop(settled);
        }
    }

    /// Ticks when somebody may have joined or left the consumer group: a broker said so, or this client became known to one.
    pub(crate) fn member_changes(&self) -> watch::Receiver<u64> {
        self.0.shared.common.members.subscribe()
    }

    /// Whether this client is registered at an endpoint right now.
    pub(crate) fn is_ready(&self, at: &Endpoint) -> bool {
        self.0.shared.reach(at) == Reach::Ready
    }

    /// The handshake by which this client is registered at an endpoint right now: another number after each time that the
    /// endpoint was away. `None`: it is not registered.
    pub(crate) fn handshake(&self, at: &Endpoint) -> Option<u64> {
        match *self.0.shared.links().get(at)?.state.borrow() {
            LinkState::Ready(handshake) => Some(handshake),
            _ => None,
        }
    }

    /// Tells that an endpoint failed a request, so that it is looked at now and not at the next heartbeat.
    pub(crate) fn report(&self, at: &Endpoint, error: &Error) {
        if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
            && let Some(held) = self.0.shared.links().get(at)
        {
            held.kick.notify_one();
        }
        self.0.shared.stale.notify_one();
    }

    /// What the server said last.
    pub(crate) fn settings(&self) -> ServerSettings {
        self.0.shared.common.server.borrow().clone()
    }

    /// Writes new settings to every endpoint (a changed subscription, a producer's new topic), and to those that come.
    pub(crate) fn update(&self, change: impl FnOnce(&mut ClientSettings)) {
        self.0.shared.common.client.send_modify(change);
    }

    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.0.shared.health.subscribe()
    }

    /// Tasks that live as long as the session.
    pub(crate) fn tasks(&self) -> &TaskGroup {
        &self.0.tasks
    }

    /// Says goodbye to every endpoint and ends all tasks, at most `deadline`. `false`: some had not ended by then.
    pub(crate) async fn close(&self, deadline: Duration) -> bool {
        let ended = self.0.tasks.shutdown(deadline).await;
        // Once more: the goodbye may not have been answered, and tasks that tidied up may have connected anew.
        self.0.shared.end();
        hold(&self.0.group, None);
        ended
    }

    /// As [`close`](Self::close), and nobody waits: for a task of the session, which this ends at its next await.
    pub(crate) fn leave(&self) {
        self.0.tasks.cancel();
    }

    /// Keeps the group of a consumer from the other kinds of this client's consumers until the session ends.
    pub(crate) fn keep(&self, group: GroupUse) {
        hold(&self.0.group, Some(group));
    }
}

fn hold(held: &GroupHold, group: Option<GroupUse>) {
    *held.lock().unwrap_or_else(PoisonError::into_inner) = group;
}

impl Drop for Inner {
    /// At once, and not only after the goodbye: nobody is left who could use it.
    fn drop(&mut self) {
        hold(&self.group, None);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.0.shared;
        f.debug_struct("Session").field("health", &*shared.health.borrow()).field("routes", &shared.routes).finish()
    }
}

#[cfg(test)]
mod broker_tests;
