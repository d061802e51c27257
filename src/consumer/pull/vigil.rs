//! Looks after what brokers have committed when they come back; nobody needs to ask for the lag (trap P23).

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use tokio::sync::watch;

use crate::clock;
use crate::consumer::pull::brokers::known_masters;
use crate::consumer::pull::resolve::Question;
use crate::consumer::pull::returns::{Contact, Returns};
use crate::consumer::pull::shared::Shared;
use crate::error::Result;
use crate::model::MessageQueue;
use crate::retry::Backoff;

/// Queues that are asked about at once: a broker that has just started has better things to do.
const AT_ONCE: usize = 4;

/// Waits between tries of what got no answer.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Until the consumer is gone.
pub(crate) async fn keep(shared: Weak<Shared>, mut changes: watch::Receiver<u64>) {
    let mut returns = Returns::default();
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    loop {
        changes.mark_unchanged();
        let Some(shared) = shared.upgrade() else { return };
        let asked = returns.see(&contacts(&shared), shared.desk.owned());
        let count = asked.len();
        let compared = compare_all(&shared, asked).await;
        drop(shared);
        returns.compared(&compared);
        if compared.len() < count {
            clock::sleep(backoff.next(fastrand::f64())).await;
            continue;
        }
        backoff.reset();
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// The brokers of all topics whose master this client is known to.
fn contacts(shared: &Shared) -> BTreeMap<Arc<str>, Contact> {
    let brokers = &*shared.brokers;
    let masters = shared.desk.subscriptions().into_iter().flat_map(|one| known_masters(brokers, &one.topic));
    let known = masters.filter_map(|(broker, at)| {
        let handshake = brokers.handshake(&at)?;
        Some((broker, Contact { at, handshake }))
    });
    known.collect()
}

/// Those that were answered.
async fn compare_all(shared: &Shared, queues: Vec<MessageQueue>) -> Vec<MessageQueue> {
    let asked = queues.into_iter().map(|queue| async move {
        match compare(shared, &queue).await {
            Ok(()) => Some(queue),
            Err(error) => {
                tracing::debug!(%queue, %error, "what is committed could not be compared");
                None
            }
        }
    });
    stream::iter(asked).buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
}

/// Nobody is asked of a queue of which nothing was acknowledged.
async fn compare(shared: &Shared, queue: &MessageQueue) -> Result<()> {
    let Some(before) = shared.committer.committed(queue) else { return Ok(()) };
    let found = Question::about(shared, queue).await?.committed().await?;
    shared.ends.note_committed(queue, found);
    shared.committer.found(queue, Some(before), found);
    Ok(())
}
