//! The messages of one pulled response: they share its bytes, and nothing is made of them before it is asked for.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::model::properties::Properties;
use crate::model::raw_properties::RawProperties;
use crate::model::{Corruption, DeadLetterOrigin, Message, MessageQueue, MessageType, Offset};

/// One response and where its messages lie in it. Kept alive as a whole by any of its messages.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The response, and after it the batches that had to be decompressed: what a [`Span`] points into.
    pub(crate) sources: Sources,
    pub(crate) queue: MessageQueue,
    pub(crate) records: Vec<Record>,
}

/// The buffers of a chunk.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) response: Bytes,
    pub(crate) unpacked: Vec<Bytes>,
}

/// Which of the buffers of a chunk: 0 is the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Source(u32);

/// Where something lies in a buffer. A chunk is smaller than 4 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

/// One message of a chunk: numbers as they came, and where the rest lies. Two cache lines.
#[derive(Debug)]
pub(crate) struct Record {
    /// A slice of the response, unless it was compressed.
    pub(crate) body: Bytes,
    pub(crate) queue_offset: Offset,
    pub(crate) born_ms: i64,
    pub(crate) store_ms: i64,
    /// Where it lies in the broker's commit log.
    pub(crate) log_offset: i64,
    /// How many bytes of memory are held for this message beside this record, its body included.
    pub(crate) held: u32,
    /// What `properties` points into; the hosts are always in the response.
    pub(crate) source: Source,
    pub(crate) properties: Span,
    /// IPv4 or IPv6 address and a port of four bytes.
    pub(crate) born_host: Span,
    pub(crate) store_host: Span,
    /// From 1.
    pub(crate) delivery_attempt: u32,
    pub(crate) corrupted: Option<Box<Corruption>>,
    pub(crate) made: Made,
}

/// What was asked for and must be owned.
#[derive(Debug, Default)]
pub(crate) struct Made(OnceLock<Box<Owned>>);

#[derive(Debug, Default)]
struct Owned {
    id: OnceLock<Box<str>>,
    keys: OnceLock<Vec<String>>,
    properties: OnceLock<Properties>,
    born_host: OnceLock<Box<str>>,
    store_host: OnceLock<Box<str>>,
    origin: OnceLock<Option<DeadLetterOrigin>>,
}

impl Source {
    /// That of a batch that was unpacked.
    pub(crate) fn unpacked(at: usize) -> Self {
        Self(u32::try_from(at).map_or(u32::MAX, |at| at.saturating_add(1)))
    }
}

impl Sources {
    fn get(&self, source: Source) -> &[u8] {
        match usize::try_from(source.0).unwrap_or(usize::MAX).checked_sub(1) {
            None => &self.response,
            Some(at) => self.unpacked.get(at).map_or(&[], |bytes| bytes),
        }
    }
}

impl Span {
    /// Of what does not fit into four bytes, nothing: whoever makes chunks keeps them smaller.
    pub(crate) fn new(range: Range<usize>) -> Self {
        match (u32::try_from(range.start), u32::try_from(range.len())) {
            (Ok(start), Ok(len)) => Self { start, len },
            _ => Self::default(),
        }
    }

    fn of(self, bytes: &[u8]) -> &[u8] {
        let (start, len) = (self.start as usize, self.len as usize);
        bytes.get(start..).and_then(|rest| rest.get(..len)).unwrap_or_default()
    }
}

impl Chunk {
    /// All messages, in the order of the records.
    pub(crate) fn into_messages(self) -> Vec<Message> {
        let count = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        let chunk = Arc::new(self);
        (0..count).map(|at| Message::pulled(Arc::clone(&chunk), at)).collect()
    }

    pub(crate) fn get(&self, at: u32) -> Pulled<'_> {
        Pulled { chunk: self, record: &self.records[at as usize] }
    }
}

/// One message of a chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pulled<'a> {
    chunk: &'a Chunk,
    record: &'a Record,
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

    /// The buffer that its body lies in, and where: that of the response, unless the body was compressed.
    pub(crate) fn place(self) -> (&'a Bytes, Range<usize>) {
        let (response, body) = (&self.chunk.sources.response, &self.record.body);
        let start = (body.as_ptr() as usize).wrapping_sub(response.as_ptr() as usize);
        match start.checked_add(body.len()) {
            Some(end) if end <= response.len() => (response, start..end),
            _ => (body, 0..body.len()),
        }
    }

    pub(crate) fn raw(self) -> RawProperties<'a> {
        RawProperties::new(self.raw_bytes())
    }

    pub(crate) fn raw_bytes(self) -> &'a [u8] {
        self.record.properties.of(self.chunk.sources.get(self.record.source))
    }

    pub(crate) fn id(self) -> &'a str {
        self.raw().get("UNIQ_KEY").unwrap_or_else(|| self.made().id.get_or_init(|| self.offset_id()))
    }

    /// The id that the broker gave it: its host and its place in the commit log.
    fn offset_id(self) -> Box<str> {
        let mut id = String::with_capacity(56);
        let host = self.record.store_host.of(&self.chunk.sources.response);
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
        let bytes = span.of(&self.chunk.sources.response);
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
        size_of::<Record>() + size_of::<Message>() + self.record.held as usize
    }

    fn made(self) -> &'a Owned {
        self.record.made.0.get_or_init(Box::default)
    }
}

/// `None` when this platform's clock cannot name it.
fn moment(millis: i64) -> Option<SystemTime> {
    let distance = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) }
}
