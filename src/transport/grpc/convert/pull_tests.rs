use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::error::Operation;
use crate::model::{Endpoint, Filter};

fn context() -> Context {
    Context::new(Operation::Pull, &Endpoint::new("proxy", 8081))
}

fn queue() -> MessageQueue {
    MessageQueue::new("orders", "broker-a", 3)
}

fn request(offset: u64) -> PullRequest {
    PullRequest {
        group: "etl".into(),
        queue: queue(),
        offset: Offset::new(offset),
        filter: Filter::tag("Aa || x"),
        max_messages: 32,
        suspend: Some(Duration::from_secs(15)),
    }
}

fn requests() -> Requests {
    Requests::new("ns".into(), &[Endpoint::new("proxy", 8081)], "host@1@2@3", "5.5.0")
}

fn reading() -> Reading {
    Reading {
        topic: "orders".into(),
        broker: Some("broker-a".into()),
        max_decompressed_size: 1 << 20,
        check_digest: false,
        is_delivery: false,
    }
}

fn response(content: Content) -> proto::PullMessageResponse {
    proto::PullMessageResponse { content: Some(content) }
}

fn status(code: Code) -> proto::PullMessageResponse {
    response(Content::Status(proto::Status { code: code as i32, message: "said".into() }))
}

fn next(offset: i64) -> proto::PullMessageResponse {
    response(Content::NextOffset(offset))
}

fn message(offset: i64, tag: &str) -> proto::PullMessageResponse {
    let system_properties = proto::SystemProperties {
        message_id: offset.to_string(),
        tag: Some(tag.into()),
        queue_id: 3,
        queue_offset: Some(offset),
        ..proto::SystemProperties::default()
    };
    response(Content::Message(proto::Message {
        system_properties: Some(system_properties),
        body: Bytes::from_static(b"body"),
        ..proto::Message::default()
    }))
}

fn answer(frames: &[proto::PullMessageResponse], from: u64) -> Result<Pulled> {
    let mut answer = PullAnswer::default();
    for frame in frames {
        answer.take(frame.encode_to_vec().into(), &reading(), &context())?;
    }
    answer.finish(&request(from), &context())
}

/// Offsets of the messages, the next one, and the kind of answer.
fn told(frames: &[proto::PullMessageResponse], from: u64) -> (Vec<u64>, u64, PullOutcome) {
    let pulled = answer(frames, from).unwrap();
    let offsets = pulled.messages.iter().map(|message| message.queue_offset().unwrap().get()).collect();
    (offsets, pulled.next_offset.get(), pulled.outcome)
}

#[test]
fn the_orders_of_both_vendors_are_read_alike() {
    let messages = [message(7, "x"), message(9, "Aa")];
    let ends = (vec![7, 9], 12, PullOutcome::Found);
    let apache = [&[status(Code::Ok)][..], &messages, &[next(12)]].concat();
    let rust = [&messages[..], &[next(12), status(Code::Ok)]].concat();
    let mixed = [&[next(12)][..], &messages, &[status(Code::Ok)]].concat();
    for frames in [apache, rust, mixed] {
        assert_eq!(told(&frames, 7), ends);
    }
}

#[test]
fn the_next_offset_counts_with_each_of_the_three_statuses() {
    for (code, from, to, outcome) in [
        (Code::MessageNotFound, 7, Some(90), PullOutcome::Filtered),
        (Code::MessageNotFound, 7, Some(7), PullOutcome::Empty),
        (Code::MessageNotFound, 7, None, PullOutcome::Empty),
        (Code::Ok, 7, Some(8), PullOutcome::Filtered),
        (Code::Ok, 7, None, PullOutcome::Empty),
        (Code::IllegalOffset, 7, Some(40), PullOutcome::OutOfRange),
        (Code::IllegalOffset, 70, Some(40), PullOutcome::OutOfRange),
        (Code::IllegalOffset, 7, Some(7), PullOutcome::OutOfRange),
        (Code::MessageNotFound, 70, Some(40), PullOutcome::OutOfRange),
    ] {
        let ends = (vec![], to.map_or(from, i64::unsigned_abs), outcome);
        for backwards in [false, true] {
            let mut frames: Vec<_> = std::iter::once(status(code)).chain(to.map(next)).collect();
            if backwards {
                frames.reverse();
            }
            assert_eq!(told(&frames, from), ends, "{code:?} {from} {to:?}");
        }
    }
}

