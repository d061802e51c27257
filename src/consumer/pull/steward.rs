//! Follows the assignment: begins queues that are gained, and lets go of those that are lost, while nobody polls.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Semaphore;

use crate::assignment::{Assignment, Held, Standing, Watch};
use crate::checkpoint::CommitMode;
use crate::clock;
use crate::consumer::pull::desk::Place;
use crate::consumer::pull::events::PullEvent;
use crate::consumer::pull::planner::Stop;
use crate::consumer::pull::resolve::Question;
use crate::consumer::pull::shared::Shared;
use crate::consumer::pull::start::{When, choices};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Epoch, MessageQueue};
use crate::retry::Backoff;

/// Queues whose beginning is asked for at once.
const AT_ONCE: usize = 64;
/// Waits between tries to find where a queue begins.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

type Begin = BoxFuture<'static, (MessageQueue, Epoch, Result<(Place, Option<Stop>)>)>;
type Leave = BoxFuture<'static, MessageQueue>;

/// The task's state.
pub(crate) struct Steward {
    shared: Arc<Shared>,
    watch: Watch,
    seen: Assignment,
    begins: FuturesUnordered<Begin>,
    leaves: FuturesUnordered<Leave>,
    /// Queues that are being let go of, and the epoch in which each was gained again meanwhile.
    leaving: HashMap<MessageQueue, Option<Epoch>>,
    permits: Arc<Semaphore>,
}

impl Steward {
    pub(crate) fn new(shared: Arc<Shared>, watch: Watch) -> Self {
        Self {
            shared,
            watch,
            seen: Assignment::default(),
            begins: FuturesUnordered::new(),
            leaves: FuturesUnordered::new(),
            leaving: HashMap::new(),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Begins the queues of the first assignment, so that the consumer stands where it was told to stand when it is built.
    /// A queue whose broker is away is tried again later.
    ///
    /// # Errors
    /// What no retry can mend.
    pub(crate) async fn first(&mut self, limit: Duration) -> Result<()> {
        self.shared.desk.expect_queues(true);
        let until = clock::now() + limit;
        let first = self.watch.settled(limit).await?;
        for (queue, epoch) in first.iter() {
            self.begins.push(self.begin(queue, epoch, When::AtStart, Some(until)));
        }
        self.seen = first;
        let mut later = Vec::new();
        while let Some((queue, epoch, begun)) = self.begins.next().await {
            match begun {
                Ok((place, stop)) => self.gain(&queue, place, stop)?,
                Err(error) if may_pass(&error) => {
                    self.shared.tell(PullEvent::Delayed { queue: queue.clone(), error });
                    later.push((queue, epoch));
                }
                Err(error) => return Err(error),
            }
        }
        let started = self.shared.options.started;
        for (queue, epoch) in later {
            self.begins.push(self.begin(&queue, epoch, When::Appeared { started }, None));
        }
        self.tell_expectations();
        Ok(())
    }

    /// Until the consumer is closed.
    pub(crate) async fn run(mut self) {
        let closing = self.shared.closing.clone();
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => break,
                Some((queue, epoch, begun)) = self.begins.next() => self.begun(&queue, epoch, begun),
                Some(queue) = self.leaves.next() => self.left(&queue),
                held = self.watch.changed() => match held {
                    Some(held) => self.follow(held),
                    None => closing.cancelled().await,
                },
            }
        }
        self.give_up_all().await;
    }

    fn follow(&mut self, held: Held) {
        let changes = held.assignment.since(&self.seen);
        self.seen = held.assignment;
        for (queue, _) in changes.lost {
            self.lose(queue);
        }
        // Once it is so: whoever hears it finds that nothing more is handed out.
        if let Standing::Idle { members, queues } = held.standing {
            self.shared.tell(PullEvent::Idle { members, queues });
        }
        let started = self.shared.options.started;
        let is_group = self.shared.options.is_group;
        let when = if is_group { When::Gained { started } } else { When::Appeared { started } };
        for (queue, epoch) in changes.gained {
            match self.leaving.get_mut(&queue) {
                Some(again) => *again = Some(epoch),
                None => self.begins.push(self.begin(&queue, epoch, when, None)),
            }
        }
        self.tell_expectations();
    }

    /// What was handed out may finish, up to a limit; then it is committed and fenced (traps P8, P9).
    fn lose(&mut self, queue: MessageQueue) {
        let Some(ledger) = self.shared.desk.lose(&queue) else { return };
        let within = self.shared.options.drain;
        self.shared.tell(PullEvent::Revoking { queue: queue.clone(), within });
        self.leaving.insert(queue.clone(), None);
        let shared = Arc::clone(&self.shared);
        self.leaves.push(Box::pin(async move {
            shared.committer.give_up(std::slice::from_ref(&queue), within).await;
            let reached = ledger.standing().low_mark;
            shared.own().insert(queue.clone(), reached);
            shared.ends.forget(&queue);
            shared.tell(PullEvent::Revoked { queue: queue.clone(), reached });
            queue
        }));
    }

