//! What can go wrong, named by what the caller does about it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Endpoint, MessageQueue, OutboundMessage};

/// A boxed error of the user's.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate: one word wide, opaque, asked by its methods.
///
/// [`Display`](fmt::Display) says what was tried, on what, what the rule is and what to do; it does not repeat
/// [`source`](StdError::source), which carries the cause.
///
/// A clone shares everything: one failure can be told to all who waited for the same thing.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: ErrorKind,
    text: Box<str>,
    operation: Option<Operation>,
    topic: Option<Arc<str>>,
    group: Option<Arc<str>>,
    queue: Option<MessageQueue>,
    endpoint: Option<Endpoint>,
    server_code: Option<i32>,
    unsent: Vec<OutboundMessage>,
    source: Option<Arc<dyn StdError + Send + Sync + 'static>>,
}

/// What kind of error it is, named by what the caller does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting of a builder is wrong: change the program.
    Config,
    /// An argument of a call is wrong: change the call.
    InvalidArgument,
    /// The server does not accept these credentials.
    Unauthenticated,
    /// The credentials are good, but have no right to do this.
    PermissionDenied,
    /// A topic, consumer group or message does not exist.
    NotFound,
    /// A body, a property or a frame is over a limit.
    TooLarge,
    /// The server asks for less traffic: slow down.
    Throttled,
    /// No answer came in time; whether the server acted on the request is not known.
    Timeout,
    /// The server cannot be reached, or a part of it is away: try later.
    Unavailable,
    /// The request does not fit the state of the server (message type of a topic, an ended transaction).
    Precondition,
    /// An offset is below the first or beyond the last of its queue.
    OffsetOutOfRange,
    /// A receipt handle is not, or no longer, valid.
    InvalidReceipt,
    /// This server, or this configuration, cannot do that.
    Unsupported,
    /// The server failed inside.
    Server,
    /// The other side does not speak the protocol as expected.
    Protocol,
    /// The consumer, producer or client was shut down.
    Closed,
}

impl ErrorKind {
    /// Whether the same request may succeed later without a change to the program.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Throttled | Self::Timeout | Self::Unavailable | Self::Server)
    }
}

