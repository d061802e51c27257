//! One live client identity: handshake, settings, heartbeat, routes, goodbye.

mod choice;
mod link;
mod routes;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{ClientSettings, Endpoint, Permission, Route, ServerSettings};
use crate::retry::Backoff;
use crate::task::TaskGroup;
use crate::transport::Wire;
use choice::Reach;
use link::{Common, Link, LinkState};
use routes::Routes;

/// As the official clients. A failed request refreshes at once.
const ROUTE_REFRESH: Duration = Duration::from_secs(30);
/// How long a goodbye may take when nobody waits for it.
const FAREWELL: Duration = Duration::from_secs(2);

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
pub(crate) struct Session(Arc<Inner>);

/// What lives as long as the session. Its tasks hold [`Shared`], never this: dropping it ends them.
struct Inner {
    shared: Arc<Shared>,
    tasks: TaskGroup,
}

struct Shared {
    common: Arc<Common>,
    access_point: Vec<Endpoint>,
    route_endpoints: RouteEndpoints,
    links: Mutex<HashMap<Endpoint, Held>>,
    routes: Routes,
    health: watch::Sender<Health>,
    /// A request failed: the routes may be old.
    stale: Notify,
}

/// A link as seen from outside its task.
struct Held {
    state: watch::Receiver<LinkState>,
    kick: Arc<Notify>,
    stop: CancellationToken,
}

impl Session {
    /// Shakes hands with the access point, at most `build_timeout`; transient errors are retried until then.
    ///
    /// # Errors
    /// What the server refused, or the last failure when the time was over.
    pub(crate) async fn open(config: SessionConfig) -> Result<Self> {
        let common = Common {
            wire: config.wire,
            client: watch::Sender::new(config.settings),
            server: watch::Sender::new(ServerSettings::default()),
            changes: watch::Sender::new(0),
        };
        let shared = Arc::new(Shared {
            common: Arc::new(common),
            access_point: config.access_point,
            route_endpoints: config.route_endpoints,
            links: Mutex::default(),
            routes: Routes::default(),
            health: watch::Sender::new(Health::Connecting),
            stale: Notify::new(),
        });
        let session = Self(Arc::new(Inner { shared, tasks: TaskGroup::new() }));
        session.spawn_tasks();
        for at in &session.0.shared.access_point {
            session.link(at);
        }
        session.first_handshake(config.build_timeout).await?;
        Ok(session)
    }

