//! What a server's answer means to the caller: the one table from codes to kinds of errors.
//!
//! There are two layers of them: a [`Status`](proto::Status) inside a response that gRPC calls good, which is judged here, and
//! the status of gRPC itself when there is no response (protocol.md G.1.28), which is judged in `failure`.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::Endpoint;
use crate::proto::{self, Code};
use crate::transport::{Scope, auth};

/// What was being done, for the errors that come of it.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) operation: Operation,
    pub(crate) endpoint: Endpoint,
    pub(crate) topic: Option<Arc<str>>,
    pub(crate) group: Option<Arc<str>>,
}

impl Context {
    pub(crate) fn new(operation: Operation, endpoint: &Endpoint) -> Self {
        Self { operation, endpoint: endpoint.clone(), topic: None, group: None }
    }

    pub(crate) fn topic(mut self, topic: &Arc<str>) -> Self {
        self.topic = Some(Arc::clone(topic));
        self
    }

    pub(crate) fn group(mut self, group: Option<&Arc<str>>) -> Self {
        self.group = group.map(Arc::clone);
        self
    }

    pub(crate) fn scope(self, scope: &Scope) -> Self {
        self.topic(&scope.topic).group(Some(&scope.group))
    }

    /// An error of this call.
    pub(crate) fn error(&self, kind: ErrorKind, text: impl Into<String>) -> Error {
        self.dress(Error::new(kind, text))
    }

    /// Adds what this call is to an error that does not know.
    pub(crate) fn dress(&self, error: Error) -> Error {
        let mut error = error.during(self.operation).at(&self.endpoint);
        if let Some(topic) = &self.topic {
            error = error.on_topic(Arc::clone(topic));
        }
        if let Some(group) = &self.group {
            error = error.in_group(Arc::clone(group));
        }
        error
    }

    /// `Ok` for OK alone: MULTIPLE_RESULTS is not success (trap R8), and no status is none.
    pub(crate) fn judge(&self, status: Option<&proto::Status>) -> Result<()> {
        match status {
            Some(status) if status.code == Code::Ok as i32 => Ok(()),
            Some(status) => Err(self.refused(status)),
            None => Err(self.error(ErrorKind::Protocol, "the server's answer has no status")),
        }
    }

    /// The error that a status other than OK stands for.
    pub(crate) fn refused(&self, status: &proto::Status) -> Error {
        let code = Code::try_from(status.code).ok();
        let name = code.map_or("a code this version does not know", |code| code.as_str_name());
        // Apache's route errors end with a line that advertises its FAQ.
        let said = status.message.split("\nFor more information").next().unwrap_or_default().trim_end();
        let text = if said.is_empty() { name } else { said };
        let kind = kind_of(status.code, text);
        let error = match code {
            Some(Code::MasterPersistenceTimeout | Code::SlavePersistenceTimeout | Code::HaNotAvailable) => {
                Error::new(kind, format!("stored, but not safely: {name} {said}"))
            }
            _ => Error::new(kind, auth::explained(self.operation, kind, text)),
        };
        self.dress(error.with_code(status.code))
    }
}

