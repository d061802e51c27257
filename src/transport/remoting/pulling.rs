//! Pulling, offsets, and what a group of pulling consumers asks for (protocol.md E.4 to E.6).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{Endpoint, Filter, FilterKind, MessageQueue, Offset};
use crate::transport::remoting::RemotingWire;
use crate::transport::remoting::command::group::{CheckClient, Connections, ConnectionsRequest, MembersRequest};
use crate::transport::remoting::command::heartbeat::{
    CONSUME_ACTIVELY, CONSUME_PASSIVELY, CONSUME_POP, SubscriptionData,
};
use crate::transport::remoting::command::offset::{
    Boundary, Commit, CommittedRequest, MaxOffset, MinOffset, QueueName, SearchOffset,
};
use crate::transport::remoting::command::pull::{PullAnswer, PullHeader, SUBSCRIPTION, SUSPEND};
use crate::transport::remoting::command::{Command, Payload, code};
use crate::transport::remoting::presence::{offset_of, unix_millis};
use crate::transport::remoting::rpc::Place;
use crate::transport::remoting::stored::{self, Reading};
use crate::transport::{Call, ConsumeKind, GroupProfile, PullOutcome, PullRequest, Pulled, Pulling, QueueBound};

/// A broker looks after held pulls every 5 s (seen: 2 s were answered after 4.9 s), and a proxy adds its own way to it.
const TICK: Duration = Duration::from_secs(6);

