use super::raw::{Raw, resource, text_message, with};
use super::*;

#[tokio::test]
async fn a_send_answers_with_id_transaction_id_and_offset() {
    let broker = broker().await;
    let mut client = Raw::connect(&broker, "p").await;
    let sent = client.send("t", "m1", b"hello").await;
    assert_eq!(code(sent.status), Code::Ok);
    let entry = &sent.entries[0];
    assert_eq!((&*entry.message_id, &*entry.transaction_id, entry.offset), ("m1", "m1", 0));
    assert_eq!(entry.recall_handle, "", "only delayed messages have one");
    assert_eq!(broker.messages("t")[0].body, "hello");
}

#[tokio::test]
async fn a_message_that_breaks_a_rule_is_refused_with_its_code() {
    let broker = broker().await;
    let mut client = Raw::connect(&broker, "p").await;
    let good = || text_message("t", "m", b"x");
    let property = |name: &str| {
        let mut message = good();
        message.user_properties.insert(name.into(), "v".into());
        message
    };
    let many = {
        let mut message = good();
        message.user_properties.extend((0..129).map(|n| (n.to_string(), String::new())));
        message
    };
    let far = prost_types::Timestamp { seconds: i64::MAX / 2, nanos: 0 };
    for (message, expected) in [
        (text_message("t", " ", b"x"), Code::IllegalMessageId),
        (text_message("t", "m", b""), Code::MessageBodyEmpty),
        (text_message("t", "m", &vec![0; (4 << 20) + 1]), Code::MessageBodyTooLarge),
        (text_message("a b", "m", b"x"), Code::IllegalTopic),
        (with(|system| system.tag = Some("a|b".into()), good()), Code::IllegalMessageTag),
        (with(|system| system.keys = vec![" ".into()], good()), Code::IllegalMessageKey),
        (with(|system| system.message_group = Some("g".repeat(64)), good()), Code::IllegalMessageGroup),
        (with(|system| system.delivery_timestamp = Some(far), good()), Code::IllegalDeliveryTime),
        (property("UNIQ_KEY"), Code::IllegalMessagePropertyKey),
        (property("a\u{1}"), Code::IllegalMessagePropertyKey),
        (property(&"n".repeat(17 << 10)), Code::MessagePropertiesTooLarge),
        (many, Code::MessagePropertiesTooLarge),
    ] {
        assert_eq!(code(client.send_all(vec![message]).await.status), expected);
    }
    assert_eq!(code(client.send_all(Vec::new()).await.status), Code::MessageCorrupted);
    let mixed = vec![good(), text_message("later", "m", b"x")];
    assert_eq!(code(client.send_all(mixed).await.status), Code::MessageCorrupted);
    assert_eq!(broker.stats().sent, 0);
    let largest = text_message("t", "m", &vec![0; 4 << 20]);
    assert_eq!(code(client.send_all(vec![largest]).await.status), Code::Ok, "exactly the limit passes");
}

#[tokio::test]
async fn a_message_must_fit_the_type_of_its_topic() {
    let broker = broker().await;
    let mut client = Raw::connect(&broker, "p").await;
    let conflict = client.send("ordered", "m", b"x").await.status.unwrap();
    assert_eq!(conflict.code(), Code::MessagePropertyConflictWithType);
    assert!(conflict.message.contains("expected type is FIFO, but actual type is NORMAL"), "{}", conflict.message);
    let unknown = client.send("nowhere", "m", b"x").await.status.unwrap();
    assert_eq!(unknown.code(), Code::MessagePropertyConflictWithType);
    assert!(unknown.message.contains("expected type is UNSPECIFIED"), "{}", unknown.message);
    let grouped = with(|system| system.message_group = Some("a".into()), text_message("ordered", "m", b"x"));
    assert_eq!(code(client.send_all(vec![grouped]).await.status), Code::Ok);
}

#[tokio::test]
async fn a_batch_is_one_entry_with_all_ids() {
    let broker = broker().await;
    let mut client = Raw::connect(&broker, "p").await;
    let sent = client.send_all(vec![text_message("t", "a", b"1"), text_message("t", "b", b"2")]).await;
    assert_eq!((sent.entries.len(), &*sent.entries[0].message_id), (1, "a,b"));
    assert_eq!(broker.messages("t").len(), 2);
}

#[tokio::test]
async fn a_delayed_message_comes_at_its_time() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    let due = broker.cluster().now() + 300;
    let at = prost_types::Timestamp { seconds: (due / 1000) as i64, nanos: (due % 1000) as i32 * 1_000_000 };
    let message = with(|system| system.delivery_timestamp = Some(at), text_message("later", "m", b"x"));
    let sent = client.send_all(vec![message]).await;
    assert_ne!(sent.entries[0].recall_handle, "");
    assert_eq!(broker.messages("later").len(), 0);
    let received = client.receive("later", "g", 1, 2 * SECOND).await;
    assert_eq!(received.seen(), [("m".into(), 1)]);
    assert!(broker.cluster().now() >= due);
    assert_eq!(received.messages[0].system_properties.as_ref().unwrap().message_type(), proto::MessageType::Delay);
}

#[tokio::test]
async fn what_is_not_served_says_so() {
    let broker = broker().await;
    let mut client = Raw::connect(&broker, "p").await;
    let half = with(|system| system.set_message_type(proto::MessageType::Transaction), text_message("paid", "m", b"x"));
    assert_eq!(code(client.send_all(vec![half]).await.status), Code::NotImplemented);
    let request = proto::RecallMessageRequest { topic: resource("later"), recall_handle: "x".into() };
    let request = client.request(request, SECOND);
    let recall = client.client.recall_message(request).await.unwrap().into_inner();
    assert_eq!(code(recall.status), Code::InternalServerError);
    let request = client.request(proto::SyncLiteSubscriptionRequest::default(), SECOND);
    assert_eq!(client.client.sync_lite_subscription(request).await.unwrap_err().code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn keys_tags_and_properties_come_back() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    let mut message = with(
        |system| {
            system.tag = Some("paid".into());
            system.keys = vec!["k1".into(), "k2 k3".into()];
            system.trace_context = Some("00-trace".into());
            system.set_body_encoding(proto::Encoding::Gzip);
            system.born_host = "producer-1".into();
        },
        text_message("t", "m", b"x\x9c"),
    );
    message.user_properties.insert("amount".into(), "12".into());
    client.send_all(vec![message]).await;
    let received = client.receive("t", "g", 1, SECOND).await.messages.remove(0);
    let system = received.system_properties.unwrap();
    assert_eq!((system.tag.as_deref(), system.trace_context.as_deref()), (Some("paid"), Some("00-trace")));
    assert_eq!(system.keys, ["k1", "k2", "k3"], "a key with a blank comes back as two");
    assert_eq!((system.body_encoding(), &received.body[..]), (proto::Encoding::Gzip, &b"x\x9c"[..]));
    assert_eq!((&*system.born_host, system.message_type()), ("producer-1", proto::MessageType::Normal));
    assert_eq!(received.user_properties["amount"], "12");
    assert!(system.store_timestamp.is_some() && system.born_timestamp.is_some() && system.queue_offset == Some(0));
}

#[tokio::test]
async fn topics_are_created_on_demand_only_when_that_is_asked_for() {
    let broker = Broker::start().await.unwrap();
    let mut client = Raw::connect(&broker, "p").await;
    assert_eq!(client.route("first", None).await.message_queues.len(), 8);
    assert_eq!(code(client.send("second", "m", b"x").await.status), Code::Ok);
    assert_eq!(broker.topics(), ["first", "second"]);
}
