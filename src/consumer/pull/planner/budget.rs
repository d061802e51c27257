//! How much may be asked for: one budget over all queues, in messages and in bytes (trap P16).
//!
//! A queue that is *behind* has messages waiting: its pull is answered at once, so what it asks for is reserved. A queue at
//! its *tail* keeps a long poll parked for many seconds, and most likely gets one message: it has a small share of its own
//! that no other queue can take, so an idle queue is never starved by busy ones. What comes heavier than was reserved is
//! dropped when there is no room for it, and pulled again later: pulling twice costs nothing but the wire.

use super::step::Options;

/// What an Apache broker gives at most by default; more is asked for as soon as a server gave so many.
const USUAL: u32 = 32;

/// So many pulls at once may ask for one message each before the size of any is known.
const BLIND: usize = 64;

/// Messages and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Load {
    fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    fn subtract(&mut self, other: Self) {
        self.messages = self.messages.saturating_sub(other.messages);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// What one pull may ask for, and what is set aside for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) max: u32,
    pub(super) reserved: Load,
}

#[derive(Debug)]
pub(super) struct Budget {
    bounds: Load,
    max_messages: u32,
    held: Load,
    reserved: Load,
    /// The most messages a server has given in one answer.
    given: u32,
    /// Bytes of a message, smoothed, leaning to the larger; unknown before the first.
    weight: Option<usize>,
    /// Queues at their tail.
    tails: usize,
}

impl Budget {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            bounds: Load { messages: options.messages, bytes: options.bytes },
            max_messages: options.max_messages,
            held: Load::default(),
            reserved: Load::default(),
            given: USUAL.min(options.max_messages),
            weight: None,
            tails: 0,
        }
    }

    pub(super) fn set_bounds(&mut self, messages: usize, bytes: usize) {
        self.bounds = Load { messages, bytes };
    }

    pub(super) fn tail_came(&mut self) {
        self.tails += 1;
    }

    pub(super) fn tail_went(&mut self) {
        self.tails = self.tails.saturating_sub(1);
    }

    pub(super) const fn held(&self) -> Load {
        self.held
    }

    /// What a parked poll asks for: all of them together a quarter of the messages, and at least one each.
    fn tail_share(&self) -> u32 {
        let share = self.bounds.messages / 4 / self.tails.max(1);
        u32::try_from(share).unwrap_or(u32::MAX).clamp(1, USUAL.min(self.max_messages))
    }

    /// A long poll may be parked unless what is held fills the bounds by itself.
    pub(super) fn ask_at_tail(&self) -> Option<Ask> {
        let has_room = self.held.messages < self.bounds.messages && self.held.bytes < self.bounds.bytes;
        has_room.then(|| Ask { max: self.tail_share(), reserved: Load::default() })
    }

    /// What a queue may ask for that has `backlog` messages waiting, of about `weight` bytes each (0: not known).
    ///
    /// `None` until there is room for half of it, so that a slow reader causes few large pulls and not many small ones.
    pub(super) fn ask_behind(&self, weight: usize, backlog: u64) -> Option<Ask> {
        let Some(weight) = Some(weight).filter(|weight| *weight > 0).or(self.weight) else {
            let reserved = Load { messages: 1, bytes: 0 };
            return (self.reserved.messages < BLIND).then_some(Ask { max: 1, reserved });
        };
        let backlog = u32::try_from(backlog).unwrap_or(u32::MAX).max(1);
        // A server that gives more than it has given so far is only found out by asking for more.
        let wanted = self.given.saturating_mul(2).min(self.max_messages).min(backlog);
        let expected = wanted.min(self.given);
        let is_alone = self.held.messages + self.reserved.messages == 0;
        let room = self.room(weight.max(1));
        let max = match u32::try_from(room).unwrap_or(u32::MAX).min(wanted) {
            0 if is_alone => 1,
            max if is_alone || max >= expected.div_ceil(2) => max,
            _ => return None,
        };
        let messages = max.min(expected) as usize;
        Some(Ask { max, reserved: Load { messages, bytes: messages.saturating_mul(weight) } })
    }

    fn room(&self, weight: usize) -> usize {
        let set_aside = (self.tails * self.tail_share() as usize).min(self.bounds.messages / 2);
        let messages = (self.bounds.messages - set_aside).saturating_sub(self.held.messages + self.reserved.messages);
        let used = self.held.bytes.saturating_add(self.reserved.bytes);
        messages.min(self.bounds.bytes.saturating_sub(used) / weight)
    }

    pub(super) fn reserve(&mut self, load: Load) {
        self.reserved.add(load);
    }

    pub(super) fn release_reserved(&mut self, load: Load) {
        self.reserved.subtract(load);
    }

    /// An answer came. `false`: there is no room for it, it must be dropped.
    pub(super) fn take_in(&mut self, load: Load) -> bool {
        self.given = self.given.max(u32::try_from(load.messages).unwrap_or(u32::MAX)).min(self.max_messages);
        if let Some(each) = load.bytes.checked_div(load.messages) {
            self.weight = Some(lean(self.weight, each));
        }
        let fits = self.held.messages == 0 || self.held.bytes.saturating_add(load.bytes) <= self.bounds.bytes;
        if fits {
            self.held.add(load);
        }
        fits
    }

    /// Held messages were handed out or dropped.
    pub(super) fn release(&mut self, load: Load) {
        self.held.subtract(load);
    }
}

