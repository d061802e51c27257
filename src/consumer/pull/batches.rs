use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::{FusedStream, Stream, TryStream, ready};
use pin_project::pin_project;

use crate::checkpoint::Completion;
use crate::clock;
use crate::consumer::pull::PulledMessage;
use crate::model::Message;

/// Messages that were gathered, of several queues perhaps, and one completion for all.
#[derive(Debug)]
#[must_use = "what is committed for its queues stops here until it is completed"]
pub struct MessageBatch {
    messages: Vec<Message>,
    completion: Completion,
}

impl MessageBatch {
    /// The messages, at least one, in the order in which they came.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Messages and completion apart.
    pub fn into_parts(self) -> (Vec<Message>, Completion) {
        (self.messages, self.completion)
    }

    /// All messages were processed; see [`Completion::complete`].
    pub fn complete(self) {
        self.completion.complete();
    }

    /// The completion alone, for a sink.
    pub fn into_completion(self) -> Completion {
        self.completion
    }
}

/// What streams of [`PulledMessage`]s can do beside what every stream can.
pub trait PullStreamExt: TryStream<Ok = PulledMessage> + Sized {
    /// Gathers messages: up to `max`, or what has come `linger` after the first. The completions become one.
    ///
    /// An error comes after what was gathered before it, so no good message is lost by it. When a queue is taken away, what
    /// was gathered comes out at once, so that it may finish before the queue is given up. Messages of a queue that was given
    /// up, or set elsewhere, while they were gathered are left out: its next owner reads them, or they come again. Cancel
    /// safe: a dropped `next()` loses nothing. A `max` of 0 counts as 1.
    fn batches(self, max: usize, linger: Duration) -> Batches<Self> {
        Batches {
            stream: self,
            max: max.max(1),
            linger,
            gathered: Vec::new(),
            fronts: Vec::new(),
            timer: None,
            failed: None,
            ended: false,
        }
    }

    /// Drops the messages that `keep` does not want, and **completes** them: they need no processing.
    fn try_filter_settled<F: FnMut(&Message) -> bool>(self, keep: F) -> FilterSettled<Self, F> {
        FilterSettled { stream: self, keep }
    }
}

impl<S: TryStream<Ok = PulledMessage>> PullStreamExt for S {}

/// The stream of [`PullStreamExt::batches`].
#[pin_project]
#[must_use = "streams do nothing unless polled"]
pub struct Batches<S: TryStream> {
    #[pin]
    stream: S,
    max: usize,
    linger: Duration,
    gathered: Vec<PulledMessage>,
    /// The place of the first that was gathered of each queue: what is asked of queues is asked of these.
    fronts: Vec<usize>,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    /// An error that waits behind what was gathered.
    failed: Option<S::Error>,
    ended: bool,
}

impl<S: TryStream<Ok = PulledMessage>> Stream for Batches<S> {
    type Item = Result<MessageBatch, S::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            if this.gathered.is_empty() {
                if let Some(error) = this.failed.take() {
                    return Poll::Ready(Some(Err(error)));
                }
                if *this.ended {
                    return Poll::Ready(None);
                }
            }
            if this.gathered.len() < *this.max && this.failed.is_none() && !*this.ended {
                match this.stream.as_mut().try_poll_next(cx) {
                    Poll::Ready(Some(Ok(message))) => {
                        if this.gathered.is_empty() {
                            *this.timer = Some(Box::pin(clock::timer(clock::now() + *this.linger)));
                        }
                        if !is_known(this.gathered, this.fronts, &message) {
                            this.fronts.push(this.gathered.len());
                        }
                        this.gathered.push(message);
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => *this.failed = Some(error),
                    Poll::Ready(None) => *this.ended = true,
                    // A queue of which there is something is being given up: it is waited for, so nothing lingers.
                    Poll::Pending if this.fronts.iter().any(|at| this.gathered[*at].is_revoking()) => {}
                    Poll::Pending => {
                        let Some(timer) = this.timer else { return Poll::Pending };
                        ready!(timer.as_mut().poll(cx));
                    }
                }
            }
            *this.timer = None;
            this.fronts.clear();
            if let Some(batch) = merge(this.gathered) {
                return Poll::Ready(Some(Ok(batch)));
            }
        }
    }
}

/// Whether something of its queue was gathered before. Messages come in rows of one queue, so the last is looked at first.
fn is_known(gathered: &[PulledMessage], fronts: &[usize], message: &PulledMessage) -> bool {
    gathered.last().is_some_and(|last| last.is_beside(message))
        || fronts.iter().any(|at| gathered[*at].is_beside(message))
}

/// Everything that is still to be handed out, as one. `None`: nothing is.
fn merge(gathered: &mut Vec<PulledMessage>) -> Option<MessageBatch> {
    let current = gathered.drain(..).filter(PulledMessage::is_current).map(PulledMessage::into_parts);
    let (messages, completions): (Vec<Message>, Vec<Completion>) = current.unzip();
    (!messages.is_empty()).then(|| MessageBatch { messages, completion: completions.into_iter().collect() })
}

impl<S: TryStream<Ok = PulledMessage>> FusedStream for Batches<S> {
    fn is_terminated(&self) -> bool {
        self.ended && self.gathered.is_empty() && self.failed.is_none()
    }
}

impl<S: TryStream> fmt::Debug for Batches<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches")
            .field("gathered", &self.gathered.len())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

/// The stream of [`PullStreamExt::try_filter_settled`].
#[pin_project]
#[must_use = "streams do nothing unless polled"]
pub struct FilterSettled<S, F> {
    #[pin]
    stream: S,
    keep: F,
}

impl<S: TryStream<Ok = PulledMessage>, F: FnMut(&Message) -> bool> Stream for FilterSettled<S, F> {
    type Item = Result<PulledMessage, S::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        loop {
            match ready!(this.stream.as_mut().try_poll_next(cx)) {
                Some(Ok(message)) if !(this.keep)(message.message()) => message.complete(),
                other => return Poll::Ready(other),
            }
        }
    }
}

impl<S: TryStream<Ok = PulledMessage> + FusedStream, F: FnMut(&Message) -> bool> FusedStream for FilterSettled<S, F> {
    fn is_terminated(&self) -> bool {
        self.stream.is_terminated()
    }
}

impl<S, F> fmt::Debug for FilterSettled<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterSettled").finish_non_exhaustive()
    }
}
