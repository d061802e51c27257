//! A bounded replay: all messages of a topic since a moment, into a file of JSON lines, with a progress bar for each queue.
//!
//! `cargo run --example replay` replays some messages of an embedded broker. On a server of yours:
//! `cargo run --example replay -- --name-server HOST:9876 --topic T --minutes 60 --output replay.ndjson`

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "the rules on output and time are for the library")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use futures::prelude::*;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rocketmq_stream::{
    Checkpoint, Client, CommitMode, Filter, Message, MessageQueue, OutboundMessage, PullConsumer, PullControl,
    StartFrom, StopAt, embedded,
};

#[derive(Parser)]
struct Args {
    /// The name server of a RocketMQ cluster; without it, one is embedded.
    #[arg(long)]
    name_server: Option<String>,
    /// The proxy, for servers that serve pulls over gRPC (Apache's does not).
    #[arg(long, conflicts_with = "name_server")]
    access_point: Option<String>,
    #[arg(long, default_value = "orders")]
    topic: String,
    #[arg(long, default_value = "replay")]
    group: String,
    /// Begin with what was stored so many minutes ago.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    #[arg(long, default_value = "replay.ndjson")]
    output: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let broker = embedded::Broker::builder().topic(&args.topic, 4).start().await?;
    let client = match (&args.name_server, &args.access_point) {
        (Some(name_server), _) => Client::builder().name_server(name_server).build()?,
        (None, Some(access_point)) => Client::builder().access_point(access_point).build()?,
        (None, None) => {
            let both = Client::builder().name_server(broker.name_server()).access_point(broker.access_point());
            let client = both.build()?;
            send_some(&client, &args.topic).await?;
            client
        }
    };

    let since = SystemTime::now().checked_sub(Duration::from_secs(args.minutes * 60)).unwrap_or(UNIX_EPOCH);
    let consumer = client
        .pull_consumer(&args.group)
        .subscribe(&args.topic, Filter::all())
        .share(0, 1) // all queues, and no part in a group's sharing
        .start_from(StartFrom::Timestamp(since))
        .until(StopAt::Now)
        .commit_mode(CommitMode::Manual) // a replay leaves no position behind
        .build()
        .await?;
    let bars = Bars::of(consumer.position(), consumer.control()).await?;
    let written = write(consumer, &args.output, &bars).await?;
    println!("{written} messages in {}", args.output.display());
    Ok(())
}

async fn write(mut consumer: PullConsumer, output: &PathBuf, bars: &Bars) -> anyhow::Result<usize> {
    let mut file = BufWriter::new(File::create(output)?);
    let mut written = 0;
    while let Some(batch) = consumer.try_next().await? {
        for message in batch.messages() {
            writeln!(file, "{}", line(batch.queue(), message))?;
        }
        written += batch.len();
        bars.advance(batch.queue(), batch.next_offset().get());
        batch.complete();
    }
    file.flush()?;
    Ok(written)
}

fn line(queue: &MessageQueue, message: &Message) -> serde_json::Value {
    let millis = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    serde_json::json!({
        "broker": queue.broker(),
        "queue": queue.id(),
        "offset": message.queue_offset().map(|offset| offset.get()),
        "stored_ms": message.store_timestamp().map(millis),
        "id": message.id(),
        "tag": message.tag(),
        "keys": message.keys(),
        "properties": message.properties().iter().collect::<HashMap<_, _>>(),
        "body": String::from_utf8_lossy(message.body()),
    })
}

/// One bar for each queue, from where it begins to where it ends.
struct Bars(HashMap<MessageQueue, (u64, ProgressBar)>);

impl Bars {
    async fn of(begins: Checkpoint, control: PullControl) -> anyhow::Result<Self> {
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("{prefix:30} {bar:30} {human_pos}/{human_len} {per_sec}")?;
        let mut bars = HashMap::new();
        for (queue, begin) in begins.iter() {
            let end = control.bounds(queue).await?.end;
            let bar = ProgressBar::new(end.get().saturating_sub(begin.get())).with_style(style.clone());
            let bar = all.add(bar.with_prefix(queue.to_string()));
            bars.insert(queue.clone(), (begin.get(), bar));
        }
        Ok(Self(bars))
    }

    fn advance(&self, queue: &MessageQueue, next: u64) {
        if let Some((begin, bar)) = self.0.get(queue) {
            bar.set_position(next.saturating_sub(*begin));
        }
    }
}

async fn send_some(client: &Client, topic: &str) -> anyhow::Result<()> {
    let producer = client.producer().build().await?;
    let messages = (0..1_000).map(|n| Ok(OutboundMessage::new(topic, format!("order {n}")).tag("paid")));
    Ok(stream::iter(messages).forward(producer.sink()).await?)
}
