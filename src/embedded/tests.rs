//! The gRPC shell, asked by a raw client.

mod raw;

use std::time::Duration;

use raw::{Raw, text_message};

use super::*;
use crate::proto::{self, Code};

const SECOND: Duration = Duration::from_secs(1);

/// Short enough for tests; the rules are the same.
async fn broker() -> Broker {
    Broker::builder()
        .topic("t", 2)
        .typed_topic("ordered", 1, TopicType::Fifo)
        .typed_topic("later", 1, TopicType::Delay)
        .group(GroupOptions::new("ordered").fifo(true).max_attempts(2))
        .invisible_duration(Duration::from_millis(50), Duration::from_secs(60))
        .polling(Duration::from_millis(100), Duration::from_secs(5))
        .start()
        .await
        .unwrap()
}

#[tokio::test]
async fn what_is_sent_is_received_and_acked() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    let sent = client.send("t", "m1", b"hello").await;
    assert_eq!(sent.status.unwrap().code(), Code::Ok);
    assert_eq!((&*sent.entries[0].message_id, &*sent.entries[0].transaction_id), ("m1", "m1"));
    let received = client.receive("t", "g", 32, SECOND).await;
    assert_eq!(received.status.code(), Code::Ok);
    assert!(received.ends_with_timestamp, "the order is Status, Message*, delivery timestamp");
    let message = &received.messages[0];
    let system = message.system_properties.as_ref().unwrap();
    assert_eq!((&message.body[..], system.delivery_attempt), (&b"hello"[..], Some(1)));
    assert_eq!(system.body_digest.as_ref().unwrap().checksum, "5D41402ABC4B2A76B9719D911017C592");
    assert_eq!(system.invisible_duration, None);
    assert_eq!(broker.in_flight("g", "t"), 1);
    let acked = client.ack("t", "g", &[received.handle(0)]).await;
    assert_eq!(acked.status.unwrap().code(), Code::Ok);
    assert_eq!((broker.in_flight("g", "t"), broker.waiting("g", "t")), (0, 0));
    broker.shutdown().await;
}
