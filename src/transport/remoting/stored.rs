//! Stored messages: what the body of a pull response is made of, one after the other (protocol.md E.7). Both ends use it: the
//! wire decodes, the embedded broker encodes.
//!
//! The messages of a response share its bytes. Decoding finds out where they lie and allocates once per response; bodies
//! are copied only when they are decompressed, properties are looked up where they lie when they are asked for.
//!
//! Nothing that comes in is trusted: no bytes make it panic or loop, and what it allocates is bounded by what it read and
//! by [`Reading::max_decompressed_size`].

#[allow(dead_code, reason = "the end of the embedded broker, which is a feature")]
mod encode;
mod error;
#[cfg(test)]
mod hostile_tests;
mod inner;
mod layout;
mod tag;
#[cfg(test)]
mod tests;

use bytes::Bytes;

#[allow(unused_imports, reason = "the end of the embedded broker, which is a feature")]
pub(crate) use encode::{EncodeError, Storing, encode, encode_entry, join_properties};
pub(crate) use error::StoredError;
pub(crate) use inner::{Entry, entries};
#[allow(unused_imports, reason = "the broker filters by it, and heartbeats tell it")]
pub(crate) use tag::is_wanted;

use crate::model::{Chunk, Corruption, Message, MessageQueue, Offset, RawProperties, Record, Source, Span};
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
    Ok(Decoded { messages: decoding.chunk.into_messages(), resume_at })
}

struct Decoding<'a> {
    reading: &'a Reading<'a>,
    response: &'a [u8],
    chunk: Chunk,
    /// How much more may be decompressed.
    allowance: usize,
    /// The first offset that was not read.
    next: Offset,
}

/// What became of a body.
enum Unpacked {
    /// It was not compressed.
    AsCarried,
    Own(Bytes),
    Faulty(Corruption),
}

/// Why a batch was not split.
enum Unsplit {
    Stop(StoredError),
    /// It is to be delivered as one message.
    Whole(Corruption),
}

impl From<StoredError> for Unsplit {
    fn from(error: StoredError) -> Self {
        Self::Stop(error)
    }
}

impl<'a> Decoding<'a> {
    fn new(response: &'a Bytes, reading: &'a Reading<'a>) -> Result<Self, StoredError> {
        if u32::try_from(response.len()).is_err() {
            return Err(StoredError::TooLarge { size: response.len() });
        }
        let chunk = Chunk::new(reading.queue.clone(), response.clone(), layout::likely_count(response));
        Ok(Self { reading, response, chunk, allowance: reading.max_decompressed_size, next: Offset::new(0) })
    }

