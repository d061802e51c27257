use super::*;
use proptest::prelude::*;

fn offset(number: u64) -> Offset {
    Offset::new(number)
}

fn now() -> Instant {
    // Any instant will do: the tracker only subtracts.
    crate::clock::now()
}

/// Hands out one piece for each offset of `range`.
fn hand_out(tracker: &mut Tracker, range: Range<u64>) -> Range<u64> {
    tracker.hand_out(range.map(|at| offset(at + 1)), now()).expect("rising offsets")
}

#[test]
fn p1_the_mark_is_the_next_offset_and_never_the_last_completed_one() {
    let mut tracker = Tracker::new(offset(17));
    let pieces = hand_out(&mut tracker, 17..18);
    assert_eq!(tracker.low_mark(), offset(17));
    assert!(tracker.complete(pieces));
    assert_eq!(tracker.low_mark(), offset(18));
}

#[test]
fn p2_handing_out_moves_the_position_and_not_the_mark() {
    let mut tracker = Tracker::new(offset(0));
    hand_out(&mut tracker, 0..32);
    assert_eq!((tracker.low_mark(), tracker.position(), tracker.open()), (offset(0), offset(32), 32));
}

#[test]
fn p3_a_later_piece_that_is_completed_first_does_not_move_the_mark_past_an_earlier_one() {
    let mut tracker = Tracker::new(offset(0));
    let pieces = hand_out(&mut tracker, 0..3);
    assert!(!tracker.complete(pieces.start + 1..pieces.end));
    assert_eq!((tracker.low_mark(), tracker.blocking()), (offset(0), Some(offset(0)..offset(1))));
    assert!(tracker.complete(0..1));
    assert_eq!((tracker.low_mark(), tracker.blocking(), tracker.window()), (offset(3), None, 0));
}

#[test]
fn p3_a_million_open_pieces_cost_what_one_costs_and_their_memory_comes_back() {
    const MANY: u64 = 1 << 20;
    let mut tracker = Tracker::new(offset(0));
    hand_out(&mut tracker, 0..MANY);
    // From the end: each completion but the last leaves the mark where it is, and none looks at its neighbours.
    for number in (1..MANY).rev() {
        assert!(!tracker.complete(number..number + 1));
    }
    assert_eq!(tracker.open(), 1);
    assert!(tracker.complete(0..1));
    assert_eq!((tracker.low_mark(), tracker.ends.len() as u64), (offset(MANY), SMALLEST));
}

#[test]
fn p5_a_range_without_messages_costs_nothing_however_long_it_is() {
    let mut tracker = Tracker::new(offset(0));
    tracker.skip_to(offset(1 << 40));
    assert_eq!((tracker.low_mark(), tracker.window()), (offset(1 << 40), 0));
    let piece = hand_out(&mut tracker, 1 << 40..(1 << 40) + 1);
    for far in 2..1000 {
        tracker.skip_to(offset(far << 40));
    }
    assert_eq!((tracker.low_mark(), tracker.window()), (offset(1 << 40), 2));
    assert_eq!(tracker.position(), offset(999 << 40));
    tracker.complete(piece);
    assert_eq!((tracker.low_mark(), tracker.window(), tracker.open()), (offset(999 << 40), 0, 0));
}

#[test]
fn a_commit_of_the_position_before_a_skip_completes_what_was_handed_out() {
    let mut tracker = Tracker::new(offset(0));
    let pieces = hand_out(&mut tracker, 0..4);
    tracker.skip_to(offset(100));
    assert!(tracker.complete_below(offset(4)));
    assert_eq!((tracker.low_mark(), tracker.open()), (offset(100), 0), "and what was skipped is passed too");
    assert!(!tracker.complete(pieces), "a piece that was completed so does not count again");
}

