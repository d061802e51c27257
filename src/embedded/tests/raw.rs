//! A client of the generated stubs, as thin as can be.

use std::time::Duration;

use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use super::super::Broker;
use crate::proto::messaging_service_client::MessagingServiceClient;
use crate::proto::receive_message_response::Content;
use crate::proto::settings::PubSub;
use crate::proto::telemetry_command::Command;
use crate::proto::{self, ClientType};

/// Deadline of unary requests.
const DEADLINE: Duration = Duration::from_secs(5);

pub(super) struct Raw {
    pub(super) client: MessagingServiceClient<Channel>,
    id: String,
    /// Keeps the telemetry stream open.
    settings: Option<mpsc::Sender<proto::TelemetryCommand>>,
    pub(super) commands: Option<Streaming<proto::TelemetryCommand>>,
}

pub(super) struct Received {
    pub(super) status: proto::Status,
    pub(super) messages: Vec<proto::Message>,
    pub(super) ends_with_timestamp: bool,
}

impl Received {
    pub(super) fn handle(&self, index: usize) -> String {
        self.messages[index].system_properties.as_ref().unwrap().receipt_handle.clone().unwrap()
    }

    pub(super) fn seen(&self) -> Vec<(String, i32)> {
        let seen = |message: &proto::Message| {
            let system = message.system_properties.as_ref().unwrap();
            (system.message_id.clone(), system.delivery_attempt.unwrap())
        };
        self.messages.iter().map(seen).collect()
    }
}

pub(super) fn resource(name: &str) -> Option<proto::Resource> {
    Some(proto::Resource { resource_namespace: String::new(), name: name.into() })
}

fn wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.as_secs() as i64, nanos: duration.subsec_nanos() as i32 }
}

pub(super) fn text_message(topic: &str, id: &str, body: &[u8]) -> proto::Message {
    let system = proto::SystemProperties {
        message_id: id.into(),
        message_type: proto::MessageType::Normal.into(),
        body_encoding: proto::Encoding::Identity.into(),
        ..proto::SystemProperties::default()
    };
    proto::Message {
        topic: resource(topic),
        system_properties: Some(system),
        body: body.to_vec().into(),
        ..proto::Message::default()
    }
}

pub(super) fn with(request: impl FnOnce(&mut proto::SystemProperties), mut message: proto::Message) -> proto::Message {
    request(message.system_properties.as_mut().unwrap());
    message
}

pub(super) fn receive_request(topic: &str, group: &str, batch: i32, poll: Duration) -> proto::ReceiveMessageRequest {
    proto::ReceiveMessageRequest {
        group: resource(group),
        message_queue: Some(proto::MessageQueue {
            topic: resource(topic),
            id: -1,
            broker: Some(proto::Broker { name: "broker-a".into(), ..Default::default() }),
            ..proto::MessageQueue::default()
        }),
        batch_size: batch,
        invisible_duration: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        long_polling_timeout: Some(wire(poll)),
        ..proto::ReceiveMessageRequest::default()
    }
}

impl Raw {
    /// Connects, without settings.
    pub(super) async fn connect(broker: &Broker, id: &str) -> Self {
        Self::connect_to(&broker.addresses()[0].to_string(), id).await
    }

    pub(super) async fn connect_to(address: &str, id: &str) -> Self {
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let client = MessagingServiceClient::new(channel);
        Self { client: client.max_decoding_message_size(1 << 27), id: id.into(), settings: None, commands: None }
    }

    /// Connects and registers as a SimpleConsumer.
    pub(super) async fn consumer(broker: &Broker, group: &str) -> Self {
        let mut raw = Self::connect(broker, &format!("client-of-{group}")).await;
        raw.register(consumer_settings(group)).await.unwrap();
        raw
    }