/// Larger ones count at once, smaller ones slowly: too high a guess costs a smaller batch, too low a one memory.
pub(super) const fn lean(known: Option<usize>, now: usize) -> usize {
    match known {
        Some(known) if known > now => known - (known - now) / 8,
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::OnOffsetGap;

    fn budget(messages: usize, bytes: usize) -> Budget {
        let (max_messages, suspend, on_gap) = (256, Duration::ZERO, OnOffsetGap::Fail);
        Budget::new(&Options { messages, bytes, max_messages, suspend, on_gap })
    }

    fn load(messages: usize, bytes: usize) -> Load {
        Load { messages, bytes }
    }

    /// So many, and what is set aside for them.
    fn ask(max: u32, messages: usize, bytes: usize) -> Option<Ask> {
        Some(Ask { max, reserved: load(messages, bytes) })
    }

    #[test]
    fn all_parked_polls_together_ask_for_a_quarter_and_each_for_one_at_least() {
        let mut budget = budget(64, 1 << 20);
        for (tails, share) in [(1, 16), (2, 8), (4, 4), (16, 1), (100, 1)] {
            while budget.tails < tails {
                budget.tail_came();
            }
            assert_eq!(budget.ask_at_tail(), ask(share, 0, 0), "{tails} tails");
        }
        (0..98).for_each(|_| budget.tail_went());
        assert_eq!(budget.ask_at_tail(), ask(8, 0, 0), "two are left");
        assert_eq!(self::budget(1 << 20, 1 << 20).ask_at_tail(), ask(USUAL, 0, 0));
    }

    #[test]
    fn a_long_poll_is_parked_unless_what_is_held_fills_the_bounds() {
        for (held, may) in [(load(63, 999), true), (load(64, 999), false), (load(63, 1000), false)] {
            let mut budget = budget(64, 1000);
            assert!(budget.take_in(held));
            assert_eq!(budget.ask_at_tail().is_some(), may, "{held:?}");
        }
    }

    #[test]
    fn before_any_size_is_known_a_few_pulls_ask_for_one_message_each() {
        let mut budget = budget(1000, 1000);
        for _ in 0..BLIND {
            let ask = budget.ask_behind(0, 1000).expect("a few");
            assert_eq!((ask.max, ask.reserved), (1, load(1, 0)));
            budget.reserve(ask.reserved);
        }
        assert_eq!(budget.ask_behind(0, 1000), None);
        budget.release_reserved(load(1, 0));
        assert!(budget.ask_behind(0, 1000).is_some());
    }

    #[test]
    fn more_than_a_server_has_given_is_asked_for_but_not_set_aside() {
        let mut budget = budget(1000, 1 << 20);
        assert_eq!(budget.ask_behind(100, 1000), ask(64, 32, 3200));
        assert_eq!(budget.ask_behind(100, 10), ask(10, 10, 1000), "there are ten");
        assert_eq!(budget.ask_behind(100, 0), ask(1, 1, 100));
        for (given, asked) in [(64, ask(128, 64, 6400)), (20, ask(128, 64, 6400)), (900, ask(256, 256, 25_600))] {
            assert!(budget.take_in(load(given, 100 * given)));
            budget.release(load(given, 100 * given));
            assert_eq!(budget.ask_behind(100, 1000), asked, "after {given}");
        }
    }

    #[test]
    fn a_pull_waits_until_there_is_room_for_half_of_what_it_hopes_for() {
        for (held, reserved, expected) in [
            (0, 0, ask(64, 32, 3200)),
            (50, 20, ask(30, 30, 3000)),
            (64, 20, ask(16, 16, 1600)),
            (65, 20, None),
            (100, 0, None),
        ] {
            let mut by_messages = budget(100, 1 << 20);
            (0..held).for_each(|_| assert!(by_messages.take_in(load(1, 1))));
            by_messages.reserve(load(reserved, reserved));
            assert_eq!(by_messages.ask_behind(100, 1000), expected, "{held} held, {reserved} reserved");
            let mut by_bytes = budget(1000, 10_000);
            (0..held).for_each(|_| assert!(by_bytes.take_in(load(1, 100))));
            by_bytes.reserve(load(reserved, reserved * 100));
            assert_eq!(by_bytes.ask_behind(100, 1000), expected, "{held} held, {reserved} reserved, by bytes");
        }
    }

    #[test]
    fn one_message_is_asked_for_however_large_when_nothing_else_is_held_or_under_way() {
        let mut budget = budget(5, 50);
        assert_eq!(budget.ask_behind(100, 1000), ask(1, 1, 100));
        assert_eq!(budget.ask_behind(10, 1000), ask(5, 5, 50), "all the room there is");
        budget.reserve(load(1, 50));
        assert_eq!(budget.ask_behind(100, 1000), None);
        assert_eq!(budget.ask_behind(10, 1000), None);
    }

    #[test]
    fn the_room_of_parked_polls_is_no_others_but_half_of_all_at_most() {
        let mut budget = budget(64, 1 << 20);
        budget.tail_came();
        budget.tail_came();
        assert_eq!(budget.ask_behind(100, 1000), ask(48, 32, 3200), "two times eight are set aside");
        (0..98).for_each(|_| budget.tail_came());
        assert_eq!(budget.ask_behind(100, 1000), ask(32, 32, 3200));
    }

    #[test]
    fn what_does_not_fit_is_dropped_unless_it_is_alone() {
        let mut budget = budget(10, 1000);
        assert!(budget.take_in(load(1, 5000)), "one larger than the bound passes alone");
        assert!(!budget.take_in(load(1, 1)));
        assert_eq!(budget.held(), load(1, 5000));
        budget.release(load(1, 5000));
        assert!(budget.take_in(load(1, 400)) && budget.take_in(load(1, 600)), "they fill it");
        assert!(!budget.take_in(load(1, 1)));
        assert_eq!(budget.held(), load(2, 1000));
    }

    #[test]
    fn other_bounds_hold_at_once() {
        let mut budget = budget(10, 1000);
        budget.set_bounds(5, 100);
        assert_eq!(budget.ask_behind(10, 1000), ask(5, 5, 50));
        assert_eq!(budget.ask_behind(50, 1000), ask(2, 2, 100));
    }

    #[test]
    fn a_larger_size_counts_at_once_and_a_smaller_one_slowly() {
        for (known, now, leant) in [(None, 5, 5), (Some(100), 20, 90), (Some(100), 100, 100), (Some(100), 300, 300)] {
            assert_eq!(lean(known, now), leant, "{known:?} {now}");
        }
        let mut budget = budget(1000, 1 << 20);
        assert!(budget.take_in(load(2, 200)));
        assert_eq!(budget.ask_behind(0, 1), ask(1, 1, 100), "the size of the others is a first guess");
    }
}
