//! The way to the brokers: routes, endpoints and the wire, whatever holds them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{Endpoint, MessageQueue, Route, RouteQueue};
use crate::task::TaskGroup;
use crate::transport::{Call, Pulling};

/// What a pulling consumer needs of its session.
pub(crate) trait Brokers: fmt::Debug + Send + Sync {
    /// The route of a topic, from a cache that is kept fresh; looked up when it is not known.
    fn route<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, Arc<Route>>;

    /// The route of a topic, asked for now; who asks meanwhile shares the answer.
    fn fresh_route<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, Arc<Route>>;

    /// The last good route of a topic, without asking.
    fn known_route(&self, topic: &str) -> Option<Arc<Route>>;

    fn wire(&self) -> &dyn Pulling;

    /// The best of the endpoints that one broker is reached at.
    fn choose(&self, offered: &[Endpoint]) -> Endpoint;

    /// Ticks when an endpoint went or came, or a route changed.
    fn changes(&self) -> watch::Receiver<u64>;

    /// As [`Session::handshake`](crate::session::Session::handshake).
    fn handshake(&self, at: &Endpoint) -> Option<u64>;

    /// Tells that an endpoint failed a request: its route may be old.
    fn report(&self, at: &Endpoint, error: &Error);

    /// Tasks that live as long as the session.
    fn tasks(&self) -> &TaskGroup;

    /// Says goodbye and ends what is under way, at most `deadline`. `false`: not all had ended by then.
    fn close(&self, deadline: Duration) -> BoxFuture<'_, bool>;

    /// As [`close`](Self::close), and nobody waits: for a task of [`tasks`](Self::tasks), which this ends at its next await.
    fn leave(&self);
}

/// Where to reach the broker of a queue. Ids are checked against the route first: a broker answers 0 for the offsets of a
/// queue that does not exist (trap P24).
///
/// # Errors
/// `Unavailable`: the broker, or the queue, is not in the route at the moment.
pub(crate) async fn locate(brokers: &dyn Brokers, queue: &MessageQueue, replica: Option<u64>) -> Result<Endpoint> {
    let route = match brokers.known_route(queue.topic()) {
        Some(route) => route,
        None => brokers.route(queue.shared_topic()).await?,
    };
    let known = find(&route, queue).ok_or_else(|| not_in_route(queue))?;
    Ok(member(known, replica).unwrap_or_else(|| brokers.choose(&known.endpoints)))
}

/// As [`locate`] for what only the master may be told: a slave would keep it for itself, and the master write over it. When
/// the last route has none, the route is asked for again: it may be back, here or elsewhere.
///
/// # Errors
/// `Unavailable`, also when the broker has no master at the moment.
pub(crate) async fn locate_master(brokers: &dyn Brokers, queue: &MessageQueue) -> Result<Endpoint> {
    let route = match brokers.known_route(queue.topic()) {
        Some(route) => route,
        None => brokers.route(queue.shared_topic()).await?,
    };
    let missing = match master(brokers, &route, queue) {
        Ok(at) => return Ok(at),
        Err(missing) => missing,
    };
    let Ok(fresh) = brokers.fresh_route(queue.shared_topic()).await else { return Err(missing) };
    master(brokers, &fresh, queue)
}

fn master(brokers: &dyn Brokers, route: &Route, queue: &MessageQueue) -> Result<Endpoint> {
    let known = find(route, queue).ok_or_else(|| not_in_route(queue))?;
    master_of(brokers, known).ok_or_else(|| {
        let text = "the queue's broker has no master at the moment: offsets are kept there";
        Error::new(ErrorKind::Unavailable, text).during(Operation::QueryRoute).on_queue(queue)
    })
}

fn master_of(brokers: &dyn Brokers, known: &RouteQueue) -> Option<Endpoint> {
    if known.replicas.is_empty() {
        return Some(brokers.choose(&known.endpoints)); // a way in that finds the master itself
    }
    known.replicas.iter().find(|(id, _)| *id == 0).map(|(_, at)| at.clone())
}

/// The brokers of a topic's last good route that have a master, and where that is; nobody is asked.
pub(crate) fn known_masters(brokers: &dyn Brokers, topic: &str) -> BTreeMap<Arc<str>, Endpoint> {
    let Some(route) = brokers.known_route(topic) else { return BTreeMap::new() };
    let readable = route.queues.iter().filter(|queue| queue.permission.readable());
    readable.filter_map(|queue| Some((Arc::clone(&queue.broker), master_of(brokers, queue)?))).collect()
}

fn not_in_route(queue: &MessageQueue) -> Error {
    let text = "the queue is not in the route of its topic: its broker is away, or it was taken out of service";
    Error::new(ErrorKind::Unavailable, text).during(Operation::QueryRoute).on_queue(queue)
}

fn find<'a>(route: &'a Route, queue: &MessageQueue) -> Option<&'a RouteQueue> {
    let is_it = |known: &&RouteQueue| known.id.cast_unsigned() == queue.id() && *known.broker == *queue.broker();
    route.queues.iter().filter(|known| known.permission.readable()).find(is_it)
}

/// The member of the broker's group with this id; without a wish the master, and when that is away, whoever is left.
fn member(known: &RouteQueue, replica: Option<u64>) -> Option<Endpoint> {
    let with_id = |wanted: u64| known.replicas.iter().find(|(id, _)| *id == wanted);
    let wished = replica.and_then(with_id);
    wished.or_else(|| with_id(0)).or_else(|| known.replicas.first()).map(|(_, at)| at.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Permission;

    fn queue(replicas: &[(u64, u16)]) -> RouteQueue {
        RouteQueue {
            broker: "b".into(),
            id: 3,
            permission: Permission::ReadWrite,
            endpoints: Arc::default(),
            replicas: replicas.iter().map(|(id, port)| (*id, Endpoint::new("h", *port))).collect(),
            accepts: Vec::new(),
        }
    }

    #[test]
    fn p17_reads_go_to_the_member_that_was_suggested_to_the_master_and_to_whoever_is_left() {
        for (members, wished, port) in [
            (&[(0, 10), (1, 11)][..], None, Some(10)),
            (&[(0, 10), (1, 11)], Some(1), Some(11)),
            (&[(0, 10), (1, 11)], Some(7), Some(10)),
            (&[(1, 11), (2, 12)], None, Some(11)),
            (&[], None, None),
        ] {
            let found = member(&queue(members), wished);
            assert_eq!(found, port.map(|port| Endpoint::new("h", port)), "{members:?} {wished:?}");
        }
    }

    #[test]
    fn p24_a_queue_that_the_route_does_not_name_is_not_asked_for() {
        let route = Route { topic: "t".into(), queues: vec![queue(&[])] };
        assert!(find(&route, &MessageQueue::new("t", "b", 3)).is_some());
        assert!(find(&route, &MessageQueue::new("t", "b", 4)).is_none());
        assert!(find(&route, &MessageQueue::new("t", "c", 3)).is_none());
    }
}
