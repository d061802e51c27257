//! A gRPC tap: a proxy of the test's own between client and embedded broker, which sees and may change what passes.
//!
//! It answers routes with its own address, so that everything goes through it.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::prelude::*;
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::proto::messaging_service_client::MessagingServiceClient;
use crate::proto::messaging_service_server::{MessagingService, MessagingServiceServer};
use crate::proto::{self, receive_message_response::Content};

/// What was asked for, in order.
#[allow(dead_code, reason = "shown by Debug when a test fails")]
#[derive(Debug, Clone)]
pub(crate) enum Seen {
    /// Settings, with whether they are the first on their stream.
    Settings(proto::Settings),
    Receive {
        request: proto::ReceiveMessageRequest,
        deadline: Option<Duration>,
    },
    Ack(proto::AckMessageRequest),
    Change(proto::ChangeInvisibleDurationRequest),
    DeadLetter(proto::ForwardMessageToDeadLetterQueueRequest),
    Send(proto::SendMessageRequest),
    Heartbeat(proto::HeartbeatRequest),
    Goodbye,
    Route(String),
}

type OnMessage = Box<dyn FnMut(&mut proto::Message) + Send>;
type OnSettings = Box<dyn FnMut(&mut proto::Settings) + Send>;
type OnAck = Box<dyn FnMut(&mut proto::AckMessageResponse) + Send>;
type OnChange = Box<dyn FnMut(&mut proto::ChangeInvisibleDurationResponse) + Send>;
type OnFrames = Box<dyn FnMut(Vec<proto::ReceiveMessageResponse>) -> Vec<proto::ReceiveMessageResponse> + Send>;

/// What is changed on the way.
#[derive(Default)]
pub(crate) struct Changes {
    /// Messages on their way to the broker.
    pub(crate) sent: Option<OnMessage>,
    /// Messages on their way to the consumer.
    pub(crate) received: Option<OnMessage>,
    /// Settings as the server answers them.
    pub(crate) settings: Option<OnSettings>,
    pub(crate) acked: Option<OnAck>,
    pub(crate) changed: Option<OnChange>,
    /// The frames of a whole receive.
    pub(crate) frames: Option<OnFrames>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    changes: Mutex<Changes>,
}

#[derive(Clone)]
pub(crate) struct Tap {
    address: SocketAddr,
    server: MessagingServiceClient<Channel>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What a client wants to know of a call: who it is, and until when it waits.
fn passed_on<T>(from: &tonic::metadata::MetadataMap, message: T) -> Request<T> {
    let mut request = Request::new(message);
    for name in [
        "x-mq-client-id",
        "x-mq-client-version",
        "x-mq-language",
        "x-mq-protocol",
        "x-mq-namespace",
        "x-mq-request-id",
        "grpc-timeout",
    ] {
        if let Some(value) = from.get(name) {
            request.metadata_mut().insert(name, value.clone());
        }
    }
    request
}

/// The header is a number and a unit.
fn deadline(metadata: &tonic::metadata::MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        _ => Duration::from_nanos(number),
    })
}

impl Tap {
    pub(crate) async fn to(access_point: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let channel = Channel::from_shared(format!("http://{access_point}")).expect("a URI").connect_lazy();
        let server = MessagingServiceClient::new(channel).max_decoding_message_size(130 << 20);
        let tap = Self { address, server, shared: Arc::default() };
        let service = MessagingServiceServer::new(tap.clone()).max_decoding_message_size(130 << 20);
        let incoming = stream::unfold(listener, |listener| async {
            let connection = listener.accept().await.map(|(connection, _)| connection);
            Some((connection, listener))
        });
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        tap
    }

    pub(crate) fn access_point(&self) -> String {
        self.address.to_string()
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("no panic").clone()
    }

    pub(crate) fn forget(&self) {
        self.shared.seen.lock().expect("no panic").clear();
    }

    pub(crate) fn change(&self, set: impl FnOnce(&mut Changes)) {
        set(&mut self.shared.changes.lock().expect("no panic"));
    }

