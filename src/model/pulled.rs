//! The messages of one pulled response: they share its bytes, and nothing is made of them before it is asked for.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::model::properties::Properties;
use crate::model::raw_properties::{RawProperties, is_system};
use crate::model::{
    BodyDigest, BodyEncoding, Corruption, DeadLetterOrigin, Message, MessageQueue, MessageType, Offset,
};

/// One response and where its messages lie in it. Kept alive as a whole by any of its messages.
#[derive(Debug)]
pub(crate) struct Chunk {
    queue: MessageQueue,
    response: Bytes,
    /// What had to be decompressed: bodies, and batches of messages.
    unpacked: Vec<Bytes>,
    records: Vec<Record>,
    /// What is wrong with a record, by its index.
    corrupted: Vec<(u32, Corruption)>,
    /// Made for all at once when the first is asked for.
    bodies: OnceLock<Box<[Bytes]>>,
    made: OnceLock<Box<[Made]>>,
}

/// Which of the buffers of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Response,
    Unpacked(u32),
}

/// Where something lies in a buffer. A chunk is smaller than 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

/// One message of a chunk: numbers as they came, and where the rest lies. Plain data, so that making and dropping it costs
/// no more than writing it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) queue_offset: Offset,
    pub(crate) born_ms: i64,
    pub(crate) store_ms: i64,
    /// Where it lies in the broker's commit log.
    pub(crate) log_offset: i64,
    /// From 1.
    pub(crate) delivery_attempt: u32,
    /// Of the body as it was carried; of a whole batch, if it came in one.
    pub(crate) body_crc: u32,
    pub(crate) is_compressed: bool,
    pub(crate) is_of_batch: bool,
    /// How many bytes of the chunk's buffers are held for this message.
    pub(crate) held: u32,
    pub(crate) body_in: Source,
    pub(crate) body: Span,
    pub(crate) properties_in: Source,
    pub(crate) properties: Span,
    /// IPv4 or IPv6 address and a port of four bytes, in the response.
    pub(crate) born_host: Span,
    pub(crate) store_host: Span,
}

/// What was asked for and must be owned.
#[derive(Debug, Default)]
struct Made {
    id: OnceLock<Box<str>>,
    keys: OnceLock<Vec<String>>,
    properties: OnceLock<Properties>,
    born_host: OnceLock<Box<str>>,
    store_host: OnceLock<Box<str>>,
    origin: OnceLock<Option<DeadLetterOrigin>>,
}

impl Span {
    /// Of what does not fit into four bytes, nothing: whoever makes chunks keeps them smaller.
    #[inline]
    pub(crate) fn new(range: Range<usize>) -> Self {
        match (u32::try_from(range.start), u32::try_from(range.len())) {
            (Ok(start), Ok(len)) => Self { start, len },
            _ => Self::default(),
        }
    }

    const fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }

    fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.range()).unwrap_or_default()
    }
}

impl Chunk {
    /// Without messages; `likely` is a guess how many there will be.
    pub(crate) fn new(queue: MessageQueue, response: Bytes, likely: usize) -> Self {
        Self {
            queue,
            response,
            unpacked: Vec::new(),
            records: Vec::with_capacity(likely),
            corrupted: Vec::new(),
            bodies: OnceLock::new(),
            made: OnceLock::new(),
        }
    }

