//! Sending: 10, 310 with short names of the same fields, and 320 for several messages in one body.

use bytes::Bytes;

use super::answer::No;
use super::codes as code;
use super::dispatch::{Answered, At};
use super::message::{Sent, content};
use crate::embedded::engine::{Appended, Content, ContentKind, Millis, TopicType};
use crate::model::check_topic;
use crate::transport::remoting::command::Command;
use crate::transport::remoting::stored::entries;

/// What a producer says beside its body.
struct Header<'a> {
    topic: &'a str,
    /// `None`: any queue of this broker.
    queue: Option<u32>,
    sys_flag: i32,
    flag: i32,
    born_at: Millis,
    properties: &'a str,
    batch: bool,
}

impl<'a> Header<'a> {
    fn read(request: &'a Command) -> Result<Self, No> {
        let fields = &request.fields;
        let is_long = request.code == code::SEND_MESSAGE;
        let name = |long: &'static str, short: &'static str| if is_long { long } else { short };
        let queue: i32 = fields.number(name("queueId", "e"))?;
        let born_at: i64 = fields.number(name("bornTimestamp", "g"))?;
        Ok(Self {
            topic: fields.text(name("topic", "b"))?,
            queue: u32::try_from(queue).ok(),
            sys_flag: fields.number(name("sysFlag", "f"))?,
            flag: fields.number(name("flag", "h"))?,
            born_at: born_at.max(0) as Millis,
            properties: fields.get(name("properties", "i")).unwrap_or_default(),
            batch: request.code == code::SEND_BATCH_MESSAGE || fields.flag(name("batch", "m")).unwrap_or_default(),
        })
    }

    fn sent(&self, body: Bytes) -> Sent<'a> {
        let Self { flag, sys_flag, born_at, properties, .. } = *self;
        Sent { body, flag, sys_flag, born_at, properties }
    }
}

pub(super) fn send(at: &At<'_>, request: &Command) -> Answered {
    let header = Header::read(request)?;
    let config = &at.server.cluster.config;
    check_topic(header.topic, &config.limits).map_err(|error| No::new(code::SYSTEM_ERROR, error.to_string()))?;
    if request.body.len() > config.limits.max_body_size {
        let text = format!("the message is illegal, its body has {} bytes", request.body.len());
        return Err(No::new(code::MESSAGE_ILLEGAL, text));
    }
    let now = at.server.cluster.now();
    let contents = contents(at, &header, &request.body, now)?;
    if contents.iter().any(|content| content.kind == ContentKind::Transaction) {
        return Err(No::new(code::SYSTEM_ERROR, "the embedded broker does not serve transactions yet"));
    }
    let ids: Vec<_> = contents.iter().map(|content| content.id.to_string()).collect();
    let stored = store(at, &header, contents, now)?;
    let mut answer = request.answer(&());
    answer.fields.set("msgId", ids.join(","));
    answer.fields.set("queueId", stored.queue);
    answer.fields.set("queueOffset", stored.offset);
    answer.fields.set("transactionId", ids.join(","));
    Ok(answer)
}

fn contents(at: &At<'_>, header: &Header<'_>, body: &Bytes, now: Millis) -> Result<Vec<Content>, No> {
    let peer = at.caller.address;
    if !header.batch {
        return Ok(vec![content(header.sent(body.clone()), peer, now)]);
    }
    let one = |entry: Result<crate::transport::remoting::stored::Entry, &'static str>| {
        let entry = entry.map_err(|fault| No::new(code::MESSAGE_ILLEGAL, fault))?;
        let properties = std::str::from_utf8(&body[entry.properties]);
        let properties = properties.map_err(|error| No::new(code::MESSAGE_ILLEGAL, error.to_string()))?;
        let sent = Sent { flag: entry.flag, properties, ..header.sent(body.slice(entry.body)) };
        Ok(content(sent, peer, now))
    };
    entries(body).map(one).collect()
}

/// Stores all of a batch in one queue. Returns the place of the first.
fn store(at: &At<'_>, header: &Header<'_>, contents: Vec<Content>, now: Millis) -> Result<Appended, No> {
    let config = &at.server.cluster.config;
    at.server.cluster.with(|engine, _| {
        if config.auto_create_topics && engine.topic(header.topic).is_none() {
            engine.create_topic(header.topic, config.auto_create_queues, TopicType::Normal);
        }
        let mut first = None;
        for content in contents {
            let queue = first.as_ref().map_or(header.queue, |stored: &Appended| Some(stored.queue));
            let stored = engine.append_at(header.topic, (at.broker, queue), content, now)?;
            first.get_or_insert(stored);
        }
        first.ok_or_else(|| No::new(code::MESSAGE_ILLEGAL, "a batch without a message"))
    })
}
