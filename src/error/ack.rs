use std::error::Error as StdError;
use std::fmt;

use crate::error::{Error, ErrorKind, Operation};

/// Why a settlement (ack, nack, extend, dead-letter) did not happen, by its consequence for the message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AckError {
    /// The lease ran out first: the message will be delivered again.
    LeaseExpired,
    /// The server refused: the message will be delivered again when its lease runs out.
    Rejected {
        /// The server's code, e.g. 40013 for INVALID_RECEIPT_HANDLE.
        code: i32,
        /// The server's text.
        message: Box<str>,
    },
    /// The answer was lost: the message may be delivered again, or may not.
    Unknown,
    /// The consumer was shut down before this was sent: the message will be delivered again.
    Closed,
}

impl fmt::Display for AckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeaseExpired => {
                f.write_str("not settled: the lease ran out first, the message will be delivered again")
            }
            Self::Rejected { code, message } => {
                write!(f, "not settled: the server refused ({code}: {message}), the message will be delivered again")
            }
            Self::Unknown => {
                f.write_str("perhaps not settled: the server's answer was lost, the message may be delivered again")
            }
            Self::Closed => {
                f.write_str("not settled: the consumer was shut down first, the message will be delivered again")
            }
        }
    }
}

impl StdError for AckError {}

impl From<AckError> for Error {
    fn from(error: AckError) -> Self {
        let kind = match &error {
            AckError::LeaseExpired => ErrorKind::InvalidReceipt,
            AckError::Rejected { .. } => ErrorKind::Server,
            AckError::Unknown => ErrorKind::Timeout,
            AckError::Closed => ErrorKind::Closed,
        };
        Self::new(kind, "a message was not settled").during(Operation::Ack).with_source(error)
    }
}
