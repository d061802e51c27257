//! Stored messages: what the body of a pull response is made of, one after the other (protocol.md E.7). Both ends use it: the
//! wire decodes, the embedded broker encodes.
//!
//! The messages of a response share its bytes. Decoding finds out where they lie and allocates once per response; bodies
//! are copied only when they are decompressed, properties are looked up where they lie when they are asked for.
//!
//! Nothing that comes in is trusted: no bytes make it panic or loop, and what it allocates is bounded by what it read and
//! by [`Reading::max_decompressed_size`].

mod encode;
mod error;
mod inner;
mod layout;
mod tag;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub(crate) use encode::{EncodeError, Storing, encode, encode_entry, join_properties};
pub(crate) use error::StoredError;
pub(crate) use inner::{Entry, entries};
pub(crate) use tag::{is_wanted, tag_code};

use crate::model::{
    Chunk, Corruption, Made, Message, MessageQueue, Offset, RawProperties, Record, Source, Sources, Span,
};
use crate::transport::body::{self, BodyError};
use crate::transport::remoting::stored::layout::{Layout, Next};

/// Bits of a message's `sysFlag`.
pub(crate) mod flag {
    pub(crate) const COMPRESSED: i32 = 0x1;
    pub(crate) const BORN_HOST_V6: i32 = 0x10;
    pub(crate) const STORE_HOST_V6: i32 = 0x20;
    pub(crate) const NEED_UNWRAP: i32 = 0x40;
    pub(crate) const INNER_BATCH: i32 = 0x80;
}

/// What the reader of a response knows beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// The queue that was asked for; the messages say it is theirs.
    pub(crate) queue: &'a MessageQueue,
    /// The offset that was asked for: a batch may begin before it, and what lies before it is left out.
    pub(crate) from: Offset,
    /// Of static topics: what to add to stored offsets; else 0.
    pub(crate) offset_delta: i64,
    /// Largest size of what is decompressed of one response, in bytes.
    pub(crate) max_decompressed_size: usize,
    /// Whether the checksums of bodies are checked.
    pub(crate) check_digest: bool,
    /// The tags that are wanted; none: all messages are. The broker compares hash codes only.
    pub(crate) tags: &'a [&'a str],
}

/// What a response holds.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// In the order of their offsets, none before the offset asked for, none of another tag.
    pub(crate) messages: Vec<Message>,
    /// The rest was not decoded, because it cannot be read or is too much at once: pull again from here, and do not go by what
    /// the broker says is next. It is beyond the offset asked for.
    pub(crate) resume_at: Option<Offset>,
}

/// Finds the messages in the body of a pull response.
///
/// A message with something wrong *in* it is delivered with [`corrupted`](Message::corrupted) set and what could be read of
/// it (trap R12).
///
/// # Errors
/// When nothing can be read at the beginning, so that pulling again would not get any further. What was read before such a
/// place is delivered first, with `resume_at`.
pub(crate) fn decode(response: Bytes, reading: &Reading<'_>) -> Result<Decoded, StoredError> {
    let mut decoding = Decoding::new(&response, reading)?;
    let resume_at = match decoding.run() {
        Ok(()) => None,
        Err(_) if decoding.next > reading.from => Some(decoding.next),
        Err(error) => return Err(error),
    };
    Ok(Decoded { messages: decoding.finish().into_messages(), resume_at })
}

struct Decoding<'a> {
    response: &'a Bytes,
    reading: &'a Reading<'a>,
    records: Vec<Record>,
    unpacked: Vec<Bytes>,
    /// How much more may be decompressed.
    allowance: usize,
    /// Bytes of bodies that were decompressed one by one.
    own: usize,
    /// The first offset that was not read.
    next: Offset,
}

/// A body as it is to be delivered.
struct Body {
    bytes: Bytes,
    /// Whether it is no longer a slice of the response.
    is_own: bool,
    corrupted: Option<Corruption>,
}

impl<'a> Decoding<'a> {
    fn new(response: &'a Bytes, reading: &'a Reading<'a>) -> Result<Self, StoredError> {
        if u32::try_from(response.len()).is_err() {
            return Err(StoredError::TooLarge { size: response.len() });
        }
        Ok(Self {
            response,
            reading,
            records: Vec::with_capacity(layout::likely_count(response)),
            unpacked: Vec::new(),
            allowance: reading.max_decompressed_size,
            own: 0,
            next: Offset::new(0),
        })
    }

