//! Calls that have one answer.

use std::error::Error as _;
use std::pin::pin;
use std::time::Duration;

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Extensions, Request, Status};
use tonic_prost::ProstCodec;

use crate::clock;
use crate::error::{Error, ErrorKind, Result, millis};
use crate::transport::grpc::GrpcWire;
use crate::transport::grpc::channel::Connection;
use crate::transport::grpc::connector::ConnectFailure;
use crate::transport::grpc::peer::{Peer, Phase};
use crate::transport::grpc::status::{Context, cause, kind_of_grpc};

/// The methods of `apache.rocketmq.v2.MessagingService`.
///
/// They go through tonic's `Grpc` and not through the generated client: that has one function per method, while this wants
/// one function for all of them, and a decoder of its own for `ReceiveMessage`.
pub(crate) mod method {
    pub(crate) const QUERY_ROUTE: &str = "/apache.rocketmq.v2.MessagingService/QueryRoute";
    pub(crate) const HEARTBEAT: &str = "/apache.rocketmq.v2.MessagingService/Heartbeat";
    pub(crate) const SEND: &str = "/apache.rocketmq.v2.MessagingService/SendMessage";
    pub(crate) const RECEIVE: &str = "/apache.rocketmq.v2.MessagingService/ReceiveMessage";
    pub(crate) const ACK: &str = "/apache.rocketmq.v2.MessagingService/AckMessage";
    pub(crate) const DEAD_LETTER: &str = "/apache.rocketmq.v2.MessagingService/ForwardMessageToDeadLetterQueue";
    pub(crate) const TELEMETRY: &str = "/apache.rocketmq.v2.MessagingService/Telemetry";
    pub(crate) const TERMINATE: &str = "/apache.rocketmq.v2.MessagingService/NotifyClientTermination";
    pub(crate) const CHANGE_INVISIBLE: &str = "/apache.rocketmq.v2.MessagingService/ChangeInvisibleDuration";
}

impl GrpcWire {
    /// Asks and waits for the one answer.
    ///
    /// The deadline is told to the server as well.
    pub(crate) async fn unary<Q, A>(&self, context: &Context, method: &'static str, question: Q) -> Result<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let deadline = self.request_timeout;
        let connection = self.connection(context)?;
        let request = self.request(question, Some(deadline));
        let answer = self.call(context, &connection, deadline, async move |mut grpc: Grpc<Channel>| {
            ready(&mut grpc).await?;
            grpc.unary(request, PathAndQuery::from_static(method), ProstCodec::<Q, A>::new()).await
        });
        Ok(answer.await?.into_inner())
    }

    /// A request with its headers. Without a deadline it lasts until one side ends it.
    pub(crate) fn request<Q>(&self, question: Q, deadline: Option<Duration>) -> Request<Q> {
        let metadata = self.headers.next(clock::wall());
        let mut request = Request::from_parts(metadata, Extensions::new(), question);
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        request
    }

    /// The connection to the endpoint of a call.
    pub(crate) fn connection(&self, context: &Context) -> Result<Connection> {
        self.channels.get(&context.endpoint).map_err(|error| context.dress(error))
    }

    /// Makes a call. `deadline` is for the call alone: if the connection must be opened first, that has its own time.
    pub(crate) async fn call<A, F>(
        &self,
        context: &Context,
        connection: &Connection,
        deadline: Duration,
        call: impl FnOnce(Grpc<Channel>) -> F,
    ) -> Result<A>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let peer = &connection.peer;
        let was_connected = peer.phase() == Phase::Http2;
        let mut call = pin!(call(connection.grpc.clone()));
        let mut answer = clock::timeout(deadline, call.as_mut()).await;
        // What answers over an open connection has had its time.
        if answer.is_none() && !(was_connected && peer.phase() == Phase::Http2) {
            answer = clock::timeout(self.connect_timeout, call).await;
        }
        match answer {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(status)) => {
                if cause::<WorkerGone>(&status).is_some() {
                    self.channels.forget(&context.endpoint);
                }
                Err(failed(context, status, peer, deadline))
            }
            None if peer.phase() == Phase::Connecting => {
                let text = format!("no connection within {}", millis(self.connect_timeout));
                Err(context.error(ErrorKind::Unavailable, text))
            }
            None => Err(no_answer(context, deadline)),
        }
    }
}

/// The task behind a channel is gone, with the runtime it was opened on: the channel can never be ready again.
#[derive(Debug)]
struct WorkerGone(tonic::transport::Error);

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

pub(crate) async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::from_error(Box::new(WorkerGone(error))))
}

pub(crate) fn no_answer(context: &Context, within: Duration) -> Error {
    context.error(ErrorKind::Timeout, format!("no answer within {}", millis(within)))
}

/// What a status of gRPC itself means.
pub(crate) fn failed(context: &Context, status: Status, peer: &Peer, within: Duration) -> Error {
    if let Some(failure) = cause::<ConnectFailure>(&status) {
        return context.error(failure.kind, failure.text.clone());
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
