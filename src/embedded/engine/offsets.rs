//! Offsets of queues, and what consumer groups have committed (protocol.md E.4, E.6, F.7).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::content::{Millis, Record};
use super::log::QueueLog;
use super::{Engine, Refusal};

/// One queue of one group: group, topic, broker, queue. A group may commit to a queue that does not exist.
type Key = (Arc<str>, Arc<str>, usize, i32);

/// All that groups have committed, and resets that nobody has seen yet.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    committed: BTreeMap<Key, i64>,
    resets: BTreeMap<Key, u64>,
    /// How far pulls have come: for administrators only.
    pulled: BTreeMap<Key, u64>,
}

fn key(group: &str, topic: &str, broker: usize, queue: i32) -> Key {
    (group.into(), topic.into(), broker, queue)
}

impl Offsets {
    pub(super) fn forget_topic(&mut self, topic: &str) {
        let is_other = |key: &Key| *key.1 != *topic;
        self.committed.retain(|key, _| is_other(key));
        self.resets.retain(|key, _| is_other(key));
        self.pulled.retain(|key, _| is_other(key));
    }

    pub(super) fn note_pull(&mut self, group: &str, topic: &str, broker: usize, queue: i32, next: u64) {
        self.pulled.insert(key(group, topic, broker, queue), next);
    }

    /// The target of a pending reset, which is used up.
    pub(super) fn take_reset(&mut self, group: &str, topic: &str, broker: usize, queue: i32) -> Option<u64> {
        if self.resets.is_empty() {
            return None;
        }
        self.resets.remove(&key(group, topic, broker, queue))
    }
}

/// A question for a committed offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryOffset<'a> {
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) broker: usize,
    pub(crate) queue: i32,
    /// A group that is new to a young queue is told 0, unless it says no to that.
    pub(crate) zero_if_young: bool,
}

/// Which message a search by time means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeBound {
    /// The first that was stored at this time or later.
    Lower,
    /// The last that was stored at this time or before.
    Upper,
}

/// A committed offset beside the queue's own, as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueProgress {
    pub(crate) topic: Arc<str>,
    pub(crate) queue: u32,
    pub(crate) max: u64,
    pub(crate) committed: Option<u64>,
    /// Where its last pull ended.
    pub(crate) pulled: Option<u64>,
    /// When the last message that was consumed had been stored.
    pub(crate) last_stored: Option<Millis>,
}

impl Engine {
    fn log(&self, topic: &str, broker: usize, queue: i32) -> Option<&QueueLog> {
        let queue = usize::try_from(queue).ok()?;
        self.topics.get(topic)?.logs.get(broker)?.get(queue)
    }

    /// First offset and the one after the last; `None`: there is no such queue.
    pub(crate) fn bounds(&self, topic: &str, broker: usize, queue: i32) -> Option<(u64, u64)> {
        self.log(topic, broker, queue).map(|log| (log.min(), log.next()))
    }

    /// Where a search by time ends (protocol.md E.4); 0 for a queue that does not exist.
    pub(crate) fn offset_at(&self, topic: &str, broker: usize, queue: i32, time: Millis, bound: TimeBound) -> u64 {
        let Some(log) = self.log(topic, broker, queue) else { return 0 };
        match bound {
            TimeBound::Lower => {
                let first = log.iter().find(|(_, record)| record.stored_at >= time);
                first.map_or_else(|| log.next(), |(offset, _)| offset)
            }
            TimeBound::Upper => {
                let last = log.iter().take_while(|(_, record)| record.stored_at <= time).last();
                last.map_or(0, |(offset, _)| offset)
            }
        }
    }

    /// When the first message that is still there was stored.
    pub(crate) fn earliest_stored(&self, topic: &str, broker: usize, queue: i32) -> Option<Millis> {
        let log = self.log(topic, broker, queue)?;
        log.get(log.min()).map(|record| record.stored_at)
    }

