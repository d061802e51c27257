//! Being known to a broker: heartbeats go out, its requests come in, and the answers go back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::stream;
use tokio::sync::mpsc;

use crate::clock;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{ClientSettings, Endpoint, Offset, ServerSettings, Subscription};
use crate::transport::remoting::RemotingWire;
use crate::transport::remoting::command::group::MembersChanged;
use crate::transport::remoting::command::heartbeat::{
    CLUSTERING, CONSUME_ACTIVELY, CONSUME_FROM_LAST_OFFSET, ConsumerData, Heartbeat, SubscriptionData, Unregister,
};
use crate::transport::remoting::command::server::{
    QueueInfo, ResetOffset, RunningInfo, RunningInfoRequest, Status, StatusRequest,
};
use crate::transport::remoting::command::{Payload, Request, code};
use crate::transport::remoting::connection::{Connection, Inbound};
use crate::transport::remoting::rpc::{Place, Rpc};
use crate::transport::{
    Call, ClientReply, ConsumerInfo, GroupRequest, Presence, PresenceLink, QueueProgress, Reply, ServerCommand,
};

impl Presence for RemotingWire {
    fn open<'a>(&'a self, at: &'a Endpoint, settings: &'a ClientSettings) -> Call<'a, PresenceLink> {
        Box::pin(async move {
            let connection = self.rpc.connection(at);
            // Before the heartbeat: the broker's notice that we have joined may overtake its answer.
            let requests = connection.listen();
            let herald = self.herald(at);
            herald.beat(settings).await?;
            let (replies, told) = mpsc::channel(4);
            let link = Link { herald, connection, requests, told, state: State::Joined };
            let commands = stream::unfold(link, async |mut link| Some((link.next().await?, link)));
            Ok(PresenceLink { commands: Box::pin(commands), replies })
        })
    }

    fn heartbeat<'a>(&'a self, at: &'a Endpoint, settings: &'a ClientSettings) -> Call<'a, ()> {
        Box::pin(async move { self.herald(at).beat(settings).await })
    }

    fn goodbye<'a>(&'a self, at: &'a Endpoint, group: Option<&'a Arc<str>>) -> Call<'a, ()> {
        Box::pin(async move {
            let Some(group) = group else { return Ok(()) };
            let place = Place::new(Operation::Terminate, at).group(group);
            let consumer_group = Some(Arc::clone(group));
            let client_id = Arc::clone(&self.client_id);
            self.rpc.call(&place, &Unregister { client_id, producer_group: None, consumer_group }).await
        })
    }

    fn forget(&self, at: &Endpoint) {
        self.rpc.forget(at);
    }
}

impl RemotingWire {
    fn herald(&self, at: &Endpoint) -> Herald {
        Herald {
            at: at.clone(),
            rpc: Arc::clone(&self.rpc),
            client_id: Arc::clone(&self.client_id),
            subscribed: Arc::clone(&self.subscribed),
        }
    }
}

/// Tells one broker who we are.
struct Herald {
    at: Endpoint,
    rpc: Arc<Rpc>,
    client_id: Arc<str>,
    subscribed: Arc<Mutex<(Vec<Subscription>, i64)>>,
}

impl Herald {
    /// Without a group it says nothing but that we live, and joins no list (trap P27).
    async fn beat(&self, settings: &ClientSettings) -> Result<()> {
        let consumers = settings.group.iter().map(|group| self.consumer(group, &settings.subscriptions)).collect();
        let heartbeat = Heartbeat { client_id: Arc::clone(&self.client_id), producers: Vec::new(), consumers };
        let mut place = Place::new(Operation::Heartbeat, &self.at);
        place.group = settings.group.as_ref();
        self.rpc.call(&place, &heartbeat).await
    }

    fn consumer(&self, group: &Arc<str>, subscriptions: &[Subscription]) -> ConsumerData {
        let version = self.version_of(subscriptions);
        ConsumerData {
            group: Arc::clone(group),
            consume_type: CONSUME_ACTIVELY.into(),
            message_model: CLUSTERING.into(),
            consume_from: CONSUME_FROM_LAST_OFFSET.into(),
            subscriptions: subscriptions.iter().map(|one| subscription(one, version)).collect(),
        }
    }

    /// A broker takes a filter over another only with a higher version. It stays while nothing changes, so that equal
    /// heartbeats are equal, and make no stir in the group.
    fn version_of(&self, subscriptions: &[Subscription]) -> i64 {
        let mut known = self.subscribed.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != subscriptions || known.1 == 0 {
            *known = (subscriptions.to_vec(), unix_millis(clock::wall()).max(known.1 + 1));
        }
        known.1
    }
}

fn subscription(one: &Subscription, version: i64) -> SubscriptionData {
    SubscriptionData { topic: Arc::clone(&one.topic), filter: one.filter.clone(), version }
}

/// What goes on at one broker. Nothing happens in it but when it is polled.
struct Link {
    herald: Herald,
    connection: Connection,
    requests: mpsc::Receiver<Inbound>,
    told: mpsc::Receiver<ClientReply>,
    state: State,
}

enum State {
    /// The answer to the first heartbeat is yet to be told.
    Joined,
    Open,
    Over,
}

impl Link {
    async fn next(&mut self) -> Option<Result<ServerCommand>> {
        match std::mem::replace(&mut self.state, State::Open) {
            State::Joined => Some(Ok(ServerCommand::Settings(ServerSettings::default()))),
            State::Open => Some(self.hear().await),
            State::Over => {
                self.state = State::Over;
                None
            }
        }
    }

