//! Leases of normal groups: which message is hidden from whom until when.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::content::{Millis, Record};
use super::renew::Renewer;

/// One handed-out copy of a message.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) group: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) broker: usize,
    pub(crate) record: Record,
    pub(crate) expires: Millis,
    /// Its end costs no delivery attempt.
    pub(crate) suspended: bool,
    pub(crate) renewer: Option<Renewer>,
}

/// All leases, by number and by the time they end.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    held: HashMap<u64, Lease>,
    ends: BTreeSet<(Millis, u64)>,
    next: u64,
    /// Leases up to this number were ended by a fault: their handles count as expired, whatever time they carry.
    ended: u64,
}

impl Leases {
    pub(crate) fn grant(&mut self, lease: Lease) -> u64 {
        self.next += 1;
        self.ends.insert((lease.expires, self.next));
        self.held.insert(self.next, lease);
        self.next
    }

    /// Ends all leases there are; their handles are expired from now on.
    pub(crate) fn end_all(&mut self, at: Millis) -> usize {
        self.ended = self.next;
        self.cut(at, |_| true)
    }

    pub(crate) fn was_ended(&self, id: u64) -> bool {
        id <= self.ended
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Lease> {
        self.held.get(&id)
    }

    /// Ends a lease early; `None` when it has ended already.
    pub(crate) fn settle(&mut self, id: u64) -> Option<Lease> {
        let lease = self.held.remove(&id)?;
        self.ends.remove(&(lease.expires, id));
        Some(lease)
    }

    /// Removes and returns one lease that is over, after renewing those a proxy renews.
    pub(crate) fn expire(&mut self, now: Millis) -> Option<Lease> {
        loop {
            let &(end, id) = self.ends.first().filter(|(end, _)| *end <= now)?;
            self.ends.pop_first();
            let lease = self.held.get_mut(&id)?;
            match lease.renewer.as_mut().and_then(|renewer| renewer.renew(now)) {
                Some(longer) => {
                    lease.expires = end.max(now) + longer;
                    self.ends.insert((lease.expires, id));
                }
                None => return self.held.remove(&id),
            }
        }
    }

    pub(crate) fn forget_topic(&mut self, topic: &str) {
        self.held.retain(|_, lease| *lease.topic != *topic);
        self.ends.retain(|(_, id)| self.held.contains_key(id));
    }

    pub(crate) fn next_end(&self) -> Option<Millis> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Shortens the matching leases and ends their renewal. Returns how many there are.
    pub(crate) fn cut(&mut self, at: Millis, matches: impl Fn(&Lease) -> bool) -> usize {
        let mut count = 0;
        for (id, lease) in self.held.iter_mut().filter(|(_, lease)| matches(lease)) {
            self.ends.remove(&(lease.expires, *id));
            lease.expires = lease.expires.min(at);
            lease.renewer = None;
            self.ends.insert((lease.expires, *id));
            count += 1;
        }
        count
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.held.values()
    }
}
