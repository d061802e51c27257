//! Where a queue begins: which places are tried, in which order.

use std::time::SystemTime;

use crate::error::{Error, Operation, Result};
use crate::model::{Checkpoint, MessageQueue, Offset, StartFrom};

/// One place to try. Only [`Committed`](Self::Committed) can turn out to be nowhere; then the next one is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    At(Offset),
    /// What the broker has committed.
    Committed,
    /// The larger of this and what the broker has committed.
    LargerOf(Offset),
    First,
    End,
    /// The first message stored at this time or later.
    Time(SystemTime),
}

/// When a queue begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// With the consumer.
    AtStart,
    /// Later: it is new, or its broker was away. Nobody else has read it for us meanwhile.
    Appeared { started: SystemTime },
    /// Later, from another member of the group, who may have read further than we know.
    Gained { started: SystemTime },
}

/// Checks the offsets that the user names; nobody needs to be asked for that (trap P4).
///
/// # Errors
/// `InvalidArgument`: an offset that no queue can have.
pub(crate) fn check_named(start: &StartFrom) -> Result<()> {
    match start {
        StartFrom::Committed(inner) => check_named(inner),
        StartFrom::Checkpoint(checkpoint) => check("start_from", checkpoint.iter()),
        StartFrom::Offsets(offsets) => check("start_from", offsets.iter().map(|(queue, offset)| (queue, *offset))),
        StartFrom::Earliest | StartFrom::Latest | StartFrom::Timestamp(_) => Ok(()),
    }
}

/// Checks what the user's store has of the topics that are read. When it has positions, and none of those, it is mistaken
/// for another, or its consumer has changed: unless the user says where to begin, that is not to be told from a fresh start.
///
/// # Errors
/// `InvalidArgument`: positions of other topics only; an offset that no queue can have (trap P4).
pub(crate) fn check_stored(stored: &Checkpoint, start: &StartFrom, is_read: impl Fn(&str) -> bool) -> Result<()> {
    let (read, others): (Vec<_>, Vec<_>) = stored.iter().partition(|(queue, _)| is_read(queue.topic()));
    let is_named = matches!(start, StartFrom::Checkpoint(_) | StartFrom::Offsets(_));
    match others.first().filter(|_| read.is_empty() && !is_named) {
        Some((queue, _)) => Err(of_other_topics(stored.len(), queue)),
        None => check("checkpoints", read),
    }
}

fn of_other_topics(positions: usize, queue: &MessageQueue) -> Error {
    let rule = format!(
        "the store has positions of this group, e.g. of queue {queue}, and none of a topic that is read here: is it another \
         consumer's? Choose another store or group, or remove what is not read any more; or say where to begin by start_from: \
         StartFrom::Offsets or StartFrom::Checkpoint"
    );
    Error::argument("checkpoints", format!("{positions} positions"), &rule)
        .during(Operation::Checkpoint)
        .on_queue(queue)
}

/// What we know ourselves of a queue: what the user's store has for it, or what we had reached when we lost it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    Unknown,
    /// It wins over what the broker has, which may have forgotten (trap P23).
    Reached(Offset),
    /// Whoever of the group was further wins: at most once, nobody is given again what anybody was given.
    ReachedOrFurther(Offset),
}

impl Own {
    fn offset(self) -> Option<Offset> {
        match self {
            Self::Unknown => None,
            Self::Reached(offset) | Self::ReachedOrFurther(offset) => Some(offset),
        }
    }

    fn choice(self) -> Option<Choice> {
        match self {
            Self::Unknown => None,
            Self::Reached(offset) => Some(Choice::At(offset)),
            Self::ReachedOrFurther(offset) => Some(Choice::LargerOf(offset)),
        }
    }
}

/// The places to try for a queue.
///
/// # Errors
/// `InvalidArgument`: explicit offsets that leave the queue out.
pub(crate) fn choices(start: &StartFrom, own: Own, queue: &MessageQueue, when: When) -> Result<Vec<Choice>> {
    let restored = match start {
        StartFrom::Checkpoint(checkpoint) => checkpoint.get(queue),
        StartFrom::Offsets(offsets) => offsets.get(queue).copied(),
        _ => None,
    };
    let mut choices = Vec::with_capacity(3);
    match when {
        When::Gained { .. } => {
            // What was restored counted once, when the process started (trap P12).
            choices.push(own.offset().max(restored).map_or(Choice::Committed, Choice::LargerOf));
        }
        When::AtStart | When::Appeared { .. } => {
            choices.extend(restored.map(Choice::At).or_else(|| own.choice()));
            if matches!(when, When::Appeared { .. }) {
                choices.push(Choice::Committed);
            }
        }
    }
    otherwise(start, queue, when, &mut choices)?;
    Ok(choices)
}