    /// When the last message was stored.
    pub(crate) fn last_stored(&self, topic: &str, broker: usize, queue: i32) -> Option<Millis> {
        let log = self.log(topic, broker, queue)?;
        log.get(log.next().checked_sub(1)?).map(|record| record.stored_at)
    }

    /// A plain overwrite: nobody checks the queue or the value, and a smaller one rewinds. It does nothing while a reset is
    /// pending.
    pub(crate) fn commit(
        &mut self,
        group: &str,
        topic: &str,
        broker: usize,
        queue: i32,
        offset: i64,
    ) -> Result<(), Refusal> {
        if !self.groups.contains_key(group) {
            return Err(Refusal::GroupNotFound(group.into()));
        }
        if !self.topics.contains_key(topic) {
            return Err(Refusal::TopicNotFound(topic.into()));
        }
        self.set_committed(group, topic, broker, queue, Some(offset));
        Ok(())
    }

    /// As `commit`, unasked for; `None` forgets the offset.
    pub(crate) fn set_committed(&mut self, group: &str, topic: &str, broker: usize, queue: i32, offset: Option<i64>) {
        let key = key(group, topic, broker, queue);
        if self.offsets.resets.contains_key(&key) {
            return;
        }
        match offset {
            Some(offset) => self.offsets.committed.insert(key, offset),
            None => self.offsets.committed.remove(&key),
        };
    }

    /// What the group has committed; the target of a pending reset stands before it.
    pub(crate) fn committed(&self, group: &str, topic: &str, broker: usize, queue: i32) -> Option<u64> {
        let key = key(group, topic, broker, queue);
        let committed = || u64::try_from(*self.offsets.committed.get(&key)?).ok();
        self.offsets.resets.get(&key).copied().or_else(committed)
    }

    /// `None`: not found. A young queue, whose first message is there and has not grown old, answers 0 to a new group.
    pub(crate) fn query_offset(&self, query: &QueryOffset<'_>) -> Option<u64> {
        let QueryOffset { group, topic, broker, queue, zero_if_young } = *query;
        self.committed(group, topic, broker, queue).or_else(|| {
            let is_young = !self.topics.get(topic)?.old && self.log(topic, broker, queue)?.get(0).is_some();
            (zero_if_young && is_young).then_some(0)
        })
    }

    /// An administrator sends a group elsewhere: its committed offset is that place, the next pull or pop of the queue is
    /// told, and until then commits do nothing.
    pub(crate) fn reset_offset(&mut self, group: &str, topic: &str, broker: usize, queue: i32, target: u64) {
        let key = key(group, topic, broker, queue);
        self.offsets.committed.insert(key.clone(), i64::try_from(target).unwrap_or(i64::MAX));
        self.offsets.resets.insert(key, target);
    }

    /// Moves a group's pops to where its pending resets say.
    pub(super) fn apply_resets(&mut self, group: &str, topic: &str, broker: usize) {
        if self.offsets.resets.is_empty() {
            return;
        }
        let queues = self.topics.get(topic).map_or(0, |topic| topic.queues() as i32);
        for queue in 0..queues {
            let Some(target) = self.offsets.take_reset(group, topic, broker, queue) else { continue };
            if let Some(progress) = super::progress(&mut self.groups, group, topic, broker) {
                progress.seek(queue as usize, target);
            }
        }
    }

    /// Drops the messages below an offset, as if their time were over. Returns how many there were; `None`: there is no such
    /// queue.
    pub(crate) fn expire(&mut self, topic: &str, broker: usize, queue: u32, below: u64) -> Option<usize> {
        let log = self.topics.get_mut(topic)?.logs.get_mut(broker)?.get_mut(queue as usize)?;
        Some(log.expire_below(below))
    }