#[test]
fn offsets_that_do_not_rise_are_refused_and_nothing_is_handed_out() {
    let mut tracker = Tracker::new(offset(10));
    for wrong in [vec![10], vec![5], vec![11, 12, 12], vec![20, 19]] {
        let refused = tracker.hand_out(wrong.iter().copied().map(offset), now());
        assert_eq!(refused, Err(offset(*wrong.last().expect("one"))), "{wrong:?}");
        assert_eq!((tracker.window(), tracker.open(), tracker.position()), (0, 0, offset(10)));
    }
    assert_eq!(tracker.hand_out([offset(11)], now()), Ok(0..1));
}

#[test]
fn a_dropped_piece_blocks_only_when_it_is_the_oldest_open_one() {
    let mut tracker = Tracker::new(offset(0));
    hand_out(&mut tracker, 0..5);
    tracker.drop_pieces(2..3);
    assert_eq!(tracker.blocked_by_dropped(), None);
    tracker.complete(0..2);
    assert_eq!(tracker.blocked_by_dropped(), Some(offset(2)..offset(3)));
    assert!(!tracker.has_completed_beyond());
    tracker.complete(4..5);
    assert!(tracker.has_completed_beyond());
    assert!(tracker.complete_below(offset(3)), "a commit of a checkpoint frees it");
    assert_eq!((tracker.blocked_by_dropped(), tracker.low_mark()), (None, offset(3)));
    tracker.drop_pieces(0..4);
    assert_eq!(tracker.blocked_by_dropped(), Some(offset(3)..offset(4)));
}

#[test]
fn the_age_of_the_oldest_open_piece_is_that_of_its_hand_out() {
    let start = now();
    let after = |millis| start + Duration::from_millis(millis);
    let mut tracker = Tracker::new(offset(0));
    assert_eq!(tracker.oldest_since(), None);
    for (at, millis) in [(1, 0), (2, 50), (3, 100), (4, 950)] {
        tracker.hand_out([offset(at)], after(millis)).expect("rising");
    }
    for (below, since) in [(0, Some(0)), (1, Some(0)), (2, Some(100)), (3, Some(950)), (4, None)] {
        tracker.complete_below(offset(below));
        assert_eq!(tracker.oldest_since(), since.map(after), "below {below}");
    }
    tracker.hand_out([offset(5)], after(2000)).expect("rising");
    assert_eq!(tracker.oldest_since(), Some(after(2000)));
}

#[test]
fn p8_what_is_taken_back_is_not_open_and_is_where_the_queue_goes_on() {
    let mut tracker = Tracker::new(offset(0));
    let pieces = hand_out(&mut tracker, 0..10);
    tracker.skip_to(offset(50));
    tracker.drop_pieces(7..8);
    tracker.take_back(4);
    assert_eq!((tracker.open(), tracker.window(), tracker.position()), (4, 4, offset(4)));
    tracker.take_back(4);
    tracker.skip_to(offset(20));
    assert!(tracker.complete(pieces.start..4));
    assert_eq!((tracker.low_mark(), tracker.open(), tracker.oldest_since()), (offset(20), 0, None));
    let again = hand_out(&mut tracker, 20..30);
    assert_eq!((again.start, tracker.blocked_by_dropped()), (5, None), "the numbers are as new");
    tracker.complete(5..6);
    tracker.take_back(0);
    assert_eq!((tracker.low_mark(), tracker.position(), tracker.window()), (offset(21), offset(21), 0));
    assert_eq!(tracker.oldest_since(), None);
}

#[test]
fn what_is_taken_back_leaves_no_age_behind() {
    let (mut tracker, start) = (Tracker::new(offset(0)), now());
    let after = |millis| start + Duration::from_millis(millis);
    for (end, millis) in [(1, 0), (2, 1000), (3, 2000)] {
        tracker.hand_out([offset(end)], after(millis)).expect("rising");
    }
    tracker.take_back(1);
    assert_eq!(tracker.oldest_since(), Some(start), "that one is open as before");
    tracker.hand_out([offset(2)], after(1050)).expect("rising");
    assert!(tracker.complete(0..1));
    assert_eq!(tracker.oldest_since(), Some(after(1050)));
}