/// What was being done when an error came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Opening a connection.
    Connect,
    /// The telemetry handshake that registers a client.
    Handshake,
    /// A heartbeat.
    Heartbeat,
    /// Asking for the route of a topic.
    QueryRoute,
    /// Receiving messages.
    Receive,
    /// Acknowledging messages.
    Ack,
    /// Changing the invisible duration of a message (extend, nack, release).
    ChangeInvisible,
    /// Moving a message to the dead-letter queue.
    DeadLetter,
    /// Sending a message.
    Send,
    /// Taking a delayed message back.
    Recall,
    /// Ending a transaction.
    EndTransaction,
    /// Saying goodbye to a server.
    Terminate,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::Heartbeat => "heartbeat",
            Self::QueryRoute => "query route",
            Self::Receive => "receive",
            Self::Ack => "ack",
            Self::ChangeInvisible => "change invisible duration",
            Self::DeadLetter => "forward to dead-letter queue",
            Self::Send => "send",
            Self::Recall => "recall",
            Self::EndTransaction => "end transaction",
            Self::Terminate => "notify termination",
        })
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            text: text.into().into_boxed_str(),
            operation: None,
            topic: None,
            group: None,
            queue: None,
            endpoint: None,
            server_code: None,
            unsent: Vec::new(),
            source: None,
        }))
    }

    /// A setting that breaks a rule: `field` as the setter is called, the value given, the rule.
    pub(crate) fn config(field: &str, value: impl fmt::Display, rule: &str) -> Self {
        Self::new(ErrorKind::Config, format!("{field} `{value}`: {rule}"))
    }

    /// An argument that breaks a rule: `field` as the parameter is called, the value given, the rule.
    pub(crate) fn argument(field: &str, value: impl fmt::Display, rule: &str) -> Self {
        Self::new(ErrorKind::InvalidArgument, format!("{field} `{value}`: {rule}"))
    }

    /// What is closed, so that the caller knows which object to look at.
    pub(crate) fn closed(what: &str) -> Self {
        Self::new(ErrorKind::Closed, format!("the {what} was shut down"))
    }

    pub(crate) fn during(mut self, operation: Operation) -> Self {
        Arc::make_mut(&mut self.0).operation = Some(operation);
        self
    }

    pub(crate) fn on_topic(mut self, topic: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.0).topic = Some(topic.into());
        self
    }

    pub(crate) fn in_group(mut self, group: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.0).group = Some(group.into());
        self
    }

    pub(crate) fn on_queue(mut self, queue: MessageQueue) -> Self {
        Arc::make_mut(&mut self.0).queue = Some(queue);
        self
    }

    pub(crate) fn at(mut self, endpoint: &Endpoint) -> Self {
        Arc::make_mut(&mut self.0).endpoint = Some(endpoint.clone());
        self
    }

    pub(crate) fn with_code(mut self, code: i32) -> Self {
        Arc::make_mut(&mut self.0).server_code = Some(code);
        self
    }

    /// Words it anew; kind, place and code stay. Not before it was judged: a verdict may depend on the server's text.
    pub(crate) fn with_text(mut self, text: impl Into<String>) -> Self {
        self.0.text = text.into().into_boxed_str();
        self
    }

    /// The same without its source and messages, for a second one who is to be told.
    pub(crate) fn copy(&self) -> Self {
        let Inner { kind, text, operation, topic, group, queue, endpoint, server_code, .. } = &*self.0;
        Self(Box::new(Inner {
            kind: *kind,
            text: text.clone(),
            operation: *operation,
            topic: topic.clone(),
            group: group.clone(),
            queue: queue.clone(),
            endpoint: endpoint.clone(),
            server_code: *server_code,
            unsent: Vec::new(),
            source: None,
        }))
    }

    pub(crate) fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        Arc::make_mut(&mut self.0).source = Some(source.into().into());
        self
    }

    pub(crate) fn with_unsent(mut self, unsent: Vec<OutboundMessage>) -> Self {
        Arc::make_mut(&mut self.0).unsent = unsent;
        self
    }

    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same request may succeed later without a change to the program.
    ///
    /// The streams and the producer have already retried what may be repeated; this is for what reached you all the same.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.kind.is_transient()
    }

    /// What was being done, if it was a request to a server.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        self.0.operation
    }

    /// The topic concerned.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        self.0.topic.as_deref()
    }

    /// The consumer group concerned.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.0.group.as_deref()
    }

    /// The message queue concerned.
    #[must_use]
    pub fn queue(&self) -> Option<&MessageQueue> {
        self.0.queue.as_ref()
    }

    /// The endpoint that was asked.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.0.endpoint.as_ref()
    }

    /// The server's own code, e.g. 40402 for TOPIC_NOT_FOUND, if the server answered.
    #[must_use]
    pub fn server_code(&self) -> Option<i32> {
        self.0.server_code
    }

    /// What this level says, without operation and place; for a server's answer, the server's text.
    pub(crate) fn text(&self) -> &str {
        &self.0.text
    }

    /// The messages a [`ProducerSink`](crate::ProducerSink) could not send.
    ///
    /// # Errors
    /// Gives the error back when it carries no message.
    pub fn into_unsent(mut self) -> std::result::Result<Vec<OutboundMessage>, Self> {
        if self.0.unsent.is_empty() { Err(self) } else { Ok(std::mem::take(&mut Arc::make_mut(&mut self.0).unsent)) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, topic, group, queue, endpoint, server_code, text, unsent, .. } = &*self.0;
        if let Some(operation) = operation {
            write!(f, "{operation}")?;
            if let Some(queue) = queue {
                write!(f, " on queue {queue}")?;
            } else if let Some(topic) = topic {
                write!(f, " on topic {topic}")?;
            }
            if let Some(group) = group {
                write!(f, " in group {group}")?;
            }
            if let Some(endpoint) = endpoint {
                write!(f, " at {endpoint}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(text)?;
        if let Some(code) = server_code {
            write!(f, " (server code {code})")?;
        }
        if !unsent.is_empty() {
            write!(f, " ({} messages not sent: Error::into_unsent gives them back)", unsent.len())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind).field("message", &format_args!("{self}"));
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

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

/// Shortens a duration for an error text: whole milliseconds.
pub(crate) fn millis(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn an_error_says_operation_place_text_and_code() {
        let endpoint = Endpoint::new("broker-1", 8081);
        let error = Error::new(ErrorKind::NotFound, "no such topic")
            .during(Operation::Receive)
            .on_topic("orders")
            .in_group("billing")
            .at(&endpoint)
            .with_code(40402);
        assert_eq!(
            error.to_string(),
            "receive on topic orders in group billing at broker-1:8081: no such topic (server code 40402)"
        );
    }

    #[test]
    fn display_does_not_repeat_its_source() {
        let error = Error::new(ErrorKind::Unavailable, "cannot connect").with_source("refused");
        assert!(!error.to_string().contains("refused"));
        assert_eq!(error.source().map(ToString::to_string), Some("refused".to_owned()));
    }

    #[test]
    fn a_failed_send_gives_the_message_back_also_through_the_crate_error() {
        let failed = SendError::new(OutboundMessage::new("t", "body"), Error::new(ErrorKind::Timeout, "no answer"));
        assert!(failed.may_have_been_stored());
        let unsent = Error::from(failed).into_unsent().expect("the message travels with the error");
        assert_eq!(&unsent[0].body()[..], b"body");
    }
}
