//! Who waits for messages: a long poll parks here until something arrives for its group.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::engine::{Wake, WakeReason};

/// Apache's `popPollingSize`.
const MAX_WAITERS: usize = 1024;

/// What a poll waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PollKey {
    pub(crate) topic: Arc<str>,
    pub(crate) broker: usize,
}

/// Waiters by number: the oldest is woken first.
type Waiters = BTreeMap<u64, oneshot::Sender<WakeReason>>;

#[derive(Debug, Default)]
pub(crate) struct Pollers {
    waiting: HashMap<PollKey, HashMap<Arc<str>, Waiters>>,
    next: u64,
}

impl Pollers {
    /// `None`: too many wait already.
    pub(crate) fn park(&mut self, key: &PollKey, group: &Arc<str>) -> Option<(u64, oneshot::Receiver<WakeReason>)> {
        let waiters = self.waiting.entry(key.clone()).or_default().entry(Arc::clone(group)).or_default();
        if waiters.len() >= MAX_WAITERS {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        self.next += 1;
        waiters.insert(self.next, sender);
        Some((self.next, receiver))
    }

    pub(crate) fn leave(&mut self, key: &PollKey, group: &Arc<str>, number: u64) {
        let Some(groups) = self.waiting.get_mut(key) else { return };
        let Some(waiters) = groups.get_mut(group) else { return };
        waiters.remove(&number);
        if waiters.is_empty() {
            groups.remove(group);
        }
        if groups.is_empty() {
            self.waiting.remove(key);
        }
    }

    pub(crate) fn wake(&mut self, wake: &Wake) {
        let key = PollKey { topic: Arc::clone(&wake.topic), broker: wake.broker };
        let Some(groups) = self.waiting.get_mut(&key) else { return };
        match &wake.group {
            Some(group) => groups.get_mut(group).into_iter().for_each(|waiters| wake_some(waiters, wake.reason)),
            None => groups.values_mut().for_each(|waiters| wake_some(waiters, wake.reason)),
        }
    }
}

/// One waiter for a message, all of them when the broker stops. One that left in this moment is passed over.
fn wake_some(waiters: &mut Waiters, reason: WakeReason) {
    while let Some((_, waiter)) = waiters.pop_first() {
        if waiter.send(reason).is_ok() && reason == WakeReason::Message {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wake(group: Option<&str>, reason: WakeReason) -> Wake {
        Wake { topic: "t".into(), broker: 0, group: group.map(Into::into), reason }
    }

    #[test]
    fn a_message_wakes_the_oldest_waiter_of_each_group_that_is_still_there() {
        let mut pollers = Pollers::default();
        let key = PollKey { topic: "t".into(), broker: 0 };
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let (_, gone) = pollers.park(&key, &a).unwrap();
        drop(gone);
        let (_, mut first) = pollers.park(&key, &a).unwrap();
        let (_, mut second) = pollers.park(&key, &a).unwrap();
        let (number, mut other) = pollers.park(&key, &b).unwrap();
        pollers.wake(&wake(Some("a"), WakeReason::Message));
        assert_eq!((first.try_recv(), other.try_recv().is_err()), (Ok(WakeReason::Message), true));
        assert!(second.try_recv().is_err());
        pollers.leave(&key, &b, number);
        pollers.wake(&wake(None, WakeReason::BrokerStopped));
        assert_eq!(second.try_recv(), Ok(WakeReason::BrokerStopped));
        assert!(pollers.waiting.values().all(|groups| !groups.contains_key(&b)));
    }

    #[test]
    fn polling_is_full_at_apaches_bound() {
        let mut pollers = Pollers::default();
        let key = PollKey { topic: "t".into(), broker: 0 };
        let group: Arc<str> = "g".into();
        let parked: Vec<_> = (0..MAX_WAITERS).map(|_| pollers.park(&key, &group).unwrap()).collect();
        assert!(pollers.park(&key, &group).is_none());
        pollers.leave(&key, &group, parked[0].0);
        assert!(pollers.park(&key, &group).is_some());
    }
}
