//! What a consumer group has done with a topic on one broker: how far it popped, what comes back.

use super::content::{Millis, Record};
use super::fifo::FifoQueue;
use super::filter::FilterProgram;
use super::handle::Source;
use super::log::QueueLog;

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) source: Source,
    pub(crate) queue: u32,
    pub(crate) offset: u64,
    pub(crate) record: Record,
}

/// Progress of one group in one topic on one broker.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Per queue: the next offset to pop; `None` until the first pop.
    popped: Vec<Option<u64>>,
    pub(crate) retry: QueueLog,
    retry_popped: u64,
    pub(crate) fifo: Vec<FifoQueue>,
    turn: usize,
}

/// Where a group starts in a queue it has never read: a young queue, whose first message is still there, from the
/// beginning; an old one at its last message.
pub(crate) fn first_offset(log: &QueueLog, old: bool) -> u64 {
    if old || log.min() > 0 { log.next().saturating_sub(1).max(log.min()) } else { 0 }
}

impl Progress {
    pub(crate) fn new(queues: usize, max_retry_bytes: usize) -> Self {
        Self {
            popped: vec![None; queues],
            retry: QueueLog::new(max_retry_bytes),
            retry_popped: 0,
            fifo: (0..queues).map(|_| FifoQueue::default()).collect(),
            turn: 0,
        }
    }

    /// Follows a topic that got more queues.
    pub(crate) fn grow(&mut self, queues: usize) {
        let queues = queues.max(self.popped.len());
        self.popped.resize(queues, None);
        self.fifo.resize_with(queues, FifoQueue::default);
    }

    /// The next pop of this queue starts here.
    pub(crate) fn seek(&mut self, queue: usize, offset: u64) {
        if let (Some(popped), Some(fifo)) = (self.popped.get_mut(queue), self.fifo.get_mut(queue)) {
            *popped = Some(offset);
            fifo.seek(offset);
        }
    }

    /// Pops up to `max` messages that match; what does not match is consumed for the whole group.
    ///
    /// Every fifth time the retries come first, so that a busy topic does not starve them (Apache: with probability 20 %).
    pub(crate) fn take(&mut self, logs: &[QueueLog], old: bool, filter: &FilterProgram, max: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        self.turn = self.turn.wrapping_add(1);
        let retries_first = self.turn.is_multiple_of(5);
        if retries_first {
            self.take_retries(filter, max, &mut taken);
        }
        for step in 0..logs.len() {
            let queue = (self.turn + step) % logs.len();
            self.take_from(queue, &logs[queue], old, filter, max, &mut taken);
        }
        if !retries_first {
            self.take_retries(filter, max, &mut taken);
        }
        taken
    }

    fn take_from(
        &mut self,
        queue: usize,
        log: &QueueLog,
        old: bool,
        filter: &FilterProgram,
        max: usize,
        taken: &mut Vec<Taken>,
    ) {
        let mut offset = self.popped[queue].unwrap_or_else(|| first_offset(log, old)).max(log.min());
        while taken.len() < max {
            let Some(record) = log.get(offset) else { break };
            if filter.matches(&record.content) {
                taken.push(Taken { source: Source::Topic, queue: queue as u32, offset, record: record.clone() });
            }
            offset += 1;
        }
        // Also when the queue is empty: from the first pop on, the group misses nothing that comes.
        self.popped[queue] = Some(offset);
    }

    fn take_retries(&mut self, filter: &FilterProgram, max: usize, taken: &mut Vec<Taken>) {
        let mut offset = self.retry_popped.max(self.retry.min());
        while taken.len() < max {
            let Some(record) = self.retry.get(offset) else { break };
            if filter.matches(&record.content) {
                taken.push(Taken { source: Source::Retry, queue: 0, offset, record: record.clone() });
            }
            offset += 1;
        }
        self.retry_popped = offset;
    }

