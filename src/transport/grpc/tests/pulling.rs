//! Pulling against a scripted server.

use prost::Message as _;

use super::scripted::{Step, send, serve, status};
use super::*;
use crate::error::ErrorKind;
use crate::model::{MessageQueue, Offset};
use crate::proto::pull_message_response::Content;
use crate::transport::{PullOutcome, PullRequest, Pulling, QueueBound};

fn queue() -> MessageQueue {
    MessageQueue::new(orders(), "broker-a", 3)
}

fn group() -> Arc<str> {
    "etl".into()
}

fn request(offset: u64) -> PullRequest {
    PullRequest {
        group: group(),
        queue: queue(),
        offset: Offset::new(offset),
        filter: Filter::all(),
        max_messages: 32,
        suspend: Some(Duration::from_secs(1)),
    }
}

fn frame(content: Content) -> Step {
    send(&proto::PullMessageResponse { content: Some(content) })
}

fn told(code: i32) -> Step {
    frame(Content::Status(status(code, "said").unwrap()))
}

fn message(offset: i64, tag: &str) -> proto::PullMessageResponse {
    let system_properties = proto::SystemProperties {
        message_id: offset.to_string(),
        tag: Some(tag.into()),
        queue_id: 3,
        queue_offset: Some(offset),
        ..proto::SystemProperties::default()
    };
    let message = proto::Message { system_properties: Some(system_properties), ..proto::Message::default() };
    proto::PullMessageResponse { content: Some(Content::Message(message)) }
}

#[tokio::test]
async fn a_pull_is_one_answer_in_whatever_order_its_frames_come() {
    for is_status_first in [true, false] {
        let tasks = TaskGroup::new();
        let endpoint = serve(&tasks, move |method, headers, question| {
            assert_eq!(method, "PullMessage");
            // 1 s of waiting, 5 s of the broker's tick, 3 s for the request.
            assert_eq!(headers.get("grpc-timeout").unwrap(), "9000000u");
            let offset = proto::PullMessageRequest::decode(question).unwrap().offset;
            let mut damaged = message(offset + 1, "tag").encode_to_vec();
            let tag = damaged.windows(3).position(|window| window == b"tag").unwrap();
            damaged[tag] = 0xFF;
            let mut steps = vec![send(&message(offset, "tag")), Step::Send(damaged), send(&message(offset + 2, "tag"))];
            steps.push(frame(Content::NextOffset(offset + 5)));
            steps.insert(if is_status_first { 0 } else { 4 }, told(20000));
            steps
        })
        .await;
        let pulled = soon(wire(config()).pull(&endpoint, &request(7))).await.unwrap();
        let offsets: Vec<_> = pulled.messages.iter().filter_map(|message| message.queue_offset()).collect();
        assert_eq!(offsets, [7, 8, 9].map(Offset::new), "R12: also the one that does not decode");
        assert_eq!((pulled.next_offset, pulled.outcome), (Offset::new(12), PullOutcome::Found));
        let message = &pulled.messages[0];
        assert_eq!((message.topic(), message.broker(), message.queue_id()), ("orders", Some("broker-a"), 3));
    }
}

#[tokio::test]
async fn p5_an_offset_out_of_range_is_an_answer_with_the_servers_correction() {
    let tasks = TaskGroup::new();
    let endpoint = serve(&tasks, |method, _, question| moved_to_40(method, question, 30)).await;
    let pulled = soon(wire(config()).pull(&endpoint, &request(7))).await.unwrap();
    assert_eq!((pulled.next_offset, pulled.outcome), (Offset::new(40), PullOutcome::OutOfRange));
    assert_eq!((pulled.min_offset, pulled.max_offset), (Some(Offset::new(30)), Some(Offset::new(90))));
}

#[tokio::test]
async fn p29_a_correction_of_an_offset_that_is_there_is_a_reset() {
    let tasks = TaskGroup::new();
    let endpoint = serve(&tasks, |method, _, question| moved_to_40(method, question, 7)).await;
    let pulled = soon(wire(config()).pull(&endpoint, &request(7))).await.unwrap();
    assert_eq!((pulled.next_offset, pulled.outcome), (Offset::new(40), PullOutcome::Reset));
}