    pub(crate) fn response(&self) -> &Bytes {
        &self.response
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Adds a buffer.
    pub(crate) fn add_source(&mut self, unpacked: Bytes) -> Source {
        let at = u32::try_from(self.unpacked.len()).unwrap_or(u32::MAX);
        self.unpacked.push(unpacked);
        Source::Unpacked(at)
    }

    /// Takes back the buffer that was added last.
    pub(crate) fn remove_source(&mut self, source: Source) {
        if source != Source::Response {
            self.unpacked.pop();
        }
    }

    /// Adds a message.
    #[inline]
    pub(crate) fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Says what is wrong with the message that was added last.
    pub(crate) fn corrupt(&mut self, corruption: Corruption) {
        let last = u32::try_from(self.records.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.corrupted.push((last, corruption));
    }

    /// All messages, in the order they were added. What was not said to be held for one of them is held with the rest: the last
    /// bears it, so that the weights add up.
    pub(crate) fn into_messages(mut self) -> Vec<Message> {
        let buffers = self.response.len() + self.unpacked.iter().map(Bytes::len).sum::<usize>();
        let borne = self.records.iter().map(|record| record.held as usize).sum();
        let spare = u32::try_from(buffers.saturating_sub(borne)).unwrap_or(u32::MAX);
        let Some(last) = self.records.last_mut() else { return Vec::new() };
        last.held = last.held.saturating_add(spare);
        let count = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        let chunk = Arc::new(self);
        (0..count).map(|at| Message::pulled(Arc::clone(&chunk), at)).collect()
    }

    pub(crate) fn get(&self, at: u32) -> Pulled<'_> {
        Pulled { chunk: self, record: &self.records[at as usize], at }
    }

    fn source(&self, source: Source) -> &Bytes {
        match source {
            Source::Response => &self.response,
            Source::Unpacked(at) => &self.unpacked[at as usize],
        }
    }

    /// Slices of the buffers: they share them.
    fn bodies(&self) -> &[Bytes] {
        let body = |record: &Record| self.source(record.body_in).slice(record.body.range());
        self.bodies.get_or_init(|| self.records.iter().map(body).collect())
    }
}

/// One message of a chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pulled<'a> {
    chunk: &'a Chunk,
    record: &'a Record,
    at: u32,
}

