use super::*;

/// IPv4 `10.0.0.1:10911`, then IPv6 `[::1]:8081`, then a body, then properties.
const HOSTS: &[u8] = b"\x0A\0\0\x01\0\0\x2A\x9F\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\x1F\x91";
const BODY: &[u8] = b"the body";

/// A chunk of which each message has these properties.
fn chunk(properties: &[&str]) -> (Chunk, Vec<Record>) {
    let (mut response, mut records) = ([HOSTS, BODY].concat(), Vec::new());
    for (at, properties) in properties.iter().enumerate() {
        let start = response.len();
        response.extend_from_slice(properties.as_bytes());
        records.push(Record {
            queue_offset: Offset::new(17 + at as u64),
            born_ms: 1_001,
            store_ms: -2_002,
            log_offset: 0x1234,
            delivery_attempt: 3,
            body_crc: 0x1F,
            is_compressed: false,
            is_of_batch: false,
            held: 0,
            body_in: Source::Response,
            body: Span::new(HOSTS.len()..HOSTS.len() + BODY.len()),
            properties_in: Source::Response,
            properties: Span::new(start..response.len()),
            born_host: Span::new(8..28),
            store_host: Span::new(0..8),
        });
    }
    (Chunk::new(MessageQueue::new("orders", "broker-a", 5), response.into(), 1), records)
}

fn messages(properties: &[&str]) -> Vec<Message> {
    let (mut chunk, records) = chunk(properties);
    records.into_iter().for_each(|record| chunk.push(record));
    chunk.into_messages()
}

fn message(properties: &str) -> Message {
    messages(&[properties]).remove(0)
}

fn named(pairs: &[(&str, &str)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}\u{1}{value}\u{2}")).collect()
}

fn at_millis(millis: u64) -> Option<SystemTime> {
    Some(UNIX_EPOCH + Duration::from_millis(millis))
}

#[test]
fn a_pulled_message_says_everything_that_its_record_and_its_properties_say() {
    let properties = named(&[
        ("UNIQ_KEY", "01AA"),
        ("TAGS", "paid"),
        ("KEYS", " 42  43 "),
        ("region", "EU"),
        ("__SHARDINGKEY", "group"),
        ("TRACE_CONTEXT", "00-1"),
        ("__LITE_TOPIC", "lite"),
        ("_SYS_MSG_PRIORITY_", "4"),
        ("__BORNHOST", "10.9.9.9"),
        ("TIMER_DELIVER_MS", "3003"),
        ("CHECK_IMMUNITY_TIME_IN_SECONDS", "6"),
        ("DLQ_ORIGIN_TOPIC", "payments"),
        ("DLQ_ORIGIN_MESSAGE_ID", "02"),
    ]);
    let message = message(&properties);
    assert_eq!((message.id(), message.topic(), &message.body()[..]), ("01AA", "orders", BODY));
    assert_eq!((message.tag(), message.keys().join(",").as_str()), (Some("paid"), "42,43"));
    assert_eq!((message.property("region"), message.property("TAGS")), (Some("EU"), None), "the user's only");
    assert_eq!(message.properties().iter().collect::<Vec<_>>(), [("region", "EU")]);
    assert_eq!((message.message_group(), message.trace_context()), (Some("group"), Some("00-1")));
    assert_eq!((message.lite_topic(), message.priority()), (Some("lite"), Some(4)));
    assert_eq!((message.born_timestamp(), message.born_host()), (at_millis(1_001), "10.9.9.9"));
    assert_eq!(message.store_timestamp(), UNIX_EPOCH.checked_sub(Duration::from_millis(2_002)));
    assert_eq!((message.store_host(), message.delivery_timestamp()), ("10.0.0.1:10911", at_millis(3_003)));
    assert_eq!((message.broker(), message.queue_id(), message.delivery_attempt()), (Some("broker-a"), 5, 3));
    assert_eq!((message.queue_offset(), message.invisible_duration()), (Some(Offset::new(17)), None));
    assert_eq!(message.transaction_recovery(), Some(Duration::from_secs(6)));
    let origin = message.dead_letter_origin().map(|origin| (&*origin.topic, &*origin.message_id));
    assert_eq!((origin, message.corrupted()), (Some(("payments", "02")), None));
    let (buffer, place) = message.body_place().expect("it is of a chunk");
    assert_eq!((&buffer[place], message.raw_properties()), (BODY, Some(properties.as_bytes())));
}

#[test]
fn what_a_pulled_message_is_not_told_it_does_not_make_up() {
    let message = message("");
    assert_eq!(message.id(), "0A00000100002A9F0000000000001234", "the broker's: its host and its place in the log");
    assert_eq!((message.tag(), message.keys(), message.properties().len()), (None, &[][..], 0));
    assert_eq!((message.born_host(), message.delivery_timestamp()), ("[::1]:8081", None));
    assert_eq!((message.dead_letter_origin(), message.transaction_recovery()), (None, None));
    assert_eq!((message.priority(), message.message_group(), message.lite_topic()), (None, None, None));
}

