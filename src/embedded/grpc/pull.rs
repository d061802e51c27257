//! Pulling by offset, as the rocketmq-rust proxy does it (protocol.md D.3): Message*, then the next offset, then a Status.

use std::time::Duration;

use async_stream::stream;
use futures_core::Stream;
use tonic::Status;

use super::answer::{ok, refusal};
use super::caller::Caller;
use super::{After, Proxy, checks, reply, status, wire};
use crate::embedded::engine::{FilterProgram, Pull, PullRequest, PullStatus, QueryOffset, Refusal, TimeBound};
use crate::proto::pull_message_response::Content;
use crate::proto::{self, Code, QueryOffsetPolicy};

type Answered<T> = Result<T, proto::Status>;

/// The queue a request names: it must say topic, broker and a number that can be one.
#[derive(Debug)]
struct Place {
    topic: String,
    broker: usize,
    queue: i32,
}

impl Place {
    fn new(proxy: &Proxy, queue: Option<&proto::MessageQueue>) -> Answered<Self> {
        let topic = checks::topic(&proxy.cluster.config, queue.and_then(|queue| queue.topic.as_ref()))?.to_owned();
        let broker = queue.and_then(|queue| queue.broker.as_ref()).map_or("", |broker| &broker.name);
        if broker.is_empty() {
            return Err(status(Code::BadRequest, "message queue: the name of its broker is missing"));
        }
        let id = queue.map_or(-1, |queue| queue.id);
        if id < 0 {
            return Err(status(Code::IllegalOffset, format!("message queue: its id {id} is negative")));
        }
        let reach = proxy.cluster.with(|engine, now| engine.reachable_topic(&topic, broker, now));
        match reach {
            Ok(broker) => Ok(Self { topic, broker, queue: id }),
            // A broker that is in no route is what a proxy cannot find a topic on.
            Err(Refusal::NoBroker(_)) => Err(refusal(Refusal::TopicNotFound(topic))),
            Err(other) => Err(refusal(other)),
        }
    }
}

/// A pull that passed the checks.
#[derive(Debug)]
pub(super) struct Plan {
    group: String,
    place: Place,
    offset: i64,
    filter: FilterProgram,
    max: usize,
    suspend: Duration,
}

impl Plan {
    pub(super) fn new(proxy: &Proxy, request: proto::PullMessageRequest) -> Answered<Self> {
        let group = checks::group(&proxy.cluster.config, request.group.as_ref())?.to_owned();
        let place = Place::new(proxy, request.message_queue.as_ref())?;
        check_offset(request.offset)?;
        let max = usize::try_from(request.batch_size).ok().filter(|max| *max > 0);
        let max = max.ok_or_else(|| status(Code::BadRequest, "the batch size must be 1 or more"))?;
        let filter = filter(request.filter_expression.as_ref())?;
        let suspend = request.long_polling_timeout.as_ref().map_or(Duration::ZERO, wire::duration);
        Ok(Self { group, place, offset: request.offset, filter, max, suspend })
    }

    fn request(&self) -> PullRequest<'_> {
        PullRequest {
            group: &self.group,
            topic: &self.place.topic,
            broker: self.place.broker,
            queue: self.place.queue,
            offset: self.offset,
            filter: &self.filter,
            max: self.max,
        }
    }
}

fn check_offset(offset: i64) -> Answered<()> {
    if offset >= 0 {
        return Ok(());
    }
    Err(status(Code::IllegalOffset, format!("the offset {offset} is negative")))
}

fn filter(expression: Option<&proto::FilterExpression>) -> Answered<FilterProgram> {
    let Some(expression) = expression else { return Ok(FilterProgram::All) };
    match expression.r#type() {
        proto::FilterType::Sql if expression.expression.trim().is_empty() => {
            Err(status(Code::IllegalFilterExpression, "an SQL92 filter needs an expression"))
        }
        proto::FilterType::Sql => FilterProgram::sql(&expression.expression)
            .map_err(|reason| status(Code::IllegalFilterExpression, format!("no SQL92 expression: {reason}"))),
        _ => Ok(FilterProgram::tag_codes(&expression.expression)),
    }
}

pub(super) fn status_of(status: proto::Status) -> proto::PullMessageResponse {
    part(Content::Status(status))
}

fn part(content: Content) -> proto::PullMessageResponse {
    proto::PullMessageResponse { content: Some(content) }
}

