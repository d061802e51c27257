//! Who is in a consumer group and how it consumes: requests 38, 203 and 46, and the broker's notice 40.

use std::sync::Arc;

use crate::error::Result;
use crate::transport::remoting::command::heartbeat::{SubscriptionData, text_of};
use crate::transport::remoting::command::json::Json;
use crate::transport::remoting::command::{Command, Payload, Request, code, malformed};

/// The ids of a group's members, as one broker knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MembersRequest {
    pub(crate) group: Arc<str>,
}

/// One id stands twice when it has two connections.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Members(pub(crate) Vec<Arc<str>>);

/// The connections of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConnectionsRequest {
    pub(crate) group: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connections {
    pub(crate) connections: Vec<ConnectionData>,
    pub(crate) subscriptions: Vec<SubscriptionData>,
    pub(crate) consume_type: Box<str>,
    pub(crate) message_model: Box<str>,
    pub(crate) consume_from: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConnectionData {
    pub(crate) client_id: Arc<str>,
    pub(crate) address: Box<str>,
    pub(crate) language: Box<str>,
    pub(crate) version: i32,
}

/// Has a broker parse a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckClient {
    pub(crate) client_id: Arc<str>,
    pub(crate) group: Arc<str>,
    pub(crate) subscription: SubscriptionData,
}

/// The members of a group have changed. From a broker, one-way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MembersChanged {
    pub(crate) group: Arc<str>,
}

impl Request for MembersRequest {
    const CODE: i32 = code::GET_CONSUMER_LIST_BY_GROUP;
    type Answer = Members;
}

impl Request for ConnectionsRequest {
    const CODE: i32 = code::GET_CONSUMER_CONNECTION_LIST;
    type Answer = Connections;
}

impl Request for CheckClient {
    const CODE: i32 = code::CHECK_CLIENT_CONFIG;
    type Answer = ();
}

impl Request for MembersChanged {
    const CODE: i32 = code::NOTIFY_CONSUMER_IDS_CHANGED;
    type Answer = ();
}

/// Requests that hold nothing but a group.
macro_rules! only_a_group {
    ($($request:ident)*) => {$(
        impl Payload for $request {
            fn write(&self, command: &mut Command) {
                command.fields.set("consumerGroup", &self.group);
            }

            fn read(command: &Command) -> Result<Self> {
                Ok(Self { group: command.fields.text("consumerGroup")?.into() })
            }
        }
    )*};
}

only_a_group!(MembersRequest ConnectionsRequest MembersChanged);

impl Payload for Members {
    fn write(&self, command: &mut Command) {
        let ids = self.0.iter().map(|id| Json::text(&**id)).collect();
        command.body = Json::map([("consumerIdList", Json::List(ids))]).to_bytes().into();
    }

    fn read(command: &Command) -> Result<Self> {
        if command.body.is_empty() {
            return Ok(Self::default());
        }
        let json = command.json()?;
        let ids = json.get("consumerIdList").map(Json::items).unwrap_or_default().iter();
        let no_text = || malformed("a client id in `consumerIdList` is no text");
        Ok(Self(ids.map(|id| id.as_text().map(Into::into).ok_or_else(no_text)).collect::<Result<_>>()?))
    }
}

impl Payload for Connections {
    fn write(&self, command: &mut Command) {
        let subscriptions = self.subscriptions.iter();
        command.body = Json::map([
            ("connectionSet", Json::List(self.connections.iter().map(ConnectionData::write).collect())),
            ("consumeFromWhere", Json::text(&*self.consume_from)),
            ("consumeType", Json::text(&*self.consume_type)),
            ("messageModel", Json::text(&*self.message_model)),
            ("subscriptionTable", Json::Map(subscriptions.map(|one| (Json::text(&*one.topic), one.write())).collect())),
        ])
        .to_bytes()
        .into();
    }

    fn read(command: &Command) -> Result<Self> {
        let json = command.json()?;
        let connections = json.get("connectionSet").map(Json::items).unwrap_or_default();
        let subscriptions = json.get("subscriptionTable").map(Json::members).unwrap_or_default();
        let or_empty = |name| text_of(&json, name).unwrap_or_default();
        Ok(Self {
            connections: connections.iter().map(ConnectionData::read).collect::<Result<_>>()?,
            subscriptions: subscriptions.iter().map(|(_, one)| SubscriptionData::read(one)).collect::<Result<_>>()?,
            consume_type: or_empty("consumeType"),
            message_model: or_empty("messageModel"),
            consume_from: or_empty("consumeFromWhere"),
        })
    }
}

impl ConnectionData {
    fn write(&self) -> Json<'_> {
        Json::map([
            ("clientAddr", Json::text(&*self.address)),
            ("clientId", Json::text(&*self.client_id)),
            ("language", Json::text(&*self.language)),
            ("version", Json::number(self.version)),
        ])
    }

    fn read(json: &Json<'_>) -> Result<Self> {
        Ok(Self {
            client_id: text_of(json, "clientId")?.into(),
            address: text_of(json, "clientAddr").unwrap_or_default(),
            language: text_of(json, "language").unwrap_or_default(),
            version: json.get("version").and_then(Json::as_number).unwrap_or_default(),
        })
    }
}

impl Payload for CheckClient {
    fn write(&self, command: &mut Command) {
        command.body = Json::map([
            ("clientId", Json::text(&*self.client_id)),
            ("group", Json::text(&*self.group)),
            ("subscriptionData", self.subscription.write()),
        ])
        .to_bytes()
        .into();
    }

    fn read(command: &Command) -> Result<Self> {
        let json = command.json()?;
        let subscription = json.get("subscriptionData").ok_or_else(|| malformed("`subscriptionData` is missing"))?;
        Ok(Self {
            client_id: text_of(&json, "clientId")?.into(),
            group: text_of(&json, "group")?.into(),
            subscription: SubscriptionData::read(subscription)?,
        })
    }
}
