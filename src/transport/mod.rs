//! The wires, behind small traits in the terms of the model. Nothing above this module knows protobuf or frames.
//!
//! An implementation belongs to **one** client identity. Tokens and routes are passed in; a transport keeps no state but its
//! connections. Every call has a deadline of its own. Errors carry operation, endpoint, server code and text.

mod asking;
pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod dial;
pub(crate) mod grpc;
mod pulling;
pub(crate) mod remoting;
pub(crate) mod tls;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_core::Stream;

pub(crate) use asking::{ConsumerInfo, GroupRequest, QueueProgress, Reply};
pub(crate) use pulling::{ConsumeKind, GroupProfile, PullOutcome, PullRequest, Pulled, Pulling, QueueBound};

use crate::error::Result;
use crate::model::{
    ClientSettings, Endpoint, Filter, Held, Message, MessageId, Offset, OutboundMessage, Route, ServerSettings,
};

/// One request under way. One box per RPC is nothing beside the RPC.
pub(crate) type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// A stream from the server.
pub(crate) type Incoming<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// Where a topic lives.
pub(crate) trait Routing: fmt::Debug + Send + Sync {
    /// Masters only, but for the `replicas` of its queues. The route's topic is the one asked for. A wire that has several
    /// servers to ask for routes begins with `at`, and goes on to the others.
    fn query_route<'a>(&'a self, at: &'a Endpoint, topic: &'a Arc<str>) -> Call<'a, Route>;
}

/// Being known to a server.
pub(crate) trait Presence: fmt::Debug + Send + Sync {
    /// Tells a server who this client is, and begins to take its commands: over gRPC by a telemetry stream, over remoting by
    /// a heartbeat. The first items are the server's answer; the stream ends with an error or `None` when the connection is
    /// gone. Dropping the [`PresenceLink`] closes it.
    fn open<'a>(&'a self, at: &'a Endpoint, settings: &'a ClientSettings) -> Call<'a, PresenceLink>;

    /// Keeps the registration; the server forgets a client that is silent for 120 s.
    fn heartbeat<'a>(&'a self, at: &'a Endpoint, settings: &'a ClientSettings) -> Call<'a, ()>;

    /// Says goodbye: the server forgets this client at once.
    fn goodbye<'a>(&'a self, at: &'a Endpoint, group: Option<&'a Arc<str>>) -> Call<'a, ()>;

    /// Drops the connections to an endpoint that no longer answers; the next call connects anew and resolves the name again.
    fn forget(&self, at: &Endpoint);
}

/// An open way to be commanded: commands come in, settings and answers go out.
pub(crate) struct PresenceLink {
    pub(crate) commands: Incoming<ServerCommand>,
    /// Bounded: a server that does not read makes `send` fail with `Unavailable` rather than pile up.
    pub(crate) replies: tokio::sync::mpsc::Sender<ClientReply>,
}

/// What a server says of its own accord.
#[derive(Debug)]
pub(crate) enum ServerCommand {
    /// The merged settings: the handshake is done.
    Settings(ServerSettings),
    /// The server refuses this client; the stream ends after it.
    Refused(crate::error::Error),
    /// A transaction whose outcome the broker wants to know.
    CheckTransaction { message: Message, transaction_id: String },
    /// An administrator asks for the threads of this client.
    PrintThreads { nonce: String },
    /// An administrator asks this client to consume a message once.
    VerifyMessage { nonce: String },
    /// Connect anew.
    Reconnect,
    /// Somebody has joined or left the consumer group, or changed its subscription.
    MembersChanged,
    /// Something for the consumer to answer.
    Ask(GroupRequest),
    /// A command this version does not know.
    Unknown,
}

/// What a client says to a server that it is known to.
#[derive(Debug)]
pub(crate) enum ClientReply {
    Settings(ClientSettings),
    /// `text` is shown to the administrator.
    Threads {
        nonce: String,
        text: String,
    },
    /// This client does not verify messages.
    CannotVerify {
        nonce: String,
    },
}

