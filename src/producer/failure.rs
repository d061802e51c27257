//! What a failed attempt to send means.

use crate::error::{Error, ErrorKind, Operation};
use crate::retry::{Verdict, is_outage, verdict};

/// What to do about a failed attempt. Every repeat bears the same message id (trap S1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Sending it again cannot help.
    Final,
    /// The server failed, or did not answer: the message may have been stored, and each repeat may store a copy of it. So the
    /// number of these attempts is bounded.
    Counted,
    /// A part of the cluster is away. Repeated as long as the message has time: a broker that restarts is away for a minute
    /// (live-5.5.0.md b.1), and no sensible number of attempts lasts as long.
    Outage,
    /// The server asks for less. Repeated later, as long as the message has time.
    Throttled,
}

/// `topic_known`: the topic has had a route, so that "not found" is what a broker outage looks like, and not a wrong name.
pub(crate) fn judge(error: &Error, topic_known: bool) -> Failure {
    if error.kind() == ErrorKind::NotFound && topic_known || is_outage(error) || broker_is_away(error) {
        return Failure::Outage;
    }
    match (verdict(Operation::Send, error), error.kind()) {
        (Verdict::GiveUp, _) => Failure::Final,
        (Verdict::Retry, ErrorKind::Throttled) => Failure::Throttled,
        // A connection that could not be opened; one that was cut in the middle of a request is counted.
        (Verdict::Retry, ErrorKind::Unavailable) if !may_have_stored(error) => Failure::Outage,
        (Verdict::Retry, _) => Failure::Counted,
    }
}

/// Whether the server may have stored the message although this is what came back.
pub(crate) fn may_have_stored(error: &Error) -> bool {
    match error.kind() {
        // The request was never written.
        _ if error.operation() == Some(Operation::Connect) => false,
        // The proxy has not reached the broker.
        ErrorKind::Server => !error.text().contains("connect to"),
        ErrorKind::Timeout | ErrorKind::Unavailable => true,
        _ => false,
    }
}

/// What a proxy says in the first seconds after its broker died (protocol.md H): an inner error by code, an outage by text.
/// Not "send request … failed": that one was on its way, and the broker may have stored it before it died.
fn broker_is_away(error: &Error) -> bool {
    let text = error.text();
    error.kind() == ErrorKind::Server && text.contains("failed") && text.contains("connect to")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_error_means_for_a_send() {
        use ErrorKind as Kind;
        for (kind, text, topic_known, expected, stored) in [
            (Kind::Timeout, "no answer", true, Failure::Counted, true),
            (Kind::Server, "inner error", true, Failure::Counted, true),
            (Kind::Server, "connect to 10.0.0.1:10911 failed", true, Failure::Outage, false),
            (Kind::Server, "send request to 10.0.0.1:10911 failed", true, Failure::Counted, true),
            (Kind::Unavailable, "connection reset", true, Failure::Counted, true),
            (Kind::NotFound, "no topic route info", true, Failure::Outage, false),
            (Kind::NotFound, "no topic route info", false, Failure::Final, false),
            (Kind::Throttled, "too many requests", true, Failure::Throttled, false),
            (Kind::Precondition, "expected type is UNSPECIFIED, actual type is NORMAL", true, Failure::Outage, false),
            (Kind::Precondition, "expected type is FIFO, actual type is NORMAL", true, Failure::Final, false),
            (Kind::TooLarge, "body", true, Failure::Final, false),
            (Kind::Unauthenticated, "", true, Failure::Final, false),
            (Kind::Protocol, "", true, Failure::Final, false),
            (Kind::Closed, "", true, Failure::Final, false),
        ] {
            let error = Error::new(kind, text);
            assert_eq!(judge(&error, topic_known), expected, "{kind:?} {text}");
            assert_eq!(may_have_stored(&error), stored, "{kind:?} {text}");
        }
    }

    #[test]
    fn a_connection_that_could_not_be_opened_stored_nothing() {
        let error = Error::new(ErrorKind::Unavailable, "refused").during(Operation::Connect);
        assert_eq!(judge(&error, true), Failure::Outage);
        assert!(!may_have_stored(&error));
    }
}