#[test]
fn handing_out_nothing_is_no_hand_out_to_count_the_age_from() {
    let (mut tracker, start) = (Tracker::new(offset(0)), now());
    let later = start + Duration::from_secs(1);
    assert_eq!(tracker.hand_out([], start), Ok(0..0));
    assert_eq!(tracker.oldest_since(), None);
    tracker.hand_out([offset(1)], later).expect("rising");
    assert_eq!(tracker.oldest_since(), Some(later));
}

#[test]
fn a_skip_to_where_the_queue_stands_takes_no_place_in_the_window() {
    let mut tracker = Tracker::new(offset(0));
    hand_out(&mut tracker, 0..4);
    tracker.skip_to(offset(4));
    assert_eq!((tracker.window(), tracker.position()), (4, offset(4)));
}

#[test]
fn a_ring_shrinks_to_twice_its_window_once_less_than_an_eighth_is_used() {
    for (completed, places) in [(895, 1024), (896, 1024), (897, 256), (924, 256), (961, 128), (993, 64), (1024, 64)] {
        let mut tracker = Tracker::new(offset(0));
        hand_out(&mut tracker, 0..1024);
        assert!(tracker.complete(0..completed));
        assert_eq!(tracker.ends.len(), places, "{completed} of 1024 are completed");
    }
}

/// What a tracker is, said as plainly as it can be: all pieces ever, each with its end and its fate.
#[derive(Debug, Default)]
struct Naive {
    start: u64,
    pieces: Vec<(u64, Fate)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Open,
    Dropped,
    Completed,
}

impl Naive {
    fn low_mark(&self) -> u64 {
        let completed = self.pieces.iter().take_while(|(_, fate)| *fate == Fate::Completed);
        completed.last().map_or(self.start, |(end, _)| *end)
    }

    fn position(&self) -> u64 {
        self.pieces.last().map_or(self.start, |(end, _)| *end)
    }

    fn open(&self) -> usize {
        self.pieces.iter().filter(|(_, fate)| *fate != Fate::Completed).count()
    }

    fn oldest(&self) -> Option<&(u64, Fate)> {
        self.pieces.iter().find(|(_, fate)| *fate != Fate::Completed)
    }
}

#[derive(Debug, Clone)]
enum Act {
    HandOut(Vec<u64>),
    Skip(u64),
    /// Completes, or drops, so many of the tokens that are held, from this one on; whole or in two parts.
    Complete(prop::sample::Index, bool),
    Drop(prop::sample::Index),
    /// From a token on, with all that came after it.
    TakeBack(prop::sample::Index),
    Below(prop::sample::Index, u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let gaps = prop::collection::vec(prop_oneof![8 => Just(1u64), 1 => 1u64..100, 1 => Just(1 << 33)], 1..80);
    let act = prop_oneof![
        4 => gaps.prop_map(Act::HandOut),
        1 => (0u64..1000).prop_map(Act::Skip),
        6 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(at, part)| Act::Complete(at, part)),
        1 => any::<prop::sample::Index>().prop_map(Act::Drop),
        1 => any::<prop::sample::Index>().prop_map(Act::TakeBack),
        1 => (any::<prop::sample::Index>(), 0u64..3).prop_map(|(at, more)| Act::Below(at, more)),
    ];
    prop::collection::vec(act, 1..120)
}

/// The tracker and the naive one, side by side, and the tokens a user would hold: tracker's numbers and naive's.
struct Pair {
    tracker: Tracker,
    naive: Naive,
    held: Vec<(Range<u64>, Range<usize>)>,
}

