//! When to look at which leases next.
//!
//! Messages that arrived together run out together, so they share a timer. Most leases are settled long before it: a timer
//! that nobody waits for any more stays in the queue as a stale entry until it is due, or until stale ones outnumber the
//! others and all go at once. That keeps the memory in proportion to the leases that are held, at a constant cost per lease.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::lease::slab::{Slab, SlotId};

/// Below this many stale entries a rebuild is not worth it.
const REBUILD_FROM: usize = 1024;

/// Leases that share a timer at most: one that is held for long keeps the names of so many others.
const SHARED_BY: usize = 64;

/// The name of a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerId(SlotId);

#[derive(Debug)]
struct Timer {
    at: Instant,
    /// Those who were set to it, also those who wait no longer.
    leases: Vec<SlotId>,
    waiting: usize,
}

#[derive(Debug)]
pub(super) struct Timers {
    timers: Slab<Timer>,
    queue: BinaryHeap<Reverse<(Instant, TimerId)>>,
    /// How many entries of the queue name a timer that is gone.
    stale: usize,
    /// The one that was set last.
    last: Option<TimerId>,
}

impl Timers {
    pub(super) const fn new() -> Self {
        Self { timers: Slab::new(), queue: BinaryHeap::new(), stale: 0, last: None }
    }

    pub(super) fn set(&mut self, at: Instant, lease: SlotId) -> TimerId {
        if let Some(last) = self.last
            && let Some(timer) = self.timers.get_mut(last.0)
            && timer.at == at
            && timer.leases.len() < SHARED_BY
        {
            if timer.leases.len() == 1 {
                timer.leases.reserve_exact(SHARED_BY - 1); // there will be more
            }
            timer.leases.push(lease);
            timer.waiting += 1;
            return last;
        }
        let timer = TimerId(self.timers.insert(Timer { at, leases: vec![lease], waiting: 1 }));
        self.queue.push(Reverse((at, timer)));
        self.last = Some(timer);
        timer
    }

    /// One of those who wait for it waits no longer.
    pub(super) fn unset(&mut self, timer: TimerId) {
        let Some(Timer { waiting, .. }) = self.timers.get_mut(timer.0) else { return };
        *waiting -= 1;
        if *waiting > 0 {
            return;
        }
        self.timers.discard(timer.0);
        self.stale += 1;
        if self.stale >= REBUILD_FROM && self.stale > self.queue.len() - self.stale {
            let timers = &self.timers;
            self.queue.retain(|Reverse((_, timer))| timers.get(timer.0).is_some());
            self.stale = 0;
        }
    }

    /// When a timer is due, if it is not gone.
    pub(super) fn time_of(&self, timer: TimerId) -> Option<Instant> {
        self.timers.get(timer.0).map(|timer| timer.at)
    }

    /// The next timer that is due, and those who were set to it, also those who wait no longer. It is gone then.
    pub(super) fn due(&mut self, now: Instant) -> Option<(TimerId, Vec<SlotId>)> {
        loop {
            let &Reverse((at, id)) = self.queue.peek()?;
            if at > now {
                return None;
            }
            self.queue.pop();
            match self.timers.take(id.0) {
                Some(timer) => return Some((id, timer.leases)),
                None => self.stale -= 1,
            }
        }
    }

    /// Not later than the next timer.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|&Reverse((at, _))| at)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    /// So many leases, and a time.
    fn leases(count: usize) -> (Vec<SlotId>, Instant) {
        let mut slab = Slab::new();
        ((0..count).map(|_| slab.insert(())).collect(), clock::now())
    }

    /// So many timers, each at another time.
    fn timers(count: usize) -> (Timers, Vec<TimerId>, Instant) {
        let ((leases, start), mut timers) = (leases(count), Timers::new());
        let at = |index: usize| start + Duration::from_millis(index as u64);
        let ids = leases.iter().enumerate().map(|(index, &lease)| timers.set(at(index), lease)).collect();
        (timers, ids, at(count))
    }