    pub(super) fn request<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        let metadata = request.metadata_mut();
        metadata.insert("x-mq-client-id", self.id.parse().unwrap());
        metadata.insert("x-mq-language", "RUST".parse().unwrap());
        metadata.insert("x-mq-client-version", "5.2.0".parse().unwrap());
        request
    }

    /// Sends settings on a stream of its own; returns the server's.
    pub(super) async fn register(
        &mut self,
        settings: proto::Settings,
    ) -> Result<proto::TelemetryCommand, tonic::Status> {
        let (sender, mut receiver) = mpsc::channel(4);
        let command = proto::TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
        sender.send(command).await.unwrap();
        let outgoing = async_stream::stream! { while let Some(command) = receiver.recv().await { yield command } };
        let mut request = self.request(outgoing, Duration::from_secs(3600));
        request.metadata_mut().remove("grpc-timeout");
        let mut commands = self.client.telemetry(request).await?.into_inner();
        let answer = commands.message().await?.expect("an answer to the settings");
        (self.settings, self.commands) = (Some(sender), Some(commands));
        Ok(answer)
    }

    pub(super) async fn reply(&self, command: Command) {
        let command = proto::TelemetryCommand { status: None, command: Some(command) };
        self.settings.as_ref().unwrap().send(command).await.unwrap();
    }

    pub(super) async fn send(&mut self, topic: &str, id: &str, body: &[u8]) -> proto::SendMessageResponse {
        self.send_all(vec![text_message(topic, id, body)]).await
    }

    pub(super) async fn send_all(&mut self, messages: Vec<proto::Message>) -> proto::SendMessageResponse {
        let request = self.request(proto::SendMessageRequest { messages }, DEADLINE);
        self.client.send_message(request).await.unwrap().into_inner()
    }

    pub(super) async fn receive(&mut self, topic: &str, group: &str, batch: i32, poll: Duration) -> Received {
        self.receive_with(receive_request(topic, group, batch, poll), poll + DEADLINE).await
    }

    pub(super) async fn receive_with(&mut self, request: proto::ReceiveMessageRequest, deadline: Duration) -> Received {
        let request = self.request(request, deadline);
        let mut stream = self.client.receive_message(request).await.unwrap().into_inner();
        let (mut status, mut messages, mut ends_with_timestamp) = (None, Vec::new(), false);
        while let Some(response) = stream.message().await.unwrap() {
            assert!(!ends_with_timestamp, "nothing follows the timestamp");
            match response.content.unwrap() {
                Content::Status(first) => status = Some(first),
                Content::Message(message) => messages.push(message),
                Content::DeliveryTimestamp(_) => ends_with_timestamp = true,
            }
            assert!(status.is_some(), "the status comes first");
        }
        Received { status: status.unwrap(), messages, ends_with_timestamp }
    }

    pub(super) async fn ack(&mut self, topic: &str, group: &str, handles: &[String]) -> proto::AckMessageResponse {
        self.try_ack(topic, group, handles).await.unwrap()
    }

    pub(super) async fn try_ack(
        &mut self,
        topic: &str,
        group: &str,
        handles: &[String],
    ) -> Result<proto::AckMessageResponse, tonic::Status> {
        let entry = |handle: &String| proto::AckMessageEntry {
            message_id: "id".into(),
            receipt_handle: handle.clone(),
            lite_topic: None,
        };
        let entries = handles.iter().map(entry).collect();
        let request = proto::AckMessageRequest { group: resource(group), topic: resource(topic), entries };
        let request = self.request(request, DEADLINE);
        self.client.ack_message(request).await.map(tonic::Response::into_inner)
    }

    pub(super) async fn change(
        &mut self,
        topic: &str,
        group: &str,
        handle: &str,
        invisible: Duration,
    ) -> proto::ChangeInvisibleDurationResponse {
        let request = proto::ChangeInvisibleDurationRequest {
            group: resource(group),
            topic: resource(topic),
            receipt_handle: handle.into(),
            invisible_duration: Some(wire(invisible)),
            message_id: "id".into(),
            ..proto::ChangeInvisibleDurationRequest::default()
        };
        let request = self.request(request, DEADLINE);
        self.client.change_invisible_duration(request).await.unwrap().into_inner()
    }

    pub(super) async fn dead_letter(&mut self, topic: &str, group: &str, handle: &str) -> proto::Status {
        let request = proto::ForwardMessageToDeadLetterQueueRequest {
            group: resource(group),
            topic: resource(topic),
            receipt_handle: handle.into(),
            message_id: "id".into(),
            ..proto::ForwardMessageToDeadLetterQueueRequest::default()
        };
        let request = self.request(request, DEADLINE);
        self.client.forward_message_to_dead_letter_queue(request).await.unwrap().into_inner().status.unwrap()
    }

    pub(super) async fn heartbeat(&mut self) -> proto::Status {
        let request = proto::HeartbeatRequest { group: None, client_type: ClientType::SimpleConsumer.into() };
        let request = self.request(request, DEADLINE);
        self.client.heartbeat(request).await.unwrap().into_inner().status.unwrap()
    }

    pub(super) async fn route(
        &mut self,
        topic: &str,
        endpoints: Option<proto::Endpoints>,
    ) -> proto::QueryRouteResponse {
        let request = self.request(proto::QueryRouteRequest { topic: resource(topic), endpoints }, DEADLINE);
        self.client.query_route(request).await.unwrap().into_inner()
    }
}

pub(super) fn consumer_settings(group: &str) -> proto::Settings {
    let subscription = proto::Subscription { group: resource(group), ..proto::Subscription::default() };
    proto::Settings {
        client_type: Some(ClientType::SimpleConsumer.into()),
        request_timeout: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
        pub_sub: Some(PubSub::Subscription(subscription)),
        ..proto::Settings::default()
    }
}
