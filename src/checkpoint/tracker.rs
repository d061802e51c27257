//! How far one queue is: what was handed out, what of it is completed, and up to where **everything** is (traps P1-P3).

mod bits;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::model::{Offset, OffsetRange};
use bits::Bits;

/// The smallest ring that has pieces: one word of bits.
const SMALLEST: u64 = 64;
/// A ring is made smaller when its window fills less than one in so many of its places.
const SPARSE: u64 = 8;
/// How exactly the age of the oldest open piece is known. Finer would cost memory for each hand-out.
const GRAIN: Duration = Duration::from_millis(100);

/// One queue in one epoch.
///
/// What is handed out is a row of *pieces*, numbered from 0 in the order of their offsets; each ends at the first offset
/// after it and begins where the one before ends, so that a range without messages costs nothing, however long it is. The
/// numbers that are not all completed are the *window*, a ring: one bit and one offset for each. So completing costs the
/// same whatever is open, and memory follows the window.
#[derive(Debug)]
pub(crate) struct Tracker {
    /// Everything below is completed.
    mark: u64,
    /// The number of the oldest piece that is not completed; `next` when there is none.
    first: u64,
    /// The number that the next piece gets.
    next: u64,
    /// For each piece of the window, the first offset after it.
    ends: Vec<u64>,
    done: Bits,
    /// Pieces that nobody can complete any more, but by [`complete_below`](Self::complete_below).
    dropped: Bits,
    /// Whether there may be a bit in `dropped`.
    has_dropped: bool,
    /// Pieces that are not completed.
    open: u64,
    /// The number after the last piece that was completed by itself.
    furthest: u64,
    /// When pieces from these numbers on were handed out. Empty when the window is.
    times: VecDeque<(u64, Instant)>,
}

impl Tracker {
    /// A queue of which `start` is to be handed out next.
    pub(crate) fn new(start: Offset) -> Self {
        Self {
            mark: start.get(),
            first: 0,
            next: 0,
            ends: Vec::new(),
            done: Bits::new(0),
            dropped: Bits::new(0),
            has_dropped: false,
            open: 0,
            furthest: 0,
            times: VecDeque::new(),
        }
    }

    /// Everything below is completed: what may be committed (traps P1, P2).
    pub(crate) const fn low_mark(&self) -> Offset {
        Offset::new(self.mark)
    }

    /// The first offset that was not handed out.
    pub(crate) fn position(&self) -> Offset {
        Offset::new(if self.first == self.next { self.mark } else { self.end_of(self.next - 1) })
    }

    /// How many pieces are handed out and not completed.
    pub(crate) const fn open(&self) -> u64 {
        self.open
    }

    /// How many pieces the ring holds: from the oldest open one to the newest, completed ones between them too.
    pub(crate) const fn window(&self) -> u64 {
        self.next - self.first
    }

    /// The oldest open piece: what holds the low mark.
    pub(crate) fn blocking(&self) -> Option<OffsetRange> {
        (self.window() > 0).then(|| self.low_mark()..Offset::new(self.end_of(self.first)))
    }

    /// When the oldest open piece was handed out; up to a tenth of a second too early.
    pub(crate) fn oldest_since(&self) -> Option<Instant> {
        self.times.front().map(|(_, at)| *at)
    }

    /// The oldest open piece, when it was dropped.
    pub(crate) fn blocked_by_dropped(&self) -> Option<OffsetRange> {
        self.blocking().filter(|_| self.has_dropped && self.dropped.get(self.first))
    }

    /// Whether a piece was completed that is newer than the oldest open one.
    pub(crate) const fn has_completed_beyond(&self) -> bool {
        self.furthest > self.first
    }

    /// Hands out pieces that end before these offsets, each larger than the one before and than the position. Returns their
    /// numbers, or the first offset that breaks this rule: then nothing was handed out.
    pub(crate) fn hand_out(
        &mut self,
        ends: impl IntoIterator<Item = Offset>,
        now: Instant,
    ) -> Result<Range<u64>, Offset> {
        let from = self.next;
        let mut position = self.position().get();
        for end in ends {
            if end.get() <= position {
                self.next = from;
                return Err(end);
            }
            position = end.get();
            self.push(position);
        }
        self.open += self.next - from;
        if from < self.next && self.times.back().is_none_or(|(_, last)| now.duration_since(*last) >= GRAIN) {
            self.times.push_back((from, now));
        }
        Ok(from..self.next)
    }

