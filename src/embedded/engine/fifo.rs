//! Ordered groups: one queue is blocked while anything of its last pop is neither acked nor visible again.

use super::content::{Millis, Record};
use super::filter::FilterProgram;
use super::group::first_offset;
use super::log::QueueLog;
use super::renew::Renewer;

/// One message of the last pop.
#[derive(Debug)]
struct Entry {
    offset: u64,
    acked: bool,
    visible_at: Millis,
    reconsumed: u32,
    suspended: bool,
    renewer: Option<Renewer>,
}

/// What an ordered pop asks for.
#[derive(Debug)]
pub(crate) struct OrderedPop<'a> {
    pub(crate) now: Millis,
    pub(crate) invisible: Millis,
    pub(crate) max: usize,
    pub(crate) attempt_id: Option<&'a str>,
    pub(crate) filter: &'a FilterProgram,
    pub(crate) old: bool,
    pub(crate) renewer: Option<Renewer>,
}

/// The order of one queue in one group.
#[derive(Debug, Default)]
pub(crate) struct FifoQueue {
    /// The first offset that is not acked; `None` until the first pop.
    committed: Option<u64>,
    popped_at: Millis,
    attempt_id: Option<Box<str>>,
    entries: Vec<Entry>,
    /// Pops up to this time were ended by a fault: their handles count as expired, whatever time they carry.
    ended: Option<Millis>,
    /// The number of this queue's timer, kept for the engine.
    number: Option<usize>,
    /// When the timer is set to, kept for the engine.
    pub(crate) timer: Option<Millis>,
}

impl FifoQueue {
    /// The number of this queue's timer, given once.
    pub(crate) fn number(&mut self, new: impl FnOnce() -> usize) -> usize {
        *self.number.get_or_insert_with(new)
    }

    /// Until when the queue yields nothing, if it is blocked. The same attempt id passes: its answer may have been lost.
    fn blocked(&self, pop: &OrderedPop<'_>) -> bool {
        let same_attempt = self.attempt_id.is_some() && self.attempt_id.as_deref() == pop.attempt_id;
        !same_attempt && self.blocked_until().is_some_and(|until| until > pop.now)
    }

    pub(crate) fn blocked_until(&self) -> Option<Millis> {
        self.entries.iter().filter(|entry| !entry.acked).map(|entry| entry.visible_at).max()
    }

    /// Forgets the order there was and goes on here.
    pub(crate) fn seek(&mut self, offset: u64) {
        self.committed = Some(offset);
        self.attempt_id = None;
        self.entries.clear();
    }

    /// Empty when the queue is blocked or has nothing. Starts at the first message that is not acked: what was acked
    /// behind it comes again.
    pub(crate) fn pop(&mut self, log: &QueueLog, pop: &OrderedPop<'_>) -> Vec<(u64, Record)> {
        if self.blocked(pop) || pop.max == 0 {
            return Vec::new();
        }
        let start = self.committed.unwrap_or_else(|| first_offset(log, pop.old)).max(log.min());
        let replay = self.attempt_id.is_some() && self.attempt_id.as_deref() == pop.attempt_id;
        let mut taken = Vec::new();
        let mut offset = start;
        while let Some(record) = log.get(offset).filter(|_| taken.len() < pop.max) {
            if pop.filter.matches(&record.content) {
                let reconsumed = self.reconsumed(offset, replay).unwrap_or(record.reconsumed);
                taken.push((offset, Record { reconsumed, ..record.clone() }));
            }
            offset += 1;
        }
        self.committed = Some(taken.first().map_or(offset, |(first, _)| *first));
        if !taken.is_empty() {
            self.remember(&taken, pop);
        }
        taken
    }

    fn reconsumed(&self, offset: u64, replay: bool) -> Option<u32> {
        let entry = self.entries.iter().find(|entry| entry.offset == offset)?;
        Some(entry.reconsumed + u32::from(!replay && !entry.suspended))
    }

