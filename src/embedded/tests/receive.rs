use super::raw::{Raw, consumer_settings, receive_request, resource, text_message, with};
use super::*;

#[tokio::test]
async fn what_is_sent_is_received_and_acked() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    client.send("t", "m1", b"hello").await;
    let received = client.receive("t", "g", 32, SECOND).await;
    assert_eq!(received.status.code(), Code::Ok);
    assert!(received.ends_with_timestamp, "the order is Status, Message*, delivery timestamp");
    let message = &received.messages[0];
    let system = message.system_properties.as_ref().unwrap();
    assert_eq!((&message.body[..], system.delivery_attempt), (&b"hello"[..], Some(1)));
    assert_eq!(system.body_digest.as_ref().unwrap().checksum, "5D41402ABC4B2A76B9719D911017C592");
    assert_eq!(system.invisible_duration, None, "Apache leaves it out");
    assert_eq!(broker.in_flight("g", "t"), 1);
    assert_eq!(code(client.ack("t", "g", &[received.handle(0)]).await.status), Code::Ok);
    assert_eq!((broker.in_flight("g", "t"), broker.waiting("g", "t")), (0, 0));
    broker.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn r4_an_empty_poll_lasts_and_says_no_new_message() {
    let broker = Broker::builder().topic("t", 1).start().await.unwrap();
    let mut client = Raw::consumer(&broker, "g").await;
    for (asked, lasted) in [(1, 5), (10, 10), (30, 20)] {
        let from = clock::now();
        let request = receive_request("t", "g", 1, Duration::from_secs(asked));
        let received = client.receive_with(request, Duration::from_secs(40)).await;
        assert_eq!((received.status.code(), &*received.status.message), (Code::MessageNotFound, "no new message"));
        assert_eq!((clock::now() - from).as_secs(), lasted, "asked for {asked} s");
        assert!(received.ends_with_timestamp);
    }
}

