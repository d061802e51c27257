//! The same work by this crate, as a user would write it, with its default settings: every message is decoded and yielded.

use anyhow::{Result, bail};
use futures::prelude::*;
use rocketmq_stream::{Client, Filter, PullConsumer, StartFrom};

use crate::Work;
use crate::side_by_side::meter::Meter;

/// The default.
const BYTES: usize = 16 << 20;

/// On one thread.
pub(crate) fn run(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

pub(crate) async fn consumer(work: &Work, start: StartFrom, bytes: usize) -> Result<PullConsumer> {
    let client = Client::builder().name_server(work.name_server.to_string()).build()?;
    let consumer = client.pull_consumer(&work.group).subscribe(&work.topic, Filter::all());
    Ok(consumer.start_from(start).max_buffered_bytes(bytes).build().await?)
}

/// From the first message, until the meter has seen enough.
pub(crate) async fn pull(work: &Work, meter: &Meter) -> Result<()> {
    let mut batches = consumer(work, StartFrom::Earliest, BYTES).await?;
    while let Some(batch) = batches.try_next().await? {
        let bytes: usize = batch.messages().iter().map(|message| message.body().len()).sum();
        std::hint::black_box(bytes);
        let count = batch.messages().len() as u64;
        batch.complete();
        if meter.count(count) {
            return Ok(());
        }
    }
    bail!("the stream ended")
}

/// What comes from now on, until one body was the last.
pub(crate) async fn live(work: &Work, mut sees: impl FnMut(&[u8]) -> bool) -> Result<()> {
    let mut batches = consumer(work, StartFrom::Latest, BYTES).await?;
    while let Some(batch) = batches.try_next().await? {
        let over = batch.messages().iter().any(|message| sees(message.body()));
        batch.complete();
        if over {
            return Ok(());
        }
    }
    bail!("the stream ended")
}
