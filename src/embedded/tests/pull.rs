use super::raw::{Raw, resource};
use super::*;
use crate::proto::pull_message_response::Content;
use crate::{MessageQueue, Offset, OutboundMessage};

/// The answer to a pull, its parts apart.
struct Pulled {
    bodies: Vec<String>,
    messages: Vec<proto::Message>,
    next: Option<i64>,
    code: Code,
    text: String,
}

fn queue(id: i32) -> Option<proto::MessageQueue> {
    let broker = Some(proto::Broker { name: "broker-a".into(), ..Default::default() });
    Some(proto::MessageQueue { topic: resource("t"), id, broker, ..Default::default() })
}

fn request(offset: i64) -> proto::PullMessageRequest {
    let (group, message_queue) = (resource("g"), queue(0));
    proto::PullMessageRequest { group, message_queue, offset, batch_size: 32, ..Default::default() }
}

fn suspended(request: proto::PullMessageRequest, seconds: i64) -> proto::PullMessageRequest {
    proto::PullMessageRequest { long_polling_timeout: Some(prost_types::Duration { seconds, nanos: 0 }), ..request }
}

fn filtered(request: proto::PullMessageRequest, kind: proto::FilterType, text: &str) -> proto::PullMessageRequest {
    let filter = proto::FilterExpression { r#type: kind.into(), expression: text.into() };
    proto::PullMessageRequest { filter_expression: Some(filter), ..request }
}

async fn pull(client: &Raw, request: proto::PullMessageRequest) -> Pulled {
    let request = client.request(request, Duration::from_secs(60));
    let mut stream = client.client.clone().pull_message(request).await.unwrap().into_inner();
    let (mut messages, mut next, mut status) = (Vec::new(), None, None);
    while let Some(part) = stream.message().await.unwrap() {
        assert!(status.is_none(), "the status comes last");
        match part.content.unwrap() {
            Content::Message(message) => messages.push(message),
            Content::NextOffset(offset) => next = Some(offset),
            Content::Status(last) => status = Some(last),
        }
    }
    let status = status.expect("a status");
    let bodies = messages.iter().map(|message| String::from_utf8(message.body.to_vec()).unwrap()).collect();
    Pulled { bodies, messages, next, code: status.code(), text: status.message }
}

fn first() -> MessageQueue {
    MessageQueue::new("t", "broker-a", 0)
}

fn put(broker: &Broker, bodies: &[&str]) {
    for body in bodies {
        broker.append(&first(), OutboundMessage::new("t", body.to_string()).tag("paid").key("k")).unwrap();
    }
}

#[tokio::test]
async fn a_pull_reads_one_queue_from_an_offset_without_any_settings() {
    let broker = broker().await;
    put(&broker, &["0", "1", "2"]);
    let client = Raw::connect(&broker, "c").await;
    let pulled = pull(&client, request(1)).await;
    assert_eq!((pulled.code, pulled.next), (Code::Ok, Some(3)));
    assert_eq!(pulled.bodies, ["1", "2"]);
    let system = pulled.messages[0].system_properties.as_ref().unwrap();
    assert_eq!((system.queue_id, system.queue_offset, system.tag.as_deref()), (0, Some(1), Some("paid")));
    assert!(system.receipt_handle.is_none() && system.body_digest.is_none());
    let one = pull(&client, proto::PullMessageRequest { batch_size: 1, ..request(0) }).await;
    assert_eq!((one.bodies.len(), one.next), (1, Some(1)));
    assert_eq!((broker.stats().pulled, broker.stats().delivered), (3, 0));
}

#[tokio::test]
async fn p5_an_offset_that_is_not_there_is_answered_with_its_correction() {
    let broker = broker().await;
    put(&broker, &["0", "1", "2", "3"]);
    broker.expire(&first(), Offset::new(2)).unwrap();
    let client = Raw::connect(&broker, "c").await;
    let small = pull(&client, request(1)).await;
    assert_eq!((small.code, small.next, &*small.text), (Code::IllegalOffset, Some(2), "OFFSET_TOO_SMALL"));
    let large = pull(&client, request(9)).await;
    assert_eq!((large.code, large.next, &*large.text), (Code::IllegalOffset, Some(4), "OFFSET_OVERFLOW_BADLY"));
    broker.reset_offset("g", &first(), Offset::new(3)).unwrap();
    let reset = pull(&client, request(4)).await;
    assert_eq!((reset.code, reset.next, &*reset.text), (Code::IllegalOffset, Some(3), "OFFSET_RESET"));
    let end = pull(&client, request(4)).await;
    assert_eq!((end.code, end.next), (Code::MessageNotFound, Some(4)));
}

#[tokio::test]
async fn p4_a_pull_that_cannot_be_is_refused_without_a_next_offset() {
    let broker = broker().await;
    let client = Raw::connect(&broker, "c").await;
    let unknown = proto::MessageQueue { topic: resource("nowhere"), ..queue(0).unwrap() };
    let nobody = proto::MessageQueue { broker: None, ..queue(0).unwrap() };
    for (request, code) in [
        (request(-1), Code::IllegalOffset),
        (proto::PullMessageRequest { message_queue: queue(-1), ..request(0) }, Code::IllegalOffset),
        (proto::PullMessageRequest { message_queue: queue(2), ..request(0) }, Code::BadRequest),
        (proto::PullMessageRequest { message_queue: Some(nobody), ..request(0) }, Code::BadRequest),
        (proto::PullMessageRequest { message_queue: Some(unknown), ..request(0) }, Code::TopicNotFound),
        (proto::PullMessageRequest { batch_size: 0, ..request(0) }, Code::BadRequest),
        (proto::PullMessageRequest { group: None, ..request(0) }, Code::IllegalConsumerGroup),
        (filtered(request(0), proto::FilterType::Sql, " "), Code::IllegalFilterExpression),
        (filtered(request(0), proto::FilterType::Sql, "a >"), Code::IllegalFilterExpression),
    ] {
        let pulled = pull(&client, request.clone()).await;
        assert_eq!((pulled.code, pulled.next), (code, None), "{request:?}: {}", pulled.text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspended_pull_is_woken_by_a_message_and_otherwise_ends_empty() {
    let broker = broker().await;
    let client = Raw::connect(&broker, "c").await;
    let sending = async {
        clock::sleep(SECOND).await;
        put(&broker, &["new"]);
    };
    let started = clock::now();
    let (pulled, ()) = tokio::join!(pull(&client, suspended(request(0), 20)), sending);
    assert_eq!((pulled.code, pulled.next), (Code::Ok, Some(1)));
    assert!(clock::now() - started < 2 * SECOND);
    let started = clock::now();
    let empty = pull(&client, suspended(request(1), 7)).await;
    assert_eq!((empty.code, empty.next), (Code::MessageNotFound, Some(1)));
    let took = clock::now() - started;
    assert!(took >= 7 * SECOND && took < 8 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_filter_leaves_out_ends_a_suspended_pull_only_at_the_next_check() {
    let broker = broker().await;
    let client = Raw::connect(&broker, "c").await;
    let sending = async {
        clock::sleep(SECOND).await;
        put(&broker, &["not for this filter"]);
    };
    let started = clock::now();
    let request = filtered(suspended(request(0), 20), proto::FilterType::Tag, "open");
    let (pulled, ()) = tokio::join!(pull(&client, request), sending);
    assert_eq!((pulled.code, pulled.next, &*pulled.text), (Code::MessageNotFound, Some(1), "NO_MATCHED_MESSAGE"));
    let took = clock::now() - started;
    assert!(took >= 5 * SECOND && took < 6 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_stops_ends_a_suspended_pull() {
    let broker = broker().await;
    let client = Raw::connect(&broker, "c").await;
    let stopping = async {
        clock::sleep(SECOND).await;
        broker.stop_broker(0);
    };
    let (pulled, ()) = tokio::join!(pull(&client, suspended(request(0), 20)), stopping);
    assert_eq!((pulled.code, pulled.next), (Code::InternalServerError, None), "{}", pulled.text);
}

#[tokio::test]
async fn p1_committed_offsets_are_those_a_group_was_given() {
    let broker = broker().await;
    put(&broker, &["0", "1"]);
    let mut client = Raw::connect(&broker, "c").await;
    let get = client.request(proto::GetOffsetRequest { group: resource("g"), message_queue: queue(0) }, SECOND);
    let none = client.client.get_offset(get).await.unwrap().into_inner();
    assert_eq!((code(none.status), none.offset), (Code::OffsetNotFound, 0));

    let update = proto::UpdateOffsetRequest { group: resource("g"), message_queue: queue(0), offset: 2 };
    let early = client.client.update_offset(client.request(update.clone(), SECOND)).await.unwrap().into_inner();
    assert_eq!(code(early.status), Code::ConsumerGroupNotFound, "nobody has used the group");
    pull(&client, request(0)).await;
    for (offset, expected) in [(2, Code::Ok), (1, Code::Ok), (-1, Code::IllegalOffset)] {
        let update = proto::UpdateOffsetRequest { offset, ..update.clone() };
        let answer = client.client.update_offset(client.request(update, SECOND)).await.unwrap().into_inner();
        assert_eq!(code(answer.status), expected, "{offset}");
    }
    assert_eq!(broker.committed("g", &first()), Some(Offset::new(1)), "a smaller one rewinds");
    broker.set_committed("g", &first(), Some(Offset::new(2))).unwrap();
    let get = client.request(proto::GetOffsetRequest { group: resource("g"), message_queue: queue(0) }, SECOND);
    let stored = client.client.get_offset(get).await.unwrap().into_inner();
    assert_eq!((code(stored.status), stored.offset), (Code::Ok, 2));
}

#[tokio::test]
async fn p24_the_ends_of_a_queue_and_a_time_are_offsets() {
    let broker = broker().await;
    put(&broker, &["0", "1", "2"]);
    broker.expire(&first(), Offset::new(1)).unwrap();
    assert_eq!(broker.offsets(&first()), Some(Offset::new(1)..Offset::new(3)));
    let mut client = Raw::connect(&broker, "c").await;
    use proto::QueryOffsetPolicy::{Beginning, End, Timestamp};
    let late = Some(prost_types::Timestamp { seconds: i64::from(u32::MAX), nanos: 0 });
    for (id, policy, timestamp, expected) in [
        (0, Beginning, None, (Code::Ok, 1)),
        (0, End, None, (Code::Ok, 3)),
        (0, Timestamp, late, (Code::Ok, 3)),
        (0, Timestamp, Some(prost_types::Timestamp::default()), (Code::Ok, 1)),
        (0, Timestamp, None, (Code::IllegalOffset, 0)),
        (99, End, None, (Code::Ok, 0)),
    ] {
        let query =
            proto::QueryOffsetRequest { message_queue: queue(id), query_offset_policy: policy.into(), timestamp };
        let answer = client.client.query_offset(client.request(query, SECOND)).await.unwrap().into_inner();
        assert_eq!((code(answer.status), answer.offset), expected, "{id} {policy:?}");
    }
}

#[tokio::test]
async fn without_the_pull_rpcs_it_is_as_apache() {
    let broker = builder().grpc_pull(false).credentials("ak", "sk").start().await.unwrap();
    let client = Raw::connect(&broker, "c").await;
    let mut stub = client.client.clone();
    let pulled = stub.pull_message(client.request(request(0), SECOND)).await.unwrap_err();
    let got = stub.get_offset(client.request(proto::GetOffsetRequest::default(), SECOND)).await.unwrap_err();
    let queried = stub.query_offset(client.request(proto::QueryOffsetRequest::default(), SECOND)).await.unwrap_err();
    let updated = stub.update_offset(client.request(proto::UpdateOffsetRequest::default(), SECOND)).await.unwrap_err();
    for status in [pulled, got, queried, updated] {
        assert_eq!(status.code(), tonic::Code::Unimplemented, "also without credentials");
    }
}

#[tokio::test]
async fn a_pull_takes_faults_like_any_request() {
    let broker = broker().await;
    put(&broker, &["0"]);
    let client = Raw::connect(&broker, "c").await;
    broker.faults().on(Rpc::PullMessage).status(50001, "store is full");
    let refused = pull(&client, request(0)).await;
    assert_eq!((refused.code, &*refused.text), (Code::InternalServerError, "store is full"));
    broker.faults().on(Rpc::PullMessage).lose_reply();
    let lost = clock::timeout(Duration::from_millis(200), pull(&client, request(0))).await;
    assert!(lost.is_none(), "no answer comes");
    assert_eq!(pull(&client, request(0)).await.bodies, ["0"]);
    assert_eq!(broker.calls(Rpc::PullMessage), 3);
}

#[tokio::test]
async fn queues_are_shown_grow_and_take_messages_by_hand() {
    let broker = builder().brokers(2).start().await.unwrap();
    assert_eq!(broker.queues("t").len(), 4);
    broker.grow_topic("t", 3).unwrap();
    assert_eq!(broker.queues("t").last(), Some(&MessageQueue::new("t", "broker-b", 2)));
    assert_eq!(broker.grow_topic("nowhere", 3).unwrap_err().kind(), ErrorKind::NotFound);
    let there = MessageQueue::new("t", "broker-b", 2);
    assert_eq!(broker.append(&there, OutboundMessage::new("t", "x")).unwrap(), Offset::new(0));
    assert_eq!(broker.messages("t")[0].queue, 2);
    let nowhere = MessageQueue::new("t", "broker-b", 3);
    let error = broker.append(&nowhere, OutboundMessage::new("t", "x")).unwrap_err();
    assert_eq!(error.to_string(), "append: there is no queue t@broker-b:3");
    assert_eq!(broker.expire(&nowhere, Offset::new(1)).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(broker.offsets(&nowhere).is_none() && broker.committed("g", &nowhere).is_none());
}
