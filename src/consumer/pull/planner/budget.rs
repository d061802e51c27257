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
