//! What a message, a topic and a group must look like (Apache's GrpcValidator).

use std::time::Duration;

use super::status;
use crate::embedded::engine::Millis;
use crate::embedded::reserved::is_reserved;
use crate::embedded::settings::ServerConfig;
use crate::model::{check_group, check_topic};
use crate::proto::{self, Code};

type Checked = Result<(), proto::Status>;

/// The name in a resource, checked as a topic.
pub(super) fn topic<'a>(
    config: &ServerConfig,
    resource: Option<&'a proto::Resource>,
) -> Result<&'a str, proto::Status> {
    let name = resource.map_or("", |resource| &resource.name);
    check_topic(name, &config.limits).map_err(|error| status(Code::IllegalTopic, error.to_string()))?;
    Ok(name)
}

/// The name in a resource, checked as a consumer group.
pub(super) fn group<'a>(
    config: &ServerConfig,
    resource: Option<&'a proto::Resource>,
) -> Result<&'a str, proto::Status> {
    let name = resource.map_or("", |resource| &resource.name);
    check_group(name, &config.limits).map_err(|error| status(Code::IllegalConsumerGroup, error.to_string()))?;
    Ok(name)
}

/// One message of a send.
pub(super) fn message(config: &ServerConfig, message: &proto::Message, now: Millis) -> Checked {
    let empty = proto::SystemProperties::default();
    let system = message.system_properties.as_ref().unwrap_or(&empty);
    if system.message_id.trim().is_empty() {
        return Err(status(Code::IllegalMessageId, "message id cannot be null or blank"));
    }
    body(config, message)?;
    tag_and_keys(system)?;
    if let Some(name) = &system.message_group {
        message_group(config, name)?;
    }
    properties(config, message, system)?;
    times(config, system, now)
}

fn body(config: &ServerConfig, message: &proto::Message) -> Checked {
    if message.body.is_empty() {
        return Err(status(Code::MessageBodyEmpty, "message body cannot be empty"));
    }
    let max = config.limits.max_body_size;
    if message.body.len() > max {
        let text = format!("message body cannot exceed the max {max}, it has {} bytes", message.body.len());
        return Err(status(Code::MessageBodyTooLarge, text));
    }
    Ok(())
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

fn tag_and_keys(system: &proto::SystemProperties) -> Checked {
    let bad_tag = |tag: &String| tag.trim().is_empty() || tag.contains('|') || has_control(tag);
    if system.tag.as_ref().is_some_and(bad_tag) {
        return Err(status(Code::IllegalMessageTag, "tag cannot be blank, contain `|` or control characters"));
    }
    if system.keys.iter().any(|key| key.trim().is_empty() || has_control(key)) {
        return Err(status(Code::IllegalMessageKey, "keys cannot be blank or contain control characters"));
    }
    Ok(())
}

fn message_group(config: &ServerConfig, name: &str) -> Checked {
    let max = config.limits.max_message_group_length;
    if name.trim().is_empty() || name.len() > max || has_control(name) {
        let text = format!("message group cannot be blank, contain control characters or exceed {max} bytes");
        return Err(status(Code::IllegalMessageGroup, text));
    }
    Ok(())
}

fn properties(config: &ServerConfig, message: &proto::Message, system: &proto::SystemProperties) -> Checked {
    let (limits, user) = (&config.limits, &message.user_properties);
    if user.len() > limits.max_properties {
        let text = format!("too many user properties, max is {}", limits.max_properties);
        return Err(status(Code::MessagePropertiesTooLarge, text));
    }
    if let Some((name, _)) = user.iter().find(|(name, value)| is_illegal(name, value)) {
        let text = format!("property `{name}` is used by the system or contains control characters");
        return Err(status(Code::IllegalMessagePropertyKey, text));
    }
    let size: usize = user.iter().map(|(name, value)| name.len() + value.len()).sum();
    let size = size + system.tag.as_ref().map_or(0, String::len) + system.keys.iter().map(String::len).sum::<usize>();
    if size > limits.max_properties_size {
        let text = format!("properties have {size} bytes, max is {}", limits.max_properties_size);
        return Err(status(Code::MessagePropertiesTooLarge, text));
    }
    Ok(())
}

fn is_illegal(name: &str, value: &str) -> bool {
    is_reserved(name) || has_control(name) || has_control(value)
}

fn times(config: &ServerConfig, system: &proto::SystemProperties, now: Millis) -> Checked {
    let latest = now + config.max_delay.as_millis() as Millis;
    let delivery = system.delivery_timestamp.as_ref().map(super::wire::millis);
    if delivery.is_some_and(|at| at > latest) {
        let text = format!("delivery time is more than {:?} ahead", config.max_delay);
        return Err(status(Code::IllegalDeliveryTime, text));
    }
    let recovery = system.orphaned_transaction_recovery_duration.as_ref().map(super::wire::duration);
    if recovery.is_some_and(|time| time > Duration::from_secs(3600)) {
        return Err(status(Code::BadRequest, "max transaction recovery duration is 3600 s"));
    }
    Ok(())
}
