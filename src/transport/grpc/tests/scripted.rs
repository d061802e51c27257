//! A server that does what a script says: frames as bytes, so that it can also send what no server should.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::UNIX_EPOCH;

use bytes::{Buf, BufMut, Bytes};
use futures_core::Stream;
use futures_util::StreamExt;
use prost::Message as _;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::metadata::MetadataMap;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::*;
use crate::error::ErrorKind;
use crate::model::{Held, Offset, OutboundMessage, ServerSettings};
use crate::proto::receive_message_response::Content;
use crate::proto::telemetry_command::Command;
use crate::transport::{ClientReply, ServerCommand};

/// What the server does with one call, one after the other. At the end it says OK.
pub(super) enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    Fail(Status),
}

type Script = Arc<dyn Fn(&str, &MetadataMap, Bytes) -> Vec<Step> + Send + Sync>;

/// Starts a server; `script` gets the method, the headers and the first message of each call.
pub(super) async fn serve(
    tasks: &TaskGroup,
    script: impl Fn(&str, &MetadataMap, Bytes) -> Vec<Step> + Send + Sync + 'static,
) -> Endpoint {
    let (listener, endpoint) = listen().await;
    serve_at(tasks, listener, script);
    endpoint
}

fn serve_at(
    tasks: &TaskGroup,
    listener: TcpListener,
    script: impl Fn(&str, &MetadataMap, Bytes) -> Vec<Step> + Send + Sync + 'static,
) {
    let server = tonic::transport::Server::builder().add_service(Scripted(Arc::new(script)));
    tasks.spawn("scripted server", async move {
        server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
    });
}

#[derive(Clone)]
struct Scripted(Script);

impl NamedService for Scripted {
    const NAME: &'static str = "apache.rocketmq.v2.MessagingService";
}

impl tower_service::Service<http::Request<tonic::body::Body>> for Scripted {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let call = Call { script: Arc::clone(&self.0), method };
        Box::pin(async move { Ok(Grpc::new(Raw).streaming(call, request).await) })
    }
}

struct Call {
    script: Script,
    method: String,
}

impl StreamingService<Bytes> for Call {
    type Response = Vec<u8>;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (script, method) = (Arc::clone(&self.script), self.method.clone());
        Box::pin(async move {
            let (metadata, _, mut messages) = request.into_parts();
            let first = messages.next().await.transpose()?.unwrap_or_default();
            let steps = script(&method, &metadata, first);
            let stream: Self::ResponseStream = Box::pin(async_stream::stream! {
                // Kept, so that the server does not end the client's half.
                let _messages = messages;
                for step in steps {
                    match step {
                        Step::Send(frame) => yield Ok(frame),
                        Step::Wait(time) => clock::sleep(time).await,
                        Step::Fail(status) => yield Err(status),
                    }
                }
            });
            Ok(Response::new(stream))
        })
    }
}

#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}

pub(super) fn send(message: &impl prost::Message) -> Step {
    Step::Send(message.encode_to_vec())
}

pub(super) fn status(code: i32, message: &str) -> Option<proto::Status> {
    Some(proto::Status { code, message: message.into() })
}

fn content(content: Content) -> Step {
    send(&proto::ReceiveMessageResponse { content: Some(content) })
}

fn told(code: i32, message: &str) -> Step {
    content(Content::Status(proto::Status { code, message: message.into() }))
}

fn message(id: &str, body: &[u8]) -> proto::Message {
    proto::Message {
        system_properties: Some(proto::SystemProperties {
            message_id: id.into(),
            receipt_handle: Some(format!("handle-{id}")),
            tag: Some("paid".into()),
            ..proto::SystemProperties::default()
        }),
        body: Bytes::copy_from_slice(body),
        ..proto::Message::default()
    }
}