#[test]
fn without_a_next_offset_it_is_behind_the_last_message() {
    assert_eq!(told(&[status(Code::Ok), message(7, "x"), message(9, "x")], 7), (vec![7, 9], 10, PullOutcome::Found));
    let back = [message(7, "x"), message(9, "x"), next(8), status(Code::Ok)];
    assert_eq!(told(&back, 7).1, 10, "what was handed out is not pulled again");
}

#[test]
fn an_answer_that_was_not_ended_is_an_error() {
    for frames in [&[][..], &[message(7, "x")]] {
        let error = answer(frames, 7).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Protocol, Some(Operation::Pull)));
    }
    assert_eq!(told(&[message(7, "x"), next(8)], 7), (vec![7], 8, PullOutcome::Found), "all messages were there");
}

#[test]
fn a_refusal_is_an_error_whatever_came_before_it() {
    for (code, kind) in [
        (Code::TopicNotFound, ErrorKind::NotFound),
        (Code::Forbidden, ErrorKind::PermissionDenied),
        (Code::IllegalOffset, ErrorKind::OffsetOutOfRange),
        (Code::InternalError, ErrorKind::Server),
    ] {
        assert_eq!(answer(&[message(7, "x"), status(code)], 7).unwrap_err().kind(), kind, "{code:?}");
    }
}

