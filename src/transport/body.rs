//! Decompressing bodies and checking their digests.
//!
//! Only for bodies that the wire flags as compressed: an identity body may begin with any bytes, also with those of a codec
//! (trap R13).

use std::fmt;
use std::io::{self, Read};

use bytes::Bytes;
use md5::{Digest as _, Md5};
use sha1::Sha1;

use crate::model::DigestAlgorithm;
use crate::transport::auth::upper_hex;

/// Why a body that is flagged as compressed has no decompressed form.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// It begins like none of the codecs in use.
    UnknownCodec { first_bytes: Vec<u8> },
    /// Decompressed, it is larger than allowed.
    TooLarge { bound: usize },
    /// The codec refused it.
    Codec { codec: &'static str, reason: io::Error },
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCodec { first_bytes } => {
                write!(f, "it begins with {first_bytes:02X?}, which is neither gzip, zlib, lz4 nor zstd")
            }
            Self::TooLarge { bound } => {
                write!(f, "it is larger than {bound} bytes when decompressed; raise Limits::max_decompressed_size")
            }
            Self::Codec { codec, reason } => write!(f, "{codec}: {reason}"),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Codec { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// The codecs producers use. The wire's flag says "compressed" and not by what, so the first bytes decide (protocol.md B.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Gzip,
    Zlib,
    Lz4,
    Zstd,
}

impl Codec {
    fn sniff(body: &[u8]) -> Option<Self> {
        match body {
            [0x1F, 0x8B, ..] => Some(Self::Gzip),
            [0x04, 0x22, 0x4D, 0x18, ..] => Some(Self::Lz4),
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(Self::Zstd),
            [0x78, ..] => Some(Self::Zlib),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zlib => "zlib",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Decompresses a body that is flagged as compressed, to at most `bound` bytes.
///
/// It allocates no more than `bound` beside the codec's own window (up to 12 MiB for lz4, the larger of `bound` and
/// [`SMALLEST_WINDOW`] for zstd).
pub(crate) fn decompress(body: &[u8], bound: usize) -> Result<Bytes, BodyError> {
    let codec = Codec::sniff(body)
        .ok_or_else(|| BodyError::UnknownCodec { first_bytes: body.iter().copied().take(4).collect() })?;
    let mut out = Bounded { bytes: Vec::new(), bound };
    let done = match codec {
        Codec::Gzip => out.drain(flate2::read::MultiGzDecoder::new(body)),
        Codec::Zlib => out.drain(flate2::read::ZlibDecoder::new(body)),
        Codec::Lz4 => lz4(body, &mut out),
        Codec::Zstd => zstd(body, &mut out),
    };
    match done {
        Ok(()) => Ok(out.bytes.into()),
        Err(_) if out.is_over() => Err(BodyError::TooLarge { bound }),
        Err(reason) => Err(BodyError::Codec { codec: codec.name(), reason }),
    }
}

/// Collects at most `bound` bytes, and one more to know that it is not enough.
struct Bounded {
    bytes: Vec<u8>,
    bound: usize,
}

impl Bounded {
    /// Reads to the end. Fails when that end lies beyond the bound.
    fn drain(&mut self, mut source: impl Read) -> io::Result<()> {
        let mut chunk = [0; 8 << 10];
        loop {
            // The codecs read from memory, where nothing is interrupted.
            match source.read(&mut chunk)? {
                0 => return Ok(()),
                read => self.take(&chunk[..read])?,
            }
        }
    }

    fn take(&mut self, chunk: &[u8]) -> io::Result<()> {
        let wanted = self.bytes.len() + chunk.len();
        if wanted > self.bytes.capacity() {
            // Doubling would overshoot the bound by up to as much again.
            let target = wanted.max((self.bytes.capacity() * 2).min(self.bound + 1)).min(self.bound + 1);
            self.bytes.reserve_exact(target - self.bytes.len());
        }
        let fits = chunk.len().min(self.bound + 1 - self.bytes.len());
        self.bytes.extend_from_slice(&chunk[..fits]);
        if self.is_over() { Err(io::Error::other("over the bound")) } else { Ok(()) }
    }

    fn is_over(&self) -> bool {
        self.bytes.len() > self.bound
    }
}

/// A body may be several frames one after the other.
fn lz4(mut rest: &[u8], out: &mut Bounded) -> io::Result<()> {
    while !rest.is_empty() {
        // The decoder takes the end of the input for the end of the frame, so where the frame ends is found out first.
        let cut_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "the frame has no end mark: it was cut off");
        let (frame, after) = lz4_frame_len(rest).and_then(|len| rest.split_at_checked(len)).ok_or_else(cut_off)?;
        out.drain(lz4_flex::frame::FrameDecoder::new(frame))?;
        rest = after;
    }
    Ok(())
}

/// The length of the frame at the beginning of `bytes`: its header says which fields it has, each block its own length,
/// and a block of length 0 is the last. `None` when it is not all there.
fn lz4_frame_len(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.get(4)?;
    let optional = |bit: u8, size: usize| if flags & bit == 0 { 0 } else { size };
    let mut at = 7 + optional(0x08, 8) + optional(0x01, 4);
    loop {
        let size: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        // The top bit says "stored as is".
        let size = usize::try_from(u32::from_le_bytes(size) & 0x7FFF_FFFF).ok()?;
        at += 4;
        if size == 0 {
            return Some(at + optional(0x04, 4));
        }
        at = at.checked_add(size + optional(0x10, 4))?;
    }
}

/// Compressors that do not know the size beforehand announce the window of their level: 8 MiB at zstd's level 19.
const SMALLEST_WINDOW: u64 = 8 << 20;

/// A body may be several frames one after the other.
fn zstd(mut rest: &[u8], out: &mut Bounded) -> io::Result<()> {
    let window = SMALLEST_WINDOW.max(out.bound as u64);
    while !rest.is_empty() {
        let decoder = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(&mut rest, window);
        out.drain(decoder.map_err(io::Error::other)?)?;
    }
    Ok(())
}

/// The digest of the bytes as carried when it differs from `expected`, `None` when they agree. One that cannot be computed
/// does not differ.
pub(crate) fn digest_mismatch(algorithm: DigestAlgorithm, encoded: &[u8], expected: &str) -> Option<String> {
    let (actual, agrees) = match algorithm {
        DigestAlgorithm::Crc32 => {
            // Some clients pad it to eight digits, some do not: compare the numbers.
            let actual = crc32(encoded);
            (format!("{actual:X}"), u32::from_str_radix(expected, 16) == Ok(actual))
        }
        DigestAlgorithm::Md5 => with_text(md5(encoded), expected),
        DigestAlgorithm::Sha1 => with_text(upper_hex(&Sha1::digest(encoded)), expected),
        DigestAlgorithm::Unknown => return None,
    };
    (!agrees).then_some(actual)
}

fn with_text(actual: String, expected: &str) -> (String, bool) {
    let agrees = actual.eq_ignore_ascii_case(expected);
    (actual, agrees)
}

/// Upper-case hex, as Apache's proxy writes it.
pub(crate) fn md5(encoded: &[u8]) -> String {
    upper_hex(&Md5::digest(encoded))
}

fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const MIB: usize = 1 << 20;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn lz4(body: &[u8], checksum: bool) -> Vec<u8> {
        let info = lz4_flex::frame::FrameInfo::new().content_checksum(checksum);
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(body: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(body, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn every_codec(body: &[u8]) -> [(&'static str, Vec<u8>); 5] {
        [
            ("gzip", gzip(body)),
            ("zlib", zlib(body)),
            ("lz4", lz4(body, false)),
            ("lz4 with checksum", lz4(body, true)),
            ("zstd", zstd(body)),
        ]
    }

    #[test]
    fn r13_the_codec_is_chosen_by_the_first_bytes_whatever_the_flag_is_called() {
        let body = b"a body that was compressed, compressed, compressed".repeat(50);
        for (codec, encoded) in every_codec(&body) {
            assert_eq!(decompress(&encoded, MIB).expect(codec), body, "{codec}");
        }
    }

    #[test]
    fn frames_one_after_the_other_are_one_body() {
        for ((codec, first), (_, second)) in every_codec(b"one ").into_iter().zip(every_codec(b"two")) {
            if codec != "zlib" {
                assert_eq!(decompress(&[first, second].concat(), MIB).expect(codec), "one two", "{codec}");
            }
        }
    }

    #[test]
    fn r13_a_bomb_is_stopped_at_the_bound() {
        let body = vec![0; 4 * MIB];
        for (codec, encoded) in every_codec(&body) {
            assert!(encoded.len() < 100_000, "{codec}: it is a bomb");
            assert!(matches!(decompress(&encoded, MIB), Err(BodyError::TooLarge { bound: MIB })), "{codec}");
            assert!(matches!(decompress(&encoded, 4 * MIB - 1), Err(BodyError::TooLarge { .. })), "{codec}");
            assert_eq!(decompress(&encoded, 4 * MIB).expect(codec).len(), 4 * MIB, "{codec}");
        }
    }

    #[test]
    fn a_zstd_frame_that_asks_for_a_huge_window_is_refused_before_it_is_allocated() {
        // Window descriptor 0xFF: about 3.7 TiB.
        let error = decompress(&[0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xFF, 0x01, 0x00, 0x00], MIB).unwrap_err();
        assert!(matches!(error, BodyError::Codec { codec: "zstd", .. }), "{error}");
    }

    #[test]
    fn a_body_that_was_cut_off_is_an_error_and_not_a_shorter_body() {
        let body: Vec<u8> = (0..5_000u32).flat_map(u32::to_le_bytes).collect();
        for (codec, encoded) in every_codec(&body) {
            for cut in [1, 4, 5, 9, encoded.len() / 2, encoded.len() - 5] {
                if let Ok(short) = decompress(&encoded[..encoded.len() - cut], MIB) {
                    assert_eq!(short, body, "{codec} cut by {cut}");
                    assert!(codec == "zstd" && cut <= 4, "{codec} cut by {cut}: only zstd's checksum may be missing");
                }
            }
        }
    }

    /// A frame with all the fields that the flags ask for, and two blocks: a compressed one, and one that is stored as is.
    fn lz4_frame(flags: u8) -> Vec<u8> {
        let optional = |bit: u8, size: usize| vec![0xEE; if flags & bit == 0 { 0 } else { size }];
        let header =
            [&[0x04, 0x22, 0x4D, 0x18, flags, 0x40][..], &optional(0x08, 8), &optional(0x01, 4), &[0xCC]].concat();
        let block = |size: u32, stored: u32| {
            [&(size | stored).to_le_bytes()[..], &vec![0xBB; size as usize], &optional(0x10, 4)].concat()
        };
        [header, block(300, 0), block(5, 1 << 31), vec![0; 4], optional(0x04, 4)].concat()
    }

    #[test]
    fn the_length_of_an_lz4_frame_counts_each_field_that_its_flags_ask_for() {
        for flags in (0..32).map(|bits| 0x40 | bits & 1 | bits << 1 & 0x3C) {
            let frame = lz4_frame(flags);
            let followed = [&frame[..], b"the next frame"].concat();
            assert_eq!(lz4_frame_len(&followed), Some(frame.len()), "flags {flags:#04x}");
        }
    }

    #[test]
    fn a_zstd_frame_may_ask_for_the_window_of_the_highest_level_whatever_the_bound_is() {
        // Window descriptor 0x68: 8 MiB, 0x70: 16 MiB. Then one block that is the last, and as it is: `abc`.
        let frame = |window| [&[0x28, 0xB5, 0x2F, 0xFD, 0x00, window, 0x19, 0x00, 0x00][..], b"abc"].concat();
        assert_eq!(decompress(&frame(0x68), 1_000).expect("8 MiB"), "abc");
        let refused = decompress(&frame(0x70), 1_000).unwrap_err();
        assert!(matches!(refused, BodyError::Codec { codec: "zstd", .. }), "{refused}");
        assert_eq!(decompress(&frame(0x70), 16 * MIB).expect("the bound allows it"), "abc");
    }

    #[test]
    fn memory_follows_the_body_and_ends_one_byte_after_the_bound() {
        const BOUND: usize = 100_000;
        let mut out = Bounded { bytes: Vec::new(), bound: BOUND };
        let (mut growths, mut capacity) = (0, 0);
        while out.take(&[7; 8 << 10]).is_ok() {
            let (len, now) = (out.bytes.len(), out.bytes.capacity());
            assert!(now < 2 * len, "{now} for {len}");
            growths += usize::from(now != capacity);
            capacity = now;
        }
        assert_eq!(capacity, BOUND + 1, "what may still come has a place already");
        assert_eq!((out.bytes.len(), out.bytes.capacity()), (BOUND + 1, BOUND + 1));
        assert_eq!(growths, 5, "8, 16, 32 and 64 KiB, then the bound");
    }

    #[test]
    fn an_error_of_a_codec_has_the_codecs_own_as_its_source() {
        use std::error::Error as _;
        let own = decompress(&[0x1F, 0x8B, 0xFF], MIB).unwrap_err();
        let source = own.source().expect("the codec says why").to_string();
        assert!(own.to_string().ends_with(&source), "{own}: {source}");
        assert!(decompress(b"plain", MIB).unwrap_err().source().is_none());
    }

    #[test]
    fn what_no_codec_begins_with_is_an_error_that_shows_its_beginning() {
        let error = decompress(b"plain", MIB).unwrap_err().to_string();
        assert!(error.contains("[70, 6C, 61, 69]"), "{error}");
        assert!(matches!(decompress(b"", MIB), Err(BodyError::UnknownCodec { .. })));
    }

    #[test]
    fn digests_are_those_other_clients_write() {
        for (algorithm, expected) in [
            (DigestAlgorithm::Crc32, "CBF43926"),
            (DigestAlgorithm::Md5, "25F9E794323B453885F5181F1B624D0B"),
            (DigestAlgorithm::Sha1, "F7C3BC1D808E04732ADF679965CCC34CA7AE3441"),
        ] {
            assert_eq!(digest_mismatch(algorithm, b"123456789", ""), Some(expected.to_owned()));
            assert_eq!(digest_mismatch(algorithm, b"123456789", expected), None);
            assert_eq!(digest_mismatch(algorithm, b"123456789", &expected.to_lowercase()), None);
            assert!(digest_mismatch(algorithm, b"12345678", expected).is_some_and(|actual| actual != expected));
        }
        assert_eq!(digest_mismatch(DigestAlgorithm::Unknown, b"123456789", "00"), None);
        assert_eq!(md5(b"123456789"), "25F9E794323B453885F5181F1B624D0B");
    }

    #[test]
    fn a_crc32_is_compared_as_a_number() {
        // One whose first hex digit is zero, so that it has eight digits only with padding.
        let body = (0u32..).map(|n| n.to_string()).find(|text| crc32fast::hash(text.as_bytes()) >> 28 == 0).unwrap();
        let number = crc32fast::hash(body.as_bytes());
        for written in [format!("{number:X}"), format!("{number:08X}"), format!("{number:x}")] {
            assert_eq!(digest_mismatch(DigestAlgorithm::Crc32, body.as_bytes(), &written), None, "{written}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_body_comes_back(body in prop::collection::vec(any::<u8>(), 0..5_000)) {
            for (codec, encoded) in every_codec(&body) {
                prop_assert_eq!(&decompress(&encoded, 5_000).expect(codec)[..], &body[..], "{}", codec);
            }
        }

        #[test]
        fn no_bytes_panic_or_exceed_the_bound(
            magic in prop::sample::select(vec![
                vec![0x1F, 0x8B], vec![0x78, 0x9C], vec![0x04, 0x22, 0x4D, 0x18], vec![0x28, 0xB5, 0x2F, 0xFD], vec![],
            ]),
            noise in prop::collection::vec(any::<u8>(), 0..300),
            bound in 0usize..2_000,
        ) {
            if let Ok(body) = decompress(&[magic, noise].concat(), bound) {
                prop_assert!(body.len() <= bound);
            }
        }

        #[test]
        fn damaged_bodies_do_not_panic_or_exceed_the_bound(
            body in prop::collection::vec(0u8..4, 1..2_000), at in any::<prop::sample::Index>(), flip in 1u8..,
        ) {
            for (codec, mut encoded) in every_codec(&body) {
                let at = at.index(encoded.len());
                encoded[at] ^= flip;
                if let Ok(body) = decompress(&encoded, 2_000) {
                    prop_assert!(body.len() <= 2_000, "{}", codec);
                }
            }
        }
    }
}
