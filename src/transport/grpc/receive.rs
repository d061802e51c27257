//! `ReceiveMessage`: messages as they arrive.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use pin_project::pin_project;
use prost::Message as _;
use tokio::time::Sleep;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::Streaming;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

use crate::clock;
use crate::error::{ErrorKind, Operation, Result};
use crate::model::Endpoint;
use crate::proto::{self, receive_message_response::Content};
use crate::transport::grpc::GrpcWire;
use crate::transport::grpc::codec::FrameCodec;
use crate::transport::grpc::convert::Context;
use crate::transport::grpc::convert::{Damaged, Reading, damaged_frame, quick_message, receive_frame};
use crate::transport::grpc::failure::{failed, no_answer};
use crate::transport::grpc::peer::Peer;
use crate::transport::grpc::rpc::{method, ready};
use crate::transport::{Incoming, ReceiveFrame, ReceiveRequest};

/// The proxy lengthens shorter polls to this.
const SHORTEST_POLL: Duration = Duration::from_secs(5);
/// With a deadline nearer to the poll than this, a batch that is popped at its end is lost until its lease runs out (R3).
const SHORTEST_MARGIN: Duration = Duration::from_secs(3);
/// How long the rest of an answer may take between two frames: a body of 4 MiB at 1 Mbit/s.
pub(crate) const FRAME_GAP: Duration = Duration::from_secs(35);

/// The whole time a receive may take until its first frame (trap R3).
fn deadline(await_duration: Duration, request_timeout: Duration) -> Duration {
    await_duration.max(SHORTEST_POLL) + request_timeout.max(SHORTEST_MARGIN)
}

impl GrpcWire {
    pub(crate) async fn open_receive(&self, at: &Endpoint, request: &ReceiveRequest) -> Result<Incoming<ReceiveFrame>> {
        let context = Context::new(Operation::Receive, at).scope(&request.scope);
        let deadline = deadline(request.await_duration, self.request_timeout);
        let started = clock::now();
        let question = self.request(self.requests.receive(request), Some(deadline));
        let connection = self.connection(&context)?;
        let answer = self.call(&context, &connection, deadline, async move |mut grpc: Grpc<Channel>| {
            ready(&mut grpc).await?;
            grpc.server_streaming(question, PathAndQuery::from_static(method::RECEIVE), FrameCodec::new()).await
        });
        let frames = answer.await?.into_inner();
        let reading = Reading {
            topic: Arc::clone(&request.scope.topic),
            broker: Some(Arc::clone(&request.broker)),
            max_decompressed_size: self.max_decompressed_size,
            check_digest: self.check_digest,
            is_delivery: true,
        };
        let first_frame_by = started + self.connect_timeout + deadline;
        Ok(Box::pin(ReceiveStream {
            frames: Some(frames),
            has_answer: false,
            gap: Gap { timer: clock::timer(first_frame_by), is_waiting: true, allowed: deadline },
            reading,
            context,
            peer: connection.peer,
        }))
    }
}

/// The frames of one receive.
///
/// An item is a frame as it arrived; what arrived before an error stays valid. An error is the last item. Dropping it ends the
/// receive; the server makes the messages it has not yet sent visible again.
#[pin_project]
struct ReceiveStream {
    /// `None`: it has ended.
    frames: Option<Streaming<Bytes>>,
    /// Whether the server has said what came of it: a message, or a status.
    has_answer: bool,
    #[pin]
    gap: Gap,
    reading: Reading,
    context: Context,
    peer: Arc<Peer>,
}

/// Bounds each wait for the next frame. The time in which nobody polls does not count.
#[pin_project]
struct Gap {
    #[pin]
    timer: Sleep,
    is_waiting: bool,
    /// For the error.
    allowed: Duration,
}

impl Gap {
    fn poll_over(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<()> {
        let mut this = self.project();
        if !*this.is_waiting {
            *this.is_waiting = true;
            *this.allowed = FRAME_GAP;
            this.timer.as_mut().reset((clock::now() + FRAME_GAP).into());
        }
        this.timer.poll(task)
    }
}

impl Stream for ReceiveStream {
    type Item = Result<ReceiveFrame>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            let Some(frames) = this.frames.as_mut() else { return Poll::Ready(None) };
            let item = match Pin::new(frames).poll_next(task) {
                Poll::Ready(received) => {
                    *this.gap.as_mut().project().is_waiting = false;
                    next_item(
                        received,
                        this.has_answer,
                        this.reading,
                        this.context,
                        this.peer,
                        *this.gap.as_mut().project().allowed,
                    )
                }
                Poll::Pending => {
                    std::task::ready!(this.gap.as_mut().poll_over(task));
                    Next::Last(Some(Err(no_answer(this.context, this.gap.allowed))))
                }
            };
            match item {
                Next::Item(frame) => return Poll::Ready(Some(Ok(frame))),
                Next::Nothing => {}
                Next::Last(last) => {
                    *this.frames = None;
                    return Poll::Ready(last);
                }
            }
        }
    }
}

enum Next {
    Item(ReceiveFrame),
    Nothing,
    Last(Option<Result<ReceiveFrame>>),
}

fn next_item(
    received: Option<Result<Bytes, Status>>,
    has_answer: &mut bool,
    reading: &Reading,
    context: &Context,
    peer: &Peer,
    within: Duration,
) -> Next {
    let frame = match received {
        Some(Ok(frame)) => {
            if let Some(message) = quick_message(&frame, reading) {
                *has_answer = true;
                return Next::Item(message);
            }
            match read_frame(frame, has_answer, reading) {
                Ok(frame) => frame,
                Err(status) => return Next::Last(Some(Err(failed(context, status, peer, within)))),
            }
        }
        Some(Err(status)) => return Next::Last(Some(Err(failed(context, status, peer, within)))),
        None if *has_answer => return Next::Last(None),
        None => {
            let text = "the server ended the answer without messages and without a status";
            return Next::Last(Some(Err(context.error(ErrorKind::Protocol, text))));
        }
    };
    match frame {
        Ok(Some(frame)) => Next::Item(frame),
        Ok(None) => Next::Nothing,
        Err(status) => Next::Last(Some(Err(context.refused(&status)))),
    }
}

/// A frame that is not simply a message. One that does not decode is an item and not the end of the stream, which would take
/// its neighbours with it (trap R12).
fn read_frame(
    frame: Bytes,
    has_answer: &mut bool,
    reading: &Reading,
) -> Result<Result<Option<ReceiveFrame>, proto::Status>, Status> {
    match proto::ReceiveMessageResponse::decode(frame.clone()) {
        Ok(response) => {
            *has_answer |= !matches!(response.content, Some(Content::DeliveryTimestamp(_)));
            Ok(receive_frame(response, reading))
        }
        Err(reason) => {
            let damaged = Damaged::salvage(frame, reason)
                .map_err(|reason| Status::internal(format!("cannot decode the answer: {reason}")))?;
            *has_answer = true;
            Ok(Ok(Some(damaged_frame(damaged, reading))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r3_the_deadline_of_a_receive_is_longer_than_any_poll_the_server_makes_of_it() {
        let seconds = Duration::from_secs;
        for (await_duration, request_timeout, expected) in
            [(1, 3, 8), (5, 3, 8), (20, 3, 23), (15, 1, 18), (15, 10, 25), (0, 0, 8)]
        {
            assert_eq!(deadline(seconds(await_duration), seconds(request_timeout)), seconds(expected));
        }
    }
}
