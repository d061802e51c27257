//! A client of the codecs, as thin as can be.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::clock;
use crate::embedded::Broker;
use crate::transport::remoting::command::heartbeat::{
    CLUSTERING, CONSUME_ACTIVELY, CONSUME_FROM_LAST_OFFSET, ConsumerData, Heartbeat, SubscriptionData,
};
use crate::transport::remoting::command::pull::{PullHeader, SUBSCRIPTION, SUSPEND};
use crate::transport::remoting::command::{Command, Kind, Payload, Request};
use crate::transport::remoting::frame::{HeaderForm, Intake};
use crate::{Credentials, Filter};

/// An answer: its code, and what it carries if that is 0.
pub(super) type Answered<T> = Result<T, (i32, String)>;

pub(super) struct Raw {
    stream: TcpStream,
    intake: Intake,
    next_opaque: i32,
    /// Requests of the server that came while an answer was waited for.
    pub(super) requests: VecDeque<Command>,
    pub(super) credentials: Option<Credentials>,
    pub(super) form: HeaderForm,
}

impl Raw {
    /// To the broker with this number.
    pub(super) async fn to_broker(broker: &Broker, number: usize) -> Self {
        Self::to(broker.broker_addresses()[number]).await
    }

    pub(super) async fn to_name_server(broker: &Broker) -> Self {
        Self::to(broker.name_server().parse().unwrap()).await
    }

    pub(super) async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self {
            stream,
            intake: Intake::default(),
            next_opaque: 1,
            requests: VecDeque::new(),
            credentials: None,
            form: HeaderForm::Json,
        }
    }

    pub(super) async fn write(&mut self, mut command: Command) -> i32 {
        if command.kind != Kind::Answer {
            command.opaque = self.next_opaque;
            self.next_opaque += 1;
        }
        if let Some(credentials) = &self.credentials {
            command.fields.set("AccessKey", credentials.access_key());
            let fields = command.fields.iter();
            let secret = credentials.secret_key();
            let signature = crate::transport::auth::remoting_signature(secret, fields, &command.body);
            command.fields.set("Signature", signature);
        }
        let mut bytes = BytesMut::new();
        command.encode_head(self.form, &mut bytes).unwrap();
        bytes.extend_from_slice(&command.body);
        self.stream.write_all(&bytes).await.unwrap();
        command.opaque
    }

    /// The next command; `None` when the server closes the connection.
    pub(super) async fn next(&mut self) -> Option<Command> {
        loop {
            if let Some(frame) = self.intake.next().unwrap() {
                return Some(Command::decode(frame).unwrap());
            }
            match self.stream.read_buf(self.intake.room()).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The answer to a request; what the server asks meanwhile is kept.
    pub(super) async fn answer(&mut self, opaque: i32) -> Option<Command> {
        loop {
            let command = self.next().await?;
            if command.kind == Kind::Answer {
                assert_eq!(command.opaque, opaque, "another answer");
                return Some(command);
            }
            self.requests.push_back(command);
        }
    }

    pub(super) async fn exchange(&mut self, command: Command) -> Command {
        let opaque = self.write(command).await;
        let answer = clock::timeout(Duration::from_secs(60), self.answer(opaque)).await;
        answer.expect("an answer in time").expect("an open connection")
    }

    pub(super) async fn ask<R: Request + Sync>(&mut self, request: &R) -> Answered<R::Answer> {
        let answer = self.exchange(Command::request(request)).await;
        match answer.code {
            0 => Ok(R::Answer::read(&answer).unwrap()),
            code => Err((code, answer.remark().to_owned())),
        }
    }

    /// A request of which only code, fields and body are known.
    pub(super) async fn plain(&mut self, code: i32, fields: &[(&'static str, &str)], body: &str) -> Command {
        self.exchange(plain(code, fields, body)).await
    }

    /// The next request of the server within a second.
    pub(super) async fn request(&mut self) -> Option<Command> {
        if let Some(command) = self.requests.pop_front() {
            return Some(command);
        }
        clock::timeout(Duration::from_secs(1), self.next()).await.flatten()
    }

    pub(super) async fn heartbeat(&mut self, id: &str, group: &str, topic: &str) {
        self.ask(&heartbeat(id, group, topic)).await.unwrap();
    }
}

pub(super) fn plain(code: i32, fields: &[(&'static str, &str)], body: &str) -> Command {
    struct Bare;
    impl Payload for Bare {
        fn write(&self, _: &mut Command) {}

        fn read(_: &Command) -> crate::Result<Self> {
            Ok(Self)
        }
    }
    impl Request for Bare {
        const CODE: i32 = 0;
        type Answer = ();
    }
    let mut command = Command { code, body: body.to_owned().into(), ..Command::request(&Bare) };
    for (name, value) in fields {
        command.fields.set(*name, value);
    }
    command
}

pub(super) fn heartbeat(id: &str, group: &str, topic: &str) -> Heartbeat {
    let subscription = SubscriptionData { topic: topic.into(), filter: Filter::all(), version: 1 };
    Heartbeat {
        client_id: id.into(),
        producers: vec!["p".into()],
        consumers: vec![ConsumerData {
            group: group.into(),
            consume_type: CONSUME_ACTIVELY.into(),
            message_model: CLUSTERING.into(),
            consume_from: CONSUME_FROM_LAST_OFFSET.into(),
            subscriptions: vec![subscription],
        }],
    }
}

pub(super) fn pull(offset: i64, suspend: Duration) -> PullHeader {
    PullHeader {
        group: Arc::from("g"),
        topic: Arc::from("t"),
        queue: 0,
        offset,
        max_messages: 32,
        flags: if suspend.is_zero() { SUBSCRIPTION } else { SUBSCRIPTION | SUSPEND },
        commit_offset: 0,
        suspend_ms: suspend.as_millis() as i64,
        filter: Some(Filter::all()),
        filter_version: 0,
        max_bytes: None,
    }
}
