use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};

use crate::checkpoint::Standing;
use crate::clock;
use crate::consumer::pull::resolve::Question;
use crate::consumer::pull::shared::{Known, Shared};
use crate::error::Result;
use crate::model::{MessageQueue, Offset, OffsetRange};
use crate::transport::QueueBound;

/// Queues whose lag is asked for at once; each takes three questions.
pub(super) const AT_ONCE: usize = 16;

/// How far one queue is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLag {
    /// The queue.
    pub queue: MessageQueue,
    /// The offset that was committed last, as far as it is known here.
    pub committed: Option<Offset>,
    /// Everything below is completed.
    pub low_mark: Offset,
    /// The first offset that was not handed out.
    pub next: Offset,
    /// The first offset that is still there, if a broker has told.
    pub min: Option<Offset>,
    /// The offset that will be written next, if a broker has told.
    pub max: Option<Offset>,
    /// Messages that are not committed and still there: `max − max(committed, min)`. Expired messages are no lag.
    pub lag: Option<u64>,
    /// Messages that were handed out and are not completed.
    pub open: u64,
    /// How long the oldest of them has been out.
    pub oldest_open: Option<Duration>,
    /// What holds the low mark: the offsets of the oldest open piece.
    pub blocked_by: Option<OffsetRange>,
}

/// Expired messages are not lag (trap P20).
pub(crate) fn lag(committed: Option<Offset>, known: Known) -> Option<u64> {
    let from = committed.max(known.min)?;
    Some(known.max?.get().saturating_sub(from.get()))
}

fn of(queue: MessageQueue, standing: Standing, committed: Option<Offset>, known: Known, now: Instant) -> QueueLag {
    QueueLag {
        queue,
        committed,
        low_mark: standing.low_mark,
        next: standing.position,
        min: known.min,
        max: known.max,
        lag: lag(committed, known),
        open: standing.open,
        oldest_open: standing.oldest_since.map(|since| now.saturating_duration_since(since)),
        blocked_by: standing.blocking,
    }
}

/// The lag of a consumer's queues, again and again; from [`PullControl::lag`](crate::PullControl::lag).
#[derive(Debug, Clone)]
pub struct LagWatch {
    shared: Arc<Shared>,
    every: Duration,
}

impl LagWatch {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared, every: Duration::from_secs(1) }
    }

    /// How long [`changed`](Self::changed) waits. Defaults to 1 s.
    #[must_use]
    pub const fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// As far as it is known now, without asking anybody: what the last pull of each queue told.
    #[must_use]
    pub fn current(&self) -> Vec<QueueLag> {
        let shared = &self.shared;
        let now = clock::now();
        let standings = shared.ledger.standings().into_iter();
        let lags = standings.map(|(queue, standing)| {
            let known = shared.ends.get(&queue);
            // Who only looks on has committed nothing, and knows what the broker said.
            let committed = shared.committer.committed(&queue).or(known.committed);
            of(queue, standing, committed, known, now)
        });
        lags.collect()
    }

    /// Asks the brokers for the ends and the committed offset of every queue, of some at a time; one that does not answer
    /// stays as it was known. Cancel safe.
    pub async fn refreshed(&self) -> Vec<QueueLag> {
        let queues = self.shared.desk.owned();
        let asked = queues.iter().map(|queue| async move {
            if let Err(error) = refresh(&self.shared, queue).await {
                tracing::debug!(%queue, %error, "the lag of a queue could not be asked for");
            }
        });
        stream::iter(asked).buffer_unordered(AT_ONCE).for_each(|()| std::future::ready(())).await;
        self.current()
    }

    /// After the interval, asked anew. Cancel safe.
    pub async fn changed(&self) -> Vec<QueueLag> {
        clock::sleep(self.every).await;
        self.refreshed().await
    }
}

async fn refresh(shared: &Shared, queue: &MessageQueue) -> Result<()> {
    let question = Question::about(shared, queue).await?;
    let before = shared.committer.committed(queue);
    let (min, max, committed) = futures_util::try_join!(
        question.bound(QueueBound::Min),
        question.bound(QueueBound::Max),
        question.committed()
    )?;
    shared.ends.note(queue, (Some(min), Some(max)));
    shared.ends.note_committed(queue, committed);
    if before.is_some() {
        shared.committer.found(queue, before, committed); // a broker that forgot is told again (trap P23)
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p20_expired_messages_are_no_lag() {
        let known =
            |min: u64, max: u64| Known { min: Some(Offset::new(min)), max: Some(Offset::new(max)), committed: None };
        for (committed, known, expected) in [
            (Some(40), known(10, 100), Some(60)),
            (Some(4), known(10, 100), Some(90)),
            (None, known(10, 100), Some(90)),
            (Some(120), known(10, 100), Some(0)),
            (Some(40), Known { max: Some(Offset::new(50)), ..Known::default() }, Some(10)),
            (Some(40), Known::default(), None),
            (None, Known { max: Some(Offset::new(50)), ..Known::default() }, None),
        ] {
            assert_eq!(lag(committed.map(Offset::new), known), expected, "{committed:?} {known:?}");
        }
    }
}
