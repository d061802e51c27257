//! The gRPC v2 wire.
//!
//! `convert` is the pure half: requests, answers, status codes. `channel`, `connector` and `peer` open connections;
//! `rpc`, `receive`, `pull` and `telemetry` talk; `failure` says what became of a call without an answer.

mod channel;
mod codec;
mod connector;
pub(crate) mod convert;
mod failure;
mod headers;
mod peer;
mod pull;
mod receive;
mod rpc;
mod telemetry;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Operation, Result};
use crate::model::{ClientSettings, Credentials, Endpoint, Held, Limits, Route, Scheme};
use crate::proto;
use crate::transport::grpc::channel::Channels;
use crate::transport::grpc::convert::Context;
use crate::transport::grpc::convert::Requests;
use crate::transport::grpc::headers::Headers;
use crate::transport::grpc::rpc::method;
use crate::transport::tls::TlsOptions;
use crate::transport::{
    Call, DeliveryAttempts, Incoming, InvisibleChange, Presence, PresenceLink, ReceiveFrame, ReceiveRequest, Receiving,
    Routing, Scope, Sending, Sent, Stamped,
};

/// What a gRPC wire is made from; it belongs to one client identity.
#[derive(Debug, Clone)]
pub(crate) struct GrpcConfig {
    pub(crate) client_id: Arc<str>,
    pub(crate) scheme: Scheme,
    pub(crate) tls: TlsOptions,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) namespace: Arc<str>,
    /// Sent with QueryRoute: the server builds the endpoints of its answer from them.
    pub(crate) access_point: Vec<Endpoint>,
    pub(crate) request_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) limits: Limits,
    /// Whether body digests are checked. Off by default: it costs more than all the rest of a receive.
    pub(crate) check_digest: bool,
}

/// The gRPC v2 wire of one client identity. It opens a connection per endpoint when that is first called.
pub(crate) struct GrpcWire {
    channels: Channels,
    headers: Headers,
    requests: Arc<Requests>,
    request_timeout: Duration,
    connect_timeout: Duration,
    max_decompressed_size: usize,
    check_digest: bool,
}

impl GrpcWire {
    /// Opens nothing.
    ///
    /// # Errors
    /// `Config` when TLS cannot be set up, or when client id, namespace or access key cannot travel in a header.
    pub(crate) fn new(config: GrpcConfig) -> Result<Self> {
        Ok(Self {
            channels: Channels::new(&config)?,
            headers: Headers::new(&config)?,
            requests: Arc::new(Requests::new(
                config.namespace,
                &config.access_point,
                &config.client_id,
                headers::CLIENT_VERSION,
            )),
            request_timeout: config.request_timeout,
            connect_timeout: config.connect_timeout,
            max_decompressed_size: config.limits.max_decompressed_size,
            check_digest: config.check_digest,
        })
    }
}

impl fmt::Debug for GrpcWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcWire").field("headers", &self.headers).finish_non_exhaustive()
    }
}

impl Routing for GrpcWire {
    fn query_route<'a>(&'a self, at: &'a Endpoint, topic: &'a Arc<str>) -> Call<'a, Route> {
        Box::pin(async move {
            let context = Context::new(Operation::QueryRoute, at).topic(topic);
            let answer: proto::QueryRouteResponse =
                self.unary(&context, method::QUERY_ROUTE, self.requests.query_route(topic)).await?;
            context.judge(answer.status.as_ref())?;
            Ok(convert::route(topic, answer.message_queues))
        })
    }
}

impl Presence for GrpcWire {
    fn open<'a>(&'a self, at: &'a Endpoint, settings: &'a ClientSettings) -> Call<'a, PresenceLink> {
        Box::pin(self.open_telemetry(at, settings))
    }

    fn heartbeat<'a>(&'a self, at: &'a Endpoint, settings: &'a ClientSettings) -> Call<'a, ()> {
        Box::pin(async move {
            let (group, kind) = (settings.group.as_ref(), settings.kind);
            let context = Context::new(Operation::Heartbeat, at).group(group);
            let answer: proto::HeartbeatResponse =
                self.unary(&context, method::HEARTBEAT, self.requests.heartbeat(group, kind)).await?;
            context.judge(answer.status.as_ref())
        })
    }

    fn goodbye<'a>(&'a self, at: &'a Endpoint, group: Option<&'a Arc<str>>) -> Call<'a, ()> {
        Box::pin(async move {
            let context = Context::new(Operation::Terminate, at).group(group);
            let answer: proto::NotifyClientTerminationResponse =
                self.unary(&context, method::TERMINATE, self.requests.goodbye(group)).await?;
            context.judge(answer.status.as_ref())
        })
    }

    fn forget(&self, at: &Endpoint) {
        self.channels.forget(at);
    }
}

impl Receiving for GrpcWire {
    fn receive<'a>(&'a self, at: &'a Endpoint, request: &'a ReceiveRequest) -> Call<'a, Incoming<ReceiveFrame>> {
        Box::pin(self.open_receive(at, request))
    }

    fn ack<'a>(&'a self, at: &'a Endpoint, scope: &'a Scope, entries: &'a [Held]) -> Call<'a, Vec<Result<()>>> {
        Box::pin(async move {
            let context = Context::new(Operation::Ack, at).scope(scope);
            let answer = self.exchange_bytes(&context, method::ACK, self.requests.ack(scope, entries)).await?;
            convert::acked(entries, &answer, &context)
        })
    }

    fn change_invisible<'a>(
        &'a self,
        at: &'a Endpoint,
        scope: &'a Scope,
        held: &'a Held,
        change: InvisibleChange,
    ) -> Call<'a, Arc<str>> {
        Box::pin(async move {
            let context = Context::new(Operation::ChangeInvisible, at).scope(scope);
            let request = self.requests.change_invisible(scope, held, change);
            let answer = self.unary(&context, method::CHANGE_INVISIBLE, request).await?;
            convert::changed_handle(answer, &context)
        })
    }

    fn dead_letter<'a>(
        &'a self,
        at: &'a Endpoint,
        scope: &'a Scope,
        held: &'a Held,
        attempts: DeliveryAttempts,
    ) -> Call<'a, ()> {
        Box::pin(async move {
            let context = Context::new(Operation::DeadLetter, at).scope(scope);
            let request = self.requests.dead_letter(scope, held, attempts);
            let answer: proto::ForwardMessageToDeadLetterQueueResponse =
                self.unary(&context, method::DEAD_LETTER, request).await?;
            context.judge(answer.status.as_ref())
        })
    }
}

impl Sending for GrpcWire {
    fn send<'a>(&'a self, at: &'a Endpoint, stamped: &'a Stamped) -> Call<'a, Sent> {
        Box::pin(async move {
            let context = Context::new(Operation::Send, at).topic(&stamped.message.shared_topic());
            let answer = self.exchange_bytes(&context, method::SEND, self.requests.send(stamped)).await?;
            convert::sent(stamped, &answer, &context)
        })
    }
}