#[test]
fn what_is_made_of_a_pulled_message_is_made_once_and_shared_by_its_clones() {
    let message = message(&named(&[("KEYS", "42 43"), ("region", "EU")]));
    let clone = message.clone();
    assert!(std::ptr::eq(message.id(), clone.id()) && std::ptr::eq(message.keys(), clone.keys()));
    assert!(std::ptr::eq(message.properties(), clone.properties()));
    assert!(std::ptr::eq(message.store_host(), clone.store_host()));
}

#[test]
fn the_properties_decide_the_type() {
    for (pairs, kind) in [
        (&[("TRAN_MSG", "TRUE"), ("DELAY", "3")][..], MessageType::Transaction),
        (&[("TRAN_MSG", "false"), ("DELAY", "3")], MessageType::Delay),
        (&[("TIMER_DELAY_MS", "3"), ("__SHARDINGKEY", "g")], MessageType::Delay),
        (&[("__SHARDINGKEY", "g"), ("_SYS_MSG_PRIORITY_", "1")], MessageType::Fifo),
        (&[("_SYS_MSG_PRIORITY_", "1"), ("__LITE_TOPIC", "l")], MessageType::Priority),
        (&[("__LITE_TOPIC", "l")], MessageType::Lite),
        (&[("a", "1")], MessageType::Normal),
    ] {
        assert_eq!(message(&named(pairs)).message_type(), kind, "{pairs:?}");
    }
}

#[test]
fn a_body_that_was_unpacked_lies_in_its_own_buffer_and_one_that_was_not_where_it_arrived() {
    let (mut chunk, records) = chunk(&["", "", ""]);
    let refused = chunk.add_source(Bytes::from_static(b"cut off"));
    chunk.remove_source(refused);
    let unpacked = chunk.add_source(Bytes::from_static(b"unpacked"));
    assert_eq!(unpacked, Source::Unpacked(0), "the buffer that was taken back left no gap");
    chunk.remove_source(Source::Response);
    chunk.push(records[0]);
    chunk.push(Record { body_in: unpacked, body: Span::new(2..8), ..records[1] });
    let reason = || Corruption::Malformed { reason: "cut off".into() };
    chunk.corrupt(reason());
    chunk.push(records[2]);
    assert_eq!(chunk.len(), 3);
    let response = chunk.response().as_ptr_range();
    let messages = chunk.into_messages();
    assert!(response.contains(&messages[0].body().as_ptr()), "shared, not copied");
    assert_eq!([0, 1, 2].map(|at| &messages[at].body()[..]), [BODY, b"packed", BODY]);
    assert_eq!([0, 1, 2].map(|at| messages[at].corrupted().cloned()), [None, Some(reason()), None]);
    assert_eq!([0, 1, 2].map(|at| messages[at].queue_offset().map(Offset::get)), [Some(17), Some(18), Some(19)]);
}

#[test]
fn the_weights_of_a_chunks_messages_add_up_to_what_it_holds() {
    let (mut chunk, records) = chunk(&["", ""]);
    chunk.add_source(Bytes::from(vec![0; 1000]));
    let buffers = chunk.response().len() + 1000;
    chunk.push(Record { held: 7, ..records[0] });
    chunk.push(Record { held: 20, ..records[1] });
    let own = size_of::<Record>() + size_of::<Bytes>() + size_of::<Message>();
    let weights: Vec<_> = chunk.into_messages().iter().map(Message::weight).collect();
    assert_eq!(weights, [own + 7, own + buffers - 7]);
    assert!(Chunk::new(MessageQueue::new("t", "b", 0), Bytes::from_static(b"x"), 1).into_messages().is_empty());
}

#[test]
fn a_place_that_is_not_in_a_buffer_holds_nothing() {
    assert_eq!(Span::new(2..4).of(b"abcde"), b"cd");
    assert_eq!((Span::new(3..9).of(b"abcde"), Span::new(usize::MAX - 1..usize::MAX)), (&b""[..], Span::default()));
    let (mut chunk, records) = chunk(&[""]);
    chunk.push(Record { store_host: Span::new(0..5), born_host: Span::new(0..2), ..records[0] });
    let message = chunk.into_messages().remove(0);
    assert_eq!((message.store_host(), message.born_host()), ("", ""), "neither IPv4 nor IPv6");
}

#[test]
fn how_a_body_was_carried_is_told_but_no_message_of_a_batch_has_the_batchs_digest() {
    let told = |is_compressed, is_of_batch| {
        let (mut chunk, records) = chunk(&[""]);
        chunk.push(Record { is_compressed, is_of_batch, ..records[0] });
        let message = chunk.into_messages().remove(0);
        (message.body_digest(), message.body_encoding())
    };
    let digest = Some(BodyDigest::crc32(0x1F));
    assert_eq!(told(false, false), (digest.clone(), BodyEncoding::Identity));
    assert_eq!(told(true, false), (digest, BodyEncoding::Compressed));
    assert_eq!(told(true, true), (None, BodyEncoding::Compressed));
}