fn check<'a>(field: &str, positions: impl IntoIterator<Item = (&'a MessageQueue, Offset)>) -> Result<()> {
    let impossible = positions.into_iter().find(|(_, offset)| i64::try_from(offset.get()).is_err());
    impossible.map_or(Ok(()), |(queue, offset)| {
        let rule = format!("offsets are at most 2^63 - 1, and this is to be one of queue {queue}");
        Err(Error::argument(field, offset, &rule).on_queue(queue))
    })
}

/// What is left when nothing is known of the queue.
fn otherwise(start: &StartFrom, queue: &MessageQueue, when: When, choices: &mut Vec<Choice>) -> Result<()> {
    let latest = match when {
        When::AtStart => Choice::End,
        // Nothing of a new queue is skipped, nothing old is read (trap P11).
        When::Appeared { started } | When::Gained { started } => Choice::Time(started),
    };
    match start {
        StartFrom::Earliest => choices.push(Choice::First),
        StartFrom::Latest => choices.push(latest),
        StartFrom::Timestamp(time) => choices.push(Choice::Time(*time)),
        StartFrom::Committed(inner) if matches!(**inner, StartFrom::Committed(_)) => {
            choices.extend([Choice::Committed, latest]);
        }
        StartFrom::Committed(inner) => {
            choices.push(Choice::Committed);
            otherwise(inner, queue, when, choices)?;
        }
        StartFrom::Checkpoint(_) => choices.extend([Choice::Committed, latest]),
        StartFrom::Offsets(offsets) if offsets.contains_key(queue) => {}
        StartFrom::Offsets(_) if when == When::AtStart => {
            let rule = "StartFrom::Offsets must name every queue that is read";
            return Err(Error::argument("start_from", queue, rule).on_queue(queue));
        }
        StartFrom::Offsets(_) => choices.extend([Choice::Committed, Choice::First]),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Choice::{At, Committed, End, First, LargerOf, Time};

    fn q() -> MessageQueue {
        MessageQueue::new("t", "b", 0)
    }

    fn tried(start: &StartFrom, own: Option<u64>, when: When) -> Vec<Choice> {
        let own = own.map_or(Own::Unknown, |own| Own::Reached(Offset::new(own)));
        tried_by(start, own, when)
    }

    fn tried_by(start: &StartFrom, own: Own, when: When) -> Vec<Choice> {
        let mut choices = choices(start, own, &q(), when).unwrap();
        let end = choices.iter().position(|choice| !matches!(choice, Committed)).map_or(choices.len(), |last| last + 1);
        choices.truncate(end);
        choices.dedup();
        choices
    }

    const T: SystemTime = SystemTime::UNIX_EPOCH;

    fn checkpoint(next: u64) -> StartFrom {
        StartFrom::Checkpoint(Checkpoint::from_iter([(q(), Offset::new(next))]))
    }

    fn offsets(next: u64) -> StartFrom {
        StartFrom::Offsets([(q(), Offset::new(next))].into())
    }

    #[test]
    fn at_the_start_what_is_restored_wins_over_the_store_and_the_store_over_the_rest() {
        for (start, own, expected) in [
            (checkpoint(7), Some(9), vec![At(Offset::new(7))]),
            (StartFrom::Earliest, Some(9), vec![At(Offset::new(9))]),
            (StartFrom::Earliest, None, vec![First]),
            (StartFrom::Latest, None, vec![End]),
            (StartFrom::Timestamp(T), None, vec![Time(T)]),
            (StartFrom::committed_or_earliest(), None, vec![Committed, First]),
            (StartFrom::committed_or_latest(), None, vec![Committed, End]),
            (StartFrom::committed_or_latest(), Some(9), vec![At(Offset::new(9))]),
            (StartFrom::Committed(Box::new(StartFrom::committed_or_earliest())), None, vec![Committed, End]),
            (StartFrom::Checkpoint(Checkpoint::new()), None, vec![Committed, End]),
            (offsets(7), None, vec![At(Offset::new(7))]),
            (offsets(7), Some(9), vec![At(Offset::new(7))]),
        ] {
            assert_eq!(tried(&start, own, When::AtStart), expected, "{start:?} {own:?}");
        }
    }

    #[test]
    fn p11_a_queue_that_appears_later_begins_where_it_would_have_begun_at_the_start() {
        let when = When::Appeared { started: T };
        for (start, own, expected) in [
            (StartFrom::Latest, None, vec![Committed, Time(T)]),
            (StartFrom::Earliest, None, vec![Committed, First]),
            (checkpoint(7), None, vec![At(Offset::new(7))]),
            (StartFrom::Latest, Some(3), vec![At(Offset::new(3))]),
            (offsets(7), None, vec![At(Offset::new(7))]),
            (StartFrom::Offsets([].into()), None, vec![Committed, First]),
        ] {
            assert_eq!(tried(&start, own, when), expected, "{start:?} {own:?}");
        }
    }

    #[test]
    fn p12_a_queue_gained_from_another_member_begins_at_the_larger_of_own_store_and_broker() {
        let when = When::Gained { started: T };
        for (start, own, expected) in [
            (checkpoint(7), None, vec![LargerOf(Offset::new(7))]),
            (checkpoint(7), Some(9), vec![LargerOf(Offset::new(9))]),
            (StartFrom::Earliest, Some(3), vec![LargerOf(Offset::new(3))]),
            (offsets(7), None, vec![LargerOf(Offset::new(7))]),
            (StartFrom::Offsets([].into()), None, vec![Committed, First]),
            (StartFrom::Latest, None, vec![Committed, Time(T)]),
        ] {
            assert_eq!(tried(&start, own, when), expected, "{start:?} {own:?}");
        }
    }

    #[test]
    fn at_most_once_in_a_group_the_larger_of_own_store_and_broker_counts_and_what_is_restored_all_the_same() {
        let own = Own::ReachedOrFurther(Offset::new(9));
        let larger = vec![LargerOf(Offset::new(9))];
        for when in [When::AtStart, When::Appeared { started: T }, When::Gained { started: T }] {
            assert_eq!(tried_by(&StartFrom::Earliest, own, when), larger, "{when:?}");
            assert_eq!(tried_by(&StartFrom::committed_or_latest(), own, when), larger, "{when:?}");
        }
        assert_eq!(tried_by(&checkpoint(7), own, When::AtStart), [At(Offset::new(7))], "who restores says so");
    }

    #[test]
    fn p4_an_impossible_offset_is_an_error_and_is_never_sent() {
        let (last, beyond) = (i64::MAX as u64, 1 << 63);
        for start in [checkpoint as fn(u64) -> StartFrom, offsets, |next| StartFrom::Committed(Box::new(offsets(next)))]
        {
            check_named(&start(last)).unwrap();
            let text = check_named(&start(beyond)).unwrap_err().to_string();
            assert!(
                ["start_from `9223372036854775808`", "2^63", "t@b:0"].iter().all(|part| text.contains(part)),
                "{text}"
            );
        }
        let stored =
            |next| check_stored(&Checkpoint::from_iter([(q(), Offset::new(next))]), &StartFrom::Latest, |_| true);
        stored(last).unwrap();
        assert!(stored(beyond).unwrap_err().to_string().contains("checkpoints `9223372036854775808`"));
        let unnamed = choices(&StartFrom::Offsets([].into()), Own::Unknown, &q(), When::AtStart).unwrap_err();
        assert!(unnamed.to_string().contains("t@b:0"), "{unnamed}");
    }

    #[test]
    fn a_store_that_knows_only_other_topics_is_refused_unless_it_is_said_where_to_begin() {
        let store = |topics: &[&str]| -> Checkpoint {
            topics.iter().map(|topic| (MessageQueue::new(*topic, "b", 0), Offset::new(5))).collect()
        };
        for (topics, start, is_good) in [
            (&[][..], StartFrom::Latest, true),
            (&["t"], StartFrom::Latest, true),
            (&["other", "t"], StartFrom::Latest, true),
            (&["other"], StartFrom::Latest, false),
            (&["other"], StartFrom::committed_or_earliest(), false),
            (&["other"], checkpoint(7), true),
            (&["other"], offsets(7), true),
        ] {
            let checked = check_stored(&store(topics), &start, |topic| topic == "t");
            assert_eq!(checked.is_ok(), is_good, "{topics:?} {start:?}");
        }
    }
}