    fn run(&mut self) -> Result<(), StoredError> {
        let mut at = 0;
        loop {
            match layout::next(self.response, at)? {
                Next::End => return Ok(()),
                Next::Blank { after } => at = after,
                Next::Record(layout) => {
                    self.take(&layout)?;
                    at = layout.end;
                }
            }
        }
    }

    /// One stored message, which may be a batch of several.
    fn take(&mut self, layout: &Layout) -> Result<(), StoredError> {
        let offset = self.offset(layout, 0)?;
        if layout.is_batch() {
            return self.take_batch(layout, offset);
        }
        if offset >= self.reading.from && self.wants(layout) {
            let body = self.body(layout)?;
            self.push(layout, offset, body);
        }
        self.read_up_to(offset);
        Ok(())
    }

    /// A batch that was stored as one, which only topics with `queue.type=BatchCQ` have.
    fn take_batch(&mut self, layout: &Layout, base: Offset) -> Result<(), StoredError> {
        let allowed_before = self.allowance;
        let mut body = self.body(layout)?;
        let count = match (&body.corrupted, inner::count(&body.bytes)) {
            (None, Ok(count)) => count,
            (None, Err(fault)) => {
                body.corrupted = Some(malformed(fault));
                return self.take_whole(layout, base, body);
            }
            (Some(_), _) => return self.take_whole(layout, base, body),
        };
        let needed = count.saturating_mul(size_of::<Record>() + size_of::<Message>());
        if needed > self.allowance {
            if allowed_before < self.reading.max_decompressed_size {
                return Err(self.too_much(layout));
            }
            body.corrupted =
                Some(malformed("its batch has more messages than Limits::max_decompressed_size lets it hold"));
            return self.take_whole(layout, base, body);
        }
        self.allowance -= needed;
        let kept = self.records.len();
        self.take_entries(layout, &body)?;
        if self.records.len() == kept {
            self.allowance = allowed_before;
        } else if body.is_own {
            self.unpacked.push(body.bytes);
        }
        Ok(())
    }

    fn take_entries(&mut self, layout: &Layout, body: &Body) -> Result<(), StoredError> {
        let (source, shift) = match body.is_own {
            true => (Source::unpacked(self.unpacked.len()), 0),
            false => (Source::default(), layout.body.start),
        };
        for (index, entry) in inner::entries(&body.bytes).map_while(Result::ok).enumerate() {
            let offset = self.offset(layout, index)?;
            let raw = &body.bytes[entry.properties.clone()];
            if offset >= self.reading.from && is_wanted_in(raw, self.reading.tags) {
                let properties = entry.properties.start + shift..entry.properties.end + shift;
                let bytes = body.bytes.slice(entry.body);
                self.records.push(Record {
                    source,
                    properties: Span::new(properties),
                    ..record(layout, offset, bytes, entry.whole.len(), fault_of(raw))
                });
            }
            self.read_up_to(offset);
        }
        Ok(())
    }

    /// A batch that cannot be split is one message. It lies where the first of its messages that was asked for would.
    fn take_whole(&mut self, layout: &Layout, base: Offset, body: Body) -> Result<(), StoredError> {
        let offset = base.max(self.reading.from);
        self.push(layout, offset, body);
        self.read_up_to(offset);
        Ok(())
    }

    fn push(&mut self, layout: &Layout, offset: Offset, body: Body) {
        let own = if body.is_own { body.bytes.len() } else { 0 };
        self.own += own;
        let corrupted = body.corrupted.or_else(|| fault_of(&self.response[layout.properties.clone()]));
        self.records.push(record(layout, offset, body.bytes, layout.size() + own, corrupted));
    }

    /// The position of the message that is `index` behind the beginning of a record.
    fn offset(&self, layout: &Layout, index: usize) -> Result<Offset, StoredError> {
        let stored = layout.queue_offset.checked_add(self.reading.offset_delta);
        let offset = stored.zip(i64::try_from(index).ok()).and_then(|(base, index)| base.checked_add(index));
        match offset.and_then(|offset| u64::try_from(offset).ok()).map(Offset::new) {
            None => Err(StoredError::Offset { at: layout.start, stored: layout.queue_offset }),
            Some(offset) if offset < self.next => {
                Err(StoredError::Order { at: layout.start, offset, before: self.next })
            }
            Some(offset) => Ok(offset),
        }
    }

