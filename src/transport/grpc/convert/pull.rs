//! Pulling by offset: requests, and what an answer in many frames comes to (protocol.md D.1 to D.4).

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use prost::Message as _;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Corruption, Message, MessageParts, MessageQueue, Offset};
use crate::proto::pull_message_response::Content;
use crate::proto::{self, Code, QueryOffsetPolicy};
use crate::transport::grpc::convert::message::{Damaged, Reading, read, read_damaged};
use crate::transport::grpc::convert::request::{Requests, filter_expression};
use crate::transport::grpc::convert::status::Context;
use crate::transport::grpc::convert::value::{proto_duration, proto_timestamp};
use crate::transport::{PullOutcome, PullRequest, Pulled, QueueBound};

impl Requests {
    /// # Errors
    /// `InvalidArgument` for an offset that no server can have (trap P4); so with all requests that carry one.
    pub(crate) fn pull(&self, request: &PullRequest) -> Result<proto::PullMessageRequest> {
        Ok(proto::PullMessageRequest {
            group: self.resource(&request.group),
            message_queue: self.message_queue(&request.queue),
            offset: wire_offset(request.offset)?,
            batch_size: i32::try_from(request.max_messages).unwrap_or(i32::MAX),
            filter_expression: Some(filter_expression(&request.filter)),
            long_polling_timeout: request.suspend.map(proto_duration),
        })
    }

    pub(crate) fn get_offset(&self, group: &Arc<str>, queue: &MessageQueue) -> proto::GetOffsetRequest {
        proto::GetOffsetRequest { group: self.resource(group), message_queue: self.message_queue(queue) }
    }

    /// # Errors
    /// As [`pull`](Self::pull).
    pub(crate) fn update_offset(
        &self,
        group: &Arc<str>,
        queue: &MessageQueue,
        next: Offset,
    ) -> Result<proto::UpdateOffsetRequest> {
        Ok(proto::UpdateOffsetRequest {
            group: self.resource(group),
            message_queue: self.message_queue(queue),
            offset: wire_offset(next)?,
        })
    }

    pub(crate) fn bound(&self, queue: &MessageQueue, bound: QueueBound) -> proto::QueryOffsetRequest {
        let policy = match bound {
            QueueBound::Min => QueryOffsetPolicy::Beginning,
            QueueBound::Max => QueryOffsetPolicy::End,
        };
        self.query_offset(queue, policy, None)
    }

    pub(crate) fn offset_at(&self, queue: &MessageQueue, time: SystemTime) -> proto::QueryOffsetRequest {
        self.query_offset(queue, QueryOffsetPolicy::Timestamp, Some(proto_timestamp(time)))
    }

    fn query_offset(
        &self,
        queue: &MessageQueue,
        policy: QueryOffsetPolicy,
        timestamp: Option<prost_types::Timestamp>,
    ) -> proto::QueryOffsetRequest {
        let message_queue = self.message_queue(queue);
        proto::QueryOffsetRequest { message_queue, query_offset_policy: policy as i32, timestamp }
    }

    fn message_queue(&self, queue: &MessageQueue) -> Option<proto::MessageQueue> {
        Some(proto::MessageQueue {
            topic: self.resource(queue.topic()),
            id: i32::try_from(queue.id()).unwrap_or(i32::MAX),
            permission: proto::Permission::Read as i32,
            broker: Some(proto::Broker { name: queue.broker().to_owned(), id: 0, endpoints: None }),
            accept_message_types: Vec::new(),
        })
    }
}

fn wire_offset(offset: Offset) -> Result<i64> {
    let beyond = |_| Error::argument("offset", offset, "a queue's offsets end at 9223372036854775807");
    i64::try_from(offset.get()).map_err(beyond)
}

/// What has come of an answer. Its frames come in any order: Apache's proposal begins with the status, rocketmq-rust ends with
/// it.
#[derive(Debug, Default)]
pub(crate) struct PullAnswer {
    messages: Vec<Message>,
    next_offset: Option<Offset>,
    status: Option<proto::Status>,
}

impl PullAnswer {
    /// Takes a frame as it arrived. A message in it that does not decode is delivered all the same (trap R12).
    ///
    /// # Errors
    /// `Protocol` when it is no frame of a pull, or says that a negative offset is next.
    pub(crate) fn take(&mut self, frame: Bytes, reading: &Reading, context: &Context) -> Result<()> {
        let response = match proto::PullMessageResponse::decode(frame.clone()) {
            Ok(response) => response,
            Err(reason) => {
                let damaged = Damaged::salvage(frame, reason).map_err(|reason| {
                    context.error(ErrorKind::Protocol, format!("cannot decode the answer: {reason}"))
                })?;
                self.push(read_damaged(damaged, reading).0);
                return Ok(());
            }
        };
        match response.content {
            Some(Content::Message(message)) => self.push(read(message, reading).0),
            Some(Content::NextOffset(next)) => self.next_offset = Some(offset(next, context)?),
            Some(Content::Status(status)) => self.status = Some(status),
            None => {}
        }
        Ok(())
    }

