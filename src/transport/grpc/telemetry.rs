//! The telemetry stream: how a client is known to a server, and how a server reaches it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use crate::error::{Operation, Result};
use crate::model::{ClientSettings, Endpoint};
use crate::proto::TelemetryCommand;
use crate::transport::grpc::GrpcWire;
use crate::transport::grpc::convert::Context;
use crate::transport::grpc::convert::{Reading, Requests, reply, server_command};
use crate::transport::grpc::failure::failed;
use crate::transport::grpc::peer::Peer;
use crate::transport::grpc::rpc::{method, ready};
use crate::transport::{ClientReply, PresenceLink, ServerCommand};

/// How many replies may wait for a server that does not read. A client says little: settings, and an answer to a command.
const REPLIES: usize = 16;

impl GrpcWire {
    pub(crate) async fn open_telemetry(&self, at: &Endpoint, settings: &ClientSettings) -> Result<PresenceLink> {
        let context = Context::new(Operation::Handshake, at).group(settings.group.as_ref());
        let (sender, replies) = mpsc::channel(REPLIES);
        let first = reply(ClientReply::Settings(settings.clone()), &self.requests);
        let outgoing = Outgoing { first: Some(first), replies, requests: Arc::clone(&self.requests) };
        // No deadline: it lasts as long as the client.
        let question = self.request(outgoing, None);
        let connection = self.connection(&context)?;
        let answer = self.call(&context, &connection, self.request_timeout, async move |mut grpc: Grpc<Channel>| {
            ready(&mut grpc).await?;
            let codec = ProstCodec::<TelemetryCommand, TelemetryCommand>::new();
            grpc.streaming(question, PathAndQuery::from_static(method::TELEMETRY), codec).await
        });
        let commands = Commands {
            incoming: Some(answer.await?.into_inner()),
            reading: Reading {
                topic: "".into(),
                broker: None,
                max_decompressed_size: self.max_decompressed_size,
                check_digest: self.check_digest,
                is_delivery: false,
            },
            requests: Arc::clone(&self.requests),
            within: self.request_timeout,
            context,
            peer: connection.peer,
        };
        Ok(PresenceLink { commands: Box::pin(commands), replies: sender })
    }
}

/// What this client says: its settings first, then what the session sends. It ends when the link is dropped.
struct Outgoing {
    first: Option<TelemetryCommand>,
    replies: mpsc::Receiver<ClientReply>,
    requests: Arc<Requests>,
}

impl Stream for Outgoing {
    type Item = TelemetryCommand;

    fn poll_next(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<TelemetryCommand>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(first));
        }
        this.replies.poll_recv(task).map(|said| said.map(|said| reply(said, &this.requests)))
    }
}

/// What the server says. After a refusal or an error there is nothing more.
struct Commands {
    /// `None`: it has ended.
    incoming: Option<Streaming<TelemetryCommand>>,
    reading: Reading,
    requests: Arc<Requests>,
    within: std::time::Duration,
    context: Context,
    peer: Arc<Peer>,
}

impl Stream for Commands {
    type Item = Result<ServerCommand>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(incoming) = this.incoming.as_mut() else { return Poll::Ready(None) };
        let item = match std::task::ready!(Pin::new(incoming).poll_next(task)) {
            Some(Ok(command)) => {
                Some(Ok(server_command(command, &this.reading, this.requests.namespace(), &this.context)))
            }
            Some(Err(status)) => Some(Err(failed(&this.context, status, &this.peer, this.within))),
            None => None,
        };
        if !matches!(&item, Some(Ok(command)) if !matches!(command, ServerCommand::Refused(_))) {
            this.incoming = None;
        }
        Poll::Ready(item)
    }
}