impl Pair {
    fn act(&mut self, act: Act) {
        match act {
            Act::HandOut(gaps) => {
                let mut at = self.naive.position();
                let ends: Vec<u64> = gaps.into_iter().map(|gap| (at += gap, at).1).collect();
                let numbers = self.tracker.hand_out(ends.iter().copied().map(offset), now()).expect("rising");
                let from = self.naive.pieces.len();
                self.naive.pieces.extend(ends.iter().map(|end| (*end, Fate::Open)));
                self.held.push((numbers, from..self.naive.pieces.len()));
            }
            Act::Skip(by) => {
                let to = self.naive.position() + by;
                self.tracker.skip_to(offset(to));
                match self.naive.pieces.last_mut() {
                    _ if by == 0 => {}
                    Some(_) => self.naive.pieces.push((to, Fate::Completed)),
                    None => self.naive.start = to,
                }
            }
            Act::Complete(at, part) if !self.held.is_empty() => {
                let at = at.index(self.held.len());
                let (numbers, pieces) = self.held.swap_remove(at);
                let middle = if part { pieces.len() / 2 } else { 0 };
                let split = (numbers.start + middle as u64, pieces.start + middle);
                if middle > 0 {
                    self.held.push((numbers.start..split.0, pieces.start..split.1));
                }
                let before = self.tracker.low_mark();
                let moved = self.tracker.complete(split.0..numbers.end);
                assert_eq!(moved, self.tracker.low_mark() != before);
                self.naive.pieces[split.1..pieces.end].iter_mut().for_each(|(_, fate)| *fate = Fate::Completed);
            }
            Act::Drop(at) if !self.held.is_empty() => {
                let (numbers, pieces) = self.held.swap_remove(at.index(self.held.len()));
                self.tracker.drop_pieces(numbers);
                let open = self.naive.pieces[pieces].iter_mut().filter(|(_, fate)| *fate == Fate::Open);
                open.for_each(|(_, fate)| *fate = Fate::Dropped);
            }
            Act::TakeBack(at) if !self.held.is_empty() => {
                let (numbers, pieces) = self.held[at.index(self.held.len())].clone();
                self.held.retain(|(held, _)| held.start < numbers.start);
                if self.held.iter().all(|(held, _)| held.end <= numbers.start) {
                    self.tracker.take_back(numbers.start);
                    let kept = self.naive.pieces.iter().take_while(|(_, fate)| *fate == Fate::Completed).count();
                    self.naive.pieces.truncate(pieces.start.max(kept));
                }
            }
            Act::Below(at, more) if !self.naive.pieces.is_empty() => {
                let below = self.naive.pieces[at.index(self.naive.pieces.len())].0 + more;
                self.tracker.complete_below(offset(below));
                let passed = self.naive.pieces.iter_mut().filter(|(end, _)| *end <= below);
                passed.for_each(|(_, fate)| *fate = Fate::Completed);
            }
            Act::Complete(..) | Act::Drop(_) | Act::TakeBack(_) | Act::Below(..) => {}
        }
    }

    fn check(&self) {
        let (tracker, naive) = (&self.tracker, &self.naive);
        assert_eq!(tracker.low_mark(), offset(naive.low_mark()));
        assert_eq!(tracker.position(), offset(naive.position()));
        assert_eq!(tracker.open(), naive.open() as u64);
        let blocking = naive.oldest().map(|(end, _)| offset(naive.low_mark())..offset(*end));
        assert_eq!(tracker.blocking(), blocking);
        let dropped = naive.oldest().filter(|(_, fate)| *fate == Fate::Dropped);
        assert_eq!(tracker.blocked_by_dropped().is_some(), dropped.is_some());
        let capacity = tracker.ends.len() as u64;
        assert!(capacity <= (tracker.window() * SPARSE * 2).max(SMALLEST), "{capacity} for {}", tracker.window());
    }
}

proptest! {
    #[test]
    fn a_tracker_is_what_a_list_of_all_pieces_is(start in 0u64..1000, acts in acts()) {
        let naive = Naive { start, pieces: Vec::new() };
        let mut pair = Pair { tracker: Tracker::new(offset(start)), naive, held: Vec::new() };
        for act in acts {
            pair.act(act);
            pair.check();
        }
    }
}
