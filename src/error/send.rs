use std::error::Error as StdError;
use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::model::OutboundMessage;

/// A send that failed; it gives the message back.
#[derive(Debug)]
pub struct SendError {
    message: Box<OutboundMessage>,
    error: Error,
    may_be_stored: bool,
}

impl SendError {
    /// A message that never left, or one of which nothing but the error tells whether it was stored.
    pub(crate) fn new(message: OutboundMessage, error: Error) -> Self {
        let may_be_stored = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Server);
        Self { message: Box::new(message), error, may_be_stored }
    }

    /// Whether some attempt may have stored the message: an earlier one, too, whatever the last one was answered.
    pub(crate) fn stored(mut self, may_be_stored: bool) -> Self {
        self.may_be_stored = may_be_stored;
        self
    }

    /// The message that was not sent.
    #[must_use]
    pub fn message(&self) -> &OutboundMessage {
        &self.message
    }

    /// Takes the message back, to send it again or elsewhere.
    #[must_use]
    pub fn into_message(self) -> OutboundMessage {
        *self.message
    }

    /// Takes the message and the reason apart.
    #[must_use]
    pub fn into_parts(self) -> (OutboundMessage, Error) {
        (*self.message, self.error)
    }

    /// Why it failed.
    #[must_use]
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// Whether the server may have stored the message although no answer said so: sending it again may store it twice.
    #[must_use]
    pub fn may_have_been_stored(&self) -> bool {
        self.may_be_stored
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = self.message.topic();
        if self.may_be_stored {
            write!(f, "a message to topic {topic} was not confirmed: the server may or may not have stored it")
        } else {
            write!(f, "a message to topic {topic} was not sent")
        }
    }
}

impl StdError for SendError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        let (message, error) = error.into_parts();
        error.with_unsent(vec![message])
    }
}