impl Pulling for RemotingWire {
    fn pull<'a>(&'a self, at: &'a Endpoint, request: &'a PullRequest) -> Call<'a, Pulled> {
        Box::pin(async move {
            let place = place(Operation::Pull, at, &request.queue).group(&request.group);
            let header = header(request).map_err(|error| place.dress(error))?;
            let deadline = deadline(request.suspend, self.rpc.request_timeout);
            let answer = self.rpc.exchange(&place, Command::request(&header), deadline).await?;
            let outcome = outcome(&answer).ok_or_else(|| place.refused(&answer))?;
            self.pulled(request, outcome, answer).map_err(|error| place.dress(error))
        })
    }

    fn committed<'a>(
        &'a self,
        at: &'a Endpoint,
        group: &'a Arc<str>,
        queue: &'a MessageQueue,
    ) -> Call<'a, Option<Offset>> {
        Box::pin(async move {
            let place = place(Operation::QueryOffset, at, queue).group(group);
            let request = CommittedRequest { group: Arc::clone(group), at: name(queue)?, zero_if_absent: false };
            match self.rpc.call(&place, &request).await {
                Ok(answer) => {
                    offset_of(answer.0, "a committed offset of").map(Some).map_err(|error| place.dress(error))
                }
                Err(error) if error.server_code() == Some(code::QUERY_NOT_FOUND) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    fn commit<'a>(
        &'a self,
        at: &'a Endpoint,
        group: &'a Arc<str>,
        queue: &'a MessageQueue,
        next: Offset,
    ) -> Call<'a, ()> {
        Box::pin(async move {
            let place = place(Operation::CommitOffset, at, queue).group(group);
            let offset = sendable(next).map_err(|error| place.dress(error))?;
            self.rpc.call(&place, &Commit { group: Arc::clone(group), at: name(queue)?, offset }).await
        })
    }

    fn bound<'a>(&'a self, at: &'a Endpoint, queue: &'a MessageQueue, bound: QueueBound) -> Call<'a, Offset> {
        Box::pin(async move {
            let place = place(Operation::QueryOffset, at, queue);
            let answer = match bound {
                QueueBound::Min => self.rpc.call(&place, &MinOffset(name(queue)?)).await,
                QueueBound::Max => self.rpc.call(&place, &MaxOffset(name(queue)?)).await,
            };
            offset_of(answer?.0, "a bound of").map_err(|error| place.dress(error))
        })
    }

    fn offset_at<'a>(&'a self, at: &'a Endpoint, queue: &'a MessageQueue, time: SystemTime) -> Call<'a, Offset> {
        Box::pin(async move {
            let place = place(Operation::QueryOffset, at, queue);
            let request = SearchOffset { at: name(queue)?, timestamp: unix_millis(time), boundary: Boundary::Lower };
            offset_of(self.rpc.call(&place, &request).await?.0, "the time is at").map_err(|error| place.dress(error))
        })
    }

    fn check_filter<'a>(
        &'a self,
        at: &'a Endpoint,
        group: &'a Arc<str>,
        topic: &'a Arc<str>,
        filter: &'a Filter,
    ) -> Call<'a, ()> {
        Box::pin(async move {
            let place = Place::new(Operation::CheckFilter, at).topic(topic).group(group);
            self.ask_to_check(&place, filter).await?;
            if filter.kind() == FilterKind::Sql92 {
                self.be_checked(&place).await?;
            }
            Ok(())
        })
    }

    fn members<'a>(&'a self, at: &'a Endpoint, group: &'a Arc<str>) -> Call<'a, Vec<Arc<str>>> {
        Box::pin(async move {
            let place = Place::new(Operation::QueryGroup, at).group(group);
            match self.rpc.call(&place, &MembersRequest { group: Arc::clone(group) }).await {
                Ok(members) => Ok(members.0),
                Err(error) if is_nobody(&error) => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        })
    }

    fn topics<'a>(&'a self, _: &'a Endpoint) -> Call<'a, BTreeSet<Arc<str>>> {
        Box::pin(self.list_topics())
    }

    fn group_profile<'a>(&'a self, at: &'a Endpoint, group: &'a Arc<str>) -> Call<'a, Option<GroupProfile>> {
        Box::pin(async move {
            let place = Place::new(Operation::QueryGroup, at).group(group);
            match self.rpc.call(&place, &ConnectionsRequest { group: Arc::clone(group) }).await {
                Ok(connections) => Ok(Some(profile(connections))),
                Err(error) if is_nobody(&error) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }
}

impl RemotingWire {
    async fn ask_to_check(&self, place: &Place<'_>, filter: &Filter) -> Result<()> {
        let shared = |name: Option<&Arc<str>>| name.map_or_else(|| "".into(), Arc::clone);
        let subscription = SubscriptionData { topic: shared(place.topic), filter: filter.clone(), version: 0 };
        let (client_id, group) = (Arc::clone(&self.client_id), shared(place.group));
        self.rpc.call(place, &CheckClient { client_id, group, subscription }).await
    }

    /// Whether the server checks at all: a proxy accepts everything (seen on 5.5.0), so it is asked for nonsense.
    async fn be_checked(&self, place: &Place<'_>) -> Result<()> {
        match self.ask_to_check(place, &Filter::sql92("(")).await {
            Err(error) if error.kind() == ErrorKind::InvalidArgument => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Err(place.error(
                ErrorKind::Unsupported,
                "this server does not check SQL92 filters, and a pull with one that does not parse returns every message: \
                 set name_server to a name server, not to a proxy",
            )),
        }
    }

    fn pulled(&self, request: &PullRequest, outcome: PullOutcome, answer: Command) -> Result<Pulled> {
        let told = PullAnswer::read(&answer)?;
        let mut next_offset = offset_of(told.next_offset, "the next offset is")?;
        let mut messages = Vec::new();
        if outcome == PullOutcome::Found {
            if answer.body.is_empty() {
                // Taken for a range without messages it would skip them.
                let text = "the server says that it found messages, and sent none";
                return Err(Error::new(ErrorKind::Protocol, text));
            }
            let tags: Vec<&str> = request.filter.tags().collect();
            let reading = Reading {
                queue: &request.queue,
                from: request.offset,
                offset_delta: told.offset_delta.unwrap_or_default(),
                max_decompressed_size: self.max_decompressed_size,
                check_digest: self.check_digest,
                tags: &tags,
            };
            let decoded = stored::decode(answer.body, &reading)
                .map_err(|error| Error::new(ErrorKind::Protocol, error.to_string()).with_source(error))?;
            messages = decoded.messages;
            next_offset = decoded.resume_at.unwrap_or(next_offset);
        }
        let bound = |offset: Option<i64>| offset.and_then(|offset| offset_of(offset, "a bound of").ok());
        Ok(Pulled {
            messages,
            next_offset,
            outcome,
            min_offset: bound(told.min_offset),
            max_offset: bound(told.max_offset),
            suggested_replica: told.suggested_replica,
        })
    }
}

/// The four good answers. An administrator's reset and a real gap have one code, and differ in the remark (trap P29).
fn outcome(answer: &Command) -> Option<PullOutcome> {
    match answer.code {
        code::SUCCESS => Some(PullOutcome::Found),
        code::PULL_NOT_FOUND => Some(PullOutcome::Empty),
        code::PULL_RETRY_IMMEDIATELY => Some(PullOutcome::Filtered),
        code::PULL_OFFSET_MOVED if answer.remark() == "OFFSET_RESET" => Some(PullOutcome::Reset),
        code::PULL_OFFSET_MOVED => Some(PullOutcome::OutOfRange),
        _ => None,
    }
}

/// The filter comes with each pull: so it needs no heartbeat, and no other member's subscription changes it.
fn header(request: &PullRequest) -> Result<PullHeader> {
    let suspend = request.suspend.unwrap_or_default();
    Ok(PullHeader {
        group: Arc::clone(&request.group),
        topic: Arc::clone(request.queue.shared_topic()),
        queue: name(&request.queue)?.queue,
        offset: sendable(request.offset)?,
        max_messages: i32::try_from(request.max_messages).unwrap_or(i32::MAX),
        flags: if request.suspend.is_some() { SUBSCRIPTION | SUSPEND } else { SUBSCRIPTION },
        commit_offset: 0,
        suspend_ms: i64::try_from(suspend.as_millis()).unwrap_or(i64::MAX),
        filter: Some(request.filter.clone()),
        filter_version: 0,
        max_bytes: None,
    })
}

/// P25: beyond the suspension by more than the broker's own slowness to notice that it is over.
fn deadline(suspend: Option<Duration>, request_timeout: Duration) -> Duration {
    suspend.map_or(request_timeout, |suspend| suspend.saturating_add(TICK).saturating_add(request_timeout))
}

fn place<'a>(operation: Operation, at: &'a Endpoint, queue: &'a MessageQueue) -> Place<'a> {
    Place::new(operation, at).topic(queue.shared_topic()).broker(queue.broker())
}

fn name(queue: &MessageQueue) -> Result<QueueName> {
    let id = i32::try_from(queue.id())
        .map_err(|_| Error::argument("queue", queue, "the number of a queue is at most 2147483647"))?;
    Ok(QueueName { topic: Arc::clone(queue.shared_topic()), queue: id })
}

/// P4: what no queue can have is never sent.
fn sendable(offset: Offset) -> Result<i64> {
    i64::try_from(offset.get())
        .map_err(|_| Error::argument("offset", offset, "an offset is at most 9223372036854775807"))
}

/// Nobody of the group is connected there: for a server that is an error, for us an answer. A proxy stumbles over it, and
/// shows the words of its Java machine (seen on 5.5.0).
fn is_nobody(error: &Error) -> bool {
    const SAYS_SO: [&str; 3] = ["no consumer for this group", "\"consumerGroupInfo\" is null", "NullPointerException"];
    let says_so = || SAYS_SO.iter().any(|words| error.text().contains(words));
    match error.server_code() {
        Some(code::CONSUMER_NOT_ONLINE) => true,
        Some(code::SYSTEM_ERROR) => says_so(),
        _ => false,
    }
}

fn profile(connections: Connections) -> GroupProfile {
    GroupProfile {
        consume_kind: match &*connections.consume_type {
            CONSUME_ACTIVELY => ConsumeKind::Pull,
            CONSUME_PASSIVELY => ConsumeKind::Push,
            CONSUME_POP => ConsumeKind::Pop,
            _ => ConsumeKind::Unknown,
        },
        members: connections.connections.into_iter().map(|member| member.client_id).collect(),
        subscriptions: connections.subscriptions.into_iter().map(|one| (one.topic, one.filter)).collect(),
    }
}