impl<'a> Pulled<'a> {
    pub(crate) fn record(self) -> &'a Record {
        self.record
    }

    pub(crate) fn topic(self) -> &'a str {
        self.chunk.queue.topic()
    }

    pub(crate) fn broker(self) -> &'a str {
        self.chunk.queue.broker()
    }

    pub(crate) fn queue_id(self) -> i32 {
        i32::try_from(self.chunk.queue.id()).unwrap_or(i32::MAX)
    }

    pub(crate) fn body(self) -> &'a Bytes {
        &self.chunk.bodies()[self.at as usize]
    }

    /// That of a batch is of no message of it.
    pub(crate) fn body_digest(self) -> Option<BodyDigest> {
        (!self.record.is_of_batch).then(|| BodyDigest::crc32(self.record.body_crc))
    }

    pub(crate) fn body_encoding(self) -> BodyEncoding {
        if self.record.is_compressed { BodyEncoding::Compressed } else { BodyEncoding::Identity }
    }

    /// The buffer that its body lies in, and where: that of the response, unless the body was compressed.
    pub(crate) fn place(self) -> (&'a Bytes, Range<usize>) {
        (self.chunk.source(self.record.body_in), self.record.body.range())
    }

    pub(crate) fn corrupted(self) -> Option<&'a Corruption> {
        let corrupted = &self.chunk.corrupted;
        let found = corrupted.binary_search_by_key(&self.at, |(at, _)| *at).ok()?;
        corrupted.get(found).map(|(_, corruption)| corruption)
    }

    pub(crate) fn raw(self) -> RawProperties<'a> {
        RawProperties::new(self.raw_bytes())
    }

    pub(crate) fn raw_bytes(self) -> &'a [u8] {
        self.record.properties.of(self.chunk.source(self.record.properties_in))
    }

    pub(crate) fn id(self) -> &'a str {
        self.raw().get("UNIQ_KEY").unwrap_or_else(|| self.made().id.get_or_init(|| self.offset_id()))
    }

    /// The id that the broker gave it: its host and its place in the commit log.
    fn offset_id(self) -> Box<str> {
        let mut id = String::with_capacity(56);
        let host = self.record.store_host.of(&self.chunk.response);
        for byte in host.iter().chain(&self.record.log_offset.to_be_bytes()) {
            let _ = write!(id, "{byte:02X}");
        }
        id.into()
    }

    pub(crate) fn keys(self) -> &'a [String] {
        let Some(keys) = self.raw().get("KEYS") else { return &[] };
        self.made().keys.get_or_init(|| keys.split(' ').filter(|key| !key.is_empty()).map(str::to_owned).collect())
    }

    pub(crate) fn properties(self) -> &'a Properties {
        self.made().properties.get_or_init(|| Properties::from_raw(self.raw()))
    }

    /// The value of a user's property.
    pub(crate) fn property(self, name: &str) -> Option<&'a str> {
        if is_system(name) { None } else { self.raw().get(name) }
    }

    pub(crate) fn message_type(self) -> MessageType {
        let raw = self.raw();
        let has = |name| raw.get(name).is_some();
        if raw.get("TRAN_MSG").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            MessageType::Transaction
        } else if ["DELAY", "TIMER_DELIVER_MS", "TIMER_DELAY_SEC", "TIMER_DELAY_MS"].into_iter().any(has) {
            MessageType::Delay
        } else if has("__SHARDINGKEY") {
            MessageType::Fifo
        } else if has("_SYS_MSG_PRIORITY_") {
            MessageType::Priority
        } else if has("__LITE_TOPIC") {
            MessageType::Lite
        } else {
            MessageType::Normal
        }
    }

    pub(crate) fn born_timestamp(self) -> Option<SystemTime> {
        moment(self.record.born_ms)
    }

    pub(crate) fn store_timestamp(self) -> Option<SystemTime> {
        moment(self.record.store_ms)
    }

    pub(crate) fn delivery_timestamp(self) -> Option<SystemTime> {
        self.raw().get("TIMER_DELIVER_MS").and_then(|millis| millis.parse().ok()).and_then(moment)
    }

    pub(crate) fn transaction_recovery(self) -> Option<Duration> {
        let seconds = self.raw().get("CHECK_IMMUNITY_TIME_IN_SECONDS")?;
        seconds.parse().ok().map(Duration::from_secs)
    }

    /// What the sender said it is; a message that came by a proxy was born there, as the broker sees it.
    pub(crate) fn born_host(self) -> &'a str {
        self.raw()
            .get("__BORNHOST")
            .unwrap_or_else(|| self.made().born_host.get_or_init(|| self.host(self.record.born_host)))
    }

    pub(crate) fn store_host(self) -> &'a str {
        self.made().store_host.get_or_init(|| self.host(self.record.store_host))
    }

    fn host(self, span: Span) -> Box<str> {
        let bytes = span.of(&self.chunk.response);
        let Some((ip, port)) = bytes.split_last_chunk::<4>() else { return "".into() };
        let port = u32::from_be_bytes(*port);
        if let Ok(ip) = <[u8; 4]>::try_from(ip) {
            format!("{}:{port}", Ipv4Addr::from(ip)).into()
        } else if let Ok(ip) = <[u8; 16]>::try_from(ip) {
            format!("[{}]:{port}", Ipv6Addr::from(ip)).into()
        } else {
            "".into()
        }
    }

    pub(crate) fn dead_letter_origin(self) -> Option<&'a DeadLetterOrigin> {
        let topic = self.raw().get("DLQ_ORIGIN_TOPIC")?;
        let origin = self.made().origin.get_or_init(|| {
            let message_id = self.raw().get("DLQ_ORIGIN_MESSAGE_ID")?;
            Some(DeadLetterOrigin { topic: topic.into(), message_id: message_id.into() })
        });
        origin.as_ref()
    }

    /// Bytes held for it. Those of all messages together are what the chunk holds.
    pub(crate) fn weight(self) -> usize {
        size_of::<Record>() + size_of::<Bytes>() + size_of::<Message>() + self.record.held as usize
    }

    fn made(self) -> &'a Made {
        let count = self.chunk.records.len();
        let made = self.chunk.made.get_or_init(|| std::iter::repeat_with(Made::default).take(count).collect());
        &made[self.at as usize]
    }
}

/// `None` when this platform's clock cannot name it.
fn moment(millis: i64) -> Option<SystemTime> {
    let distance = Duration::from_millis(millis.unsigned_abs());
    if millis.is_negative() { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}

#[cfg(test)]
mod tests;
