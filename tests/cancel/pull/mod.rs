//! Futures and streams of the PullConsumer, over the embedded broker's remoting port.

mod control;
mod coverage;
mod moves;
mod streams;

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::Location;
use std::pin::pin;
use std::time::Duration;

use futures::prelude::*;
use rocketmq_stream::embedded::Broker;
use rocketmq_stream::{
    Client, Filter, Message, MessageQueue, Offset, OffsetRange, OutboundMessage, PullBatch, PullConsumer,
    PullConsumerBuilder, PullControl, StartFrom,
};

use crate::support::{Calm, PATIENCE, secs, within};
use coverage::{poll_times, poll_times_at, times};

const TOPIC: &str = "trades";
const GROUP: &str = "etl";
/// Messages in each queue, more than one pull brings.
const EACH: u64 = 10;

/// A cluster with a full [`TOPIC`], and a client that pulls over remoting.
struct Pulls {
    client: Client,
    broker: Broker,
    queues: Vec<MessageQueue>,
    ticker: tokio::task::JoinHandle<()>,
    _calm: Calm,
}

impl Drop for Pulls {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

impl Pulls {
    async fn start(queues: u32) -> Self {
        let broker = Broker::builder().topic(TOPIC, queues).start().await.expect("a broker");
        let client = Client::builder().name_server(broker.name_server()).access_point(broker.access_point());
        let client = client.build().expect("a client");
        let queues = broker.queues(TOPIC);
        // Whenever nobody has anything to do, a paused clock moves to its next timer, also while bytes are on their way: on a
        // busy machine to the deadline of what they answer. So there is always a timer that is nearer.
        let ticker = tokio::spawn(async {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let pulls = Self { client, broker, queues, ticker, _calm: Calm::default() };
        pulls.fill();
        pulls
    }

    /// Another [`EACH`] messages for each queue.
    fn fill(&self) {
        for queue in &self.queues {
            for n in 0..EACH {
                self.broker.append(queue, OutboundMessage::new(TOPIC, format!("{n}"))).expect("appended");
            }
        }
    }

    /// A member that begins where the group has committed, and saves nothing by itself.
    fn etl(&self) -> PullConsumerBuilder {
        let builder = self.client.pull_consumer(GROUP).subscribe(TOPIC, Filter::all()).max_messages(3);
        builder.start_from(StartFrom::committed_or_earliest()).commit_interval(secs(3600)).drain_timeout(secs(1))
    }

    async fn consumer(&self) -> PullConsumer {
        within(PATIENCE, "build", self.etl().build()).await.expect("a consumer")
    }

    /// What the brokers have, in the order of the queues.
    fn committed(&self) -> Vec<Option<u64>> {
        self.queues.iter().map(|queue| self.broker.committed(GROUP, queue).map(Offset::get)).collect()
    }

    /// All is seen, and once it is saved, the brokers have the ends and another member finds nothing.
    async fn is_finished(&self, control: &PullControl, seen: &Seen, polls: usize) {
        within(PATIENCE, "flush", control.flush()).await.expect("saved");
        let ends: Vec<_> = self.queues.iter().map(|queue| Some(seen.next(queue))).collect();
        assert_eq!(self.committed(), ends, "{polls} polls");
        control.shutdown(secs(5)).await.ignore();
        let mut fresh = self.consumer().await;
        assert!(tokio::time::timeout(secs(20), fresh.next()).await.is_err(), "{polls} polls: something came again");
    }
}

/// What came of each queue: whole ranges, each once, and each message once.
#[derive(Debug, Default)]
struct Seen {
    next: BTreeMap<MessageQueue, u64>,
    count: u64,
}

impl Seen {
    fn next(&self, queue: &MessageQueue) -> u64 {
        self.next.get(queue).copied().unwrap_or_default()
    }

    fn range(&mut self, queue: &MessageQueue, range: &OffsetRange, messages: &[Message]) {
        assert_eq!(range.start.get(), self.next(queue), "{queue}: the ranges follow each other");
        for message in messages {
            self.message(message);
        }
        assert_eq!(range.end.get(), self.next(queue), "{queue}: the messages fill the range");
    }

    fn batch(&mut self, batch: &PullBatch) {
        self.range(batch.queue(), &batch.range(), batch.messages());
    }

    /// By its place: the rig's queues are dense.
    fn message(&mut self, message: &Message) {
        let queue =
            MessageQueue::new(message.topic(), message.broker().unwrap_or_default(), message.queue_id().unsigned_abs());
        let offset = message.queue_offset().expect("pulled messages have one").get();
        assert_eq!(offset, self.next(&queue), "{queue}: each message once, in order");
        self.next.insert(queue, offset + 1);
        self.count += 1;
    }
}

/// Polls so often what `future` makes, drops it, and then lets another come to its end, unless the first was done.
#[track_caller]
fn dropped_then_done<F: Future>(polls: usize, mut future: impl FnMut() -> F) -> impl Future<Output = F::Output> {
    let place = Location::caller();
    async move {
        match poll_times_at(place, pin!(future()), polls).await {
            Some(output) => output,
            None => {
                within(PATIENCE, format!("the call after one that was dropped after {polls} polls"), future()).await
            }
        }
    }
}

/// The next item of a stream; where there is always one, so that nothing waits that could be dropped.
async fn next_item<S, T, E>(stream: &mut S) -> T
where
    S: Stream<Item = Result<T, E>> + Unpin,
    E: std::fmt::Debug,
{
    within(PATIENCE, "an item", stream.next()).await.expect("the stream goes on").expect("no error")
}

/// The next item of a stream, by a `next` that is dropped first.
#[track_caller]
fn next_after_a_drop<S, T, E>(stream: &mut S, polls: usize) -> impl Future<Output = T>
where
    S: Stream<Item = Result<T, E>> + Unpin,
    E: std::fmt::Debug,
{
    let place = Location::caller();
    async move {
        let item = match poll_times_at(place, pin!(stream.next()), polls).await {
            Some(item) => item,
            None => within(PATIENCE, format!("an item, {polls} polls"), stream.next()).await,
        };
        item.expect("the stream goes on").expect("no error")
    }
}
