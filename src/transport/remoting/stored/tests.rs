use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::model::{BodyDigest, BodyEncoding, MessageType};

pub(super) const MIB: usize = 1 << 20;

pub(super) fn queue() -> MessageQueue {
    MessageQueue::new("orders", "broker-a", 3)
}

pub(super) fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

pub(super) fn host(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A plain message; tests change what they are about.
pub(super) fn storing<'a>(offset: u64, body: &'a [u8], properties: &'a str) -> Storing<'a> {
    Storing {
        queue_id: 3,
        flag: 7,
        queue_offset: Offset::new(offset),
        log_offset: 0x0123_4567,
        sys_flag: 0,
        born: at(1_700_000_000_123),
        born_host: host("10.0.0.1:54321"),
        stored: at(1_700_000_001_456),
        store_host: host("10.0.0.2:10911"),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body,
        topic: "orders",
        properties,
    }
}

pub(super) fn stored(messages: &[Storing<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        encode(message, &mut out).unwrap();
    }
    out
}

/// Everything from offset 0, whatever its tag.
pub(super) fn all(queue: &MessageQueue) -> Reading<'_> {
    let max_decompressed_size = MIB;
    Reading { queue, from: Offset::new(0), offset_delta: 0, max_decompressed_size, check_digest: true, tags: &[] }
}

fn decoded(response: impl Into<Bytes>) -> Decoded {
    decode(response.into(), &all(&queue())).unwrap()
}

fn only(response: impl Into<Bytes>) -> Message {
    let decoded = decoded(response);
    assert_eq!((decoded.messages.len(), decoded.resume_at), (1, None));
    decoded.messages.into_iter().next().unwrap()
}

