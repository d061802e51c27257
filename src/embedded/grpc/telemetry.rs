//! Registration: settings, heartbeat, goodbye, and the stream on which commands reach a client.

use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use futures_core::Stream;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::answer::ok;
use super::caller::Caller;
use super::{Proxy, checks, status, wire};
use crate::embedded::clients::Client;
use crate::proto::settings::PubSub;
use crate::proto::telemetry_command::Command;
use crate::proto::{self, ClientType, Code};

/// Commands that wait for a client that does not read.
const MAX_COMMANDS: usize = 64;

/// Apache's customized retry policy.
const RETRY_DELAYS: [u64; 18] = [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

/// The telemetry stream. A caller that is refused gets one command with a status, and the stream ends as if nothing was.
pub(super) fn serve(
    proxy: Proxy,
    caller: Result<Caller, proto::Status>,
    mut incoming: Streaming<proto::TelemetryCommand>,
) -> impl Stream<Item = Result<proto::TelemetryCommand, Status>> + Send {
    stream! {
        let (sender, mut commands) = mpsc::channel(MAX_COMMANDS);
        loop {
            let answer = tokio::select! {
                Some(command) = commands.recv() => Some(Ok(command)),
                written = incoming.message() => match (written, &caller) {
                    (Ok(Some(_)), Err(status)) => {
                        yield Ok(proto::TelemetryCommand { status: Some(status.clone()), command: None });
                        break;
                    }
                    (Ok(Some(command)), Ok(caller)) => handle(&proxy, caller, &sender, command),
                    (Ok(None) | Err(_), _) => break,
                },
            };
            match answer {
                None => {}
                Some(Ok(command)) => yield Ok(command),
                Some(Err(failure)) => {
                    yield Err(failure);
                    break;
                }
            }
        }
    }
}

/// What a client wrote, and the answer to it if there is one.
fn handle(
    proxy: &Proxy,
    caller: &Caller,
    sender: &mpsc::Sender<proto::TelemetryCommand>,
    command: proto::TelemetryCommand,
) -> Option<Result<proto::TelemetryCommand, Status>> {
    match command.command? {
        Command::Settings(settings) => Some(register(proxy, caller, sender, settings)),
        Command::ThreadStackTrace(answer) => {
            proxy.cluster.asked.answered(&answer.nonce, answer.thread_stack_trace.unwrap_or_default());
            None
        }
        _ => None,
    }
}

fn register(
    proxy: &Proxy,
    caller: &Caller,
    sender: &mpsc::Sender<proto::TelemetryCommand>,
    settings: proto::Settings,
) -> Result<proto::TelemetryCommand, Status> {
    let text = |reason: String| format!("process client telemetryCommand failed. {reason}");
    let merged = merge(proxy, &settings).map_err(|refusal| match refusal {
        Unfit::Argument(reason) => Status::invalid_argument(text(reason)),
        Unfit::Internal(reason) => Status::internal(text(reason)),
    })?;
    caller.check_language().map_err(|reason| Status::internal(text(reason)))?;
    let client = Client { settings, seen: proxy.cluster.now(), commands: sender.clone() };
    proxy.cluster.clients[proxy.index].register(&caller.client_id, client);
    Ok(proto::TelemetryCommand { status: Some(ok()), command: Some(Command::Settings(merged)) })
}

/// Settings the server does not take.
enum Unfit {
    Argument(String),
    Internal(String),
}

/// The client's settings with the server's part filled in. Topics and filters of a subscription are not judged here.
fn merge(proxy: &Proxy, settings: &proto::Settings) -> Result<proto::Settings, Unfit> {
    let config = &proxy.cluster.config;
    let mut merged = settings.clone();
    merged.metric = Some(proto::Metric { on: false, endpoints: None });
    match &mut merged.pub_sub {
        None => return Err(Unfit::Argument("there is no publishing or subscription data in settings".into())),
        Some(PubSub::Publishing(publishing)) => {
            for topic in &publishing.topics {
                checks::topic(config, Some(topic)).map_err(|status| Unfit::Argument(status.message))?;
            }
            publishing.max_body_size = config.limits.max_body_size as i32;
            publishing.validate_message_type = true;
            merged.backoff_policy = Some(send_backoff());
        }
        Some(PubSub::Subscription(subscription)) => {
            let kind = settings.client_type();
            let pulls = kind == ClientType::PullConsumer && config.grpc_pull;
            if !pulls && !matches!(kind, ClientType::PushConsumer | ClientType::SimpleConsumer) {
                let kind = kind.as_str_name();
                return Err(Unfit::Internal(format!("Client type is not consumer, type: {kind}")));
            }
            let group = checks::group(config, subscription.group.as_ref());
            let group = group.map_err(|status| Unfit::Argument(status.message))?;
            let options = proxy.cluster.with(|engine, _| {
                engine.ensure_group(group);
                engine.group_config(group)
            });
            subscription.fifo = Some(options.fifo);
            subscription.receive_batch_size = Some(32);
            subscription.long_polling_timeout = Some(wire::wire_duration(config.max_polling));
            subscription.lite_subscription_quota = Some(2000);
            subscription.max_lite_topic_size = Some(64);
            merged.backoff_policy = Some(consume_backoff(options.max_attempts));
        }
    }
    Ok(merged)
}

fn send_backoff() -> proto::RetryPolicy {
    let backoff = proto::ExponentialBackoff {
        initial: Some(wire::wire_duration(Duration::from_millis(10))),
        max: Some(wire::wire_duration(Duration::from_secs(1))),
        multiplier: 2.0,
    };
    let strategy = Some(proto::retry_policy::Strategy::ExponentialBackoff(backoff));
    proto::RetryPolicy { max_attempts: 3, strategy }
}

fn consume_backoff(max_attempts: u32) -> proto::RetryPolicy {
    let next = RETRY_DELAYS.into_iter().map(|seconds| wire::wire_duration(Duration::from_secs(seconds))).collect();
    let strategy = Some(proto::retry_policy::Strategy::CustomizedBackoff(proto::CustomizedBackoff { next }));
    proto::RetryPolicy { max_attempts: i32::try_from(max_attempts).unwrap_or(i32::MAX), strategy }
}

pub(super) fn heartbeat(
    proxy: &Proxy,
    caller: &Caller,
    _request: proto::HeartbeatRequest,
) -> Result<proto::HeartbeatResponse, proto::Status> {
    if !proxy.cluster.clients[proxy.index].touch(&caller.client_id, proxy.cluster.now()) {
        return Err(unknown_client());
    }
    caller.check_language().map_err(|reason| status(Code::InternalServerError, reason))?;
    Ok(proto::HeartbeatResponse { status: Some(ok()) })
}

/// Goodbye: what the proxy renewed for the client comes back soon.
pub(super) fn terminate(
    proxy: &Proxy,
    caller: &Caller,
    _request: proto::NotifyClientTerminationRequest,
) -> Result<proto::NotifyClientTerminationResponse, proto::Status> {
    if !proxy.cluster.clients[proxy.index].forget(&caller.client_id) {
        return Err(unknown_client());
    }
    let client: Arc<str> = Arc::clone(&caller.client_id);
    let delay = proxy.cluster.config.release_delay();
    proxy.cluster.with(|engine, now| engine.release(proxy.index, Some(&client), now + delay));
    Ok(proto::NotifyClientTerminationResponse { status: Some(ok()) })
}

fn unknown_client() -> proto::Status {
    status(Code::UnrecognizedClientType, "cannot find client settings for this client")
}
