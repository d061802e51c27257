//! Pulling by offset, on servers that have it over gRPC. Apache's proxy does not (protocol.md D.2).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

use crate::clock;
use crate::error::{ErrorKind, Operation, Result};
use crate::model::{Endpoint, Filter, MessageQueue, Offset};
use crate::proto;
use crate::transport::grpc::GrpcWire;
use crate::transport::grpc::codec::FrameCodec;
use crate::transport::grpc::convert::{
    Context, PullAnswer, Reading, committed_offset, queried_offset, use_name_server,
};
use crate::transport::grpc::failure::{failed, no_answer};
use crate::transport::grpc::receive::FRAME_GAP;
use crate::transport::grpc::rpc::{method, ready};
use crate::transport::{Call, GroupProfile, PullOutcome, PullRequest, Pulled, Pulling, QueueBound};

/// A broker looks every 5 s whether a held request is over, so that it may hold it longer by so much (trap P25).
const SUSPEND_TICK: Duration = Duration::from_secs(5);

/// The whole time a pull may take until its first frame.
fn deadline(suspend: Option<Duration>, request_timeout: Duration) -> Duration {
    suspend.map_or(Duration::ZERO, |suspend| suspend + SUSPEND_TICK) + request_timeout
}

fn context(operation: Operation, at: &Endpoint, queue: &MessageQueue) -> Context {
    Context::new(operation, at).topic(queue.shared_topic())
}

impl GrpcWire {
    async fn pull_once(&self, at: &Endpoint, request: &PullRequest) -> Result<Pulled> {
        let context = context(Operation::Pull, at, &request.queue).group(Some(&request.group));
        let question = self.requests.pull(request).map_err(|error| context.dress(error))?;
        let deadline = deadline(request.suspend, self.request_timeout);
        let started = clock::now();
        let question = self.request(question, Some(deadline));
        let connection = self.connection(&context)?;
        let answer = self.call(&context, &connection, deadline, async move |mut grpc: Grpc<Channel>| {
            ready(&mut grpc).await?;
            grpc.server_streaming(
                question,
                PathAndQuery::from_static(method::PULL),
                FrameCodec::<proto::PullMessageRequest>::new(),
            )
            .await
        });
        let mut frames = answer.await?.into_inner();
        let reading = self.pulled_reading(&request.queue);
        let mut answer = PullAnswer::default();
        // Connecting has its own time.
        let mut wait =
            (deadline + self.connect_timeout).saturating_sub(clock::now().saturating_duration_since(started));
        loop {
            match clock::timeout(wait, frames.next()).await {
                Some(Some(Ok(frame))) => answer.take(frame, &reading, &context)?,
                Some(Some(Err(status))) => return Err(failed(&context, status, &connection.peer, wait)),
                Some(None) => return answer.finish(request, &context),
                None => return Err(no_answer(&context, wait)),
            }
            wait = FRAME_GAP;
        }
    }

    /// A server says alike that an offset is out of range and that an administrator has reset the group: it is a reset when
    /// the offset is in range (trap P29). What is out of range is told with the range.
    async fn pull_and_judge(&self, at: &Endpoint, request: &PullRequest) -> Result<Pulled> {
        let pulled = self.pull_once(at, request).await?;
        if pulled.outcome != PullOutcome::OutOfRange {
            return Ok(pulled);
        }
        let min = self.bound(at, &request.queue, QueueBound::Min).await?;
        let max = self.bound(at, &request.queue, QueueBound::Max).await?;
        let is_there = min <= request.offset && request.offset <= max;
        let outcome =
            if is_there && pulled.next_offset != request.offset { PullOutcome::Reset } else { pulled.outcome };
        Ok(Pulled { outcome, min_offset: Some(min), max_offset: Some(max), ..pulled })
    }

    fn pulled_reading(&self, queue: &MessageQueue) -> Reading {
        Reading {
            topic: Arc::clone(queue.shared_topic()),
            broker: Some(Arc::clone(queue.shared_broker())),
            max_decompressed_size: self.max_decompressed_size,
            check_digest: self.check_digest,
            is_delivery: false,
        }
    }

