//! Which kinds of consumers of one client use which groups.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::model::ClientKind;

/// The groups of one client's consumers. A group that pull consumers use is theirs alone: they and consumers by lease write
/// the same offsets, and each would skip what the other was given (trap P21). Consumers by lease may share a group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups(Arc<Mutex<Uses>>);

/// How many consumers of each kind there are.
type Uses = HashMap<(Arc<str>, ClientKind), usize>;

/// One consumer's use of a group, until it is dropped.
#[derive(Debug)]
#[must_use = "the group is left when this is dropped"]
pub(crate) struct GroupUse {
    groups: Groups,
    key: (Arc<str>, ClientKind),
}

impl Groups {
    /// # Errors
    /// `Precondition`, naming both kinds, when a consumer of this client uses the group in the other way.
    pub(crate) fn enter(&self, group: &Arc<str>, kind: ClientKind) -> Result<GroupUse> {
        let mut uses = self.lock();
        let clash = uses.keys().find(|(name, other)| name == group && !may_share(kind, *other));
        if let Some((_, other)) = clash {
            return Err(refusal(group, kind, *other));
        }
        let key = (Arc::clone(group), kind);
        *uses.entry(key.clone()).or_insert(0) += 1;
        Ok(GroupUse { groups: self.clone(), key })
    }

    fn lock(&self) -> MutexGuard<'_, Uses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GroupUse {
    fn drop(&mut self) {
        let mut uses = self.groups.lock();
        if let Some(count) = uses.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                uses.remove(&self.key);
            }
        }
    }
}

fn may_share(one: ClientKind, other: ClientKind) -> bool {
    (one == ClientKind::PullConsumer) == (other == ClientKind::PullConsumer)
}

fn refusal(group: &Arc<str>, wanted: ClientKind, there: ClientKind) -> Error {
    let name = |kind| match kind {
        ClientKind::PullConsumer => "PullConsumer",
        ClientKind::SimpleConsumer => "SimpleConsumer",
        ClientKind::Producer => "Producer",
    };
    let text = format!(
        "group {group}: a {} of this client uses it, so a {} cannot: each would skip what the other was given; a PullConsumer \
         needs a group of its own",
        name(there),
        name(wanted)
    );
    Error::new(ErrorKind::Precondition, text).in_group(Arc::clone(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PULL: ClientKind = ClientKind::PullConsumer;
    const SIMPLE: ClientKind = ClientKind::SimpleConsumer;

    #[test]
    fn p21_one_client_refuses_a_pull_consumer_in_the_group_of_a_simple_one_and_the_other_way_round() {
        for (there, wanted) in [(SIMPLE, PULL), (PULL, SIMPLE)] {
            let (groups, group) = (Groups::default(), Arc::from("g"));
            let used = groups.enter(&group, there).expect("the first");
            let error = groups.enter(&group, wanted).expect_err("the other kind");
            assert_eq!((error.kind(), error.group()), (ErrorKind::Precondition, Some("g")));
            let text = error.to_string();
            assert!(text.contains("PullConsumer") && text.contains("SimpleConsumer"), "{text}");
            assert!(groups.enter(&Arc::from("another"), wanted).is_ok());
            drop(used);
            assert!(groups.enter(&group, wanted).is_ok(), "the group is free when its last consumer has ended");
        }
    }

    #[test]
    fn consumers_of_one_kind_share_a_group_and_the_last_one_frees_it() {
        let (groups, group) = (Groups::default(), Arc::from("g"));
        for kind in [SIMPLE, PULL] {
            let other = if kind == PULL { SIMPLE } else { PULL };
            let (first, second) = (groups.enter(&group, kind), groups.enter(&group, kind));
            drop(first);
            assert!(groups.enter(&group, other).is_err(), "one is left");
            drop(second);
        }
        assert!(groups.lock().is_empty(), "nothing is kept of what has ended");
    }
}
