//! What readers, control, sinks and tasks of one consumer share.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::checkpoint::{CommitMode, CommitTarget, Committer, Ledger};
use crate::consumer::hub::Hub;
use crate::consumer::pull::brokers::{Brokers, locate_master};
use crate::consumer::pull::desk::Desk;
use crate::consumer::pull::events::PullEvent;
use crate::consumer::pull::planner;
use crate::consumer::pull::start::Own;
use crate::error::{ErrorKind, Result};
use crate::model::{Endpoint, Filter, MessageQueue, Offset, StartFrom, StopAt};
use crate::transport::{Call, PullRequest};

/// What was set when the consumer was built.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) planner: planner::Options,
    pub(crate) start: StartFrom,
    pub(crate) stop: Option<StopAt>,
    pub(crate) mode: CommitMode,
    /// Messages between the oldest open one and the newest, before a queue stalls.
    pub(crate) max_open: u64,
    /// How long what is handed out of a queue may be completed after it was taken away.
    pub(crate) drain: Duration,
    /// Whether others of the group may own a queue before and after us.
    pub(crate) is_group: bool,
    pub(crate) started: SystemTime,
}

impl Options {
    /// Whether other members must not be given what this one was given: they see what the brokers have, and no store.
    pub(crate) fn is_once_in_group(&self) -> bool {
        self.is_group && self.mode == CommitMode::AtMostOnce
    }
}

pub(crate) struct Shared {
    pub(crate) group: Arc<str>,
    pub(crate) brokers: Arc<dyn Brokers>,
    pub(crate) options: Options,
    pub(crate) desk: Desk,
    pub(crate) ledger: Ledger,
    pub(crate) committer: Committer,
    pub(crate) hub: Arc<Hub<PullEvent>>,
    pub(crate) ends: Ends,
    /// What was stored for each queue, or reached when it was lost: where it begins when it is gained again.
    pub(crate) own: Mutex<HashMap<MessageQueue, Offset>>,
    /// The stream is gone, or a shutdown began.
    pub(crate) closing: CancellationToken,
    /// Every queue was given up.
    pub(crate) finished: CancellationToken,
}

impl Shared {
    pub(crate) fn own(&self) -> MutexGuard<'_, HashMap<MessageQueue, Offset>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn own_place(&self, queue: &MessageQueue) -> Own {
        match self.own().get(queue) {
            None => Own::Unknown,
            Some(reached) if self.options.is_once_in_group() => Own::ReachedOrFurther(*reached),
            Some(reached) => Own::Reached(*reached),
        }
    }

    /// Ends the streams; the queues are still ours, and completions count.
    pub(crate) fn end_streams(&self) {
        self.ledger.stream_ended();
        self.desk.close();
    }

    /// Ends the streams; the steward gives the queues up.
    pub(crate) fn stop(&self) {
        self.end_streams();
        self.closing.cancel();
    }

    pub(crate) fn tell(&self, event: PullEvent) {
        tracing::debug!(group = %self.group, ?event, "pull consumer");
        self.hub.publish(&event);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("group", &self.group).field("desk", &self.desk).finish_non_exhaustive()
    }
}

/// First offset and end of each queue, as the last answer said, and more of what brokers told.
#[derive(Debug, Default)]
pub(crate) struct Ends(Mutex<HashMap<MessageQueue, Known>>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) min: Option<Offset>,
    pub(crate) max: Option<Offset>,
    /// What the broker said when it was asked last.
    pub(crate) committed: Option<Offset>,
}

impl Ends {
    pub(crate) fn note(&self, queue: &MessageQueue, (min, max): (Option<Offset>, Option<Offset>)) {
        self.change(queue, |known| {
            known.min = min.or(known.min);
            known.max = max.or(known.max);
        });
    }

    pub(crate) fn note_committed(&self, queue: &MessageQueue, committed: Option<Offset>) {
        self.change(queue, |known| known.committed = committed);
    }

    fn change(&self, queue: &MessageQueue, change: impl FnOnce(&mut Known)) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get_mut(queue) {
            Some(known) => change(known),
            None => change(known.entry(queue.clone()).or_default()),
        }
    }

    pub(crate) fn get(&self, queue: &MessageQueue) -> Known {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(queue).copied().unwrap_or_default()
    }

    pub(crate) fn forget(&self, queue: &MessageQueue) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(queue);
    }
}

/// Commits at the brokers of the queues.
#[derive(Debug)]
pub(crate) struct CommitAtBrokers {
    pub(crate) group: Arc<str>,
    pub(crate) brokers: Arc<dyn Brokers>,
}

impl CommitTarget for CommitAtBrokers {
    fn commit<'a>(&'a self, queue: &'a MessageQueue, next: Offset) -> Call<'a, ()> {
        Box::pin(async move {
            let at = locate_master(&*self.brokers, queue).await?;
            let done = self.commit_at(&at, queue, next).await;
            done.inspect_err(|error| self.brokers.report(&at, error))
        })
    }
}

impl CommitAtBrokers {
    /// A broker commits nothing for a group that it does not know, and comes to know it when somebody pulls for it, or says
    /// hello as its member (protocol.md E.6). Who assigns or shares its queues says no hello (trap P27), and what it commits
    /// first may come before its first pull; so that is made up for.
    async fn commit_at(&self, at: &Endpoint, queue: &MessageQueue, next: Offset) -> Result<()> {
        let wire = self.brokers.wire();
        let unknown = match wire.commit(at, &self.group, queue, next).await {
            Err(error) if error.kind() == ErrorKind::NotFound => error,
            done => return done,
        };
        let pull = PullRequest {
            group: Arc::clone(&self.group),
            queue: queue.clone(),
            offset: next,
            filter: Filter::all(),
            max_messages: 1,
            suspend: None,
        };
        match wire.pull(at, &pull).await {
            Ok(_) => wire.commit(at, &self.group, queue, next).await,
            // A broker that makes no groups by itself, or has no such topic.
            Err(error) if error.kind() == ErrorKind::NotFound => Err(unknown),
            Err(error) => Err(error),
        }
    }
}
