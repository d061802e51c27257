//! Brokers that come back: what they had acknowledged before they went is compared with what they have, once (trap P23).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{Endpoint, MessageQueue};

/// Where a broker's master is, and by which handshake this client is known there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contact {
    pub(crate) at: Endpoint,
    pub(crate) handshake: u64,
}

/// Says which queues are to be asked about.
#[derive(Debug, Default)]
pub(crate) struct Returns {
    /// Each broker by its name, as it was seen last; also while it is away.
    seen: BTreeMap<Arc<str>, Contact>,
    /// Queues that were held when their broker came back, and were not compared since.
    due: BTreeSet<MessageQueue>,
}

impl Returns {
    /// Takes the brokers that can be reached, and the queues that are held; the queues to ask about now. A broker that is seen
    /// for the first time has forgotten nothing that we know of.
    pub(crate) fn see(&mut self, now: &BTreeMap<Arc<str>, Contact>, held: Vec<MessageQueue>) -> Vec<MessageQueue> {
        let mut back = BTreeSet::new();
        for (broker, contact) in now {
            let before = self.seen.insert(Arc::clone(broker), contact.clone());
            if before.is_some_and(|before| before != *contact) {
                back.insert(&**broker);
            }
        }
        let due = held.into_iter().filter(|queue| back.contains(queue.broker()) || self.due.contains(queue)).collect();
        self.due = due;
        self.due.iter().filter(|queue| now.contains_key(queue.broker())).cloned().collect()
    }

    /// These were compared.
    pub(crate) fn compared(&mut self, queues: &[MessageQueue]) {
        for queue in queues {
            self.due.remove(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(broker: &str, id: u32) -> MessageQueue {
        MessageQueue::new("t", broker, id)
    }

    /// Brokers by name, port of the master, and handshake.
    fn brokers(all: &[(&str, u16, u64)]) -> BTreeMap<Arc<str>, Contact> {
        let contact = |port, handshake| Contact { at: Endpoint::new("h", port), handshake };
        all.iter().map(|(name, port, handshake)| ((*name).into(), contact(*port, *handshake))).collect()
    }

    #[test]
    fn p23_each_queue_of_a_broker_that_came_back_here_or_elsewhere_is_asked_about_once() {
        let held = || vec![q("a", 0), q("a", 1), q("b", 0)];
        let mut returns = Returns::default();
        assert_eq!(returns.see(&brokers(&[("a", 1, 0), ("b", 1, 1)]), held()), [], "seen for the first time");
        assert_eq!(returns.see(&brokers(&[("b", 1, 1)]), held()), [], "a is away");
        let back = brokers(&[("a", 1, 2), ("b", 1, 1)]);
        assert_eq!(returns.see(&back, held()), [q("a", 0), q("a", 1)]);
        returns.compared(&[q("a", 0), q("a", 1)]);
        assert_eq!(returns.see(&back, held()), [], "once");
        assert_eq!(returns.see(&brokers(&[("a", 1, 2), ("b", 2, 1)]), held()), [q("b", 0)], "another master");
    }

    #[test]
    fn p23_what_got_no_answer_is_asked_about_again_while_it_is_held_and_its_broker_is_there() {
        let mut returns = Returns::default();
        returns.see(&brokers(&[("a", 1, 0)]), vec![]);
        let back = brokers(&[("a", 1, 1)]);
        assert_eq!(returns.see(&back, vec![q("a", 0), q("a", 1), q("a", 2)]).len(), 3, "also what was gained since");
        returns.compared(&[q("a", 0)]);
        assert_eq!(returns.see(&brokers(&[]), vec![q("a", 0), q("a", 1), q("a", 2)]), [], "it is away again");
        assert_eq!(returns.see(&back, vec![q("a", 0), q("a", 2)]), [q("a", 2)], "what was lost is somebody else's");
        assert_eq!(returns.see(&back, vec![]), []);
        assert_eq!(returns.see(&back, vec![q("a", 2)]), [], "and was compared when it began anew");
    }
}
