//! Numbers: what a request asks, how an answer went (protocol.md E.3).

use crate::error::ErrorKind;

/// Requests of clients.
#[cfg(any(test, feature = "embedded"))]
pub(crate) const SEND_MESSAGE: i32 = 10;
/// Never 361: that bypasses the server's authorisation.
pub(crate) const PULL_MESSAGE: i32 = 11;
pub(crate) const QUERY_CONSUMER_OFFSET: i32 = 14;
pub(crate) const UPDATE_CONSUMER_OFFSET: i32 = 15;
pub(crate) const SEARCH_OFFSET_BY_TIMESTAMP: i32 = 29;
pub(crate) const GET_MAX_OFFSET: i32 = 30;
pub(crate) const GET_MIN_OFFSET: i32 = 31;
pub(crate) const HEART_BEAT: i32 = 34;
pub(crate) const UNREGISTER_CLIENT: i32 = 35;
pub(crate) const GET_CONSUMER_LIST_BY_GROUP: i32 = 38;
pub(crate) const CHECK_CLIENT_CONFIG: i32 = 46;
pub(crate) const GET_ROUTE_BY_TOPIC: i32 = 105;
pub(crate) const GET_CONSUMER_CONNECTION_LIST: i32 = 203;
pub(crate) const GET_ALL_TOPIC_LIST: i32 = 206;
pub(crate) const GET_SYSTEM_TOPIC_LIST: i32 = 304;
/// Requests of brokers.
pub(crate) const NOTIFY_CONSUMER_IDS_CHANGED: i32 = 40;
pub(crate) const RESET_CONSUMER_CLIENT_OFFSET: i32 = 220;
pub(crate) const GET_CONSUMER_STATUS_FROM_CLIENT: i32 = 221;
pub(crate) const GET_CONSUMER_RUNNING_INFO: i32 = 307;

/// Answers.
pub(crate) const SUCCESS: i32 = 0;
pub(crate) const SYSTEM_ERROR: i32 = 1;
pub(crate) const SYSTEM_BUSY: i32 = 2;
pub(crate) const REQUEST_CODE_NOT_SUPPORTED: i32 = 3;
pub(crate) const FLUSH_DISK_TIMEOUT: i32 = 10;
pub(crate) const SLAVE_NOT_AVAILABLE: i32 = 11;
pub(crate) const FLUSH_SLAVE_TIMEOUT: i32 = 12;
pub(crate) const MESSAGE_ILLEGAL: i32 = 13;
pub(crate) const SERVICE_NOT_AVAILABLE: i32 = 14;
pub(crate) const VERSION_NOT_SUPPORTED: i32 = 15;
pub(crate) const NO_PERMISSION: i32 = 16;
pub(crate) const TOPIC_NOT_EXIST: i32 = 17;
pub(crate) const PULL_NOT_FOUND: i32 = 19;
pub(crate) const PULL_RETRY_IMMEDIATELY: i32 = 20;
pub(crate) const PULL_OFFSET_MOVED: i32 = 21;
pub(crate) const QUERY_NOT_FOUND: i32 = 22;
pub(crate) const SUBSCRIPTION_PARSE_FAILED: i32 = 23;
pub(crate) const SUBSCRIPTION_NOT_EXIST: i32 = 24;
pub(crate) const SUBSCRIPTION_NOT_LATEST: i32 = 25;
pub(crate) const SUBSCRIPTION_GROUP_NOT_EXIST: i32 = 26;
pub(crate) const FILTER_DATA_NOT_EXIST: i32 = 27;
pub(crate) const FILTER_DATA_NOT_LATEST: i32 = 28;
pub(crate) const INVALID_PARAMETER: i32 = 29;
pub(crate) const CONSUMER_NOT_ONLINE: i32 = 206;
pub(crate) const NO_MESSAGE: i32 = 208;
pub(crate) const POLLING_FULL: i32 = 209;
pub(crate) const POLLING_TIMEOUT: i32 = 210;
pub(crate) const FLOW_CONTROL: i32 = 215;
pub(crate) const NOT_LEADER_FOR_QUEUE: i32 = 501;
pub(crate) const GO_AWAY: i32 = 1500;