/// The whole answer. An error has no next offset.
pub(super) fn respond(
    proxy: Proxy,
    plan: Answered<Plan>,
    after: After,
) -> impl Stream<Item = Result<proto::PullMessageResponse, Status>> + Send {
    stream! {
        let found = match &plan {
            Ok(plan) => proxy.cluster.pull_or_wait(&plan.request(), plan.suspend).await.map_err(refusal),
            Err(status) => Err(status.clone()),
        };
        reply(after).await;
        match (&plan, found) {
            (Ok(plan), Ok(pull)) => {
                let verdict = verdict(&pull);
                for message in messages(&proxy, plan, &pull) {
                    yield Ok(part(Content::Message(message)));
                }
                yield Ok(part(Content::NextOffset(pull.next as i64)));
                yield Ok(status_of(verdict));
            }
            (_, Err(status)) => yield Ok(status_of(status)),
            (Err(_), Ok(_)) => {}
        }
    }
}

fn verdict(pull: &Pull) -> proto::Status {
    let text = pull.status.name();
    match pull.status {
        PullStatus::Found => ok(),
        PullStatus::NoMatched | PullStatus::OverflowOne | PullStatus::NoMessage => status(Code::MessageNotFound, text),
        PullStatus::OverflowBadly | PullStatus::TooSmall | PullStatus::BeyondEmpty | PullStatus::Reset => {
            status(Code::IllegalOffset, text)
        }
    }
}

fn messages(proxy: &Proxy, plan: &Plan, pull: &Pull) -> Vec<proto::Message> {
    let store_host = format!("127.0.0.1:{}", proxy.cluster.ports[proxy.index]);
    let bound = proxy.cluster.config.limits.max_decompressed_size;
    let message = |(offset, record): &(u64, _)| {
        wire::pulled((plan.place.queue as u32, *offset), record, &plan.place.topic, &store_host, bound)
    };
    pull.messages.iter().map(message).collect()
}

pub(super) fn update_offset(
    proxy: &Proxy,
    _caller: &Caller,
    request: proto::UpdateOffsetRequest,
) -> Answered<proto::UpdateOffsetResponse> {
    let group = checks::group(&proxy.cluster.config, request.group.as_ref())?;
    let Place { topic, broker, queue } = Place::new(proxy, request.message_queue.as_ref())?;
    check_offset(request.offset)?;
    let commit = proxy.cluster.with(|engine, _| engine.commit(group, &topic, broker, queue, request.offset));
    commit.map_err(refusal)?;
    Ok(proto::UpdateOffsetResponse { status: Some(ok()) })
}

pub(super) fn get_offset(
    proxy: &Proxy,
    _caller: &Caller,
    request: proto::GetOffsetRequest,
) -> Answered<proto::GetOffsetResponse> {
    let group = checks::group(&proxy.cluster.config, request.group.as_ref())?;
    let Place { topic, broker, queue } = Place::new(proxy, request.message_queue.as_ref())?;
    let query = QueryOffset { group, topic: &topic, broker, queue, zero_if_young: false };
    let offset = proxy.cluster.with(|engine, _| engine.query_offset(&query));
    let text = || format!("group {group} has committed no offset of queue {queue} of topic {topic}");
    let offset = offset.ok_or_else(|| status(Code::OffsetNotFound, text()))?;
    Ok(proto::GetOffsetResponse { status: Some(ok()), offset: offset as i64 })
}

pub(super) fn query_offset(
    proxy: &Proxy,
    _caller: &Caller,
    request: proto::QueryOffsetRequest,
) -> Answered<proto::QueryOffsetResponse> {
    let Place { topic, broker, queue } = Place::new(proxy, request.message_queue.as_ref())?;
    let bounds = || proxy.cluster.with(|engine, _| engine.bounds(&topic, broker, queue)).unwrap_or_default();
    let offset = match (request.query_offset_policy(), &request.timestamp) {
        (QueryOffsetPolicy::Beginning, _) => bounds().0,
        (QueryOffsetPolicy::End, _) => bounds().1,
        (QueryOffsetPolicy::Timestamp, Some(timestamp)) => {
            let time = wire::millis(timestamp);
            proxy.cluster.with(|engine, _| engine.offset_at(&topic, broker, queue, time, TimeBound::Lower))
        }
        (QueryOffsetPolicy::Timestamp, None) => {
            return Err(status(Code::IllegalOffset, "the policy TIMESTAMP needs a timestamp"));
        }
    };
    Ok(proto::QueryOffsetResponse { status: Some(ok()), offset: offset as i64 })
}
