use std::fmt;

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
    /// Pulling messages by offset.
    Pull,
    /// Asking for an offset: committed, lowest, highest, or for a time.
    QueryOffset,
    /// Committing an offset.
    CommitOffset,
    /// Asking who is in a consumer group, and how it consumes.
    QueryGroup,
    /// Having the server check a filter.
    CheckFilter,
    /// Loading or saving a checkpoint.
    Checkpoint,
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
            Self::Pull => "pull",
            Self::QueryOffset => "query offset",
            Self::CommitOffset => "commit offset",
            Self::QueryGroup => "query consumer group",
            Self::CheckFilter => "check filter",
            Self::Checkpoint => "checkpoint",
        })
    }
}
