use std::time::UNIX_EPOCH;

use super::*;

/// A message of its own with everything in it.
fn parts() -> MessageParts {
    let second = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
    MessageParts {
        id: "01AA".into(),
        topic: "orders".into(),
        body: Bytes::from_static(b"the body"),
        body_digest: Some(BodyDigest::crc32(7)),
        body_encoding: BodyEncoding::Compressed,
        tag: Some("paid".into()),
        keys: vec!["42".into(), "43".into()],
        properties: Properties::from_pairs([("region".into(), "EU".into())]),
        message_group: Some("group".into()),
        trace_context: Some("00-1".into()),
        lite_topic: Some("lite".into()),
        priority: Some(4),
        message_type: MessageType::Fifo,
        born_timestamp: second(1),
        born_host: "10.0.0.1:1".into(),
        store_timestamp: second(2),
        store_host: "10.0.0.2:2".into(),
        delivery_timestamp: second(3),
        broker: Some("broker-a".into()),
        queue_id: 3,
        queue_offset: Some(Offset::new(17)),
        invisible_duration: Some(Duration::from_secs(30)),
        delivery_attempt: 2,
        dead_letter_origin: Some(DeadLetterOrigin { topic: "payments".into(), message_id: "02".into() }),
        transaction_recovery: Some(Duration::from_secs(6)),
        corrupted: Some(Corruption::Malformed { reason: "it has no id".into() }),
    }
}

#[test]
fn a_message_says_everything_that_it_was_made_of() {
    let message = Message::new(parts());
    assert_eq!((message.id(), message.topic(), &message.body()[..]), ("01AA", "orders", b"the body".as_ref()));
    assert_eq!((message.body_digest(), message.body_encoding()), (parts().body_digest, BodyEncoding::Compressed));
    assert_eq!((message.tag(), message.keys()), (Some("paid"), &parts().keys[..]));
    assert_eq!((message.property("region"), message.property("zone")), (Some("EU"), None));
    assert_eq!(message.properties(), &parts().properties);
    assert_eq!((message.message_group(), message.trace_context()), (Some("group"), Some("00-1")));
    assert_eq!((message.lite_topic(), message.priority()), (Some("lite"), Some(4)));
    assert_eq!((message.message_type(), message.delivery_attempt()), (MessageType::Fifo, 2));
    assert_eq!((message.born_timestamp(), message.born_host()), (parts().born_timestamp, "10.0.0.1:1"));
    assert_eq!((message.store_timestamp(), message.store_host()), (parts().store_timestamp, "10.0.0.2:2"));
    assert_eq!(message.delivery_timestamp(), parts().delivery_timestamp);
    assert_eq!((message.broker(), message.queue_id()), (Some("broker-a"), 3));
    assert_eq!(message.queue_offset(), Some(Offset::new(17)));
    assert_eq!(message.invisible_duration(), Some(Duration::from_secs(30)));
    assert_eq!(message.transaction_recovery(), Some(Duration::from_secs(6)));
    assert_eq!(message.dead_letter_origin(), parts().dead_letter_origin.as_ref());
    assert_eq!(message.corrupted(), parts().corrupted.as_ref());
    assert_eq!((message.body_place(), message.raw_properties()), (None, None), "it is of no chunk");
}

#[test]
fn a_message_weighs_what_its_body_properties_and_id_weigh_and_a_little_more() {
    let weight = |parts| Message::new(parts).weight();
    let heavier = MessageParts {
        id: "01AABB".into(),
        body: vec![0; 1000].into(),
        properties: Properties::from_pairs([("regions".into(), "EU".into())]),
        ..parts()
    };
    let nothing = MessageParts { id: "".into(), body: Bytes::new(), properties: Properties::default(), ..parts() };
    assert_eq!(weight(heavier) - weight(nothing.clone()), 6 + 1000 + 9);
    assert!((1..1000).contains(&weight(nothing)), "an empty one is not for nothing");
}

#[test]
fn a_corruption_says_what_is_wrong_with_the_body() {
    for (corruption, text) in [
        (
            Corruption::Digest { expected: "00".into(), actual: "FF".into() },
            "the body's digest is FF, the wire says 00",
        ),
        (Corruption::Decompression { reason: "bad header".into() }, "the body cannot be decompressed: bad header"),
        (Corruption::Malformed { reason: "it has no id".into() }, "malformed: it has no id"),
    ] {
        assert_eq!(corruption.to_string(), text);
    }
}
