//! What administrators ask: statistics 202 and 208, a reset 222, and questions to a client by way of its broker: 223, 307.

use std::sync::Arc;
use std::time::Duration;

use super::answer::No;
use super::codes as code;
use super::dispatch::{Answered, At};
use crate::embedded::engine::members::ConnectionId;
use crate::embedded::engine::{Millis, QueueProgress, TimeBound};
use crate::transport::remoting::command::json::Json;
use crate::transport::remoting::command::server::{RunningInfoRequest, StatusRequest};
use crate::transport::remoting::command::{Command, Payload};

/// How long a client may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

fn queue<'a>(topic: &'a str, broker: &'a str, id: u32) -> Json<'a> {
    Json::map([("brokerName", Json::text(broker)), ("queueId", Json::number(id)), ("topic", Json::text(topic))])
}

fn number(number: u64) -> Json<'static> {
    Json::number(number as i64)
}

fn with_body(request: &Command, body: &Json<'_>) -> Command {
    let mut answer = request.answer(&());
    answer.body = body.to_bytes().into();
    answer
}

/// The name of the broker that was asked.
fn broker_name(at: &At<'_>) -> String {
    at.server.cluster.with(|engine, _| engine.broker_name(at.broker).to_owned())
}

pub(super) fn topic_stats(at: &At<'_>, request: &Command) -> Answered {
    let topic = request.fields.text("topic")?;
    let broker = broker_name(at);
    let stats = at.server.cluster.with(|engine, _| {
        let (_, queues) = engine.topic(topic)?;
        let of = |id: u32| {
            let (min, max) = engine.bounds(topic, at.broker, id as i32).unwrap_or_default();
            (id, min, max, engine.last_stored(topic, at.broker, id as i32).unwrap_or(0))
        };
        Some((0..queues).map(of).collect::<Vec<_>>())
    });
    let stats = stats.ok_or_else(|| No::no_topic(topic))?;
    let row = |(id, min, max, at): (u32, u64, u64, Millis)| {
        let offsets = [("lastUpdateTimestamp", number(at)), ("maxOffset", number(max)), ("minOffset", number(min))];
        (queue(topic, &broker, id), Json::map(offsets))
    };
    let table = Json::Map(stats.into_iter().map(row).collect());
    Ok(with_body(request, &Json::map([("offsetTable", table)])))
}