    /// Puts a message into a queue that the caller chooses. `None`: there is no such queue.
    pub(crate) fn put(&mut self, topic: &str, broker: usize, queue: u32, record: Record) -> Option<u64> {
        self.log(topic, broker, i32::try_from(queue).ok()?)?;
        let topic = Arc::clone(&self.topics.get(topic)?.name);
        self.counters.sent += 1;
        Some(self.store_record(&topic, broker, queue, record))
    }

    /// The topics a group has committed offsets of, on one broker.
    pub(crate) fn committed_topics(&self, group: &str, broker: usize) -> Vec<Arc<str>> {
        let of_group = |(its_group, _, its_broker, _): &&Key| **its_group == *group && *its_broker == broker;
        let mut topics: Vec<_> = self.offsets.committed.keys().filter(of_group).map(|key| Arc::clone(&key.1)).collect();
        topics.dedup();
        topics
    }

    /// How far a group is in each queue of a topic on one broker.
    pub(crate) fn progress_of(&self, group: &str, topic: &str, broker: usize) -> Vec<QueueProgress> {
        let Some(found) = self.topics.get(topic) else { return Vec::new() };
        let progress = |(queue, log): (usize, &QueueLog)| {
            let committed = self.committed(group, topic, broker, queue as i32);
            let last = committed.and_then(|next| log.get(next.checked_sub(1)?));
            QueueProgress {
                topic: Arc::clone(&found.name),
                queue: queue as u32,
                max: log.next(),
                committed,
                pulled: self.offsets.pulled.get(&key(group, topic, broker, queue as i32)).copied(),
                last_stored: last.map(|record| record.stored_at),
            }
        };
        found.logs.get(broker).into_iter().flatten().enumerate().map(progress).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::engine::tests::{content, filled};

    fn query(engine: &Engine, zero_if_young: bool) -> Option<u64> {
        engine.query_offset(&QueryOffset { group: "g", topic: "t", broker: 0, queue: 0, zero_if_young })
    }

    #[test]
    fn a_commit_is_a_plain_overwrite_of_any_queue_with_any_value() {
        let mut engine = filled(1, ["a"; 3]);
        engine.create_group("g", Default::default());
        for (offset, seen) in [(2, Some(2)), (99_999, Some(99_999)), (1, Some(1)), (-1, None)] {
            engine.commit("g", "t", 0, 0, offset).unwrap();
            assert_eq!(query(&engine, false), seen, "{offset}");
        }
        assert_eq!(engine.commit("g", "t", 0, 77, 5), Ok(()), "nobody checks the queue");
        assert_eq!(engine.commit("nobody", "t", 0, 0, 1), Err(Refusal::GroupNotFound("nobody".into())));
        assert_eq!(engine.commit("g", "nowhere", 0, 0, 1), Err(Refusal::TopicNotFound("nowhere".into())));
    }

    #[test]
    fn a_new_group_is_told_0_of_a_young_queue_only_and_only_if_it_wants_to() {
        let mut engine = filled(1, []);
        assert_eq!(query(&engine, true), None, "an empty queue is not young");
        engine.put("t", 0, 0, Record::fresh(content("m"))).unwrap();
        assert_eq!((query(&engine, true), query(&engine, false)), (Some(0), None));
        engine.mark_old("t");
        assert_eq!(query(&engine, true), None);
        let mut engine = filled(1, ["a"; 2]);
        engine.expire("t", 0, 0, 1);
        assert_eq!(query(&engine, true), None, "its first message is gone");
    }

    #[test]
    fn p18_a_pending_reset_hides_the_commits_until_somebody_pulls() {
        let mut engine = filled(1, ["a"; 10]);
        engine.create_group("g", Default::default());
        engine.commit("g", "t", 0, 0, 8).unwrap();
        engine.reset_offset("g", "t", 0, 0, 3);
        engine.commit("g", "t", 0, 0, 9).unwrap();
        assert_eq!(query(&engine, false), Some(3), "the commit of 9 did nothing");
        assert_eq!(engine.offsets.take_reset("g", "t", 0, 0), Some(3));
        assert_eq!(query(&engine, false), Some(3));
        engine.commit("g", "t", 0, 0, 4).unwrap();
        assert_eq!(query(&engine, false), Some(4));
    }

    #[test]
    fn p13_a_search_by_time_finds_the_first_from_then_on_or_the_last_until_then() {
        let mut engine = filled(1, []);
        for time in [100, 100, 200, 300] {
            engine.put("t", 0, 0, Record { stored_at: time, ..Record::fresh(content("m")) }).unwrap();
        }
        for (time, lower, upper) in [(0, 0, 0), (100, 0, 1), (150, 2, 1), (200, 2, 2), (300, 3, 3), (301, 4, 3)] {
            assert_eq!(engine.offset_at("t", 0, 0, time, TimeBound::Lower), lower, "from {time}");
            assert_eq!(engine.offset_at("t", 0, 0, time, TimeBound::Upper), upper, "until {time}");
        }
        assert_eq!((engine.earliest_stored("t", 0, 0), engine.last_stored("t", 0, 0)), (Some(100), Some(300)));
        assert_eq!((engine.earliest_stored("t", 0, 9), engine.last_stored("t", 0, 9)), (None, None));
        assert_eq!(engine.expire("t", 0, 0, 2), Some(2));
        assert_eq!((engine.expire("t", 0, 0, 2), engine.expire("t", 0, 9, 2)), (Some(0), None));
        assert_eq!(engine.offset_at("t", 0, 0, 0, TimeBound::Lower), 2);
        assert_eq!(engine.earliest_stored("t", 0, 0), Some(200));
        assert_eq!(engine.offset_at("t", 0, 9, 0, TimeBound::Lower), 0, "an unknown queue is no error");
    }

    #[test]
    fn a_deleted_topic_begins_anew() {
        let mut engine = filled(1, ["a"; 3]);
        engine.create_group("g", Default::default());
        engine.commit("g", "t", 0, 0, 3).unwrap();
        engine.reset_offset("g", "t", 0, 0, 1);
        engine.create_topic("u", 1, crate::embedded::engine::TopicType::Normal);
        engine.commit("g", "u", 0, 0, 7).unwrap();
        engine.delete_topic("t");
        assert_eq!(engine.commit("g", "t", 0, 0, 3), Err(Refusal::TopicNotFound("t".into())));
        engine.create_topic("t", 1, crate::embedded::engine::TopicType::Normal);
        assert_eq!((engine.bounds("t", 0, 0), query(&engine, false)), (Some((0, 0)), None));
        assert_eq!(engine.committed("g", "u", 0, 0), Some(7), "another topic keeps its offsets");
    }

    #[test]
    fn p20_progress_shows_every_queue_of_the_topic() {
        let mut engine = filled(2, ["a"; 4]);
        engine.create_group("g", Default::default());
        engine.commit("g", "t", 0, 0, 1).unwrap();
        let progress = engine.progress_of("g", "t", 0);
        let seen: Vec<_> = progress.iter().map(|queue| (queue.queue, queue.max, queue.committed)).collect();
        assert_eq!(seen, [(0, 2, Some(1)), (1, 2, None)]);
        assert_eq!((progress[0].last_stored, progress[1].last_stored), (Some(0), None));
        assert_eq!(progress[0].pulled, None);
        engine.offsets.note_pull("g", "t", 0, 0, 2);
        let pulled: Vec<_> = engine.progress_of("g", "t", 0).iter().map(|queue| queue.pulled).collect();
        assert_eq!(pulled, [Some(2), None]);
        assert!(engine.progress_of("g", "nowhere", 0).is_empty() && engine.progress_of("g", "t", 9).is_empty());
        assert_eq!(engine.committed_topics("g", 0), ["t".into()]);
        assert!(engine.committed_topics("g", 1).is_empty() && engine.committed_topics("h", 0).is_empty());
    }
}
