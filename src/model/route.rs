use std::sync::Arc;

use crate::model::{Endpoint, MessageQueue, MessageType};

/// Where a topic lives, as one QueryRoute said. Only masters: slaves would count each queue twice (protocol.md A.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) topic: Arc<str>,
    pub(crate) queues: Vec<RouteQueue>,
}

/// One queue of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteQueue {
    pub(crate) broker: Arc<str>,
    pub(crate) id: i32,
    pub(crate) permission: Permission,
    /// Where the broker is reached, in the order of the server; empty when the server named none.
    pub(crate) endpoints: Arc<[Endpoint]>,
    /// Every member of the broker's group by its id (0: the master), on the remoting wire; empty on gRPC.
    pub(crate) replicas: Arc<[(u64, Endpoint)]>,
    /// Message types the topic takes; empty when the server did not say.
    pub(crate) accepts: Vec<MessageType>,
}

/// What a queue may be used for (the gRPC enum, not the remoting bit mask).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    None,
    Read,
    Write,
    ReadWrite,
}

impl Permission {
    pub(crate) const fn readable(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    pub(crate) const fn usable(self) -> bool {
        !matches!(self, Self::None)
    }

    pub(crate) const fn writable(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

impl Route {
    /// The brokers with a queue that satisfies `wanted`, each once with its endpoints, in the order of the server.
    pub(crate) fn brokers(&self, wanted: fn(Permission) -> bool) -> Vec<(Arc<str>, Arc<[Endpoint]>)> {
        let mut brokers: Vec<(Arc<str>, Arc<[Endpoint]>)> = Vec::new();
        for queue in self.queues.iter().filter(|queue| wanted(queue.permission)) {
            if !brokers.iter().any(|(name, _)| *name == queue.broker) {
                brokers.push((Arc::clone(&queue.broker), Arc::clone(&queue.endpoints)));
            }
        }
        brokers
    }

    /// The queues that can be read, in the order of the server. The queue -1, which gRPC names for receiving, is none.
    pub(crate) fn readable(&self) -> impl Iterator<Item = MessageQueue> {
        let readable = self.queues.iter().filter(|queue| queue.permission.readable());
        readable.filter_map(|queue| {
            let id = u32::try_from(queue.id).ok()?;
            Some(MessageQueue::new(Arc::clone(&self.topic), Arc::clone(&queue.broker), id))
        })
    }

    /// Whether the topic takes messages of a type, as far as the server said.
    pub(crate) fn accepts(&self, kind: MessageType) -> bool {
        self.queues.iter().all(|queue| queue.accepts.is_empty() || queue.accepts.contains(&kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(broker: &str, id: i32, permission: Permission, accepts: &[MessageType]) -> RouteQueue {
        RouteQueue {
            broker: broker.into(),
            id,
            permission,
            endpoints: [Endpoint::new(broker, 8081)].into(),
            replicas: Arc::default(),
            accepts: accepts.to_vec(),
        }
    }

    fn route() -> Route {
        let queues = vec![
            queue("b", 1, Permission::Read, &[]),
            queue("a", 0, Permission::Write, &[MessageType::Normal]),
            queue("b", 0, Permission::ReadWrite, &[MessageType::Normal, MessageType::Fifo]),
            queue("c", 0, Permission::None, &[]),
            queue("d", -1, Permission::Read, &[]),
        ];
        Route { topic: "orders".into(), queues }
    }

    #[test]
    fn each_broker_that_serves_is_there_once_in_the_order_of_the_server() {
        let names = |wanted: fn(Permission) -> bool| -> Vec<String> {
            route().brokers(wanted).iter().map(|(name, endpoints)| format!("{name} {}", endpoints[0])).collect()
        };
        assert_eq!(names(Permission::readable), ["b b:8081", "d d:8081"]);
        assert_eq!(names(Permission::writable), ["a a:8081", "b b:8081"]);
        assert_eq!(names(Permission::usable), ["b b:8081", "a a:8081", "d d:8081"]);
    }

    #[test]
    fn the_queues_to_pull_from_are_the_readable_ones_that_have_a_number() {
        let queues: Vec<_> = route().readable().map(|queue| queue.to_string()).collect();
        assert_eq!(queues, ["orders@b:1", "orders@b:0"]);
    }

    #[test]
    fn a_topic_takes_a_type_unless_one_of_its_queues_says_others() {
        let takes = [MessageType::Normal, MessageType::Fifo, MessageType::Delay].map(|kind| route().accepts(kind));
        assert_eq!(takes, [true, false, false]);
        let silent = Route { topic: "t".into(), queues: vec![queue("a", 0, Permission::ReadWrite, &[])] };
        assert!(silent.accepts(MessageType::Delay), "the server did not say");
    }
}
