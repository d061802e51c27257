//! What a session's tasks share, and what they do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{Endpoint, Permission, Route};
use crate::session::choice::{self, Reach};
use crate::session::link::{Common, Link, LinkState};
use crate::session::routes::Routes;
use crate::session::{Enrolment, Health, RouteEndpoints};
use crate::task::TaskGroup;

/// As the official clients. A failed request refreshes at once.
const ROUTE_REFRESH: Duration = Duration::from_secs(30);
/// How long a goodbye may take when nobody waits for it.
const FAREWELL: Duration = Duration::from_secs(2);

/// Held by the tasks of a session, which must not keep the session itself alive.
pub(super) struct Shared {
    pub(super) common: Arc<Common>,
    pub(super) access_point: Vec<Endpoint>,
    pub(super) route_endpoints: RouteEndpoints,
    pub(super) enrolment: Enrolment,
    /// Weak, so that it ends with the session.
    pub(super) tasks: Weak<TaskGroup>,
    pub(super) links: Mutex<HashMap<Endpoint, Held>>,
    pub(super) routes: Routes,
    pub(super) health: watch::Sender<Health>,
    /// A request failed: the routes may be old.
    pub(super) stale: Notify,
}

/// A link as seen from outside its task.
pub(super) struct Held {
    pub(super) state: watch::Receiver<LinkState>,
    pub(super) kick: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

impl Shared {
    pub(super) fn links(&self) -> MutexGuard<'_, HashMap<Endpoint, Held>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reach(&self, at: &Endpoint) -> Reach {
        self.links().get(at).map_or(Reach::Untried, |held| held.state.borrow().reach())
    }

    pub(super) fn choose(&self, offered: &[Endpoint]) -> Endpoint {
        let reach = |at: &Endpoint| self.reach(at);
        if self.enrolment == Enrolment::Brokers && self.route_endpoints == RouteEndpoints::Server {
            // A name server stands in for nobody.
            if let Some(best) = choice::best(offered, reach) {
                return best;
            }
        }
        choice::choose(self.route_endpoints, offered, &self.access_point, reach)
    }

    /// The state of an endpoint's link, which is begun when there is none.
    pub(super) fn link(&self, at: &Endpoint) -> watch::Receiver<LinkState> {
        let mut links = self.links();
        if let Some(held) = links.get(at) {
            return held.state.clone();
        }
        let (state, seen) = watch::channel(LinkState::Connecting);
        // Without tasks the session has ended; whoever waits for the state learns it by the sender's end.
        if let Some(tasks) = self.tasks.upgrade() {
            let (kick, stop) = (Arc::new(Notify::new()), tasks.token().child_token());
            let link = Link { at: at.clone(), common: Arc::clone(&self.common), state, kick: Arc::clone(&kick) };
            let stopped = stop.clone();
            tasks.spawn("link", async move {
                tokio::select! { () = stopped.cancelled() => {}, () = link.run() => {} }
            });
            links.insert(at.clone(), Held { state: seen.clone(), kick, stop });
        }
        seen
    }

    /// Becomes known to every member of every broker of a route: any of them may be asked who is in the group, and a
    /// client that is missing in one list gets no queue (protocol.md G.1.17).
    fn enrol(&self, route: &Route) {
        for at in self.members(route) {
            self.link(&at);
        }
    }

    /// The endpoints at which this client is to be known because of a route.
    pub(super) fn members(&self, route: &Route) -> Vec<Endpoint> {
        let mut members: Vec<Endpoint> = match (self.enrolment, self.route_endpoints) {
            (Enrolment::Entrance, _) => Vec::new(),
            (Enrolment::Brokers, RouteEndpoints::AccessPoint) => vec![self.choose(&[])],
            (Enrolment::Brokers, RouteEndpoints::Server) => {
                route.queues.iter().flat_map(|queue| queue.replicas.iter().map(|(_, at)| at.clone())).collect()
            }
        };
        members.sort_unstable();
        members.dedup();
        members
    }

    /// The outcome of the first handshakes, once there is one.
    pub(super) fn access_outcome(&self) -> Option<Result<()>> {
        let links = self.links();
        let states = || self.access_point.iter().filter_map(|at| links.get(at)).map(|held| held.state.borrow().clone());
        if states().any(|state| matches!(state, LinkState::Ready(_))) {
            return Some(Ok(()));
        }
        let refusals = states().map(|state| if let LinkState::Refused(error) = state { Some(error) } else { None });
        refusals.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().next()).map(Err)
    }

    pub(super) fn last_failure(&self, limit: Duration) -> Error {
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
    pub(super) async fn refresh(self: &Arc<Self>, topic: &Arc<str>) -> Result<Arc<Route>> {
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
            self.enrol(&route);
            self.common.tick();
        }
        Ok(route)
    }

    /// The session has ended: whoever waits for a change of it waits no more, and no connection is left open. Whoever asks
    /// something all the same connects anew.
    pub(super) fn end(&self) {
        self.health.send_replace(Health::Closed);
        self.common.tick();
        let linked: Vec<Endpoint> = self.links().keys().cloned().collect();
        linked.iter().chain(&self.access_point).for_each(|at| self.common.wire.forget(at));
    }

    /// Ends the links to endpoints that no route names any more.
    pub(super) fn prune(&self) {
        let mut used: Vec<Endpoint> = self.access_point.clone();
        for route in self.routes.all() {
            used.extend(route.brokers(Permission::usable).into_iter().flat_map(|(_, endpoints)| endpoints.to_vec()));
            used.extend(self.members(&route));
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
pub(super) async fn refresh_routes(shared: Arc<Shared>) {
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
pub(super) async fn watch_health(shared: Arc<Shared>) {
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
pub(super) async fn say_goodbye(shared: &Shared) {
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