#[tokio::test]
async fn a_waiting_poll_is_woken_by_a_message_and_by_a_redelivery() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    let mut producer = Raw::connect(&broker, "p").await;
    let send = async {
        clock::sleep(Duration::from_millis(100)).await;
        producer.send("t", "m", b"x").await;
    };
    let (received, ()) = tokio::join!(client.receive("t", "g", 1, 5 * SECOND), send);
    assert_eq!(received.seen(), [("m".into(), 1)]);
    let changed = client.change("t", "g", &received.handle(0), Duration::from_millis(200)).await;
    assert_eq!(code(changed.status), Code::Ok);
    let from = clock::now();
    let again = client.receive("t", "g", 1, 5 * SECOND).await;
    assert_eq!(again.seen(), [("m".into(), 2)]);
    assert!(clock::now() - from < 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_was_dropped_waits_on_and_gives_back_what_it_takes() {
    let broker = Broker::builder().topic("t", 1).start().await.unwrap();
    let mut client = Raw::consumer(&broker, "g").await;
    let request = client.request(receive_request("t", "g", 1, 15 * SECOND), 20 * SECOND);
    let mut other = client.client.clone();
    let gone = clock::timeout(SECOND, async move {
        let mut stream = other.receive_message(request).await.unwrap().into_inner();
        stream.message().await
    });
    assert!(gone.await.is_none());
    let mut producer = Raw::connect(&broker, "p").await;
    let mut send_while_polling = async |id: &str| {
        let send = async {
            clock::sleep(SECOND).await;
            producer.send("t", id, b"x").await;
            clock::now()
        };
        let poll = receive_request("t", "g", 1, 10 * SECOND);
        let (received, sent) = tokio::join!(client.receive_with(poll, 15 * SECOND), send);
        (received.seen(), clock::now() - sent)
    };
    let (seen, late) = send_while_polling("m1").await;
    assert_eq!(seen, [("m1".into(), 1)], "no delivery attempt was counted");
    assert!(late >= SECOND, "the first in line took it, whose caller has gone");
    let (seen, late) = send_while_polling("m2").await;
    assert_eq!(seen, [("m2".into(), 1)]);
    assert!(late < SECOND, "nobody else is in line");
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_was_dropped_ends_with_its_time_and_with_its_proxy() {
    for stop in [false, true] {
        let broker = Broker::builder().topic("t", 1).start().await.unwrap();
        let client = Raw::consumer(&broker, "g").await;
        let request = client.request(receive_request("t", "g", 1, 10 * SECOND), 20 * SECOND);
        let mut other = client.client.clone();
        let gone = clock::timeout(SECOND, async move {
            let mut stream = other.receive_message(request).await.unwrap().into_inner();
            stream.message().await
        });
        assert!(gone.await.is_none());
        if stop {
            broker.stop_proxy(0).await.unwrap();
            broker.start_proxy(0).await.unwrap();
        } else {
            clock::sleep(10 * SECOND).await;
        }
        let mut client = Raw::consumer(&broker, "g").await;
        let mut producer = Raw::connect(&broker, "p").await;
        let send = async {
            clock::sleep(SECOND).await;
            producer.send("t", "m", b"x").await;
            clock::now()
        };
        let poll = receive_request("t", "g", 1, 10 * SECOND);
        let (received, sent) = tokio::join!(client.receive_with(poll, 15 * SECOND), send);
        assert_eq!(received.seen(), [("m".into(), 1)]);
        assert!(clock::now() - sent < SECOND, "stopped: {stop}");
    }
}

#[tokio::test]
async fn a_receive_that_breaks_a_rule_is_refused_with_its_code() {
    let broker = Broker::builder().topic("t", 1).start().await.unwrap();
    let mut client = Raw::consumer(&broker, "g").await;
    let good = || receive_request("t", "g", 1, 5 * SECOND);
    let edited = |edit: &dyn Fn(&mut proto::ReceiveMessageRequest)| {
        let mut request = good();
        edit(&mut request);
        request
    };
    let sql = proto::FilterExpression { r#type: proto::FilterType::Sql.into(), expression: "a >".into() };
    let long = prost_types::Duration { seconds: 12 * 3600 + 1, nanos: 0 };
    let short = prost_types::Duration { seconds: 9, nanos: 999_999_999 };
    for (request, expected) in [
        (edited(&|request| request.invisible_duration = None), Code::IllegalInvisibleTime),
        (edited(&|request| request.invisible_duration = Some(short)), Code::IllegalInvisibleTime),
        (edited(&|request| request.invisible_duration = Some(long)), Code::IllegalInvisibleTime),
        (edited(&|request| request.filter_expression = Some(sql.clone())), Code::InternalServerError),
        (edited(&|request| request.batch_size = -1), Code::InternalServerError),
        (edited(&|request| request.group = resource("")), Code::IllegalConsumerGroup),
        (receive_request("a b", "g", 1, SECOND), Code::IllegalTopic),
        (receive_request("nowhere", "g", 1, SECOND), Code::TopicNotFound),
    ] {
        let refused = client.receive_with(request, 10 * SECOND).await;
        assert_eq!(refused.status.code(), expected, "{}", refused.status.message);
        assert!(refused.messages.is_empty() && refused.ends_with_timestamp);
    }
    let hurried = client.receive_with(good(), 3 * SECOND).await;
    assert_eq!(hurried.status.code(), Code::IllegalPollingTime, "less time than the shortest poll");
    let mut stranger = Raw::connect(&broker, "stranger").await;
    let unknown = stranger.receive_with(good(), 10 * SECOND).await;
    assert_eq!(unknown.status.code(), Code::InternalServerError, "r1: settings come first");
}

#[tokio::test]
async fn a_receive_without_a_deadline_is_refused() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    let mut request = client.request(receive_request("t", "g", 1, SECOND), SECOND);
    request.metadata_mut().remove("grpc-timeout");
    let mut stream = client.client.receive_message(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap().content.unwrap();
    let proto::receive_message_response::Content::Status(status) = first else { panic!("the status comes first") };
    assert_eq!(status.code(), Code::InternalServerError);
}

#[tokio::test]
async fn a_batch_is_at_most_32_messages_and_one_of_none_waits_in_vain() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    for n in 0..40 {
        client.send("t", &n.to_string(), b"x").await;
    }
    assert_eq!(client.receive("t", "g", 0, SECOND).await.status.code(), Code::MessageNotFound);
    assert_eq!(client.receive("t", "g", 100, SECOND).await.messages.len(), 32);
    assert_eq!(client.receive("t", "g", 100, SECOND).await.messages.len(), 8);
}

#[tokio::test]
async fn r22_a_tag_filter_consumes_what_it_skips_for_the_whole_group() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    for (id, tag) in [("1", "paid"), ("2", "open"), ("3", "lost")] {
        client.send_all(vec![with(|system| system.tag = Some(tag.into()), text_message("t", id, b"x"))]).await;
    }
    let mut request = receive_request("t", "g", 32, SECOND);
    request.filter_expression =
        Some(proto::FilterExpression { r#type: proto::FilterType::Tag.into(), expression: "paid || lost".into() });
    let mut seen = client.receive_with(request, 5 * SECOND).await.seen();
    seen.sort();
    assert_eq!(seen, [("1".into(), 1), ("3".into(), 1)]);
    assert_eq!(broker.waiting("g", "t"), 0);
}

#[tokio::test]
async fn r8_an_ack_is_judged_entry_by_entry() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    client.send("t", "m", b"x").await;
    let held = client.receive("t", "g", 1, SECOND).await.handle(0);
    let acked = client.ack("t", "g", &["nonsense".into(), held.clone(), held]).await;
    assert_eq!(code(acked.status), Code::MultipleResults);
    let codes: Vec<_> = acked.entries.iter().map(|entry| entry.status.clone().unwrap().code()).collect();
    assert_eq!(codes, [Code::InternalServerError, Code::Ok, Code::Ok]);
    assert_eq!(code(client.ack("t", "g", &[]).await.status), Code::InternalServerError);
}

#[tokio::test(start_paused = true)]
async fn r7_the_handle_of_an_expired_lease_is_refused_for_good() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    client.send("t", "m", b"x").await;
    let held = client.receive("t", "g", 1, SECOND).await.handle(0);
    clock::sleep(11 * SECOND).await;
    let late = client.ack("t", "g", std::slice::from_ref(&held)).await.status.unwrap();
    assert_eq!((late.code(), &*late.message), (Code::InvalidReceiptHandle, "receipt handle is expired"));
    let changed = client.change("t", "g", &held, SECOND).await;
    assert_eq!((code(changed.status), &*changed.receipt_handle), (Code::InvalidReceiptHandle, ""));
    assert_eq!(client.receive("t", "g", 1, SECOND).await.seen(), [("m".into(), 2)]);
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_a_message_is_a_dead_letter_and_the_receive_says_no_match() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "twice").await;
    client.send("t", "m", b"x").await;
    for attempt in 1..=2 {
        assert_eq!(client.receive("t", "twice", 1, SECOND).await.seen(), [("m".into(), attempt)]);
        clock::sleep(11 * SECOND).await;
    }
    let from = clock::now();
    let none = client.receive("t", "twice", 1, 5 * SECOND).await;
    assert_eq!((none.status.code(), &*none.status.message), (Code::MessageNotFound, "no match message"));
    assert!(clock::now() - from < SECOND, "r20: an empty answer does not mean that a poll elapsed");
    assert_eq!(broker.dead_letters("twice")[0].id, "m");
    let dead = client.receive("%DLQ%twice", "twice", 1, SECOND).await;
    assert_eq!(dead.messages[0].topic.as_ref().unwrap().name, "%DLQ%twice");
    assert_eq!(dead.seen(), [("m".into(), 2)]);
    assert_eq!(code(client.ack("%DLQ%twice", "twice", &[dead.handle(0)]).await.status), Code::Ok);
}

