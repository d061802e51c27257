//! Answers what brokers ask of a member of a group, most of it on behalf of an administrator.

use std::sync::{Arc, Weak};

use tokio::sync::mpsc;

use crate::consumer::pull::desk::Place;
use crate::consumer::pull::events::PullEvent;
use crate::consumer::pull::shared::Shared;
use crate::model::{MessageQueue, Offset};
use crate::transport::{ConsumerInfo, GroupRequest, QueueProgress};

/// Until nobody can ask any more, or the consumer is gone.
pub(crate) async fn answer(shared: Weak<Shared>, mut requests: mpsc::Receiver<GroupRequest>) {
    while let Some(request) = requests.recv().await {
        let Some(shared) = shared.upgrade() else { return };
        match request {
            GroupRequest::ResetOffsets { offsets, reply } => {
                reset(&shared, offsets).await;
                reply.send(());
            }
            GroupRequest::Positions { topic, reply } => {
                let marks = shared.ledger.checkpoint();
                let of_topic = marks.iter().filter(|(queue, _)| queue.topic() == &*topic);
                reply.send(of_topic.map(|(queue, next)| (queue.clone(), next)).collect());
            }
            GroupRequest::Describe { reply } => reply.send(describe(&shared)),
        }
    }
}

/// Follows the reset, and commits it. What we knew ourselves of a queue counts no more, also of one that is not ours now.
async fn reset(shared: &Arc<Shared>, offsets: Vec<(MessageQueue, Offset)>) {
    for (queue, to) in offsets {
        shared.own().remove(&queue);
        let from = shared.ledger.queue(&queue).map(|ledger| ledger.standing().position);
        match shared.desk.move_to(&queue, Place::at(to)) {
            Ok(()) => shared.tell(PullEvent::Reset { queue, from: from.unwrap_or(to), to }),
            Err(error) => tracing::debug!(%error, "a reset of a queue that is not ours"),
        }
    }
    if let Err(error) = shared.committer.flush().await {
        tracing::warn!(group = %shared.group, %error, "the reset offsets are not committed yet");
    }
}

fn describe(shared: &Shared) -> ConsumerInfo {
    let queues = shared.ledger.standings().into_iter().map(|(queue, standing)| {
        let committed = shared.committer.committed(&queue);
        let progress = QueueProgress {
            committed: committed.or(Some(standing.low_mark)),
            cached: (standing.open > 0).then_some(standing.low_mark..standing.position),
            cached_messages: usize::try_from(standing.open).unwrap_or(usize::MAX),
            ..QueueProgress::default()
        };
        (queue, progress)
    });
    ConsumerInfo {
        started: shared.options.started,
        subscriptions: shared.desk.subscriptions(),
        queues: queues.collect(),
    }
}
