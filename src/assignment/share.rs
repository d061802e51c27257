//! The queues of one task among numbered tasks, for engines that number them and keep their positions themselves.

use crate::assignment::strategy::hash;
use crate::error::{Error, Result};
use crate::model::MessageQueue;

/// Task `index` of `of`.
///
/// Whose a queue is depends on nothing but the queue and the number of tasks. So when a queue or a broker appears, no other
/// queue changes hands, and tasks that learn of it at different times never read one queue both. The queues that one broker
/// has of a topic are shared out evenly; brokers begin at different tasks, so that the rests do not all fall to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    index: u32,
    of: u32,
}

impl Share {
    /// # Errors
    /// `Config` unless `index` is below `of`.
    pub(crate) fn new(index: u32, of: u32) -> Result<Self> {
        if index < of {
            return Ok(Self { index, of });
        }
        let rule = "tasks are numbered from 0, so the index must be below the number of tasks, which must not be 0";
        Err(Error::config("share", format!("{index} of {of}"), rule))
    }

    /// How many tasks there are.
    pub(super) const fn tasks(self) -> usize {
        self.of as usize
    }

    pub(crate) fn takes(self, queue: &MessageQueue) -> bool {
        let start = u64::from(hash(&format!("{}@{}", queue.topic(), queue.broker())));
        (start + u64::from(queue.id())) % u64::from(self.of) == u64::from(self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(topic: &str, broker: &str, count: u32) -> Vec<MessageQueue> {
        (0..count).map(|id| MessageQueue::new(topic, broker, id)).collect()
    }

    fn owners(queue: &MessageQueue, of: u32) -> Vec<u32> {
        (0..of).filter(|index| Share::new(*index, of).unwrap().takes(queue)).collect()
    }

    #[test]
    fn an_index_that_is_no_task_is_refused() {
        for (index, of) in [(0, 0), (1, 1), (2, 2), (5, 2), (u32::MAX, u32::MAX)] {
            let error = Share::new(index, of).expect_err("no task").to_string();
            assert!(error.starts_with(&format!("share `{index} of {of}`: ")), "{error}");
        }
        assert!(Share::new(u32::MAX - 1, u32::MAX).is_ok());
        assert_eq!(Share::new(1, 3).unwrap().tasks(), 3);
    }

    #[test]
    fn every_queue_belongs_to_exactly_one_task_and_one_task_has_all() {
        for of in [1, 2, 3, 7, 8] {
            for queue in
                [queues("a", "broker-a", 20), queues("a", "broker-b", 20), queues("b", "broker-a", 20)].concat()
            {
                assert_eq!(owners(&queue, of).len(), 1, "{queue} among {of}");
            }
        }
    }

    #[test]
    fn the_queues_of_one_broker_are_shared_out_evenly() {
        for (count, of) in [(8, 2), (8, 3), (8, 8), (3, 8), (16, 5)] {
            let mut sizes = vec![0_u32; of as usize];
            queues("orders", "broker-a", count).iter().for_each(|queue| sizes[owners(queue, of)[0] as usize] += 1);
            assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{count} among {of}: {sizes:?}");
        }
    }

    #[test]
    fn brokers_and_topics_begin_at_different_tasks() {
        let first = |topic: &str, broker: &str| owners(&MessageQueue::new(topic, broker, 0), 64)[0];
        let firsts = [first("a", "broker-a"), first("a", "broker-b"), first("b", "broker-a"), first("b", "broker-b")];
        assert_eq!(firsts, [8, 49, 37, 50], "fixed for ever: a task that restarts must find its queues again");
        let of_one_broker: Vec<u32> = queues("a", "broker-a", 3).iter().map(|queue| owners(queue, 64)[0]).collect();
        assert_eq!(of_one_broker, [8, 9, 10]);
    }
}
