//! Positions as JSON text, written by hand: it is there without any feature, and its version is ours.

use std::fmt::Write;

use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::json::{Json, Quoted};
use crate::model::{Checkpoint, MessageQueue, Offset};

/// The version that is written, and the newest that is read.
pub(crate) const VERSION: u64 = 1;

/// The largest offset there is: the servers count in signed numbers.
const LAST_OFFSET: u64 = i64::MAX as u64;

impl Checkpoint {
    /// The checkpoint as JSON text: `{"version":1,"positions":[{"topic":…,"broker":…,"queue":…,"next_offset":…},…]}`, in
    /// the order of topic, broker and queue. Read it with [`from_json`](Self::from_json), also of later versions.
    #[must_use]
    pub fn to_json(&self) -> String {
        format!(r#"{{"version":{VERSION},"positions":{}}}"#, positions_to_json(self, ""))
    }

    /// Reads what [`to_json`](Self::to_json) wrote. Fields that are not known are ignored.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument): it is no checkpoint, of a newer version, or holds a queue twice or
    /// an offset that cannot be (negative, or above 2^63 - 1).
    pub fn from_json(text: &str) -> Result<Self> {
        let read = Json::parse(text).map_err(|error| error.to_string()).and_then(|json| {
            check_version(&json)?;
            positions_from_json(json.get("positions").ok_or("`positions` is missing")?)
        });
        read.map_err(|reason| {
            let text = format!("this text is no checkpoint: {reason}; give what Checkpoint::to_json wrote");
            Error::new(ErrorKind::InvalidArgument, text).during(Operation::Checkpoint)
        })
    }
}

/// A text of a newer version may mean something else: it is not guessed at.
pub(crate) fn check_version(json: &Json) -> Result<(), String> {
    match json.get("version").and_then(Json::as_u64) {
        None | Some(0) => Err("`version` is missing or no number".to_owned()),
        Some(version) if version > VERSION => {
            Err(format!("its version is {version}, and this crate reads up to {VERSION}: use a newer rocketmq-stream"))
        }
        Some(_) => Ok(()),
    }
}

/// An array of positions, each on a line of its own if there is something to begin a line with.
pub(crate) fn positions_to_json(checkpoint: &Checkpoint, line: &str) -> String {
    let mut text = String::from("[");
    for (at, (queue, next)) in checkpoint.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let (topic, broker) = (Quoted(queue.topic()), Quoted(queue.broker()));
        let id = queue.id();
        // Writing to a string cannot fail.
        _ = write!(text, r#"{comma}{line}{{"topic":{topic},"broker":{broker},"queue":{id},"next_offset":{next}}}"#);
    }
    text.push(']');
    text
}

pub(crate) fn positions_from_json(json: &Json) -> Result<Checkpoint, String> {
    let mut checkpoint = Checkpoint::new();
    for position in json.as_array().ok_or("`positions` is no array")? {
        let (queue, next) = position_from_json(position)?;
        if checkpoint.get(&queue).is_some() {
            return Err(format!("queue {queue} is there twice"));
        }
        checkpoint.set(queue, next);
    }
    Ok(checkpoint)
}

fn position_from_json(json: &Json) -> Result<(MessageQueue, Offset), String> {
    let text = |name: &str| {
        let text = json.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
        text.ok_or_else(|| format!("a position without a `{name}`"))
    };
    let (topic, broker) = (text("topic")?, text("broker")?);
    let id = json.get("queue").and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok());
    let id = id.ok_or_else(|| format!("a position of {topic}@{broker} without a `queue` number"))?;
    let queue = MessageQueue::new(topic, broker, id);
    match json.get("next_offset").map(|next| next.as_u64().filter(|next| *next <= LAST_OFFSET)) {
        Some(Some(next)) => Ok((queue, Offset::new(next))),
        Some(None) => Err(format!("the `next_offset` of {queue} is no offset: a whole number from 0 to 2^63 - 1")),
        None => Err(format!("the position of {queue} has no `next_offset`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checkpoint() -> Checkpoint {
        let queue = |topic: &str, broker: &str, id| MessageQueue::new(topic, broker, id);
        Checkpoint::from_iter([
            (queue("orders", "broker-b", 0), Offset::new(7)),
            (queue("orders", "broker-a", 3), Offset::new(LAST_OFFSET)),
        ])
    }

    #[test]
    fn the_text_of_version_one_stays_readable() {
        let text = r#"{"version":1,"positions":[{"topic":"orders","broker":"broker-a","queue":3,"next_offset":9223372036854775807},{"topic":"orders","broker":"broker-b","queue":0,"next_offset":7}]}"#;
        assert_eq!(checkpoint().to_json(), text);
        assert_eq!(Checkpoint::from_json(text).expect("it is one"), checkpoint());
        let empty = Checkpoint::new().to_json();
        assert_eq!(empty, r#"{"version":1,"positions":[]}"#);
        assert!(Checkpoint::from_json(&empty).expect("it is one").is_empty());
    }

    #[test]
    fn what_a_later_writer_adds_is_ignored() {
        let text = r#" {"by": "x", "positions": [ {"epoch": 3, "topic": "t", "broker": "b", "queue": 1, "next_offset": 2} ], "version": 1} "#;
        let read = Checkpoint::from_json(text).expect("it is one");
        assert_eq!(read.get(&MessageQueue::new("t", "b", 1)), Some(Offset::new(2)));
    }

    #[test]
    fn p4_what_is_no_checkpoint_is_refused_with_its_reason() {
        let with = |position: &str| format!(r#"{{"version":1,"positions":[{position}]}}"#);
        let twice = r#"{"topic":"t","broker":"b","queue":1,"next_offset":2}"#;
        for (text, why) in [
            (String::new(), "no value at byte 0"),
            ("[]".to_owned(), "`version` is missing"),
            (r#"{"version":2,"positions":[]}"#.to_owned(), "its version is 2, and this crate reads up to 1"),
            (r#"{"version":1}"#.to_owned(), "`positions` is missing"),
            (r#"{"version":1,"positions":{}}"#.to_owned(), "`positions` is no array"),
            (with("7"), "without a `topic`"),
            (with(r#"{"topic":"t","broker":"","queue":1,"next_offset":2}"#), "without a `broker`"),
            (with(r#"{"topic":"t","broker":"b","queue":-1,"next_offset":2}"#), "without a `queue` number"),
            (with(r#"{"topic":"t","broker":"b","queue":1,"next_offset":-2}"#), "`next_offset` of t@b:1 is no offset"),
            (with(r#"{"topic":"t","broker":"b","queue":1,"next_offset":2.5}"#), "is no offset"),
            (with(r#"{"topic":"t","broker":"b","queue":1,"next_offset":9223372036854775808}"#), "is no offset"),
            (with(r#"{"topic":"t","broker":"b","queue":1}"#), "has no `next_offset`"),
            (with(&format!("{twice},{twice}")), "t@b:1 is there twice"),
        ] {
            let error = Checkpoint::from_json(&text).expect_err(&text);
            assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidArgument, Some(Operation::Checkpoint)));
            assert!(error.to_string().contains(why), "{error} should say {why}");
        }
    }

    proptest! {
        #[test]
        fn any_checkpoint_is_read_as_it_was_written(
            positions in prop::collection::btree_map((".{1,8}", ".{1,8}", any::<u32>()), 0..=LAST_OFFSET, 0..20)
        ) {
            let positions = positions.into_iter();
            let checkpoint: Checkpoint = positions
                .map(|((topic, broker, id), next)| (MessageQueue::new(topic, broker, id), Offset::new(next)))
                .collect();
            prop_assert_eq!(Checkpoint::from_json(&checkpoint.to_json()).expect("it is one"), checkpoint);
        }
    }
}
