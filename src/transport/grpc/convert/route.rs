//! Routes and endpoints.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::model::{Endpoint, Route, RouteQueue};
use crate::proto::{self, AddressScheme};
use crate::transport::grpc::convert::value::{message_type, permission};

/// A master's id. The server lists each queue once for every replica, so the others would count it twice.
const MASTER: i32 = 0;

/// The route of a topic: the queues of masters, in the order of the server.
pub(crate) fn route(topic: &Arc<str>, queues: Vec<proto::MessageQueue>) -> Route {
    // Queues of one broker share its name and endpoints.
    let mut brokers: Vec<(Arc<str>, Arc<[Endpoint]>)> = Vec::new();
    let queues = queues.into_iter().filter_map(|queue| {
        let wire = queue.broker.filter(|broker| broker.id == MASTER)?;
        let endpoints = wire.endpoints.map_or_else(Vec::new, |endpoints| endpoint_list(&endpoints));
        let known = brokers.iter().find(|(name, known)| **name == *wire.name && **known == *endpoints).cloned();
        let (broker, endpoints) = known.unwrap_or_else(|| {
            let new = (Arc::from(wire.name), Arc::from(endpoints));
            brokers.push(new.clone());
            new
        });
        let accepts = queue.accept_message_types.into_iter();
        Some(RouteQueue {
            broker,
            id: queue.id,
            permission: permission(queue.permission),
            endpoints,
            // "Unspecified" is how the server says that it does not say.
            replicas: Arc::default(),
            accepts: accepts.filter(|code| *code != proto::MessageType::Unspecified as i32).map(message_type).collect(),
        })
    });
    Route { topic: Arc::clone(topic), queues: queues.collect() }
}

/// The endpoints that can be one: with a host and a port.
pub(crate) fn endpoint_list(endpoints: &proto::Endpoints) -> Vec<Endpoint> {
    let addresses = endpoints.addresses.iter().filter_map(|address| {
        let port = u16::try_from(address.port).ok().filter(|port| *port > 0)?;
        let host = address.host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty()).then(|| Endpoint::new(host, port))
    });
    addresses.collect()
}

/// Endpoints for the wire. They are of one scheme: IPv4 or IPv6 if all of them are, else names.
pub(crate) fn proto_endpoints(endpoints: &[Endpoint]) -> proto::Endpoints {
    let all = |is: fn(&str) -> bool| !endpoints.is_empty() && endpoints.iter().all(|endpoint| is(endpoint.host()));
    let scheme = if all(|host| host.parse::<Ipv4Addr>().is_ok()) {
        AddressScheme::IPv4
    } else if all(|host| host.parse::<Ipv6Addr>().is_ok()) {
        AddressScheme::IPv6
    } else {
        AddressScheme::DomainName
    };
    let address = |endpoint: &Endpoint| proto::Address { host: endpoint.host().into(), port: endpoint.port().into() };
    proto::Endpoints { scheme: scheme as i32, addresses: endpoints.iter().map(address).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MessageType, Permission};

    fn queue(broker: &str, broker_id: i32, id: i32, hosts: &[&str]) -> proto::MessageQueue {
        let endpoints: Vec<_> = hosts.iter().map(|host| Endpoint::new(*host, 8081)).collect();
        proto::MessageQueue {
            topic: None,
            id,
            permission: proto::Permission::ReadWrite as i32,
            broker: Some(proto::Broker {
                name: broker.into(),
                id: broker_id,
                endpoints: Some(proto_endpoints(&endpoints)),
            }),
            accept_message_types: vec![0, 1, 99],
        }
    }

    #[test]
    fn a_route_has_the_queues_of_masters_only() {
        let topic: Arc<str> = "orders".into();
        let queues = vec![
            queue("a", 0, 0, &["10.0.0.1"]),
            queue("a", 1, 0, &["10.0.0.2"]),
            queue("a", 0, 1, &["10.0.0.1"]),
            queue("b", 0, 0, &[]),
            proto::MessageQueue { broker: None, ..queue("c", 0, 0, &[]) },
        ];
        let route = route(&topic, queues);
        let seen: Vec<_> = route.queues.iter().map(|queue| (&*queue.broker, queue.id)).collect();
        assert_eq!(seen, [("a", 0), ("a", 1), ("b", 0)]);
        assert_eq!(&*route.queues[0].endpoints, [Endpoint::new("10.0.0.1", 8081)]);
        assert!(Arc::ptr_eq(&route.queues[0].endpoints, &route.queues[1].endpoints), "shared");
        assert!(route.queues[2].endpoints.is_empty());
        assert_eq!(route.queues[0].permission, Permission::ReadWrite);
        assert_eq!(route.queues[0].accepts, [MessageType::Normal, MessageType::Unknown]);
        assert_eq!(&*route.topic, "orders");
    }

    #[test]
    fn brokers_behind_one_proxy_keep_their_names_and_one_broker_its_endpoints() {
        let queues =
            vec![queue("a", 0, 0, &["10.0.0.1"]), queue("b", 0, 0, &["10.0.0.1"]), queue("b", 0, 1, &["10.0.0.2"])];
        let route = route(&"orders".into(), queues);
        let seen: Vec<_> = route.queues.iter().map(|queue| (&*queue.broker, queue.endpoints[0].host())).collect();
        assert_eq!(seen, [("a", "10.0.0.1"), ("b", "10.0.0.1"), ("b", "10.0.0.2")]);
    }

    #[test]
    fn endpoints_come_back_whatever_their_scheme() {
        for (hosts, scheme) in [
            (vec!["10.0.0.1", "10.0.0.2"], AddressScheme::IPv4),
            (vec!["::1", "fe80::2"], AddressScheme::IPv6),
            (vec!["mq.example.org"], AddressScheme::DomainName),
            (vec!["10.0.0.1", "::1"], AddressScheme::DomainName),
            (vec![], AddressScheme::DomainName),
        ] {
            let endpoints: Vec<_> = hosts.iter().map(|host| Endpoint::new(*host, 8081)).collect();
            let wire = proto_endpoints(&endpoints);
            assert_eq!(wire.scheme, scheme as i32, "{hosts:?}");
            assert_eq!(endpoint_list(&wire), endpoints);
        }
    }

    #[test]
    fn an_address_that_cannot_be_one_is_left_out() {
        let address = |host: &str, port| proto::Address { host: host.into(), port };
        let addresses =
            vec![address("", 1), address("a", 0), address("a", -1), address("a", 70_000), address("[::1]", 9)];
        let wire = proto::Endpoints { scheme: 99, addresses };
        assert_eq!(endpoint_list(&wire), [Endpoint::new("::1", 9)]);
    }
}
