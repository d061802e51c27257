//! Messages between the remoting wire and the engine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};

use super::answer::No;
use super::codes as code;
use crate::embedded::engine::{Content, ContentKind, Millis, Record};
use crate::embedded::reserved::is_reserved;
use crate::model::Offset;
use crate::transport::body::md5;
use crate::transport::remoting::stored::{Storing, encode, flag, join_properties};

/// Bits of a `sysFlag` that name the codec.
const CODEC_BITS: i32 = 0x700;

/// What a producer sends, beside what the engine makes of it.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    pub(super) body: Bytes,
    pub(super) flag: i32,
    pub(super) sys_flag: i32,
    pub(super) born_at: Millis,
    /// As it travels: `name` 1 `value` 2, and so on.
    pub(super) properties: &'a str,
}

/// The delays of Apache's 18 levels, in seconds.
const LEVELS: [u64; 18] = [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

/// A message on its way in. Properties that have a field in [`Content`] go there; those that RocketMQ uses itself are hidden
/// from readers over gRPC.
pub(super) fn content(sent: Sent<'_>, peer: SocketAddr, now: Millis) -> Content {
    let mut properties = split(sent.properties);
    let delivery_at = delivery_at(&properties, now);
    let id = properties.remove("UNIQ_KEY").unwrap_or_else(|| format!("{:032X}", fastrand::u128(..)));
    let tag = properties.remove("TAGS").filter(|tag| !tag.is_empty());
    let keys = properties.remove("KEYS").unwrap_or_default();
    let message_group = properties.get("__SHARDINGKEY").cloned();
    let is_transaction = properties.get("TRAN_MSG").is_some_and(|value| value == "true");
    let kind = match (&message_group, delivery_at) {
        _ if is_transaction => ContentKind::Transaction,
        (_, Some(_)) => ContentKind::Delay,
        (Some(_), None) => ContentKind::Fifo,
        (None, None) => ContentKind::Normal,
    };
    let (hidden, properties) = properties.into_iter().partition(|(name, _)| is_reserved(name));
    Content {
        id: id.into(),
        kind,
        compressed: sent.sys_flag & flag::COMPRESSED != 0,
        digest: md5(&sent.body).into(),
        body: sent.body,
        tag: tag.map(Into::into),
        keys: keys.split_whitespace().map(Into::into).collect(),
        trace_context: None,
        message_group: message_group.map(Into::into),
        properties,
        hidden,
        flag: sent.flag,
        codec_bits: sent.sys_flag & CODEC_BITS,
        delivery_at,
        born_at: sent.born_at,
        born_host: peer.to_string().into(),
        stored_at: now,
    }
}

/// Splits at the first separator of each item; the last one may lack its end.
fn split(properties: &str) -> BTreeMap<String, String> {
    let items = properties.split('\u{2}').filter_map(|item| item.split_once('\u{1}'));
    items.map(|(name, value)| (name.into(), value.into())).collect()
}

/// When a message is to be delivered, if that is not at once.
fn delivery_at(properties: &BTreeMap<String, String>, now: Millis) -> Option<Millis> {
    let number = |name: &str| properties.get(name)?.parse::<u64>().ok();
    let level = |level: u64| LEVELS.get(usize::try_from(level).ok()?.checked_sub(1)?.min(LEVELS.len() - 1)).copied();
    number("TIMER_DELIVER_MS")
        .or_else(|| Some(now + number("TIMER_DELAY_MS")?))
        .or_else(|| Some(now + 1000 * number("TIMER_DELAY_SEC")?))
        .or_else(|| Some(now + 1000 * level(number("DELAY")?)?))
}

/// Appends a message as it lies in a commit log.
pub(super) fn store(
    record: &Record,
    (queue, offset): (i32, u64),
    topic: &str,
    store_host: SocketAddr,
    out: &mut BytesMut,
) -> Result<(), No> {
    let content = &record.content;
    let compressed = if content.compressed { flag::COMPRESSED | content.codec_bits } else { 0 };
    let storing = Storing {
        queue_id: queue,
        flag: content.flag,
        queue_offset: Offset::new(offset),
        log_offset: record.log_offset as i64,
        sys_flag: compressed,
        born: time(content.born_at),
        born_host: content.born_host.parse().unwrap_or_else(|_| SocketAddr::new(store_host.ip(), 0)),
        stored: time(record.stored_at),
        store_host,
        reconsume_times: record.reconsumed as i32,
        prepared_transaction_offset: 0,
        body: &content.body,
        topic,
        properties: &properties(content),
    };
    encode(&storing, out).map_err(|error| No::new(code::SYSTEM_ERROR, error.to_string()))
}

fn time(millis: Millis) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

/// All properties as they are stored.
fn properties(content: &Content) -> String {
    let delivery = content.delivery_at.map(|at| at.to_string());
    let keys = content.keys.join(" ");
    let own = [
        ("UNIQ_KEY", Some(&*content.id)),
        ("KEYS", Some(&*keys).filter(|keys| !keys.is_empty())),
        ("TAGS", content.tag.as_deref()),
        ("TIMER_DELIVER_MS", delivery.as_deref().filter(|_| !content.hidden.contains_key("DELAY"))),
    ];
    let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let others = content.hidden.iter().chain(&content.properties);
    let others = others.filter(|(name, _)| *name != "TIMER_DELIVER_MS");
    join_properties(own.chain(others.map(|(name, value)| (&**name, &**value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(properties: &str) -> Content {
        let sent = Sent { body: "x".into(), flag: 7, sys_flag: 0x301, born_at: 5, properties };
        content(sent, "127.0.0.1:1234".parse().unwrap(), 10_000)
    }

    #[test]
    fn properties_find_their_places_and_come_back() {
        let text = "UNIQ_KEY\u{1}ID\u{2}TAGS\u{1}paid\u{2}KEYS\u{1}a b\u{2}WAIT\u{1}true\u{2}amount\u{1}1\u{1}2\u{2}";
        let content = made(text);
        assert_eq!((&*content.id, content.tag.as_deref()), ("ID", Some("paid")));
        assert_eq!((content.keys.len(), content.kind), (2, ContentKind::Normal));
        assert_eq!(content.properties.get("amount").unwrap(), "1\u{1}2", "split at the first separator");
        assert_eq!(content.hidden.get("WAIT").unwrap(), "true");
        assert!(content.compressed && content.codec_bits == 0x300 && content.flag == 7);
        let expected =
            "UNIQ_KEY\u{1}ID\u{2}KEYS\u{1}a b\u{2}TAGS\u{1}paid\u{2}WAIT\u{1}true\u{2}amount\u{1}1\u{1}2\u{2}";
        assert_eq!(properties(&content), expected);
    }

    #[test]
    fn a_message_without_an_id_is_given_one() {
        assert_eq!((made("").id.len(), made("").properties.len()), (32, 0));
        assert_ne!(made("").id, made("").id);
    }

    #[test]
    fn the_ways_to_delay_a_message() {
        for (properties, at) in [
            ("TIMER_DELIVER_MS\u{1}12345\u{2}", Some(12_345)),
            ("TIMER_DELAY_MS\u{1}500\u{2}", Some(10_500)),
            ("TIMER_DELAY_SEC\u{1}2\u{2}", Some(12_000)),
            ("DELAY\u{1}3\u{2}", Some(20_000)),
            ("DELAY\u{1}99\u{2}", Some(7_210_000)),
            ("DELAY\u{1}0\u{2}", None),
            ("DELAY\u{1}soon\u{2}", None),
            ("", None),
        ] {
            assert_eq!(made(properties).delivery_at, at, "{properties:?}");
        }
    }
}
