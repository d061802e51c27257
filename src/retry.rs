//! What is tried again, and how long to wait before it.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Operation};

/// Waits that grow by two up to a bound, each shortened by up to a half at random, so that many clients do not come back at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, attempt: 0 }
    }

    /// The next wait. `jitter` is a random number in `0.0..1.0`, given by the caller so that this stays a function.
    pub(crate) fn next(&mut self, jitter: f64) -> Duration {
        let full = self.first.saturating_mul(1 << self.attempt.min(20)).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// Starts anew after a success.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }

    pub(crate) const fn attempts(&self) -> u32 {
        self.attempt
    }
}

/// Whether to repeat a request after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same request may be sent again, after a wait.
    Retry,
    /// It cannot succeed, or repeating it would do harm.
    GiveUp,
}

/// Judges by operation, kind and, where one code means two things, by the server's text.
pub(crate) fn verdict(operation: Operation, error: &Error) -> Verdict {
    if is_outage(error) && is_repeatable(operation) {
        return Verdict::Retry;
    }
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Throttled | ErrorKind::Server
            if is_repeatable(operation) =>
        {
            Verdict::Retry
        }
        _ => Verdict::GiveUp,
    }
}

/// Whether an error that looks final is what a broker outage or a cold cache of the proxy looks like.
///
/// Seen on 5.5.0: TOPIC_NOT_FOUND and "cannot find broker" while a broker is away, "expected type is UNSPECIFIED"
/// for 40 s after it is back.
pub(crate) fn is_outage(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::InvalidReceipt => !is_expired_receipt(error),
        ErrorKind::Precondition => error.text().contains("expected type is UNSPECIFIED"),
        _ => false,
    }
}

/// The one text of INVALID_RECEIPT_HANDLE that is final (protocol.md B.6): the same code also means "broker away".
pub(crate) fn is_expired_receipt(error: &Error) -> bool {
    error.kind() == ErrorKind::InvalidReceipt && error.text().contains("expired")
}

/// ChangeInvisibleDuration and ForwardMessageToDeadLetterQueue make a copy of the message each time they are repeated
/// after a lost reply (live on 5.5.0): they are never repeated blindly.
const fn is_repeatable(operation: Operation) -> bool {
    !matches!(operation, Operation::ChangeInvisible | Operation::DeadLetter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(kind: ErrorKind, text: &str) -> Error {
        Error::new(kind, text)
    }

    #[test]
    fn transient_kinds_are_repeated_and_final_ones_are_not() {
        for (kind, expected) in [
            (ErrorKind::Unavailable, Verdict::Retry),
            (ErrorKind::Timeout, Verdict::Retry),
            (ErrorKind::Throttled, Verdict::Retry),
            (ErrorKind::Server, Verdict::Retry),
            (ErrorKind::InvalidArgument, Verdict::GiveUp),
            (ErrorKind::Unauthenticated, Verdict::GiveUp),
            (ErrorKind::Protocol, Verdict::GiveUp),
            (ErrorKind::Closed, Verdict::GiveUp),
        ] {
            assert_eq!(verdict(Operation::Receive, &error(kind, "")), expected, "{kind:?}");
        }
    }

    #[test]
    fn r18_a_change_of_visibility_or_a_dead_letter_is_never_repeated_blindly() {
        for operation in [Operation::ChangeInvisible, Operation::DeadLetter] {
            for kind in [ErrorKind::Timeout, ErrorKind::Unavailable, ErrorKind::Server] {
                assert_eq!(verdict(operation, &error(kind, "lost")), Verdict::GiveUp);
            }
        }
    }

    #[test]
    fn r19_an_invalid_handle_is_final_only_when_the_text_says_expired() {
        let away = error(ErrorKind::InvalidReceipt, "cannot find broker b");
        let expired = error(ErrorKind::InvalidReceipt, "receipt handle is expired");
        assert_eq!(verdict(Operation::Ack, &away), Verdict::Retry);
        assert_eq!(verdict(Operation::Ack, &expired), Verdict::GiveUp);
    }

    #[test]
    fn r19_a_type_conflict_is_final_only_when_the_expected_type_is_known() {
        let cold = error(ErrorKind::Precondition, "expected type is UNSPECIFIED, actual type is NORMAL");
        let real = error(ErrorKind::Precondition, "expected type is FIFO, actual type is NORMAL");
        assert_eq!(verdict(Operation::Send, &cold), Verdict::Retry);
        assert_eq!(verdict(Operation::Send, &real), Verdict::GiveUp);
    }

    proptest! {
        #[test]
        fn a_wait_lies_between_half_and_the_whole_of_the_bound(attempts in 0u32..100, jitter in 0.0f64..1.0) {
            let (first, max) = (Duration::from_millis(100), Duration::from_secs(10));
            let mut backoff = Backoff::new(first, max);
            let mut last = Duration::ZERO;
            for _ in 0..=attempts {
                last = backoff.next(jitter);
            }
            let full = first.saturating_mul(1 << attempts.min(20)).min(max);
            prop_assert!(last <= full && last >= full / 2 - Duration::from_nanos(1));
            prop_assert_eq!(backoff.attempts(), attempts + 1);
            backoff.reset();
            prop_assert!(backoff.next(0.0) == first);
        }
    }
}