    fn run(&mut self) -> Result<(), StoredError> {
        let mut at = 0;
        loop {
            match layout::next(self.response, at)? {
                Next::End => return Ok(()),
                Next::Blank { size } => at = at.saturating_add(size),
                Next::Record(layout) => {
                    self.take(&layout)?;
                    at += layout.size;
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
            let mut record = record(layout, offset);
            let is_plain = layout.is_plain() && !self.reading.check_digest;
            let fault = if is_plain { None } else { self.read_body(layout, &mut record)? };
            self.chunk.push(record);
            if let Some(fault) = fault.or_else(|| fault_of(&self.response[layout.properties.clone()])) {
                self.chunk.corrupt(fault);
            }
        }
        self.read_up_to(offset);
        Ok(())
    }

    fn read_body(&mut self, layout: &Layout, record: &mut Record) -> Result<Option<Corruption>, StoredError> {
        match self.unpack(layout)? {
            Unpacked::AsCarried => Ok(None),
            Unpacked::Faulty(fault) => Ok(Some(fault)),
            Unpacked::Own(body) => {
                record.body = Span::new(0..body.len());
                record.held = held(layout.size + body.len());
                record.body_in = self.chunk.add_source(body);
                Ok(None)
            }
        }
    }

    /// A batch that was stored as one, which only topics with `queue.type=BatchCQ` have.
    fn take_batch(&mut self, layout: &Layout, base: Offset) -> Result<(), StoredError> {
        let allowed_before = self.allowance;
        match self.split(layout) {
            Ok(()) => {}
            Err(Unsplit::Stop(error)) => return Err(error),
            Err(Unsplit::Whole(fault)) => {
                self.allowance = allowed_before;
                // It lies where the first of its messages that was asked for would.
                let offset = base.max(self.reading.from);
                self.chunk.push(record(layout, offset));
                self.chunk.corrupt(fault);
                self.read_up_to(offset);
            }
        }
        Ok(())
    }

    fn split(&mut self, layout: &Layout) -> Result<(), Unsplit> {
        let allowed_before = self.allowance;
        let (batch, is_own) = match self.unpack(layout)? {
            Unpacked::AsCarried => (self.chunk.response().slice(layout.body.clone()), false),
            Unpacked::Own(batch) => (batch, true),
            Unpacked::Faulty(fault) => return Err(Unsplit::Whole(fault)),
        };
        let count = inner::count(&batch).map_err(|fault| Unsplit::Whole(malformed(fault)))?;
        let needed = count.saturating_mul(size_of::<Record>() + size_of::<Bytes>() + size_of::<Message>());
        match self.allowance.checked_sub(needed) {
            Some(rest) => self.allowance = rest,
            None if allowed_before < self.reading.max_decompressed_size => return Err(self.too_much(layout).into()),
            None => return Err(Unsplit::Whole(malformed("its batch has more messages than the memory for it allows"))),
        }
        let before = self.chunk.len();
        let (source, shift) = match is_own {
            true => (self.chunk.add_source(batch.clone()), 0),
            false => (Source::Response, layout.body.start),
        };
        for (index, entry) in entries(&batch).map_while(Result::ok).enumerate() {
            self.take_entry(layout, index, entry.shifted(shift), &batch[entry.properties.clone()], source)?;
        }
        if self.chunk.len() == before {
            // All of it lies before what was asked for: it takes nothing from those that follow.
            self.allowance = allowed_before;
            self.chunk.remove_source(source);
        }
        Ok(())
    }

    /// One message of a batch; `entry` says where it lies in `source`.
    fn take_entry(
        &mut self,
        layout: &Layout,
        index: usize,
        entry: Entry,
        properties: &[u8],
        source: Source,
    ) -> Result<(), StoredError> {
        let offset = self.offset(layout, index)?;
        if offset >= self.reading.from && is_wanted_in(properties, self.reading.tags) {
            self.chunk.push(Record {
                is_of_batch: true,
                held: held(entry.whole.len()),
                body_in: source,
                body: Span::new(entry.body),
                properties_in: source,
                properties: Span::new(entry.properties),
                ..record(layout, offset)
            });
            if let Some(fault) = fault_of(properties) {
                self.chunk.corrupt(fault);
            }
        }
        self.read_up_to(offset);
        Ok(())
    }

    /// The position of the message that is `index` behind the beginning of a record.
    #[inline]
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

    /// The body as its producer sent it; if that cannot be had, the reason, and it stays as it came.
    fn unpack(&mut self, layout: &Layout) -> Result<Unpacked, StoredError> {
        let carried = &self.response[layout.body.clone()];
        if let Some(fault) = layout.fault {
            return Ok(Unpacked::Faulty(malformed(fault)));
        }
        if let Some(fault) = self.reading.check_digest.then(|| digest_fault(layout.body_crc, carried)).flatten() {
            return Ok(Unpacked::Faulty(fault));
        }
        if layout.is_plain() || carried.is_empty() {
            return Ok(Unpacked::AsCarried);
        }
        match body::decompress(carried, self.allowance) {
            Ok(body) => {
                self.allowance -= body.len();
                Ok(Unpacked::Own(body))
            }
            Err(BodyError::TooLarge { .. }) if self.allowance < self.reading.max_decompressed_size => {
                Err(self.too_much(layout))
            }
            Err(error) => Ok(Unpacked::Faulty(Corruption::Decompression { reason: error.to_string().into() })),
        }
    }

    fn too_much(&self, layout: &Layout) -> StoredError {
        StoredError::TooMuch { at: layout.start, bound: self.reading.max_decompressed_size }
    }
}

/// A message as it came.
#[inline]
fn record(layout: &Layout, offset: Offset) -> Record {
    Record {
        queue_offset: offset,
        born_ms: layout.born_ms,
        store_ms: layout.store_ms,
        log_offset: layout.log_offset,
        delivery_attempt: layout.reconsume_times.max(0).unsigned_abs() + 1,
        body_crc: layout.body_crc,
        is_compressed: layout.is_compressed(),
        is_of_batch: false,
        held: held(layout.size),
        body_in: Source::Response,
        body: Span::new(layout.body.clone()),
        properties_in: Source::Response,
        properties: Span::new(layout.properties.clone()),
        born_host: Span::new(layout.born_host.clone()),
        store_host: Span::new(layout.store_host.clone()),
    }
}

fn held(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn digest_fault(expected: u32, carried: &[u8]) -> Option<Corruption> {
    // The broker clears the sign bit.
    let actual = crc32fast::hash(carried) & 0x7FFF_FFFF;
    let hex = |digest: u32| format!("{digest:X}").into_boxed_str();
    (actual != expected).then(|| Corruption::Digest { expected: hex(expected), actual: hex(actual) })
}

#[cold]
fn malformed(reason: &str) -> Corruption {
    Corruption::Malformed { reason: reason.into() }
}

#[inline]
fn fault_of(properties: &[u8]) -> Option<Corruption> {
    let is_text = is_ascii(properties) || std::str::from_utf8(properties).is_ok();
    (!is_text).then(|| malformed("its properties are not UTF-8"))
}

/// As the standard library's, but without its loop over the last bytes, which is half of its time on texts of this length.
#[inline]
fn is_ascii(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    let seen = words.iter().fold(0, |seen, word| seen | u64::from_ne_bytes(*word));
    let last = match text.last_chunk::<8>() {
        Some(last) => u64::from_ne_bytes(*last),
        None => rest.iter().fold(0, |seen, byte| seen | u64::from(*byte)),
    };
    (seen | last) & 0x8080_8080_8080_8080 == 0
}

/// One whose tag cannot be read is wanted: it must not vanish.
fn is_wanted_in(properties: &[u8], tags: &[&str]) -> bool {
    if tags.is_empty() {
        return true;
    }
    let tag = RawProperties::new(properties).get("TAGS");
    is_wanted(tag, tags) || tag.is_none() && fault_of(properties).is_some()
}
