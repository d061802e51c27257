//! Statuses, and the answers that carry them.

use crate::embedded::engine::Refusal;
use crate::proto::{self, Code};

/// A response that can say no.
pub(super) trait Answer: Sized + Send {
    fn refusal(status: proto::Status) -> Self;
}

macro_rules! answers {
    ($($response:ident { $($empty:ident),* })*) => {
        $(impl Answer for proto::$response {
            fn refusal(status: proto::Status) -> Self {
                Self { status: Some(status), $($empty: Default::default()),* }
            }
        })*
    };
}

answers! {
    QueryRouteResponse { message_queues }
    QueryAssignmentResponse { assignments }
    HeartbeatResponse {}
    NotifyClientTerminationResponse {}
    SendMessageResponse { entries }
    AckMessageResponse { entries }
    ChangeInvisibleDurationResponse { receipt_handle }
    ForwardMessageToDeadLetterQueueResponse {}
    EndTransactionResponse {}
    RecallMessageResponse { message_id }
    UpdateOffsetResponse {}
    GetOffsetResponse { offset }
    QueryOffsetResponse { offset }
}

pub(super) fn refused(code: Code, text: impl Into<String>) -> proto::Status {
    proto::Status { code: code.into(), message: text.into() }
}

pub(super) fn ok() -> proto::Status {
    refused(Code::Ok, "OK")
}

pub(super) fn receive_status(status: proto::Status) -> proto::ReceiveMessageResponse {
    content(proto::receive_message_response::Content::Status(status))
}

pub(super) fn content(content: proto::receive_message_response::Content) -> proto::ReceiveMessageResponse {
    proto::ReceiveMessageResponse { content: Some(content) }
}

/// Codes and texts as on 5.5.0.
pub(super) fn refusal(refusal: Refusal) -> proto::Status {
    match refusal {
        Refusal::TopicNotFound(topic) => {
            refused(Code::TopicNotFound, format!("No topic route info in name server for the topic: {topic}"))
        }
        Refusal::Unreachable(broker) => refused(Code::InternalServerError, format!("connect to {broker} failed")),
        Refusal::NoBroker(broker) => {
            refused(Code::InvalidReceiptHandle, format!("cannot find broker {broker} in the cluster"))
        }
        Refusal::Expired => refused(Code::InvalidReceiptHandle, "receipt handle is expired"),
        Refusal::Unreadable(handle) => {
            refused(Code::InternalServerError, format!("`{handle}` is not a receipt handle"))
        }
        Refusal::NoQueue { queue, queues } => {
            refused(Code::BadRequest, format!("queue {queue} is illegal, the topic has {queues} on each broker"))
        }
        Refusal::GroupNotFound(group) => {
            refused(Code::ConsumerGroupNotFound, format!("consumer group {group} does not exist"))
        }
        Refusal::Abnormal => refused(Code::InternalServerError, "ack failed: status is abnormal"),
    }
}

/// The status over the statuses of entries: theirs when all are the same, else MULTIPLE_RESULTS.
pub(super) fn overall<'a>(mut entries: impl Iterator<Item = &'a proto::Status>) -> proto::Status {
    let Some(first) = entries.next() else { return refused(Code::InternalServerError, "the result is empty") };
    if entries.all(|other| other.code == first.code) {
        first.clone()
    } else {
        refused(Code::MultipleResults, "the entries have different results")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r8_entries_that_differ_are_multiple_results() {
        let (good, bad) = (ok(), refused(Code::InvalidReceiptHandle, "x"));
        let code = |entries: &[&proto::Status]| overall(entries.iter().copied()).code();
        assert_eq!(code(&[&good, &good]), Code::Ok);
        assert_eq!(code(&[&bad]), Code::InvalidReceiptHandle);
        assert_eq!(code(&[&good, &bad]), Code::MultipleResults);
        assert_eq!(code(&[]), Code::InternalServerError);
    }
}
