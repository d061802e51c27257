//! The messages of a batch that travels or is stored as one message. The body of a batched send has the same layout.

use std::ops::Range;

/// Size, magic, checksum, flag and two lengths.
const SHORTEST: usize = 4 * 5 + 2;

/// One message of a batch: where its parts lie in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) whole: Range<usize>,
    /// The user's flag.
    pub(crate) flag: i32,
    pub(crate) body: Range<usize>,
    pub(crate) properties: Range<usize>,
}

impl Entry {
    /// The same, in what the batch is a part of.
    pub(super) fn shifted(&self, by: usize) -> Self {
        let shift = |range: &Range<usize>| range.start + by..range.end + by;
        Self {
            whole: shift(&self.whole),
            flag: self.flag,
            body: shift(&self.body),
            properties: shift(&self.properties),
        }
    }
}

/// The messages of a batch. An error says what is wrong with the one that ends it.
pub(crate) fn entries(batch: &[u8]) -> impl Iterator<Item = Result<Entry, &'static str>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = batch.get(at..).filter(|rest| !rest.is_empty())?;
        let entry = read(rest, at);
        // An error is the last one.
        at = entry.as_ref().map_or(batch.len(), |entry| entry.whole.end);
        Some(entry)
    })
}

/// How many there are, when all of them can be read.
pub(super) fn count(batch: &[u8]) -> Result<usize, &'static str> {
    entries(batch).try_fold(0, |count, entry| entry.map(|_| count + 1))
}

fn read(rest: &[u8], at: usize) -> Result<Entry, &'static str> {
    let number = |at: usize| rest.get(at..).and_then(|rest| rest.first_chunk()).map(|bytes| i32::from_be_bytes(*bytes));
    let size =
        number(0).and_then(|size| usize::try_from(size).ok()).filter(|size| (SHORTEST..=rest.len()).contains(size));
    let size = size.ok_or("a message of its batch has an impossible size")?;
    let body_len = number(16).and_then(|len| usize::try_from(len).ok()).ok_or("a body of its batch has no length")?;
    // Behind the body comes the length of the properties.
    let body_end = 20usize.checked_add(body_len).filter(|end| *end <= size - 2);
    let body_end = body_end.ok_or("a body of its batch is longer than its message")?;
    let len = rest[body_end..].first_chunk().map_or(0, |len| i16::from_be_bytes(*len));
    let properties_end = body_end + 2 + usize::try_from(len).unwrap_or(0);
    if properties_end > size {
        return Err("the properties of a message of its batch are longer than it");
    }
    Ok(Entry {
        whole: at..at + size,
        flag: number(12).unwrap_or(0),
        body: at + 20..at + body_end,
        properties: at + body_end + 2..at + properties_end,
    })
}