    fn remember(&mut self, taken: &[(u64, Record)], pop: &OrderedPop<'_>) {
        // A pop time tells one pop of the queue from the next, so two may not fall into one millisecond.
        self.popped_at = pop.now.max(self.popped_at + 1);
        self.attempt_id = pop.attempt_id.map(Into::into);
        let last = taken.last().map_or(0, |(offset, _)| *offset);
        // A smaller pop than the one before must not forget the attempts of what lies behind it.
        let behind = self.entries.drain(..).filter(|entry| entry.offset > last);
        let behind = behind.map(|entry| Entry { acked: false, visible_at: 0, renewer: None, ..entry });
        let entry = |(offset, record): &(u64, Record)| Entry {
            offset: *offset,
            acked: false,
            visible_at: pop.now + pop.invisible,
            reconsumed: record.reconsumed,
            suspended: false,
            renewer: pop.renewer.clone(),
        };
        self.entries = taken.iter().map(entry).chain(behind.collect::<Vec<_>>()).collect();
    }

    pub(crate) fn popped_at(&self) -> Millis {
        self.popped_at
    }

    fn entry(&mut self, offset: u64, popped_at: Millis) -> Option<&mut Entry> {
        let current = self.popped_at == popped_at;
        self.entries.iter_mut().find(|entry| current && entry.offset == offset)
    }

    /// Who renews this message of the last pop.
    pub(crate) fn renewed_by(&self, offset: u64, popped_at: Millis) -> Option<&Renewer> {
        let entry = self.entries.iter().find(|entry| entry.offset == offset && !entry.acked)?;
        entry.renewer.as_ref().filter(|_| self.popped_at == popped_at)
    }

    /// `false`: nothing changed, for the handle is of an older pop or the message was acked before.
    pub(crate) fn ack(&mut self, offset: u64, popped_at: Millis) -> bool {
        let Some(entry) = self.entry(offset, popped_at).filter(|entry| !entry.acked) else { return false };
        entry.acked = true;
        match self.entries.iter().find(|entry| !entry.acked) {
            Some(first) => self.committed = Some(first.offset),
            None => {
                self.committed = self.entries.last().map(|last| last.offset + 1);
                self.entries.clear();
            }
        }
        true
    }

    /// Moves the visible time of one message. `false`: the handle is of an older pop or the message was acked.
    pub(crate) fn change(&mut self, offset: u64, popped_at: Millis, visible_at: Millis, suspended: bool) -> bool {
        let Some(entry) = self.entry(offset, popped_at).filter(|entry| !entry.acked) else { return false };
        (entry.visible_at, entry.suspended, entry.renewer) = (visible_at, suspended, None);
        true
    }

    /// Renews what a proxy renews. `true`: the queue is still blocked.
    pub(crate) fn renew(&mut self, now: Millis) -> bool {
        for entry in self.entries.iter_mut().filter(|entry| !entry.acked && entry.visible_at <= now) {
            if let Some(longer) = entry.renewer.as_mut().and_then(|renewer| renewer.renew(now)) {
                entry.visible_at = now + longer;
            }
        }
        self.is_blocked(now)
    }

    /// Makes the matching messages visible no later than `at`; their renewal ends.
    pub(crate) fn cut(&mut self, at: Millis, matches: impl Fn(Option<&Renewer>) -> bool) -> usize {
        let entries = self.entries.iter_mut().filter(|entry| !entry.acked && matches(entry.renewer.as_ref()));
        entries.map(|entry| (entry.visible_at, entry.renewer) = (entry.visible_at.min(at), None)).count()
    }

    fn is_blocked(&self, now: Millis) -> bool {
        self.blocked_until().is_some_and(|until| until > now)
    }

    /// Ends the last pop; its handles are expired from now on.
    pub(crate) fn end_all(&mut self, at: Millis) -> usize {
        self.ended = Some(self.popped_at);
        self.cut(at, |_| true)
    }

    pub(crate) fn was_ended(&self, popped_at: Millis) -> bool {
        self.ended.is_some_and(|ended| popped_at <= ended)
    }

    /// How many messages the queue waits for.
    pub(crate) fn in_flight(&self, now: Millis) -> usize {
        if self.is_blocked(now) { self.entries.iter().filter(|entry| !entry.acked).count() } else { 0 }
    }

