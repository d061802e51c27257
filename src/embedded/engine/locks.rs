//! Locks on queues, which orderly push consumers of the remoting protocol take (protocol.md E.4: codes 41 and 42).

use std::collections::HashMap;
use std::sync::Arc;

use super::content::Millis;

/// How long a lock lives without being renewed (`lockMaxLiveTime`).
const LIFE: Millis = 60_000;

/// A queue of a group: group, topic, queue.
type Key = (Arc<str>, Arc<str>, i32);

/// Who holds which queue of one broker.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    held: HashMap<Key, (Arc<str>, Millis)>,
}

impl Locks {
    /// Takes or renews a lock. `false`: another client holds it.
    pub(crate) fn lock(&mut self, group: &str, topic: &str, queue: i32, client_id: &str, now: Millis) -> bool {
        let key = (group.into(), topic.into(), queue);
        let other = |(holder, at): &(Arc<str>, Millis)| **holder != *client_id && now.saturating_sub(*at) <= LIFE;
        if self.held.get(&key).is_some_and(other) {
            return false;
        }
        self.held.insert(key, (client_id.into(), now));
        true
    }

    /// Gives a lock back; one of another client stays.
    pub(crate) fn unlock(&mut self, group: &str, topic: &str, queue: i32, client_id: &str) {
        let key = (group.into(), topic.into(), queue);
        if self.held.get(&key).is_some_and(|(holder, _)| **holder == *client_id) {
            self.held.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_until_it_is_given_back_or_60_s_old() {
        let mut locks = Locks::default();
        assert!(locks.lock("g", "t", 0, "a", 0));
        assert!(!locks.lock("g", "t", 0, "b", 60_000), "still held");
        assert!(locks.lock("h", "t", 0, "b", 0) && locks.lock("g", "t", 1, "b", 0), "another group, another queue");
        assert!(locks.lock("g", "t", 0, "a", 50_000), "renewed");
        assert!(!locks.lock("g", "t", 0, "b", 60_001));
        assert!(locks.lock("g", "t", 0, "b", 110_001), "its time is over");
        locks.unlock("g", "t", 0, "a");
        assert!(!locks.lock("g", "t", 0, "a", 110_002), "a lock of another client stays");
        locks.unlock("g", "t", 0, "b");
        assert!(locks.lock("g", "t", 0, "a", 110_003));
    }
}