/// What a receive yields, in short.
async fn frames(endpoint: &Endpoint, config: GrpcConfig) -> Vec<String> {
    let (wire, request) = (wire(config), receive_request());
    let mut frames = match soon(wire.receive(endpoint, &request)).await {
        Ok(frames) => frames,
        Err(error) => return vec![format!("call: {:?} {}", error.kind(), error.text())],
    };
    let mut seen = Vec::new();
    while let Some(frame) = soon(frames.next()).await {
        seen.push(match frame {
            Ok(ReceiveFrame::Message { message, held }) => {
                let corrupted = message.corrupted().map_or("", |_| " corrupted");
                format!("{} {} {}{corrupted}", message.id(), held.handle(), message.topic())
            }
            Ok(ReceiveFrame::Empty { text }) => format!("empty: {text}"),
            Ok(ReceiveFrame::DeliveryTimestamp(time)) => {
                format!("at {}", time.duration_since(UNIX_EPOCH).unwrap().as_secs())
            }
            Err(error) => format!("{:?} {}", error.kind(), error.text()),
        });
    }
    assert!(soon(frames.next()).await.is_none(), "it stays ended");
    seen
}

async fn received(steps: fn() -> Vec<Step>) -> Vec<String> {
    let tasks = TaskGroup::new();
    let endpoint = serve(&tasks, move |method, _, _| {
        assert_eq!(method, "ReceiveMessage");
        steps()
    })
    .await;
    frames(&endpoint, config()).await
}

fn timestamp() -> Step {
    content(Content::DeliveryTimestamp(prost_types::Timestamp { seconds: 7, nanos: 0 }))
}

#[tokio::test]
async fn an_answer_is_read_in_whatever_order_it_comes() {
    let apache = || {
        vec![
            told(20000, "OK"),
            content(Content::Message(message("1", b"a"))),
            content(Content::Message(message("2", b"b"))),
            timestamp(),
        ]
    };
    assert_eq!(received(apache).await, ["1 handle-1 orders", "2 handle-2 orders", "at 7"]);
    let other = || vec![timestamp(), content(Content::Message(message("1", b"a"))), told(20000, "OK")];
    assert_eq!(received(other).await, ["at 7", "1 handle-1 orders"]);
}

#[tokio::test]
async fn r4_no_message_is_a_pause_and_says_which() {
    assert_eq!(
        received(|| vec![told(40401, "no match message"), timestamp()]).await,
        ["empty: no match message", "at 7"]
    );
}

#[tokio::test]
async fn a_refusal_is_one_error_and_the_last_item() {
    let polling_full = || vec![told(42900, "polling full"), timestamp()];
    assert_eq!(received(polling_full).await, ["Throttled polling full"]);
}

#[tokio::test]
async fn what_came_before_an_error_is_kept() {
    let breaks = || {
        vec![
            told(20000, "OK"),
            content(Content::Message(message("1", b"a"))),
            Step::Wait(Duration::from_millis(20)),
            Step::Fail(Status::internal("broke")),
        ]
    };
    assert_eq!(received(breaks).await, ["1 handle-1 orders", "Server broke"]);
}

#[tokio::test]
async fn r12_a_frame_that_does_not_decode_does_not_fail_its_neighbours() {
    let damaged = || {
        let mut bytes =
            proto::ReceiveMessageResponse { content: Some(Content::Message(message("2", b"b"))) }.encode_to_vec();
        let tag = bytes.windows(4).position(|window| window == b"paid").unwrap();
        bytes[tag] = 0xFF;
        let neighbour = |id| content(Content::Message(message(id, b"a")));
        vec![told(20000, "OK"), neighbour("1"), Step::Send(bytes), neighbour("3")]
    };
    assert_eq!(received(damaged).await, ["1 handle-1 orders", "2 handle-2 orders corrupted", "3 handle-3 orders"]);
}

#[tokio::test]
async fn an_answer_that_says_nothing_is_an_error() {
    let seen = received(|| vec![timestamp()]).await;
    assert!(seen.len() == 2 && seen[1].starts_with("Protocol the server ended"), "{seen:?}");
    let seen = received(Vec::new).await;
    assert!(seen.len() == 1 && seen[0].starts_with("Protocol the server ended"), "{seen:?}");
}

