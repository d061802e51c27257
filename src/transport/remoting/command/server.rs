//! What an administrator asks of a client by way of its broker: requests 220, 221 and 307, and their answers.
//!
//! Maps by queue have the queue itself as the key, an object, as fastjson writes them: Java reads nothing else.

use std::sync::Arc;

use crate::error::Result;
use crate::model::MessageQueue;
use crate::transport::remoting::command::heartbeat::{SubscriptionData, text_of};
use crate::transport::remoting::command::json::Json;
use crate::transport::remoting::command::{Command, Payload, Request, code, malformed};

/// Begin at these offsets, and commit them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResetOffset {
    pub(crate) group: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) timestamp: i64,
    pub(crate) force: bool,
    pub(crate) offsets: Vec<(MessageQueue, i64)>,
}

/// How far are you?
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatusRequest {
    pub(crate) group: Arc<str>,
    pub(crate) topic: Arc<str>,
}

/// The next offset of each queue that this client has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Status {
    pub(crate) offsets: Vec<(MessageQueue, i64)>,
}

/// All about yourself, please.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunningInfoRequest {
    pub(crate) group: Arc<str>,
    pub(crate) client_id: Arc<str>,
    pub(crate) with_stacks: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RunningInfo {
    /// `PROP_CONSUMER_START_TIMESTAMP` must be there, and a number: mqadmin parses it.
    pub(crate) properties: Vec<(Box<str>, Box<str>)>,
    pub(crate) subscriptions: Vec<SubscriptionData>,
    pub(crate) queues: Vec<(MessageQueue, QueueInfo)>,
}

/// One queue of a running consumer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct QueueInfo {
    pub(crate) commit_offset: i64,
    pub(crate) cached_min_offset: i64,
    pub(crate) cached_max_offset: i64,
    pub(crate) cached_messages: u64,
    pub(crate) cached_mebibytes: u64,
    /// In ms since 1970.
    pub(crate) last_pull: i64,
    /// In ms since 1970.
    pub(crate) last_consume: i64,
}

impl Request for ResetOffset {
    const CODE: i32 = code::RESET_CONSUMER_CLIENT_OFFSET;
    type Answer = ();
}

impl Request for StatusRequest {
    const CODE: i32 = code::GET_CONSUMER_STATUS_FROM_CLIENT;
    type Answer = Status;
}

impl Request for RunningInfoRequest {
    const CODE: i32 = code::GET_CONSUMER_RUNNING_INFO;
    type Answer = RunningInfo;
}

impl Payload for ResetOffset {
    fn write(&self, command: &mut Command) {
        command.fields.set("topic", &self.topic);
        command.fields.set("group", &self.group);
        command.fields.set("timestamp", self.timestamp);
        command.fields.set("isForce", self.force);
        command.body = Json::map([("offsetTable", write_offsets(&self.offsets))]).to_bytes().into();
    }

    /// A broker takes some clients for C++, and writes a list to them.
    fn read(command: &Command) -> Result<Self> {
        let json = command.json()?;
        let table = json.get("offsetTable").unwrap_or(&Json::Null);
        let listed = table.items().iter().map(|item| Ok((read_queue(item)?, read_offset(item.get("offset"))?)));
        let mapped = table.members().iter().map(|(queue, offset)| Ok((read_queue(queue)?, read_offset(Some(offset))?)));
        Ok(Self {
            group: command.fields.text("group")?.into(),
            topic: command.fields.text("topic")?.into(),
            timestamp: command.fields.number_if("timestamp")?.unwrap_or_default(),
            force: command.fields.flag("isForce").or_else(|| command.fields.flag("force")).unwrap_or_default(),
            offsets: mapped.chain(listed).collect::<Result<_>>()?,
        })
    }
}

impl Payload for StatusRequest {
    fn write(&self, command: &mut Command) {
        command.fields.set("topic", &self.topic);
        command.fields.set("group", &self.group);
    }

    fn read(command: &Command) -> Result<Self> {
        Ok(Self { group: command.fields.text("group")?.into(), topic: command.fields.text("topic")?.into() })
    }
}

impl Payload for Status {
    fn write(&self, command: &mut Command) {
        command.body = Json::map([("messageQueueTable", write_offsets(&self.offsets))]).to_bytes().into();
    }

    fn read(command: &Command) -> Result<Self> {
        let json = command.json()?;
        let table = json.get("messageQueueTable").map(Json::members).unwrap_or_default().iter();
        let offsets = table.map(|(queue, offset)| Ok((read_queue(queue)?, read_offset(Some(offset))?)));
        Ok(Self { offsets: offsets.collect::<Result<_>>()? })
    }
}