    fn read_up_to(&mut self, offset: Offset) {
        self.next = Offset::new(offset.get().saturating_add(1));
    }

    /// One that cannot be judged is wanted: it must not vanish.
    fn wants(&self, layout: &Layout) -> bool {
        layout.fault.is_some() || is_wanted_in(&self.response[layout.properties.clone()], self.reading.tags)
    }

    /// The body as its producer sent it; if that cannot be had, the bytes as they came and the reason.
    fn body(&mut self, layout: &Layout) -> Result<Body, StoredError> {
        let bytes = self.response.slice(layout.body.clone());
        let corrupted = layout.fault.map(malformed).or_else(|| self.digest_fault(layout, &bytes));
        if layout.sys_flag & flag::COMPRESSED == 0 || bytes.is_empty() || corrupted.is_some() {
            return Ok(Body { bytes, is_own: false, corrupted });
        }
        match body::decompress(&bytes, self.allowance) {
            Ok(bytes) => {
                self.allowance -= bytes.len();
                Ok(Body { bytes, is_own: true, corrupted: None })
            }
            Err(BodyError::TooLarge { .. }) if self.allowance < self.reading.max_decompressed_size => {
                Err(self.too_much(layout))
            }
            Err(error) => {
                let corrupted = Corruption::Decompression { reason: error.to_string().into() };
                Ok(Body { bytes, is_own: false, corrupted: Some(corrupted) })
            }
        }
    }

    fn digest_fault(&self, layout: &Layout, carried: &[u8]) -> Option<Corruption> {
        // The broker clears the sign bit.
        let actual = self.reading.check_digest.then(|| crc32fast::hash(carried) & 0x7FFF_FFFF)?;
        (actual != layout.body_crc).then(|| Corruption::Digest {
            expected: format!("{:X}", layout.body_crc).into(),
            actual: format!("{actual:X}").into(),
        })
    }

    fn too_much(&self, layout: &Layout) -> StoredError {
        StoredError::TooMuch { at: layout.start, bound: self.reading.max_decompressed_size }
    }

    /// What nobody asked for is held with the rest: the last message bears it, so that the weights add up.
    fn finish(mut self) -> Chunk {
        let unpacked: usize = self.unpacked.iter().map(Bytes::len).sum();
        let borne: usize = self.records.iter().map(|record| record.held as usize).sum();
        let spare = (self.response.len() + unpacked + self.own).saturating_sub(borne);
        if let Some(last) = self.records.last_mut() {
            last.held = last.held.saturating_add(u32::try_from(spare).unwrap_or(u32::MAX));
        }
        let sources = Sources { response: self.response.clone(), unpacked: self.unpacked };
        Chunk { sources, queue: self.reading.queue.clone(), records: self.records }
    }
}

fn record(layout: &Layout, offset: Offset, body: Bytes, held: usize, corrupted: Option<Corruption>) -> Record {
    Record {
        body,
        queue_offset: offset,
        born_ms: layout.born_ms,
        store_ms: layout.store_ms,
        log_offset: layout.log_offset,
        held: u32::try_from(held).unwrap_or(u32::MAX),
        source: Source::default(),
        properties: Span::new(layout.properties.clone()),
        born_host: Span::new(layout.born_host.clone()),
        store_host: Span::new(layout.store_host.clone()),
        delivery_attempt: layout.reconsume_times.max(0).unsigned_abs() + 1,
        corrupted: corrupted.map(Box::new),
        made: Made::default(),
    }
}

fn malformed(reason: &str) -> Corruption {
    Corruption::Malformed { reason: reason.into() }
}

fn fault_of(properties: &[u8]) -> Option<Corruption> {
    let is_text = properties.is_ascii() || std::str::from_utf8(properties).is_ok();
    (!is_text).then(|| malformed("its properties are not UTF-8"))
}

fn is_wanted_in(properties: &[u8], tags: &[&str]) -> bool {
    tags.is_empty() || fault_of(properties).is_some() || is_wanted(RawProperties::new(properties).get("TAGS"), tags)
}
