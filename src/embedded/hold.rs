//! Pulls that wait: a request for a place where nothing is yet is held until something comes there.

use std::time::Duration;

use tokio::sync::futures::OwnedNotified;

use super::cluster::Cluster;
use super::engine::{Pull, PullRequest, PullStatus, Refusal};
use crate::clock;

/// How often a held pull is looked at although nothing came that its filter takes (Apache's hold service).
const HOLD_CHECK: Duration = Duration::from_secs(5);

impl Cluster {
    /// Pulls; what it hears next at this queue is told by the future.
    fn pull(&self, request: &PullRequest<'_>) -> Result<(Pull, OwnedNotified), Refusal> {
        let now = self.now();
        let mut state = self.lock();
        state.engine.advance(now);
        let pull = state.engine.pull(request, now);
        self.finish(&mut state, now);
        let pull = pull?;
        // `pull` has found the queue, so its number is good.
        let arrival = state.arrivals.listen(request.topic, request.broker, request.queue as u32);
        Ok((pull, arrival))
    }

    /// Pulls, and waits at most so long when there is nothing yet. Everything else is answered at once. What comes and is
    /// filtered away ends no wait but at the next check, as on Apache.
    pub(crate) async fn pull_or_wait(&self, request: &PullRequest<'_>, suspend: Duration) -> Result<Pull, Refusal> {
        let until = clock::now() + suspend;
        let (mut pull, mut arrival) = self.pull(request)?;
        if !pull.may_wait() {
            return Ok(pull);
        }
        let mut check = clock::now() + HOLD_CHECK;
        while clock::now() < until {
            let left = until.min(check).saturating_duration_since(clock::now());
            let heard = clock::timeout(left, arrival).await.is_some();
            (pull, arrival) = self.pull(request)?;
            let goes_on = pull.may_wait() || (heard && pull.status == PullStatus::NoMatched);
            if !goes_on {
                break;
            }
            if !heard {
                check = clock::now() + HOLD_CHECK;
            }
        }
        Ok(pull)
    }
}
