//! Where the fields of one stored message lie.

use std::ops::Range;

use crate::transport::remoting::stored::{StoredError, flag};

/// Layouts by their magic: the second has topic names of more than 127 bytes.
pub(super) const MAGIC_V1: u32 = 0xDAA3_20A7;
pub(super) const MAGIC_V2: u32 = 0xDAA3_20AB;
/// Nothing follows in this file of the commit log.
pub(super) const MAGIC_BLANK: u32 = 0xCBD4_3194;

/// All fields but body, topic and properties, with hosts of IPv4.
const SHORTEST: usize = 4 * 5 + 8 * 2 + 4 + (8 + 8) * 2 + 4 + 8 + 4 + 1 + 2;

/// One stored message: numbers, and where in the response the rest lies.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) body_crc: u32,
    pub(super) queue_offset: i64,
    pub(super) log_offset: i64,
    pub(super) sys_flag: i32,
    pub(super) born_ms: i64,
    pub(super) born_host: Range<usize>,
    pub(super) store_ms: i64,
    pub(super) store_host: Range<usize>,
    pub(super) reconsume_times: i32,
    pub(super) body: Range<usize>,
    pub(super) properties: Range<usize>,
    /// What does not fit into it. Then what comes behind that is empty.
    pub(super) fault: Option<&'static str>,
}

impl Layout {
    pub(super) fn size(&self) -> usize {
        self.end - self.start
    }

    /// Whether it is a batch that the client takes apart.
    pub(super) fn is_batch(&self) -> bool {
        let both = flag::INNER_BATCH | flag::NEED_UNWRAP;
        self.sys_flag & both == both && self.fault.is_none()
    }
}

/// What comes next in a response.
pub(super) enum Next {
    /// Nothing: fewer bytes are left than a size has.
    End,
    /// The rest of a file, without messages.
    Blank {
        after: usize,
    },
    Record(Layout),
}

/// How many messages there may be, if all are like the first. Not more than a broker gives by default and a bit: it is a guess.
pub(super) fn likely_count(response: &[u8]) -> usize {
    let first = response.first_chunk().map_or(0, |size| i32::from_be_bytes(*size));
    let first = usize::try_from(first).unwrap_or(0).max(SHORTEST);
    (response.len() / first).clamp(1, 64)
}

/// Reads what stands at `at`.
pub(super) fn next(response: &[u8], at: usize) -> Result<Next, StoredError> {
    let rest = response.get(at..).unwrap_or_default();
    let Some((size, _)) = rest.split_first_chunk() else { return Ok(Next::End) };
    let size = i32::from_be_bytes(*size);
    let magic = rest.get(4..).and_then(|rest| rest.first_chunk()).map(|magic| u32::from_be_bytes(*magic));
    let needed = usize::try_from(size).map_err(|_| StoredError::Size { at, size })?;
    let truncated = StoredError::Truncated { at, needed, left: rest.len() };
    match magic {
        // The blank itself may have been cut off.
        Some(MAGIC_BLANK) if needed >= 8 => Ok(Next::Blank { after: at.saturating_add(needed) }),
        Some(magic @ (MAGIC_V1 | MAGIC_V2)) if needed >= SHORTEST => {
            let record = rest.get(..needed).ok_or(truncated)?;
            Layout::read(record, at, magic).map(Next::Record)
        }
        Some(MAGIC_BLANK | MAGIC_V1 | MAGIC_V2) => Err(StoredError::Size { at, size }),
        Some(magic) => Err(StoredError::Magic { at, magic }),
        None if needed < 8 => Err(StoredError::Size { at, size }),
        None => Err(truncated),
    }
}

/// Fields one after the other.
struct Fields<'a> {
    record: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let field = self.record.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(*field)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }

    /// The next `len` bytes, as a range of the whole response.
    fn range(&mut self, len: usize, shift: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.record.len())?;
        let range = self.at + shift..end + shift;
        self.at = end;
        Some(range)
    }

    /// An address and a port.
    fn host(&mut self, is_v6: bool, shift: usize) -> Option<Range<usize>> {
        self.range(if is_v6 { 20 } else { 8 }, shift)
    }
}

impl Layout {
    /// `record` is one whole stored message, and `start` its place in the response.
    fn read(record: &[u8], start: usize, magic: u32) -> Result<Self, StoredError> {
        let mut fields = Fields { record, at: 8 };
        let size = i32::try_from(record.len()).unwrap_or(i32::MAX);
        let mut layout = Self::fixed(&mut fields, start).ok_or(StoredError::Size { at: start, size })?;
        layout.fault = layout.rest(&mut fields, magic).err();
        Ok(layout)
    }

    /// The fields of fixed size. `None` when they are not all there.
    fn fixed(fields: &mut Fields<'_>, start: usize) -> Option<Self> {
        let body_crc = fields.take().map(u32::from_be_bytes)?;
        let (_queue_id, _user_flag) = (fields.i32()?, fields.i32()?);
        let (queue_offset, log_offset) = (fields.i64()?, fields.i64()?);
        let sys_flag = fields.i32()?;
        let born_ms = fields.i64()?;
        let born_host = fields.host(sys_flag & flag::BORN_HOST_V6 != 0, start)?;
        let store_ms = fields.i64()?;
        let store_host = fields.host(sys_flag & flag::STORE_HOST_V6 != 0, start)?;
        let reconsume_times = fields.i32()?;
        let _prepared_offset = fields.i64()?;
        Some(Self {
            start,
            end: start + fields.record.len(),
            body_crc,
            queue_offset,
            log_offset,
            sys_flag,
            born_ms,
            born_host,
            store_ms,
            store_host,
            reconsume_times,
            body: 0..0,
            properties: 0..0,
            fault: None,
        })
    }

    /// Body, topic and properties, each with its length before it. The topic is the one that was asked for.
    fn rest(&mut self, fields: &mut Fields<'_>, magic: u32) -> Result<(), &'static str> {
        let body_len = fields.i32().and_then(|len| usize::try_from(len).ok()).ok_or("its body has no length")?;
        match fields.range(body_len, self.start) {
            Some(body) => self.body = body,
            None => {
                self.body = self.start + fields.at..self.end;
                return Err("its body is longer than itself");
            }
        }
        let topic_len = match magic {
            MAGIC_V2 => fields.take().map(u16::from_be_bytes),
            _ => fields.take::<1>().map(|[len]| u16::from(len)),
        };
        let topic = topic_len.and_then(|len| fields.range(usize::from(len), self.start));
        topic.ok_or("its topic is longer than itself")?;
        // A negative length is none, as in Java.
        let len = fields.take().map(i16::from_be_bytes).ok_or("its properties have no length")?;
        let len = usize::try_from(len).unwrap_or(0);
        self.properties = fields.range(len, self.start).ok_or("its properties are longer than itself")?;
        Ok(())
    }
}
