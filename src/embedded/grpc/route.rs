//! Where topics live.

use super::answer::ok;
use super::caller::Caller;
use super::{Proxy, checks, status, wire};
use crate::embedded::engine::{Engine, Millis, TopicType};
use crate::proto::{self, Code};

/// Topics that every route request may bring into being.
fn created_on_demand(proxy: &Proxy, engine: &mut Engine, topic: &str) {
    let config = &proxy.cluster.config;
    if config.auto_create_topics && engine.topic(topic).is_none() {
        engine.create_topic(topic, config.auto_create_queues, TopicType::Normal);
    }
}

/// The topic's type, its queues per broker and its brokers. A topic all of whose brokers are gone is not found.
fn look_up(proxy: &Proxy, topic: &str) -> Result<(TopicType, u32, Vec<String>), proto::Status> {
    let find = |engine: &mut Engine, now: Millis| {
        created_on_demand(proxy, engine, topic);
        let brokers: Vec<_> = engine.routed_brokers(now).into_iter().map(|b| engine.broker_name(b).into()).collect();
        let (kind, queues) = engine.topic(topic).filter(|_| !brokers.is_empty())?;
        Some((kind, queues, brokers))
    };
    proxy.cluster.with(find).ok_or_else(|| {
        status(Code::TopicNotFound, format!("No topic route info in name server for the topic: {topic}"))
    })
}

pub(super) fn query_route(
    proxy: &Proxy,
    _caller: &Caller,
    request: proto::QueryRouteRequest,
) -> Result<proto::QueryRouteResponse, proto::Status> {
    let topic = checks::topic(&proxy.cluster.config, request.topic.as_ref())?;
    let (kind, queues, brokers) = look_up(proxy, topic)?;
    let endpoints = endpoints(proxy, request.endpoints);
    let accept_message_types = wire::accepted_types(kind);
    let queue = |broker: &String, id: u32| proto::MessageQueue {
        topic: request.topic.clone(),
        id: id as i32,
        permission: proto::Permission::ReadWrite.into(),
        broker: Some(proto::Broker { name: broker.clone(), id: 0, endpoints: Some(endpoints.clone()) }),
        accept_message_types: accept_message_types.clone(),
    };
    let queue = &queue;
    let message_queues = brokers.iter().flat_map(|broker| (0..queues).map(move |id| queue(broker, id))).collect();
    Ok(proto::QueryRouteResponse { status: Some(ok()), message_queues })
}

/// Not a load balancer: every member gets the same answer.
pub(super) fn query_assignment(
    proxy: &Proxy,
    _caller: &Caller,
    request: proto::QueryAssignmentRequest,
) -> Result<proto::QueryAssignmentResponse, proto::Status> {
    let config = &proxy.cluster.config;
    let topic = checks::topic(config, request.topic.as_ref())?;
    let group = checks::group(config, request.group.as_ref())?;
    let (_, queues, brokers) = look_up(proxy, topic)?;
    let ordered = proxy.cluster.with(|engine, _| engine.group_config(group).fifo);
    let ids = if ordered { 0..queues as i32 } else { -1..0 };
    let endpoints = endpoints(proxy, request.endpoints);
    let assignment = |broker: &String, id: i32| proto::Assignment {
        message_queue: Some(proto::MessageQueue {
            topic: request.topic.clone(),
            id,
            permission: proto::Permission::Read.into(),
            broker: Some(proto::Broker { name: broker.clone(), id: 0, endpoints: Some(endpoints.clone()) }),
            accept_message_types: Vec::new(),
        }),
    };
    let assignment = &assignment;
    let assignments = brokers.iter().flat_map(|b| ids.clone().map(move |id| assignment(b, id))).collect();
    Ok(proto::QueryAssignmentResponse { status: Some(ok()), assignments })
}

/// The addresses of the request, with a port of this cluster: one that belongs to it is kept, any other replaced by the
/// port of the proxy that was asked.
fn endpoints(proxy: &Proxy, asked: Option<proto::Endpoints>) -> proto::Endpoints {
    let ports = &proxy.cluster.ports;
    let own = proxy.cluster.config.advertised_port.unwrap_or(ports[proxy.index]);
    let advertised = proxy.cluster.config.advertised_port.is_some();
    let mut endpoints = asked.filter(|asked| !asked.addresses.is_empty()).unwrap_or_else(|| proto::Endpoints {
        scheme: proto::AddressScheme::IPv4.into(),
        addresses: vec![proto::Address { host: "127.0.0.1".into(), port: 0 }],
    });
    for address in &mut endpoints.addresses {
        let known = u16::try_from(address.port).is_ok_and(|port| ports.contains(&port));
        if advertised || !known {
            address.port = i32::from(own);
        }
    }
    endpoints
}