    fn note(&self, seen: Seen) {
        self.shared.seen.lock().expect("no panic").push(seen);
    }

    fn changes(&self) -> std::sync::MutexGuard<'_, Changes> {
        self.shared.changes.lock().expect("no panic")
    }

    /// The address everybody is to use.
    fn endpoints(&self) -> proto::Endpoints {
        let address = proto::Address { host: self.address.ip().to_string(), port: i32::from(self.address.port()) };
        proto::Endpoints { scheme: proto::AddressScheme::IPv4.into(), addresses: vec![address] }
    }

    fn change_settings(&self, settings: &mut proto::Settings) {
        if let Some(change) = &mut self.changes().settings {
            change(settings);
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl MessagingService for Tap {
    type ReceiveMessageStream = Outgoing<proto::ReceiveMessageResponse>;
    type PullMessageStream = Outgoing<proto::PullMessageResponse>;
    type TelemetryStream = Outgoing<proto::TelemetryCommand>;

    async fn query_route(&self, request: Request<proto::QueryRouteRequest>) -> Answer<proto::QueryRouteResponse> {
        let (metadata, _, message) = request.into_parts();
        self.note(Seen::Route(message.topic.as_ref().map(|topic| topic.name.clone()).unwrap_or_default()));
        let mut answer = self.server.clone().query_route(passed_on(&metadata, message)).await?;
        for queue in &mut answer.get_mut().message_queues {
            if let Some(broker) = &mut queue.broker {
                broker.endpoints = Some(self.endpoints());
            }
        }
        Ok(answer)
    }

    async fn query_assignment(
        &self,
        request: Request<proto::QueryAssignmentRequest>,
    ) -> Answer<proto::QueryAssignmentResponse> {
        let (metadata, _, message) = request.into_parts();
        let mut answer = self.server.clone().query_assignment(passed_on(&metadata, message)).await?;
        for assignment in &mut answer.get_mut().assignments {
            if let Some(broker) = assignment.message_queue.as_mut().and_then(|queue| queue.broker.as_mut()) {
                broker.endpoints = Some(self.endpoints());
            }
        }
        Ok(answer)
    }

    async fn send_message(&self, request: Request<proto::SendMessageRequest>) -> Answer<proto::SendMessageResponse> {
        let (metadata, _, mut message) = request.into_parts();
        self.note(Seen::Send(message.clone()));
        if let Some(change) = &mut self.changes().sent {
            message.messages.iter_mut().for_each(change);
        }
        self.server.clone().send_message(passed_on(&metadata, message)).await
    }

    async fn receive_message(
        &self,
        request: Request<proto::ReceiveMessageRequest>,
    ) -> Answer<Self::ReceiveMessageStream> {
        let (metadata, _, message) = request.into_parts();
        self.note(Seen::Receive { request: message.clone(), deadline: deadline(&metadata) });
        let answer = self.server.clone().receive_message(passed_on(&metadata, message)).await?;
        let mut frames: Vec<_> = answer.into_inner().try_collect().await?;
        let mut changes = self.changes();
        if let Some(change) = &mut changes.received {
            for frame in &mut frames {
                if let Some(Content::Message(message)) = &mut frame.content {
                    change(message);
                }
            }
        }
        if let Some(change) = &mut changes.frames {
            frames = change(frames);
        }
        Ok(Response::new(Box::pin(stream::iter(frames.into_iter().map(Ok)))))
    }

    async fn ack_message(&self, request: Request<proto::AckMessageRequest>) -> Answer<proto::AckMessageResponse> {
        let (metadata, _, message) = request.into_parts();
        self.note(Seen::Ack(message.clone()));
        let mut answer = self.server.clone().ack_message(passed_on(&metadata, message)).await?;
        if let Some(change) = &mut self.changes().acked {
            change(answer.get_mut());
        }
        Ok(answer)
    }

    async fn change_invisible_duration(
        &self,
        request: Request<proto::ChangeInvisibleDurationRequest>,
    ) -> Answer<proto::ChangeInvisibleDurationResponse> {
        let (metadata, _, message) = request.into_parts();
        self.note(Seen::Change(message.clone()));
        let mut answer = self.server.clone().change_invisible_duration(passed_on(&metadata, message)).await?;
        if let Some(change) = &mut self.changes().changed {
            change(answer.get_mut());
        }
        Ok(answer)
    }

    async fn telemetry(&self, request: Request<Streaming<proto::TelemetryCommand>>) -> Answer<Self::TelemetryStream> {
        let (metadata, _, commands) = request.into_parts();
        let (sender, outgoing) = tokio::sync::mpsc::channel(16);
        let (tap, mut server) = (self.clone(), self.server.clone());
        let written = passed_on(&metadata, ReceiverStream::new(outgoing));
        // Both directions live as long as the client's stream.
        tokio::spawn({
            let tap = tap.clone();
            async move {
                let mut commands = std::pin::pin!(commands);
                while let Some(Ok(command)) = commands.next().await {
                    if let Some(proto::telemetry_command::Command::Settings(settings)) = &command.command {
                        tap.note(Seen::Settings(settings.clone()));
                    }
                    if sender.send(command).await.is_err() {
                        break;
                    }
                }
            }
        });
        let answers = server.telemetry(written).await?.into_inner();
        let answers = answers.map_ok(move |mut command| {
            if let Some(proto::telemetry_command::Command::Settings(settings)) = &mut command.command {
                tap.change_settings(settings);
            }
            command
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn heartbeat(&self, request: Request<proto::HeartbeatRequest>) -> Answer<proto::HeartbeatResponse> {
        let (metadata, _, message) = request.into_parts();
        self.note(Seen::Heartbeat(message.clone()));
        self.server.clone().heartbeat(passed_on(&metadata, message)).await
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<proto::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answer<proto::ForwardMessageToDeadLetterQueueResponse> {
        let (metadata, _, message) = request.into_parts();
        self.note(Seen::DeadLetter(message.clone()));
        self.server.clone().forward_message_to_dead_letter_queue(passed_on(&metadata, message)).await
    }

    async fn notify_client_termination(
        &self,
        request: Request<proto::NotifyClientTerminationRequest>,
    ) -> Answer<proto::NotifyClientTerminationResponse> {
        let (metadata, _, message) = request.into_parts();
        self.note(Seen::Goodbye);
        self.server.clone().notify_client_termination(passed_on(&metadata, message)).await
    }

    async fn end_transaction(
        &self,
        _request: Request<proto::EndTransactionRequest>,
    ) -> Answer<proto::EndTransactionResponse> {
        Err(Status::unimplemented("the tap passes on what is tested"))
    }

    async fn recall_message(
        &self,
        _request: Request<proto::RecallMessageRequest>,
    ) -> Answer<proto::RecallMessageResponse> {
        Err(Status::unimplemented("the tap passes on what is tested"))
    }

    async fn update_offset(
        &self,
        _request: Request<proto::UpdateOffsetRequest>,
    ) -> Answer<proto::UpdateOffsetResponse> {
        Err(Status::unimplemented("the tap passes on what is tested"))
    }

    async fn get_offset(&self, _request: Request<proto::GetOffsetRequest>) -> Answer<proto::GetOffsetResponse> {
        Err(Status::unimplemented("the tap passes on what is tested"))
    }

    async fn query_offset(&self, _request: Request<proto::QueryOffsetRequest>) -> Answer<proto::QueryOffsetResponse> {
        Err(Status::unimplemented("the tap passes on what is tested"))
    }

    async fn sync_lite_subscription(
        &self,
        _request: Request<proto::SyncLiteSubscriptionRequest>,
    ) -> Answer<proto::SyncLiteSubscriptionResponse> {
        Err(Status::unimplemented("the tap passes on what is tested"))
    }

    async fn pull_message(&self, _request: Request<proto::PullMessageRequest>) -> Answer<Self::PullMessageStream> {
        Err(Status::unimplemented("pull"))
    }
}
