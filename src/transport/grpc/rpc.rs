//! Calls that have one answer.

use std::pin::pin;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Extensions, Request, Status};
use tonic_prost::ProstCodec;

use crate::clock;
use crate::error::{ErrorKind, Operation, Result, millis};
use crate::transport::grpc::GrpcWire;
use crate::transport::grpc::channel::Connection;
use crate::transport::grpc::convert::{Context, Written};
use crate::transport::grpc::failure::{WorkerGone, cause, failed, no_answer};
use crate::transport::grpc::peer::Phase;

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
    pub(crate) const PULL: &str = "/apache.rocketmq.v2.MessagingService/PullMessage";
    pub(crate) const GET_OFFSET: &str = "/apache.rocketmq.v2.MessagingService/GetOffset";
    pub(crate) const UPDATE_OFFSET: &str = "/apache.rocketmq.v2.MessagingService/UpdateOffset";
    pub(crate) const QUERY_OFFSET: &str = "/apache.rocketmq.v2.MessagingService/QueryOffset";
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
        self.exchange(context, method, question, ProstCodec::<Q, A>::new()).await
    }

    /// As [`unary`](Self::unary), of bytes to bytes.
    pub(crate) async fn exchange_bytes(
        &self,
        context: &Context,
        method: &'static str,
        question: Written,
    ) -> Result<Bytes> {
        let size = question.len();
        self.exchange(context, method, question, BytesCodec { size }).await
    }

    async fn exchange<C>(
        &self,
        context: &Context,
        method: &'static str,
        question: C::Encode,
        codec: C,
    ) -> Result<C::Decode>
    where
        C: Codec,
        C::Encode: Sync + 'static,
        C::Decode: Sync + 'static,
    {
        let deadline = self.request_timeout;
        let connection = self.connection(context)?;
        let request = self.request(question, Some(deadline));
        let answer = self.call(context, &connection, deadline, async move |mut grpc: Grpc<Channel>| {
            ready(&mut grpc).await?;
            grpc.unary(request, PathAndQuery::from_static(method), codec).await
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
                Err(context.error(ErrorKind::Unavailable, text).during(Operation::Connect))
            }
            None => Err(no_answer(context, deadline)),
        }
    }
}

/// Sends what was written already, and gives the answer as it came.
#[derive(Debug, Clone, Copy)]
struct BytesCodec {
    /// Of the request.
    size: usize,
}

impl Codec for BytesCodec {
    type Encode = Written;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for BytesCodec {
    type Item = Written;
    type Error = Status;

    fn encode(&mut self, written: Written, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&written.head);
        out.put_slice(&written.tail);
        Ok(())
    }

    /// As large as the request, with the five bytes before it.
    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.size + 5, 32 << 10)
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }

    /// What answers a request of many entries is about as long.
    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(self.size.clamp(256, 64 << 10), 32 << 10)
    }
}

pub(crate) async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::from_error(Box::new(WorkerGone(error))))
}
