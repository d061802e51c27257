//! From a request to its answer: faults, the signature, and who is asked.

use std::future::pending;
use std::sync::Arc;

use super::answer::No;
use super::codes as code;
use super::connection::Caller;
use super::{Part, Server, admin, auth, group, name_server, offsets, pull, send, topics};
use crate::clock;
use crate::embedded::fault::{After, Stop, Target};
use crate::transport::remoting::command::{Command, Kind};

/// What becomes of a request.
pub(super) type Answered = Result<Command, No>;

/// `None`: no answer goes out, because none is wanted or a fault swallowed it.
pub(super) async fn answer(server: &Arc<Server>, caller: &Arc<Caller>, request: Command) -> Option<Command> {
    server.cluster.count_code(request.code);
    let (answer, after) = match enter(server, caller, &request).await {
        Ok(after) => {
            let mut answer = act(server, caller, &request).await;
            if after == After::ActTwice {
                answer = act(server, caller, &request).await;
            }
            (answer.unwrap_or_else(|no| request.refusal(no.code, no.remark)), after)
        }
        Err(No { code, remark }) => (request.refusal(code, remark), After::Reply),
    };
    match after {
        After::LoseReply => return None,
        After::ReplyLater(time) => clock::sleep(time).await,
        After::Reply | After::ActTwice => {}
    }
    (request.kind == Kind::Request).then_some(answer)
}

/// Asks the fault script, then the signature.
async fn enter(server: &Server, caller: &Caller, request: &Command) -> Result<After, No> {
    let place = match server.part {
        Part::Broker(broker) => broker,
        Part::NameServer => usize::MAX,
    };
    let after = match server.cluster.faults.meet(Target::Remoting(request.code), place).await {
        Ok(after) => after,
        Err(Stop::Status(code, remark)) => return Err(No::new(code, remark)),
        Err(Stop::Grpc(_, remark)) => return Err(No::new(code::SYSTEM_ERROR, remark)),
        Err(Stop::Disconnect) => {
            caller.cut();
            return pending().await;
        }
    };
    if let Part::Broker(_) = server.part {
        let users = &server.cluster.config.credentials;
        auth::check(users, request).map_err(|text| No::new(code::NO_PERMISSION, text))?;
    }
    Ok(after)
}

async fn act(server: &Arc<Server>, caller: &Caller, request: &Command) -> Answered {
    match server.part {
        Part::NameServer => name_server::act(server, request),
        Part::Broker(broker) => {
            // A broker that is stopped has no connections, but may have a request that was read before.
            server.cluster.with(|engine, now| engine.running(broker, now))?;
            let at = At { server, broker, caller };
            match request.code {
                code::PULL_MESSAGE | code::LITE_PULL_MESSAGE => pull::pull(&at, request).await,
                code::GET_CONSUMER_RUNNING_INFO => admin::running_info(&at, request).await,
                code::INVOKE_BROKER_TO_GET_CONSUMER_STATUS => admin::consumer_status(&at, request).await,
                _ => at_once(&at, request),
            }
        }
    }
}

/// A broker that was asked, and by whom.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) server: &'a Arc<Server>,
    pub(super) broker: usize,
    pub(super) caller: &'a Caller,
}

/// Requests that wait for nothing.
fn at_once(at: &At<'_>, request: &Command) -> Answered {
    match request.code {
        code::SEND_MESSAGE | code::SEND_MESSAGE_V2 | code::SEND_BATCH_MESSAGE => send::send(at, request),
        code::QUERY_CONSUMER_OFFSET => offsets::committed(at, request),
        code::UPDATE_CONSUMER_OFFSET => offsets::commit(at, request),
        code::SEARCH_OFFSET_BY_TIMESTAMP => offsets::search(at, request),
        code::GET_MAX_OFFSET => offsets::max(at, request),
        code::GET_MIN_OFFSET => offsets::min(at, request),
        code::GET_EARLIEST_MSG_STORE_TIME => offsets::earliest(at, request),
        code::HEART_BEAT => group::heartbeat(at, request),
        code::UNREGISTER_CLIENT => group::unregister(at, request),
        code::GET_CONSUMER_LIST_BY_GROUP => group::members(at, request),
        code::GET_CONSUMER_CONNECTION_LIST => group::connections(at, request),
        code::CHECK_CLIENT_CONFIG => group::check_client(request),
        code::LOCK_BATCH_MQ => group::lock(at, request),
        code::UNLOCK_BATCH_MQ => group::unlock(at, request),
        code::UPDATE_AND_CREATE_TOPIC => topics::update(at, request),
        code::UPDATE_AND_CREATE_SUBSCRIPTION_GROUP => topics::update_group(at, request),
        code::DELETE_TOPIC_IN_BROKER => topics::delete(&at.server.cluster, request),
        code::GET_TOPIC_CONFIG => topics::config(at, request),
        code::GET_SUBSCRIPTION_GROUP_CONFIG => topics::group_config(at, request),
        code::GET_TOPIC_STATS_INFO => admin::topic_stats(at, request),
        code::GET_CONSUME_STATS => admin::consume_stats(at, request),
        code::INVOKE_BROKER_TO_RESET_OFFSET => admin::reset_offset(at, request),
        _ => Err(unsupported(request)),
    }
}

pub(super) fn unsupported(request: &Command) -> No {
    let remark = format!(" request type {} not supported", request.code);
    No::new(code::REQUEST_CODE_NOT_SUPPORTED, remark)
}