#[tokio::test]
async fn a_receive_tells_its_deadline_and_the_wait() {
    let tasks = TaskGroup::new();
    let endpoint = serve(&tasks, |_, headers, request| {
        let request = proto::ReceiveMessageRequest::decode(request).unwrap();
        assert_eq!(request.long_polling_timeout.unwrap().seconds, 1);
        let timeout = headers.get("grpc-timeout").unwrap().to_str().unwrap();
        vec![told(40401, timeout)]
    })
    .await;
    // max(1 s, 5 s) + 3 s
    assert_eq!(frames(&endpoint, config()).await, ["empty: 8000000u"]);
}

#[tokio::test]
async fn a_message_over_the_limit_names_the_limit() {
    let tasks = TaskGroup::new();
    let big = |_: &str, _: &MetadataMap, _: Bytes| vec![content(Content::Message(message("1", &[7; 5 << 20])))];
    let endpoint = serve(&tasks, big).await;
    assert_eq!(frames(&endpoint, config()).await, ["1 handle-1 orders"], "over tonic's own default of 4 MiB");
    let small = GrpcConfig { limits: Limits::default().max_frame_size(1 << 20), ..config() };
    let seen = frames(&endpoint, small).await;
    assert!(seen[0].contains("TooLarge") && seen[0].contains("Limits::max_frame_size"), "{seen:?}");
}

#[tokio::test]
async fn a_call_carries_the_headers_and_its_deadline() {
    let tasks = TaskGroup::new();
    let endpoint = serve(&tasks, |method, headers, _| {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
        let seen = ["x-mq-client-id", "x-mq-language", "x-mq-protocol", "grpc-timeout"].map(header).join(" ");
        let authorized = header("authorization").starts_with("MQv2-HMAC-SHA1 Credential=ak, ");
        vec![send(&proto::QueryRouteResponse {
            status: status(40402, &format!("{method} {seen} {authorized}")),
            message_queues: vec![],
        })]
    })
    .await;
    let wire = wire(GrpcConfig { credentials: Some(Credentials::new("ak", "sk")), ..config() });
    let error = soon(wire.query_route(&endpoint, &orders())).await.unwrap_err();
    assert_eq!((error.kind(), error.server_code()), (ErrorKind::NotFound, Some(40402)));
    assert_eq!(error.text(), "QueryRoute host@1@0@test RUST v2 3000000u true");
    assert_eq!(error.endpoint(), Some(&endpoint));
}

/// A server that knows every method but QueryRoute.
fn answer_any(method: &str, request: Bytes) -> Vec<Step> {
    let answer = match method {
        "SendMessage" => {
            let sent = proto::SendMessageRequest::decode(request).unwrap().messages.remove(0);
            assert_eq!(sent.body, "body");
            let entry = proto::SendResultEntry {
                status: status(20000, ""),
                message_id: sent.system_properties.unwrap().message_id,
                offset: 5,
                ..proto::SendResultEntry::default()
            };
            proto::SendMessageResponse { status: status(20000, ""), entries: vec![entry] }.encode_to_vec()
        }
        "AckMessage" => {
            let entries = proto::AckMessageRequest::decode(request).unwrap().entries;
            let answer = |entry: proto::AckMessageEntry| proto::AckMessageResultEntry {
                status: status(if entry.message_id == "1" { 20000 } else { 40013 }, "receipt handle is expired"),
                message_id: entry.message_id,
                receipt_handle: entry.receipt_handle,
            };
            let entries = entries.into_iter().rev().map(answer).collect();
            proto::AckMessageResponse { status: status(30000, ""), entries }.encode_to_vec()
        }
        "ChangeInvisibleDuration" => {
            let request = proto::ChangeInvisibleDurationRequest::decode(request).unwrap();
            let receipt_handle =
                format!("{} for {}", request.receipt_handle, request.invisible_duration.unwrap().seconds);
            proto::ChangeInvisibleDurationResponse { status: status(20000, ""), receipt_handle }.encode_to_vec()
        }
        "Heartbeat" => proto::HeartbeatResponse { status: status(40015, "no settings") }.encode_to_vec(),
        "NotifyClientTermination" => {
            proto::NotifyClientTerminationResponse { status: status(20000, "") }.encode_to_vec()
        }
        "ForwardMessageToDeadLetterQueue" => {
            proto::ForwardMessageToDeadLetterQueueResponse { status: status(20000, "0") }.encode_to_vec()
        }
        _ => return vec![Step::Fail(Status::unimplemented("no such method"))],
    };
    vec![Step::Send(answer)]
}