/// A server whose pulls are sent on to 40; its queue begins at `min`, and ends at 90.
fn moved_to_40(method: &str, question: bytes::Bytes, min: i64) -> Vec<Step> {
    if method == "PullMessage" {
        return vec![frame(Content::NextOffset(40)), told(40019)];
    }
    let policy = proto::QueryOffsetRequest::decode(question).unwrap().query_offset_policy();
    let offset = if policy == proto::QueryOffsetPolicy::Beginning { min } else { 90 };
    vec![send(&proto::QueryOffsetResponse { status: status(20000, ""), offset })]
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_and_not_a_shorter_answer() {
    let tasks = TaskGroup::new();
    let breaks =
        |_: &str, _: &_, _| vec![told(20000), send(&message(7, "tag")), Step::Fail(tonic::Status::internal("broke"))];
    let endpoint = serve(&tasks, breaks).await;
    let error = soon(wire(config()).pull(&endpoint, &request(7))).await.unwrap_err();
    assert_eq!((error.kind(), error.text(), error.group()), (ErrorKind::Server, "broke", Some("etl")));
}

#[tokio::test]
async fn a_pull_without_an_answer_ends_with_its_deadline() {
    let tasks = TaskGroup::new();
    let endpoint = serve(&tasks, |_, _, _| vec![Step::Wait(Duration::from_secs(60))]).await;
    let millis = Duration::from_millis;
    let wire = wire(GrpcConfig { request_timeout: millis(100), connect_timeout: millis(300), ..config() });
    let error = soon(wire.pull(&endpoint, &PullRequest { suspend: None, ..request(7) })).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
}

#[tokio::test]
async fn offsets_are_asked_for_and_committed() {
    let tasks = TaskGroup::new();
    let endpoint = serve(&tasks, |method, _, question| match method {
        "GetOffset" => {
            let question = proto::GetOffsetRequest::decode(question).unwrap();
            assert_eq!(question.message_queue.unwrap().id, 3);
            let code = if question.group.unwrap().name == "etl" { 20000 } else { 40404 };
            vec![send(&proto::GetOffsetResponse {
                status: status(code, ""),
                offset: if code == 20000 { 8 } else { 0 },
            })]
        }
        "UpdateOffset" => {
            let offset = proto::UpdateOffsetRequest::decode(question).unwrap().offset;
            let code = if offset == 9 { 20000 } else { 40300 };
            vec![send(&proto::UpdateOffsetResponse { status: status(code, "") })]
        }
        "QueryOffset" => {
            let question = proto::QueryOffsetRequest::decode(question).unwrap();
            let offset =
                question.timestamp.map_or_else(|| i64::from(question.query_offset_policy) * 100, |time| time.seconds);
            vec![send(&proto::QueryOffsetResponse { status: status(20000, ""), offset })]
        }
        _ => Vec::new(),
    })
    .await;
    let (wire, queue, group) = (wire(config()), queue(), group());
    assert_eq!(soon(wire.committed(&endpoint, &group, &queue)).await.unwrap(), Some(Offset::new(8)));
    assert_eq!(soon(wire.committed(&endpoint, &"new".into(), &queue)).await.unwrap(), None);
    soon(wire.commit(&endpoint, &group, &queue, Offset::new(9))).await.unwrap();
    let error = soon(wire.commit(&endpoint, &group, &queue, Offset::new(10))).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::PermissionDenied, Some(Operation::CommitOffset)));
    assert_eq!(soon(wire.bound(&endpoint, &queue, QueueBound::Min)).await.unwrap(), Offset::new(0));
    assert_eq!(soon(wire.bound(&endpoint, &queue, QueueBound::Max)).await.unwrap(), Offset::new(100));
    let time = std::time::UNIX_EPOCH + Duration::from_secs(77);
    assert_eq!(soon(wire.offset_at(&endpoint, &queue, time)).await.unwrap(), Offset::new(77));
}

#[tokio::test]
async fn a_server_that_does_not_pull_is_unsupported_and_the_error_says_what_to_set() {
    let tasks = TaskGroup::new();
    let endpoint = serve(&tasks, |_, _, _| vec![Step::Fail(tonic::Status::unimplemented("not implemented"))]).await;
    let (wire, queue, group) = (wire(config()), queue(), group());
    let errors = [
        soon(wire.pull(&endpoint, &request(7))).await.unwrap_err(),
        soon(wire.committed(&endpoint, &group, &queue)).await.unwrap_err(),
        soon(wire.commit(&endpoint, &group, &queue, Offset::new(1))).await.unwrap_err(),
        soon(wire.bound(&endpoint, &queue, QueueBound::Max)).await.unwrap_err(),
        soon(wire.offset_at(&endpoint, &queue, std::time::UNIX_EPOCH)).await.unwrap_err(),
        soon(wire.members(&endpoint, &group)).await.unwrap_err(),
        soon(wire.group_profile(&endpoint, &group)).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
        assert!(error.text().contains("set `name_server`"), "{error}");
    }
    let checked = soon(wire.check_filter(&endpoint, &group, &orders(), &Filter::sql92("a > 1"))).await;
    assert_eq!(checked.unwrap_err().kind(), ErrorKind::Unsupported);
}