    fn push(&mut self, parts: MessageParts) {
        self.messages.push(Message::new(parts));
    }

    /// The answer, once there are no more frames. `next_offset` counts with every status; without one the position stays, or
    /// is behind the last message.
    ///
    /// # Errors
    /// What the server refused; `Protocol` when it did not end its answer.
    pub(crate) fn finish(self, request: &PullRequest, context: &Context) -> Result<Pulled> {
        let next = self.next_offset;
        match self.status {
            // Both vendors send the next offset behind the messages: with it they are all there.
            None if next.is_none() => {
                let text = "the server ended the answer without a status and without a next offset";
                Err(context.error(ErrorKind::Protocol, text))
            }
            Some(status) if status.code == Code::IllegalOffset as i32 => match next {
                Some(next) => Ok(pulled(Vec::new(), next, PullOutcome::OutOfRange)),
                None => Err(context.refused(&status)),
            },
            Some(status) if status.code != Code::Ok as i32 && status.code != Code::MessageNotFound as i32 => {
                Err(context.refused(&status))
            }
            Some(_) | None => Ok(read_on(self.messages, next.unwrap_or(request.offset), request)),
        }
    }
}

/// What a good answer comes to.
fn read_on(mut messages: Vec<Message>, next: Offset, request: &PullRequest) -> Pulled {
    let behind_last = messages.iter().filter_map(Message::queue_offset).max().map(behind);
    // What was handed out is never pulled again.
    let next = behind_last.map_or(next, |behind_last| behind_last.max(next));
    let is_asked_for = |message: &Message| message.queue_offset().is_none_or(|offset| offset >= request.offset);
    // One that cannot be read may have lost its tag.
    let is_wanted =
        |message: &Message| request.filter.accepts_tag(message.tag()) || message.corrupted().is_some_and(is_malformed);
    let outcome = match next.cmp(&request.offset) {
        Ordering::Less => PullOutcome::OutOfRange,
        Ordering::Equal => PullOutcome::Empty,
        Ordering::Greater if messages.is_empty() => PullOutcome::Filtered,
        Ordering::Greater => PullOutcome::Found,
    };
    messages.retain(|message| is_asked_for(message) && is_wanted(message));
    messages.sort_by_key(Message::queue_offset);
    pulled(messages, next, outcome)
}

fn is_malformed(corruption: &Corruption) -> bool {
    matches!(corruption, Corruption::Malformed { .. })
}

fn behind(offset: Offset) -> Offset {
    Offset::new(offset.get().saturating_add(1))
}

/// This interface tells neither the ends of a queue nor whom to ask next.
const fn pulled(messages: Vec<Message>, next_offset: Offset, outcome: PullOutcome) -> Pulled {
    Pulled { messages, next_offset, outcome, min_offset: None, max_offset: None, suggested_replica: None }
}

/// The committed offset; `None` when the server has none.
///
/// # Errors
/// What the server refused; `Protocol` for a negative offset.
pub(crate) fn committed_offset(answer: &proto::GetOffsetResponse, context: &Context) -> Result<Option<Offset>> {
    match &answer.status {
        Some(status) if status.code == Code::OffsetNotFound as i32 => Ok(None),
        status => {
            context.judge(status.as_ref())?;
            offset(answer.offset, context).map(Some)
        }
    }
}

/// An end of a queue, or the offset for a time.
///
/// # Errors
/// As [`committed_offset`].
pub(crate) fn queried_offset(answer: &proto::QueryOffsetResponse, context: &Context) -> Result<Offset> {
    context.judge(answer.status.as_ref())?;
    offset(answer.offset, context)
}

fn offset(number: i64, context: &Context) -> Result<Offset> {
    let negative = |_| context.error(ErrorKind::Protocol, format!("the server answered with the offset {number}"));
    u64::try_from(number).map(Offset::new).map_err(negative)
}

/// Of a server that cannot pull over gRPC, which Apache's proxy is: says what to do.
pub(crate) fn use_name_server(error: Error) -> Error {
    if error.kind() != ErrorKind::Unsupported {
        return error;
    }
    let text = format!(
        "{}; a server that does not pull over gRPC, as Apache's proxy, is pulled from over remoting: set `name_server`",
        error.text()
    );
    error.with_text(text)
}

#[cfg(test)]
#[path = "pull_tests.rs"]
mod tests;
