use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream, TryStream};
use pin_project::pin_project;
use tokio::sync::oneshot;
use tokio_util::sync::ReusableBoxFuture;

use crate::error::{Error, SendError};
use crate::model::OutboundMessage;
use crate::producer::parcel::Outcome;
use crate::producer::{Inner, NoRoom, Place, Producer, SendReceipt, answer_of, closed};

/// `send_with` on every stream of messages, each with something that goes along.
pub trait SendStreamExt: TryStream + Sized {
    /// Sends each message and yields its receipt with what came along, in the order of the stream: the safe shape of
    /// consume → transform → produce → settle. At most `in_flight` messages (at least 1) are unanswered at a time.
    ///
    /// What goes along is a receipt or completion of the consumed message: it comes out only when the broker has the new one.
    fn send_with<T>(self, producer: &Producer, in_flight: usize) -> SendWith<Self, T>
    where
        Self: TryStream<Ok = (OutboundMessage, T)>,
        Self::Error: From<Error>,
    {
        SendWith {
            stream: self,
            inner: Arc::clone(&producer.inner),
            in_flight: in_flight.max(1),
            parked: None,
            entering: None,
            under_way: VecDeque::new(),
            upstream: Upstream::Open,
        }
    }
}

impl<S: TryStream> SendStreamExt for S {}

/// The stream of [`send_with`](SendStreamExt::send_with).
///
/// - An item is the receipt of a message and what came along with it.
/// - An error item is a message that was not sent ([`Error::into_unsent`] gives it back, when `Error` is the error type); what
///   came along is dropped, so that its message will be consumed again. The stream goes on.
/// - An error of the stream it sends from is yielded when all messages before it are answered; then the stream ends. Else it
///   ends when the other stream ends and all is answered.
/// - Dropping it cancels no message that was accepted; what came along with them is dropped. `next()` is cancel safe.
/// - At most one item is taken from the other stream before there is room for it.
#[pin_project]
#[must_use = "streams do nothing unless polled"]
pub struct SendWith<S: TryStream, T> {
    #[pin]
    stream: S,
    inner: Arc<Inner>,
    in_flight: usize,
    /// Taken from the stream, and waiting for room.
    parked: Option<(OutboundMessage, T)>,
    entering: Option<ReusableBoxFuture<'static, Option<Place>>>,
    under_way: VecDeque<(oneshot::Receiver<Outcome>, T)>,
    upstream: Upstream<S::Error>,
}

/// How the stream is doing that messages are taken from.
enum Upstream<E> {
    Open,
    Ended,
    Failed(E),
    /// Its end was told.
    Done,
}

impl<S, T> SendWith<S, T>
where
    S: TryStream<Ok = (OutboundMessage, T)>,
{
    /// Takes messages from the stream and hands them over, as many as may be under way.
    fn fill(mut self: Pin<&mut Self>, cx: &mut Context<'_>) {
        while self.under_way.len() < self.in_flight {
            if self.parked.is_none() && self.as_mut().poll_upstream(cx).is_pending() {
                return;
            }
            let this = self.as_mut().project();
            let Some((message, _)) = &this.parked else { return };
            let entered = match this.inner.check(message) {
                Ok(()) => match poll_enter(this.inner, this.entering, message.weight(), cx) {
                    Poll::Ready(entered) => entered,
                    Poll::Pending => return,
                },
                Err(error) => Err(error),
            };
            let Some((message, along)) = this.parked.take() else { return };
            let answer = match entered {
                Ok(place) => this.inner.hand_over(message, place),
                Err(error) => answered(Err(SendError::new(message, error))),
            };
            this.under_way.push_back((answer, along));
        }
    }

    /// Ready when there is an item, or there will be none.
    fn poll_upstream(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if matches!(this.upstream, Upstream::Open) {
            match ready!(this.stream.try_poll_next(cx)) {
                Some(Ok(item)) => *this.parked = Some(item),
                Some(Err(error)) => *this.upstream = Upstream::Failed(error),
                None => *this.upstream = Upstream::Ended,
            }
        }
        Poll::Ready(())
    }
}

impl<S, T> Stream for SendWith<S, T>
where
    S: TryStream<Ok = (OutboundMessage, T)>,
    S::Error: From<Error>,
{
    type Item = Result<(SendReceipt, T), S::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.as_mut().fill(cx);
        let this = self.project();
        if let Some((answer, _)) = this.under_way.front_mut() {
            let outcome = answer_of(ready!(Pin::new(answer).poll(cx)));
            let along = this.under_way.pop_front().map(|(_, along)| along);
            return Poll::Ready(along.map(|along| match outcome {
                Ok(receipt) => Ok((receipt, along)),
                Err(failed) => Err(Error::from(failed).into()),
            }));
        }
        match mem::replace(this.upstream, Upstream::Done) {
            Upstream::Open => {
                *this.upstream = Upstream::Open;
                Poll::Pending
            }
            Upstream::Failed(error) => Poll::Ready(Some(Err(error))),
            Upstream::Ended | Upstream::Done => Poll::Ready(None),
        }
    }
}

impl<S, T> FusedStream for SendWith<S, T>
where
    S: TryStream<Ok = (OutboundMessage, T)>,
    S::Error: From<Error>,
{
    fn is_terminated(&self) -> bool {
        matches!(self.upstream, Upstream::Done)
    }
}

impl<S: TryStream, T> fmt::Debug for SendWith<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendWith")
            .field("in_flight", &self.in_flight)
            .field("unanswered", &self.under_way.len())
            .finish_non_exhaustive()
    }
}

fn poll_enter(
    inner: &Arc<Inner>,
    entering: &mut Option<ReusableBoxFuture<'static, Option<Place>>>,
    weight: usize,
    cx: &mut Context<'_>,
) -> Poll<Result<Place, Error>> {
    if entering.is_none() {
        match inner.room.try_enter(weight) {
            Ok(place) => return Poll::Ready(Ok(place)),
            Err(NoRoom::Closed) => return Poll::Ready(Err(closed())),
            Err(NoRoom::Full) => {}
        }
    }
    let waiting = entering.get_or_insert_with(|| {
        let inner = Arc::clone(inner);
        ReusableBoxFuture::new(async move { inner.room.enter(weight).await })
    });
    let place = ready!(waiting.poll(cx));
    *entering = None;
    Poll::Ready(place.ok_or_else(closed))
}

fn answered(outcome: Outcome) -> oneshot::Receiver<Outcome> {
    let (sender, answer) = oneshot::channel();
    // The receiver is right here.
    drop(sender.send(outcome));
    answer
}
