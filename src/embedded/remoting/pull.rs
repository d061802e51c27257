//! Pulls, 11 and 361.

use std::time::Duration;

use bytes::BytesMut;

use super::answer::No;
use super::codes as code;
use super::dispatch::{Answered, At};
use super::message::store;
use crate::embedded::engine::{FilterProgram, Pull, PullRequest, PullStatus};
use crate::model::{Filter, FilterKind};
use crate::transport::remoting::command::pull::{COMMIT_OFFSET, PullAnswer, PullHeader, SUSPEND};
use crate::transport::remoting::command::{Command, Payload};

pub(super) async fn pull(at: &At<'_>, request: &Command) -> Answered {
    let header = PullHeader::read(request)?;
    let filter = filter(at, &header)?;
    let max = usize::try_from(header.max_messages).unwrap_or(0);
    let (group, topic) = (&*header.group, &*header.topic);
    let (broker, queue, offset) = (at.broker, header.queue, header.offset);
    let pull = PullRequest { group, topic, broker, queue, offset, filter: &filter, max };
    commit(at, &header);
    let suspend = if header.flags & SUSPEND != 0 { u64::try_from(header.suspend_ms).unwrap_or(0) } else { 0 };
    let pulled = at.server.cluster.pull_or_wait(&pull, Duration::from_millis(suspend)).await?;
    answer(at, request, &header, &pulled)
}

/// A pull may bring an offset to commit; that it cannot be, nobody is told.
fn commit(at: &At<'_>, header: &PullHeader) {
    if header.flags & COMMIT_OFFSET == 0 {
        return;
    }
    let PullHeader { group, topic, queue, commit_offset, .. } = header;
    let commit = at.server.cluster.with(|engine, _| engine.commit(group, topic, at.broker, *queue, *commit_offset));
    if let Err(refusal) = commit {
        tracing::debug!(?refusal, "the offset that came with a pull was not committed");
    }
}

/// That of the request, else that of the group's heartbeats.
fn filter(at: &At<'_>, header: &PullHeader) -> Result<FilterProgram, No> {
    if let Some(filter) = &header.filter {
        return Ok(program(filter));
    }
    let registry = at.server.registry();
    let group = registry.members.group(&header.group);
    let found = group.and_then(|group| group.subscriptions.get(&header.topic));
    let found = found.ok_or_else(|| No::new(code::SUBSCRIPTION_NOT_EXIST, "the consumer's subscription not exist"))?;
    if found.version < header.filter_version {
        return Err(No::new(code::SUBSCRIPTION_NOT_LATEST, "the consumer's subscription not latest"));
    }
    Ok(program(&found.filter))
}

/// An SQL92 expression that does not parse lets everything through, as on Apache (trap P22).
fn program(filter: &Filter) -> FilterProgram {
    match filter.kind() {
        FilterKind::Tag => FilterProgram::tag_codes(filter.expression()),
        FilterKind::Sql92 => FilterProgram::sql(filter.expression()).unwrap_or(FilterProgram::All),
    }
}

fn answer(at: &At<'_>, request: &Command, header: &PullHeader, pulled: &Pull) -> Answered {
    let mut answer = request.answer(&PullAnswer {
        next_offset: pulled.next as i64,
        min_offset: Some(pulled.min as i64),
        max_offset: Some(pulled.max as i64),
        suggested_replica: Some(0),
        offset_delta: None,
    });
    answer.code = match pulled.status {
        PullStatus::Found => code::SUCCESS,
        PullStatus::NoMatched => code::PULL_RETRY_IMMEDIATELY,
        PullStatus::OverflowOne | PullStatus::NoMessage => code::PULL_NOT_FOUND,
        PullStatus::OverflowBadly | PullStatus::TooSmall | PullStatus::BeyondEmpty | PullStatus::Reset => {
            code::PULL_OFFSET_MOVED
        }
    };
    answer.remark = Some(pulled.status.name().into());
    let mut body = BytesMut::new();
    for (offset, record) in &pulled.messages {
        store(record, (header.queue, *offset), &header.topic, at.server.address(), &mut body)?;
    }
    answer.body = body.freeze();
    Ok(answer)
}
