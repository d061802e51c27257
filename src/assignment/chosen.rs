//! Queues that the user names.

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{MessageQueue, Route};

/// What can be told without a server: that there are queues, and none twice.
///
/// # Errors
/// `Config`.
pub(crate) fn check_list(queues: &[MessageQueue]) -> Result<()> {
    if queues.is_empty() {
        return Err(Error::config("assign", "", "at least one queue must be named"));
    }
    let mut seen = BTreeSet::new();
    match queues.iter().find(|queue| !seen.insert(*queue)) {
        Some(twice) => Err(Error::config("assign", twice, "is named twice; a queue is read once")),
        None => Ok(()),
    }
}

/// Each queue of the route's topic must be there and readable: a broker answers 0 for the offsets of a queue that does not
/// exist, never an error (trap P24).
///
/// # Errors
/// `NotFound`, naming the queue and what there is. It may pass when the queue's broker is away at the moment.
pub(crate) fn check_queues(queues: &[MessageQueue], route: &Route) -> Result<()> {
    let there: BTreeSet<_> = route.readable().collect();
    let of_topic = |queue: &&MessageQueue| queue.topic() == &*route.topic;
    match queues.iter().filter(of_topic).find(|queue| !there.contains(queue)) {
        Some(absent) => Err(not_there(absent, route)),
        None => Ok(()),
    }
}

fn not_there(absent: &MessageQueue, route: &Route) -> Error {
    let on_broker = || route.queues.iter().filter(|queue| *queue.broker == *absent.broker());
    let text = if on_broker().next().is_none() {
        let mut brokers: Vec<&str> = route.queues.iter().map(|queue| &*queue.broker).collect();
        brokers.dedup();
        format!("queue {absent}: its broker is not in the route, which names {brokers:?}; it may be away, or misspelt")
    } else if on_broker().any(|queue| queue.id.cast_unsigned() == absent.id()) {
        format!("queue {absent} is not readable: its permission must be changed on the server")
    } else {
        let count = on_broker().filter(|queue| queue.permission.readable()).count();
        format!("queue {absent} does not exist: its broker has {count} readable queues of that topic, numbered from 0")
    };
    Error::new(ErrorKind::NotFound, text).during(Operation::QueryRoute).on_topic(absent.topic())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Permission, RouteQueue};

    fn queue(broker: &str, id: u32) -> MessageQueue {
        MessageQueue::new("orders", broker, id)
    }

    fn route(queues: &[(&str, i32, Permission)]) -> Route {
        let queue = |(broker, id, permission): &(&str, i32, Permission)| RouteQueue {
            broker: (*broker).into(),
            id: *id,
            permission: *permission,
            endpoints: Arc::default(),
            replicas: Arc::default(),
            accepts: Vec::new(),
        };
        Route { topic: "orders".into(), queues: queues.iter().map(queue).collect() }
    }

    #[test]
    fn a_queue_named_twice_or_none_at_all_is_refused_before_anything_is_asked() {
        assert!(check_list(&[queue("a", 0), queue("a", 1), queue("b", 0)]).is_ok());
        let twice = check_list(&[queue("a", 0), queue("b", 0), queue("a", 0)]).expect_err("twice");
        assert_eq!(twice.to_string(), "assign `orders@a:0`: is named twice; a queue is read once");
        assert_eq!(check_list(&[]).expect_err("none").kind(), ErrorKind::Config);
    }

    #[test]
    fn p24_queues_are_checked_against_the_route_before_their_offsets_are_asked_for() {
        let route = route(&[
            ("a", 0, Permission::ReadWrite),
            ("a", 1, Permission::Read),
            ("a", 2, Permission::Write),
            ("b", 0, Permission::Read),
        ]);
        assert!(check_queues(&[queue("a", 0), queue("a", 1), queue("b", 0)], &route).is_ok());
        for (absent, says) in [
            (queue("a", 3), "does not exist: its broker has 2 readable queues"),
            (queue("a", u32::MAX), "does not exist"),
            (queue("a", 2), "is not readable"),
            (queue("c", 0), "its broker is not in the route, which names [\"a\", \"b\"]"),
        ] {
            let error = check_queues(&[queue("a", 0), absent.clone()], &route).expect_err(says);
            assert_eq!((error.kind(), error.topic()), (ErrorKind::NotFound, Some("orders")));
            assert!(error.to_string().contains(says), "{error}");
            assert!(error.to_string().contains(&absent.to_string()), "{error}");
        }
    }

    #[test]
    fn a_route_judges_only_the_queues_of_its_topic() {
        let route = route(&[("a", 0, Permission::Read)]);
        assert!(check_queues(&[MessageQueue::new("other", "z", 9)], &route).is_ok());
    }
}
