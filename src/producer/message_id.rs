//! The ids that producers give to their messages: version 1 of RocketMQ's format.

use std::fmt::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use crate::model::MessageId;

/// 2021-01-01T00:00:00Z, where the seconds in an id begin (protocol.md B.14).
const EPOCH: Duration = Duration::from_secs(1_609_459_200);

/// One generator for the process: two producers of it must not make the same id.
static IDS: LazyLock<MessageIds> = LazyLock::new(|| {
    let mut node = [0; 6];
    node.fill_with(|| fastrand::u8(..));
    MessageIds::new(node, std::process::id())
});

/// The next id of this process.
pub(crate) fn next(now: SystemTime) -> MessageId {
    IDS.next(now)
}

/// `01 | node (6) | lower half of the process id (2) | seconds since 2021 (4) | sequence (4)`, big endian, as 34 upper-case
/// hexadecimal digits.
///
/// Other clients put a MAC address in the place of `node`. Ours is six random bytes: reading a MAC address needs code for
/// every operating system, containers share them, and it would tell the reader of a message on which machine it was made.
#[derive(Debug)]
struct MessageIds {
    prefix: String,
    sequence: AtomicU32,
}

impl MessageIds {
    fn new(node: [u8; 6], process: u32) -> Self {
        let mut prefix = String::from("01");
        let [_, _, high, low] = process.to_be_bytes();
        for byte in node.into_iter().chain([high, low]) {
            push_hex(&mut prefix, format_args!("{byte:02X}"));
        }
        Self { prefix, sequence: AtomicU32::new(0) }
    }

    fn next(&self, now: SystemTime) -> MessageId {
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // The field wraps in 2157; so does the sequence, but not within one second.
        #[allow(clippy::cast_possible_truncation, reason = "the field is 32 bits wide and wraps")]
        let seconds = since_epoch.saturating_sub(EPOCH).as_secs() as u32;
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let mut id = String::with_capacity(34);
        id.push_str(&self.prefix);
        push_hex(&mut id, format_args!("{seconds:08X}{sequence:08X}"));
        id.into()
    }
}

fn push_hex(id: &mut String, digits: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = id.write_fmt(digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_version_1_of_the_format() {
        let ids = MessageIds::new([0xA0, 1, 2, 3, 4, 0xFF], 0x0001_2345);
        let at = SystemTime::UNIX_EPOCH + EPOCH + Duration::from_secs(0x1234);
        assert_eq!(&*ids.next(at), "01A001020304FF23450000123400000000");
        assert_eq!(&*ids.next(at), "01A001020304FF23450000123400000001");
    }

    #[test]
    fn a_clock_before_the_epoch_counts_as_the_epoch() {
        let ids = MessageIds::new([0; 6], 0);
        assert_eq!(&*ids.next(SystemTime::UNIX_EPOCH), "0100000000000000000000000000000000");
    }

    #[test]
    fn the_ids_of_a_process_differ() {
        let now = SystemTime::UNIX_EPOCH;
        let (a, b) = (next(now), next(now));
        assert_ne!(a, b);
        assert_eq!((a.len(), b.len()), (34, 34));
    }
}
