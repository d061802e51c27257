//! The feature `serde`: plain data in the shape that the JSON text has.

use ::serde::de::Error as _;
use ::serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::checkpoint_text::VERSION;
use crate::model::{Checkpoint, MessageQueue, Offset};

/// As its number.
impl Serialize for Offset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        i64::try_from(number).map_err(|_| D::Error::custom("an offset is at most 2^63 - 1"))?;
        Ok(Self::new(number))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "MessageQueue")]
struct Queue<T> {
    topic: T,
    broker: T,
    queue: u32,
}

/// As `topic`, `broker` and `queue`.
impl Serialize for MessageQueue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Queue { topic: self.topic(), broker: self.broker(), queue: self.id() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MessageQueue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Queue { topic, broker, queue } = Queue::<String>::deserialize(deserializer)?;
        Ok(Self::new(topic, broker, queue))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Position")]
struct Position<T> {
    topic: T,
    broker: T,
    queue: u32,
    next_offset: Offset,
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Checkpoint")]
struct Positions<T> {
    version: u64,
    positions: Vec<Position<T>>,
}

/// As [`Checkpoint::to_json`] writes it.
impl Serialize for Checkpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let positions = self.iter().map(|(queue, next_offset)| {
            let (topic, broker) = (queue.topic(), queue.broker());
            Position { topic, broker, queue: queue.id(), next_offset }
        });
        Positions { version: VERSION, positions: positions.collect() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Checkpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Positions { version, positions } = Positions::<String>::deserialize(deserializer)?;
        if version == 0 || version > VERSION {
            return Err(D::Error::custom(format!(
                "a checkpoint of version {version}; versions 1 to {VERSION} are read"
            )));
        }
        let mut checkpoint = Self::new();
        for Position { topic, broker, queue, next_offset } in positions {
            let queue = MessageQueue::new(topic, broker, queue);
            if checkpoint.set(queue.clone(), next_offset).is_some() {
                return Err(D::Error::custom(format!("queue {queue} is there twice")));
            }
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_by_serde_is_the_text_that_is_written_without_it() {
        let queue = MessageQueue::new("orders", "broker-a", 3);
        let checkpoint = Checkpoint::from_iter([(queue.clone(), Offset::new(17))]);
        let text = serde_json::to_string(&checkpoint).expect("written");
        assert_eq!(text, checkpoint.to_json());
        assert_eq!(serde_json::from_str::<Checkpoint>(&text).expect("read"), checkpoint);
        let queue_text = serde_json::to_string(&queue).expect("written");
        assert_eq!(queue_text, r#"{"topic":"orders","broker":"broker-a","queue":3}"#);
        assert_eq!(serde_json::from_str::<MessageQueue>(&queue_text).expect("read"), queue);
        assert_eq!(serde_json::to_string(&Offset::new(7)).expect("written"), "7");
    }

    #[test]
    fn p4_what_cannot_be_is_refused_by_serde_too() {
        assert!(serde_json::from_str::<Offset>("-1").is_err());
        assert!(serde_json::from_str::<Offset>("9223372036854775808").is_err());
        let newer = r#"{"version":2,"positions":[]}"#;
        assert!(serde_json::from_str::<Checkpoint>(newer).expect_err("newer").to_string().contains("version 2"));
        let position = r#"{"topic":"t","broker":"b","queue":1,"next_offset":2}"#;
        let twice = format!(r#"{{"version":1,"positions":[{position},{position}]}}"#);
        assert!(serde_json::from_str::<Checkpoint>(&twice).expect_err("twice").to_string().contains("t@b:1"));
    }
}