#[test]
fn what_is_stored_is_what_is_read() {
    let properties = join_properties([
        ("TAGS", "paid"),
        ("KEYS", "4711  4712"),
        ("UNIQ_KEY", "01ABCD"),
        ("region", "EU"),
        ("__SHARDINGKEY", "customer-1"),
        ("TRACE_CONTEXT", "00-1"),
        ("__CRC32#", "1234"),
    ]);
    let message = only(stored(&[Storing { reconsume_times: 2, ..storing(17, b"body", &properties) }]));
    assert_eq!((message.id(), message.topic(), &message.body()[..]), ("01ABCD", "orders", b"body".as_ref()));
    assert_eq!((message.tag(), message.keys()), (Some("paid"), ["4711".to_owned(), "4712".to_owned()].as_slice()));
    assert_eq!(message.properties().iter().collect::<Vec<_>>(), [("region", "EU")]);
    assert_eq!((message.property("region"), message.property("TAGS")), (Some("EU"), None));
    assert_eq!((message.message_group(), message.trace_context()), (Some("customer-1"), Some("00-1")));
    assert_eq!((message.born_host(), message.store_host()), ("10.0.0.1:54321", "10.0.0.2:10911"));
    assert_eq!(message.born_timestamp(), Some(at(1_700_000_000_123)));
    assert_eq!(message.store_timestamp(), Some(at(1_700_000_001_456)));
    assert_eq!((message.broker(), message.queue_id()), (Some("broker-a"), 3));
    assert_eq!((message.queue_offset(), message.delivery_attempt()), (Some(Offset::new(17)), 3));
    assert_eq!((message.message_type(), message.corrupted()), (MessageType::Fifo, None));
    assert_eq!(message.raw_properties(), Some(properties.as_bytes()));
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// Offsets and bodies, in short.
fn told(messages: &[Message]) -> Vec<(u64, &[u8])> {
    messages.iter().map(|message| (message.queue_offset().unwrap().get(), &message.body()[..])).collect()
}

fn offsets(decoded: &Decoded) -> Vec<u64> {
    decoded.messages.iter().map(|message| message.queue_offset().unwrap().get()).collect()
}

fn read(response: &[u8], reading: &Reading<'_>) -> Decoded {
    decode(Bytes::copy_from_slice(response), reading).unwrap()
}

fn fails(response: &[u8]) -> StoredError {
    decode(Bytes::copy_from_slice(response), &all(&queue())).unwrap_err()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zlib(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn lz4(body: &[u8]) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zstd(body: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(body, ruzstd::encoding::CompressionLevel::Fastest)
}

pub(super) fn batch(entries: &[(&[u8], &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (body, properties) in entries {
        encode_entry(1, body, properties, &mut out).unwrap();
    }
    out
}

const BATCH: i32 = flag::INNER_BATCH | flag::NEED_UNWRAP;

// Made by MessageDecoder of Apache RocketMQ 5.5.0.
const BY_JAVA: &str = "000000aadaa320a74e7c05db0000000300000007000000000000001100000000012345670000000000\
    00018bcfe5687b0a0000010000d4310000018bcfe56db00a00000200002a9f000000020000000000000000000000166120626f64792c206120\
    626f64792c206120626f6479066f726465727300334b455953013437313102554e49515f4b455901304130303030303102726567696f6e0145\
    5520c3a90254414753017061696402";
const BY_JAVA_COMPRESSED_WITH_IPV6: &str = "000000bedaa320a74e7c05db0000000300000007000000000000001100000000012345670000\
    00310000018bcfe5687b20010db80000000000000000000000010000d4310000018bcfe56db020010db800000000000000000000000200002a\
    9f00000002000000000000000000000012785e4b5448ca4fa9d4514844a10150520726066f726465727300334b455953013437313102554e49\
    515f4b455901304130303030303102726567696f6e01455520c3a90254414753017061696402";
const BATCH_BY_JAVA: &str = "00000032000000000000000000000000000000026230001a4b455953016b30025741495401747275650254414753017\
    4300200000032000000000000000000000001000000026231001a4b455953016b31025741495401747275650254414753017\
    43102";

#[test]
fn what_java_stored_is_read_and_written_alike() {
    let bytes = hex(BY_JAVA);
    let message = only(bytes.clone());
    assert_eq!((message.id(), &message.body()[..]), ("0A000001", b"a body, a body, a body".as_ref()));
    assert_eq!((message.queue_offset(), message.delivery_attempt()), (Some(Offset::new(17)), 3));
    assert_eq!((message.born_host(), message.store_host()), ("10.0.0.1:54321", "10.0.0.2:10911"));
    assert_eq!((message.tag(), message.property("region")), (Some("paid"), Some("EU é")));
    let properties =
        join_properties([("KEYS", "4711"), ("UNIQ_KEY", "0A000001"), ("region", "EU é"), ("TAGS", "paid")]);
    let same = storing(17, b"a body, a body, a body", &properties);
    assert_eq!(stored(&[Storing { reconsume_times: 2, ..same }]), bytes);
}

#[test]
fn what_java_compressed_and_stored_with_ipv6_hosts_is_read() {
    // Java's encoder for clients leaves the checksum of the body as it was before.
    let queue = queue();
    let decoded = read(&hex(BY_JAVA_COMPRESSED_WITH_IPV6), &Reading { check_digest: false, ..all(&queue) });
    let message = &decoded.messages[0];
    assert_eq!((&message.body()[..], message.corrupted()), (b"a body, a body, a body".as_ref(), None));
    assert_eq!((message.born_host(), message.store_host()), ("[2001:db8::1]:54321", "[2001:db8::2]:10911"));
    assert_eq!((message.id(), message.keys()), ("0A000001", ["4711".to_owned()].as_slice()));
}

#[test]
fn a_batch_that_java_sends_is_read_and_written_alike() {
    let bytes = hex(BATCH_BY_JAVA);
    let read: Vec<_> = entries(&bytes).map(Result::unwrap).collect();
    let parts: Vec<_> = read.iter().map(|entry| (entry.flag, &bytes[entry.body.clone()])).collect();
    assert_eq!(parts, [(0, b"b0".as_ref()), (1, b"b1")]);
    let mut again = Vec::new();
    for entry in read {
        let properties = std::str::from_utf8(&bytes[entry.properties]).unwrap();
        encode_entry(entry.flag, &bytes[entry.body], properties, &mut again).unwrap();
    }
    assert_eq!(again, bytes);
}

#[test]
fn a_message_without_an_id_of_its_own_has_the_one_of_its_place() {
    assert_eq!(only(stored(&[storing(1, b"", "")])).id(), "0A00000200002A9F0000000001234567");
    let by_v6 = Storing { store_host: host("[2001:db8::2]:10911"), ..storing(1, b"", "") };
    assert_eq!(only(stored(&[by_v6])).id(), "20010DB800000000000000000000000200002A9F0000000001234567");
}

#[test]
fn either_host_may_be_of_ipv6_alone() {
    for (born, store) in [("[::1]:1", "1.2.3.4:5"), ("1.2.3.4:5", "[::1]:1"), ("[fe80::1]:9", "[::2]:8")] {
        let message = Storing { born_host: host(born), store_host: host(store), ..storing(1, b"body", "a\u{1}1") };
        let message = only(stored(&[message]));
        assert_eq!((message.born_host(), message.store_host()), (born, store));
        assert_eq!((&message.body()[..], message.property("a")), (b"body".as_ref(), Some("1")));
    }
}

#[test]
fn a_long_topic_takes_the_second_layout() {
    for length in [0, 127, 128, 255, 256, 4_000] {
        let topic = "t".repeat(length);
        let bytes = stored(&[Storing { topic: &topic, ..storing(1, b"body", "a\u{1}1\u{2}") }]);
        let magic = if length > 127 { 0xAB } else { 0xA7 };
        assert_eq!(bytes[7], magic, "{length}");
        let message = only(bytes);
        assert_eq!((message.topic(), message.property("a")), ("orders", Some("1")), "{length}");
    }
}

#[test]
fn r13_a_compressed_body_comes_out_whatever_its_type_bits_say() {
    let body = b"a body that was compressed, compressed, compressed".repeat(50);
    for encoded in [gzip(&body), zlib(&body), lz4(&body), zstd(&body)] {
        for kind in 0..8 {
            let message =
                only(stored(&[Storing { sys_flag: flag::COMPRESSED | kind << 8, ..storing(1, &encoded, "") }]));
            assert_eq!((&message.body()[..], message.corrupted()), (&body[..], None));
            assert_eq!(message.body_encoding(), BodyEncoding::Compressed);
            let carried = crc32fast::hash(&encoded) & 0x7FFF_FFFF;
            assert_eq!(message.body_digest(), Some(BodyDigest::crc32(carried)), "of what was carried");
        }
    }
}

#[test]
fn r13_a_body_that_is_not_flagged_is_never_decompressed() {
    let body = zlib(b"it begins like a compressed one");
    let message = only(stored(&[storing(1, &body, "")]));
    assert_eq!((&message.body()[..], message.body_encoding()), (&body[..], BodyEncoding::Identity));
    let empty = Storing { sys_flag: flag::COMPRESSED, ..storing(1, b"", "") };
    assert_eq!(only(stored(&[empty])).corrupted(), None, "nothing is nothing, compressed or not");
}

#[test]
fn r12_a_body_that_cannot_be_decompressed_is_delivered_as_it_came_and_says_so() {
    let broken = Storing { sys_flag: flag::COMPRESSED, ..storing(2, b"\x78nonsense", "TAGS\u{1}t\u{2}") };
    let decoded = decoded(stored(&[storing(1, b"a", ""), broken, storing(3, b"c", "")]));
    assert_eq!(told(&decoded.messages), [(1, b"a".as_ref()), (2, b"\x78nonsense"), (3, b"c")]);
    let faults: Vec<_> = decoded.messages.iter().map(|message| message.corrupted().is_some()).collect();
    assert_eq!((faults, decoded.messages[1].tag()), (vec![false, true, false], Some("t")));
    assert!(matches!(decoded.messages[1].corrupted(), Some(Corruption::Decompression { .. })));
}

#[test]
fn r13_a_bomb_is_stopped_at_the_bound() {
    let bomb = zlib(&vec![0; 4 * MIB]);
    let message = only(stored(&[Storing { sys_flag: flag::COMPRESSED, ..storing(1, &bomb, "") }]));
    let Some(Corruption::Decompression { reason }) = message.corrupted() else { panic!("{:?}", message.corrupted()) };
    assert!(reason.contains("larger than 1048576 bytes"), "{reason}");
    assert_eq!(message.body().len(), bomb.len());
}

#[test]
fn a_response_that_decompresses_to_too_much_is_read_in_parts() {
    let large = zlib(&vec![7; 700 << 10]);
    let message = |offset| Storing { sys_flag: flag::COMPRESSED, ..storing(offset, &large, "") };
    let bytes = stored(&[storing(1, b"a", ""), message(4), message(6), storing(7, b"d", "")]);
    let first = decoded(bytes.clone());
    assert_eq!((offsets(&first), first.resume_at), (vec![1, 4], Some(Offset::new(5))));
    let queue = queue();
    let second = read(&bytes, &Reading { from: Offset::new(5), ..all(&queue) });
    assert_eq!((offsets(&second), second.resume_at), (vec![6, 7], None));
    assert!(second.messages.iter().all(|message| message.corrupted().is_none()));
}

#[test]
fn a_body_with_another_checksum_is_corrupted_when_checksums_are_checked() {
    let mut bytes = stored(&[storing(1, b"body", "")]);
    let body = bytes.windows(4).position(|window| window == b"body").unwrap();
    bytes[body] = b'B';
    let message = only(bytes.clone());
    assert!(matches!(message.corrupted(), Some(Corruption::Digest { .. })), "{:?}", message.corrupted());
    assert_eq!(&message.body()[..], b"Body");
    let queue = queue();
    assert_eq!(read(&bytes, &Reading { check_digest: false, ..all(&queue) }).messages[0].corrupted(), None);
}

#[test]
fn a_batch_is_split_and_what_lies_before_the_offset_asked_for_is_left_out() {
    let entries = batch(&[(b"a", "TAGS\u{1}x\u{2}"), (b"b", ""), (b"c", "k\u{1}v")]);
    let bytes = stored(&[
        Storing { sys_flag: BATCH, reconsume_times: 1, ..storing(10, &entries, "INNER_NUM\u{1}3\u{2}") },
        storing(13, b"d", ""),
    ]);
    let queue = queue();
    let whole = read(&bytes, &all(&queue));
    assert_eq!(told(&whole.messages), [(10, b"a".as_ref()), (11, b"b"), (12, b"c"), (13, b"d")]);
    assert_eq!((whole.messages[0].tag(), whole.messages[2].property("k")), (Some("x"), Some("v")));
    assert_eq!((whole.messages[1].tag(), whole.messages[1].raw_properties()), (None, Some(b"".as_ref())));
    assert_eq!((whole.messages[1].born_host(), whole.messages[1].delivery_attempt()), ("10.0.0.1:54321", 2));
    for from in 10..=14 {
        let rest = read(&bytes, &Reading { from: Offset::new(from), ..all(&queue) });
        assert_eq!(offsets(&rest), (from..14).collect::<Vec<_>>());
    }
    let tagged = read(&bytes, &Reading { tags: &["x"], ..all(&queue) });
    assert_eq!(offsets(&tagged), [10]);
    let whole_before = Storing { sys_flag: flag::INNER_BATCH, ..storing(10, &entries, "") };
    assert_eq!(only(stored(&[whole_before])).body().len(), entries.len(), "not one that clients take apart");
}

#[test]
fn a_compressed_batch_is_split_and_its_messages_share_what_was_unpacked() {
    let entries = batch(&[(b"first body", "a\u{1}1\u{2}"), (b"second body", "a\u{1}2\u{2}")]);
    let packed = zstd(&entries);
    let bytes = stored(&[
        Storing { sys_flag: BATCH | flag::COMPRESSED, ..storing(10, &packed, "") },
        storing(12, b"c", "a\u{1}3"),
    ]);
    let decoded = decoded(bytes);
    assert_eq!(told(&decoded.messages), [(10, b"first body".as_ref()), (11, b"second body"), (12, b"c")]);
    let properties: Vec<_> = decoded.messages.iter().map(|message| message.property("a")).collect();
    assert_eq!(properties, [Some("1"), Some("2"), Some("3")]);
    let digests: Vec<_> = decoded.messages.iter().map(|message| message.body_digest().is_some()).collect();
    assert_eq!(digests, [false, false, true], "what the batch has is of none of its messages");
    let buffer = |at: usize| decoded.messages[at].body_place().unwrap().0.as_ptr();
    assert!(buffer(0) == buffer(1) && buffer(1) != buffer(2));
    for message in &decoded.messages {
        let (buffer, range) = message.body_place().unwrap();
        assert_eq!(&buffer[range], &message.body()[..]);
    }
}

#[test]
fn r12_a_batch_that_cannot_be_split_is_delivered_whole() {
    let entries = batch(&[(b"a", ""), (b"b", "")]);
    let cut = &entries[..entries.len() - 1];
    let broken =
        [(BATCH, cut), (BATCH | flag::COMPRESSED, b"\x78nonsense".as_ref()), (BATCH | flag::COMPRESSED, &zlib(cut))];
    for (sys_flag, body) in broken {
        let bytes = stored(&[storing(4, b"a", ""), Storing { sys_flag, ..storing(5, body, "") }, storing(9, b"c", "")]);
        let queue = queue();
        let decoded = read(&bytes, &Reading { from: Offset::new(4), ..all(&queue) });
        assert_eq!(told(&decoded.messages), [(4, b"a".as_ref()), (5, body), (9, b"c")]);
        assert!(decoded.messages[1].corrupted().is_some() && decoded.messages[2].corrupted().is_none());
        let inside = read(&bytes, &Reading { from: Offset::new(6), ..all(&queue) });
        assert_eq!(offsets(&inside), [6, 9], "nothing lies before what was asked for");
    }
}

#[test]
fn what_is_wrong_with_a_batch_is_said() {
    let good = batch(&[(b"a", ""), (b"b", "k\u{1}v")]);
    let reason =
        |entries: &[u8]| match only(stored(&[Storing { sys_flag: BATCH, ..storing(5, entries, "") }])).corrupted() {
            Some(Corruption::Malformed { reason }) => reason.to_string(),
            other => panic!("{other:?}"),
        };
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let size_of_first = 23;
    for size in [-1, 0, 1, 21, good.len() as i32 + 1] {
        let text = reason(&with(0, &size.to_be_bytes()));
        assert_eq!(text, "a message of its batch has an impossible size", "{size}");
    }
    for few in 1..22 {
        assert_eq!(reason(&good[..size_of_first + few]), "a message of its batch has an impossible size", "{few}");
    }
    assert_eq!(reason(&with(16, &[0xFF; 4])), "a body of its batch has no length");
    for length in [2, 3, 4, 1_000, i32::MAX] {
        let text = reason(&with(16, &length.to_be_bytes()));
        assert_eq!(text, "a body of its batch is longer than its message", "{length}");
    }
    for length in [1, 2, i16::MAX] {
        let text = reason(&with(21, &length.to_be_bytes()));
        assert_eq!(text, "the properties of a message of its batch are longer than it", "{length}");
    }
}

#[test]
fn only_what_is_a_batch_and_is_to_be_unwrapped_is_split() {
    let entries = batch(&[(b"a", ""), (b"b", "")]);
    for (sys_flag, count) in [(0, 1), (flag::INNER_BATCH, 1), (flag::NEED_UNWRAP, 1), (BATCH, 2)] {
        let decoded = decoded(stored(&[Storing { sys_flag, ..storing(5, &entries, "") }]));
        assert_eq!(decoded.messages.len(), count, "flags {sys_flag:#x}");
        assert!(decoded.messages.iter().all(|message| message.corrupted().is_none()));
    }
}

#[test]
fn r12_a_batch_with_wrong_lengths_that_begins_before_the_offset_asked_for_does_not_vanish() {
    let entries = batch(&[(b"a", ""), (b"b", ""), (b"c", "")]);
    let mut bytes = stored(&[Storing { sys_flag: BATCH, ..storing(5, &entries, "") }, storing(8, b"d", "")]);
    bytes[84..88].copy_from_slice(&i32::MAX.to_be_bytes());
    let queue = queue();
    for (from, first) in [(5, 5), (6, 6), (7, 7)] {
        let decoded = read(&bytes, &Reading { from: Offset::new(from), ..all(&queue) });
        assert_eq!((offsets(&decoded), decoded.resume_at), (vec![first, 8], None), "from {from}");
        assert!(matches!(decoded.messages[0].corrupted(), Some(Corruption::Malformed { .. })), "from {from}");
    }
}

#[test]
fn a_batch_of_more_messages_than_there_is_memory_for_is_not_split() {
    // 22 bytes each, of which nothing is left when they are compressed.
    let entries = encoded_entries(20_000);
    let packed = zlib(&entries);
    assert!(packed.len() < 10_000 && entries.len() < MIB, "they would fit by their size");
    let message = only(stored(&[Storing { sys_flag: BATCH | flag::COMPRESSED, ..storing(1, &packed, "") }]));
    assert!(matches!(message.corrupted(), Some(Corruption::Malformed { .. })), "{:?}", message.corrupted());
    // As many as there is memory for are.
    let fits = MIB / (22 + size_of::<Record>() + size_of::<Bytes>() + size_of::<Message>());
    let split = |count| {
        let packed = zlib(&encoded_entries(count));
        decoded(stored(&[Storing { sys_flag: BATCH | flag::COMPRESSED, ..storing(1, &packed, "") }])).messages.len()
    };
    assert_eq!((split(fits), split(fits + 1)), (fits, 1));
    // Behind another that took its part, it waits for the next response.
    let some = zlib(&encoded_entries(4_000));
    let message = |offset, body| Storing { sys_flag: BATCH | flag::COMPRESSED, ..storing(offset, body, "") };
    let two = decoded(stored(&[message(0, &some), message(4_000, &some)]));
    assert_eq!((two.messages.len(), two.resume_at), (4_000, Some(Offset::new(4_000))));
}

fn encoded_entries(count: usize) -> Vec<u8> {
    batch(&vec![(b"".as_ref(), ""); count])
}

#[test]
fn a_static_topic_adds_its_delta() {
    let queue = queue();
    let bytes = stored(&[storing(5, b"a", ""), storing(6, b"b", "")]);
    let moved = read(&bytes, &Reading { offset_delta: 100, from: Offset::new(106), ..all(&queue) });
    assert_eq!(offsets(&moved), [106]);
    let before = decode(bytes.into(), &Reading { offset_delta: -6, ..all(&queue) }).unwrap_err();
    assert_eq!(before, StoredError::Offset { at: 0, stored: 5 });
    let far = stored(&[storing(i64::MAX as u64, b"", "")]);
    assert!(decode(far.into(), &Reading { offset_delta: 1, ..all(&queue) }).is_err());
    assert!(matches!(fails(&stored(&[storing(u64::MAX, b"", "")])), StoredError::Offset { stored: -1, .. }));
}

#[test]
fn tags_whose_hash_codes_collide_are_filtered_out() {
    let bytes = stored(&[
        storing(1, b"a", "TAGS\u{1}Aa\u{2}"),
        storing(2, b"b", "TAGS\u{1}BB\u{2}"),
        storing(3, b"c", ""),
        storing(4, b"d", "TAGS\u{1}x\u{2}"),
    ]);
    let queue = queue();
    let tagged = |tags| offsets(&read(&bytes, &Reading { tags, ..all(&queue) }));
    assert_eq!((tagged(&["Aa"]), tagged(&["BB", "x"]), tagged(&[])), (vec![1], vec![2, 4], vec![1, 2, 3, 4]));
    assert_eq!(tagged(&["y"]), [0; 0]);
}

#[test]
fn r12_a_message_whose_tag_cannot_be_read_is_not_filtered_out() {
    let mut bytes = stored(&[storing(1, b"a", "TAGS\u{1}Aa\u{2}")]);
    let tag = bytes.windows(2).position(|window| window == b"Aa").unwrap();
    bytes[tag] = 0xFF;
    let queue = queue();
    let decoded = read(&bytes, &Reading { tags: &["Aa"], ..all(&queue) });
    assert_eq!(decoded.messages[0].tag(), None);
    assert!(matches!(decoded.messages[0].corrupted(), Some(Corruption::Malformed { .. })));
}

#[test]
fn text_is_told_from_ascii_as_the_standard_library_does() {
    for length in 0..40 {
        let plain = vec![b'a'; length];
        assert!(is_ascii(&plain), "{length} bytes");
        for (one, other) in (0..length).flat_map(|one| (0..length).map(move |other| (one, other))) {
            let mut bytes = plain.clone();
            (bytes[one], bytes[other]) = (0x80, 0x80);
            assert!(!is_ascii(&bytes), "{one} and {other} of {length} bytes");
        }
    }
}

#[test]
fn the_end_of_a_file_and_a_few_bytes_are_no_messages() {
    let first = stored(&[storing(1, b"a", "")]);
    let blank = |size: i32, rest: usize| [&size.to_be_bytes()[..], &hex("cbd43194"), &vec![9; rest]].concat();
    let second = stored(&[storing(2, b"b", "")]);
    let offsets = |parts: &[&[u8]]| offsets(&decoded(parts.concat()));
    assert_eq!(offsets(&[&first, &blank(8, 0), &second]), [1, 2]);
    assert_eq!(offsets(&[&first, &blank(20, 12), &second]), [1, 2]);
    assert_eq!(offsets(&[&first, &blank(1 << 30, 0)]), [1], "the rest of it was not sent");
    for few in 0..4 {
        assert_eq!(offsets(&[&first, &[0; 3][..few]]), [1]);
        assert_eq!(offsets(&[&[0xFF; 3][..few]]), [0; 0]);
    }
    assert_eq!(fails(&blank(7, 0)), StoredError::Size { at: 0, size: 7 });
    // A size alone.
    for few in 0..4 {
        let alone = |size: i32| fails(&[&size.to_be_bytes()[..], &[0; 3][..few]].concat());
        assert_eq!(alone(7), StoredError::Size { at: 0, size: 7 });
        for size in [8, 91] {
            assert_eq!(alone(size), StoredError::Truncated { at: 0, needed: size as usize, left: 4 + few });
        }
    }
}

#[test]
fn what_cannot_be_read_is_an_error_that_says_where_and_why() {
    let good = stored(&[storing(1, b"a", "")]);
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    assert_eq!(fails(&with(4, &hex("daa320a8"))), StoredError::Magic { at: 0, magic: 0xDAA3_20A8 });
    for size in [0, 7, 90, -1, i32::MIN] {
        assert_eq!(fails(&with(0, &i32::to_be_bytes(size))), StoredError::Size { at: 0, size });
    }
    let left = good.len();
    assert_eq!(fails(&with(0, &[0, 0, 1, 0])), StoredError::Truncated { at: 0, needed: 256, left });
    for cut in 4..left {
        assert_eq!(fails(&good[..cut]), StoredError::Truncated { at: 0, needed: left, left: cut });
    }
    // Hosts of IPv6 that leave no room for the fields behind them.
    let short = stored(&[Storing { topic: "", ..storing(1, b"", "") }]);
    let mut short = short;
    short[39] = 0x30;
    assert_eq!(fails(&short), StoredError::Size { at: 0, size: 91 });
    let text = fails(&with(4, &[1, 2, 3, 4])).to_string();
    assert_eq!(
        text,
        "the stored messages cannot be read: the one at byte 0 has the magic 0x01020304, which is no layout this version knows"
    );
}

#[test]
fn what_was_read_before_a_place_that_cannot_be_read_is_delivered_and_the_rest_is_pulled_again() {
    let queue = queue();
    let good = stored(&[storing(1, b"a", ""), storing(5, b"b", "")]);
    for behind in
        [hex("00000100 daa320a8"), stored(&[storing(6, b"c", "")])[..90].to_vec(), stored(&[storing(5, b"c", "")])]
    {
        let bytes = [&good[..], &behind].concat();
        let decoded = read(&bytes, &all(&queue));
        assert_eq!((offsets(&decoded), decoded.resume_at), (vec![1, 5], Some(Offset::new(6))));
        let filtered = read(&bytes, &Reading { tags: &["x"], ..all(&queue) });
        assert_eq!((offsets(&filtered), filtered.resume_at), (vec![], Some(Offset::new(6))));
        // Nothing was won: to pull again would be the same.
        assert!(decode(bytes.into(), &Reading { from: Offset::new(6), ..all(&queue) }).is_err());
    }
}

#[test]
fn messages_that_do_not_go_upwards_are_refused() {
    let bytes = stored(&[storing(5, b"a", ""), storing(4, b"b", "")]);
    let queue = queue();
    assert_eq!(offsets(&read(&bytes, &all(&queue))), [5]);
    let error = decode(bytes.into(), &Reading { from: Offset::new(6), ..all(&queue) }).unwrap_err();
    assert!(matches!(error, StoredError::Order { .. }), "{error}");
}

#[test]
fn r12_a_message_with_wrong_lengths_inside_is_delivered_with_what_could_be_read() {
    let good = stored(&[storing(1, b"body", "a\u{1}1\u{2}")]);
    let [body_at, topic_at] = [84, 92];
    for (at, value, body, property) in [
        (body_at, vec![0x7F, 0xFF, 0xFF, 0xFF], &good[88..], None),
        (body_at, vec![0xFF, 0xFF, 0xFF, 0xFF], b"".as_ref(), None),
        (topic_at, vec![0xFF], b"body", None),
        (topic_at + 7, vec![0x7F, 0xFF], b"body", None),
    ] {
        let mut bytes = good.clone();
        bytes[at..at + value.len()].copy_from_slice(&value);
        let response = [&bytes[..], &stored(&[storing(2, b"next", "")])].concat();
        let queue = queue();
        for check_digest in [false, true] {
            let decoded = read(&response, &Reading { check_digest, ..all(&queue) });
            assert_eq!(told(&decoded.messages), [(1, body), (2, b"next".as_ref())], "at {at}");
            let [broken, next] = &decoded.messages[..] else { panic!("two") };
            assert!(matches!(broken.corrupted(), Some(Corruption::Malformed { .. })), "at {at}");
            assert_eq!((broken.property("a"), broken.id().len(), next.corrupted()), (property, 32, None), "at {at}");
        }
    }
}

#[test]
fn properties_of_negative_length_are_none_and_bytes_behind_them_are_skipped() {
    let mut bytes = stored(&[storing(1, b"body", "a\u{1}1\u{2}")]);
    let at = bytes.len() - 6;
    bytes[at..at + 2].copy_from_slice(&[0xFF, 0xFE]);
    let message = only(bytes);
    assert_eq!(
        (message.corrupted(), message.raw_properties(), message.properties().len()),
        (None, Some(b"".as_ref()), 0)
    );
}

#[test]
fn the_messages_of_a_batch_weigh_what_they_hold_each() {
    let (small, large) = ([1; 10], [2; 3_000]);
    let entries = batch(&[(&large, ""), (&small, "a\u{1}1\u{2}"), (&small, "")]);
    for sys_flag in [BATCH, BATCH | flag::COMPRESSED] {
        let body = if sys_flag == BATCH { entries.clone() } else { zlib(&entries) };
        let decoded = decoded(stored(&[Storing { sys_flag, ..storing(1, &body, "") }]));
        let own = size_of::<Record>() + size_of::<Bytes>() + size_of::<Message>();
        let weights: Vec<_> = decoded.messages[..2].iter().map(|message| message.weight() - own).collect();
        // The last bears what is left: the head of the batch, and what it was unpacked from.
        assert_eq!(weights, [22 + 3_000, 22 + 10 + 4], "flags {sys_flag:#x}");
    }
}

#[test]
fn room_is_made_for_as_many_messages_as_are_likely() {
    let count = |messages: usize| {
        let all = (0..messages as u64).map(|at| storing(at, b"0123456789", ""));
        layout::likely_count(&stored(&all.collect::<Vec<_>>()))
    };
    assert_eq!((count(0), count(1), count(10), count(64), count(1_000)), (1, 1, 10, 64, 64));
    assert_eq!(layout::likely_count(&[0xFF; 910]), 10, "as if they were the shortest there are");
}

#[test]
fn the_messages_of_a_response_share_it_and_weigh_what_they_hold() {
    let properties = "TAGS\u{1}x\u{2}a\u{1}1\u{2}";
    let packed = zlib(&[7; 5_000]);
    let bytes = Bytes::from(stored(&[
        storing(1, &[1; 100], properties),
        storing(2, &[2; 3_000], "TAGS\u{1}other\u{2}"),
        Storing { sys_flag: flag::COMPRESSED, ..storing(3, &packed, properties) },
        storing(4, &[4; 50], properties),
        storing(5, &[5; 400], "TAGS\u{1}other\u{2}"),
    ]));
    let queue = queue();
    let messages = decode(bytes.clone(), &Reading { tags: &["x"], ..all(&queue) }).unwrap().messages;
    assert_eq!(offsets_of(&messages), [1, 3, 4]);
    for message in [&messages[0], &messages[2]] {
        assert!(bytes.as_ptr_range().contains(&message.body().as_ptr()), "not copied");
        assert!(bytes.as_ptr_range().contains(&message.tag().unwrap().as_ptr()), "not copied");
        assert_eq!(message.body_place().unwrap().0.as_ptr(), bytes.as_ptr());
    }
    let own = size_of::<Record>() + size_of::<Bytes>() + size_of::<Message>();
    assert_eq!(messages.iter().map(Message::weight).sum::<usize>(), bytes.len() + 5_000 + 3 * own);
    assert!(messages[0].weight() < own + 300 && messages[1].weight() > 5_000);
    let (clone, kept) = (messages[0].clone(), messages[0].body().clone());
    drop(messages);
    assert_eq!((clone.id().len(), kept.len()), (32, 100));
}

fn offsets_of(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.queue_offset().unwrap().get()).collect()
}

#[test]
fn records_and_messages_are_small() {
    assert!(size_of::<Record>() <= 96, "{}", size_of::<Record>());
    assert_eq!(size_of::<Message>(), 16);
}

#[test]
fn what_system_properties_say_is_in_fields() {
    let read =
        |properties: &[(&str, &str)]| only(stored(&[storing(1, b"", &join_properties(properties.iter().copied()))]));
    for (properties, kind) in [
        (&[][..], MessageType::Normal),
        (&[("TRAN_MSG", "true"), ("__SHARDINGKEY", "g")], MessageType::Transaction),
        (&[("TRAN_MSG", "false")], MessageType::Normal),
        (&[("DELAY", "3")], MessageType::Delay),
        (&[("TIMER_DELIVER_MS", "1"), ("__SHARDINGKEY", "g")], MessageType::Delay),
        (&[("__SHARDINGKEY", "g"), ("_SYS_MSG_PRIORITY_", "1")], MessageType::Fifo),
        (&[("_SYS_MSG_PRIORITY_", "1")], MessageType::Priority),
        (&[("__LITE_TOPIC", "l")], MessageType::Lite),
    ] {
        let message = read(properties);
        assert_eq!((message.message_type(), message.properties().len()), (kind, 0), "{properties:?}");
    }
    let message = read(&[
        ("TIMER_DELIVER_MS", "1700000000123"),
        ("CHECK_IMMUNITY_TIME_IN_SECONDS", "6"),
        ("_SYS_MSG_PRIORITY_", "2"),
    ]);
    assert_eq!(message.delivery_timestamp(), Some(at(1_700_000_000_123)));
    assert_eq!((message.transaction_recovery(), message.priority()), (Some(Duration::from_secs(6)), Some(2)));
    let message = read(&[
        ("__LITE_TOPIC", "l"),
        ("__BORNHOST", "1.1.1.1"),
        ("DLQ_ORIGIN_TOPIC", "t"),
        ("DLQ_ORIGIN_MESSAGE_ID", "7"),
    ]);
    assert_eq!((message.lite_topic(), message.born_host()), (Some("l"), "1.1.1.1"));
    let origin = message.dead_letter_origin().unwrap();
    assert_eq!((&*origin.topic, &*origin.message_id), ("t", "7"));
    let nonsense =
        read(&[("TIMER_DELIVER_MS", "soon"), ("CHECK_IMMUNITY_TIME_IN_SECONDS", "-1"), ("_SYS_MSG_PRIORITY_", "")]);
    assert_eq!(
        (nonsense.delivery_timestamp(), nonsense.transaction_recovery(), nonsense.priority()),
        (None, None, None)
    );
    assert_eq!((nonsense.dead_letter_origin(), nonsense.tag(), nonsense.keys().len()), (None, None, 0));
}

#[test]
fn the_bits_of_ipv6_hosts_are_those_of_the_hosts_whatever_they_were_before() {
    let both = flag::BORN_HOST_V6 | flag::STORE_HOST_V6;
    for (born, store, bits) in [
        ("1.2.3.4:5", "1.2.3.4:5", 0),
        ("[::1]:1", "1.2.3.4:5", flag::BORN_HOST_V6),
        ("1.2.3.4:5", "[::1]:1", flag::STORE_HOST_V6),
        ("[::1]:1", "[::1]:1", both),
    ] {
        for before in [0, flag::BORN_HOST_V6, flag::STORE_HOST_V6, both] {
            let hosts = Storing { born_host: host(born), store_host: host(store), ..storing(1, b"", "") };
            let bytes = stored(&[Storing { sys_flag: before | 0x700, ..hosts }]);
            assert_eq!(
                i32::from_be_bytes(bytes[36..40].try_into().unwrap()),
                bits | 0x700,
                "{born} {store} {before:#x}"
            );
        }
    }
}

#[test]
fn what_a_length_can_just_say_is_stored() {
    let (topic, properties) = ("t".repeat(65_535), format!("a\u{1}{}\u{2}", "p".repeat(32_764)));
    let message = only(stored(&[Storing { topic: &topic, ..storing(1, b"body", &properties) }]));
    assert_eq!((message.property("a").map(str::len), &message.body()[..]), (Some(32_764), b"body".as_ref()));
    let entries = batch(&[(b"a", &properties)]);
    let read: Vec<_> = entries_of(&entries).map(|entry| entry.properties.len()).collect();
    assert_eq!(read, [32_767]);
}

fn entries_of(batch: &[u8]) -> impl Iterator<Item = Entry> {
    entries(batch).map(Result::unwrap)
}

#[test]
fn what_no_length_can_say_is_not_stored() {
    let (long, longer) = ("t".repeat(65_536), "p".repeat(32_768));
    for message in [Storing { topic: &long, ..storing(1, b"", "") }, storing(1, b"", &longer)] {
        let mut out = Vec::new();
        let error = encode(&message, &mut out).unwrap_err().to_string();
        assert!(out.is_empty() && (error.contains("65535") || error.contains("32767")), "{error}");
    }
    assert!(encode_entry(0, b"", &longer, &mut Vec::new()).is_err());
}

#[test]
fn a_moment_before_1970_comes_back() {
    let early = UNIX_EPOCH - Duration::from_millis(1_500);
    let message = only(stored(&[Storing { born: early, stored: early, ..storing(1, b"", "") }]));
    assert_eq!((message.born_timestamp(), message.store_timestamp()), (Some(early), Some(early)));
}
