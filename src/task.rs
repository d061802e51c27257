//! The only place that spawns: every task has a name and an owner, and a panic in one is reported, never lost.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;

static PANICS: AtomicU64 = AtomicU64::new(0);

/// How many background tasks of this process have panicked. Tests assert that it stays 0.
#[doc(hidden)]
pub fn panicked_tasks() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// The tasks of one owner. They are cancelled when the group is dropped.
#[derive(Debug)]
pub(crate) struct TaskGroup {
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl TaskGroup {
    pub(crate) fn new() -> Self {
        Self { tracker: TaskTracker::new(), cancel: CancellationToken::new() }
    }

    /// Spawns a task that ends by itself or at the next await after the group was cancelled.
    pub(crate) fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let cancelled = self.cancel.clone().cancelled_owned();
        self.spawn_to_end(name, async move {
            tokio::select! {
                biased;
                () = cancelled => {}
                () = future => {}
            }
        });
    }

    /// Spawns a task that is not cancelled: it watches the [`token`](Self::token) itself, and ends soon after.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub(crate) fn spawn_to_end(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                report_panic(name);
            }
        });
    }

    /// A token that is cancelled with the group, for tasks that must tidy up before they end.
    pub(crate) fn token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Cancels all tasks, and waits for none: for who is one of them.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Cancels and waits for the end of all tasks, at most `deadline`. `false`: some are still running.
    pub(crate) async fn shutdown(&self, deadline: Duration) -> bool {
        self.cancel();
        self.join(deadline).await
    }

    /// Waits for the end of all tasks without cancelling them, at most `deadline`.
    pub(crate) async fn join(&self, deadline: Duration) -> bool {
        self.tracker.close();
        clock::timeout(deadline, self.tracker.wait()).await.is_some()
    }
}

impl Drop for TaskGroup {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Does what blocks (files) where a thread may block; it is done to its end, also when nobody waits for it any more.
/// `None`: it panicked, which is reported, or the runtime is ending.
#[allow(clippy::disallowed_methods, reason = "this is the one place that spawns")]
pub(crate) async fn blocking<R: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Some(result),
        Err(error) => {
            if error.is_panic() {
                report_panic(name);
            }
            None
        }
    }
}

fn report_panic(name: &'static str) {
    PANICS.fetch_add(1, Ordering::Relaxed);
    tracing::error!(task = name, "a background task panicked; this is a bug of rocketmq-stream");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_group_ends_its_tasks() {
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let group = TaskGroup::new();
        group.spawn("waits for ever", async move {
            let _held = sender;
            std::future::pending::<()>().await;
        });
        drop(group);
        assert!(receiver.await.is_err(), "the task was dropped, and its sender with it");
    }

    #[tokio::test]
    async fn shutdown_waits_for_the_end_of_every_task() {
        let group = TaskGroup::new();
        group.spawn("waits for ever", std::future::pending());
        assert!(group.shutdown(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn what_blocks_gives_its_result_and_runs_to_its_end_unwatched() {
        assert_eq!(blocking("adds", || 1 + 1).await, Some(2));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let (go, told_to_go) = std::sync::mpsc::channel();
        let unwatched = blocking("goes on", move || (told_to_go.recv().is_ok()).then(|| sender.send(7)));
        assert!(unwatched.now_or_never().is_none(), "begun, and dropped");
        go.send(()).expect("it waits");
        assert_eq!(receiver.await, Ok(7));
    }
}
