use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::assignment::{Assignment, Standing, Watch};
use crate::checkpoint::Unfinished;
use crate::clock;
use crate::consumer::hub::EventStream;
use crate::consumer::pull::desk::Place;
use crate::consumer::pull::events::PullEvent;
use crate::consumer::pull::lag::LagWatch;
use crate::consumer::pull::resolve::Question;
use crate::consumer::pull::shared::Shared;
use crate::consumer::pull::sink::CommitSink;
use crate::error::{Error, Result};
use crate::model::{Checkpoint, MessageQueue, Offset, OffsetRange};
use crate::transport::QueueBound;

/// The events of a [`PullConsumer`](crate::PullConsumer).
pub type PullEvents = EventStream<PullEvent>;

/// Where to set a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SeekTo {
    /// To this offset.
    Offset(Offset),
    /// To the first message that was stored at this time or later.
    Timestamp(SystemTime),
    /// To the first message that is still there.
    Beginning,
    /// To what is stored from now on.
    End,
}

/// Controls a [`PullConsumer`](crate::PullConsumer) while it streams. Cheap to clone; it works for all streams that were
/// made of that consumer.
#[derive(Clone)]
pub struct PullControl {
    shared: Arc<Shared>,
    watch: Watch,
}

impl PullControl {
    pub(crate) const fn new(shared: Arc<Shared>, watch: Watch) -> Self {
        Self { shared, watch }
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The queues that are assigned now.
    #[must_use]
    pub fn assignment(&self) -> Assignment {
        self.watch.held().assignment
    }

    /// The assignment as a watch.
    #[must_use]
    pub fn assignments(&self) -> AssignmentWatch {
        AssignmentWatch { last: self.watch.held().assignment, watch: self.watch.clone() }
    }

    /// Hands nothing out of a queue, and pulls nothing for it, until it is resumed, or begins anew. What was pulled ahead is
    /// dropped, and pulled again then.
    ///
    /// # Errors
    /// `Precondition` when the queue is not assigned to this consumer.
    pub fn pause(&self, queue: &MessageQueue) -> Result<()> {
        self.shared.desk.pause(queue, true)
    }

    /// Goes on after [`pause`](Self::pause), where it was.
    ///
    /// # Errors
    /// `Precondition` when the queue is not assigned to this consumer.
    pub fn resume(&self, queue: &MessageQueue) -> Result<()> {
        self.shared.desk.pause(queue, false)
    }

    /// Sets a queue elsewhere, in a new epoch: what was handed out of it and is not completed counts no more, what was
    /// pulled ahead is dropped, and this place is committed at once (not in
    /// [`CommitMode::Manual`](crate::CommitMode::Manual)); [`flush`](Self::flush) waits for that. Cancel safe: cancelled,
    /// nothing is changed.
    ///
    /// # Errors
    /// `Precondition` when the queue is not assigned to this consumer; `InvalidArgument` for an offset that no queue can
    /// have; what a broker answered when it was asked for the place.
    pub async fn seek(&self, queue: &MessageQueue, to: SeekTo) -> Result<()> {
        let place = match to {
            SeekTo::Offset(offset) if i64::try_from(offset.get()).is_err() => {
                return Err(Error::argument("offset", offset, "offsets are at most 2^63 - 1").on_queue(queue));
            }
            SeekTo::Offset(offset) => Place::at(offset),
            SeekTo::Timestamp(time) => self.question(queue).await?.place_at(time).await?,
            SeekTo::Beginning => Place::at(self.question(queue).await?.bound(QueueBound::Min).await?),
            SeekTo::End => Place::at(self.question(queue).await?.bound(QueueBound::Max).await?),
        };
        self.shared.desk.move_to(queue, place)?;
        // Whoever waits until it is saved waits for this place now.
        self.shared.committer.save_start(queue);
        Ok(())
    }

    async fn question<'a>(&'a self, queue: &'a MessageQueue) -> Result<Question<'a>> {
        Question::about(&self.shared, queue).await
    }

    /// What was **completed**: for each queue the first offset that is not. What was handed out is
    /// [`PullConsumer::position`](crate::PullConsumer::position).
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        self.shared.ledger.checkpoint()
    }

    /// Completes everything below the checkpoint and makes it durable. Cancel safe: what was asked for goes on.
    ///
    /// # Errors
    /// `InvalidArgument`: a position beyond what was handed out; nothing is completed then. `Precondition`: some queues are
    /// not, or no longer, assigned to this consumer, or were set to before it meanwhile, by a [`seek`](Self::seek) or an
    /// administrator's reset; the others are saved. `Timeout`: it could not be saved in time, and is tried further.
    pub async fn commit(&self, checkpoint: &Checkpoint) -> Result<()> {
        self.shared.committer.commit(checkpoint).await
    }

