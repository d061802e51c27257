//! The least that a client can do: tonic, the generated messages, and loops. What everything else is compared with.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::proto::messaging_service_client::MessagingServiceClient;
use crate::proto::receive_message_response::Content;
use crate::proto::settings::PubSub;
use crate::proto::telemetry_command::Command;
use crate::proto::{
    AckMessageEntry, AckMessageRequest, Broker, ClientType, Encoding, Endpoints, FilterExpression, FilterType,
    Language, Message, MessageQueue, MessageType, Publishing, QueryRouteRequest, ReceiveMessageRequest, Resource,
    SendMessageRequest, Settings, Subscription, SubscriptionEntry, SystemProperties, TelemetryCommand, Ua,
};
use crate::side_by_side::meter::Meter;
use crate::workload::{Receiving, Sending};

/// Messages per ReceiveMessage: a broker refuses more.
const BATCH: i32 = 32;
const OK: i32 = 20_000;
const NOTHING_THERE: i32 = 40_401;
const TOO_MANY_REQUESTS: i32 = 42_900;
/// How long to leave a busy server alone.
const BUSY: Duration = Duration::from_millis(20);
const AWAIT: Duration = Duration::from_secs(10);

type Client = MessagingServiceClient<Channel>;

#[derive(Clone)]
struct Link {
    client: Client,
    id: Arc<str>,
    /// Keeps the telemetry stream open; a server forgets a client without one.
    _telemetry: mpsc::Sender<TelemetryCommand>,
}

impl Link {
    async fn open(access_point: &str, kind: ClientType, role: PubSub) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{access_point}"))?.tcp_nodelay(true);
        let windows = endpoint.initial_stream_window_size(4 << 20).initial_connection_window_size(16 << 20);
        let mut client = Client::new(windows.connect().await?).max_decoding_message_size(64 << 20);
        let id: Arc<str> = format!("raw@{}", std::process::id()).into();
        let settings = Settings {
            client_type: Some(kind as i32),
            request_timeout: Some(seconds(3)),
            pub_sub: Some(role),
            user_agent: Some(Ua { language: Language::Rust as i32, version: "5.0.8".into(), ..Ua::default() }),
            ..Settings::default()
        };
        let (commands, mut queue) = mpsc::channel(1);
        commands.send(TelemetryCommand { status: None, command: Some(Command::Settings(settings)) }).await?;
        let outgoing = futures::stream::poll_fn(move |cx| queue.poll_recv(cx));
        let mut incoming = client.telemetry(request(&id, outgoing, None)?).await?.into_inner();
        let first = incoming.message().await?.context("the server ended the telemetry stream")?;
        ensure!(matches!(first.command, Some(Command::Settings(_))), "no settings but {first:?}");
        tokio::spawn(async move { while let Ok(Some(_)) = incoming.message().await {} });
        Ok(Self { client, id, _telemetry: commands })
    }

    fn request<T>(&self, message: T, timeout: u64) -> Result<Request<T>> {
        request(&self.id, message, Some(Duration::from_secs(timeout)))
    }

    /// The broker that holds the topic.
    async fn broker(&mut self, topic: &str, access_point: &str) -> Result<Broker> {
        let (host, port) = access_point.rsplit_once(':').context("an access point is HOST:PORT")?;
        let address = crate::proto::Address { host: host.into(), port: port.parse()? };
        let endpoints = Endpoints { scheme: crate::proto::AddressScheme::IPv4 as i32, addresses: vec![address] };
        let asked = QueryRouteRequest { topic: resource(topic), endpoints: Some(endpoints) };
        let answer = self.client.query_route(self.request(asked, 3)?).await?.into_inner();
        let queue = answer.message_queues.into_iter().next();
        queue.and_then(|queue| queue.broker).with_context(|| format!("no route for {topic}: {:?}", answer.status))
    }
}

fn request<T>(id: &str, message: T, timeout: Option<Duration>) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("x-mq-client-id", id.parse()?);
    metadata.insert("x-mq-language", "RUST".parse()?);
    metadata.insert("x-mq-protocol", "v2".parse()?);
    metadata.insert("x-mq-client-version", "5.0.8".parse()?);
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    Ok(request)
}

