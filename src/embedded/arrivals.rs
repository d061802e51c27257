//! Who waits for messages by offset: every waiter of a queue hears of each message that comes there, and looks for itself.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::engine::{Wake, WakeReason};

/// The queues of one topic on one broker.
type Place = (Arc<str>, usize);

/// A bell for each queue that somebody has waited at.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    bells: HashMap<Place, HashMap<u32, Arc<Notify>>>,
}

impl Arrivals {
    /// Ready when something has happened at the queue after this call.
    pub(crate) fn listen(&mut self, topic: &str, broker: usize, queue: u32) -> OwnedNotified {
        let queues = self.bells.entry((topic.into(), broker)).or_default();
        Arc::clone(queues.entry(queue).or_default()).notified_owned()
    }

    /// A message came, or the broker went away.
    pub(crate) fn ring(&self, wake: &Wake) {
        let Some(queues) = self.bells.get(&(Arc::clone(&wake.topic), wake.broker)) else { return };
        match (wake.reason, wake.queue) {
            (WakeReason::Message, Some(queue)) => queues.get(&queue).into_iter().for_each(|bell| bell.notify_waiters()),
            (WakeReason::Message, None) => {}
            (WakeReason::BrokerStopped, _) => queues.values().for_each(|bell| bell.notify_waiters()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn wake(queue: Option<u32>, reason: WakeReason) -> Wake {
        Wake { topic: "t".into(), broker: 0, queue, group: None, reason }
    }

    #[test]
    fn everyone_at_a_queue_hears_of_a_message_and_nobody_elsewhere() {
        let mut arrivals = Arrivals::default();
        let (here, beside) = (arrivals.listen("t", 0, 1), arrivals.listen("t", 0, 1));
        let (other_queue, other_broker) = (arrivals.listen("t", 0, 2), arrivals.listen("t", 1, 1));
        arrivals.ring(&wake(Some(1), WakeReason::Message));
        assert!(here.now_or_never().is_some() && beside.now_or_never().is_some());
        assert!(other_queue.now_or_never().is_none() && other_broker.now_or_never().is_none());
        assert!(arrivals.listen("t", 0, 1).now_or_never().is_none(), "it came before this one listened");
    }

    #[test]
    fn a_redelivery_wakes_no_puller_and_a_stopped_broker_all_of_them() {
        let mut arrivals = Arrivals::default();
        let waiting = [arrivals.listen("t", 0, 1), arrivals.listen("t", 0, 2)];
        arrivals.ring(&wake(None, WakeReason::Message));
        arrivals.ring(&wake(None, WakeReason::BrokerStopped));
        assert!(waiting.into_iter().all(|waiter| waiter.now_or_never().is_some()));
        let waiter = arrivals.listen("t", 0, 1);
        arrivals.ring(&wake(None, WakeReason::Message));
        assert!(waiter.now_or_never().is_none());
    }
}