    async fn hear(&mut self) -> Result<ServerCommand> {
        loop {
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => if let Some(command) = self.command(request) { return Ok(command) },
                    None => {
                        self.state = State::Over;
                        return Err(self.connection.cause().at(&self.herald.at));
                    }
                },
                Some(reply) = self.told.recv() => if let ClientReply::Settings(settings) = reply {
                    self.herald.beat(&settings).await?;
                    return Ok(ServerCommand::Settings(ServerSettings::default()));
                },
            }
        }
    }

    /// `None`: it was refused.
    fn command(&self, request: Inbound) -> Option<ServerCommand> {
        match self.read(&request) {
            Ok(Asked::MembersChanged) => Some(ServerCommand::MembersChanged),
            Ok(Asked::Reset(offsets)) => {
                let reply = reply_with(request, |()| ());
                Some(ServerCommand::Ask(GroupRequest::ResetOffsets { offsets, reply }))
            }
            Ok(Asked::Positions(topic)) => {
                let reply = reply_with(request, |positions: Vec<_>| Status {
                    offsets: positions.into_iter().map(|(queue, offset)| (queue, wire_offset(offset))).collect(),
                });
                Some(ServerCommand::Ask(GroupRequest::Positions { topic, reply }))
            }
            Ok(Asked::Describe) => {
                let servers = self.herald.at.to_string();
                let reply = reply_with(request, move |info| running_info(info, &servers));
                Some(ServerCommand::Ask(GroupRequest::Describe { reply }))
            }
            Err((code, why)) => {
                tracing::debug!(endpoint = %self.herald.at, code = request.command.code, why, "a request is refused");
                request.refuse(code, &why);
                None
            }
        }
    }

    fn read(&self, request: &Inbound) -> Result<Asked, (i32, String)> {
        let command = &request.command;
        let malformed = |error: Error| (code::SYSTEM_ERROR, error.to_string());
        match command.code {
            MembersChanged::CODE => Ok(Asked::MembersChanged),
            ResetOffset::CODE => {
                let reset = ResetOffset::read(command).map_err(malformed)?;
                let offsets =
                    reset.offsets.into_iter().map(|(queue, offset)| Ok((queue, offset_of(offset, "offset")?)));
                Ok(Asked::Reset(offsets.collect::<Result<_>>().map_err(malformed)?))
            }
            StatusRequest::CODE => Ok(Asked::Positions(StatusRequest::read(command).map_err(malformed)?.topic)),
            RunningInfoRequest::CODE => RunningInfoRequest::read(command).map_err(malformed).map(|_| Asked::Describe),
            other => Err((code::REQUEST_CODE_NOT_SUPPORTED, format!("request code {other} is not supported here"))),
        }
    }
}

/// What a request asks for.
enum Asked {
    MembersChanged,
    Reset(Vec<(crate::model::MessageQueue, Offset)>),
    Positions(Arc<str>),
    Describe,
}

fn reply_with<T: 'static, P: Payload>(request: Inbound, payload: impl FnOnce(T) -> P + Send + 'static) -> Reply<T> {
    Reply::new(move |answer| match answer {
        Some(answer) => {
            let answer = request.command.answer(&payload(answer));
            request.answer(answer);
        }
        None => request.refuse(code::SYSTEM_ERROR, "the consumer gives no answer"),
    })
}

/// As mqadmin reads it. It parses the start as a number, and shows the rest.
fn running_info(info: ConsumerInfo, server: &str) -> RunningInfo {
    let started = unix_millis(info.started);
    let property = |name: &str, value: &str| (name.into(), value.into());
    RunningInfo {
        properties: vec![
            property("PROP_CONSUMER_START_TIMESTAMP", &started.to_string()),
            property("PROP_CLIENT_VERSION", concat!("rocketmq-stream ", env!("CARGO_PKG_VERSION"))),
            property("PROP_CONSUME_TYPE", CONSUME_ACTIVELY),
            property("PROP_CONSUMEORDERLY", "false"),
            property("PROP_NAMESERVER_ADDR", server),
            property("PROP_THREADPOOL_CORE_SIZE", "0"),
        ],
        subscriptions: info.subscriptions.iter().map(|one| subscription(one, started)).collect(),
        queues: info.queues.into_iter().map(|(queue, progress)| (queue, queue_info(&progress))).collect(),
    }
}

fn queue_info(progress: &QueueProgress) -> QueueInfo {
    let cached = progress.cached.clone();
    QueueInfo {
        commit_offset: progress.committed.map_or(-1, wire_offset),
        cached_min_offset: cached.as_ref().map_or(0, |range| wire_offset(range.start)),
        // The last one, not the one after it.
        cached_max_offset: cached.as_ref().map_or(0, |range| wire_offset(range.end).saturating_sub(1).max(0)),
        cached_messages: progress.cached_messages as u64,
        cached_mebibytes: (progress.cached_bytes >> 20) as u64,
        last_pull: progress.last_pull.map_or(0, unix_millis),
        last_consume: progress.last_consume.map_or(0, unix_millis),
    }
}

/// An offset of ours as the wire writes it; ours never exceed what it can.
fn wire_offset(offset: Offset) -> i64 {
    i64::try_from(offset.get()).unwrap_or(i64::MAX)
}

/// An offset of the wire. What is negative is none (trap P4).
pub(super) fn offset_of(offset: i64, what: &str) -> Result<Offset> {
    let rule = || Error::new(ErrorKind::Protocol, format!("the server says {what} {offset}, which is no offset"));
    u64::try_from(offset).map(Offset::new).map_err(|_| rule())
}

/// A time before 1970 counts as 1970.
pub(super) fn unix_millis(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
