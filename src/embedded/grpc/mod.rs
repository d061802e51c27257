//! The gRPC shell: one service per proxy over the shared cluster.

mod answer;
mod auth;
mod caller;
mod checks;
pub(crate) mod listener;
mod pull;
mod receive;
mod route;
mod send;
mod settle;
mod telemetry;
mod wire;

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use async_stream::stream;
use futures_core::Stream;
use tonic::{Extensions, Request, Response, Status, Streaming};

use self::answer::{Answer, refused};
use self::caller::Caller;
use super::cluster::Cluster;
use super::fault::{After, Rpc, Stop, Target};
use crate::clock;
use crate::embedded::socket::ConnectionInfo;
use crate::proto::messaging_service_server::MessagingService;
use crate::proto::{self, Code};

/// What one proxy serves.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) index: usize,
}

/// A response stream.
type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How a request goes on after the fault script was asked.
enum Course {
    Proceed(After),
    /// Not acted on.
    Answer(proto::Status),
}

impl Proxy {
    /// Asks the fault script.
    async fn enter(&self, rpc: Rpc, extensions: &Extensions) -> Result<Course, Status> {
        self.cluster.count(rpc);
        match self.cluster.faults.meet(Target::Grpc(rpc), self.index).await {
            Ok(after) => Ok(Course::Proceed(after)),
            Err(Stop::Status(code, message)) => Ok(Course::Answer(proto::Status { code, message })),
            Err(Stop::Grpc(code, text)) => Err(Status::new(tonic::Code::from_i32(code), text)),
            Err(Stop::Disconnect) => {
                if let Some(connection) = extensions.get::<ConnectionInfo>() {
                    connection.cut();
                }
                pending().await
            }
        }
    }

    /// Without the pull RPCs it is as Apache's proxy.
    fn serves_pull(&self, rpc: &str) -> Result<(), Status> {
        if self.cluster.config.grpc_pull { Ok(()) } else { unimplemented(rpc) }
    }

    /// One request, one answer.
    async fn unary<Q: Clone + Send, R: Answer>(
        &self,
        rpc: Rpc,
        request: Request<Q>,
        act: impl Fn(&Self, &Caller, Q) -> Result<R, proto::Status> + Send,
    ) -> Result<Response<R>, Status> {
        let after = match self.enter(rpc, request.extensions()).await? {
            Course::Proceed(after) => after,
            Course::Answer(status) => return Ok(Response::new(R::refusal(status))),
        };
        let caller = match Caller::admit(&self.cluster.config, &request) {
            Ok(caller) => caller,
            Err(status) => return Ok(Response::new(R::refusal(status))),
        };
        let request = request.into_inner();
        let repeated = (after == After::ActTwice).then(|| request.clone());
        let mut answer = act(self, &caller, request);
        if let Some(request) = repeated {
            answer = act(self, &caller, request);
        }
        drop(act);
        let answer = answer.unwrap_or_else(R::refusal);
        reply(after).await;
        Ok(Response::new(answer))
    }
}

/// Waits as long as the fault wants.
async fn reply(after: After) {
    match after {
        After::Reply | After::ActTwice => {}
        After::ReplyLater(time) => clock::sleep(time).await,
        After::LoseReply => pending().await,
    }
}

/// Apache's answer to RPCs it does not have, before it looks at credentials.
fn unimplemented<T>(rpc: &str) -> Result<T, Status> {
    Err(Status::unimplemented(format!("Method not found: apache.rocketmq.v2.MessagingService/{rpc}")))
}

#[tonic::async_trait]
impl MessagingService for Proxy {
    type ReceiveMessageStream = Outgoing<proto::ReceiveMessageResponse>;
    type PullMessageStream = Outgoing<proto::PullMessageResponse>;
    type TelemetryStream = Outgoing<proto::TelemetryCommand>;

    async fn query_route(
        &self,
        request: Request<proto::QueryRouteRequest>,
    ) -> Result<Response<proto::QueryRouteResponse>, Status> {
        self.unary(Rpc::QueryRoute, request, route::query_route).await
    }

    async fn query_assignment(
        &self,
        request: Request<proto::QueryAssignmentRequest>,
    ) -> Result<Response<proto::QueryAssignmentResponse>, Status> {
        self.unary(Rpc::QueryAssignment, request, route::query_assignment).await
    }

    async fn heartbeat(
        &self,
        request: Request<proto::HeartbeatRequest>,
    ) -> Result<Response<proto::HeartbeatResponse>, Status> {
        self.unary(Rpc::Heartbeat, request, telemetry::heartbeat).await
    }

    async fn notify_client_termination(
        &self,
        request: Request<proto::NotifyClientTerminationRequest>,
    ) -> Result<Response<proto::NotifyClientTerminationResponse>, Status> {
        self.unary(Rpc::NotifyClientTermination, request, telemetry::terminate).await
    }