#[tokio::test]
async fn calls_come_to_what_the_server_says() {
    let tasks = TaskGroup::new();
    let endpoint = serve(&tasks, |method, _, request| answer_any(method, request)).await;
    let wire = wire(config());
    let stamped = Stamped {
        message: OutboundMessage::new("orders", "body"),
        id: "01".into(),
        born: UNIX_EPOCH,
        born_host: "here".into(),
        transactional: false,
    };
    let sent = soon(wire.send(&endpoint, &stamped)).await.unwrap();
    assert_eq!((&*sent.message_id, sent.offset), ("01", Offset::new(5)));

    let held = |id: &str| Held::new(id, &format!("handle-{id}"));
    let answers = soon(wire.ack(&endpoint, &scope(), &[held("1"), held("2")])).await.unwrap();
    assert!(answers[0].is_ok(), "in the order of the request: {answers:?}");
    assert_eq!(answers[1].as_ref().unwrap_err().kind(), ErrorKind::InvalidReceipt);

    let change = InvisibleChange { duration: Duration::from_secs(60), suspend: false };
    let handle = soon(wire.change_invisible(&endpoint, &scope(), &held("1"), change)).await.unwrap();
    assert_eq!(&*handle, "handle-1 for 60");
    let attempts = DeliveryAttempts { now: 1, max: 16 };
    soon(wire.dead_letter(&endpoint, &scope(), &held("1"), attempts)).await.unwrap();
    let group = scope().group;
    let error = soon(wire.heartbeat(&endpoint, &settings(ClientKind::SimpleConsumer, Some(&group)))).await.unwrap_err();
    assert_eq!((error.kind(), error.server_code()), (ErrorKind::Precondition, Some(40015)));
    soon(wire.goodbye(&endpoint, Some(&group))).await.unwrap();
    let error = soon(wire.query_route(&endpoint, &orders())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_server_that_takes_too_long_is_a_timeout() {
    let tasks = TaskGroup::new();
    let slow = |method: &str, _: &MetadataMap, _: Bytes| match method {
        "QueryRoute" => vec![Step::Wait(Duration::from_secs(60))],
        _ => vec![send(&proto::HeartbeatResponse { status: status(20000, "") })],
    };
    let endpoint = serve(&tasks, slow).await;
    let wire = wire(GrpcConfig { request_timeout: Duration::from_millis(200), ..config() });
    soon(wire.heartbeat(&endpoint, &settings(ClientKind::Producer, None))).await.unwrap();
    let started = clock::now();
    let error = soon(wire.query_route(&endpoint, &orders())).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(1), "the time to connect is not for this: it is connected");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert_eq!(error.text(), "no answer within 200 ms");
}

fn command(code: Option<i32>, command: Option<Command>) -> Step {
    send(&proto::TelemetryCommand { status: code.and_then(|code| status(code, "said")), command })
}

async fn open(endpoint: &Endpoint, wire: &GrpcWire) -> PresenceLink {
    soon(wire.open(endpoint, &consumer_settings())).await.unwrap()
}

#[tokio::test]
async fn a_handshake_sends_settings_and_brings_the_servers() {
    let tasks = TaskGroup::new();
    let endpoint = serve(&tasks, |method, headers, first| {
        assert_eq!(method, "Telemetry");
        assert!(headers.get("grpc-timeout").is_none(), "it lasts as long as the client");
        let Some(Command::Settings(settings)) = proto::TelemetryCommand::decode(first).unwrap().command else {
            return vec![Step::Fail(Status::invalid_argument("no settings"))];
        };
        assert_eq!(settings.client_type, Some(proto::ClientType::SimpleConsumer as i32));
        let answer = proto::Settings {
            pub_sub: Some(proto::settings::PubSub::Subscription(proto::Subscription {
                fifo: Some(true),
                ..proto::Subscription::default()
            })),
            ..proto::Settings::default()
        };
        let print = proto::PrintThreadStackTraceCommand { nonce: "7".into() };
        vec![
            command(Some(20000), Some(Command::Settings(answer))),
            command(None, Some(Command::PrintThreadStackTraceCommand(print))),
        ]
    })
    .await;
    let wire = wire(config());
    let mut link = open(&endpoint, &wire).await;
    let expected = ServerSettings { fifo: Some(true), ..ServerSettings::default() };
    let first = soon(link.commands.next()).await.unwrap().unwrap();
    assert!(matches!(&first, ServerCommand::Settings(settings) if *settings == expected), "{first:?}");
    let second = soon(link.commands.next()).await.unwrap().unwrap();
    assert!(matches!(&second, ServerCommand::PrintThreads { nonce } if nonce == "7"), "{second:?}");
    assert!(soon(link.commands.next()).await.is_none(), "the server ended it");
    assert!(soon(link.commands.next()).await.is_none());
}

#[tokio::test]
async fn a_refused_handshake_is_a_command_and_the_last_one() {
    let tasks = TaskGroup::new();
    let endpoint = serve(&tasks, |_, _, _| vec![command(Some(40100), None), command(Some(20000), None)]).await;
    let wire = wire(config());
    let mut link = open(&endpoint, &wire).await;
    let refused = soon(link.commands.next()).await.unwrap().unwrap();
    let ServerCommand::Refused(error) = refused else { panic!("{refused:?}") };
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Unauthenticated, Some(Operation::Handshake)));
    assert_eq!(error.group(), Some("billing"));
    assert!(soon(link.commands.next()).await.is_none());
}

