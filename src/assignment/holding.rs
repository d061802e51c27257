//! What is held, since when, and what changed: values to compare.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::{Epoch, MessageQueue};

/// The queues that a consumer reads at one moment, each with the epoch in which it was gained. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assignment(Arc<BTreeMap<MessageQueue, Epoch>>);

impl Assignment {
    /// The queues and their epochs, in the order of topic, broker and queue id.
    pub fn iter(&self) -> impl Iterator<Item = (&MessageQueue, Epoch)> {
        self.0.iter().map(|(queue, epoch)| (queue, *epoch))
    }

    /// The epoch in which a queue was gained, if it is held.
    #[must_use]
    pub fn epoch(&self, queue: &MessageQueue) -> Option<Epoch> {
        self.0.get(queue).copied()
    }

    /// Whether a queue is held.
    #[must_use]
    pub fn contains(&self, queue: &MessageQueue) -> bool {
        self.0.contains_key(queue)
    }

    /// How many queues are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no queue is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What has to be done to get here from `before`. Whoever looks rarely may have missed assignments between the two: a
    /// queue that was lost and regained meanwhile is lost in its old epoch *and* gained in its new one (trap P6).
    pub(crate) fn since(&self, before: &Self) -> Changes {
        let not_in = |other: &Self, (queue, epoch): &(&MessageQueue, Epoch)| other.epoch(queue) != Some(*epoch);
        let owned = |(queue, epoch): (&MessageQueue, Epoch)| (queue.clone(), epoch);
        Changes {
            gained: self.iter().filter(|held| not_in(before, held)).map(owned).collect(),
            lost: before.iter().filter(|held| not_in(self, held)).map(owned).collect(),
            kept: self.iter().filter(|held| !not_in(before, held)).map(owned).collect(),
        }
    }
}

/// The way from one assignment to a later one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Changes {
    /// Begin with these.
    pub(crate) gained: Vec<(MessageQueue, Epoch)>,
    /// Let go of these first: what comes from them, or is committed for them, is void from now on (trap P7).
    pub(crate) lost: Vec<(MessageQueue, Epoch)>,
    /// Go on with these.
    pub(crate) kept: Vec<(MessageQueue, Epoch)>,
}

/// Counts how often each queue was gained; remembers queues that were lost.
#[derive(Debug, Default)]
pub(super) struct Epochs(HashMap<MessageQueue, Epoch>);

impl Epochs {
    /// The assignment after `now`, with exactly the queues `wanted`. A queue that is kept keeps its epoch.
    pub(super) fn advance(&mut self, now: &Assignment, wanted: BTreeSet<MessageQueue>) -> Assignment {
        if now.len() == wanted.len() && wanted.iter().all(|queue| now.contains(queue)) {
            return now.clone();
        }
        let held = wanted.into_iter().map(|queue| {
            let epoch = now.epoch(&queue).unwrap_or_else(|| self.gain(&queue));
            (queue, epoch)
        });
        Assignment(Arc::new(held.collect()))
    }

    fn gain(&mut self, queue: &MessageQueue) -> Epoch {
        let next = self.0.get(queue).map_or_else(Epoch::default, |last| last.next());
        self.0.insert(queue.clone(), next);
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queues(ids: impl IntoIterator<Item = u32>) -> BTreeSet<MessageQueue> {
        ids.into_iter().map(|id| MessageQueue::new("t", "b", id)).collect()
    }

    fn held(assignment: &Assignment) -> Vec<(u32, u64)> {
        assignment.iter().map(|(queue, epoch)| (queue.id(), epoch.get())).collect()
    }

    fn ids(queues: &[(MessageQueue, Epoch)]) -> Vec<(u32, u64)> {
        queues.iter().map(|(queue, epoch)| (queue.id(), epoch.get())).collect()
    }

    #[test]
    fn an_epoch_counts_how_often_a_queue_was_gained() {
        let mut epochs = Epochs::default();
        let mut now = Assignment::default();
        for (wanted, expected) in [
            (vec![0, 1], vec![(0, 0), (1, 0)]),
            (vec![1, 2], vec![(1, 0), (2, 0)]),
            (vec![0, 1, 2], vec![(0, 1), (1, 0), (2, 0)]),
            (vec![], vec![]),
            (vec![0, 2], vec![(0, 2), (2, 1)]),
        ] {
            now = epochs.advance(&now, queues(wanted.clone()));
            assert_eq!(held(&now), expected, "{wanted:?}");
            assert_eq!((now.len(), now.is_empty()), (wanted.len(), wanted.is_empty()));
        }
    }

    #[test]
    fn what_changed_is_what_was_gained_lost_and_kept() {
        let mut epochs = Epochs::default();
        let first = epochs.advance(&Assignment::default(), queues([0, 1]));
        let second = epochs.advance(&first, queues([1, 2]));
        let changes = second.since(&first);
        assert_eq!(
            (ids(&changes.gained), ids(&changes.lost), ids(&changes.kept)),
            (vec![(2, 0)], vec![(0, 0)], vec![(1, 0)])
        );
        let nothing = second.since(&second);
        assert_eq!((nothing.gained, nothing.lost, nothing.kept.len()), (vec![], vec![], 2));
    }

    #[test]
    fn p6_a_queue_lost_and_regained_between_two_looks_is_both() {
        let mut epochs = Epochs::default();
        let first = epochs.advance(&Assignment::default(), queues([0, 1]));
        let without = epochs.advance(&first, queues([1]));
        let again = epochs.advance(&without, queues([0, 1]));
        let changes = again.since(&first);
        assert_eq!(
            (ids(&changes.lost), ids(&changes.gained), ids(&changes.kept)),
            (vec![(0, 0)], vec![(0, 1)], vec![(1, 0)])
        );
    }

    #[test]
    fn an_assignment_that_did_not_change_is_the_same_value() {
        let mut epochs = Epochs::default();
        let first = epochs.advance(&Assignment::default(), queues([0, 1]));
        let same = epochs.advance(&first, queues([1, 0]));
        assert!(Arc::ptr_eq(&first.0, &same.0));
    }

    proptest! {
        #[test]
        fn whoever_follows_the_changes_holds_the_assignment(
            steps in proptest::collection::vec((proptest::collection::btree_set(0..6_u32, 0..6), any::<bool>()), 1..30)
        ) {
            let (mut epochs, mut now, mut seen) = (Epochs::default(), Assignment::default(), Assignment::default());
            let mut follower: BTreeMap<MessageQueue, Epoch> = BTreeMap::new();
            let mut begun = BTreeSet::new();
            for (wanted, looks) in steps {
                now = epochs.advance(&now, queues(wanted));
                if !looks { continue }
                let changes = now.since(&seen);
                for (queue, epoch) in changes.lost {
                    prop_assert_eq!(follower.remove(&queue), Some(epoch), "only what is held is lost");
                }
                for (queue, epoch) in changes.gained {
                    prop_assert!(begun.insert((queue.clone(), epoch)), "an epoch begins once");
                    prop_assert_eq!(follower.insert(queue, epoch), None, "only what is not held is gained");
                }
                seen = now.clone();
                prop_assert_eq!(&follower, &*now.0);
            }
        }
    }
}
