//! Asks the brokers where a queue begins and ends.

use std::sync::Arc;
use std::time::SystemTime;

use crate::consumer::pull::brokers::{Brokers, locate};
use crate::consumer::pull::desk::Place;
use crate::consumer::pull::planner::Stop;
use crate::consumer::pull::shared::Shared;
use crate::consumer::pull::start::Choice;
use crate::error::{Error, Result};
use crate::model::{Endpoint, Filter, MessageQueue, Offset, StopAt};
use crate::transport::{PullRequest, QueueBound};

/// How far before a time stamp's offset is looked at most: an index that points too late is off by a few (trap P13).
const STEPS: u32 = 6;

/// Who asks, about what, and where.
pub(crate) struct Question<'a> {
    brokers: &'a dyn Brokers,
    group: &'a Arc<str>,
    queue: &'a MessageQueue,
    at: Endpoint,
}

impl<'a> Question<'a> {
    pub(crate) async fn about(shared: &'a Shared, queue: &'a MessageQueue) -> Result<Self> {
        let brokers = &*shared.brokers;
        let at = locate(brokers, queue, None).await?;
        Ok(Self { brokers, group: &shared.group, queue, at })
    }

    fn told<T>(&self, answer: Result<T>) -> Result<T> {
        answer.inspect_err(|error| self.brokers.report(&self.at, error)).map_err(|error| error.on_queue(self.queue))
    }

    pub(crate) async fn committed(&self) -> Result<Option<Offset>> {
        self.told(self.brokers.wire().committed(&self.at, self.group, self.queue).await)
    }

    pub(crate) async fn bound(&self, bound: QueueBound) -> Result<Offset> {
        self.told(self.brokers.wire().bound(&self.at, self.queue, bound).await)
    }

    pub(crate) async fn offset_at(&self, time: SystemTime) -> Result<Offset> {
        self.told(self.brokers.wire().offset_at(&self.at, self.queue, time).await)
    }

    /// Where reading begins so that no message that was stored at `time` or later is missed. The broker's answer is looked
    /// behind: when the message before is not older, the index pointed too late.
    pub(crate) async fn place_at(&self, time: SystemTime) -> Result<Place> {
        let mut at = self.offset_at(time).await?;
        let first = self.bound(QueueBound::Min).await?;
        for step in 0..STEPS {
            if at <= first || self.is_older(Offset::new(at.get() - 1), time).await? {
                break;
            }
            at = Offset::new(at.get().saturating_sub(8 << (2 * step))).max(first);
        }
        Ok(Place { not_before: Some(time), ..Place::at(at) })
    }

    async fn is_older(&self, offset: Offset, time: SystemTime) -> Result<bool> {
        let request = PullRequest {
            group: Arc::clone(self.group),
            queue: self.queue.clone(),
            offset,
            filter: Filter::all(),
            max_messages: 1,
            suspend: None,
        };
        let pulled = self.told(self.brokers.wire().pull(&self.at, &request).await)?;
        let stored = pulled.messages.first().and_then(|message| message.store_timestamp());
        Ok(stored.is_none_or(|stored| stored < time))
    }

    /// The first of the places that there is.
    pub(crate) async fn place(&self, choices: &[Choice]) -> Result<Place> {
        for choice in choices {
            let at = match *choice {
                Choice::At(offset) => return Ok(Place::at(offset)),
                Choice::First => self.bound(QueueBound::Min).await?,
                Choice::End => self.bound(QueueBound::Max).await?,
                Choice::Time(time) => return Ok(Place { is_by_itself: true, ..self.place_at(time).await? }),
                Choice::LargerOf(own) => {
                    let committed = self.committed().await?;
                    return Ok(Place { committed, ..Place::at(committed.map_or(own, |committed| own.max(committed))) });
                }
                Choice::Committed => match self.committed().await? {
                    Some(committed) => return Ok(Place { committed: Some(committed), ..Place::at(committed) }),
                    None => continue,
                },
            };
            return Ok(Place { is_by_itself: true, ..Place::at(at) });
        }
        Err(Error::argument("start_from", self.queue, "names no place to begin"))
    }

    pub(crate) async fn stop(&self, stop: &StopAt, start: Offset) -> Result<Stop> {
        Ok(match stop {
            StopAt::Now => Stop { at: self.bound(QueueBound::Max).await?, even_if_short: true },
            StopAt::Timestamp(time) => Stop { at: self.offset_at(*time).await?, even_if_short: true },
            StopAt::Offsets(offsets) => {
                Stop { at: offsets.get(self.queue).copied().unwrap_or(start), even_if_short: false }
            }
        })
    }
}
