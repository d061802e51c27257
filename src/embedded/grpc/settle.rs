//! Ack, change of the invisible duration, dead letter.

use super::answer::{ok, overall, refusal};
use super::caller::Caller;
use super::{Proxy, checks, status, wire};
use crate::embedded::engine::{Change, Claim, Millis};
use crate::proto::{self, Code};

/// Each entry is judged by itself; the answers come in the order of the request.
pub(super) fn ack_message(
    proxy: &Proxy,
    _caller: &Caller,
    request: proto::AckMessageRequest,
) -> Result<proto::AckMessageResponse, proto::Status> {
    let config = &proxy.cluster.config;
    let group = checks::group(config, request.group.as_ref())?;
    let topic = checks::topic(config, request.topic.as_ref())?;
    let entries: Vec<_> = proxy.cluster.with(|engine, now| {
        let judge = |entry: proto::AckMessageEntry| {
            let claim = Claim { group, topic, handle: &entry.receipt_handle, proxy: proxy.index };
            let status = Some(engine.ack(&claim, now).map_or_else(refusal, |()| ok()));
            let proto::AckMessageEntry { message_id, receipt_handle, .. } = entry;
            proto::AckMessageResultEntry { message_id, receipt_handle, status }
        };
        request.entries.into_iter().map(judge).collect()
    });
    let status = overall(entries.iter().filter_map(|entry| entry.status.as_ref()));
    Ok(proto::AckMessageResponse { status: Some(status), entries })
}

pub(super) fn change_invisible_duration(
    proxy: &Proxy,
    caller: &Caller,
    request: proto::ChangeInvisibleDurationRequest,
) -> Result<proto::ChangeInvisibleDurationResponse, proto::Status> {
    let config = &proxy.cluster.config;
    let group = checks::group(config, request.group.as_ref())?;
    let topic = checks::topic(config, request.topic.as_ref())?;
    let invisible = request.invisible_duration.unwrap_or_default();
    if invisible.seconds < 0 || invisible.nanos < 0 || wire::duration(&invisible) > config.max_invisible {
        let text = format!("the invisible time must be between 0 and {:?}", config.max_invisible);
        return Err(status(Code::IllegalInvisibleTime, text));
    }
    if !proxy.cluster.clients[proxy.index].knows(&caller.client_id) {
        return Err(status(Code::InternalServerError, "the channel of this client is null; send the settings first"));
    }
    let claim = Claim { group, topic, handle: &request.receipt_handle, proxy: proxy.index };
    let invisible = wire::duration(&invisible).as_millis() as Millis;
    let change = Change { invisible, suspend: request.suspend.unwrap_or(false) };
    let receipt_handle = proxy.cluster.with(|engine, now| engine.change(&claim, change, now)).map_err(refusal)?;
    Ok(proto::ChangeInvisibleDurationResponse { status: Some(ok()), receipt_handle })
}

pub(super) fn forward_to_dead_letter_queue(
    proxy: &Proxy,
    _caller: &Caller,
    request: proto::ForwardMessageToDeadLetterQueueRequest,
) -> Result<proto::ForwardMessageToDeadLetterQueueResponse, proto::Status> {
    let config = &proxy.cluster.config;
    let group = checks::group(config, request.group.as_ref())?;
    let topic = checks::topic(config, request.topic.as_ref())?;
    let claim = Claim { group, topic, handle: &request.receipt_handle, proxy: proxy.index };
    proxy.cluster.with(|engine, now| engine.dead_letter(&claim, now)).map_err(refusal)?;
    Ok(proto::ForwardMessageToDeadLetterQueueResponse { status: Some(status(Code::Ok, "0")) })
}
