//! Offsets: 14 and 15 of groups, 29 to 32 of queues. The latter never fail: what does not exist has the offset 0 (trap P24).

use super::answer::No;
use super::codes as code;
use super::dispatch::{Answered, At};
use crate::embedded::engine::{Millis, QueryOffset, TimeBound};
use crate::transport::remoting::command::offset::{Boundary, Commit, CommittedRequest, MaxOffset, MinOffset};
use crate::transport::remoting::command::offset::{OffsetAnswer, QueueName, SearchOffset};
use crate::transport::remoting::command::{Command, Payload};

pub(super) fn committed(at: &At<'_>, request: &Command) -> Answered {
    let CommittedRequest { group, at: QueueName { topic, queue }, zero_if_absent } = CommittedRequest::read(request)?;
    let query = QueryOffset { group: &group, topic: &topic, broker: at.broker, queue, zero_if_young: zero_if_absent };
    let offset = at.server.cluster.with(|engine, _| engine.query_offset(&query));
    let none = || No::new(code::QUERY_NOT_FOUND, "Not found, V3_0_6_SNAPSHOT maybe this group consumer boot first");
    Ok(request.answer(&OffsetAnswer(offset.ok_or_else(none)? as i64)))
}

pub(super) fn commit(at: &At<'_>, request: &Command) -> Answered {
    let Commit { group, at: QueueName { topic, queue }, offset } = Commit::read(request)?;
    at.server.cluster.with(|engine, _| engine.commit(&group, &topic, at.broker, queue, offset))?;
    Ok(request.answer(&()))
}

fn bounds(at: &At<'_>, place: &QueueName) -> (u64, u64) {
    let bounds = at.server.cluster.with(|engine, _| engine.bounds(&place.topic, at.broker, place.queue));
    bounds.unwrap_or_default()
}

pub(super) fn max(at: &At<'_>, request: &Command) -> Answered {
    let MaxOffset(place) = MaxOffset::read(request)?;
    Ok(request.answer(&OffsetAnswer(bounds(at, &place).1 as i64)))
}

pub(super) fn min(at: &At<'_>, request: &Command) -> Answered {
    let MinOffset(place) = MinOffset::read(request)?;
    Ok(request.answer(&OffsetAnswer(bounds(at, &place).0 as i64)))
}

pub(super) fn search(at: &At<'_>, request: &Command) -> Answered {
    let SearchOffset { at: QueueName { topic, queue }, timestamp, boundary } = SearchOffset::read(request)?;
    let bound = match boundary {
        Boundary::Lower => TimeBound::Lower,
        Boundary::Upper => TimeBound::Upper,
    };
    let time = Millis::try_from(timestamp).unwrap_or(0);
    let offset = at.server.cluster.with(|engine, _| engine.offset_at(&topic, at.broker, queue, time, bound));
    Ok(request.answer(&OffsetAnswer(offset as i64)))
}

/// −1 for an empty queue, as on Apache.
pub(super) fn earliest(at: &At<'_>, request: &Command) -> Answered {
    let MinOffset(QueueName { topic, queue }) = MinOffset::read(request)?;
    let stored = at.server.cluster.with(|engine, _| engine.earliest_stored(&topic, at.broker, queue));
    let mut answer = request.answer(&());
    answer.fields.set("timestamp", stored.map_or(-1, |at| at as i64));
    Ok(answer)
}