#[tokio::test]
async fn r18_a_dead_letter_forwarded_twice_is_there_twice() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    client.send("t", "m", b"x").await;
    let held = client.receive("t", "g", 1, SECOND).await.handle(0);
    for _ in 0..2 {
        let forwarded = client.dead_letter("t", "g", &held).await;
        assert_eq!((forwarded.code(), &*forwarded.message), (Code::Ok, "0"));
    }
    assert_eq!((broker.dead_letters("g").len(), broker.in_flight("g", "t")), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn what_the_server_renews_stays_hidden_and_is_acked_with_its_first_handle() {
    let broker = builder().proxies(2).start().await.unwrap();
    let mut client = Raw::consumer(&broker, "g").await;
    client.send("t", "m", b"x").await;
    let mut request = receive_request("t", "g", 1, SECOND);
    (request.auto_renew, request.invisible_duration) = (true, None);
    let held = client.receive_with(request.clone(), 5 * SECOND).await.handle(0);
    for _ in 0..8 {
        clock::sleep(10 * SECOND).await;
        client.heartbeat().await;
    }
    assert_eq!(broker.in_flight("g", "t"), 1, "80 s later");
    let mut elsewhere = Raw::connect_to(&broker.addresses()[1].to_string(), "client-of-g").await;
    let other = elsewhere.ack("t", "g", std::slice::from_ref(&held)).await;
    assert_eq!(code(other.status), Code::InvalidReceiptHandle, "r9: only its own proxy knows it");
    assert_eq!(code(client.ack("t", "g", &[held]).await.status), Code::Ok);
    assert_eq!(broker.in_flight("g", "t"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_server_renewed_comes_back_when_its_client_leaves_or_falls_silent() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    let mut request = receive_request("t", "g", 1, SECOND);
    request.auto_renew = true;
    client.send("t", "m", b"x").await;
    client.receive_with(request.clone(), 5 * SECOND).await;
    let goodbye = client.request(proto::NotifyClientTerminationRequest { group: resource("g") }, SECOND);
    client.client.notify_client_termination(goodbye).await.unwrap();
    clock::sleep(SECOND + Duration::from_millis(10)).await;
    assert_eq!((broker.in_flight("g", "t"), broker.waiting("g", "t")), (0, 1));
    client.register(consumer_settings("g")).await.unwrap();
    assert_eq!(client.receive_with(request, 5 * SECOND).await.seen(), [("m".into(), 2)]);
    clock::sleep(140 * SECOND).await;
    assert_eq!((broker.in_flight("g", "t"), broker.waiting("g", "t")), (0, 1));
    assert_eq!(broker.clients(0), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn r14_an_ordered_group_gets_a_lost_answer_again_under_the_same_attempt_id() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "in-order").await;
    for id in ["a", "b", "c"] {
        let message = with(|system| system.message_group = Some("one".into()), text_message("ordered", id, b"x"));
        client.send_all(vec![message]).await;
    }
    let mut request = receive_request("ordered", "in-order", 2, SECOND);
    request.attempt_id = Some("attempt-1".into());
    let first = client.receive_with(request.clone(), 5 * SECOND).await;
    let replay = client.receive_with(request.clone(), 5 * SECOND).await;
    assert_eq!(first.seen(), [("a".into(), 1), ("b".into(), 1)]);
    assert_eq!(replay.seen(), first.seen());
    assert_eq!(code(client.ack("ordered", "in-order", &[first.handle(0)]).await.status), Code::Ok);
    assert_eq!(broker.in_flight("in-order", "ordered"), 2, "r21: a handle of the first answer does nothing");
    request.attempt_id = Some("attempt-2".into());
    assert_eq!(client.receive_with(request.clone(), 5 * SECOND).await.status.code(), Code::MessageNotFound);
    client.ack("ordered", "in-order", &[replay.handle(0), replay.handle(1)]).await;
    assert_eq!(client.receive_with(request, 5 * SECOND).await.seen(), [("c".into(), 1)]);
}