    /// Messages of the topic that were not handed out, and retries that wait to be. `fifo_at`: the group is ordered.
    pub(crate) fn waiting(&self, logs: &[QueueLog], old: bool, fifo_at: Option<Millis>) -> u64 {
        let unread = |(queue, log): (usize, &QueueLog)| {
            let popped = fifo_at.map_or(self.popped[queue], |now| self.fifo[queue].next_offset(now));
            // A reset may have sent the group beyond the end.
            log.next().saturating_sub(popped.unwrap_or_else(|| first_offset(log, old)).max(log.min()))
        };
        let unread: u64 = logs.iter().enumerate().map(unread).sum();
        unread + self.retry.next() - self.retry_popped.max(self.retry.min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::engine::tests::{content, tagged};

    fn log(messages: usize) -> QueueLog {
        let mut log = QueueLog::new(usize::MAX);
        for index in 0..messages {
            log.append(Record::fresh(content(&format!("m{index}"))));
        }
        log
    }

    fn ids(taken: &[Taken]) -> Vec<String> {
        taken.iter().map(|taken| taken.record.content.id.to_string()).collect()
    }

    #[test]
    fn r15_a_new_group_reads_a_young_topic_from_its_beginning_and_an_old_one_from_its_last_message() {
        let logs = [log(3)];
        let mut young = Progress::new(1, usize::MAX);
        assert_eq!(ids(&young.take(&logs, false, &FilterProgram::All, 32)), ["m0", "m1", "m2"]);
        let mut old = Progress::new(1, usize::MAX);
        assert_eq!(ids(&old.take(&logs, true, &FilterProgram::All, 32)), ["m2"]);
        let mut full = QueueLog::new(2 * Record::fresh(content("m")).size());
        for id in ["m0", "m1", "m2"] {
            full.append(Record::fresh(content(id)));
        }
        let mut late = Progress::new(1, usize::MAX);
        assert_eq!(ids(&late.take(&[full], false, &FilterProgram::All, 32)), ["m2"], "its first message is gone");
    }

    #[test]
    fn a_group_that_has_begun_is_not_moved_when_the_topic_grows_old() {
        let mut logs = [log(1)];
        let mut progress = Progress::new(1, usize::MAX);
        progress.take(&logs, false, &FilterProgram::All, 32);
        for id in ["x", "y"] {
            logs[0].append(Record::fresh(content(id)));
        }
        assert_eq!(ids(&progress.take(&logs, true, &FilterProgram::All, 32)), ["x", "y"]);
    }

    #[test]
    fn a_group_that_found_an_old_queue_empty_misses_nothing_that_comes_later() {
        let mut progress = Progress::new(1, usize::MAX);
        assert!(progress.take(&[log(0)], true, &FilterProgram::All, 32).is_empty());
        assert_eq!(ids(&progress.take(&[log(2)], true, &FilterProgram::All, 32)), ["m0", "m1"]);
    }

    #[test]
    fn retries_are_not_starved_by_a_busy_topic() {
        let logs = [log(100)];
        let mut progress = Progress::new(1, usize::MAX);
        progress.retry.append(Record::fresh(content("retry")));
        let found = (0..5).flat_map(|_| ids(&progress.take(&logs, false, &FilterProgram::All, 1))).collect::<Vec<_>>();
        assert!(found.contains(&"retry".to_owned()), "{found:?}");
        assert_eq!(progress.waiting(&logs, false, None), 96);
    }

    #[test]
    fn a_pop_looks_into_every_queue_whoevers_turn_it_is() {
        let mut progress = Progress::new(3, usize::MAX);
        let mut logs = [log(0), log(0), log(0)];
        for round in 0..10 {
            for log in &mut logs {
                log.append(Record::fresh(content("m")));
            }
            let mut queues: Vec<_> =
                progress.take(&logs, false, &FilterProgram::All, 32).iter().map(|taken| taken.queue).collect();
            queues.sort_unstable();
            assert_eq!(queues, [0, 1, 2], "round {round}");
        }
    }

    #[test]
    fn retries_are_no_more_than_were_asked_for_and_only_those_that_match() {
        let mut progress = Progress::new(1, usize::MAX);
        for (id, tag) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "x")] {
            progress.retry.append(Record::fresh(tagged(id, tag)));
        }
        let filter = FilterProgram::tags("x");
        let mut take = |max| ids(&progress.take(&[log(0)], false, &filter, max));
        assert_eq!(
            (take(0), take(1), take(1), take(9)),
            (vec![], ["a"].map(str::to_owned).into(), ["c"].map(str::to_owned).into(), ["d"].map(str::to_owned).into())
        );
    }
}