    fn unset(timers: &mut Timers, ids: &[TimerId]) {
        ids.iter().for_each(|&id| timers.unset(id));
    }

    #[test]
    fn those_of_one_time_share_a_timer_up_to_a_bound() {
        let ((leases, at), mut timers) = (leases(SHARED_BY + 1), Timers::new());
        let ids: Vec<_> = leases.iter().map(|&lease| timers.set(at, lease)).collect();
        assert!(ids[..SHARED_BY].iter().all(|id| *id == ids[0]));
        assert_ne!(ids[SHARED_BY], ids[0]);
        assert_eq!(timers.len(), 2);
        let first = timers.due(at).unwrap();
        assert_eq!(first, (ids[0], leases[..SHARED_BY].to_vec()));
        assert_eq!(timers.due(at).unwrap().1, leases[SHARED_BY..]);
        assert_eq!((timers.due(at), timers.next()), (None, None));
    }

    #[test]
    fn a_timer_is_due_at_its_time_and_not_before_and_the_earlier_one_first() {
        let ((leases, at), mut timers, second) = (leases(3), Timers::new(), Duration::from_secs(1));
        let late = timers.set(at + second, leases[0]);
        let early = timers.set(at, leases[1]);
        let other = timers.set(at + second, leases[2]);
        assert_ne!(late, other, "another one was set between them");
        assert_eq!((timers.next(), timers.time_of(late)), (Some(at), Some(at + second)));
        assert_eq!(timers.due(at - second), None);
        assert_eq!(timers.due(at), Some((early, vec![leases[1]])));
        assert_eq!(timers.due(at), None);
        assert_eq!(timers.time_of(early), None, "it is gone");
        timers.unset(early);
        assert!(timers.due(at + second).is_some() && timers.due(at + second).is_some());
    }

    #[test]
    fn a_timer_stays_as_long_as_one_waits_for_it() {
        let ((leases, at), mut timers) = (leases(2), Timers::new());
        let timer = timers.set(at, leases[0]);
        assert_eq!(timers.set(at, leases[1]), timer);
        timers.unset(timer);
        assert_eq!(timers.time_of(timer), Some(at));
        timers.unset(timer);
        assert_eq!(timers.time_of(timer), None);
        assert_eq!(timers.due(at), None, "nobody waits");
        let next = timers.set(at, leases[0]);
        assert_eq!(timers.due(at), Some((next, vec![leases[0]])));
    }

    #[test]
    fn stale_entries_stay_until_there_are_many_and_they_outnumber_the_live_ones() {
        let (mut few, ids, _) = timers(REBUILD_FROM + 10);
        unset(&mut few, &ids[..REBUILD_FROM - 1]);
        assert_eq!(few.len(), REBUILD_FROM + 10, "a rebuild is not worth it");
        unset(&mut few, &ids[REBUILD_FROM - 1..REBUILD_FROM]);
        assert_eq!(few.len(), 10);
        let (mut many, ids, _) = timers(2 * REBUILD_FROM);
        unset(&mut many, &ids[..REBUILD_FROM]);
        assert_eq!(many.len(), 2 * REBUILD_FROM, "as many are live as are stale");
        unset(&mut many, &ids[REBUILD_FROM..=REBUILD_FROM]);
        assert_eq!(many.len(), REBUILD_FROM - 1);
    }

    #[test]
    fn a_stale_entry_whose_time_has_come_is_not_counted_any_more() {
        let (mut timers, ids, end) = timers(REBUILD_FROM - 1);
        unset(&mut timers, &ids);
        assert_eq!(timers.due(end), None);
        assert_eq!(timers.len(), 0);
        let (leases, at) = leases(1);
        let timer = timers.set(at, leases[0]);
        timers.unset(timer);
        assert_eq!(timers.len(), 1, "one stale entry is not worth a rebuild");
    }
}
