//! Members of groups: heartbeat 34, goodbye 35, lists 38 and 203, filters 46, locks 41 and 42.

use std::sync::Arc;

use super::answer::No;
use super::codes as code;
use super::dispatch::{Answered, At};
use crate::embedded::engine::FilterProgram;
use crate::embedded::engine::TopicType;
use crate::embedded::engine::members::{ConsumerData, Member, SubscriptionData};
use crate::model::FilterKind;
use crate::transport::remoting::command::group::{CheckClient, ConnectionData, Connections, ConnectionsRequest};
use crate::transport::remoting::command::group::{Members, MembersRequest};
use crate::transport::remoting::command::heartbeat::{self, Heartbeat, Unregister};
use crate::transport::remoting::command::json::Json;
use crate::transport::remoting::command::{Command, Payload};

/// Groups that are new come into being, and their retry topics with them.
pub(super) fn heartbeat(at: &At<'_>, request: &Command) -> Answered {
    let Heartbeat { client_id, consumers, .. } = Heartbeat::read(request)?;
    let member = Member {
        client_id,
        address: at.caller.address.to_string(),
        language: request.language.name().into(),
        version: request.version,
        seen: at.server.cluster.now(),
    };
    for consumer in consumers {
        at.server.cluster.with(|engine, _| {
            engine.ensure_group(&consumer.group);
            engine.create_topic(&format!("%RETRY%{}", consumer.group), 1, TopicType::Mixed);
        });
        let heard = at.server.registry().members.heartbeat(at.caller.id, member.clone(), data(consumer));
        at.server.notify(heard);
    }
    Ok(request.answer(&()))
}

fn data(consumer: heartbeat::ConsumerData) -> ConsumerData {
    let subscription =
        |heartbeat::SubscriptionData { topic, filter, version }| SubscriptionData { topic, filter, version };
    ConsumerData {
        group: consumer.group,
        consume_type: consumer.consume_type.into(),
        message_model: consumer.message_model.into(),
        from_where: consumer.consume_from.into(),
        subscriptions: consumer.subscriptions.into_iter().map(subscription).collect(),
    }
}

pub(super) fn unregister(at: &At<'_>, request: &Command) -> Answered {
    let Unregister { consumer_group, .. } = Unregister::read(request)?;
    if let Some(group) = consumer_group {
        let heard = at.server.registry().members.unregister(at.caller.id, &group);
        at.server.notify(heard);
    }
    Ok(request.answer(&()))
}

pub(super) fn members(at: &At<'_>, request: &Command) -> Answered {
    let MembersRequest { group } = MembersRequest::read(request)?;
    let ids = at.server.registry().members.ids(&group);
    let nobody = || No::new(code::SYSTEM_ERROR, format!("no consumer for this group, {group}"));
    Ok(request.answer(&Members(ids.ok_or_else(nobody)?)))
}

pub(super) fn connections(at: &At<'_>, request: &Command) -> Answered {
    let ConnectionsRequest { group } = ConnectionsRequest::read(request)?;
    let registry = at.server.registry();
    let offline = || No::new(code::CONSUMER_NOT_ONLINE, format!("the consumer group[{group}] not online"));
    let found = registry.members.group(&group).ok_or_else(offline)?;
    let connection = |member: &Member| ConnectionData {
        client_id: Arc::clone(&member.client_id),
        address: member.address.as_str().into(),
        language: member.language.as_str().into(),
        version: member.version,
    };
    let subscription = |SubscriptionData { topic, filter, version }: &SubscriptionData| heartbeat::SubscriptionData {
        topic: Arc::clone(topic),
        filter: filter.clone(),
        version: *version,
    };
    Ok(request.answer(&Connections {
        connections: found.members.values().map(connection).collect(),
        subscriptions: found.subscriptions.values().map(subscription).collect(),
        consume_type: found.consume_type.as_str().into(),
        message_model: found.message_model.as_str().into(),
        consume_from: found.from_where.as_str().into(),
    }))
}

/// The only request that says that an SQL92 filter is none (trap P22).
pub(super) fn check_client(request: &Command) -> Answered {
    let CheckClient { subscription, .. } = CheckClient::read(request)?;
    if subscription.filter.kind() == FilterKind::Sql92 {
        FilterProgram::sql(subscription.filter.expression())
            .map_err(|reason| No::new(code::SUBSCRIPTION_PARSE_FAILED, reason))?;
    }
    Ok(request.answer(&()))
}

/// What a lock or an unlock names.
struct Claim<'a> {
    group: String,
    client_id: String,
    /// As they came, for the answer.
    queues: Vec<(&'a Json<'a>, String, i32)>,
}

fn claim<'a>(json: &'a Json<'a>) -> Result<Claim<'a>, No> {
    let text = |json: &Json<'_>, name: &str| {
        let text = json.get(name).and_then(|text| text.as_text().map(String::from));
        text.ok_or_else(|| No::new(code::SYSTEM_ERROR, format!("`{name}` is missing in the body")))
    };
    let queue = |item: &'a Json<'a>| {
        let id = item.get("queueId").and_then(Json::as_number);
        Ok((item, text(item, "topic")?, id.unwrap_or(-1)))
    };
    let queues = json.get("mqSet").map(Json::items).unwrap_or_default().iter().map(queue);
    Ok(Claim {
        group: text(json, "consumerGroup")?,
        client_id: text(json, "clientId")?,
        queues: queues.collect::<Result<_, No>>()?,
    })
}

fn body(request: &Command) -> Result<Json<'_>, No> {
    let text = std::str::from_utf8(&request.body).map_err(|error| No::new(code::SYSTEM_ERROR, error.to_string()))?;
    Json::read(text).map_err(|error| No::new(code::SYSTEM_ERROR, error.to_string()))
}

/// Answers with the queues that this client holds now.
pub(super) fn lock(at: &At<'_>, request: &Command) -> Answered {
    let json = body(request)?;
    let Claim { group, client_id, queues } = claim(&json)?;
    let now = at.server.cluster.now();
    let mut registry = at.server.registry();
    let locked = queues.into_iter().filter(|(_, topic, id)| registry.locks.lock(&group, topic, *id, &client_id, now));
    let locked = locked.map(|(queue, _, _)| queue.clone()).collect();
    let mut answer = request.answer(&());
    answer.body = Json::map([("lockOKMQSet", Json::List(locked))]).to_bytes().into();
    Ok(answer)
}

pub(super) fn unlock(at: &At<'_>, request: &Command) -> Answered {
    let json = body(request)?;
    let Claim { group, client_id, queues } = claim(&json)?;
    let mut registry = at.server.registry();
    for (_, topic, id) in queues {
        registry.locks.unlock(&group, &topic, id, &client_id);
    }
    Ok(request.answer(&()))
}
