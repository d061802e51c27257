//! An append-only queue in memory, bounded by bytes: the oldest messages go when it is full.

use std::collections::VecDeque;

use super::content::Record;

#[derive(Debug)]
pub(crate) struct QueueLog {
    first: u64,
    records: VecDeque<Record>,
    bytes: usize,
    max_bytes: usize,
}

impl QueueLog {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { first: 0, records: VecDeque::new(), bytes: 0, max_bytes }
    }

    /// Returns the offset. The newest message is kept even when it alone is over the bound.
    pub(crate) fn append(&mut self, record: Record) -> u64 {
        self.bytes += record.size();
        self.records.push_back(record);
        while self.bytes > self.max_bytes && self.records.len() > 1 {
            if let Some(gone) = self.records.pop_front() {
                self.bytes -= gone.size();
                self.first += 1;
            }
        }
        self.next() - 1
    }

    /// Drops what lies below this offset, as expiry does. Returns how many messages went.
    pub(crate) fn expire_below(&mut self, offset: u64) -> usize {
        let mut count = 0;
        while self.first < offset {
            let Some(gone) = self.records.pop_front() else { break };
            self.bytes -= gone.size();
            self.first += 1;
            count += 1;
        }
        count
    }

    pub(crate) fn get(&self, offset: u64) -> Option<&Record> {
        let index = usize::try_from(offset.checked_sub(self.first)?).ok()?;
        self.records.get(index)
    }

    /// The first offset that is still there.
    pub(crate) fn min(&self) -> u64 {
        self.first
    }

    /// The offset of the next message to come.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Record)> {
        (self.first..).zip(&self.records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::engine::tests::content;

    #[test]
    fn offsets_count_on_when_old_messages_are_dropped() {
        let size = Record::fresh(content("x")).size();
        let mut log = QueueLog::new(2 * size);
        for (offset, id) in ["a", "b", "c"].into_iter().enumerate() {
            assert_eq!(log.append(Record::fresh(content(id))), offset as u64);
        }
        assert_eq!((log.min(), log.next()), (1, 3));
        assert!(log.get(0).is_none() && log.get(3).is_none());
        assert_eq!(&*log.get(2).unwrap().content.id, "c");
        assert_eq!(log.iter().map(|(offset, _)| offset).collect::<Vec<_>>(), [1, 2]);
        for (offset, id) in [(3, "d"), (4, "e")] {
            assert_eq!(log.append(Record::fresh(content(id))), offset);
            assert_eq!((log.min(), log.next()), (offset - 1, offset + 1));
        }
    }

    #[test]
    fn what_expired_makes_room_for_what_comes() {
        let size = Record::fresh(content("x")).size();
        let mut log = QueueLog::new(3 * size);
        for id in ["a", "b", "c"] {
            log.append(Record::fresh(content(id)));
        }
        assert_eq!((log.expire_below(2), log.min()), (2, 2));
        assert_eq!((log.expire_below(2), log.expire_below(0)), (0, 0), "they are gone already");
        log.append(Record::fresh(content("d")));
        log.append(Record::fresh(content("e")));
        assert_eq!((log.min(), log.next()), (2, 5), "three fit");
        log.append(Record::fresh(content("f")));
        assert_eq!((log.min(), log.next()), (3, 6), "and no more");
        assert_eq!((log.expire_below(100), log.min(), log.next()), (3, 6, 6), "the end stays where it is");
    }

    #[test]
    fn a_message_over_the_bound_is_kept_until_the_next_one_comes() {
        let mut log = QueueLog::new(1);
        log.append(Record::fresh(content("a")));
        assert!(log.get(0).is_some());
        log.append(Record::fresh(content("b")));
        assert_eq!((log.min(), log.next()), (1, 2));
    }
}
