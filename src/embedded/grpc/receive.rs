//! Receiving: checks, the long poll, and the stream of answers: Status, Message*, delivery timestamp.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_stream::stream;
use futures_core::Stream;
use tonic::Status;

use super::answer::{content, ok, receive_status, refusal};
use super::caller::Caller;
use super::{After, Proxy, checks, reply, status, wire};
use crate::clock;
use crate::embedded::cluster::{Cluster, Poll};
use crate::embedded::engine::{Delivery, FilterProgram, Millis, WakeReason};
use crate::embedded::pollers::Pop;
use crate::embedded::settings::ServerConfig;
use crate::proto::receive_message_response::Content;
use crate::proto::{self, Code};

/// The broker refuses more.
const MAX_BATCH: i32 = 32;

/// A receive that passed the checks.
#[derive(Debug)]
pub(super) struct Plan {
    pop: Arc<Pop>,
    broker_name: String,
    polling: Duration,
}

impl Plan {
    /// Checks in Apache's order.
    pub(super) fn new(
        proxy: &Proxy,
        caller: &Caller,
        request: proto::ReceiveMessageRequest,
    ) -> Result<Self, proto::Status> {
        let config = &proxy.cluster.config;
        let life = proxy.cluster.clients[proxy.index].life();
        let settings = proxy.cluster.clients[proxy.index].settings(&caller.client_id).ok_or_else(|| {
            status(Code::InternalServerError, "the settings of this client are null; send them first")
        })?;
        let polling = polling(config, caller, &request, &settings)?;
        let queue = request.message_queue.as_ref();
        let topic = checks::topic(config, queue.and_then(|queue| queue.topic.as_ref()))?.to_owned();
        let group = checks::group(config, request.group.as_ref())?.to_owned();
        let invisible = invisible(config, &request)?;
        let filter = filter(request.filter_expression.as_ref())?;
        if request.batch_size < 0 {
            return Err(status(Code::InternalServerError, "the batch size is negative"));
        }
        let wanted = queue.and_then(|queue| queue.broker.as_ref()).map_or("", |broker| &broker.name);
        let place = |engine: &mut crate::embedded::engine::Engine, now| {
            let broker = engine.receive_broker(&topic, wanted, now)?;
            Ok((broker, engine.broker_name(broker).to_owned()))
        };
        let (broker, broker_name) = proxy.cluster.with(place).map_err(refusal)?;
        let pop = Pop {
            proxy: proxy.index,
            life,
            group: group.into(),
            topic: topic.into(),
            broker,
            filter,
            max: request.batch_size.min(MAX_BATCH) as usize,
            invisible: invisible.as_millis() as Millis,
            attempt_id: request.attempt_id,
            renewed_by: request.auto_renew.then(|| (proxy.index, Arc::clone(&caller.client_id))),
        };
        Ok(Self { pop: Arc::new(pop), broker_name, polling })
    }
}

/// How long to wait for a first message: what is asked, in the server's bounds, and within the client's deadline.
fn polling(
    config: &ServerConfig,
    caller: &Caller,
    request: &proto::ReceiveMessageRequest,
    settings: &proto::Settings,
) -> Result<Duration, proto::Status> {
    let remaining = caller.deadline.ok_or_else(|| status(Code::InternalServerError, "the request has no deadline"))?;
    let request_timeout = settings.request_timeout.as_ref().map_or(Duration::ZERO, wire::duration);
    let asked = request.long_polling_timeout.as_ref().map(wire::duration);
    let asked = asked.unwrap_or_else(|| remaining.saturating_sub(request_timeout / 2));
    let polling = asked.clamp(config.min_polling, config.max_polling);
    if polling <= remaining {
        Ok(polling)
    } else if remaining >= config.min_polling {
        Ok(remaining)
    } else {
        let code = if caller.is_old() { Code::BadRequest } else { Code::IllegalPollingTime };
        let text = format!("the deadline {remaining:?} is shorter than the shortest poll {:?}", config.min_polling);
        Err(status(code, text))
    }
}

