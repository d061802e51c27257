//! The same work by this crate, as a user would write it, with its default settings: every message is decoded and yielded.

use anyhow::{Result, bail};
use futures::prelude::*;
use rocketmq_stream::{Client, Filter, StartFrom};

use crate::meter::Meter;

pub(crate) async fn pull(name_server: &str, topic: &str, group: &str, meter: &Meter) -> Result<()> {
    let client = Client::builder().name_server(name_server).build()?;
    let consumer = client.pull_consumer(group).subscribe(topic, Filter::all()).start_from(StartFrom::Earliest);
    let mut batches = consumer.build().await?;
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
