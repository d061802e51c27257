//! Routes, from the first of several name servers that knows.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{Endpoint, Permission, Route, RouteQueue};
use crate::transport::remoting::RemotingWire;
use crate::transport::remoting::command::Request;
use crate::transport::remoting::command::route::{BrokerData, QueueData, READ, RouteData, RouteRequest, WRITE};
use crate::transport::remoting::command::topics::{AllTopicsRequest, SystemTopicsRequest, TopicList};
use crate::transport::remoting::rpc::Place;
use crate::transport::{Call, Routing};

/// Queues of a topic on all its brokers together. More than anybody has: a route that says so is nonsense, and no memory is
/// spent on it.
const MOST_QUEUES: usize = 1 << 16;

impl Routing for RemotingWire {
    /// A name server that has just started knows nothing yet: a topic is absent only when none knows it.
    fn query_route<'a>(&'a self, _: &'a Endpoint, topic: &'a Arc<str>) -> Call<'a, Route> {
        Box::pin(self.first_that_knows(move |server| Box::pin(self.ask_for_route(server, topic))))
    }
}

/// What is final says more than what may pass.
fn worse(one: Option<Error>, other: Error) -> Error {
    match one {
        Some(one) if !one.kind().is_transient() || other.kind().is_transient() => one,
        _ => other,
    }
}

impl RemotingWire {
    /// The answer of the first name server that has one.
    async fn first_that_knows<'a, T>(&'a self, ask: impl Fn(&'a Endpoint) -> Call<'a, T>) -> Result<T> {
        let mut failure: Option<Error> = None;
        for (index, server) in self.name_servers_in_turn() {
            match ask(server).await {
                Ok(answer) => {
                    self.answering.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => failure = Some(worse(failure, error)),
            }
        }
        Err(failure.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "there is no name server to ask")))
    }

    async fn ask_for_route(&self, server: &Endpoint, topic: &Arc<str>) -> Result<Route> {
        let place = Place::new(Operation::QueryRoute, server).topic(topic);
        let data = self.ask(&place, server, &RouteRequest { topic: Arc::clone(topic) }).await?;
        route(topic, &data).map_err(|error| place.dress(error))
    }

    async fn ask<R: Request>(&self, place: &Place<'_>, server: &Endpoint, request: &R) -> Result<R::Answer> {
        let answer = self.rpc.call(place, request).await;
        if answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout) {
            // Nobody else watches over connections to name servers: this one may be dead.
            self.rpc.forget(server);
        }
        answer
    }

    /// What is left of all topics without those that are named after clusters and brokers.
    async fn ask_for_topics(&self, server: &Endpoint) -> Result<BTreeSet<Arc<str>>> {
        let place = Place::new(Operation::QueryRoute, server);
        let TopicList(all) = self.ask(&place, server, &AllTopicsRequest).await?;
        let TopicList(of_servers) = self.ask(&place, server, &SystemTopicsRequest).await?;
        Ok(all.difference(&of_servers).cloned().collect())
    }

    pub(super) async fn list_topics(&self) -> Result<BTreeSet<Arc<str>>> {
        self.first_that_knows(move |server| Box::pin(self.ask_for_topics(server))).await
    }
}

/// The route in the terms of the model. A queue whose broker has no address is left out: the name server is about to forget
/// it.
pub(super) fn route(topic: &Arc<str>, data: &RouteData) -> Result<Route> {
    let brokers: HashMap<&str, Members> = data.brokers.iter().map(|broker| (&*broker.name, members(broker))).collect();
    let mut queues = Vec::new();
    for queue in &data.queues {
        let Some(members) = brokers.get(&*queue.broker).filter(|members| !members.replicas.is_empty()) else {
            continue;
        };
        let count = queue.read.max(queue.write);
        if queues.len() + count as usize > MOST_QUEUES {
            let text = format!("the route has more than {MOST_QUEUES} queues, {count} of them on {}", queue.broker);
            return Err(Error::new(ErrorKind::Protocol, text));
        }
        queues.extend((0..count).map(|id| RouteQueue {
            broker: Arc::clone(&queue.broker),
            id: id as i32,
            permission: permission(queue, id),
            endpoints: Arc::clone(&members.endpoints),
            replicas: Arc::clone(&members.replicas),
            accepts: Vec::new(),
        }));
    }
    Ok(Route { topic: Arc::clone(topic), queues })
}

