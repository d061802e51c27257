//! Calls without an answer: what a status of gRPC itself means.

use std::error::Error as StdError;
use std::time::Duration;

use tonic::Status;

use crate::error::{Error, ErrorKind, Operation, millis};
use crate::transport::dial::ConnectFailure;
use crate::transport::grpc::convert::Context;
use crate::transport::grpc::peer::Peer;

/// The task behind a channel is gone, with the runtime it was opened on: the channel can never be ready again.
#[derive(Debug)]
pub(crate) struct WorkerGone(pub(crate) tonic::transport::Error);

impl std::fmt::Display for WorkerGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection was closed with the runtime it belonged to")
    }
}

impl std::error::Error for WorkerGone {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

pub(crate) fn no_answer(context: &Context, within: Duration) -> Error {
    context.error(ErrorKind::Timeout, format!("no answer within {}", millis(within)))
}

/// What a status of gRPC itself means.
pub(crate) fn failed(context: &Context, status: Status, peer: &Peer, within: Duration) -> Error {
    if let Some(failure) = cause::<ConnectFailure>(&status) {
        // Not of the operation: the request never left, so nothing can have come of it.
        return context.error(failure.kind, failure.text.clone()).during(Operation::Connect);
    }
    let is_local = status.source().is_some();
    if is_local && let Some((kind, text)) = peer.phase().objection() {
        return context.error(kind, text).with_source(status);
    }
    let kind = kind_of_grpc(status.code(), status.message(), is_local);
    match kind {
        ErrorKind::Timeout => no_answer(context, within),
        ErrorKind::Unavailable if is_local => {
            let text = format!("the connection was lost: {}", root_cause(&status));
            context.error(kind, text).with_source(status)
        }
        ErrorKind::Unsupported => {
            context.error(kind, format!("this server does not have the method: {}", words(&status)))
        }
        ErrorKind::TooLarge => {
            let text =
                format!("{}; raise Limits::max_frame_size if the message is meant to be so large", words(&status));
            context.error(kind, text)
        }
        _ => context.error(kind, words(&status)),
    }
}

/// The server's words, or the name of the code if it had none.
fn words(status: &Status) -> String {
    if status.message().is_empty() { format!("gRPC: {}", status.code()) } else { status.message().to_owned() }
}

fn root_cause(status: &Status) -> String {
    let mut text = words(status);
    let mut next = status.source();
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    text
}

/// The kind of a gRPC status. `local`: it was made on this side, because the connection failed.
pub(crate) fn kind_of_grpc(code: tonic::Code, text: &str, local: bool) -> ErrorKind {
    // tonic's words for an answer without gRPC's headers: some other HTTP/2 server, or a gateway without its backend.
    if text.contains("grpc-status header missing") && code != tonic::Code::Unavailable {
        return ErrorKind::Protocol;
    }
    match code {
        tonic::Code::DeadlineExceeded => ErrorKind::Timeout,
        // tonic's own deadline is "cancelled".
        tonic::Code::Cancelled if text.contains("Timeout expired") => ErrorKind::Timeout,
        tonic::Code::Cancelled | tonic::Code::Unavailable | tonic::Code::Aborted => ErrorKind::Unavailable,
        tonic::Code::Unknown | tonic::Code::Internal if local => ErrorKind::Unavailable,
        tonic::Code::Internal if text.contains("decode") => ErrorKind::Protocol,
        tonic::Code::Unknown | tonic::Code::Internal | tonic::Code::DataLoss => ErrorKind::Server,
        // tonic's own limit is "out of range"; nothing else here counts.
        tonic::Code::ResourceExhausted | tonic::Code::OutOfRange => ErrorKind::TooLarge,
        tonic::Code::Unimplemented => ErrorKind::Unsupported,
        tonic::Code::Unauthenticated => ErrorKind::Unauthenticated,
        tonic::Code::PermissionDenied => ErrorKind::PermissionDenied,
        tonic::Code::InvalidArgument => ErrorKind::InvalidArgument,
        tonic::Code::NotFound => ErrorKind::NotFound,
        tonic::Code::AlreadyExists | tonic::Code::FailedPrecondition => ErrorKind::Precondition,
        tonic::Code::Ok => ErrorKind::Protocol,
    }
}

/// The cause of type `T` anywhere below an error.
pub(crate) fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grpc_code_has_its_kind() {
        let kind = |code: i32| kind_of_grpc(tonic::Code::from_i32(code), "", false);
        for (code, expected) in [
            (0, ErrorKind::Protocol),
            (1, ErrorKind::Unavailable),
            (2, ErrorKind::Server),
            (3, ErrorKind::InvalidArgument),
            (4, ErrorKind::Timeout),
            (5, ErrorKind::NotFound),
            (6, ErrorKind::Precondition),
            (7, ErrorKind::PermissionDenied),
            (8, ErrorKind::TooLarge),
            (9, ErrorKind::Precondition),
            (10, ErrorKind::Unavailable),
            (11, ErrorKind::TooLarge),
            (12, ErrorKind::Unsupported),
            (13, ErrorKind::Server),
            (14, ErrorKind::Unavailable),
            (15, ErrorKind::Server),
            (16, ErrorKind::Unauthenticated),
            (99, ErrorKind::Server),
        ] {
            assert_eq!(kind(code), expected, "{code}");
        }
        assert_eq!(kind_of_grpc(tonic::Code::Unknown, "transport error", true), ErrorKind::Unavailable);
        assert_eq!(kind_of_grpc(tonic::Code::Cancelled, "Timeout expired", true), ErrorKind::Timeout);
        let other = "grpc-status header missing, mapped from HTTP status code 404";
        assert_eq!(kind_of_grpc(tonic::Code::Unimplemented, other, false), ErrorKind::Protocol);
    }
}