fn resource(name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: String::new(), name: name.into() })
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

fn everything() -> FilterExpression {
    FilterExpression { r#type: FilterType::Tag as i32, expression: "*".into() }
}

fn accepted(what: &str, status: Option<crate::proto::Status>) -> Result<()> {
    let status = status.with_context(|| format!("{what}: an answer without a status"))?;
    ensure!(status.code == OK, "{what}: code {}: {}", status.code, status.message);
    Ok(())
}

// ---- receiving

/// Receives (and acknowledges) until the meter has seen enough.
pub(crate) async fn receive(work: Receiving, meter: Arc<Meter>) -> Result<()> {
    let entry = SubscriptionEntry { topic: resource(&work.topic), expression: Some(everything()) };
    let role = PubSub::Subscription(Subscription {
        group: resource(&work.group),
        subscriptions: vec![entry],
        long_polling_timeout: Some(seconds(AWAIT.as_secs() as i64)),
        ..Subscription::default()
    });
    let mut link = Link::open(&work.access_point, ClientType::SimpleConsumer, role).await?;
    let broker = link.broker(&work.topic, &work.access_point).await?;
    let receiver = Receiver {
        permits: Arc::new(Semaphore::new(work.ack_rpcs)),
        streams: work.streams,
        work: Arc::new(work),
        link,
        broker,
        meter: Arc::clone(&meter),
    };
    let mut tasks = JoinSet::new();
    for _ in 0..receiver.streams {
        tasks.spawn(receiver.clone().run());
    }
    tokio::select! {
        () = meter.over() => Ok(()),
        Some(ended) = tasks.join_next() => ended?,
    }
}

#[derive(Clone)]
struct Receiver {
    work: Arc<Receiving>,
    streams: usize,
    link: Link,
    broker: Broker,
    permits: Arc<Semaphore>,
    meter: Arc<Meter>,
}

impl Receiver {
    async fn run(mut self) -> Result<()> {
        let mut entries = Vec::new();
        loop {
            let request = self.link.request(self.ask(), AWAIT.as_secs() + 5)?;
            let mut answer = self.link.client.receive_message(request).await?.into_inner();
            while let Some(frame) = answer.message().await? {
                match frame.content {
                    Some(Content::Message(message)) if self.work.ack => {
                        entries.push(entry(message)?);
                        if entries.len() >= self.work.ack_batch {
                            self.acknowledge(std::mem::take(&mut entries)).await?;
                        }
                    }
                    Some(Content::Message(_)) => {
                        self.meter.count(1);
                    }
                    Some(Content::Status(status)) if status.code == OK || status.code == NOTHING_THERE => {}
                    Some(Content::Status(status)) => bail!("receive: code {}: {}", status.code, status.message),
                    _ => {}
                }
            }
        }
    }

    fn ask(&self) -> ReceiveMessageRequest {
        ReceiveMessageRequest {
            group: resource(&self.work.group),
            message_queue: Some(MessageQueue {
                topic: resource(&self.work.topic),
                id: -1,
                permission: 3,
                broker: Some(self.broker.clone()),
                accept_message_types: Vec::new(),
            }),
            filter_expression: Some(everything()),
            batch_size: BATCH,
            invisible_duration: Some(seconds(self.work.invisible.as_secs() as i64)),
            long_polling_timeout: Some(seconds(AWAIT.as_secs() as i64)),
            ..ReceiveMessageRequest::default()
        }
    }

    /// Sends one AckMessage and reads on; a failure ends the process, as it would spoil the figures.
    async fn acknowledge(&self, entries: Vec<AckMessageEntry>) -> Result<()> {
        let permit = Arc::clone(&self.permits).acquire_owned().await?;
        let count = entries.len() as u64;
        let (group, topic) = (resource(&self.work.group), resource(&self.work.topic));
        let request = self.link.request(AckMessageRequest { group, topic, entries }, 10)?;
        let (mut client, meter) = (self.link.client.clone(), Arc::clone(&self.meter));
        tokio::spawn(async move {
            let answer = client.ack_message(request).await.map_err(anyhow::Error::from);
            let checked = answer.and_then(|answer| accepted("ack", answer.into_inner().status));
            if let Err(error) = checked {
                eprintln!("raw: {error:#}");
                std::process::exit(1);
            }
            meter.count(count);
            drop(permit);
        });
        Ok(())
    }
}

fn entry(message: Message) -> Result<AckMessageEntry> {
    let properties = message.system_properties.context("a message without system properties")?;
    let receipt_handle = properties.receipt_handle.context("a message without a receipt handle")?;
    Ok(AckMessageEntry { message_id: properties.message_id, receipt_handle, lite_topic: None })
}

// ---- sending

/// Sends, one message per RPC, until the meter has seen enough.
pub(crate) async fn send(work: Sending, meter: Arc<Meter>) -> Result<()> {
    let sender = Sender::open(&work.access_point, &work.topic, work.size).await?;
    let mut tasks = JoinSet::new();
    for lane in 0..work.in_flight as u64 {
        let (mut sender, meter) = (sender.clone(), Arc::clone(&meter));
        tasks.spawn(async move {
            for number in 0u64.. {
                sender.send_when_taken(number << 16 | lane, 1).await?;
                meter.count(1);
            }
            Ok(())
        });
    }
    tokio::select! {
        () = meter.over() => Ok(()),
        Some(ended) = tasks.join_next() => ended?,
    }
}

/// Fills a topic, quickly: 32 messages per RPC.
pub(crate) async fn preload(access_point: &str, topic: &str, size: usize, messages: u64) -> Result<()> {
    const LANES: u64 = 8;
    let sender = Sender::open(access_point, topic, size).await?;
    let mut tasks = JoinSet::new();
    for lane in 0..LANES {
        let mut sender = sender.clone();
        let rpcs = messages.div_ceil(LANES * BATCH as u64);
        tasks.spawn(async move {
            for number in 0..rpcs {
                sender.send_when_taken((lane << 40) + number * BATCH as u64, BATCH as u64).await?;
            }
            Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(anyhow::Error::from).and_then(|sent: Result<()>| sent)?;
    }
    Ok(())
}

enum Sent {
    Stored,
    Busy,
}

#[derive(Clone)]
struct Sender {
    link: Link,
    topic: Arc<str>,
    body: Bytes,
}

impl Sender {
    async fn open(access_point: &str, topic: &str, size: usize) -> Result<Self> {
        let topics = vec![resource(topic).context("a topic")?];
        let role = PubSub::Publishing(Publishing { topics, ..Publishing::default() });
        let link = Link::open(access_point, ClientType::Producer, role).await?;
        Ok(Self { link, topic: topic.into(), body: crate::workload::body(size) })
    }

    async fn send(&mut self, first: u64, count: u64) -> Result<Sent> {
        let messages = (first..first + count).map(|number| self.message(number)).collect();
        let request = self.link.request(SendMessageRequest { messages }, 10)?;
        let answer = self.link.client.send_message(request).await?.into_inner();
        match answer.status {
            Some(status) if status.code == TOO_MANY_REQUESTS => Ok(Sent::Busy),
            status => accepted("send", status).map(|()| Sent::Stored),
        }
    }

    /// Waits and repeats while the server says that it is busy.
    async fn send_when_taken(&mut self, first: u64, count: u64) -> Result<()> {
        loop {
            match self.send(first, count).await? {
                Sent::Stored => return Ok(()),
                Sent::Busy => tokio::time::sleep(BUSY).await,
            }
        }
    }

    fn message(&self, number: u64) -> Message {
        let system_properties = SystemProperties {
            message_id: format!("{number:032X}"),
            message_type: MessageType::Normal as i32,
            body_encoding: Encoding::Identity as i32,
            born_timestamp: Some(SystemTime::now().into()),
            born_host: "localhost".into(),
            queue_id: (number % 8) as i32,
            ..SystemProperties::default()
        };
        Message {
            topic: resource(&self.topic),
            user_properties: Default::default(),
            system_properties: Some(system_properties),
            body: self.body.clone(),
        }
    }
}
