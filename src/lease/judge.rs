//! What an error of a settlement means for the lease.

use crate::error::{Error, ErrorKind, Operation};
use crate::retry::{self, Verdict};

/// What is known after a request has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The handle ran out: final.
    Expired,
    /// The server did nothing, because a part of it is away or busy: any request may be repeated.
    Away,
    /// The server failed inside and said so: what is idempotent, or what needs the old handle to be good, may be repeated.
    Internal { code: i32, message: Box<str> },
    /// The server does not accept the request: final.
    Refused { code: i32, message: Box<str> },
    /// It is not known whether the server acted.
    Unclear,
    /// The transport was shut down before the request was sent.
    Closed,
}

/// INVALID_RECEIPT_HANDLE and TOPIC_NOT_FOUND look final, and are what a broker outage looks like (trap R19).
pub(super) fn failure(error: &Error) -> Failure {
    match error.kind() {
        ErrorKind::Closed => Failure::Closed,
        ErrorKind::Timeout => Failure::Unclear,
        _ if retry::is_expired_receipt(error) => Failure::Expired,
        _ if retry::is_outage(error) => Failure::Away,
        ErrorKind::NotFound if is_topic(error) => Failure::Away,
        ErrorKind::Throttled => Failure::Away,
        ErrorKind::Unavailable | ErrorKind::Server | ErrorKind::Protocol => match error.server_code() {
            None => Failure::Unclear,
            Some(_) if not_sent_on(error.text()) => Failure::Away,
            Some(_) if lost_behind_proxy(error.text()) => Failure::Unclear,
            Some(code) => Failure::Internal { code, message: error.text().into() },
        },
        _ => Failure::Refused { code: error.server_code().unwrap_or(0), message: error.text().into() },
    }
}

/// Whether an ack that failed is sent again: it is idempotent, so whatever may be an outage is tried again.
pub(super) fn may_ack_again(error: &Error, failure: &Failure) -> bool {
    match failure {
        Failure::Away | Failure::Internal { .. } | Failure::Unclear => true,
        Failure::Expired | Failure::Closed => false,
        Failure::Refused { .. } => retry::verdict(Operation::Ack, error) == Verdict::Retry,
    }
}

fn is_topic(error: &Error) -> bool {
    const TOPIC_NOT_FOUND: i32 = 40402;
    error.server_code() == Some(TOPIC_NOT_FOUND)
}

/// The proxy could not connect to the broker ("connect to … failed", live 5.5.0 b.2).
fn not_sent_on(text: &str) -> bool {
    text.contains("connect to")
}

/// The proxy asked the broker and got no answer: RemotingSendRequestException ("send request to … failed") and
/// RemotingTimeoutException ("wait response on the channel … timeout").
fn lost_behind_proxy(text: &str) -> bool {
    ["send request", "timeout", "timed out"].iter().any(|sign| text.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(kind: ErrorKind, code: i32, text: &str) -> Error {
        Error::new(kind, text).with_code(code)
    }

    #[test]
    fn r19_each_error_is_judged_by_kind_code_and_text() {
        let internal = |message: &str| Failure::Internal { code: 50001, message: message.into() };
        for (error, expected) in [
            (answered(ErrorKind::InvalidReceipt, 40013, "receipt handle is expired"), Failure::Expired),
            (answered(ErrorKind::InvalidReceipt, 40013, "cannot find broker b"), Failure::Away),
            (answered(ErrorKind::NotFound, 40402, "No topic route info"), Failure::Away),
            (answered(ErrorKind::Throttled, 42900, "system busy"), Failure::Away),
            (answered(ErrorKind::Server, 50001, "connect to 1.2.3.4:10911 failed"), Failure::Away),
            (answered(ErrorKind::Server, 50001, "send request to 1.2.3.4:10911 failed"), Failure::Unclear),
            (answered(ErrorKind::Server, 50001, "wait response on the channel, timeout"), Failure::Unclear),
            (answered(ErrorKind::Server, 50001, "null channel"), internal("null channel")),
            (answered(ErrorKind::Timeout, 50400, "proxy timeout"), Failure::Unclear),
            (Error::new(ErrorKind::Unavailable, "connection reset"), Failure::Unclear),
            (Error::new(ErrorKind::Timeout, "no answer"), Failure::Unclear),
            (Error::closed("client"), Failure::Closed),
            (answered(ErrorKind::Unauthenticated, 40100, "no"), Failure::Refused { code: 40100, message: "no".into() }),
            (
                answered(ErrorKind::NotFound, 40403, "no group"),
                Failure::Refused { code: 40403, message: "no group".into() },
            ),
        ] {
            assert_eq!(failure(&error), expected, "{error}");
        }
    }

    #[test]
    fn an_ack_is_repeated_after_whatever_may_be_an_outage() {
        for (error, again) in [
            (answered(ErrorKind::Server, 50001, "ack failed"), true),
            (answered(ErrorKind::InvalidReceipt, 40013, "cannot find broker b"), true),
            (Error::new(ErrorKind::Timeout, "no answer"), true),
            (answered(ErrorKind::InvalidReceipt, 40013, "receipt handle is expired"), false),
            (answered(ErrorKind::PermissionDenied, 40300, "no"), false),
            (Error::closed("client"), false),
        ] {
            assert_eq!(may_ack_again(&error, &failure(&error)), again, "{error}");
        }
    }
}
