//! How a body was carried. The body that users see is decoded already.

use std::fmt;

/// A digest of a body as it was carried: of the compressed bytes, if it was compressed.
///
/// It is what the wire says, checked or not: see `check_digest` of the builders of consumers. Apache's
/// proxy sends an MD5 of every message that is received; a pulled message has the CRC32 that its broker stored, without the
/// highest bit.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BodyDigest {
    algorithm: DigestAlgorithm,
    checksum: Checksum,
}

/// The algorithm of a [`BodyDigest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DigestAlgorithm {
    /// CRC32 (IEEE).
    Crc32,
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// One that this crate does not know; such a digest is never checked.
    Unknown,
}

/// How a body was carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BodyEncoding {
    /// As its producer gave it.
    #[default]
    Identity,
    /// Compressed, by gzip, zlib, lz4 or zstd: the wire does not say by which, the bytes do.
    Compressed,
    /// By an encoding that this crate does not know: [`Message::corrupted`](crate::Message::corrupted) is set, and the body
    /// holds the bytes as they came.
    Unknown,
}

/// A text that is short: that of a message must not cost an allocation.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Checksum {
    /// ASCII, as many bytes as the number says.
    Short(u8, [u8; Self::SHORT]),
    Long(Box<str>),
}

impl BodyDigest {
    pub(crate) fn new(algorithm: DigestAlgorithm, checksum: &str) -> Self {
        Self { algorithm, checksum: Checksum::new(checksum) }
    }

    /// A CRC32 as upper-case hex without leading zeros.
    pub(crate) fn crc32(crc: u32) -> Self {
        Self::new(DigestAlgorithm::Crc32, &format!("{crc:X}"))
    }

    /// By what it was made.
    #[must_use]
    pub fn algorithm(&self) -> DigestAlgorithm {
        self.algorithm
    }

    /// Hex, in upper case from Apache's servers. Some clients write leading zeros of a CRC32, some do not.
    #[must_use]
    pub fn checksum(&self) -> &str {
        self.checksum.as_str()
    }
}

impl Checksum {
    /// The length of a SHA-1, which is the longest one.
    const SHORT: usize = 40;

    fn new(text: &str) -> Self {
        let mut short = [0; Self::SHORT];
        match (text.is_ascii(), short.get_mut(..text.len()), u8::try_from(text.len())) {
            (true, Some(place), Ok(len)) => {
                place.copy_from_slice(text.as_bytes());
                Self::Short(len, short)
            }
            _ => Self::Long(text.into()),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Short(len, bytes) => std::str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or_default(),
            Self::Long(text) => text,
        }
    }
}

impl fmt::Debug for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({})", self.algorithm, self.checksum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_says_what_it_was_made_of_whatever_its_length() {
        let sha1 = "A9993E364706816ABA3E25717850C26C9CD0D89D";
        let too_long = sha1.repeat(8);
        for text in ["", "1F", sha1, &too_long, "é", &"x".repeat(41)] {
            let digest = BodyDigest::new(DigestAlgorithm::Sha1, text);
            assert_eq!((digest.checksum(), digest.algorithm()), (text, DigestAlgorithm::Sha1));
            assert_eq!(digest, digest.clone());
        }
        assert_ne!(BodyDigest::new(DigestAlgorithm::Md5, "1F"), BodyDigest::new(DigestAlgorithm::Sha1, "1F"));
        assert_eq!(format!("{:?}", BodyDigest::crc32(0x1F)), "Crc32(1F)");
    }
}