/// How far a group is: in one topic, or in all it has committed offsets of or subscribes to.
pub(super) fn consume_stats(at: &At<'_>, request: &Command) -> Answered {
    let group = request.fields.text("consumerGroup")?;
    let topic = request.fields.get("topic").filter(|topic| !topic.is_empty());
    let subscribed: Option<Vec<Arc<str>>> = {
        let registry = at.server.registry();
        registry.members.group(group).map(|group| group.subscriptions.keys().cloned().collect())
    };
    let broker = broker_name(at);
    let rows: Vec<QueueProgress> = at.server.cluster.with(|engine, _| {
        let mut topics = match topic {
            Some(topic) => vec![topic.into()],
            None => engine.committed_topics(group, at.broker),
        };
        if topic.is_none() {
            topics.extend(subscribed.into_iter().flatten());
            topics.sort();
            topics.dedup();
        }
        topics.iter().flat_map(|topic| engine.progress_of(group, topic, at.broker)).collect()
    });
    let row = |row: &QueueProgress| {
        let offsets = Json::map([
            ("brokerOffset", number(row.max)),
            ("consumerOffset", number(row.committed.unwrap_or(0))),
            ("lastTimestamp", number(row.last_stored.unwrap_or(0))),
            ("pullOffset", number(row.pulled.unwrap_or(0))),
        ]);
        (row.topic.to_string(), row.queue, offsets)
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    let table = rows.iter().map(|(topic, id, offsets)| (queue(topic, &broker, *id), offsets.clone())).collect();
    let body = Json::map([("consumeTps", Json::number(0)), ("offsetTable", Json::Map(table))]);
    Ok(with_body(request, &body))
}

/// Sets where the next pulls go on (`useServerSideResetOffset`): in one queue at an offset, or in all at a time. No client is
/// told.
pub(super) fn reset_offset(at: &At<'_>, request: &Command) -> Answered {
    let fields = &request.fields;
    let (topic, group) = (fields.text("topic")?, fields.text("group")?);
    let time: i64 = fields.number_if("timestamp")?.unwrap_or(-1);
    let only: i32 = fields.number_if("queueId")?.unwrap_or(-1);
    let wanted: Option<i64> = fields.number_if("offset")?.filter(|offset| *offset >= 0);
    let broker = at.broker;
    let reset = at.server.cluster.with(|engine, _| {
        let (_, queues) = engine.topic(topic).ok_or_else(|| No::no_topic(topic))?;
        if !engine.has_group(group) {
            return Err(No::new(code::SUBSCRIPTION_GROUP_NOT_EXIST, format!("Group {group} not exist!")));
        }
        let ids = if only >= 0 { only..only + 1 } else { 0..queues as i32 };
        let mut done = Vec::new();
        for id in ids {
            let (min, max) = engine.bounds(topic, broker, id).unwrap_or_default();
            let target = match wanted.filter(|_| only >= 0) {
                Some(offset) if (min..=max + 1).contains(&(offset as u64)) => offset as u64,
                Some(offset) => {
                    let text = format!("Target offset {offset} not in consume queue range [{min}-{max}]");
                    return Err(No::new(code::SYSTEM_ERROR, text));
                }
                None if time < 0 => max,
                None => engine.offset_at(topic, broker, id, time as Millis, TimeBound::Lower),
            };
            engine.reset_offset(group, topic, broker, id, target);
            done.push((id, target));
        }
        Ok(done)
    })?;
    let name = broker_name(at);
    let row = |(id, target): (i32, u64)| (queue(topic, &name, id as u32), number(target));
    let table = Json::Map(reset.into_iter().map(row).collect());
    Ok(with_body(request, &Json::map([("offsetTable", table)])))
}

/// Passes the question on, and the answer back.
pub(super) async fn running_info(at: &At<'_>, request: &Command) -> Answered {
    let asked = RunningInfoRequest::read(request)?;
    let connection = at.server.registry().members.connection(&asked.group, &asked.client_id);
    let offline = || {
        let text = format!("The Consumer <{}> <{}> not online", asked.group, asked.client_id);
        No::new(code::SYSTEM_ERROR, text)
    };
    let connection = connection.ok_or_else(offline)?;
    let answer = at.server.peers.ask(connection, Command::request(&asked), PATIENCE).await;
    let answer = answer.ok_or_else(|| {
        let text = format!("consumer <{}> <{}> Timeout", asked.group, asked.client_id);
        No::new(code::CONSUME_MSG_TIMEOUT, text)
    })?;
    let mut passed = request.answer(&());
    (passed.code, passed.remark, passed.body) = (answer.code, answer.remark, answer.body);
    Ok(passed)
}

/// Asks each member of the group, or the one that is named, how far it is.
pub(super) async fn consumer_status(at: &At<'_>, request: &Command) -> Answered {
    let asked = StatusRequest::read(request)?;
    let only = request.fields.get("clientAddr").filter(|only| !only.is_empty());
    let members: Vec<(ConnectionId, Arc<str>)> = {
        let registry = at.server.registry();
        let group = registry.members.group(&asked.group);
        let members = group.into_iter().flat_map(|group| &group.members);
        let members = members.map(|(connection, member)| (*connection, Arc::clone(&member.client_id)));
        members.filter(|(_, id)| only.is_none_or(|only| *only == **id)).collect()
    };
    if members.is_empty() {
        let text = format!("No Any Consumer online in the consumer group: [{}]", asked.group);
        return Err(No::new(code::SYSTEM_ERROR, text));
    }
    let mut answers = Vec::new();
    for (connection, id) in members {
        match at.server.peers.ask(connection, Command::request(&asked), PATIENCE).await {
            Some(answer) if answer.code == code::SUCCESS => answers.push((id, answer.body)),
            _ => tracing::debug!(client = &*id, "this client did not say how far it is"),
        }
    }
    let tables: Vec<_> = answers.iter().map(|(id, body)| (id, String::from_utf8_lossy(body))).collect();
    let row = |(id, text): &'_ (&Arc<str>, std::borrow::Cow<'_, str>)| {
        let table = Json::read(text).ok().and_then(|json| Some(owned(json.get("messageQueueTable")?)));
        (Json::text(id.to_string()), table.unwrap_or(Json::Map(Vec::new())))
    };
    let table = Json::Map(tables.iter().map(row).collect());
    Ok(with_body(request, &Json::map([("consumerTable", table), ("messageQueueTable", Json::Map(Vec::new()))])))
}

/// A value that borrows from nothing.
fn owned(json: &Json<'_>) -> Json<'static> {
    match json {
        Json::Null => Json::Null,
        Json::Bool(value) => Json::Bool(*value),
        Json::Number(text) => Json::Number(text.to_string().into()),
        Json::Text(text) => Json::Text(text.to_string().into()),
        Json::List(items) => Json::List(items.iter().map(owned).collect()),
        Json::Map(members) => Json::Map(members.iter().map(|(key, value)| (owned(key), owned(value))).collect()),
    }
}