#[test]
fn p4_a_negative_or_impossible_offset_is_an_error_both_ways() {
    let mut seen = PullAnswer::default();
    assert_eq!(
        seen.take(next(-1).encode_to_vec().into(), &reading(), &context()).unwrap_err().kind(),
        ErrorKind::Protocol
    );
    let beyond = i64::MAX as u64 + 1;
    assert_eq!(requests().pull(&request(beyond)).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let error = requests().update_offset(&"etl".into(), &queue(), Offset::new(beyond)).unwrap_err();
    assert!(error.to_string().contains("9223372036854775808"), "{error}");
    let negative = proto::QueryOffsetResponse { status: ok(), offset: -1 };
    assert_eq!(queried_offset(&negative, &context()).unwrap_err().kind(), ErrorKind::Protocol);
    let negative = proto::GetOffsetResponse { status: ok(), offset: -1 };
    assert_eq!(committed_offset(&negative, &context()).unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn tag_collisions_and_what_lies_before_the_offset_are_left_out() {
    let frames = [message(6, "x"), message(7, "Aa"), message(8, "BB"), message(9, "x"), next(10), status(Code::Ok)];
    assert_eq!(told(&frames, 7), (vec![7, 9], 10, PullOutcome::Found));
    let collisions = [message(7, "BB"), next(8), status(Code::Ok)];
    assert_eq!(told(&collisions, 7), (vec![], 8, PullOutcome::Found));
    let before = [message(6, "x"), next(7), status(Code::Ok)];
    assert_eq!(told(&before, 7), (vec![], 7, PullOutcome::Empty));
}

#[test]
fn a_tag_collision_is_left_out_also_when_its_body_is_damaged() {
    for (tag, offsets) in [("x", vec![7]), ("BB", vec![])] {
        let mut frame = message(7, tag);
        if let Some(Content::Message(proto::Message { system_properties: Some(system), .. })) = &mut frame.content {
            system.body_encoding = proto::Encoding::Gzip as i32;
        }
        assert_eq!(told(&[frame, next(8), status(Code::Ok)], 7).0, offsets, "{tag}: what can be read of it counts");
    }
}

#[test]
fn messages_come_in_the_order_of_their_offsets() {
    let frames = [message(9, "x"), message(7, "x"), message(8, "x"), next(10), status(Code::Ok)];
    assert_eq!(told(&frames, 7).0, [7, 8, 9]);
}

#[test]
fn r12_a_message_that_does_not_decode_is_delivered_with_its_offset() {
    let mut frame = message(8, "tag").encode_to_vec();
    let tag = frame.windows(3).position(|window| window == b"tag").unwrap();
    frame[tag] = 0xFF;
    let mut answer = PullAnswer::default();
    for frame in [frame, next(9).encode_to_vec(), status(Code::Ok).encode_to_vec()] {
        answer.take(frame.into(), &reading(), &context()).unwrap();
    }
    let no_frame = PullAnswer::default().take(Bytes::from_static(b"\xFF"), &reading(), &context());
    assert_eq!(no_frame.unwrap_err().kind(), ErrorKind::Protocol);
    let pulled = answer.finish(&request(7), &context()).unwrap();
    let message = &pulled.messages[0];
    assert_eq!((message.queue_offset(), message.queue_id(), message.id()), (Some(Offset::new(8)), 3, "8"));
    assert_eq!((&message.body()[..], message.corrupted().is_some()), (b"body".as_ref(), true));
}

#[test]
fn requests_name_the_queue_the_offset_and_how_long_to_wait() {
    let pull = requests().pull(&request(7)).unwrap();
    let queue_named = pull.message_queue.clone().unwrap();
    assert_eq!((queue_named.id, queue_named.broker.unwrap().name.as_str()), (3, "broker-a"));
    assert_eq!(queue_named.topic.unwrap().name, "orders");
    assert_eq!((pull.offset, pull.batch_size, pull.group.unwrap().name.as_str()), (7, 32, "etl"));
    assert_eq!(pull.long_polling_timeout.unwrap().seconds, 15);
    assert_eq!(pull.filter_expression.unwrap().expression, "Aa || x");
    let at_once = requests().pull(&PullRequest { suspend: None, ..request(7) }).unwrap();
    assert_eq!(at_once.long_polling_timeout, None);
    let bounds = [QueueBound::Min, QueueBound::Max].map(|bound| requests().bound(&queue(), bound).query_offset_policy);
    assert_eq!(bounds, [0, 1]);
    let at = requests().offset_at(&queue(), UNIX_EPOCH + Duration::from_millis(1_500));
    assert_eq!(
        (at.query_offset_policy, at.timestamp.map(|time| (time.seconds, time.nanos))),
        (2, Some((1, 500_000_000)))
    );
    let update = requests().update_offset(&"etl".into(), &queue(), Offset::new(8)).unwrap();
    let get = requests().get_offset(&"etl".into(), &queue());
    assert_eq!((get.group, get.message_queue.clone()), (update.group, pull.message_queue.clone()));
    assert_eq!((update.offset, update.message_queue), (8, pull.message_queue));
}

fn ok() -> Option<proto::Status> {
    Some(proto::Status { code: Code::Ok as i32, message: String::new() })
}

#[test]
fn a_group_without_a_committed_offset_has_none() {
    let get = |code: Code, offset| {
        let status = Some(proto::Status { code: code as i32, message: String::new() });
        committed_offset(&proto::GetOffsetResponse { status, offset }, &context())
    };
    assert_eq!(get(Code::Ok, 0).unwrap(), Some(Offset::new(0)));
    assert_eq!(get(Code::OffsetNotFound, 0).unwrap(), None);
    assert_eq!(get(Code::TopicNotFound, 0).unwrap_err().kind(), ErrorKind::NotFound);
    let silent = proto::GetOffsetResponse { status: None, offset: 5 };
    assert_eq!(committed_offset(&silent, &context()).unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn only_what_the_server_does_not_have_points_to_the_name_server() {
    let text = |kind| use_name_server(context().error(kind, "said")).to_string();
    assert!(text(ErrorKind::Unsupported).contains("said; ") && text(ErrorKind::Unsupported).contains("`name_server`"));
    assert!(!text(ErrorKind::Server).contains("name_server"));
}
