//! Frames (protocol.md E.2): a length, a word for the header, the header, the body. All integers are big endian.
//!
//! A peer that claims a long frame gets little memory for the claim: room grows with what has come, or what came before.

use std::fmt;

use bytes::{Bytes, BytesMut};

/// What Apache's servers accept, and write: the whole frame with its length field
/// (`com.rocketmq.remoting.frameMaxLength`).
pub(crate) const MAX_FRAME: usize = 16 << 20;
/// The length and the word for the header.
pub(crate) const PREFIX: usize = 8;
/// What is read at once. Frames that fit are copied out of it, so that a small body that is kept holds on to no block.
const BLOCK: usize = 4 << 10;
/// The room that a first claim is worth. Later ones are worth as much as the longest frame that has come, up to
/// [`MOST_TRUST`]: whoever pulls large batches gets each of them into its place at once.
const TRUST: usize = 64 << 10;
const MOST_TRUST: usize = 1 << 20;

/// How a header is written: the top byte of its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum HeaderForm {
    #[default]
    Json,
    /// "ROCKETMQ": binary, codes of 16 bits.
    Binary,
}

/// A frame that was cut out. The body shares the frame's one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) form: HeaderForm,
    pub(crate) header: Bytes,
    pub(crate) body: Bytes,
}

/// Why the bytes of a peer are no frame. There is no way to find the next one: the connection is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FrameError {
    TooLong {
        length: u64,
    },
    TooShort {
        length: u64,
    },
    HeaderTooLong {
        header: usize,
        length: usize,
    },
    UnknownForm(u8),
    /// It speaks TLS, and we do not.
    Tls,
    /// It answers in HTTP.
    Http,
    /// It hung up within a frame.
    Truncated {
        have: usize,
        need: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length } => {
                write!(
                    f,
                    "a frame of {length} bytes; at most {MAX_FRAME} are allowed: is this the remoting port of a name server, broker or proxy?"
                )
            }
            Self::TooShort { length } => write!(f, "a frame of {length} bytes, which is less than its own prefix"),
            Self::HeaderTooLong { header, length } => {
                write!(f, "a header of {header} bytes in a frame of {length} bytes")
            }
            Self::UnknownForm(form) => write!(f, "a header in an unknown form ({form})"),
            Self::Tls => f.write_str("the server answers with TLS: write `https://host:port` as the name server"),
            Self::Http => {
                f.write_str("the server answers in HTTP: is this the remoting port (9876 for a name server)?")
            }
            Self::Truncated { have, need } => {
                write!(f, "the connection ended within a frame, after {have} of at least {need} bytes")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// Collects bytes until a frame is whole. Fill [`room`](Self::room), then take frames with [`next`](Self::next).
#[derive(Debug, Default)]
pub(crate) struct Intake {
    /// A block with the beginnings of frames; or the one long frame that is under way.
    bytes: BytesMut,
    is_long: bool,
    /// The longest frame that has come.
    longest: usize,
}

impl Intake {
    /// What to read into: there is always spare room, for a long frame never beyond its end.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        if self.bytes.capacity() == 0 {
            self.bytes = BytesMut::with_capacity(BLOCK);
        }
        &mut self.bytes
    }

    /// The next whole frame; `None` while more must be read.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(shape) = Shape::read(&self.bytes)? else { return Ok(None) };
        if self.bytes.len() < shape.total {
            self.make_room(shape.total);
            return Ok(None);
        }
        let mut whole = if self.is_long { self.take_long(shape.total) } else { self.copy_short(shape.total) };
        let body = whole.split_off(PREFIX + shape.header);
        Ok(Some(Frame { form: shape.form, header: whole.split_off(PREFIX), body }))
    }

    /// What it means that the peer closes the connection now.
    pub(crate) fn end(&self) -> Result<(), FrameError> {
        let need = Shape::read(&self.bytes)?.map_or(PREFIX, |shape| shape.total);
        if self.bytes.is_empty() { Ok(()) } else { Err(FrameError::Truncated { have: self.bytes.len(), need }) }
    }

    /// A frame that does not fit the block gets a buffer of its own, exactly as long, and is read straight into it.
    /// One of more than the peer is trusted with doubles as it comes.
    fn make_room(&mut self, total: usize) {
        let (have, capacity) = (self.bytes.len(), self.bytes.capacity());
        if total > capacity && (!self.is_long || have == capacity) {
            let mut longer = BytesMut::with_capacity(total.min(self.trust().max(have * 2)));
            longer.extend_from_slice(&self.bytes);
            self.bytes = longer;
            self.is_long = true;
        }
    }

    fn trust(&self) -> usize {
        self.longest.clamp(TRUST, MOST_TRUST)
    }

    fn take_long(&mut self, total: usize) -> Bytes {
        self.longest = self.longest.max(total);
        let whole = self.bytes.split_to(total).freeze();
        // Empty, unless the allocator was generous: the room ended with the frame.
        let mut block = BytesMut::with_capacity(BLOCK.max(self.bytes.len()));
        block.extend_from_slice(&self.bytes);
        self.bytes = block;
        self.is_long = false;
        whole
    }

    /// What is left moves to the front: the block is never shared, so it serves for ever.
    fn copy_short(&mut self, total: usize) -> Bytes {
        let whole = Bytes::copy_from_slice(&self.bytes[..total]);
        let left = self.bytes.len() - total;
        self.bytes.copy_within(total.., 0);
        self.bytes.truncate(left);
        whole
    }
}

/// What the first eight bytes say.
struct Shape {
    total: usize,
    header: usize,
    form: HeaderForm,
}

impl Shape {
    /// `None`: too few bytes to say. What can be told to be wrong is told at once.
    fn read(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        match length {
            b"HTTP" => return Err(FrameError::Http),
            [0x15 | 0x16, 3, ..] => return Err(FrameError::Tls),
            _ => {}
        }
        let length = u64::from(u32::from_be_bytes(*length));
        if length + 4 > MAX_FRAME as u64 {
            return Err(FrameError::TooLong { length });
        }
        if length < 4 {
            return Err(FrameError::TooShort { length });
        }
        let length = length as usize;
        let Some(word) = rest.first_chunk::<4>() else { return Ok(None) };
        let form = match word[0] {
            0 => HeaderForm::Json,
            1 => HeaderForm::Binary,
            other => return Err(FrameError::UnknownForm(other)),
        };
        let header = u32::from_be_bytes([0, word[1], word[2], word[3]]) as usize;
        if header > length - 4 {
            return Err(FrameError::HeaderTooLong { header, length });
        }
        Ok(Some(Self { total: length + 4, header, form }))
    }
}

/// Writes a frame but for its body of `body` bytes, which follows it on the wire without being copied.
///
/// # Errors
/// `TooLong` when nobody would read it.
pub(crate) fn write_head(
    form: HeaderForm,
    body: usize,
    out: &mut BytesMut,
    write_header: impl FnOnce(&mut BytesMut),
) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    write_header(out);
    let header = out.len() - start - PREFIX;
    let length = 4 + header + body;
    if length + 4 > MAX_FRAME {
        out.truncate(start);
        return Err(FrameError::TooLong { length: length as u64 });
    }
    // Both fit: MAX_FRAME is below 2^24 + 1, and so is what was just compared with it.
    out[start..start + 4].copy_from_slice(&(length as u32).to_be_bytes());
    let mut word = (header as u32).to_be_bytes();
    word[0] = u8::from(form == HeaderForm::Binary);
    out[start + 4..start + PREFIX].copy_from_slice(&word);
    Ok(())
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