impl Payload for RunningInfoRequest {
    fn write(&self, command: &mut Command) {
        command.fields.set("consumerGroup", &self.group);
        command.fields.set("clientId", &self.client_id);
        command.fields.set("jstackEnable", self.with_stacks);
    }

    fn read(command: &Command) -> Result<Self> {
        Ok(Self {
            group: command.fields.text("consumerGroup")?.into(),
            client_id: command.fields.text("clientId")?.into(),
            with_stacks: command.fields.flag("jstackEnable").unwrap_or_default(),
        })
    }
}

impl Payload for RunningInfo {
    fn write(&self, command: &mut Command) {
        let properties = self.properties.iter().map(|(name, value)| (Json::text(&**name), Json::text(&**value)));
        let queues = self.queues.iter().map(|(queue, info)| (write_queue(queue), info.write()));
        command.body = Json::map([
            ("mqPopTable", Json::Map(vec![])),
            ("mqTable", Json::Map(queues.collect())),
            ("properties", Json::Map(properties.collect())),
            ("statusTable", Json::Map(vec![])),
            ("subscriptionSet", Json::List(self.subscriptions.iter().map(SubscriptionData::write).collect())),
        ])
        .to_bytes()
        .into();
    }

    fn read(command: &Command) -> Result<Self> {
        let json = command.json()?;
        let members = |name| json.get(name).map(Json::members).unwrap_or_default().iter();
        let text = |value: &Json<'_>| value.as_text().unwrap_or_default().into();
        let subscriptions = json.get("subscriptionSet").map(Json::items).unwrap_or_default().iter();
        let queues = members("mqTable").map(|(queue, info)| Ok((read_queue(queue)?, QueueInfo::read(info))));
        Ok(Self {
            properties: members("properties").map(|(name, value)| (text(name), text(value))).collect(),
            subscriptions: subscriptions.map(SubscriptionData::read).collect::<Result<_>>()?,
            queues: queues.collect::<Result<_>>()?,
        })
    }
}

impl QueueInfo {
    fn write(&self) -> Json<'static> {
        Json::map([
            ("cachedMsgCount", Json::Number(self.cached_messages.to_string().into())),
            ("cachedMsgMaxOffset", Json::number(self.cached_max_offset)),
            ("cachedMsgMinOffset", Json::number(self.cached_min_offset)),
            ("cachedMsgSizeInMiB", Json::Number(self.cached_mebibytes.to_string().into())),
            ("commitOffset", Json::number(self.commit_offset)),
            // Java's own spelling.
            ("droped", Json::Bool(false)),
            ("lastConsumeTimestamp", Json::number(self.last_consume)),
            ("lastLockTimestamp", Json::number(0)),
            ("lastPullTimestamp", Json::number(self.last_pull)),
            ("locked", Json::Bool(false)),
            ("transactionMsgCount", Json::number(0)),
            ("transactionMsgMaxOffset", Json::number(0)),
            ("transactionMsgMinOffset", Json::number(0)),
            ("tryUnlockTimes", Json::number(0)),
        ])
    }

    fn read(json: &Json<'_>) -> Self {
        fn number<N: std::str::FromStr + Default>(json: &Json<'_>, name: &str) -> N {
            json.get(name).and_then(Json::as_number).unwrap_or_default()
        }
        Self {
            commit_offset: number(json, "commitOffset"),
            cached_min_offset: number(json, "cachedMsgMinOffset"),
            cached_max_offset: number(json, "cachedMsgMaxOffset"),
            cached_messages: number(json, "cachedMsgCount"),
            cached_mebibytes: number(json, "cachedMsgSizeInMiB"),
            last_pull: number(json, "lastPullTimestamp"),
            last_consume: number(json, "lastConsumeTimestamp"),
        }
    }
}

fn write_offsets(offsets: &[(MessageQueue, i64)]) -> Json<'_> {
    Json::Map(offsets.iter().map(|(queue, offset)| (write_queue(queue), Json::number(*offset))).collect())
}

fn write_queue(queue: &MessageQueue) -> Json<'_> {
    Json::map([
        ("brokerName", Json::text(queue.broker())),
        ("queueId", Json::number(queue.id())),
        ("topic", Json::text(queue.topic())),
    ])
}

fn read_queue(json: &Json<'_>) -> Result<MessageQueue> {
    let id = json.get("queueId").and_then(Json::as_number);
    let id = id.ok_or_else(|| malformed("`queueId` of a queue is not a number from 0"))?;
    Ok(MessageQueue::new(text_of(json, "topic")?, text_of(json, "brokerName")?, id))
}

fn read_offset(json: Option<&Json<'_>>) -> Result<i64> {
    json.and_then(Json::as_number).ok_or_else(|| malformed("an offset of a queue is not a number"))
}
