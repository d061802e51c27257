use std::fmt;

use crate::model::Offset;

/// Why the body of a pull response cannot be read on. `at` is the place in it, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoredError {
    /// A stored message says that it is longer than what is left.
    Truncated { at: usize, needed: usize, left: usize },
    /// A stored message says that it is shorter than its fixed fields.
    Size { at: usize, size: i32 },
    /// It is neither of the layouts this version knows.
    Magic { at: usize, magic: u32 },
    /// A stored offset that is none, perhaps only with the delta of its static topic.
    Offset { at: usize, stored: i64 },
    /// A message that lies before the one before it.
    Order { at: usize, offset: Offset, before: Offset },
    /// What is decompressed is as much as one response may hold.
    TooMuch { at: usize, bound: usize },
    /// More bytes than a chunk can have.
    TooLarge { size: usize },
}

impl fmt::Display for StoredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stored messages cannot be read: ")?;
        match self {
            Self::Truncated { at, needed, left } => {
                write!(f, "the one at byte {at} has {needed} bytes, and {left} are left")
            }
            Self::Size { at, size } => write!(f, "the one at byte {at} cannot be {size} bytes long"),
            Self::Magic { at, magic } => {
                write!(f, "the one at byte {at} has the magic {magic:#010X}, which is no layout this version knows")
            }
            Self::Offset { at, stored } => write!(f, "the one at byte {at} has the impossible offset {stored}"),
            Self::Order { at, offset, before } => {
                write!(f, "the one at byte {at} has offset {offset}, and the one before it ended at {before}")
            }
            Self::TooMuch { at, bound } => write!(
                f,
                "with the one at byte {at} they are larger than {bound} bytes when decompressed; raise \
                 Limits::max_decompressed_size"
            ),
            Self::TooLarge { size } => write!(f, "{size} bytes are more than 4 GiB"),
        }
    }
}

impl std::error::Error for StoredError {}
