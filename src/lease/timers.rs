//! When to look at which lease next.
//!
//! Most leases are settled long before their timer, so timers are not removed one by one: those of gone leases stay as
//! stale entries until they are due, or until they outnumber the live ones and all go at once. That keeps the memory in
//! proportion to the leases that are held, at a constant cost per lease.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::lease::slab::SlotId;

/// Below this many stale entries a rebuild is not worth it.
const REBUILD_FROM: usize = 1024;

#[derive(Debug)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, SlotId)>>,
    stale: usize,
}

impl Timers {
    pub(super) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), stale: 0 }
    }

    pub(super) fn set(&mut self, at: Instant, id: SlotId) {
        self.heap.push(Reverse((at, id)));
    }

    /// A timer set before no longer counts. `live` tells of an entry whether its lease still waits for it.
    pub(super) fn unset(&mut self, live: impl Fn(SlotId, Instant) -> bool) {
        self.stale += 1;
        let alive = self.heap.len() - self.stale.min(self.heap.len());
        if self.stale >= REBUILD_FROM && self.stale > alive {
            self.heap.retain(|&Reverse((at, id))| live(id, at));
            self.stale = 0;
        }
    }

    /// The next entry that is due, stale or not.
    pub(super) fn due(&mut self, now: Instant) -> Option<(SlotId, Instant)> {
        let &Reverse((at, id)) = self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop();
        Some((id, at))
    }

    /// What [`due`](Self::due) gave was stale.
    pub(super) fn was_stale(&mut self) {
        self.stale = self.stale.saturating_sub(1);
    }

    /// Not later than the next live entry.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|&Reverse((at, _))| at)
    }

    pub(super) fn clear(&mut self) {
        self.heap.clear();
        self.stale = 0;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::lease::slab::Slab;

    /// So many timers at one time.
    fn timers(count: usize) -> (Timers, Instant, Slab<()>) {
        let (mut timers, at, mut ids) = (Timers::new(), clock::now(), Slab::new());
        (0..count).for_each(|_| timers.set(at, ids.insert(())));
        (timers, at, ids)
    }

    fn unset(timers: &mut Timers, count: usize) {
        (0..count).for_each(|_| timers.unset(|_, _| false));
    }

    #[test]
    fn stale_entries_stay_until_there_are_many_and_they_outnumber_the_live_ones() {
        let (mut few, ..) = timers(REBUILD_FROM + 10);
        unset(&mut few, REBUILD_FROM - 1);
        assert_eq!(few.len(), REBUILD_FROM + 10, "a rebuild is not worth it");
        unset(&mut few, 1);
        assert_eq!(few.len(), 0);
        let (mut many, ..) = timers(2 * REBUILD_FROM);
        unset(&mut many, REBUILD_FROM);
        assert_eq!(many.len(), 2 * REBUILD_FROM, "as many are live as are stale");
        unset(&mut many, 1);
        assert_eq!(many.len(), 0);
    }

    #[test]
    fn a_rebuild_keeps_what_is_live() {
        let (mut timers, at, mut ids) = timers(REBUILD_FROM);
        let live = ids.insert(());
        timers.set(at, live);
        (0..REBUILD_FROM).for_each(|_| timers.unset(|id, _| id == live));
        assert_eq!((timers.len(), timers.due(at)), (1, Some((live, at))));
    }

    #[test]
    fn a_stale_entry_whose_time_has_come_is_not_counted_any_more() {
        let (mut timers, at, mut ids) = timers(REBUILD_FROM - 1);
        unset(&mut timers, REBUILD_FROM - 1);
        while timers.due(at).is_some() {
            timers.was_stale();
        }
        timers.set(at, ids.insert(()));
        unset(&mut timers, 1);
        assert_eq!(timers.len(), 1, "one stale entry is not worth a rebuild");
    }
}