    async fn send_message(
        &self,
        request: Request<proto::SendMessageRequest>,
    ) -> Result<Response<proto::SendMessageResponse>, Status> {
        self.unary(Rpc::SendMessage, request, send::send_message).await
    }

    async fn ack_message(
        &self,
        request: Request<proto::AckMessageRequest>,
    ) -> Result<Response<proto::AckMessageResponse>, Status> {
        self.unary(Rpc::AckMessage, request, settle::ack_message).await
    }

    async fn change_invisible_duration(
        &self,
        request: Request<proto::ChangeInvisibleDurationRequest>,
    ) -> Result<Response<proto::ChangeInvisibleDurationResponse>, Status> {
        self.unary(Rpc::ChangeInvisibleDuration, request, settle::change_invisible_duration).await
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<proto::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Result<Response<proto::ForwardMessageToDeadLetterQueueResponse>, Status> {
        self.unary(Rpc::ForwardMessageToDeadLetterQueue, request, settle::forward_to_dead_letter_queue).await
    }

    async fn end_transaction(
        &self,
        request: Request<proto::EndTransactionRequest>,
    ) -> Result<Response<proto::EndTransactionResponse>, Status> {
        self.unary(Rpc::EndTransaction, request, send::end_transaction).await
    }

    async fn recall_message(
        &self,
        request: Request<proto::RecallMessageRequest>,
    ) -> Result<Response<proto::RecallMessageResponse>, Status> {
        self.unary(Rpc::RecallMessage, request, send::recall_message).await
    }

    async fn receive_message(
        &self,
        request: Request<proto::ReceiveMessageRequest>,
    ) -> Result<Response<Self::ReceiveMessageStream>, Status> {
        let after = match self.enter(Rpc::ReceiveMessage, request.extensions()).await? {
            Course::Proceed(after) => after,
            Course::Answer(status) => return Ok(Response::new(Box::pin(one(answer::receive_status(status))))),
        };
        let caller = match Caller::admit(&self.cluster.config, &request) {
            Ok(caller) => caller,
            Err(status) => return Ok(Response::new(Box::pin(one(answer::receive_status(status))))),
        };
        let plan = receive::Plan::new(self, &caller, request.into_inner());
        Ok(Response::new(Box::pin(receive::respond(self.clone(), plan, after))))
    }

    async fn telemetry(
        &self,
        request: Request<Streaming<proto::TelemetryCommand>>,
    ) -> Result<Response<Self::TelemetryStream>, Status> {
        let refused = match self.enter(Rpc::Telemetry, request.extensions()).await? {
            Course::Answer(status) => Some(status),
            Course::Proceed(after) => {
                reply(after).await;
                None
            }
        };
        let caller = refused.map_or_else(|| Caller::admit(&self.cluster.config, &request), Err);
        Ok(Response::new(Box::pin(telemetry::serve(self.clone(), caller, request.into_inner()))))
    }

    async fn pull_message(
        &self,
        request: Request<proto::PullMessageRequest>,
    ) -> Result<Response<Self::PullMessageStream>, Status> {
        self.serves_pull("PullMessage")?;
        let after = match self.enter(Rpc::PullMessage, request.extensions()).await? {
            Course::Proceed(after) => after,
            Course::Answer(status) => return Ok(Response::new(Box::pin(one(pull::status_of(status))))),
        };
        let plan =
            Caller::admit(&self.cluster.config, &request).and_then(|_| pull::Plan::new(self, request.into_inner()));
        Ok(Response::new(Box::pin(pull::respond(self.clone(), plan, after))))
    }

    async fn update_offset(
        &self,
        request: Request<proto::UpdateOffsetRequest>,
    ) -> Result<Response<proto::UpdateOffsetResponse>, Status> {
        self.serves_pull("UpdateOffset")?;
        self.unary(Rpc::UpdateOffset, request, pull::update_offset).await
    }

    async fn get_offset(
        &self,
        request: Request<proto::GetOffsetRequest>,
    ) -> Result<Response<proto::GetOffsetResponse>, Status> {
        self.serves_pull("GetOffset")?;
        self.unary(Rpc::GetOffset, request, pull::get_offset).await
    }

    async fn query_offset(
        &self,
        request: Request<proto::QueryOffsetRequest>,
    ) -> Result<Response<proto::QueryOffsetResponse>, Status> {
        self.serves_pull("QueryOffset")?;
        self.unary(Rpc::QueryOffset, request, pull::query_offset).await
    }

    async fn sync_lite_subscription(
        &self,
        _request: Request<proto::SyncLiteSubscriptionRequest>,
    ) -> Result<Response<proto::SyncLiteSubscriptionResponse>, Status> {
        unimplemented("SyncLiteSubscription")
    }
}

/// A stream of one element.
fn one<T: Send + 'static>(item: T) -> impl Stream<Item = Result<T, Status>> + Send {
    stream! { yield Ok(item) }
}

/// Shorthand for a refusal with a code of RocketMQ.
fn status(code: Code, text: impl Into<String>) -> proto::Status {
    refused(code, text)
}