fn invisible(config: &ServerConfig, request: &proto::ReceiveMessageRequest) -> Result<Duration, proto::Status> {
    if request.auto_renew {
        return Ok(config.renewed_invisible);
    }
    let invisible = request.invisible_duration.as_ref().map_or(Duration::ZERO, wire::duration);
    let (min, max) = (config.min_invisible, config.max_invisible);
    if (min..=max).contains(&invisible) {
        return Ok(invisible);
    }
    let text = format!("the invisible time must be between {min:?} and {max:?}, it is {invisible:?}");
    Err(status(Code::IllegalInvisibleTime, text))
}

fn filter(expression: Option<&proto::FilterExpression>) -> Result<FilterProgram, proto::Status> {
    let Some(expression) = expression else { return Ok(FilterProgram::All) };
    match expression.r#type() {
        proto::FilterType::Sql => FilterProgram::sql(&expression.expression).map_err(|reason| {
            status(Code::InternalServerError, format!("parse the consumer's subscription failed: {reason}"))
        }),
        _ => Ok(FilterProgram::tags(&expression.expression)),
    }
}

/// Waits for messages. Each way to find none has its own status.
async fn poll(cluster: &Arc<Cluster>, plan: &Plan) -> Result<Vec<Delivery>, proto::Status> {
    let until = clock::now() + plan.polling;
    loop {
        let waiter = match cluster.pop(&plan.pop, Some(time_left(until))).map_err(refusal)? {
            Poll::Messages(messages) => return Ok(messages),
            Poll::NoMatch => return Err(status(Code::MessageNotFound, "no match message")),
            Poll::Full => return Err(status(Code::TooManyRequests, "polling full")),
            Poll::Wait(waiter) => waiter,
        };
        match waiter.woken(time_left(until)).await {
            Some(WakeReason::Message) => {}
            Some(WakeReason::BrokerStopped) => {
                let text = format!("send request to {} failed", plan.broker_name);
                return Err(status(Code::InternalServerError, text));
            }
            None => return last_look(cluster, plan),
        }
    }
}

fn time_left(until: Instant) -> Duration {
    until.saturating_duration_since(clock::now())
}

/// A poll that ends is evaluated once more.
fn last_look(cluster: &Arc<Cluster>, plan: &Plan) -> Result<Vec<Delivery>, proto::Status> {
    match cluster.pop(&plan.pop, None).map_err(refusal)? {
        Poll::Messages(messages) if !messages.is_empty() => Ok(messages),
        Poll::NoMatch => Err(status(Code::MessageNotFound, "no match message")),
        _ => Err(status(Code::MessageNotFound, "no new message")),
    }
}

/// The whole answer.
pub(super) fn respond(
    proxy: Proxy,
    plan: Result<Plan, proto::Status>,
    after: After,
) -> impl Stream<Item = Result<proto::ReceiveMessageResponse, Status>> + Send {
    stream! {
        let found = match &plan {
            Ok(plan) => poll(&proxy.cluster, plan).await,
            Err(status) => Err(status.clone()),
        };
        if after == After::LoseReply {
            // What was popped is lost with the answer: it stays hidden until its lease ends.
            reply(after).await;
        }
        match (&plan, found) {
            (Ok(plan), Ok(messages)) => {
                let mut unsent = Unsent { proxy: &proxy, plan, messages: messages.into() };
                reply(after).await;
                yield Ok(receive_status(ok()));
                while let Some(message) = unsent.next() {
                    yield Ok(content(Content::Message(message)));
                }
            }
            (_, Err(status)) => {
                reply(after).await;
                yield Ok(receive_status(status));
            }
            (Err(_), Ok(_)) => {}
        }
        yield Ok(content(Content::DeliveryTimestamp(wire::timestamp(proxy.cluster.now()))));
    }
}

/// Messages that are popped and not yet written. Those left over when the client goes away become visible soon.
struct Unsent<'a> {
    proxy: &'a Proxy,
    plan: &'a Plan,
    messages: VecDeque<Delivery>,
}

impl Unsent<'_> {
    fn next(&mut self) -> Option<proto::Message> {
        let delivery = self.messages.pop_front()?;
        let store_host = format!("127.0.0.1:{}", self.proxy.cluster.ports[self.proxy.index]);
        Some(wire::message(delivery, &self.plan.pop.topic, &store_host))
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let cluster = &self.proxy.cluster;
        cluster.with(|engine, now| cluster.give_back(engine, &self.plan.pop, &self.messages, now));
    }
}
