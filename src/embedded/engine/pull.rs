//! Pulling by offset: what a broker answers to a request for one queue (protocol.md E.6).

use super::content::Record;
use super::filter::FilterProgram;
use super::log::QueueLog;
use super::{Engine, Millis, Refusal};

/// A broker hands out no more messages at once (`maxTransferCountOnMessageInMemory`).
const MAX_MESSAGES: usize = 32;

/// Nor more bytes, but always one message (`maxTransferBytesOnMessageInMemory`).
const MAX_BYTES: usize = 256 << 10;

/// How many messages one pull looks at: 16000 bytes of a consume queue whose entries have 20.
const MAX_SCAN: usize = 800;

/// One pull.
#[derive(Debug)]
pub(crate) struct PullRequest<'a> {
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) broker: usize,
    pub(crate) queue: i32,
    /// Nothing stops a client from asking for a negative one: it is too small.
    pub(crate) offset: i64,
    pub(crate) filter: &'a FilterProgram,
    pub(crate) max: usize,
}

/// The answer to a pull.
#[derive(Debug)]
pub(crate) struct Pull {
    pub(crate) status: PullStatus,
    /// With their offsets.
    pub(crate) messages: Vec<(u64, Record)>,
    /// Where to pull next.
    pub(crate) next: u64,
    pub(crate) min: u64,
    pub(crate) max: u64,
}

/// What a store finds at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullStatus {
    Found,
    /// There are messages, and the filter takes none of those that were looked at.
    NoMatched,
    /// The end: the next message will have this offset.
    OverflowOne,
    /// Beyond the end.
    OverflowBadly,
    /// Before the first.
    TooSmall,
    /// The queue never had a message: this is its end for who stands at 0 …
    NoMessage,
    /// … and everyone else stands in a place that never was.
    BeyondEmpty,
    /// An administrator has reset the group.
    Reset,
}

impl PullStatus {
    /// The store's name for it, which a remoting client sees as the remark.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Found => "FOUND",
            Self::NoMatched => "NO_MATCHED_MESSAGE",
            Self::OverflowOne => "OFFSET_OVERFLOW_ONE",
            Self::OverflowBadly => "OFFSET_OVERFLOW_BADLY",
            Self::TooSmall => "OFFSET_TOO_SMALL",
            Self::NoMessage | Self::BeyondEmpty => "NO_MESSAGE_IN_QUEUE",
            Self::Reset => "OFFSET_RESET",
        }
    }
}

impl Pull {
    /// Whether a message that comes could change this answer: the caller may wait for it.
    pub(crate) fn may_wait(&self) -> bool {
        matches!(self.status, PullStatus::OverflowOne | PullStatus::NoMessage)
    }
}

impl Engine {
    /// Brings the group into being if it is new. A pending reset is used up by this pull.
    pub(crate) fn pull(&mut self, request: &PullRequest<'_>, now: Millis) -> Result<Pull, Refusal> {
        let name = self.broker_name(request.broker).to_owned();
        self.reachable(&name, now)?;
        self.group(request.group);
        let topic = self.topics.get(request.topic).ok_or_else(|| Refusal::TopicNotFound(request.topic.into()))?;
        let queue = usize::try_from(request.queue).ok();
        let log = queue.and_then(|queue| topic.logs[request.broker].get(queue));
        let log = log.ok_or_else(|| Refusal::NoQueue { queue: request.queue, queues: topic.queues() })?;
        let reset = self.offsets.take_reset(request.group, request.topic, request.broker, request.queue);
        let pull = match reset {
            Some(next) => empty(log, PullStatus::Reset, next),
            None => look(log, request),
        };
        self.offsets.note_pull(request.group, request.topic, request.broker, request.queue, pull.next);
        self.counters.pulled += pull.messages.len() as u64;
        Ok(pull)
    }
}

fn empty(log: &QueueLog, status: PullStatus, next: u64) -> Pull {
    Pull { status, messages: Vec::new(), next, min: log.min(), max: log.next() }
}