/// Where a broker is reached.
struct Members {
    /// The master. Without one, the first replica: what can be read is read.
    endpoints: Arc<[Endpoint]>,
    replicas: Arc<[(u64, Endpoint)]>,
}

fn members(broker: &BrokerData) -> Members {
    let replicas: Arc<[(u64, Endpoint)]> =
        broker.addresses.iter().filter_map(|(id, address)| Some((*id, Endpoint::parse(address)?))).collect();
    Members { endpoints: replicas.first().map(|(_, at)| at.clone()).into_iter().collect(), replicas }
}

/// Read and write numbers may differ: the ids beyond the one or the other cannot be used so.
fn permission(queue: &QueueData, id: u32) -> Permission {
    let readable = queue.permission & READ != 0 && id < queue.read;
    let writable = queue.permission & WRITE != 0 && id < queue.write;
    match (readable, writable) {
        (true, true) => Permission::ReadWrite,
        (true, false) => Permission::Read,
        (false, true) => Permission::Write,
        (false, false) => Permission::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(name: &str, addresses: &[(u64, &str)]) -> BrokerData {
        let addresses = addresses.iter().map(|(id, at)| (*id, (*at).into())).collect();
        BrokerData { cluster: "C".into(), name: name.into(), addresses }
    }

    fn queue(broker: &str, read: u32, write: u32, permission: u32) -> QueueData {
        QueueData { broker: broker.into(), read, write, permission }
    }

    #[test]
    fn a_route_has_the_queues_of_its_brokers_with_their_members() {
        let data = RouteData {
            queues: vec![queue("a", 3, 2, 6), queue("b", 1, 1, 2), queue("gone", 4, 4, 6)],
            brokers: vec![
                broker("a", &[(0, "10.0.0.1:1"), (1, "10.0.0.2:1")]),
                broker("b", &[(1, "[::1]:2"), (2, "x")]),
            ],
        };
        let route = route(&"t".into(), &data).unwrap();
        let seen: Vec<_> = route.queues.iter().map(|queue| (&*queue.broker, queue.id, queue.permission)).collect();
        use Permission::{Read, ReadWrite, Write};
        assert_eq!(seen, [("a", 0, ReadWrite), ("a", 1, ReadWrite), ("a", 2, Read), ("b", 0, Write)]);
        assert_eq!(*route.queues[0].endpoints, [Endpoint::new("10.0.0.1", 1)], "the master alone");
        assert_eq!(*route.queues[0].replicas, [(0, Endpoint::new("10.0.0.1", 1)), (1, Endpoint::new("10.0.0.2", 1))]);
        assert_eq!(*route.queues[3].endpoints, [Endpoint::new("::1", 2)], "without a master, the first that is there");
    }

    #[test]
    fn a_route_of_absurd_size_is_refused() {
        let of = |queues| RouteData { queues, brokers: vec![broker("a", &[(0, "a:1")])] };
        for queues in [vec![queue("a", u32::MAX, 1, 6)], vec![queue("a", 1, 40_000, 6); 2]] {
            let error = route(&"t".into(), &of(queues)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(error.text().contains("more than 65536 queues"), "{error}");
        }
        assert_eq!(route(&"t".into(), &of(vec![queue("a", 32_768, 1, 6); 2])).unwrap().queues.len(), 65_536);
    }

    #[test]
    fn a_final_failure_says_more_than_a_passing_one() {
        let (away, absent) = (Error::new(ErrorKind::Unavailable, "away"), Error::new(ErrorKind::NotFound, "absent"));
        assert_eq!(worse(None, away.clone()).kind(), ErrorKind::Unavailable);
        assert_eq!(worse(Some(away.clone()), absent.clone()).kind(), ErrorKind::NotFound);
        assert_eq!(worse(Some(absent), away).kind(), ErrorKind::NotFound);
    }
}
