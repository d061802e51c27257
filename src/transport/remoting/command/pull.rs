//! Pulling: request 11 and its four good answers (protocol.md E.4 to E.6).

use std::sync::Arc;

use crate::error::Result;
use crate::model::Filter;
use crate::transport::remoting::command::heartbeat::{expression_type, read_filter};
use crate::transport::remoting::command::{Command, Payload, Request, code};

/// Stores `commit_offset` with the pull. We never set it: commits are requests of their own, whose answer is looked at.
#[cfg(any(test, feature = "embedded"))]
pub(crate) const COMMIT_OFFSET: u32 = 1;
/// Hold the request while there is nothing.
pub(crate) const SUSPEND: u32 = 2;
/// The filter comes with the request, so that neither heartbeat nor group is needed.
pub(crate) const SUBSCRIPTION: u32 = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PullHeader {
    pub(crate) group: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) queue: i32,
    pub(crate) offset: i64,
    pub(crate) max_messages: i32,
    /// Bits: [`COMMIT_OFFSET`], [`SUSPEND`], [`SUBSCRIPTION`].
    pub(crate) flags: u32,
    pub(crate) commit_offset: i64,
    pub(crate) suspend_ms: i64,
    /// Only with [`SUBSCRIPTION`].
    pub(crate) filter: Option<Filter>,
    pub(crate) filter_version: i64,
    pub(crate) max_bytes: Option<i32>,
}

/// What the header of an answer says; the messages are the body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PullAnswer {
    pub(crate) next_offset: i64,
    pub(crate) min_offset: Option<i64>,
    pub(crate) max_offset: Option<i64>,
    pub(crate) suggested_replica: Option<u64>,
    /// Static topics only: to be added to each message's offset.
    pub(crate) offset_delta: Option<i64>,
}

impl Request for PullHeader {
    const CODE: i32 = code::PULL_MESSAGE;
    type Answer = PullAnswer;
}

impl Payload for PullHeader {
    fn write(&self, command: &mut Command) {
        let fields = &mut command.fields;
        fields.set("consumerGroup", &self.group);
        fields.set("topic", &self.topic);
        fields.set("queueId", self.queue);
        fields.set("queueOffset", self.offset);
        fields.set("maxMsgNums", self.max_messages);
        fields.set("sysFlag", self.flags);
        fields.set("commitOffset", self.commit_offset);
        fields.set("suspendTimeoutMillis", self.suspend_ms);
        fields.set("subVersion", self.filter_version);
        if let Some(filter) = &self.filter {
            fields.set("subscription", filter.expression());
            fields.set("expressionType", expression_type(filter));
        }
        fields.set_if("maxMsgBytes", self.max_bytes);
    }

    fn read(command: &Command) -> Result<Self> {
        let fields = &command.fields;
        let flags: u32 = fields.number_if("sysFlag")?.unwrap_or_default();
        let filter = || read_filter(fields.get("expressionType"), fields.get("subscription").unwrap_or_default());
        Ok(Self {
            group: fields.text("consumerGroup")?.into(),
            topic: fields.text("topic")?.into(),
            queue: fields.number("queueId")?,
            offset: fields.number("queueOffset")?,
            max_messages: fields.number("maxMsgNums")?,
            flags,
            commit_offset: fields.number_if("commitOffset")?.unwrap_or_default(),
            suspend_ms: fields.number_if("suspendTimeoutMillis")?.unwrap_or_default(),
            filter: (flags & SUBSCRIPTION != 0).then(filter),
            filter_version: fields.number_if("subVersion")?.unwrap_or_default(),
            max_bytes: fields.number_if("maxMsgBytes")?,
        })
    }
}

impl Payload for PullAnswer {
    fn write(&self, command: &mut Command) {
        let fields = &mut command.fields;
        fields.set("suggestWhichBrokerId", self.suggested_replica.unwrap_or_default());
        fields.set("nextBeginOffset", self.next_offset);
        fields.set_if("minOffset", self.min_offset);
        fields.set_if("maxOffset", self.max_offset);
        fields.set_if("offsetDelta", self.offset_delta);
    }

    fn read(command: &Command) -> Result<Self> {
        let fields = &command.fields;
        Ok(Self {
            next_offset: fields.number("nextBeginOffset")?,
            min_offset: fields.number_if("minOffset")?,
            max_offset: fields.number_if("maxOffset")?,
            suggested_replica: fields.number_if("suggestWhichBrokerId")?,
            offset_delta: fields.number_if("offsetDelta")?,
        })
    }
}