    /// Where the next pop that is not blocked starts; `None` before the first.
    pub(crate) fn next_offset(&self, now: Millis) -> Option<u64> {
        let last = self.entries.last().filter(|_| self.is_blocked(now));
        last.map(|entry| entry.offset + 1).or(self.committed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::engine::tests::content;

    fn log(messages: usize) -> QueueLog {
        let mut log = QueueLog::new(usize::MAX);
        for index in 0..messages {
            log.append(Record::fresh(content(&format!("m{index}"))));
        }
        log
    }

    fn pop(queue: &mut FifoQueue, log: &QueueLog, now: Millis, max: usize, attempt: Option<&str>) -> Vec<(u64, u32)> {
        let filter = FilterProgram::All;
        let request =
            OrderedPop { now, invisible: 10, max, attempt_id: attempt, filter: &filter, old: false, renewer: None };
        queue.pop(log, &request).into_iter().map(|(offset, record)| (offset, record.attempt())).collect()
    }

    #[test]
    fn a_queue_is_blocked_until_the_whole_pop_is_acked() {
        let (log, mut queue) = (log(3), FifoQueue::default());
        assert_eq!(pop(&mut queue, &log, 0, 2, None), [(0, 1), (1, 1)]);
        let popped_at = queue.popped_at();
        assert_eq!(pop(&mut queue, &log, 1, 2, None), []);
        assert!(queue.ack(0, popped_at));
        assert_eq!(pop(&mut queue, &log, 2, 2, None), []);
        assert!(queue.ack(1, popped_at));
        assert_eq!(pop(&mut queue, &log, 3, 2, None), [(2, 1)]);
    }

    #[test]
    fn r14_the_same_attempt_id_gets_the_same_messages_back_at_no_cost() {
        let (log, mut queue) = (log(2), FifoQueue::default());
        assert_eq!(pop(&mut queue, &log, 0, 2, Some("a")), [(0, 1), (1, 1)]);
        let first = queue.popped_at();
        assert_eq!(pop(&mut queue, &log, 5, 2, Some("a")), [(0, 1), (1, 1)]);
        assert!(queue.popped_at() > first, "r21: a replay carries new handles");
        assert!(!queue.ack(0, first), "r21: an ack with a handle of the first answer does nothing");
        assert_eq!(pop(&mut queue, &log, 20, 2, Some("b")), [(0, 2), (1, 2)]);
    }

    #[test]
    fn what_was_acked_behind_an_unacked_message_comes_again() {
        let (log, mut queue) = (log(3), FifoQueue::default());
        pop(&mut queue, &log, 0, 3, None);
        let popped_at = queue.popped_at();
        assert!(queue.ack(0, popped_at) && queue.ack(2, popped_at));
        assert_eq!(pop(&mut queue, &log, 10, 3, None), [(1, 2), (2, 2)]);
    }

    #[test]
    fn an_ordered_group_starts_like_any_other() {
        let filter = FilterProgram::All;
        let request =
            OrderedPop { now: 0, invisible: 10, max: 9, attempt_id: None, filter: &filter, old: true, renewer: None };
        let mut early = FifoQueue::default();
        assert!(early.pop(&log(0), &request).is_empty());
        assert_eq!(early.pop(&log(3), &request).len(), 3, "it was there when the queue was empty");
        assert_eq!(FifoQueue::default().pop(&log(3), &request).len(), 1, "only the last message of an old topic");
    }

    #[test]
    fn a_smaller_pop_does_not_forget_earlier_attempts() {
        let (log, mut queue) = (log(2), FifoQueue::default());
        pop(&mut queue, &log, 0, 2, None);
        assert_eq!(pop(&mut queue, &log, 10, 1, None), [(0, 2)]);
        assert!(queue.ack(0, queue.popped_at()));
        assert_eq!(pop(&mut queue, &log, 20, 1, None), [(1, 2)]);
    }

    #[test]
    fn pops_of_one_millisecond_are_told_apart() {
        let (log, mut queue) = (log(1), FifoQueue::default());
        pop(&mut queue, &log, 7, 1, Some("a"));
        let first = queue.popped_at();
        assert_eq!(pop(&mut queue, &log, 7, 1, Some("a")), [(0, 1)]);
        assert!(queue.popped_at() > first);
        assert!(!queue.ack(0, first) && !queue.change(0, first, 9, false), "it is a handle of the first answer");
        assert!(queue.ack(0, queue.popped_at()));
    }

    #[test]
    fn what_was_acked_behind_a_smaller_pop_comes_again_too() {
        let (log, mut queue) = (log(3), FifoQueue::default());
        pop(&mut queue, &log, 0, 3, None);
        assert!(queue.ack(2, queue.popped_at()));
        assert_eq!(pop(&mut queue, &log, 10, 2, None), [(0, 2), (1, 2)]);
        let popped_at = queue.popped_at();
        assert!(queue.ack(0, popped_at) && queue.ack(1, popped_at));
        assert_eq!(pop(&mut queue, &log, 20, 3, None), [(2, 2)]);
    }

    #[test]
    fn a_smaller_replay_is_not_blocked_by_what_it_left_out() {
        let (log, mut queue) = (log(2), FifoQueue::default());
        pop(&mut queue, &log, 0, 2, Some("a"));
        assert_eq!(pop(&mut queue, &log, 5, 1, Some("a")), [(0, 1)]);
        assert!(queue.ack(0, queue.popped_at()));
        assert_eq!(pop(&mut queue, &log, 6, 1, None), [(1, 2)]);
    }

    /// A pop of `max` messages at 0, whose leases of 10 ms a proxy renews.
    fn renewed(queue: &mut FifoQueue, log: &QueueLog, max: usize) -> Millis {
        let filter = FilterProgram::All;
        let renewer = Some(Renewer::new(1, "client".into(), 0));
        let request =
            OrderedPop { now: 0, invisible: 10, max, attempt_id: Some("a"), filter: &filter, old: false, renewer };
        assert_eq!(queue.pop(log, &request).len(), max);
        queue.popped_at()
    }

    #[test]
    fn what_a_proxy_renews_is_blocked_a_minute_longer_and_only_when_its_time_is_over() {
        let (log, mut queue) = (log(3), FifoQueue::default());
        let popped_at = renewed(&mut queue, &log, 3);
        assert!(queue.ack(0, popped_at) && queue.change(1, popped_at, 4, false));
        assert!(queue.renew(9));
        assert_eq!(queue.blocked_until(), Some(10), "not over yet");
        assert!(queue.renew(10));
        assert_eq!((queue.blocked_until(), queue.in_flight(10)), (Some(60_010), 2));
        assert!(queue.change(2, popped_at, 20, false), "a change ends the renewal");
        assert!(!queue.renew(20));
        assert_eq!((queue.blocked_until(), queue.in_flight(20), queue.in_flight(19)), (Some(20), 0, 2));
    }

    #[test]
    fn only_what_is_held_now_is_renewed_by_somebody() {
        let (log, mut queue) = (log(3), FifoQueue::default());
        let first = renewed(&mut queue, &log, 3);
        let by =
            |queue: &FifoQueue, offset, popped_at| queue.renewed_by(offset, popped_at).map(|renewer| renewer.proxy);
        assert_eq!([0, 1, 2, 3].map(|offset| by(&queue, offset, first)), [Some(1), Some(1), Some(1), None]);
        assert!(queue.ack(1, first));
        assert_eq!([0, 1, 2].map(|offset| by(&queue, offset, first)), [Some(1), None, Some(1)]);
        assert_eq!(by(&queue, 0, first + 1), None, "a handle of another pop");
        // A replay that takes less lets go of what it leaves out.
        pop(&mut queue, &log, 5, 1, Some("a"));
        let second = queue.popped_at();
        assert_eq!([0, 1, 2].map(|offset| by(&queue, offset, second)), [None; 3]);
        assert_eq!(by(&queue, 0, first), None);
    }

    #[test]
    fn what_is_cut_short_is_what_matches_and_is_not_acked() {
        let (log, mut queue) = (log(3), FifoQueue::default());
        let popped_at = renewed(&mut queue, &log, 3);
        assert!(queue.ack(1, popped_at));
        assert_eq!((queue.cut(5, |renewer| renewer.is_none()), queue.blocked_until()), (0, Some(10)));
        assert_eq!((queue.cut(5, |renewer| renewer.is_some()), queue.blocked_until()), (2, Some(5)));
        assert_eq!((queue.end_all(7), queue.blocked_until()), (2, Some(5)), "no later than it was");
        assert!(queue.was_ended(popped_at) && !queue.was_ended(popped_at + 1));
    }

    #[test]
    fn a_nack_moves_the_end_of_the_block_and_a_suspension_costs_no_attempt() {
        let (log, mut queue) = (log(1), FifoQueue::default());
        pop(&mut queue, &log, 0, 1, None);
        assert!(queue.change(0, queue.popped_at(), 3, true));
        assert_eq!(pop(&mut queue, &log, 2, 1, None), []);
        assert_eq!(pop(&mut queue, &log, 3, 1, None), [(0, 1)]);
        assert!(queue.change(0, queue.popped_at(), 5, false));
        assert_eq!(pop(&mut queue, &log, 5, 1, None), [(0, 2)]);
    }
}
