//! The whole consumer over brokers in memory.

mod adapters;
mod ends;
mod fake;
pub(crate) mod message;
mod moves;
mod queues;
mod reads;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;

use super::open::Way;
use super::{PullBatch, PullConsumer, PullConsumerBuilder};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::model::{Filter, MessageQueue, Offset, StartFrom};
use fake::{Fake, q};

/// A builder that is never connected to anything but a fake.
fn builder() -> PullConsumerBuilder {
    let client = Client::builder().access_point("localhost:1").build().unwrap();
    client.pull_consumer("g")
}

/// Reads topic `t` in the group from its first message.
fn subscribed() -> PullConsumerBuilder {
    builder().subscribe("t", Filter::all()).start_from(StartFrom::Earliest).drain_timeout(Duration::from_millis(100))
}

async fn build(builder: PullConsumerBuilder, fake: &Arc<Fake>) -> Result<PullConsumer> {
    let plan = builder.plan()?;
    let (_asks, requests) = tokio::sync::mpsc::channel(1);
    let (brokers, directory) = (Arc::<Fake>::clone(fake), Arc::<Fake>::clone(fake));
    let way = Way { brokers, directory, me: "me".into(), gate: None, requests };
    builder.build_over(way, plan).await
}

async fn next(consumer: &mut PullConsumer) -> PullBatch {
    let next = tokio::time::timeout(Duration::from_secs(60), consumer.next()).await;
    next.expect("no batch came").expect("the stream ended").expect("an error came")
}

async fn next_error(consumer: &mut PullConsumer) -> Error {
    let next = tokio::time::timeout(Duration::from_secs(60), consumer.next()).await;
    next.expect("no item came").expect("the stream ended").expect_err("a batch came")
}

/// Whether nothing comes for a while.
async fn is_silent(consumer: &mut PullConsumer) -> bool {
    tokio::time::timeout(Duration::from_secs(50), consumer.next()).await.is_err()
}

/// Offsets of the messages of one queue, from batches that are completed.
async fn read(consumer: &mut PullConsumer, queue: &MessageQueue, count: usize) -> Vec<u64> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        let batch = next(consumer).await;
        if batch.queue() == queue {
            offsets.extend(batch.messages().iter().filter_map(|one| one.queue_offset()).map(Offset::get));
        }
        batch.complete();
    }
    offsets
}

fn at(offset: u64) -> Offset {
    Offset::new(offset)
}