    /// Makes durable what is completed now. A queue that is set elsewhere meanwhile, by a [`seek`](Self::seek) or an
    /// administrator's reset, is durable at its new place: where it was before counts no more. In
    /// [`CommitMode::Manual`](crate::CommitMode::Manual) there is nothing to do. Cancel safe: what was asked for goes on.
    ///
    /// # Errors
    /// `Timeout`: it could not be saved in time, and is tried further. `Precondition`: a queue was given up before it was
    /// saved; its next owner reads these messages again. What the broker or the store answered, when that cannot pass.
    pub async fn flush(&self) -> Result<()> {
        self.shared.committer.flush().await
    }

    /// The offset that the broker has committed for the group: the first that is not consumed. `None`: there is none.
    ///
    /// # Errors
    /// What the broker answered; `Unavailable` for a queue that is not in its topic's route.
    pub async fn committed(&self, queue: &MessageQueue) -> Result<Option<Offset>> {
        self.question(queue).await?.committed().await
    }

    /// The first offset that was stored at this time or later; the end of the queue when there is none.
    ///
    /// # Errors
    /// As [`committed`](Self::committed).
    pub async fn offset_at(&self, queue: &MessageQueue, time: SystemTime) -> Result<Offset> {
        Ok(self.question(queue).await?.place_at(time).await?.at)
    }

    /// The first offset that is there, and the one that will be written next.
    ///
    /// # Errors
    /// As [`committed`](Self::committed).
    pub async fn bounds(&self, queue: &MessageQueue) -> Result<OffsetRange> {
        let question = self.question(queue).await?;
        let (min, max) = futures_util::try_join!(question.bound(QueueBound::Min), question.bound(QueueBound::Max))?;
        Ok(min..max)
    }

    /// How far the queues are behind.
    pub fn lag(&self) -> LagWatch {
        LagWatch::new(Arc::clone(&self.shared))
    }

    /// What happens beside the messages, from now on; who has no queue now is told so first. Bounded: a reader that does not
    /// keep up misses events, and sees how many by [`EventStream::missed`].
    pub fn events(&self) -> PullEvents {
        let idle = match self.watch.held().standing {
            Standing::Idle { members, queues } => Some(PullEvent::Idle { members, queues }),
            _ => None,
        };
        self.shared.hub.subscribe_after(idle)
    }

    /// A sink that completes what it is given; closing it makes that durable.
    pub fn commit_sink(&self) -> CommitSink {
        CommitSink::new(Arc::clone(&self.shared))
    }

    /// Ends the stream, waits until what was handed out is completed, saves it, leaves the group and says goodbye; at most
    /// `deadline`. Safe to call twice.
    pub async fn shutdown(&self, deadline: Duration) -> PullShutdownReport {
        let until = clock::now() + deadline;
        let left = || until.saturating_duration_since(clock::now());
        self.shared.end_streams();
        let Unfinished { open, unsaved } = self.shared.committer.close(deadline).await;
        self.shared.stop();
        clock::timeout(left(), self.shared.finished.cancelled()).await;
        let said_goodbye = self.shared.brokers.close(left().max(GOODBYE)).await;
        PullShutdownReport { complete: open.is_empty() && unsaved.is_empty() && said_goodbye, open, unsaved }
    }
}

/// A goodbye gets so long even when the deadline is over: the server forgets this client by itself too.
const GOODBYE: Duration = Duration::from_millis(200);

impl fmt::Debug for PullControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullControl").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// The assignment of a consumer, as it is now and as it becomes.
#[derive(Debug, Clone)]
pub struct AssignmentWatch {
    watch: Watch,
    last: Assignment,
}

impl AssignmentWatch {
    /// What is assigned now.
    #[must_use]
    pub fn current(&self) -> Assignment {
        self.watch.held().assignment
    }

    /// The next assignment that is not the one this watch was made with, or told last; `None` when there will be none.
    /// Cancel safe.
    pub async fn changed(&mut self) -> Option<Assignment> {
        loop {
            let next = self.watch.changed().await?.assignment;
            if next != self.last {
                self.last = next.clone();
                return Some(next);
            }
        }
    }
}

/// What a shutdown left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it says whether something was left behind"]
pub struct PullShutdownReport {
    /// Whether everything was completed, saved and said within the deadline.
    pub complete: bool,
    /// Messages that were handed out and not completed, per queue: they are read again.
    pub open: Vec<(MessageQueue, u64)>,
    /// Positions that could not be saved: what lies between them and the saved ones is read again.
    pub unsaved: Checkpoint,
}

impl PullShutdownReport {
    /// For those who have nothing to do with it.
    pub fn ignore(self) {}
}