    fn left(&mut self, queue: &MessageQueue) {
        if let Some(Some(epoch)) = self.leaving.remove(queue)
            && self.seen.epoch(queue) == Some(epoch)
        {
            let started = self.shared.options.started;
            self.begins.push(self.begin(queue, epoch, When::Gained { started }, None));
        }
        self.tell_expectations();
    }

    fn begun(&mut self, queue: &MessageQueue, epoch: Epoch, begun: Result<(Place, Option<Stop>)>) {
        if self.seen.epoch(queue) == Some(epoch) {
            let gained = begun.and_then(|(place, stop)| self.gain(queue, place, stop));
            if let Err(error) = gained {
                self.shared.desk.fail(error);
            }
        }
        self.tell_expectations();
    }

    fn gain(&self, queue: &MessageQueue, place: Place, stop: Option<Stop>) -> Result<()> {
        if let Some(committed) = place.committed {
            // First, so that it is not told what it has said: somebody else may have committed more since.
            self.shared.committer.begins_at_broker(queue, committed);
        }
        self.shared.desk.gain(queue, place, stop)?;
        if place.is_by_itself {
            // Who comes next begins there too, and not where it would have begun by itself (trap P11).
            self.shared.committer.save_start(queue);
        }
        self.shared.tell(PullEvent::Assigned { queue: queue.clone(), at: place.at });
        Ok(())
    }

    fn tell_expectations(&self) {
        let expects = !self.begins.is_empty() || self.leaving.values().any(Option::is_some);
        self.shared.desk.expect_queues(expects);
    }

    /// Where a queue begins and ends: asked until there is an answer, or once when `until` is given.
    fn begin(&self, queue: &MessageQueue, epoch: Epoch, when: When, until: Option<Instant>) -> Begin {
        let (shared, queue, permits) = (Arc::clone(&self.shared), queue.clone(), Arc::clone(&self.permits));
        Box::pin(async move {
            let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
            loop {
                let asked = async {
                    let _permit = permits.acquire().await;
                    ask(&shared, &queue, when).await
                };
                let error = match until {
                    None => asked.await,
                    Some(until) => within(until, asked).await,
                };
                match error {
                    Err(error) if until.is_none() && may_pass(&error) => {
                        tracing::debug!(%queue, %error, "where a queue begins is not known yet");
                        clock::sleep(backoff.next(fastrand::f64())).await;
                    }
                    answer => return (queue, epoch, answer),
                }
            }
        })
    }

    /// In a group the queues are somebody else's now. Otherwise nobody waits for them: what is handed out may be completed as
    /// long as there is a completion, and the committer ends with the last.
    async fn give_up_all(mut self) {
        if self.shared.options.is_group {
            for queue in self.shared.desk.owned() {
                self.lose(queue);
            }
            while self.leaves.next().await.is_some() {}
        } else if self.shared.options.mode == CommitMode::AtMostOnce {
            // Nothing is left to be completed, and who reads these queues next may have saved more by the time that something
            // lower would be. A shutdown has fenced them: it saves them itself, and is waited for.
            self.shared.committer.give_up(&self.shared.desk.owned(), Duration::ZERO).await;
        }
        // First: this task is one of those that the goodbye ends.
        self.shared.finished.cancel();
        if self.shared.options.is_group {
            self.shared.brokers.leave();
        }
    }
}

async fn within<T>(until: Instant, asked: impl Future<Output = Result<T>>) -> Result<T> {
    let left = until.saturating_duration_since(clock::now());
    let late = || Err(Error::new(ErrorKind::Timeout, "the broker did not say in time where the queue begins"));
    clock::timeout(left, asked).await.unwrap_or_else(late)
}

fn may_pass(error: &Error) -> bool {
    error.kind().is_transient() || error.kind() == ErrorKind::NotFound
}

async fn ask(shared: &Shared, queue: &MessageQueue, when: When) -> Result<(Place, Option<Stop>)> {
    let choices = choices(&shared.options.start, shared.own_place(queue), queue, when)?;
    let question = Question::about(shared, queue).await?;
    let place = question.place(&choices).await?;
    let stop = match &shared.options.stop {
        Some(stop) => Some(question.stop(stop, place.at).await?),
        None => None,
    };
    Ok((place, stop))
}
