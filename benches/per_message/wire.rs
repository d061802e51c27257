//! A wire without a network: receives are full at once, acks are granted at once. What it costs itself is shown by the bench
//! `stream/the wire alone`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};
use crate::model::{ClientSettings, Endpoint, Held, Message, Permission, Route, RouteQueue, ServerSettings};
use crate::proto;
use crate::transport::grpc::convert::{Reading, receive_frame};
use crate::transport::{
    Call, DeliveryAttempts, Incoming, InvisibleChange, Presence, PresenceLink, ReceiveFrame, ReceiveRequest, Receiving,
    Routing, Scope, Sending, Sent, ServerCommand, Stamped,
};

#[derive(Debug)]
pub(crate) struct Instant32 {
    message: Message,
    held: Held,
}

impl Instant32 {
    pub(crate) fn new() -> Self {
        let reading = Reading {
            topic: "orders".into(),
            broker: Some("broker-a".into()),
            max_decompressed_size: 4 << 20,
            check_digest: false,
            is_delivery: true,
        };
        let response = crate::convert::response(0, Bytes::from(vec![b'x'; 1024]));
        match receive_frame(response, &reading) {
            Ok(Some(ReceiveFrame::Message { message, held })) => Self { message, held },
            other => panic!("the model message is not one: {other:?}"),
        }
    }
}

fn route(topic: &Arc<str>, at: &Endpoint) -> Route {
    let endpoints: Arc<[Endpoint]> = Arc::new([at.clone()]);
    let queue = |id| RouteQueue {
        broker: "broker-a".into(),
        id,
        permission: Permission::ReadWrite,
        endpoints: Arc::clone(&endpoints),
        replicas: Arc::default(),
        accepts: Vec::new(),
    };
    Route { topic: Arc::clone(topic), queues: (0..8).map(queue).collect() }
}

impl Routing for Instant32 {
    fn query_route<'a>(&'a self, at: &'a Endpoint, topic: &'a Arc<str>) -> Call<'a, Route> {
        Box::pin(async move { Ok(route(topic, at)) })
    }
}

impl Presence for Instant32 {
    fn open<'a>(&'a self, _: &'a Endpoint, _: &'a ClientSettings) -> Call<'a, PresenceLink> {
        let settings = stream::iter([Ok(ServerCommand::Settings(ServerSettings::default()))]);
        let commands: Incoming<ServerCommand> = Box::pin(futures::StreamExt::chain(settings, stream::pending()));
        Box::pin(async move { Ok(PresenceLink { commands, replies: mpsc::channel(1).0 }) })
    }

    fn heartbeat<'a>(&'a self, _: &'a Endpoint, _: &'a ClientSettings) -> Call<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn goodbye<'a>(&'a self, _: &'a Endpoint, _: Option<&'a Arc<str>>) -> Call<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn forget(&self, _: &Endpoint) {}
}

impl Receiving for Instant32 {
    fn receive<'a>(&'a self, _: &'a Endpoint, request: &'a ReceiveRequest) -> Call<'a, Incoming<ReceiveFrame>> {
        let (message, held) = (self.message.clone(), self.held.clone());
        let frame = move |_| Ok(ReceiveFrame::Message { message: message.clone(), held: held.clone() });
        let frames: Incoming<ReceiveFrame> = Box::pin(stream::iter((0..request.max_messages).map(frame)));
        Box::pin(async move { Ok(frames) })
    }

    fn ack<'a>(&'a self, _: &'a Endpoint, _: &'a Scope, entries: &'a [Held]) -> Call<'a, Vec<Result<()>>> {
        Box::pin(async move { Ok(entries.iter().map(|_| Ok(())).collect()) })
    }

    fn change_invisible<'a>(
        &'a self,
        _: &'a Endpoint,
        _: &'a Scope,
        held: &'a Held,
        _: InvisibleChange,
    ) -> Call<'a, Arc<str>> {
        Box::pin(async move { Ok(held.handle().into()) })
    }

    fn dead_letter<'a>(&'a self, _: &'a Endpoint, _: &'a Scope, _: &'a Held, _: DeliveryAttempts) -> Call<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

impl Sending for Instant32 {
    fn send<'a>(&'a self, _: &'a Endpoint, _: &'a Stamped) -> Call<'a, Sent> {
        Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "this wire only receives")) })
    }
}