    /// There is no message from the position to before `position`. A smaller one than now changes nothing.
    pub(crate) fn skip_to(&mut self, position: Offset) {
        if position <= self.position() {
            return;
        }
        if self.window() == 0 {
            self.mark = position.get();
            return;
        }
        // A completed piece may grow. An open one may not: `complete_below` must still find its end.
        if self.done.get(self.next - 1) {
            let last = self.place(self.next - 1);
            self.ends[last] = position.get();
            return;
        }
        self.push(position.get());
        self.done.set(self.next - 1..self.next);
    }

    /// Completes pieces. Each piece may be completed by itself once; those that `complete_below` has completed already do
    /// not count again. Returns whether the low mark has moved.
    pub(crate) fn complete(&mut self, pieces: Range<u64>) -> bool {
        let from = pieces.start.max(self.first);
        if from >= pieces.end {
            return false;
        }
        self.done.set(from..pieces.end);
        self.open -= pieces.end - from;
        self.furthest = self.furthest.max(pieces.end);
        let moves = from == self.first;
        if moves {
            self.advance();
        }
        moves
    }

    /// Completes every piece that ends at or before `position`. Returns whether the low mark has moved.
    pub(crate) fn complete_below(&mut self, position: Offset) -> bool {
        let end = self.number_at(position.get());
        if end == self.first {
            return false;
        }
        self.open -= end - self.first - self.done.count(self.first..end);
        self.done.set(self.first..end);
        self.advance();
        true
    }

    /// Nobody can complete these pieces any more.
    pub(crate) fn drop_pieces(&mut self, pieces: Range<u64>) {
        let from = pieces.start.max(self.first);
        if from < pieces.end {
            self.dropped.set(from..pieces.end);
            self.has_dropped = true;
        }
    }

    /// The pieces from this number on were not handed out after all: nobody has any of them. Their numbers are given anew.
    pub(crate) fn take_back(&mut self, from: u64) {
        let from = from.max(self.first);
        if from >= self.next {
            return;
        }
        let taken = from..self.next;
        self.open -= taken.end - taken.start - self.done.count(taken.clone());
        self.done.clear(taken.clone());
        self.dropped.clear(taken);
        self.next = from;
        self.times.retain(|(first, _)| *first < from);
        self.forget_times();
        self.shrink();
    }

    fn place(&self, number: u64) -> usize {
        number as usize & (self.ends.len() - 1)
    }

    fn end_of(&self, number: u64) -> u64 {
        self.ends[self.place(number)]
    }

    fn push(&mut self, end: u64) {
        if self.window() == self.ends.len() as u64 {
            self.resize((self.window() * 2).max(SMALLEST));
        }
        let place = self.place(self.next);
        self.ends[place] = end;
        self.next += 1;
    }

    /// The number of the first piece of the window that ends after `position`.
    fn number_at(&self, position: u64) -> u64 {
        let (mut low, mut high) = (self.first, self.next);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.end_of(middle) <= position {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Moves the low mark over all that is completed; the oldest piece is.
    fn advance(&mut self) {
        let first = self.done.first_unset(self.first..self.next);
        self.mark = self.end_of(first - 1);
        self.done.clear(self.first..first);
        if self.has_dropped {
            self.dropped.clear(self.first..first);
            self.has_dropped = first < self.next;
        }
        self.first = first;
        self.forget_times();
        self.shrink();
    }

    fn shrink(&mut self) {
        let capacity = self.ends.len() as u64;
        if capacity > SMALLEST && self.window() < capacity / SPARSE {
            self.resize((self.window() * 2).next_power_of_two().max(SMALLEST));
        }
    }

    fn forget_times(&mut self) {
        while self.times.get(1).is_some_and(|(from, _)| *from <= self.first) {
            self.times.pop_front();
        }
        if self.window() == 0 {
            self.times.clear();
        }
    }

    fn resize(&mut self, capacity: u64) {
        let window = self.first..self.next;
        let mut ends = vec![0; capacity as usize];
        for number in window.clone() {
            ends[number as usize & (capacity as usize - 1)] = self.end_of(number);
        }
        self.ends = ends;
        self.done.resize(capacity, window.clone());
        self.dropped.resize(capacity, window);
    }
}

#[cfg(test)]
mod tests;
