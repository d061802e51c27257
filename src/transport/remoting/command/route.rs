//! Where a topic lives: request 105, to a name server.

use std::sync::Arc;

use crate::error::Result;
use crate::transport::remoting::command::json::Json;
use crate::transport::remoting::command::{Command, Payload, Request, code, malformed};

/// Bits of a queue's permission (the remoting mask, not the gRPC enum).
pub(crate) const READ: u32 = 4;
pub(crate) const WRITE: u32 = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouteRequest {
    pub(crate) topic: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct RouteData {
    pub(crate) queues: Vec<QueueData>,
    pub(crate) brokers: Vec<BrokerData>,
}

/// How many queues a broker has of the topic: 0 to `read` may be read, 0 to `write` may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueData {
    pub(crate) broker: Arc<str>,
    pub(crate) read: u32,
    pub(crate) write: u32,
    pub(crate) permission: u32,
}

/// A broker's group of replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BrokerData {
    pub(crate) cluster: Box<str>,
    pub(crate) name: Arc<str>,
    /// `host:port` by the replica's id; 0 is the master.
    pub(crate) addresses: Vec<(u64, Box<str>)>,
}

impl Request for RouteRequest {
    const CODE: i32 = code::GET_ROUTE_BY_TOPIC;
    type Answer = RouteData;
}

impl Payload for RouteRequest {
    fn write(&self, command: &mut Command) {
        command.fields.set("topic", &self.topic);
        command.fields.set("acceptStandardJsonOnly", true);
    }

    fn read(command: &Command) -> Result<Self> {
        Ok(Self { topic: command.fields.text("topic")?.into() })
    }
}

impl Payload for RouteData {
    fn write(&self, command: &mut Command) {
        let queues = self.queues.iter().map(QueueData::write).collect();
        let brokers = self.brokers.iter().map(BrokerData::write).collect();
        command.body = Json::map([
            ("brokerDatas", Json::List(brokers)),
            ("filterServerTable", Json::Map(vec![])),
            ("queueDatas", Json::List(queues)),
        ])
        .to_bytes()
        .into();
    }

    fn read(command: &Command) -> Result<Self> {
        let json = command.json()?;
        if !matches!(json, Json::Map(_)) {
            return Err(malformed("the route is no JSON object"));
        }
        Ok(Self {
            queues: list_of(&json, "queueDatas")?.iter().map(QueueData::read).collect::<Result<_>>()?,
            brokers: list_of(&json, "brokerDatas")?.iter().map(BrokerData::read).collect::<Result<_>>()?,
        })
    }
}

/// What is not there is empty; what is something else is an error, or it would be taken for a topic without queues.
fn list_of<'a>(json: &'a Json<'_>, name: &str) -> Result<&'a [Json<'a>]> {
    match json.get(name) {
        None => Ok(&[]),
        Some(Json::List(items)) => Ok(items),
        Some(_) => Err(malformed(format!("`{name}` of the route is no list"))),
    }
}

impl QueueData {
    fn write(&self) -> Json<'_> {
        Json::map([
            ("brokerName", Json::text(&*self.broker)),
            ("perm", Json::number(self.permission)),
            ("readQueueNums", Json::number(self.read)),
            ("topicSysFlag", Json::number(0)),
            ("writeQueueNums", Json::number(self.write)),
        ])
    }

    fn read(json: &Json<'_>) -> Result<Self> {
        let number = |name: &str| {
            let value = json.get(name).map_or(Some(0), Json::as_number::<u32>);
            value.ok_or_else(|| malformed(format!("`{name}` of a queue in the route is not a number from 0")))
        };
        Ok(Self {
            broker: name_of(json, "brokerName")?,
            read: number("readQueueNums")?,
            write: number("writeQueueNums")?,
            permission: number("perm")?,
        })
    }
}

impl BrokerData {
    fn write(&self) -> Json<'_> {
        let addresses = self.addresses.iter();
        Json::map([
            (
                "brokerAddrs",
                Json::Map(addresses.map(|(id, at)| (Json::text(id.to_string()), Json::text(&**at))).collect()),
            ),
            ("brokerName", Json::text(&*self.name)),
            ("cluster", Json::text(&*self.cluster)),
            ("enableActingMaster", Json::Bool(false)),
        ])
    }

    /// An address under an id that is no number (a master that is elected has −1) is nobody to ask.
    fn read(json: &Json<'_>) -> Result<Self> {
        let addresses = json.get("brokerAddrs").map(Json::members).unwrap_or_default();
        let mut addresses: Vec<(u64, Box<str>)> =
            addresses.iter().filter_map(|(id, at)| Some((id.as_number()?, at.as_text()?.into()))).collect();
        addresses.sort_unstable_by_key(|(id, _)| *id);
        let cluster = json.get("cluster").and_then(Json::as_text).unwrap_or_default();
        Ok(Self { cluster: cluster.into(), name: name_of(json, "brokerName")?, addresses })
    }
}

fn name_of(json: &Json<'_>, name: &str) -> Result<Arc<str>> {
    let text = json.get(name).and_then(Json::as_text);
    text.map(Into::into).ok_or_else(|| malformed(format!("an entry of the route has no `{name}`")))
}
