//! What can go wrong, named by what the caller does about it.

mod ack;
mod kind;
mod send;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Endpoint, MessageQueue, OutboundMessage};

pub use ack::AckError;
pub use kind::{ErrorKind, Operation};
pub use send::SendError;

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
    queue: Option<MessageQueue>,
    group: Option<Arc<str>>,
    endpoint: Option<Endpoint>,
    server_code: Option<i32>,
    unsent: Vec<OutboundMessage>,
    source: Option<Arc<dyn StdError + Send + Sync + 'static>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            text: text.into().into_boxed_str(),
            operation: None,
            topic: None,
            queue: None,
            group: None,
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

    /// The queue, and with it the topic.
    pub(crate) fn on_queue(mut self, queue: &MessageQueue) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.topic = Some(Arc::clone(queue.shared_topic()));
        inner.queue = Some(queue.clone());
        self
    }

    pub(crate) fn in_group(mut self, group: impl Into<Arc<str>>) -> Self {
        Arc::make_mut(&mut self.0).group = Some(group.into());
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
        Arc::make_mut(&mut self.0).text = text.into().into_boxed_str();
        self
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

    /// The message queue concerned.
    #[must_use]
    pub fn queue(&self) -> Option<&MessageQueue> {
        self.0.queue.as_ref()
    }

    /// The consumer group concerned.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.0.group.as_deref()
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
        let Inner { operation, topic, queue, group, endpoint, server_code, text, unsent, .. } = &*self.0;
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

/// Shortens a duration for an error text: whole milliseconds.
pub(crate) fn millis(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

#[cfg(test)]
mod tests;