fn look(log: &QueueLog, request: &PullRequest<'_>) -> Pull {
    let (min, max) = (log.min(), log.next());
    if max == 0 {
        return empty(log, if request.offset == 0 { PullStatus::NoMessage } else { PullStatus::BeyondEmpty }, 0);
    }
    match u64::try_from(request.offset) {
        Ok(offset) if offset > max => empty(log, PullStatus::OverflowBadly, max),
        Ok(offset) if offset == max => empty(log, PullStatus::OverflowOne, offset),
        Ok(offset) if offset >= min => scan(log, offset, request),
        _ => empty(log, PullStatus::TooSmall, min),
    }
}

fn scan(log: &QueueLog, offset: u64, request: &PullRequest<'_>) -> Pull {
    let (mut messages, mut bytes, mut next) = (Vec::new(), 0, offset);
    let max = request.max.clamp(1, MAX_MESSAGES);
    let end = log.next().min(offset + MAX_SCAN.max(request.max) as u64);
    while next < end && messages.len() < max {
        let Some(record) = log.get(next) else { break };
        if request.filter.matches(&record.content) {
            let size = record.content.wire_size();
            if !messages.is_empty() && bytes + size > MAX_BYTES {
                break;
            }
            bytes += size;
            messages.push((next, record.clone()));
        }
        next += 1;
    }
    let status = if messages.is_empty() { PullStatus::NoMatched } else { PullStatus::Found };
    Pull { status, messages, next, min: log.min(), max: log.next() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::embedded::engine::tests::{filled, made};
    use crate::embedded::engine::{Content, TopicType};

    fn ask(engine: &mut Engine, offset: i64, filter: &FilterProgram, max: usize) -> Pull {
        let request = PullRequest { group: "g", topic: "t", broker: 0, queue: 0, offset, filter, max };
        engine.pull(&request, 0).unwrap()
    }

    fn offsets(pull: &Pull) -> Vec<u64> {
        pull.messages.iter().map(|(offset, _)| *offset).collect()
    }

    #[test]
    fn each_place_has_its_status_and_its_next_offset() {
        let mut engine = filled(1, ["a"; 10]);
        engine.expire("t", 0, 0, 4);
        for (offset, status, next, count) in [
            (-5, PullStatus::TooSmall, 4, 0),
            (0, PullStatus::TooSmall, 4, 0),
            (3, PullStatus::TooSmall, 4, 0),
            (4, PullStatus::Found, 10, 6),
            (9, PullStatus::Found, 10, 1),
            (10, PullStatus::OverflowOne, 10, 0),
            (11, PullStatus::OverflowBadly, 10, 0),
            (i64::MAX, PullStatus::OverflowBadly, 10, 0),
        ] {
            let pull = ask(&mut engine, offset, &FilterProgram::All, 32);
            assert_eq!((pull.status, pull.next, pull.messages.len()), (status, next, count), "at {offset}");
            assert_eq!((pull.min, pull.max), (4, 10));
            assert_eq!(pull.may_wait(), offset == 10, "at {offset}");
        }
    }

    #[test]
    fn an_empty_queue_waits_at_0_and_sends_everyone_else_there() {
        let mut engine = filled(1, []);
        let start = ask(&mut engine, 0, &FilterProgram::All, 32);
        assert_eq!((start.status, start.next, start.may_wait()), (PullStatus::NoMessage, 0, true));
        let beyond = ask(&mut engine, 7, &FilterProgram::All, 32);
        assert_eq!((beyond.status, beyond.next, beyond.may_wait()), (PullStatus::BeyondEmpty, 0, false));
    }

    #[test]
    fn a_queue_whose_messages_all_expired_keeps_its_end() {
        let mut engine = filled(1, ["a"; 3]);
        engine.expire("t", 0, 0, 3);
        assert_eq!(ask(&mut engine, 0, &FilterProgram::All, 32).status, PullStatus::TooSmall);
        let end = ask(&mut engine, 3, &FilterProgram::All, 32);
        assert_eq!((end.status, end.next, end.may_wait()), (PullStatus::OverflowOne, 3, true));
    }

    #[test]
    fn an_answer_has_at_most_32_messages_and_no_request_is_too_small() {
        let mut engine = filled(1, ["a"; 100]);
        for (max, expected) in [(0, 1), (1, 1), (32, 32), (1000, 32)] {
            assert_eq!(ask(&mut engine, 0, &FilterProgram::All, max).messages.len(), expected, "{max}");
        }
    }

    #[test]
    fn an_answer_has_at_most_256_kib_but_one_message_always() {
        let mut engine = filled(1, []);
        for (id, length) in [("big", 1 << 20), ("a", 100 << 10), ("b", 100 << 10), ("c", 100 << 10)] {
            let content = Content { body: Bytes::from(vec![0; length]), ..made(id, "", None) };
            engine.append("t", content, 0).unwrap();
        }
        assert_eq!(offsets(&ask(&mut engine, 0, &FilterProgram::All, 32)), [0]);
        assert_eq!(offsets(&ask(&mut engine, 1, &FilterProgram::All, 32)), [1, 2]);
    }

    #[test]
    fn an_answer_of_exactly_256_kib_is_whole() {
        for (over, expected) in [(0, vec![0, 1]), (1, vec![0])] {
            let mut engine = filled(1, []);
            let head = made("m", "", None).wire_size() - 4;
            for length in [(100 << 10) - head, (156 << 10) - head + over] {
                let content = Content { body: Bytes::from(vec![0; length]), ..made("m", "", None) };
                engine.append("t", content, 0).unwrap();
            }
            assert_eq!(offsets(&ask(&mut engine, 0, &FilterProgram::All, 32)), expected, "{over} over");
        }
    }

    #[test]
    fn each_status_has_the_name_that_a_remoting_client_is_told() {
        use PullStatus::{BeyondEmpty, Found, NoMatched, NoMessage, OverflowBadly, OverflowOne, Reset, TooSmall};
        for (status, name) in [
            (Found, "FOUND"),
            (NoMatched, "NO_MATCHED_MESSAGE"),
            (OverflowOne, "OFFSET_OVERFLOW_ONE"),
            (OverflowBadly, "OFFSET_OVERFLOW_BADLY"),
            (TooSmall, "OFFSET_TOO_SMALL"),
            (NoMessage, "NO_MESSAGE_IN_QUEUE"),
            (BeyondEmpty, "NO_MESSAGE_IN_QUEUE"),
            (Reset, "OFFSET_RESET"),
        ] {
            assert_eq!(status.name(), name);
        }
    }

    #[test]
    fn a_pull_is_noted_and_what_it_gave_is_counted() {
        let mut engine = filled(1, ["a"; 5]);
        ask(&mut engine, 0, &FilterProgram::All, 3);
        ask(&mut engine, 3, &FilterProgram::All, 3);
        assert_eq!((engine.counters.pulled, engine.progress_of("g", "t", 0)[0].pulled), (5, Some(5)));
    }

    #[test]
    fn what_a_filter_leaves_out_is_passed_over_also_at_the_end() {
        let mut engine = filled(1, ["a", "b", "b", "a", "b"]);
        let paid = FilterProgram::tag_codes("a");
        let pull = ask(&mut engine, 1, &paid, 32);
        assert_eq!((pull.status, pull.next, offsets(&pull)), (PullStatus::Found, 5, vec![3]));
        let tail = ask(&mut engine, 4, &paid, 32);
        assert_eq!((tail.status, tail.next, tail.may_wait()), (PullStatus::NoMatched, 5, false));
        let one = ask(&mut engine, 0, &paid, 1);
        assert_eq!((one.next, offsets(&one)), (1, vec![0]), "a full answer looks no further");
    }

    #[test]
    fn a_pull_looks_at_800_messages_or_at_as_many_as_it_asks_for() {
        let mut engine = filled(1, ["b"; 2000]);
        let none = FilterProgram::tag_codes("a");
        for (max, next) in [(32, 800), (1000, 1000)] {
            let pull = ask(&mut engine, 0, &none, max);
            assert_eq!((pull.status, pull.next), (PullStatus::NoMatched, next));
        }
    }

    #[test]
    fn p29_a_reset_is_told_once_and_then_done_with() {
        let mut engine = filled(1, ["a"; 10]);
        engine.reset_offset("g", "t", 0, 0, 2);
        let pull = ask(&mut engine, 10, &FilterProgram::All, 32);
        assert_eq!((pull.status, pull.next, pull.messages.len()), (PullStatus::Reset, 2, 0));
        assert_eq!(ask(&mut engine, 2, &FilterProgram::All, 32).status, PullStatus::Found);
    }

    #[test]
    fn what_is_not_there_is_refused_by_its_name() {
        let mut engine = filled(2, []);
        let all = FilterProgram::All;
        let request = PullRequest { group: "g", topic: "t", broker: 0, queue: 2, offset: 0, filter: &all, max: 1 };
        assert_eq!(engine.pull(&request, 0).unwrap_err(), Refusal::NoQueue { queue: 2, queues: 2 });
        let negative = PullRequest { queue: -1, ..request };
        assert_eq!(engine.pull(&negative, 0).unwrap_err(), Refusal::NoQueue { queue: -1, queues: 2 });
        let elsewhere = PullRequest { topic: "x", queue: 0, ..negative };
        assert_eq!(engine.pull(&elsewhere, 0).unwrap_err(), Refusal::TopicNotFound("x".into()));
        engine.stop_broker(0, 0);
        let away = PullRequest { topic: "t", ..elsewhere };
        assert_eq!(engine.pull(&away, 0).unwrap_err(), Refusal::Unreachable("broker-a".into()));
    }

    #[test]
    fn a_topic_that_grows_has_its_new_queues_on_every_broker_and_for_every_group() {
        let mut engine = filled(1, ["a"]);
        engine.create_topic("u", 1, TopicType::Normal);
        assert!(engine.grow_topic("t", 3) && !engine.grow_topic("x", 3));
        assert_eq!((engine.topic("t").unwrap().1, engine.topic("u").unwrap().1), (3, 1));
        assert!(engine.grow_topic("t", 2), "a topic never loses a queue");
        assert_eq!(engine.topic("t").unwrap().1, 3);
        for _ in 0..3 {
            engine.append("t", made("m", "", None), 0).unwrap();
        }
        assert_eq!(engine.waiting("g", "t", 0), 4);
    }

    proptest! {
        /// Whoever goes by `next` reads what the filter takes and is still there, each once and in order, and comes to the end.
        #[test]
        fn p14_next_offsets_lead_over_every_message_once_to_the_end(
            wanted in proptest::collection::vec(any::<bool>(), 0..2000),
            expired in 0..50u64,
            max in 0..40usize,
        ) {
            let mut engine = filled(1, []);
            for (number, wanted) in wanted.iter().enumerate() {
                engine.append("t", made(&number.to_string(), if *wanted { "a" } else { "b" }, None), 0).unwrap();
            }
            engine.expire("t", 0, 0, expired);
            let (min, end) = engine.bounds("t", 0, 0).unwrap();
            let filter = FilterProgram::tag_codes("a");
            let (mut at, mut seen) = (min, Vec::new());
            while at < end {
                let pull = ask(&mut engine, at as i64, &filter, max);
                prop_assert!(matches!(pull.status, PullStatus::Found | PullStatus::NoMatched));
                prop_assert!(pull.next > at && pull.next <= end, "{} after {at}", pull.next);
                seen.extend(offsets(&pull));
                at = pull.next;
            }
            let expected: Vec<u64> = (min..end).filter(|offset| wanted[*offset as usize]).collect();
            prop_assert_eq!(seen, expected);
            prop_assert!(ask(&mut engine, at as i64, &filter, max).may_wait());
        }
    }
}
