//! Offsets of queues and groups: requests 14, 15, 29, 30 and 31.

use std::sync::Arc;

use crate::error::Result;
use crate::transport::remoting::command::{Command, Fields, Payload, Request, code};

/// A queue on the broker that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueName {
    pub(crate) topic: Arc<str>,
    pub(crate) queue: i32,
}

/// The committed offset of a group. Code 22 when there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommittedRequest {
    pub(crate) group: Arc<str>,
    pub(crate) at: QueueName,
    /// Absent or true, a young queue answers 0 for groups that have never committed: we always say false.
    pub(crate) zero_if_absent: bool,
}

/// Commits: the next offset to consume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) group: Arc<str>,
    pub(crate) at: QueueName,
    pub(crate) offset: i64,
}

/// The offset that will be written next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MaxOffset(pub(crate) QueueName);

/// The first offset that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MinOffset(pub(crate) QueueName);

/// The offset for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SearchOffset {
    pub(crate) at: QueueName,
    /// In ms since 1970.
    pub(crate) timestamp: i64,
    pub(crate) boundary: Boundary,
}

/// Which offset a time means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Boundary {
    /// The first that was stored at that time or later.
    #[default]
    Lower,
    /// The last that was stored at that time or before.
    Upper,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetAnswer(pub(crate) i64);

impl Request for CommittedRequest {
    const CODE: i32 = code::QUERY_CONSUMER_OFFSET;
    type Answer = OffsetAnswer;
}

impl Request for Commit {
    const CODE: i32 = code::UPDATE_CONSUMER_OFFSET;
    type Answer = ();
}

impl Request for MaxOffset {
    const CODE: i32 = code::GET_MAX_OFFSET;
    type Answer = OffsetAnswer;
}

impl Request for MinOffset {
    const CODE: i32 = code::GET_MIN_OFFSET;
    type Answer = OffsetAnswer;
}

impl Request for SearchOffset {
    const CODE: i32 = code::SEARCH_OFFSET_BY_TIMESTAMP;
    type Answer = OffsetAnswer;
}

impl QueueName {
    fn write(&self, fields: &mut Fields) {
        fields.set("topic", &self.topic);
        fields.set("queueId", self.queue);
    }

    fn read(fields: &Fields) -> Result<Self> {
        Ok(Self { topic: fields.text("topic")?.into(), queue: fields.number("queueId")? })
    }
}

impl Payload for CommittedRequest {
    fn write(&self, command: &mut Command) {
        command.fields.set("consumerGroup", &self.group);
        self.at.write(&mut command.fields);
        command.fields.set("setZeroIfNotFound", self.zero_if_absent);
    }

    fn read(command: &Command) -> Result<Self> {
        Ok(Self {
            group: command.fields.text("consumerGroup")?.into(),
            at: QueueName::read(&command.fields)?,
            zero_if_absent: command.fields.flag("setZeroIfNotFound").unwrap_or(true),
        })
    }
}

impl Payload for Commit {
    fn write(&self, command: &mut Command) {
        command.fields.set("consumerGroup", &self.group);
        self.at.write(&mut command.fields);
        command.fields.set("commitOffset", self.offset);
    }

    fn read(command: &Command) -> Result<Self> {
        Ok(Self {
            group: command.fields.text("consumerGroup")?.into(),
            at: QueueName::read(&command.fields)?,
            offset: command.fields.number("commitOffset")?,
        })
    }
}

impl Payload for MaxOffset {
    fn write(&self, command: &mut Command) {
        self.0.write(&mut command.fields);
    }

    fn read(command: &Command) -> Result<Self> {
        QueueName::read(&command.fields).map(Self)
    }
}

impl Payload for MinOffset {
    fn write(&self, command: &mut Command) {
        self.0.write(&mut command.fields);
    }

    fn read(command: &Command) -> Result<Self> {
        QueueName::read(&command.fields).map(Self)
    }
}

impl Payload for SearchOffset {
    fn write(&self, command: &mut Command) {
        self.at.write(&mut command.fields);
        command.fields.set("timestamp", self.timestamp);
        if self.boundary == Boundary::Upper {
            command.fields.set("boundaryType", "UPPER");
        }
    }

    fn read(command: &Command) -> Result<Self> {
        let is_upper = command.fields.get("boundaryType").is_some_and(|text| text.eq_ignore_ascii_case("UPPER"));
        Ok(Self {
            at: QueueName::read(&command.fields)?,
            timestamp: command.fields.number("timestamp")?,
            boundary: if is_upper { Boundary::Upper } else { Boundary::Lower },
        })
    }
}

impl Payload for OffsetAnswer {
    fn write(&self, command: &mut Command) {
        command.fields.set("offset", self.0);
    }

    fn read(command: &Command) -> Result<Self> {
        command.fields.number("offset").map(Self)
    }
}