/// The table. `text` is asked where one code means two things.
pub(crate) fn kind_of(code: i32, text: &str) -> ErrorKind {
    let Ok(known) = Code::try_from(code) else { return kind_of_class(code) };
    if let Some(kind) = kind_by_text(known, text) {
        return kind;
    }
    match known {
        // An OK that comes here, or no code at all: the server does not say what it means.
        Code::Unspecified | Code::Ok | Code::MultipleResults | Code::ClientIdRequired => ErrorKind::Protocol,
        Code::IllegalAccessPoint => ErrorKind::Config,
        Code::BadRequest
        | Code::IllegalTopic
        | Code::IllegalConsumerGroup
        | Code::IllegalMessageTag
        | Code::IllegalMessageKey
        | Code::IllegalMessageGroup
        | Code::IllegalMessagePropertyKey
        | Code::InvalidTransactionId
        | Code::IllegalMessageId
        | Code::IllegalFilterExpression
        | Code::IllegalInvisibleTime
        | Code::IllegalDeliveryTime
        | Code::MessageCorrupted
        | Code::IllegalPollingTime
        | Code::IllegalLiteTopic
        | Code::InvalidClientProperties
        | Code::MessageBodyEmpty => ErrorKind::InvalidArgument,
        Code::InvalidReceiptHandle => ErrorKind::InvalidReceipt,
        Code::IllegalOffset => ErrorKind::OffsetOutOfRange,
        // 40015 is what a server says that has forgotten this client's settings.
        Code::MessagePropertyConflictWithType | Code::UnrecognizedClientType | Code::PreconditionFailed => {
            ErrorKind::Precondition
        }
        Code::Unauthorized => ErrorKind::Unauthenticated,
        Code::PaymentRequired | Code::Forbidden => ErrorKind::PermissionDenied,
        Code::NotFound
        | Code::MessageNotFound
        | Code::TopicNotFound
        | Code::ConsumerGroupNotFound
        | Code::OffsetNotFound => ErrorKind::NotFound,
        Code::PayloadTooLarge
        | Code::MessageBodyTooLarge
        | Code::RequestHeaderFieldsTooLarge
        | Code::MessagePropertiesTooLarge
        | Code::LiteTopicQuotaExceeded
        | Code::LiteSubscriptionQuotaExceeded => ErrorKind::TooLarge,
        Code::TooManyRequests => ErrorKind::Throttled,
        Code::InternalError | Code::InternalServerError | Code::FailedToConsumeMessage => ErrorKind::Server,
        // The last three: the broker has the message, but not yet on its disk or its replica; a crash can lose it.
        Code::RequestTimeout
        | Code::ProxyTimeout
        | Code::MasterPersistenceTimeout
        | Code::SlavePersistenceTimeout
        | Code::HaNotAvailable => ErrorKind::Timeout,
        Code::NotImplemented | Code::Unsupported | Code::VersionUnsupported | Code::VerifyFifoMessageUnsupported => {
            ErrorKind::Unsupported
        }
    }
}

/// Codes that mean two things, when the text says the rarer one.
fn kind_by_text(code: Code, text: &str) -> Option<ErrorKind> {
    match code {
        // Apache's proxy uses one code for "who are you" and "you may not" (protocol.md A.3).
        Code::Unauthorized if text.contains("no permission") => Some(ErrorKind::PermissionDenied),
        // What it answers to a filter that does not parse, instead of ILLEGAL_FILTER_EXPRESSION (live on 5.5.0).
        Code::InternalServerError if text.contains("parse the consumer's subscription failed") => {
            Some(ErrorKind::InvalidArgument)
        }
        _ => None,
    }
}