#[tokio::test]
async fn a_broken_telemetry_stream_is_an_error_and_then_ends() {
    let tasks = TaskGroup::new();
    let endpoint = serve(&tasks, |_, _, _| {
        vec![
            command(Some(20000), None),
            Step::Fail(Status::invalid_argument("process client telemetryCommand failed. ")),
        ]
    })
    .await;
    let wire = wire(config());
    let mut link = open(&endpoint, &wire).await;
    assert!(matches!(soon(link.commands.next()).await, Some(Ok(ServerCommand::Unknown))));
    let error = soon(link.commands.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
    assert!(soon(link.commands.next()).await.is_none());
}

#[tokio::test]
async fn a_link_that_is_dropped_ends_the_clients_half_and_can_be_opened_again() {
    let tasks = TaskGroup::new();
    let endpoint = serve(&tasks, |_, _, _| vec![command(Some(20000), None), Step::Wait(Duration::from_secs(60))]).await;
    let wire = wire(config());
    for _ in 0..2 {
        let mut link = open(&endpoint, &wire).await;
        assert!(matches!(soon(link.commands.next()).await, Some(Ok(ServerCommand::Unknown))));
        link.replies.send(ClientReply::CannotVerify { nonce: "1".into() }).await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_server_ends_its_streams_with_unavailable_and_is_reached_when_it_is_back() {
    let answers = |method: &str, _: &MetadataMap, _: Bytes| match method {
        "Telemetry" => vec![command(Some(20000), None), Step::Wait(Duration::from_secs(60))],
        _ => vec![send(&proto::HeartbeatResponse { status: status(20000, "") })],
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let endpoint = Endpoint::new("127.0.0.1", listener.local_addr().unwrap().port());
    let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server_tasks = TaskGroup::new();
    {
        let _entered = elsewhere.enter();
        serve_at(&server_tasks, TcpListener::from_std(listener).unwrap(), answers);
    }
    let wire = wire(config());
    let mut link = open(&endpoint, &wire).await;
    assert!(matches!(soon(link.commands.next()).await, Some(Ok(ServerCommand::Unknown))));

    elsewhere.shutdown_background();
    let error = soon(link.commands.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(soon(link.commands.next()).await.is_none());
    let error = soon(wire.heartbeat(&endpoint, &settings(ClientKind::Producer, None))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");

    let tasks = TaskGroup::new();
    serve_at(&tasks, TcpListener::bind(("127.0.0.1", endpoint.port())).await.unwrap(), answers);
    soon(wire.heartbeat(&endpoint, &settings(ClientKind::Producer, None))).await.unwrap();
}