/// Receiving under a lease, and settling.
pub(crate) trait Receiving: fmt::Debug + Send + Sync {
    /// The stream yields messages as they arrive, and ends; or one error that carries the server's code.
    /// Its first frame arrives within `await + some seconds`, or it fails with `Timeout`.
    fn receive<'a>(&'a self, at: &'a Endpoint, request: &'a ReceiveRequest) -> Call<'a, Incoming<ReceiveFrame>>;

    /// One answer per entry, in the order of the request, whatever the order of the wire. May be repeated.
    fn ack<'a>(&'a self, at: &'a Endpoint, scope: &'a Scope, entries: &'a [Held]) -> Call<'a, Vec<Result<()>>>;

    /// The new receipt handle. Never repeat it blindly.
    fn change_invisible<'a>(
        &'a self,
        at: &'a Endpoint,
        scope: &'a Scope,
        held: &'a Held,
        change: InvisibleChange,
    ) -> Call<'a, Arc<str>>;

    /// Moves a message to the dead-letter queue of the group. Never repeat it blindly.
    fn dead_letter<'a>(
        &'a self,
        at: &'a Endpoint,
        scope: &'a Scope,
        held: &'a Held,
        attempts: DeliveryAttempts,
    ) -> Call<'a, ()>;
}

/// Whom a settlement concerns: always the topic that was *asked for*, also for `%DLQ%…` (trap R9).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) group: Arc<str>,
    pub(crate) topic: Arc<str>,
}

/// What a change of the invisible duration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvisibleChange {
    pub(crate) duration: Duration,
    /// Costs no delivery attempt where the server honours it (5.5.0 does).
    pub(crate) suspend: bool,
}

/// Which delivery this was, and how many there may be. The server does not use them today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeliveryAttempts {
    pub(crate) now: u32,
    pub(crate) max: u32,
}

/// One receive.
#[derive(Debug, Clone)]
pub(crate) struct ReceiveRequest {
    pub(crate) scope: Scope,
    pub(crate) broker: Arc<str>,
    pub(crate) filter: Filter,
    pub(crate) max_messages: u32,
    /// `None`: the server chooses it and renews by itself (`Renewal::Server`).
    pub(crate) invisible: Option<Duration>,
    /// How long the server may wait for a first message.
    pub(crate) await_duration: Duration,
    /// FIFO groups: the same id gets the same messages back after a lost answer.
    pub(crate) attempt_id: Option<Arc<str>>,
}

/// What a receive yields.
#[derive(Debug)]
pub(crate) enum ReceiveFrame {
    /// A message and what to settle it by.
    Message { message: Message, held: Held },
    /// There is none; the text tells "no new message" (the poll lasted) from "no match message" (at once).
    Empty { text: String },
    /// When the server wrote this answer, by its clock.
    DeliveryTimestamp(SystemTime),
}

/// Sending.
pub(crate) trait Sending: fmt::Debug + Send + Sync {
    /// Sends one message under an id chosen by the caller: repeating a send with the same id is what makes it safe to repeat.
    fn send<'a>(&'a self, at: &'a Endpoint, stamped: &'a Stamped) -> Call<'a, Sent>;
}

/// A message with what the producer adds to it.
#[derive(Debug, Clone)]
pub(crate) struct Stamped {
    pub(crate) message: OutboundMessage,
    pub(crate) id: MessageId,
    pub(crate) born: SystemTime,
    pub(crate) born_host: Arc<str>,
    /// A half message of a transaction.
    pub(crate) transactional: bool,
}

/// What the server answered to a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) message_id: Box<str>,
    pub(crate) offset: Offset,
    pub(crate) transaction_id: Option<Box<str>>,
    pub(crate) recall_handle: Option<Box<str>>,
}

/// What a session needs of a wire; consumers and producers have what they need beside it.
pub(crate) trait Wire: Routing + Presence {}
impl<T: Routing + Presence> Wire for T {}

impl fmt::Debug for PresenceLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresenceLink").finish_non_exhaustive()
    }
}
