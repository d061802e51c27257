//! The name server: routes 105, the cluster 106, lists of topics 206, 224 and 304.

use std::sync::Arc;

use super::answer::No;
use super::codes as code;
use super::dispatch::{Answered, unsupported};
use super::{Server, topics};
use crate::embedded::engine::{Engine, Millis, TopicType};
use crate::model::check_topic;
use crate::transport::remoting::command::json::Json;
use crate::transport::remoting::command::route::{BrokerData, QueueData, READ, RouteData, RouteRequest, WRITE};
use crate::transport::remoting::command::topics::TopicList;
use crate::transport::remoting::command::{Command, Payload};

/// Apache's name for a cluster that was given none.
const CLUSTER: &str = "DefaultCluster";

pub(super) fn act(server: &Arc<Server>, request: &Command) -> Answered {
    match request.code {
        code::GET_ROUTE_BY_TOPIC => route(server, request),
        code::GET_BROKER_CLUSTER_INFO => Ok(cluster(server, request)),
        code::GET_ALL_TOPIC_LIST_FROM_NAMESERVER | code::GET_TOPICS_BY_CLUSTER => Ok(topic_list(server, request)),
        code::GET_SYSTEM_TOPIC_LIST_FROM_NS => Ok(system_topics(server, request)),
        code::DELETE_TOPIC_IN_NAMESRV => topics::delete(&server.cluster, request),
        _ => Err(unsupported(request)),
    }
}

/// Brokers that are in the routes: those that run, and those that stopped a moment ago.
fn brokers(server: &Server, engine: &Engine, now: Millis) -> Vec<(Arc<str>, Box<str>)> {
    let brokers = engine.routed_brokers(now).into_iter();
    let address = |broker: usize| server.cluster.broker_addresses.get(broker).map(|at| at.to_string().into());
    brokers.filter_map(|broker| Some((engine.broker_name(broker).into(), address(broker)?))).collect()
}

fn route(server: &Server, request: &Command) -> Answered {
    let RouteRequest { topic } = RouteRequest::read(request)?;
    let config = &server.cluster.config;
    let found = server.cluster.with(|engine, now| {
        let is_of_a_user = !topic.contains('%') && check_topic(&topic, &config.limits).is_ok();
        if config.auto_create_topics && is_of_a_user && engine.topic(&topic).is_none() {
            engine.create_topic(&topic, config.auto_create_queues, TopicType::Normal);
        }
        let brokers = brokers(server, engine, now);
        let (_, queues) = engine.topic(&topic).filter(|_| !brokers.is_empty())?;
        Some((queues, brokers))
    });
    let (queues, brokers) = found.ok_or_else(|| {
        No::new(code::TOPIC_NOT_EXIST, format!("No topic route info in name server for the topic: {topic}"))
    })?;
    let queue = |(broker, _): &(Arc<str>, _)| QueueData {
        broker: Arc::clone(broker),
        read: queues,
        write: queues,
        permission: READ | WRITE,
    };
    let queues = brokers.iter().map(queue).collect();
    let broker = |(name, address)| BrokerData { cluster: CLUSTER.into(), name, addresses: vec![(0, address)] };
    Ok(request.answer(&RouteData { queues, brokers: brokers.into_iter().map(broker).collect() }))
}

fn cluster(server: &Server, request: &Command) -> Command {
    let brokers = server.cluster.with(|engine, now| brokers(server, engine, now));
    let table = brokers.iter().map(|(name, address)| {
        let data = Json::map([
            ("brokerAddrs", Json::map([("0", Json::text(&**address))])),
            ("brokerName", Json::text(&**name)),
            ("cluster", Json::text(CLUSTER)),
            ("enableActingMaster", Json::Bool(false)),
        ]);
        (Json::text(&**name), data)
    });
    let names = brokers.iter().map(|(name, _)| Json::text(&**name)).collect();
    let mut answer = request.answer(&());
    answer.body = Json::map([
        ("brokerAddrTable", Json::Map(table.collect())),
        ("clusterAddrTable", Json::map([(CLUSTER, Json::List(names))])),
    ])
    .to_bytes()
    .into();
    answer
}

fn topic_list(server: &Server, request: &Command) -> Command {
    let topics = server.cluster.with(|engine, _| engine.topics().map(Into::into).collect());
    request.answer(&TopicList(topics))
}

/// Each cluster and broker has a topic of its own name.
fn system_topics(server: &Server, request: &Command) -> Command {
    let brokers = server.cluster.with(|engine, now| brokers(server, engine, now));
    let names = brokers.into_iter().map(|(name, _)| name).chain([CLUSTER.into()]);
    request.answer(&TopicList(names.collect()))
}
