//! What was read, and whether it came as the contract says: ranges that follow each other, messages inside them, in order.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use futures::prelude::*;
use rocketmq_stream::{
    Checkpoint, Epoch, MessageQueue, Offset, PullBatch, PullConsumer, PullEvent, PullEvents, Result,
};

use crate::cluster::Stored;
use crate::support::{PATIENCE, text, within};

/// One queue, since its last beginning.
#[derive(Debug)]
struct Track {
    /// `None` before its first batch.
    epoch: Option<Epoch>,
    next: Offset,
}

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    tracks: BTreeMap<MessageQueue, Track>,
    pub(crate) read: Vec<Stored>,
}

impl Tape {
    /// Of a consumer that was just built: the first ranges begin where it stands.
    pub(crate) fn from(start: &Checkpoint) -> Self {
        let track = |(queue, next): (&MessageQueue, Offset)| (queue.clone(), Track { epoch: None, next });
        Self { tracks: start.iter().map(track).collect(), read: Vec::new() }
    }

    pub(crate) fn note(&mut self, batch: &PullBatch) {
        let (queue, range) = (batch.queue(), batch.range());
        assert!(!batch.is_empty(), "{batch:?} is empty");
        if let Some(track) = self.tracks.get(queue) {
            match track.epoch.unwrap_or_else(|| batch.epoch()).cmp(&batch.epoch()) {
                Ordering::Equal => assert_eq!(range.start, track.next, "{batch:?}: a gap or an overlap"),
                Ordering::Less => {} // it began anew
                Ordering::Greater => panic!("{batch:?} is of an old epoch"),
            }
        }
        let mut at = range.start;
        for message in batch.messages() {
            let offset = message.queue_offset().expect("an offset");
            assert!(offset >= at && offset < range.end, "{batch:?}: a message at {offset}");
            at = Offset::new(offset.get() + 1);
            assert_eq!(message.topic(), queue.topic());
            let body = text(message).to_owned();
            self.read.push(Stored { queue: queue.clone(), offset, body });
        }
        self.tracks.insert(queue.clone(), Track { epoch: Some(batch.epoch()), next: range.end });
    }

    /// What was read, in the order of queues and offsets, each message once.
    pub(crate) fn all(&self) -> Vec<Stored> {
        sorted(&self.read)
    }
}

pub(crate) fn sorted(stored: &[Stored]) -> Vec<Stored> {
    let mut stored = stored.to_vec();
    stored.sort();
    stored
}

pub(crate) async fn next(stream: &mut (impl Stream<Item = Result<PullBatch>> + Unpin)) -> PullBatch {
    let batch = within(PATIENCE, "the next batch", stream.next()).await;
    batch.expect("the stream goes on").expect("a batch")
}

/// Reads a bounded consumer to its end, and completes everything.
pub(crate) async fn to_end(consumer: &mut PullConsumer) -> Tape {
    let mut tape = Tape::from(&consumer.position());
    while let Some(batch) = within(PATIENCE, "the next batch or the end", consumer.next()).await {
        let batch = batch.expect("a batch");
        tape.note(&batch);
        batch.complete();
    }
    tape
}

/// Reads and completes until so many messages have come in all.
pub(crate) async fn read(consumer: &mut PullConsumer, tape: &mut Tape, count: usize) {
    while tape.read.len() < count {
        let batch = next(consumer).await;
        tape.note(&batch);
        batch.complete();
    }
    assert_eq!(tape.read.len(), count, "too many came");
}

/// Nothing may come for so long.
pub(crate) async fn nothing_for(time: Duration, stream: &mut (impl Stream<Item = Result<PullBatch>> + Unpin)) {
    if let Ok(item) = tokio::time::timeout(time, stream.next()).await {
        panic!("nothing should have come within {time:?}, but there was {item:?}");
    }
}

/// The first event that fits; others are passed over.
pub(crate) async fn event<T>(events: &mut PullEvents, what: &str, mut fits: impl FnMut(PullEvent) -> Option<T>) -> T {
    let found = async {
        loop {
            let event = events.next().await.expect("the consumer lives");
            if let Some(found) = fits(event) {
                return found;
            }
        }
    };
    within(PATIENCE, what, found).await
}

pub(crate) fn o(offset: u64) -> Offset {
    Offset::new(offset)
}
