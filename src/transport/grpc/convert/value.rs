//! Times, durations and enums.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::{BodyEncoding, ClientKind, DigestAlgorithm, FilterKind, MessageType, Permission};
use crate::proto;

/// A moment of the wire. `None` when this platform's clock cannot name it.
pub(crate) fn system_time(timestamp: &prost_types::Timestamp) -> Option<SystemTime> {
    let whole = Duration::from_secs(timestamp.seconds.unsigned_abs());
    let second = if timestamp.seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    second?.checked_add(Duration::from_nanos(nanos(timestamp.nanos)))
}

/// A moment for the wire; one before 1970 has a negative number of seconds and still counts its nanoseconds forwards.
pub(crate) fn proto_timestamp(time: SystemTime) -> prost_types::Timestamp {
    let (negative, distance) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (false, after),
        Err(before) => (true, before.duration()),
    };
    let seconds = i64::try_from(distance.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(distance.subsec_nanos()).unwrap_or(0);
    match (negative, nanos) {
        (false, nanos) => prost_types::Timestamp { seconds, nanos },
        (true, 0) => prost_types::Timestamp { seconds: -seconds, nanos: 0 },
        (true, nanos) => prost_types::Timestamp { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    }
}

/// A duration of the wire; a negative one is none.
pub(crate) fn duration(duration: &prost_types::Duration) -> Duration {
    u64::try_from(duration.seconds)
        .map_or(Duration::ZERO, |seconds| Duration::from_secs(seconds) + Duration::from_nanos(nanos(duration.nanos)))
}

/// A duration for the wire; protobuf ends at about 10 000 years.
pub(crate) fn proto_duration(duration: Duration) -> prost_types::Duration {
    const LONGEST: u64 = 315_576_000_000;
    if duration.as_secs() >= LONGEST {
        return prost_types::Duration { seconds: LONGEST.cast_signed(), nanos: 0 };
    }
    prost_types::Duration {
        seconds: duration.as_secs().cast_signed(),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// Below one second, whatever the wire says.
fn nanos(nanos: i32) -> u64 {
    u64::from(nanos.clamp(0, 999_999_999).unsigned_abs())
}

pub(super) fn message_type(code: i32) -> MessageType {
    match proto::MessageType::try_from(code) {
        Ok(proto::MessageType::Normal) => MessageType::Normal,
        Ok(proto::MessageType::Fifo) => MessageType::Fifo,
        Ok(proto::MessageType::Delay) => MessageType::Delay,
        Ok(proto::MessageType::Transaction) => MessageType::Transaction,
        Ok(proto::MessageType::Lite) => MessageType::Lite,
        Ok(proto::MessageType::Priority) => MessageType::Priority,
        Ok(proto::MessageType::Unspecified) | Err(_) => MessageType::Unknown,
    }
}

pub(super) fn algorithm(code: i32) -> DigestAlgorithm {
    match proto::DigestType::try_from(code) {
        Ok(proto::DigestType::Crc32) => DigestAlgorithm::Crc32,
        Ok(proto::DigestType::Md5) => DigestAlgorithm::Md5,
        Ok(proto::DigestType::Sha1) => DigestAlgorithm::Sha1,
        Ok(proto::DigestType::Unspecified) | Err(_) => DigestAlgorithm::Unknown,
    }
}

pub(super) fn encoding(code: i32) -> BodyEncoding {
    match proto::Encoding::try_from(code) {
        Ok(proto::Encoding::Identity | proto::Encoding::Unspecified) => BodyEncoding::Identity,
        // The value GZIP means "compressed", by whatever (protocol.md B.4).
        Ok(proto::Encoding::Gzip) => BodyEncoding::Compressed,
        Err(_) => BodyEncoding::Unknown,
    }
}

pub(super) const fn proto_message_type(kind: MessageType) -> proto::MessageType {
    match kind {
        MessageType::Normal => proto::MessageType::Normal,
        MessageType::Fifo => proto::MessageType::Fifo,
        MessageType::Delay => proto::MessageType::Delay,
        MessageType::Transaction => proto::MessageType::Transaction,
        MessageType::Lite => proto::MessageType::Lite,
        MessageType::Priority => proto::MessageType::Priority,
        MessageType::Unknown => proto::MessageType::Unspecified,
    }
}

/// What the server does not name is not allowed.
pub(super) fn permission(code: i32) -> Permission {
    match proto::Permission::try_from(code) {
        Ok(proto::Permission::Read) => Permission::Read,
        Ok(proto::Permission::Write) => Permission::Write,
        Ok(proto::Permission::ReadWrite) => Permission::ReadWrite,
        Ok(proto::Permission::None | proto::Permission::Unspecified) | Err(_) => Permission::None,
    }
}

pub(super) const fn client_type(kind: ClientKind) -> proto::ClientType {
    match kind {
        ClientKind::Producer => proto::ClientType::Producer,
        ClientKind::SimpleConsumer => proto::ClientType::SimpleConsumer,
        ClientKind::PullConsumer => proto::ClientType::PullConsumer,
    }
}

pub(super) const fn filter_type(kind: FilterKind) -> proto::FilterType {
    match kind {
        FilterKind::Tag => proto::FilterType::Tag,
        FilterKind::Sql92 => proto::FilterType::Sql,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_kept_in_bounds() {
        let wire = |seconds, nanos| duration(&prost_types::Duration { seconds, nanos });
        assert_eq!(wire(1, 500_000_000), Duration::from_millis(1_500));
        assert_eq!(wire(-1, 0), Duration::ZERO);
        assert_eq!(wire(2, -7), Duration::from_secs(2));
        assert_eq!(proto_duration(Duration::from_millis(10)).nanos, 10_000_000);
        assert_eq!(proto_duration(Duration::MAX).seconds, 315_576_000_000);
    }

    #[test]
    fn a_moment_before_1970_comes_back() {
        for time in [UNIX_EPOCH - Duration::from_millis(1_500), UNIX_EPOCH - Duration::from_secs(3), UNIX_EPOCH] {
            assert_eq!(system_time(&proto_timestamp(time)), Some(time));
        }
    }

    #[test]
    fn enum_values_of_a_later_version_are_unknown() {
        assert_eq!(message_type(99), MessageType::Unknown);
        assert_eq!(permission(-4), Permission::None);
    }

    #[test]
    fn message_types_come_back() {
        for code in 1..=6 {
            assert_eq!(proto_message_type(message_type(code)) as i32, code);
        }
    }

    proptest! {
        #[test]
        fn no_time_of_the_wire_panics(seconds in any::<i64>(), nanos in any::<i32>()) {
            let _ = system_time(&prost_types::Timestamp { seconds, nanos });
            let _ = duration(&prost_types::Duration { seconds, nanos });
        }

        #[test]
        fn moments_and_durations_come_back(seconds in 0u64..4_000_000_000, nanos in 0u32..1_000_000_000) {
            let exact = Duration::new(seconds, nanos);
            prop_assert_eq!(duration(&proto_duration(exact)), exact);
            let time = UNIX_EPOCH + exact;
            prop_assert_eq!(system_time(&proto_timestamp(time)), Some(time));
        }
    }
}
