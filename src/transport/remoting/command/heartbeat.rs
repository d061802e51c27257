//! Being known to a broker: heartbeat 34 and farewell 35.

use std::sync::Arc;

use crate::error::Result;
use crate::model::{Filter, FilterKind};
use crate::transport::remoting::command::json::Json;
use crate::transport::remoting::command::{Command, Payload, Request, code, malformed};

/// All that one client is. What a heartbeat leaves out is forgotten: the subscriptions of a group are those of the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    pub(crate) client_id: Arc<str>,
    pub(crate) producers: Vec<Arc<str>>,
    pub(crate) consumers: Vec<ConsumerData>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerData {
    pub(crate) group: Arc<str>,
    /// `CONSUME_ACTIVELY` is pull, `CONSUME_PASSIVELY` push, `CONSUME_POP` pop.
    pub(crate) consume_type: Box<str>,
    /// `CLUSTERING` or `BROADCASTING`.
    pub(crate) message_model: Box<str>,
    /// Informative for those who pull.
    pub(crate) consume_from: Box<str>,
    pub(crate) subscriptions: Vec<SubscriptionData>,
}

pub(crate) const CONSUME_ACTIVELY: &str = "CONSUME_ACTIVELY";
pub(crate) const CONSUME_PASSIVELY: &str = "CONSUME_PASSIVELY";
pub(crate) const CONSUME_POP: &str = "CONSUME_POP";
pub(crate) const CLUSTERING: &str = "CLUSTERING";
pub(crate) const CONSUME_FROM_LAST_OFFSET: &str = "CONSUME_FROM_LAST_OFFSET";

/// A topic and the filter on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubscriptionData {
    pub(crate) topic: Arc<str>,
    pub(crate) filter: Filter,
    /// When it was made, in ms since 1970.
    pub(crate) version: i64,
}

/// Says goodbye for one group, at one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unregister {
    pub(crate) client_id: Arc<str>,
    pub(crate) producer_group: Option<Arc<str>>,
    pub(crate) consumer_group: Option<Arc<str>>,
}

impl Request for Heartbeat {
    const CODE: i32 = code::HEART_BEAT;
    type Answer = ();
}

impl Payload for Heartbeat {
    fn write(&self, command: &mut Command) {
        let producers = self.producers.iter().map(|group| Json::map([("groupName", Json::text(&**group))]));
        command.body = Json::map([
            ("clientID", Json::text(&*self.client_id)),
            ("consumerDataSet", Json::List(self.consumers.iter().map(ConsumerData::write).collect())),
            ("heartbeatFingerprint", Json::number(0)),
            ("producerDataSet", Json::List(producers.collect())),
            ("withoutSub", Json::Bool(false)),
        ])
        .to_bytes()
        .into();
    }

    fn read(command: &Command) -> Result<Self> {
        let json = command.json()?;
        let list = |name| json.get(name).map(Json::items).unwrap_or_default().iter();
        Ok(Self {
            client_id: text_of(&json, "clientID")?.into(),
            producers: list("producerDataSet")
                .map(|item| Ok(text_of(item, "groupName")?.into()))
                .collect::<Result<_>>()?,
            consumers: list("consumerDataSet").map(ConsumerData::read).collect::<Result<_>>()?,
        })
    }
}

impl ConsumerData {
    fn write(&self) -> Json<'_> {
        Json::map([
            ("consumeFromWhere", Json::text(&*self.consume_from)),
            ("consumeType", Json::text(&*self.consume_type)),
            ("groupName", Json::text(&*self.group)),
            ("messageModel", Json::text(&*self.message_model)),
            ("subscriptionDataSet", Json::List(self.subscriptions.iter().map(SubscriptionData::write).collect())),
            ("unitMode", Json::Bool(false)),
        ])
    }

    fn read(json: &Json<'_>) -> Result<Self> {
        let subscriptions = json.get("subscriptionDataSet").map(Json::items).unwrap_or_default();
        let or = |name: &str, default: &str| text_of(json, name).unwrap_or_else(|_| default.into());
        Ok(Self {
            group: text_of(json, "groupName")?.into(),
            consume_type: or("consumeType", CONSUME_PASSIVELY),
            message_model: or("messageModel", CLUSTERING),
            consume_from: or("consumeFromWhere", CONSUME_FROM_LAST_OFFSET),
            subscriptions: subscriptions.iter().map(SubscriptionData::read).collect::<Result<_>>()?,
        })
    }
}

impl SubscriptionData {
    pub(crate) fn write(&self) -> Json<'_> {
        let list = |items: Vec<Json<'static>>| Json::List(items);
        let tags: Vec<String> = self.filter.tags().map(str::to_owned).collect();
        Json::map([
            ("classFilterMode", Json::Bool(false)),
            ("codeSet", list(tags.iter().map(|tag| Json::number(java_hash(tag))).collect())),
            ("expressionType", Json::text(expression_type(&self.filter))),
            ("subString", Json::text(self.filter.expression())),
            ("subVersion", Json::number(self.version)),
            ("tagsSet", list(tags.into_iter().map(Json::text).collect())),
            ("topic", Json::text(&*self.topic)),
        ])
    }

    pub(crate) fn read(json: &Json<'_>) -> Result<Self> {
        let expression = json.get("subString").and_then(Json::as_text).unwrap_or_default();
        let kind = json.get("expressionType").and_then(Json::as_text);
        Ok(Self {
            topic: text_of(json, "topic")?.into(),
            filter: read_filter(kind.as_deref(), &expression),
            version: json.get("subVersion").and_then(Json::as_number).unwrap_or_default(),
        })
    }
}

pub(crate) fn expression_type(filter: &Filter) -> &'static str {
    match filter.kind() {
        FilterKind::Tag => "TAG",
        FilterKind::Sql92 => "SQL92",
    }
}

/// Nothing, an empty text and `*` are every message, as in Java.
pub(crate) fn read_filter(kind: Option<&str>, expression: &str) -> Filter {
    match (kind, expression.trim()) {
        (Some("SQL92"), _) => Filter::sql92(expression),
        (_, "" | "*") => Filter::all(),
        _ => Filter::tag(expression),
    }
}

/// `String.hashCode` of Java, over UTF-16 units: what brokers compare tags by.
pub(crate) fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0, |sum: i32, unit| sum.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

impl Request for Unregister {
    const CODE: i32 = code::UNREGISTER_CLIENT;
    type Answer = ();
}

impl Payload for Unregister {
    fn write(&self, command: &mut Command) {
        command.fields.set("clientID", &self.client_id);
        command.fields.set_if("producerGroup", self.producer_group.as_ref());
        command.fields.set_if("consumerGroup", self.consumer_group.as_ref());
    }

    fn read(command: &Command) -> Result<Self> {
        let group = |name| command.fields.get(name).filter(|text| !text.is_empty()).map(Into::into);
        Ok(Self {
            client_id: command.fields.text("clientID")?.into(),
            producer_group: group("producerGroup"),
            consumer_group: group("consumerGroup"),
        })
    }
}

pub(super) fn text_of(json: &Json<'_>, name: &str) -> Result<Box<str>> {
    let text = json.get(name).and_then(Json::as_text);
    text.map(Into::into).ok_or_else(|| malformed(format!("`{name}` is missing in the body")))
}