/// For codes of a later version.
const fn kind_of_class(code: i32) -> ErrorKind {
    match code {
        40_000..50_000 => ErrorKind::InvalidArgument,
        50_000..60_000 => ErrorKind::Server,
        _ => ErrorKind::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        let scope = Scope { group: "billing".into(), topic: "orders".into() };
        Context::new(Operation::Ack, &Endpoint::new("proxy", 8081)).scope(&scope)
    }

    fn status(code: i32, message: &str) -> proto::Status {
        proto::Status { code, message: message.into() }
    }

    /// Every code of the interface, so that one added to it must be judged here.
    const EXPECTED: &[(ErrorKind, &[i32])] = &[
        (ErrorKind::Protocol, &[0, 20000, 30000, 40017]),
        (ErrorKind::Config, &[40001]),
        (
            ErrorKind::InvalidArgument,
            &[
                40000, 40002, 40003, 40004, 40005, 40006, 40007, 40008, 40009, 40010, 40011, 40012, 40016, 40018,
                40020, 40021, 41302,
            ],
        ),
        (ErrorKind::InvalidReceipt, &[40013]),
        (ErrorKind::Precondition, &[40014, 40015, 42800]),
        (ErrorKind::OffsetOutOfRange, &[40019]),
        (ErrorKind::Unauthenticated, &[40100]),
        (ErrorKind::PermissionDenied, &[40200, 40300]),
        (ErrorKind::NotFound, &[40400, 40401, 40402, 40403, 40404]),
        (ErrorKind::Timeout, &[40800, 50002, 50400, 50401, 50402]),
        (ErrorKind::TooLarge, &[41300, 41301, 42901, 42902, 43100, 43101]),
        (ErrorKind::Throttled, &[42900]),
        (ErrorKind::Server, &[50000, 50001, 60000]),
        (ErrorKind::Unsupported, &[50100, 50500, 50501, 50502]),
    ];

    #[test]
    fn every_code_has_its_kind() {
        for code in 0..=70_000 {
            let expected = EXPECTED.iter().find(|(_, codes)| codes.contains(&code)).map(|(kind, _)| *kind);
            assert_eq!(expected.is_some(), Code::try_from(code).is_ok(), "{code} is in the interface or in the table");
            if let Some(expected) = expected {
                assert_eq!(kind_of(code, ""), expected, "{code}");
            }
        }
    }

    #[test]
    fn a_code_of_a_later_version_is_judged_by_its_class() {
        assert_eq!(kind_of(40_999, ""), ErrorKind::InvalidArgument);
        assert_eq!(kind_of(50_999, ""), ErrorKind::Server);
        assert_eq!(kind_of(-1, ""), ErrorKind::Protocol);
    }

    #[test]
    fn one_code_for_two_refusals_is_told_apart_by_its_text() {
        for (text, kind) in [
            ("username cannot be null.", ErrorKind::Unauthenticated),
            ("check signature failed.", ErrorKind::Unauthenticated),
            (
                "User:u has no permission to access Topic:t from 1.2.3.4, no matched policies.",
                ErrorKind::PermissionDenied,
            ),
        ] {
            assert_eq!(kind_of(40100, text), kind, "{text}");
        }
        assert_eq!(kind_of(50001, "parse the consumer's subscription failed: x"), ErrorKind::InvalidArgument);
        assert_eq!(kind_of(50001, "connect to broker failed"), ErrorKind::Server);
    }

    #[test]
    fn e2_an_error_says_operation_place_text_and_code() {
        let error = context().judge(Some(&status(40013, "receipt handle is expired"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ack on topic orders in group billing at proxy:8081: receipt handle is expired (server code 40013)"
        );
        assert_eq!(error.text(), "receipt handle is expired");
        assert_eq!(error.server_code(), Some(40013));
        let faq =
            "CODE: 17  DESC: No topic route info\nFor more information, please visit the url, https://example.org/";
        assert_eq!(context().refused(&status(40402, faq)).text(), "CODE: 17  DESC: No topic route info");
        let silent = context().refused(&status(40402, ""));
        assert_eq!(silent.text(), "TOPIC_NOT_FOUND");
    }

    #[test]
    fn r8_only_ok_is_success() {
        assert!(context().judge(Some(&status(20000, ""))).is_ok());
        assert!(context().judge(Some(&status(30000, ""))).is_err());
        assert_eq!(context().judge(None).unwrap_err().kind(), ErrorKind::Protocol);
        assert_eq!(context().judge(Some(&status(0, ""))).unwrap_err().kind(), ErrorKind::Protocol);
    }

    #[test]
    fn a_message_that_is_stored_but_not_safe_says_so() {
        for code in [50401, 50402, 50002] {
            let error = context().refused(&status(code, "flush"));
            assert_eq!(error.kind(), ErrorKind::Timeout);
            assert!(error.text().starts_with("stored, but not safely"), "{error}");
        }
    }
}
