//! Who waits for messages: a long poll parks here until something arrives for its group.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::engine::{FilterProgram, Millis, PopRequest, Wake, WakeReason};

/// Apache's `popPollingSize`.
const MAX_WAITERS: usize = 1024;

/// What a poll waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PollKey {
    pub(crate) topic: Arc<str>,
    pub(crate) broker: usize,
}

/// A pop, as it waits at a broker.
#[derive(Debug)]
pub(crate) struct Pop {
    pub(crate) proxy: usize,
    /// Which life of that proxy: a proxy that stopped takes its pops along.
    pub(crate) life: u64,
    pub(crate) group: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) broker: usize,
    pub(crate) filter: FilterProgram,
    pub(crate) max: usize,
    pub(crate) invisible: Millis,
    pub(crate) attempt_id: Option<String>,
    /// The proxy that renews the leases by itself, and its client.
    pub(crate) renewed_by: Option<(usize, Arc<str>)>,
}

impl Pop {
    pub(crate) fn request(&self) -> PopRequest<'_> {
        PopRequest {
            group: &self.group,
            topic: &self.topic,
            broker: self.broker,
            filter: &self.filter,
            max: self.max,
            invisible: self.invisible,
            attempt_id: self.attempt_id.as_deref(),
            renewed_by: self.renewed_by.clone(),
        }
    }
}

/// A poll whose caller has gone. Nobody tells the broker: it waits on, and takes messages that nobody wants.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) pop: Arc<Pop>,
    pub(crate) until: Millis,
}

#[derive(Debug)]
enum Parked {
    Waiter(oneshot::Sender<WakeReason>),
    Orphan(Orphan),
}

/// Those who wait, by number: the oldest is woken first.
type Waiters = BTreeMap<u64, Parked>;

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
        waiters.insert(self.next, Parked::Waiter(sender));
        Some((self.next, receiver))
    }

    /// The caller of a poll has gone.
    pub(crate) fn orphan(&mut self, key: &PollKey, group: &Arc<str>, number: u64, orphan: Orphan) {
        let waiters = self.waiting.get_mut(key).and_then(|groups| groups.get_mut(group));
        if let Some(parked) = waiters.and_then(|waiters| waiters.get_mut(&number)) {
            *parked = Parked::Orphan(orphan);
        }
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

    /// Wakes whom it concerns. Returns the polls without a caller whose turn it was; those that are not alive are passed over.
    pub(crate) fn wake(&mut self, wake: &Wake, alive: impl Fn(&Orphan) -> bool) -> Vec<Orphan> {
        let key = PollKey { topic: Arc::clone(&wake.topic), broker: wake.broker };
        let Some(groups) = self.waiting.get_mut(&key) else { return Vec::new() };
        match &wake.group {
            Some(group) => {
                groups.get_mut(group).into_iter().filter_map(|w| wake_some(w, wake.reason, &alive)).collect()
            }
            None => groups.values_mut().filter_map(|waiters| wake_some(waiters, wake.reason, &alive)).collect(),
        }
    }

    /// Forgets polls without a caller whose time is over.
    pub(crate) fn sweep(&mut self, now: Millis) {
        let is_over = |parked: &Parked| matches!(parked, Parked::Orphan(orphan) if orphan.until <= now);
        for groups in self.waiting.values_mut() {
            groups.values_mut().for_each(|waiters| waiters.retain(|_, parked| !is_over(parked)));
            groups.retain(|_, waiters| !waiters.is_empty());
        }
        self.waiting.retain(|_, groups| !groups.is_empty());
    }
}

/// One for a message, all of them when the broker stops. One that left in this moment is passed over.
fn wake_some(waiters: &mut Waiters, reason: WakeReason, alive: impl Fn(&Orphan) -> bool) -> Option<Orphan> {
    while let Some((_, parked)) = waiters.pop_first() {
        match parked {
            Parked::Orphan(orphan) if reason == WakeReason::Message && alive(&orphan) => return Some(orphan),
            Parked::Orphan(_) => {}
            Parked::Waiter(waiter) => {
                if waiter.send(reason).is_ok() && reason == WakeReason::Message {
                    return None;
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wake(group: Option<&str>, reason: WakeReason) -> Wake {
        Wake { topic: "t".into(), broker: 0, queue: None, group: group.map(Into::into), reason }
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
        assert!(pollers.wake(&wake(Some("a"), WakeReason::Message), |_| true).is_empty());
        assert_eq!((first.try_recv(), other.try_recv().is_err()), (Ok(WakeReason::Message), true));
        assert!(second.try_recv().is_err());
        pollers.leave(&key, &b, number);
        assert!(pollers.wake(&wake(None, WakeReason::BrokerStopped), |_| true).is_empty());
        assert_eq!(second.try_recv(), Ok(WakeReason::BrokerStopped));
        assert!(pollers.waiting.values().all(|groups| !groups.contains_key(&b)));
    }

    #[test]
    fn a_poll_whose_caller_has_gone_keeps_its_turn_until_its_time_is_over() {
        let (key, group): (_, Arc<str>) = (PollKey { topic: "t".into(), broker: 0 }, "g".into());
        let orphaned = |pollers: &mut Pollers| {
            let (number, _) = pollers.park(&key, &group).unwrap();
            pollers.orphan(&key, &group, number, Orphan { pop: pop(), until: 20 });
        };
        for (is_alive, taken) in [(true, 1), (false, 0)] {
            let mut pollers = Pollers::default();
            orphaned(&mut pollers);
            let (_, mut next) = pollers.park(&key, &group).unwrap();
            assert_eq!(pollers.wake(&wake(None, WakeReason::Message), |_| is_alive).len(), taken);
            assert_eq!(next.try_recv().is_ok(), !is_alive);
        }
        let mut pollers = Pollers::default();
        orphaned(&mut pollers);
        pollers.sweep(19);
        assert!(!pollers.waiting.is_empty());
        pollers.sweep(20);
        assert!(pollers.waiting.is_empty());
    }

    fn pop() -> Arc<Pop> {
        Arc::new(Pop {
            proxy: 0,
            life: 0,
            group: "g".into(),
            topic: "t".into(),
            broker: 0,
            filter: FilterProgram::All,
            max: 1,
            invisible: 10,
            attempt_id: None,
            renewed_by: None,
        })
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
