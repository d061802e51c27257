//! The traps of pulling, through the public consumer over the embedded broker's remoting port.

mod checkpoints;
mod leaving;
mod offsets;
mod peer;
mod queues;
mod relays;
mod servers;

use std::fmt::Debug;
use std::time::Duration;

use futures::prelude::*;
use rocketmq_stream::embedded::{Broker, BrokerBuilder};
use rocketmq_stream::{
    CheckpointEvent, Client, Error, ErrorKind, Filter, MessageQueue, Offset, OutboundMessage, PullBatch, PullConsumer,
    PullConsumerBuilder, PullControl, PullEvent, PullEvents, StartFrom,
};

use crate::support::{Calm, PATIENCE, secs, within};

const TOPIC: &str = "trades";
const GROUP: &str = "etl";

/// Codes of the remoting protocol.
const PULL: i32 = 11;
const QUERY_OFFSET: i32 = 14;
const COMMIT: i32 = 15;
const MAX_OFFSET: i32 = 30;
const MIN_OFFSET: i32 = 31;

/// A cluster with [`TOPIC`], and a client that pulls over remoting.
struct Pulls {
    client: Client,
    broker: Broker,
    _calm: Calm,
}

impl Pulls {
    /// One broker.
    async fn start(queues: u32) -> Self {
        Self::with(Broker::builder().topic(TOPIC, queues)).await
    }

    async fn with(builder: BrokerBuilder) -> Self {
        let broker = builder.start().await.expect("a broker");
        let client = Client::builder().name_server(broker.name_server()).access_point(broker.access_point());
        let client = client.build().expect("a client");
        Self { client, broker, _calm: Calm::default() }
    }

    /// Another process: a client of its own.
    fn other_client(&self) -> Client {
        Client::builder().name_server(self.broker.name_server()).build().expect("a client")
    }

    /// A member of [`GROUP`] that begins at the first message, and lets go of queues quickly.
    fn etl(&self) -> PullConsumerBuilder {
        etl(&self.client)
    }

    /// Appends messages with a tag to a queue.
    fn fill(&self, queue: &MessageQueue, count: usize, tag: &str) {
        for n in 0..count {
            let message = OutboundMessage::new(TOPIC, format!("{n}")).tag(tag);
            self.broker.append(queue, message).expect("appended");
        }
    }

    fn fill_all(&self, count: usize) {
        self.broker.queues(TOPIC).iter().for_each(|queue| self.fill(queue, count, "a"));
    }

    fn committed(&self, queue: &MessageQueue) -> Option<u64> {
        self.broker.committed(GROUP, queue).map(Offset::get)
    }

    fn calls(&self, codes: &[i32]) -> u64 {
        codes.iter().map(|code| self.broker.remoting_calls(*code)).sum()
    }
}

fn etl(client: &Client) -> PullConsumerBuilder {
    client
        .pull_consumer(GROUP)
        .subscribe(TOPIC, Filter::all())
        .start_from(StartFrom::Earliest)
        .drain_timeout(Duration::from_millis(100))
        .commit_interval(secs(1))
}

fn at(offset: u64) -> Offset {
    Offset::new(offset)
}

/// A queue of the first broker.
fn q(id: u32) -> MessageQueue {
    MessageQueue::new(TOPIC, "broker-a", id)
}

async fn next(consumer: &mut PullConsumer) -> PullBatch {
    let item = within(PATIENCE, "the next batch", consumer.next()).await;
    item.expect("the stream goes on").expect("a batch")
}

async fn next_error(consumer: &mut PullConsumer) -> Error {
    let item = within(PATIENCE, "an error", consumer.next()).await;
    item.expect("the stream goes on").expect_err("an error")
}

/// The next batch of this queue; what comes of others is completed.
async fn next_of(consumer: &mut PullConsumer, queue: &MessageQueue) -> PullBatch {
    loop {
        let batch = next(consumer).await;
        if batch.queue() == queue {
            return batch;
        }
        batch.complete();
    }
}

fn offsets(batch: &PullBatch) -> Vec<u64> {
    batch.messages().iter().filter_map(|one| one.queue_offset()).map(Offset::get).collect()
}

/// The offsets of the next messages of a queue, from batches that are completed, as are those of other queues.
async fn read(consumer: &mut PullConsumer, queue: &MessageQueue, count: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let batch = next_of(consumer, queue).await;
        seen.extend(offsets(&batch));
        batch.complete();
    }
    seen
}

/// This many messages of each of these queues, from batches that are completed.
async fn read_each(consumer: &mut PullConsumer, queues: &[MessageQueue], count: usize) {
    let mut left: std::collections::BTreeMap<_, _> = queues.iter().map(|queue| (queue.clone(), count)).collect();
    while left.values().any(|left| *left > 0) {
        let batch = next(consumer).await;
        let left = left.get_mut(batch.queue()).expect("one of these queues");
        *left = left.checked_sub(batch.len()).expect("no message comes twice");
        batch.complete();
    }
}

/// Nothing may come for so long.
async fn nothing_for(time: Duration, consumer: &mut PullConsumer) {
    if let Ok(item) = tokio::time::timeout(time, consumer.next()).await {
        panic!("nothing should have come within {time:?}, but there was {item:?}");
    }
}

/// Everything of a bounded read, by queue number, completed.
async fn to_its_end(consumer: &mut PullConsumer) -> Vec<(u32, u64)> {
    let mut seen = Vec::new();
    let all = async {
        while let Some(batch) = consumer.try_next().await.expect("no error") {
            let id = batch.queue().id();
            seen.extend(offsets(&batch).into_iter().map(|offset| (id, offset)));
            batch.complete();
        }
    };
    within(PATIENCE, "the end of a bounded read", all).await;
    seen.sort_unstable();
    seen
}

/// The first event that is looked for.
async fn event<T>(events: &mut PullEvents, what: &str, mut pick: impl FnMut(&PullEvent) -> Option<T>) -> T {
    let found = async {
        loop {
            let event = events.next().await.expect("the events go on");
            if let Some(found) = pick(&event) {
                return found;
            }
        }
    };
    within(PATIENCE, what, found).await
}

/// All events that have come, without waiting.
fn told(events: &mut PullEvents) -> Vec<PullEvent> {
    std::iter::from_fn(|| events.next().now_or_never().flatten()).collect()
}

/// Waits until this many queues are assigned.
async fn holds(control: &PullControl, count: usize) -> Vec<MessageQueue> {
    let mut watch = control.assignments();
    let settled = async {
        while watch.current().len() != count {
            watch.changed().await.expect("the assignment goes on");
        }
    };
    within(PATIENCE, format!("{count} queues are assigned"), settled).await;
    watch.current().iter().map(|(queue, _)| queue.clone()).collect()
}

/// Members and queues: the first had both queues of [`Pulls::start`]`(2)`, and lost one to the second.
async fn halved(first: &PullControl, second: &PullControl) -> MessageQueue {
    holds(first, 1).await;
    holds(second, 1).await.remove(0)
}

async fn ended(control: &PullControl) {
    control.shutdown(secs(5)).await.ignore();
}

#[track_caller]
fn is<T: Debug>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    let error = result.expect_err("this is refused");
    assert_eq!(error.kind(), kind, "{error}");
    error
}
