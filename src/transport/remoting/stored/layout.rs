//! Where the fields of one stored message lie.

use std::ops::Range;

use crate::transport::remoting::stored::{StoredError, flag};

/// Layouts by their magic: the second has topic names of more than 127 bytes.
pub(super) const MAGIC_V1: u32 = 0xDAA3_20A7;
pub(super) const MAGIC_V2: u32 = 0xDAA3_20AB;
/// Nothing follows in this file of the commit log.
pub(super) const MAGIC_BLANK: u32 = 0xCBD4_3194;

/// Up to the host of the producer, which is the first field whose length varies.
const HEAD: usize = 48;
/// Reconsume times, offset of the prepared message, length of the body.
const TAIL: usize = 4 + 8 + 4;
/// A message with hosts of IPv4, and without body, topic and properties.
pub(super) const SHORTEST: usize = HEAD + 8 + 8 + 8 + TAIL + 1 + 2;

/// One stored message: numbers, and where in it the rest lies.
#[derive(Debug)]
pub(super) struct Layout {
    /// Its place in the response.
    pub(super) start: usize,
    pub(super) size: usize,
    pub(super) body_crc: u32,
    pub(super) queue_offset: i64,
    pub(super) log_offset: i64,
    pub(super) sys_flag: i32,
    pub(super) born_ms: i64,
    pub(super) store_ms: i64,
    pub(super) reconsume_times: i32,
    /// In the response, as what follows.
    pub(super) born_host: Range<usize>,
    pub(super) store_host: Range<usize>,
    pub(super) body: Range<usize>,
    pub(super) properties: Range<usize>,
    /// What does not fit into it. Then what comes behind that is empty.
    pub(super) fault: Option<&'static str>,
}

impl Layout {
    /// Whether its body is as its producer sent it.
    pub(super) fn is_plain(&self) -> bool {
        !self.is_compressed() && self.fault.is_none()
    }

    pub(super) fn is_compressed(&self) -> bool {
        has(self.sys_flag, flag::COMPRESSED)
    }

    /// Whether it is a batch that the client takes apart, if it can be.
    pub(super) fn is_batch(&self) -> bool {
        has(self.sys_flag, flag::INNER_BATCH) && has(self.sys_flag, flag::NEED_UNWRAP)
    }
}

/// What comes next in a response.
pub(super) enum Next {
    /// Nothing: fewer bytes are left than a size has.
    End,
    /// The rest of a file, without messages.
    Blank {
        size: usize,
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
#[inline]
pub(super) fn next(response: &[u8], at: usize) -> Result<Next, StoredError> {
    let rest = response.get(at..).unwrap_or_default();
    let Some((size, behind)) = rest.split_first_chunk() else { return Ok(Next::End) };
    let size = i32::from_be_bytes(*size);
    let wrong_size = StoredError::Size { at, size };
    let needed = usize::try_from(size).map_err(|_| wrong_size.clone())?;
    let truncated = StoredError::Truncated { at, needed, left: rest.len() };
    match behind.first_chunk().map(|magic| u32::from_be_bytes(*magic)) {
        Some(magic @ (MAGIC_V1 | MAGIC_V2)) if needed >= SHORTEST => {
            let record = rest.get(..needed).ok_or(truncated)?;
            Layout::read(record, at, magic).map(Next::Record).ok_or(wrong_size)
        }
        // The blank itself may have been cut off.
        Some(MAGIC_BLANK) if needed >= 8 => Ok(Next::Blank { size: needed }),
        Some(MAGIC_V1 | MAGIC_V2 | MAGIC_BLANK) => Err(wrong_size),
        Some(magic) => Err(StoredError::Magic { at, magic }),
        None if needed < 8 => Err(wrong_size),
        None => Err(truncated),
    }
}

impl Layout {
    /// `record` is one whole stored message, and `start` its place in the response. `None` when its hosts of IPv6 leave no room
    /// for what follows them.
    #[inline]
    fn read(record: &[u8], start: usize, magic: u32) -> Option<Self> {
        let head = record.first_chunk::<HEAD>()?;
        let sys_flag = i32::from_be_bytes(field(head, 36));
        let born_end = HEAD + host_len(has(sys_flag, flag::BORN_HOST_V6));
        let store_ms = i64::from_be_bytes(*record.get(born_end..)?.first_chunk()?);
        let store_end = born_end + 8 + host_len(has(sys_flag, flag::STORE_HOST_V6));
        let tail = record.get(store_end..)?.first_chunk::<TAIL>()?;
        let mut layout = Self {
            start,
            size: record.len(),
            body_crc: u32::from_be_bytes(field(head, 8)),
            queue_offset: i64::from_be_bytes(field(head, 20)),
            log_offset: i64::from_be_bytes(field(head, 28)),
            sys_flag,
            born_ms: i64::from_be_bytes(field(head, 40)),
            store_ms,
            reconsume_times: i32::from_be_bytes(field(tail, 0)),
            born_host: start + HEAD..start + born_end,
            store_host: start + born_end + 8..start + store_end,
            body: 0..0,
            properties: 0..0,
            fault: None,
        };
        layout.fault = layout.rest(record, store_end + TAIL, i32::from_be_bytes(field(tail, 12)), magic).err();
        Some(layout)
    }

    /// Body, topic and properties, each with its length before it. The topic is the one that was asked for.
    #[inline]
    fn rest(&mut self, record: &[u8], at: usize, body_len: i32, magic: u32) -> Result<(), &'static str> {
        let start = self.start;
        let body_len = usize::try_from(body_len).map_err(|_| "the length of its body is negative")?;
        let Some((body, behind)) = record.get(at..).and_then(|rest| rest.split_at_checked(body_len)) else {
            self.body = start + at..start + record.len();
            return Err("its body is longer than itself");
        };
        let at = at + body.len();
        self.body = start + at - body.len()..start + at;
        let (topic_len, prefix) = match magic {
            MAGIC_V2 => (behind.first_chunk().map(|len| usize::from(u16::from_be_bytes(*len))), 2),
            _ => (behind.first().map(|len| usize::from(*len)), 1),
        };
        let topic_end = prefix + topic_len.ok_or("its topic has no length")?;
        let behind = behind.get(topic_end..).ok_or("its topic is longer than itself")?;
        let (len, behind) = behind.split_first_chunk().ok_or("its properties have no length")?;
        // A negative length is none, as in Java.
        let len = usize::try_from(i16::from_be_bytes(*len)).unwrap_or(0);
        if len > behind.len() {
            return Err("its properties are longer than itself");
        }
        let properties = start + at + topic_end + 2;
        self.properties = properties..properties + len;
        Ok(())
    }
}

const fn has(sys_flag: i32, bit: i32) -> bool {
    sys_flag & bit != 0
}

/// An address and a port.
const fn host_len(is_v6: bool) -> usize {
    if is_v6 { 20 } else { 8 }
}

/// The field at a place that is known when this is compiled.
#[inline(always)]
fn field<const ALL: usize, const LEN: usize>(all: &[u8; ALL], at: usize) -> [u8; LEN] {
    let mut field = [0; LEN];
    field.copy_from_slice(&all[at..at + LEN]);
    field
}
