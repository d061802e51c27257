use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_sink::Sink;
use futures_util::future::BoxFuture;

use crate::checkpoint::Completion;
use crate::consumer::pull::shared::Shared;
use crate::error::{Error, Result};

/// A sink that completes: `batches.map_ok(work).try_buffer_unordered(16).forward(control.commit_sink())`.
///
/// An item is completed when it is accepted, and handed to the consumer's committer, which saves at its interval; a flush
/// waits for nothing more. **Closing** saves everything that is completed: when it returns, it is durable. So `forward`,
/// which closes the sink at the end of its stream, ends with durable positions; after an error, or on the way,
/// [`PullControl::flush`](crate::PullControl::flush) does the same.
///
/// It takes completions of any consumer; closing saves those of its own.
#[must_use = "sinks do nothing unless polled"]
pub struct CommitSink {
    shared: Arc<Shared>,
    closing: Option<BoxFuture<'static, Result<()>>>,
    closed: bool,
}

impl CommitSink {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, closing: None, closed: false }
    }
}

impl Sink<Completion> for CommitSink {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, completion: Completion) -> Result<()> {
        completion.complete();
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.closed {
            return Poll::Ready(Ok(()));
        }
        let committer = self.shared.committer.clone();
        let closing = self.closing.get_or_insert_with(|| Box::pin(async move { committer.flush().await }));
        let saved = ready!(closing.as_mut().poll(cx));
        self.closing = None;
        self.closed = saved.is_ok();
        Poll::Ready(saved)
    }
}

impl fmt::Debug for CommitSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitSink").field("group", &self.shared.group).field("closed", &self.closed).finish()
    }
}
