//! Which topics there are: requests 206 and 304, to a name server.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::Result;
use crate::transport::remoting::command::json::Json;
use crate::transport::remoting::command::{Command, Payload, Request, code};

/// Every topic that a broker has told the name server of, its own ones too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AllTopicsRequest;

/// The names of clusters and brokers, which are topics too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SystemTopicsRequest;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TopicList(pub(crate) BTreeSet<Arc<str>>);

impl Request for AllTopicsRequest {
    const CODE: i32 = code::GET_ALL_TOPIC_LIST;
    type Answer = TopicList;
}

impl Request for SystemTopicsRequest {
    const CODE: i32 = code::GET_SYSTEM_TOPIC_LIST;
    type Answer = TopicList;
}

impl Payload for AllTopicsRequest {
    fn write(&self, _: &mut Command) {}

    fn read(_: &Command) -> Result<Self> {
        Ok(Self)
    }
}

impl Payload for SystemTopicsRequest {
    fn write(&self, _: &mut Command) {}

    fn read(_: &Command) -> Result<Self> {
        Ok(Self)
    }
}

impl Payload for TopicList {
    fn write(&self, command: &mut Command) {
        let topics = self.0.iter().map(|topic| Json::text(&**topic)).collect();
        command.body = Json::map([("topicList", Json::List(topics))]).to_bytes().into();
    }

    /// A name server without any topic answers without a body.
    fn read(command: &Command) -> Result<Self> {
        if command.body.is_empty() {
            return Ok(Self::default());
        }
        let json = command.json()?;
        let listed = json.get("topicList").map(Json::items).unwrap_or_default();
        Ok(Self(listed.iter().filter_map(Json::as_text).map(Arc::from).collect()))
    }
}
