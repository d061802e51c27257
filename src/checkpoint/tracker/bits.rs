//! A ring of bits that are named by ever growing numbers.

use std::ops::Range;

const WIDTH: u64 = u64::BITS as u64;

/// The bits of a window of numbers. The window is never wider than the capacity, and bits outside it are 0: so each number
/// has one place, and neighbours in one word never meet, also where the window goes round.
#[derive(Debug)]
pub(super) struct Bits {
    /// A power of two, or none.
    words: Vec<u64>,
}

impl Bits {
    /// `capacity`: a power of two of at least 64, or 0.
    pub(super) fn new(capacity: u64) -> Self {
        Self { words: vec![0; (capacity / WIDTH) as usize] }
    }

    fn place(&self, word: u64) -> usize {
        word as usize & (self.words.len() - 1)
    }

    pub(super) fn get(&self, number: u64) -> bool {
        self.words[self.place(number / WIDTH)] >> (number % WIDTH) & 1 == 1
    }

    pub(super) fn set(&mut self, range: Range<u64>) {
        for (word, mask) in masks(range) {
            let place = self.place(word);
            self.words[place] |= mask;
        }
    }

    pub(super) fn clear(&mut self, range: Range<u64>) {
        for (word, mask) in masks(range) {
            let place = self.place(word);
            self.words[place] &= !mask;
        }
    }

    /// How many bits of the range are set.
    pub(super) fn count(&self, range: Range<u64>) -> u64 {
        masks(range).map(|(word, mask)| u64::from((self.words[self.place(word)] & mask).count_ones())).sum()
    }

    /// The first number of the range whose bit is not set, or the end of the range.
    pub(super) fn first_unset(&self, range: Range<u64>) -> u64 {
        let end = range.end;
        for (word, mask) in masks(range) {
            let unset = !self.words[self.place(word)] & mask;
            if unset != 0 {
                return word * WIDTH + u64::from(unset.trailing_zeros());
            }
        }
        end
    }

    /// Takes another capacity; `window` holds all bits that are set.
    pub(super) fn resize(&mut self, capacity: u64, window: Range<u64>) {
        let mut resized = Self::new(capacity);
        for (word, mask) in masks(window) {
            let place = resized.place(word);
            resized.words[place] |= self.words[self.place(word)] & mask;
        }
        *self = resized;
    }
}

/// The words that a range touches, each with the bits it has of it.
fn masks(range: Range<u64>) -> impl Iterator<Item = (u64, u64)> {
    let Range { start, end } = range;
    let words = if start < end { start / WIDTH..(end - 1) / WIDTH + 1 } else { 0..0 };
    words.map(move |word| {
        let from = start.saturating_sub(word * WIDTH);
        let left = (end - word * WIDTH).min(WIDTH);
        (word, (u64::MAX << from) & (u64::MAX >> (WIDTH - left)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masks_of_a_range_are_its_bits() {
        for (start, end) in [(0, 0), (0, 1), (3, 64), (63, 65), (64, 128), (5, 200), (127, 128)] {
            let bits: Vec<u64> = masks(start..end)
                .flat_map(|(word, mask)| {
                    (0..WIDTH).filter(move |bit| mask >> bit & 1 == 1).map(move |b| word * WIDTH + b)
                })
                .collect();
            assert_eq!(bits, (start..end).collect::<Vec<_>>(), "{start}..{end}");
        }
    }

    #[test]
    fn a_window_that_goes_round_keeps_its_neighbours_apart() {
        let mut bits = Bits::new(64);
        bits.set(60..70);
        assert_eq!((bits.first_unset(60..100), bits.count(50..114)), (70, 10));
        bits.resize(128, 50..114);
        assert_eq!((bits.first_unset(60..100), bits.count(50..114)), (70, 10));
        bits.clear(60..65);
        assert!(!bits.get(64) && bits.get(65));
    }
}
