//! Queues and offsets by hand, for tests: what is committed, what is there, and what goes wrong with either.

use std::time::UNIX_EPOCH;

use super::Broker;
use super::engine::{Content, ContentKind, Engine, Millis, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{MessageQueue, MessageType, Offset, OffsetRange, OutboundMessage};

impl Broker {
    /// All queues of a topic, by broker and number. Empty for an unknown topic.
    #[must_use]
    pub fn queues(&self, topic: &str) -> Vec<MessageQueue> {
        let brokers = self.cluster().config.brokers;
        self.cluster().with(|engine, _| {
            let queues = engine.topic(topic).map_or(0, |(_, queues)| queues);
            let on = |broker| (0..queues).map(move |id| (broker, id));
            let all = (0..brokers).flat_map(on);
            all.map(|(broker, id)| MessageQueue::new(topic, engine.broker_name(broker), id)).collect()
        })
    }

    /// Gives a topic more queues on each broker; it never loses one.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) for a bad number, [`NotFound`](ErrorKind::NotFound) when there is no such topic.
    pub fn grow_topic(&self, topic: &str, queues: u32) -> Result<()> {
        super::builder::check_queues(queues)?;
        if self.cluster().with(|engine, _| engine.grow_topic(topic, queues)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotFound, format!("grow_topic `{topic}`: there is no such topic")).on_topic(topic))
    }

    /// The first offset of a queue that is still there, and the one its next message will have. `None`: no such queue.
    #[must_use]
    pub fn offsets(&self, queue: &MessageQueue) -> Option<OffsetRange> {
        let bounds = self.cluster().with(|engine, _| {
            let broker = engine.broker(queue.broker())?;
            engine.bounds(queue.topic(), broker, i32::try_from(queue.id()).ok()?)
        });
        bounds.map(|(min, max)| Offset::new(min)..Offset::new(max))
    }

    /// Puts a message into this queue, whatever its topic; no producer is asked. Returns its offset. A delivery time is kept
    /// and not waited for.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when there is no such queue.
    pub fn append(&self, queue: &MessageQueue, message: OutboundMessage) -> Result<Offset> {
        let record = Record::fresh(std::sync::Arc::new(content(message, self.cluster().now())));
        let put = |engine: &mut Engine, broker| engine.put(queue.topic(), broker, queue.id(), record);
        self.at(queue, "append", put).map(Offset::new)
    }

    /// Drops the messages of a queue below an offset, as if their time were over. Returns how many there were.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when there is no such queue.
    pub fn expire(&self, queue: &MessageQueue, below: Offset) -> Result<usize> {
        self.at(queue, "expire", |engine, broker| engine.expire(queue.topic(), broker, queue.id(), below.get()))
    }

    /// The offset a group has committed: the first it has not yet consumed.
    #[must_use]
    pub fn committed(&self, group: &str, queue: &MessageQueue) -> Option<Offset> {
        let committed = self.cluster().with(|engine, _| {
            let broker = engine.broker(queue.broker())?;
            engine.committed(group, queue.topic(), broker, i32::try_from(queue.id()).ok()?)
        });
        committed.map(Offset::new)
    }

    /// Sets what a group has committed; `None` forgets it. Smaller than it was: what a broker that was killed does, whose last
    /// seconds of commits are lost (trap P23).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when there is no such queue.
    pub fn set_committed(&self, group: &str, queue: &MessageQueue, next: Option<Offset>) -> Result<()> {
        let next = next.map(|next| i64::try_from(next.get()).unwrap_or(i64::MAX));
        self.at(queue, "set_committed", |engine, broker| {
            engine.set_committed(group, queue.topic(), broker, queue.id() as i32, next);
            Some(())
        })
    }

    /// Resets the offset of a group as an administrator does: the next pull or receive of this queue goes on there, and until
    /// then commits do nothing.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) when there is no such queue.
    pub fn reset_offset(&self, group: &str, queue: &MessageQueue, to: Offset) -> Result<()> {
        self.at(queue, "reset_offset", |engine, broker| {
            engine.reset_offset(group, queue.topic(), broker, queue.id() as i32, to.get());
            Some(())
        })
    }

    fn at<R>(&self, queue: &MessageQueue, verb: &str, act: impl FnOnce(&mut Engine, usize) -> Option<R>) -> Result<R> {
        let done = self.cluster().with(|engine, _| {
            let broker = engine.broker(queue.broker())?;
            engine.bounds(queue.topic(), broker, i32::try_from(queue.id()).ok()?)?;
            act(engine, broker)
        });
        let error = || Error::new(ErrorKind::NotFound, format!("{verb}: there is no queue {queue}"));
        done.ok_or_else(|| error().on_topic(queue.topic()))
    }
}

/// A message as if a producer had sent it at `now`.
fn content(message: OutboundMessage, now: Millis) -> Content {
    let delivery_at = message.get_deliver_at().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let body = message.body().clone();
    Content {
        id: format!("{:032X}", fastrand::u128(..)).into(),
        kind: match message.message_type() {
            MessageType::Fifo => ContentKind::Fifo,
            MessageType::Delay => ContentKind::Delay,
            _ => ContentKind::Normal,
        },
        compressed: false,
        digest: crate::transport::body::md5(&body).into(),
        body,
        tag: message.get_tag().map(Into::into),
        keys: message.get_keys().to_vec(),
        properties: message.properties().iter().map(|(name, value)| (name.into(), value.into())).collect(),
        hidden: std::collections::BTreeMap::new(),
        flag: 0,
        codec_bits: 0,
        message_group: message.get_message_group().map(Into::into),
        trace_context: message.get_trace_context().map(Into::into),
        delivery_at: delivery_at.map(|at| at.as_millis() as Millis),
        born_at: now,
        born_host: "127.0.0.1".into(),
        stored_at: now,
    }
}
