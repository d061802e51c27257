//! Topics and groups by an administrator: 17, 200, 215, 351 and 352.

use super::answer::No;
use super::codes as code;
use super::dispatch::{Answered, At};
use crate::embedded::builder::check_queues;
use crate::embedded::cluster::Cluster;
use crate::embedded::engine::{GroupConfig, TopicType};
use crate::model::{check_group, check_topic};
use crate::transport::remoting::command::Command;
use crate::transport::remoting::command::json::Json;

/// Creates a topic, or gives it another type or more queues: on every broker, for a topic is the same on all of them here.
pub(super) fn update(at: &At<'_>, request: &Command) -> Answered {
    let topic = request.fields.text("topic")?;
    check_topic(topic, &at.server.cluster.config.limits)?;
    let queues = |name| request.fields.number_if::<u32>(name);
    let queues = queues("readQueueNums")?.max(queues("writeQueueNums")?).unwrap_or(8);
    check_queues(queues)?;
    let kind = kind(request.fields.get("attributes").unwrap_or_default())?;
    at.server.cluster.with(|engine, _| {
        let known = engine.topic(topic).map(|(kind, _)| kind);
        engine.create_topic(topic, queues, kind.or(known).unwrap_or_default());
        engine.grow_topic(topic, queues);
    });
    Ok(request.answer(&()))
}

/// The type among the attributes, `+message.type=FIFO`.
fn kind(attributes: &str) -> Result<Option<TopicType>, No> {
    let value = attributes.split(',').find_map(|attribute| attribute.trim().strip_prefix("+message.type="));
    match value.map(str::to_uppercase).as_deref() {
        None => Ok(None),
        Some("NORMAL" | "UNSPECIFIED") => Ok(Some(TopicType::Normal)),
        Some("FIFO") => Ok(Some(TopicType::Fifo)),
        Some("DELAY") => Ok(Some(TopicType::Delay)),
        Some("TRANSACTION") => Ok(Some(TopicType::Transaction)),
        Some("MIXED") => Ok(Some(TopicType::Mixed)),
        Some(other) => Err(No::new(code::SYSTEM_ERROR, format!("value is not in set: {other}"))),
    }
}

/// Creates a group or changes its options.
pub(super) fn update_group(at: &At<'_>, request: &Command) -> Answered {
    let text = String::from_utf8_lossy(&request.body);
    let json = Json::read(&text).map_err(|error| No::new(code::SYSTEM_ERROR, error.to_string()))?;
    let name = json.get("groupName").and_then(Json::as_text).unwrap_or_default();
    check_group(&name, &at.server.cluster.config.limits)?;
    let retries: u32 = json.get("retryMaxTimes").and_then(Json::as_number).unwrap_or(16);
    let fifo = json.get("consumeMessageOrderly").and_then(Json::as_bool).unwrap_or_default();
    let config = GroupConfig { fifo, max_attempts: retries.saturating_add(1) };
    at.server.cluster.with(|engine, _| engine.create_group(&name, config));
    Ok(request.answer(&()))
}

/// The topic goes with its messages; one that does not exist is as good as deleted.
pub(super) fn delete(cluster: &Cluster, request: &Command) -> Answered {
    let topic = request.fields.text("topic")?;
    cluster.with(|engine, _| engine.delete_topic(topic));
    Ok(request.answer(&()))
}

pub(super) fn config(at: &At<'_>, request: &Command) -> Answered {
    let topic = request.fields.text("topic")?;
    let found = at.server.cluster.with(|engine, _| engine.topic(topic)).ok_or_else(|| No::no_topic(topic))?;
    let mut answer = request.answer(&());
    let (kind, queues) = found;
    answer.body = Json::map([
        ("attributes", Json::map([("message.type", Json::text(kind.name()))])),
        ("order", Json::Bool(false)),
        ("perm", Json::number(6)),
        ("readQueueNums", Json::number(queues)),
        ("topicFilterType", Json::text("SINGLE_TAG")),
        ("topicName", Json::text(topic)),
        ("topicSysFlag", Json::number(0)),
        ("writeQueueNums", Json::number(queues)),
    ])
    .to_bytes()
    .into();
    Ok(answer)
}

/// Auto-creates a group that is new, as on Apache.
pub(super) fn group_config(at: &At<'_>, request: &Command) -> Answered {
    let name = request.fields.text("group")?;
    let config = at.server.cluster.with(|engine, _| {
        engine.ensure_group(name);
        engine.group_config(name)
    });
    let mut answer = request.answer(&());
    answer.body = Json::map([
        ("consumeBroadcastEnable", Json::Bool(true)),
        ("consumeEnable", Json::Bool(true)),
        ("consumeFromMinEnable", Json::Bool(true)),
        ("consumeMessageOrderly", Json::Bool(config.fifo)),
        ("groupName", Json::text(name)),
        ("notifyConsumerIdsChangedEnable", Json::Bool(true)),
        ("retryMaxTimes", Json::number(config.max_attempts - 1)),
        ("retryQueueNums", Json::number(1)),
    ])
    .to_bytes()
    .into();
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_topic_is_one_of_its_attributes() {
        assert_eq!(kind(""), Ok(None));
        assert_eq!(kind("+a=b, +message.type=fifo"), Ok(Some(TopicType::Fifo)));
        assert_eq!(kind("+message.type=LOUD").unwrap_err().code, code::SYSTEM_ERROR);
    }
}
