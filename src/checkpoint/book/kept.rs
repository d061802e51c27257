//! What one place has of a queue's position: what it acknowledged, and what it may have instead.

use crate::model::{Epoch, Offset};

/// A position that is saved. The epoch is that of whoever saved it; `None` when it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) next: Offset,
    pub(super) epoch: Option<Epoch>,
}

/// What the store, or the broker, has of one queue.
#[derive(Debug, Default)]
pub(super) struct Kept {
    known: Option<Saved>,
    /// What was sent since and is not acknowledged: an answer may be on its way, or lost. Any of it may be there instead.
    unsure: Option<Unsure>,
}

/// Positions that were sent.
#[derive(Debug, Clone, Copy)]
struct Unsure {
    least: Offset,
    most: Offset,
    /// If all have the same.
    epoch: Option<Epoch>,
}

impl Kept {
    /// What was acknowledged, or found.
    pub(super) fn known(&self) -> Option<Offset> {
        self.known.map(|saved| saved.next)
    }

    /// It has this at least, unless it forgot.
    pub(super) fn least(&self) -> Option<Offset> {
        let known = self.known()?;
        Some(self.unsure.map_or(known, |unsure| known.min(unsure.least)))
    }

    /// It was found to have this. What is under way may come after it.
    pub(super) fn found(&mut self, found: Option<Offset>) {
        self.known = found.map(|next| Saved { next, epoch: None });
    }

    /// Nothing is under way any more that could come after what was found.
    pub(super) fn settle(&mut self) {
        self.unsure = None;
    }

    /// Somebody else may write there.
    pub(super) fn forget(&mut self) {
        self.known = None;
    }

    pub(super) fn sends(&mut self, saved: Saved) {
        let Saved { next, epoch } = saved;
        self.unsure = Some(match self.unsure {
            None => Unsure { least: next, most: next, epoch },
            Some(before) => Unsure {
                least: before.least.min(next),
                most: before.most.max(next),
                epoch: epoch.filter(|_| before.epoch == epoch),
            },
        });
    }

    pub(super) fn acknowledged(&mut self, saved: Saved) {
        (self.known, self.unsure) = (Some(saved), None);
    }

    /// Whether this is to be sent: it, and nothing else, is not known to be there.
    pub(super) fn lacks(&self, wanted: Offset) -> bool {
        let is_it = self.unsure.is_none_or(|unsure| unsure.least == wanted && unsure.most == wanted);
        self.known() != Some(wanted) || !is_it
    }

    /// Whether everything below `next` is saved, whatever of it is there.
    pub(super) fn covers(&self, next: Offset, epoch: Epoch, wanted: Option<Offset>) -> bool {
        // What another epoch has saved says nothing of ours, unless it is all that is wanted.
        let is_ours = |saved: Saved| saved.epoch == Some(epoch) || Some(saved.next) == wanted;
        let covers = |saved: Saved| saved.next == next || (saved.next > next && is_ours(saved));
        let is_unsure_fine = |unsure: Unsure| match unsure {
            Unsure { least, most, epoch } if least == most => covers(Saved { next: least, epoch }),
            Unsure { least, epoch: its, .. } => least >= next && its == Some(epoch),
        };
        self.known.is_some_and(covers) && self.unsure.is_none_or(is_unsure_fine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(next: u64) -> Offset {
        Offset::new(next)
    }

    fn saved(next: u64) -> Saved {
        Saved { next: at(next), epoch: Some(Epoch::default()) }
    }

    #[test]
    fn what_is_sent_again_is_what_is_not_surely_there() {
        let mut kept = Kept::default();
        assert!(kept.lacks(at(5)), "nothing is known");
        kept.acknowledged(saved(5));
        assert_eq!((kept.lacks(at(5)), kept.lacks(at(6))), (false, true));
        kept.sends(saved(5));
        assert!(!kept.lacks(at(5)), "whatever becomes of it");
        kept.sends(saved(8));
        assert_eq!((kept.lacks(at(5)), kept.lacks(at(8))), (true, true), "either may be there");
        assert_eq!((kept.known(), kept.least()), (Some(at(5)), Some(at(5))));
        kept.acknowledged(saved(8));
        assert_eq!((kept.lacks(at(8)), kept.least()), (false, Some(at(8))));
    }

    #[test]
    fn where_somebody_else_may_write_nothing_is_known() {
        let mut kept = Kept::default();
        kept.acknowledged(saved(5));
        kept.forget();
        assert_eq!((kept.known(), kept.lacks(at(5))), (None, true));
        kept.found(Some(at(7)));
        assert_eq!((kept.known(), kept.lacks(at(7))), (Some(at(7)), false));
    }

    #[test]
    fn a_position_is_not_surely_kept_while_a_later_one_of_another_epoch_may_be_there() {
        let (first, second) = (Epoch::default(), Epoch::default().next());
        let mut kept = Kept::default();
        kept.acknowledged(saved(5));
        kept.sends(Saved { next: at(5), epoch: Some(second) });
        assert!(kept.covers(at(5), first, None), "it is the same position, whoever sends it");
        kept.sends(Saved { next: at(8), epoch: Some(second) });
        assert!(!kept.covers(at(5), first, None), "8 says nothing of what the first has done up to 5");
    }
}
