//! Sending, and what becomes of sent messages before they are received.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::answer::{ok, refusal};
use super::caller::Caller;
use super::{Proxy, checks, status, wire};
use crate::embedded::engine::{Appended, Content, ContentKind, Engine, Millis, TopicType};
use crate::proto::{self, Code};

/// A batch is one result entry, whose id is all ids joined, as on Apache.
pub(super) fn send_message(
    proxy: &Proxy,
    caller: &Caller,
    request: proto::SendMessageRequest,
) -> Result<proto::SendMessageResponse, proto::Status> {
    let config = &proxy.cluster.config;
    let Some(first) = request.messages.first() else {
        return Err(status(Code::MessageCorrupted, "no message to send"));
    };
    let topic = checks::topic(config, first.topic.as_ref())?.to_owned();
    if request.messages.iter().any(|message| message.topic.as_ref().is_none_or(|other| other.name != topic)) {
        return Err(status(Code::MessageCorrupted, "not all messages are of one topic"));
    }
    let now = proxy.cluster.now();
    request.messages.iter().try_for_each(|message| checks::message(config, message, now))?;
    let peer = caller.peer.map(|peer| peer.to_string()).unwrap_or_default();
    let contents: Vec<_> = request.messages.into_iter().map(|message| wire::content(message, &peer, now)).collect();
    check_batch(proxy, &contents)?;
    let ids: Vec<_> = contents.iter().map(|content| content.id.to_string()).collect();
    let delivery_at = contents[0].delivery_at.filter(|at| *at > now);
    let (place, broker) = proxy.cluster.with(|engine, now| store(proxy, engine, &topic, contents, now))?;
    let message_id = ids.join(",");
    let recall = delivery_at.map(|at| URL_SAFE_NO_PAD.encode(format!("v1 {topic} {broker} {at} {message_id}")));
    let entry = proto::SendResultEntry {
        status: Some(ok()),
        transaction_id: message_id.clone(),
        message_id,
        offset: place.offset as i64,
        recall_handle: recall.unwrap_or_default(),
    };
    Ok(proto::SendMessageResponse { status: Some(ok()), entries: vec![entry] })
}

fn check_batch(proxy: &Proxy, contents: &[Content]) -> Result<(), proto::Status> {
    if contents.len() < 2 {
        return Ok(());
    }
    if contents.iter().any(|content| content.kind == ContentKind::Delay) {
        return Err(status(Code::InternalServerError, "delayed messages are not supported for batching"));
    }
    let size: usize = contents.iter().map(|content| content.body.len()).sum();
    if size > proxy.cluster.config.limits.max_body_size {
        return Err(status(Code::InternalServerError, "the message is illegal, maybe the batch is too large"));
    }
    Ok(())
}

/// Stores all or nothing: the topic and its type are checked for every message first.
fn store(
    proxy: &Proxy,
    engine: &mut Engine,
    topic: &str,
    contents: Vec<Content>,
    now: Millis,
) -> Result<(Appended, String), proto::Status> {
    let config = &proxy.cluster.config;
    if config.auto_create_topics && engine.topic(topic).is_none() {
        engine.create_topic(topic, config.auto_create_queues, TopicType::Normal);
    }
    let known = engine.cached_type(topic, now);
    contents.iter().try_for_each(|content| check_type(topic, known, content.kind))?;
    let mut place = None;
    for content in contents {
        let stored = engine.append(topic, content, now).map_err(refusal)?;
        place.get_or_insert(stored);
    }
    let place = place.ok_or_else(|| status(Code::MessageCorrupted, "no message to send"))?;
    let broker = engine.broker_name(place.broker).to_owned();
    Ok((place, broker))
}

/// A topic without a known type is UNSPECIFIED: it does not exist, or the proxy's cache is cold.
fn check_type(topic: &str, known: Option<TopicType>, actual: ContentKind) -> Result<(), proto::Status> {
    let is_system = topic.starts_with("%RETRY%") || topic.starts_with("%DLQ%");
    if is_system || known.is_some_and(|known| known.accepts().contains(&actual)) {
        return match actual {
            ContentKind::Transaction => {
                Err(status(Code::NotImplemented, "the embedded broker does not serve transactions yet"))
            }
            _ => Ok(()),
        };
    }
    let expected = known.map_or("UNSPECIFIED", TopicType::name);
    let actual = match actual {
        ContentKind::Normal => "NORMAL",
        ContentKind::Fifo => "FIFO",
        ContentKind::Delay => "DELAY",
        ContentKind::Transaction => "TRANSACTION",
    };
    let text = format!("topic {topic}: the expected type is {expected}, but actual type is {actual}");
    Err(status(Code::MessagePropertyConflictWithType, text))
}

pub(super) fn end_transaction(
    _proxy: &Proxy,
    _caller: &Caller,
    request: proto::EndTransactionRequest,
) -> Result<proto::EndTransactionResponse, proto::Status> {
    if request.transaction_id.trim().is_empty() {
        return Err(status(Code::InvalidTransactionId, "transaction id cannot be empty"));
    }
    Err(status(Code::NotImplemented, "the embedded broker does not serve transactions yet"))
}

/// Off by default on Apache (`recallMessageEnable`), and here always.
pub(super) fn recall_message(
    _proxy: &Proxy,
    _caller: &Caller,
    _request: proto::RecallMessageRequest,
) -> Result<proto::RecallMessageResponse, proto::Status> {
    Err(status(Code::InternalServerError, "recall: operation is forbidden"))
}