    fn spawn_tasks(&self) {
        let Inner { shared, tasks } = &*self.0;
        tasks.spawn("route refresh", refresh_routes(Arc::clone(shared)));
        tasks.spawn("health", watch_health(Arc::clone(shared)));
        let (shared, token) = (Arc::clone(shared), tasks.token());
        tasks.spawn_to_end("goodbye", async move {
            token.cancelled().await;
            say_goodbye(&shared).await;
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

    pub(crate) fn wire(&self) -> &Arc<dyn Wire> {
        &self.0.shared.common.wire
    }

    /// The route of a topic, from the cache. One look-up serves all that wait for it; when a refresh fails, the last
    /// good answer stays in use. New endpoints in it shake hands in the background.
    pub(crate) async fn route(&self, topic: &Arc<str>) -> Result<Arc<Route>> {
        match self.0.shared.routes.known(topic) {
            Some(route) => Ok(route),
            None => self.0.shared.refresh(topic).await,
        }
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
        self.link(&chosen);
        chosen
    }

    /// Waits until this client is registered at an endpoint: no receive may come before (trap R1).
    ///
    /// # Errors
    /// What the server refused. A server that does not answer is waited for.
    pub(crate) async fn ready(&self, at: &Endpoint) -> Result<()> {
        let mut state = self.link(at);
        loop {
            match &*state.borrow_and_update() {
                LinkState::Ready => return Ok(()),
                LinkState::Refused(error) => return Err(error.clone()),
                LinkState::Connecting | LinkState::Lost(_) => {}
            }
            if state.changed().await.is_err() {
                return Err(Error::closed("client"));
            }
        }
    }

    /// Whether this client is registered at an endpoint right now.
    pub(crate) fn is_ready(&self, at: &Endpoint) -> bool {
        self.0.shared.reach(at) == Reach::Ready
    }

    /// Tells that an endpoint failed a request, so that it is looked at now and not at the next heartbeat.
    pub(crate) fn report(&self, at: &Endpoint, error: &Error) {
        if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) {
            if let Some(held) = self.0.shared.links().get(at) {
                held.kick.notify_one();
            }
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
        self.0.shared.health.send_replace(Health::Closed);
        self.0.shared.common.tick();
        ended
    }

    /// The state of an endpoint's link, which is begun when there is none.
    fn link(&self, at: &Endpoint) -> watch::Receiver<LinkState> {
        let Inner { shared, tasks } = &*self.0;
        let mut links = shared.links();
        if let Some(held) = links.get(at) {
            return held.state.clone();
        }
        let (state, seen) = watch::channel(LinkState::Connecting);
        let (kick, stop) = (Arc::new(Notify::new()), tasks.token().child_token());
        let link = Link { at: at.clone(), common: Arc::clone(&shared.common), state, kick: Arc::clone(&kick) };
        let stopped = stop.clone();
        tasks.spawn("link", async move {
            tokio::select! { () = stopped.cancelled() => {}, () = link.run() => {} }
        });
        links.insert(at.clone(), Held { state: seen.clone(), kick, stop });
        seen
    }
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, HashMap<Endpoint, Held>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self, at: &Endpoint) -> Reach {
        self.links().get(at).map_or(Reach::Untried, |held| held.state.borrow().reach())
    }

    fn choose(&self, offered: &[Endpoint]) -> Endpoint {
        choice::choose(self.route_endpoints, offered, &self.access_point, |at| self.reach(at))
    }

    /// The outcome of the first handshakes, once there is one.
    fn access_outcome(&self) -> Option<Result<()>> {
        let links = self.links();
        let states = || self.access_point.iter().filter_map(|at| links.get(at)).map(|held| held.state.borrow().clone());
        if states().any(|state| matches!(state, LinkState::Ready)) {
            return Some(Ok(()));
        }
        let refusals = states().map(|state| if let LinkState::Refused(error) = state { Some(error) } else { None });
        refusals.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().next()).map(Err)
    }

    fn last_failure(&self, limit: Duration) -> Error {
        let links = self.links();
        let failure =
            self.access_point.iter().filter_map(|at| links.get(at)).find_map(|held| match &*held.state.borrow() {
                LinkState::Lost(error) | LinkState::Refused(error) => Some(error.clone()),
                _ => None,
            });
        let text = format!(
            "no handshake within {limit:?}; is this the address of RocketMQ's proxy (gRPC, usually port 8081)?"
        );
        let error = Error::new(ErrorKind::Unavailable, text).during(Operation::Handshake).at(&self.access_point[0]);
        match failure {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }

    /// Asks for a route now; joins a look-up that is under way.
    async fn refresh(self: &Arc<Self>, topic: &Arc<str>) -> Result<Arc<Route>> {
        let ask = || {
            let (shared, topic) = (Arc::clone(self), Arc::clone(topic));
            async move {
                let at = shared.choose(&shared.access_point);
                shared.common.wire.query_route(&at, &topic).await.map(Arc::new)
            }
            .boxed()
        };
        let (route, new) = self.routes.look_up(topic, ask).await?;
        if new {
            self.common.tick();
        }
        Ok(route)
    }

    /// Ends the links to endpoints that no route names any more.
    fn prune(&self) {
        let mut used: Vec<Endpoint> = self.access_point.clone();
        for route in self.routes.all() {
            used.extend(route.brokers(Permission::usable).into_iter().flat_map(|(_, endpoints)| endpoints.to_vec()));
        }
        self.links().retain(|at, held| {
            let keep = used.contains(at);
            if !keep {
                held.stop.cancel();
                self.common.wire.forget(at);
            }
            keep
        });
    }
}

/// Keeps the routes fresh: on a beat, and soon after a failed request.
async fn refresh_routes(shared: Arc<Shared>) {
    let mut beat = clock::interval(ROUTE_REFRESH);
    loop {
        tokio::select! {
            _ = beat.tick() => {}
            () = shared.stale.notified() => clock::sleep(Duration::from_millis(500).mul_f64(0.5 + fastrand::f64())).await,
        }
        for topic in shared.routes.topics() {
            if let Err(error) = shared.refresh(&topic).await {
                tracing::debug!(%topic, %error, "the route could not be refreshed; the last one stays in use");
            }
        }
        shared.prune();
    }
}

/// Derives the health of the whole from its links.
async fn watch_health(shared: Arc<Shared>) {
    let mut changes = shared.common.changes.subscribe();
    loop {
        let reaches: Vec<Reach> = shared.links().values().map(|held| held.state.borrow().reach()).collect();
        let health = judge(&reaches);
        shared.health.send_if_modified(|known| std::mem::replace(known, health) != health);
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn judge(reaches: &[Reach]) -> Health {
    let count = |wanted| reaches.iter().filter(|reach| **reach == wanted).count();
    match (count(Reach::Ready), count(Reach::Lost)) {
        (0, 0) => Health::Connecting,
        (0, _) => Health::Down,
        (_, 0) => Health::Healthy,
        _ => Health::Degraded,
    }
}

/// The server forgets this client at once, rather than after 120 s, and hands out what it held.
async fn say_goodbye(shared: &Shared) {
    let group = shared.common.client.borrow().group.clone();
    let known: Vec<Endpoint> = shared.links().keys().cloned().collect();
    let ready = known.into_iter().filter(|at| shared.reach(at) == Reach::Ready);
    let goodbyes = ready.map(|at| {
        let group = group.clone();
        async move {
            let goodbye = shared.common.wire.goodbye(&at, group.as_ref());
            if let Some(Err(error)) = clock::timeout(FAREWELL, goodbye).await {
                tracing::debug!(endpoint = %at, %error, "goodbye failed; the server forgets this client by itself");
            }
        }
    });
    futures_util::future::join_all(goodbyes).await;
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.0.shared;
        f.debug_struct("Session").field("health", &*shared.health.borrow()).field("routes", &shared.routes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_judged_by_the_links() {
        use Reach::{Lost, Ready, Untried};
        for (reaches, health) in [
            (&[][..], Health::Connecting),
            (&[Untried], Health::Connecting),
            (&[Ready, Untried], Health::Healthy),
            (&[Ready, Lost], Health::Degraded),
            (&[Lost, Untried], Health::Down),
        ] {
            assert_eq!(judge(reaches), health, "{reaches:?}");
        }
    }
}