/// What an answer other than success means for the caller: the one table of remoting codes. Where one code means several
/// things, the server's text tells (protocol.md E.3, E.8).
pub(crate) fn kind_of(code: i32, text: &str) -> ErrorKind {
    match code {
        SYSTEM_ERROR | NO_PERMISSION => match credentials_problem(text) {
            Some(kind) => kind,
            None if code == NO_PERMISSION => ErrorKind::PermissionDenied,
            None if text.contains("does not support consumer to filter message by") => ErrorKind::Unsupported,
            None => ErrorKind::Server,
        },
        SYSTEM_BUSY | POLLING_FULL | FLOW_CONTROL => ErrorKind::Throttled,
        REQUEST_CODE_NOT_SUPPORTED | VERSION_NOT_SUPPORTED => ErrorKind::Unsupported,
        FLUSH_DISK_TIMEOUT | FLUSH_SLAVE_TIMEOUT | POLLING_TIMEOUT => ErrorKind::Timeout,
        SLAVE_NOT_AVAILABLE | SERVICE_NOT_AVAILABLE | NOT_LEADER_FOR_QUEUE | GO_AWAY => ErrorKind::Unavailable,
        MESSAGE_ILLEGAL | SUBSCRIPTION_PARSE_FAILED | INVALID_PARAMETER => ErrorKind::InvalidArgument,
        TOPIC_NOT_EXIST | SUBSCRIPTION_GROUP_NOT_EXIST | QUERY_NOT_FOUND | CONSUMER_NOT_ONLINE | NO_MESSAGE => {
            ErrorKind::NotFound
        }
        PULL_OFFSET_MOVED => ErrorKind::OffsetOutOfRange,
        SUBSCRIPTION_NOT_EXIST | SUBSCRIPTION_NOT_LATEST | FILTER_DATA_NOT_EXIST | FILTER_DATA_NOT_LATEST => {
            ErrorKind::Precondition
        }
        // Good answers, but to another question than the one that was asked.
        SUCCESS | PULL_NOT_FOUND | PULL_RETRY_IMMEDIATELY => ErrorKind::Protocol,
        _ => ErrorKind::Server,
    }
}

/// Brokers say all of it with NO_PERMISSION, proxies with SYSTEM_ERROR; the texts are the same.
fn credentials_problem(text: &str) -> Option<ErrorKind> {
    const UNKNOWN: [&str; 4] =
        ["username cannot be null", "check signature failed", "User:", "authentication header is incorrect"];
    if text.contains("has no permission to access") || text.contains("no matched policies") {
        return Some(ErrorKind::PermissionDenied);
    }
    UNKNOWN.iter().any(|known| text.contains(known)).then_some(ErrorKind::Unauthenticated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_kind() {
        use ErrorKind::{
            InvalidArgument, NotFound, OffsetOutOfRange, PermissionDenied, Precondition, Protocol, Server, Throttled,
            Timeout, Unavailable, Unsupported,
        };
        let table = [
            (0, Protocol),
            (1, Server),
            (2, Throttled),
            (3, Unsupported),
            (10, Timeout),
            (11, Unavailable),
            (12, Timeout),
            (13, InvalidArgument),
            (14, Unavailable),
            (15, Unsupported),
            (16, PermissionDenied),
            (17, NotFound),
            (19, Protocol),
            (20, Protocol),
            (21, OffsetOutOfRange),
            (22, NotFound),
            (23, InvalidArgument),
            (24, Precondition),
            (25, Precondition),
            (26, NotFound),
            (27, Precondition),
            (28, Precondition),
            (29, InvalidArgument),
            (206, NotFound),
            (208, NotFound),
            (209, Throttled),
            (210, Timeout),
            (215, Throttled),
            (501, Unavailable),
            (1500, Unavailable),
        ];
        for code in -1..2_000 {
            let known = table.iter().find(|(known, _)| *known == code).map_or(Server, |(_, kind)| *kind);
            assert_eq!(kind_of(code, ""), known, "{code}");
        }
    }

    #[test]
    fn what_is_wrong_with_credentials_is_told_by_the_text() {
        for (text, kind) in [
            ("username cannot be null.", ErrorKind::Unauthenticated),
            ("check signature failed.", ErrorKind::Unauthenticated),
            ("User:x is not found.", ErrorKind::Unauthenticated),
            (
                "User:u has no permission to access Topic:t from 127.0.0.1, no matched policies.",
                ErrorKind::PermissionDenied,
            ),
            ("User:u has no permission to access Topic:t", ErrorKind::PermissionDenied),
            ("User:u: no matched policies.", ErrorKind::PermissionDenied),
        ] {
            assert_eq!(kind_of(NO_PERMISSION, text), kind, "a broker: {text}");
            assert_eq!(kind_of(SYSTEM_ERROR, text), kind, "a proxy: {text}");
        }
        assert_eq!(kind_of(NO_PERMISSION, "the topic[t] pulling message is forbidden"), ErrorKind::PermissionDenied);
        let no_sql = "The broker does not support consumer to filter message by SQL92";
        assert_eq!(kind_of(SYSTEM_ERROR, no_sql), ErrorKind::Unsupported);
    }
}
