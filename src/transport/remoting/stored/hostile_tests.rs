//! Bytes that nobody meant.
//!
//! `DECODE_CASES=1000000 cargo test --release --lib hostile` runs each of them that often.

use proptest::prelude::*;

use super::tests::{MIB, all, at, batch, host, queue, stored, storing};
use super::*;

fn cases() -> ProptestConfig {
    let cases = std::env::var("DECODE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(256);
    ProptestConfig::with_cases(cases)
}

/// Asks a message for everything.
fn ask(message: &Message) {
    let asked = format!("{message:?} {:?} {:?}", message.properties(), message.dead_letter_origin());
    let texts = [message.id(), message.topic(), message.born_host(), message.store_host()].map(str::len);
    let optional = [message.tag(), message.message_group(), message.trace_context(), message.lite_topic()];
    let times = [message.born_timestamp(), message.store_timestamp(), message.delivery_timestamp()];
    std::hint::black_box((asked, texts, optional, times, message.message_type(), message.priority()));
    std::hint::black_box((message.transaction_recovery(), message.corrupted(), message.property("a")));
    let (buffer, range) = message.body_place().unwrap();
    assert_eq!(&buffer[range], &message.body()[..]);
}

/// Decodes, and holds what comes out to what is promised for any input.
fn judge(bytes: Vec<u8>, reading: &Reading<'_>) {
    let size = bytes.len();
    let Ok(decoded) = decode(bytes.into(), reading) else { return };
    let offsets: Vec<_> = decoded.messages.iter().filter_map(Message::queue_offset).collect();
    assert_eq!(offsets.len(), decoded.messages.len(), "each has an offset");
    assert!(offsets.is_sorted_by(|one, next| one < next), "they go upwards: {offsets:?}");
    assert!(offsets.first().is_none_or(|first| *first >= reading.from));
    if let Some(resume_at) = decoded.resume_at {
        assert!(resume_at > reading.from, "it goes on");
        assert!(offsets.last().is_none_or(|last| *last < resume_at));
    }
    // Three times what was read: a message of 91 bytes takes 136 more; those of 22 bytes are paid for by the bound.
    let weight: usize = decoded.messages.iter().map(Message::weight).sum();
    assert!(weight <= 3 * size + reading.max_decompressed_size, "{weight} of {size}");
    decoded.messages.iter().for_each(ask);
}

/// Readings that differ in what they ask for.
fn judge_all(bytes: &[u8], from: u64, delta: i64) {
    let queue = queue();
    let reading = Reading { max_decompressed_size: 4_000, ..all(&queue) };
    judge(bytes.to_vec(), &reading);
    judge(bytes.to_vec(), &Reading { check_digest: false, from: Offset::new(from), ..reading });
    judge(bytes.to_vec(), &Reading { tags: &["x"], offset_delta: delta, check_digest: false, ..reading });
}

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "",
        "a\u{1}1\u{2}",
        "TAGS\u{1}x\u{2}UNIQ_KEY\u{1}0\u{2}",
        "KEYS\u{1}a b",
        "\u{1}\u{2}\u{1}",
    ])
    .prop_map(str::to_owned)
}

/// A few records, good ones, as bytes.
fn records() -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        Just(batch(&[(b"one", "a\u{1}1"), (b"two", "TAGS\u{1}x"), (b"", "")])),
        Just(b"\x78\x9c\x4b\x04\x00\x00\x62\x00\x62".to_vec()),
    ];
    let flags = prop::sample::select(vec![0, 1, 0x30, 0xC0, 0xC1, 0x10, 0x301]);
    let record = (body, text(), flags, any::<bool>(), 1u64..4);
    prop::collection::vec(record, 1..5).prop_map(|records| {
        let (mut out, mut offset) = (Vec::new(), 0);
        for (body, properties, sys_flag, is_v6, step) in records {
            offset += step * 3;
            let born_host = host(if is_v6 { "[::1]:1" } else { "1.2.3.4:5" });
            let message = Storing { sys_flag, born_host, ..storing(offset, &body, &properties) };
            encode(&message, &mut out).unwrap();
        }
        out
    })
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_bytes_panic_or_take_more_than_they_are(bytes in prop::collection::vec(any::<u8>(), 0..400), from in 0u64..40) {
        judge_all(&bytes, from, -1);
    }

    #[test]
    fn bytes_with_a_good_beginning_do_not_either(
        size in 0u32..300, second in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 83..300), from in 0u64..40,
    ) {
        let magic: u32 = if second { 0xDAA3_20AB } else { 0xDAA3_20A7 };
        let bytes = [&size.to_be_bytes()[..], &magic.to_be_bytes(), &bytes].concat();
        judge_all(&bytes, from, i64::MAX);
    }

    #[test]
    fn damaged_records_do_not_either(
        mut bytes in records(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        from in 0u64..40,
        delta in -20i64..20,
    ) {
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        judge_all(&bytes, from, delta);
    }

    #[test]
    fn records_cut_off_anywhere_do_not_either(bytes in records(), cut in any::<prop::sample::Index>(), from in 0u64..40) {
        judge_all(&bytes[..cut.index(bytes.len())], from, 0);
    }

    #[test]
    fn every_message_comes_back(
        body in prop::collection::vec(any::<u8>(), 0..200),
        properties in prop::collection::vec(("[a-z]{1,6}", "[^\u{1}\u{2}]{0,8}"), 0..6),
        topic in "[a-z]{0,300}",
        (offset, log_offset) in (0..i64::MAX as u64, any::<i64>()),
        (born_v6, store_v6) in any::<(bool, bool)>(),
        millis in 0u64..4_000_000_000_000,
        reconsume_times in 0..1_000,
    ) {
        let hosts = |is_v6| if is_v6 { "[2001:db8::7]:65535" } else { "10.1.2.3:0" };
        let joined = join_properties(properties.iter().map(|(name, value)| (&**name, &**value)));
        let message = Storing {
            log_offset,
            born: at(millis),
            stored: at(millis + 1),
            born_host: host(hosts(born_v6)),
            store_host: host(hosts(store_v6)),
            reconsume_times,
            topic: &topic,
            ..storing(offset, &body, &joined)
        };
        let queue = queue();
        let decoded = decode(stored(&[message]).into(), &Reading { from: Offset::new(offset), ..all(&queue) }).unwrap();
        prop_assert_eq!(decoded.messages.len(), 1);
        let read = &decoded.messages[0];
        prop_assert_eq!((&read.body()[..], read.queue_offset()), (&body[..], Some(Offset::new(offset))));
        prop_assert_eq!((read.born_timestamp(), read.store_timestamp()), (Some(at(millis)), Some(at(millis + 1))));
        prop_assert_eq!((read.born_host(), read.store_host()), (hosts(born_v6), hosts(store_v6)));
        prop_assert_eq!(read.delivery_attempt(), reconsume_times.unsigned_abs() + 1);
        let by_name: std::collections::HashMap<_, _> = properties.iter().map(|(name, value)| (&**name, &**value)).collect();
        prop_assert_eq!(read.properties().len(), by_name.len());
        for (name, value) in by_name {
            prop_assert_eq!((read.property(name), read.properties().get(name)), (Some(value), Some(value)));
        }
        prop_assert_eq!(read.corrupted(), None);
        prop_assert!(read.weight() < MIB);
    }
}