    async fn query_offset(&self, context: Context, question: proto::QueryOffsetRequest) -> Result<Offset> {
        let answer: Result<proto::QueryOffsetResponse> = self.unary(&context, method::QUERY_OFFSET, question).await;
        answer.and_then(|answer| queried_offset(&answer, &context)).map_err(use_name_server)
    }

    /// What this interface has no method for.
    fn cannot<'a, T: Send + 'a>(context: &Context, what: &str) -> Call<'a, T> {
        let error = context.error(ErrorKind::Unsupported, format!("over gRPC no server {what}"));
        Box::pin(std::future::ready(Err(error)))
    }
}

impl Pulling for GrpcWire {
    fn pull<'a>(&'a self, at: &'a Endpoint, request: &'a PullRequest) -> Call<'a, Pulled> {
        Box::pin(async move { self.pull_and_judge(at, request).await.map_err(use_name_server) })
    }

    fn committed<'a>(
        &'a self,
        at: &'a Endpoint,
        group: &'a Arc<str>,
        queue: &'a MessageQueue,
    ) -> Call<'a, Option<Offset>> {
        Box::pin(async move {
            let context = context(Operation::QueryOffset, at, queue).group(Some(group));
            let question = self.requests.get_offset(group, queue);
            let answer: Result<proto::GetOffsetResponse> = self.unary(&context, method::GET_OFFSET, question).await;
            answer.and_then(|answer| committed_offset(&answer, &context)).map_err(use_name_server)
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
            let context = context(Operation::CommitOffset, at, queue).group(Some(group));
            let question = self.requests.update_offset(group, queue, next).map_err(|error| context.dress(error))?;
            let answer: Result<proto::UpdateOffsetResponse> =
                self.unary(&context, method::UPDATE_OFFSET, question).await;
            answer.and_then(|answer| context.judge(answer.status.as_ref())).map_err(use_name_server)
        })
    }

    fn bound<'a>(&'a self, at: &'a Endpoint, queue: &'a MessageQueue, bound: QueueBound) -> Call<'a, Offset> {
        let context = context(Operation::QueryOffset, at, queue);
        Box::pin(self.query_offset(context, self.requests.bound(queue, bound)))
    }

    fn offset_at<'a>(&'a self, at: &'a Endpoint, queue: &'a MessageQueue, time: SystemTime) -> Call<'a, Offset> {
        let context = context(Operation::QueryOffset, at, queue);
        Box::pin(self.query_offset(context, self.requests.offset_at(queue, time)))
    }

    fn check_filter<'a>(
        &'a self,
        at: &'a Endpoint,
        group: &'a Arc<str>,
        topic: &'a Arc<str>,
        _filter: &'a Filter,
    ) -> Call<'a, ()> {
        let context = Context::new(Operation::CheckFilter, at).topic(topic).group(Some(group));
        Self::cannot(&context, "checks a filter before it is used; the first pull tells whether it is good")
    }

    fn members<'a>(&'a self, at: &'a Endpoint, group: &'a Arc<str>) -> Call<'a, Vec<Arc<str>>> {
        let context = Context::new(Operation::QueryGroup, at).group(Some(group));
        Self::cannot(&context, "tells who is in a group; use `assign` or `share`, or set `name_server`")
    }

    fn topics<'a>(&'a self, at: &'a Endpoint) -> Call<'a, BTreeSet<Arc<str>>> {
        let context = Context::new(Operation::QueryRoute, at);
        Self::cannot(&context, "lists topics; subscribe to each by its name, or set `name_server`")
    }

    fn group_profile<'a>(&'a self, at: &'a Endpoint, group: &'a Arc<str>) -> Call<'a, Option<GroupProfile>> {
        let context = Context::new(Operation::QueryGroup, at).group(Some(group));
        Self::cannot(&context, "tells how a group consumes; set `name_server` to have it checked")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p25_the_deadline_of_a_pull_exceeds_its_suspend_by_more_than_the_brokers_tick() {
        let seconds = Duration::from_secs;
        assert_eq!(deadline(None, seconds(3)), seconds(3));
        for suspend in [0, 1, 15, 20] {
            let deadline = deadline(Some(seconds(suspend)), Duration::from_millis(1));
            assert!(deadline > seconds(suspend) + SUSPEND_TICK, "{suspend}");
        }
    }
}
