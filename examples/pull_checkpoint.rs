//! Exactly-once output: every message of a topic is in a file once, whatever kills this program, because a position is saved
//! together with the length that the file had there.
//!
//! `cargo run --example pull_checkpoint` reads some messages on an embedded broker. On a server of yours:
//! `cargo run --example pull_checkpoint -- --name-server HOST:9876 --topic T --checkpoint etl.ckpt --output etl.txt`
//! writes one line `broker queue offset body` per message until Ctrl-C, or to today's end with `--until now`.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "the rules on output and time are for the library")]

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use futures::prelude::*;
use rocketmq_stream::{
    BoxError, Checkpoint, CheckpointStore, Client, CommitMode, Filter, OutboundMessage, PullBatch, StartFrom, StopAt,
    embedded,
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
    #[arg(long, default_value = "orders-etl")]
    group: String,
    /// Positions, and the length of the output at them.
    #[arg(long, default_value = "pull_checkpoint.ckpt")]
    checkpoint: PathBuf,
    #[arg(long, default_value = "pull_checkpoint.txt")]
    output: PathBuf,
    /// `now`: stop at the end that the topic has when this begins.
    #[arg(long, value_parser = ["now"])]
    until: Option<String>,
}

/// The lines, and where they stand: what is behind the saved length was written by a run that did not come to save it.
struct Output {
    file: BufWriter<File>,
    length: u64,
    state: PathBuf,
    positions: Checkpoint,
}

impl Output {
    fn open(output: &Path, state: &Path) -> anyhow::Result<Self> {
        let (length, positions) = match fs::read_to_string(state) {
            Ok(text) => parse(&text).with_context(|| format!("{} is not what this program wrote", state.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => (0, Checkpoint::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", state.display())),
        };
        let file = OpenOptions::new().create(true).append(true).open(output)?;
        anyhow::ensure!(file.metadata()?.len() >= length, "{} is shorter than it was", output.display());
        file.set_len(length)?;
        Ok(Self { file: BufWriter::new(file), length, state: state.to_owned(), positions })
    }

    fn write(&mut self, batch: &PullBatch) -> std::io::Result<()> {
        for (message, queue) in batch.messages().iter().map(|message| (message, batch.queue())) {
            let offset = message.queue_offset().map_or(0, |offset| offset.get());
            let line = format!("{} {} {offset} {}\n", queue.broker(), queue.id(), message.body().escape_ascii());
            self.file.write_all(line.as_bytes())?;
            self.length += line.len() as u64;
        }
        Ok(())
    }

    /// First the lines, then positions and length in one step: a crash leaves both as they were, or both new.
    fn save(&mut self, moved: &Checkpoint) -> anyhow::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_data()?;
        for (queue, next) in moved.iter() {
            self.positions.set(queue.clone(), next);
        }
        let new = self.state.with_extension("new");
        let mut file = File::create(&new)?;
        write!(file, "{}\n{}\n", self.length, self.positions.to_json())?;
        file.sync_all()?;
        fs::rename(&new, &self.state)?;
        let folder =
            self.state.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        Ok(File::open(folder)?.sync_all()?)
    }
}

fn parse(text: &str) -> anyhow::Result<(u64, Checkpoint)> {
    let (length, positions) = text.split_once('\n').context("it has one line")?;
    Ok((length.parse()?, Checkpoint::from_json(positions)?))
}

/// The consumer starts at the positions in it, and `control.commit` saves them in it.
#[derive(Clone)]
struct Store(Arc<Mutex<Output>>);

impl CheckpointStore for Store {
    async fn load(&self, _group: &str) -> Result<Checkpoint, BoxError> {
        Ok(self.0.lock().map_err(|error| error.to_string())?.positions.clone())
    }

    async fn save(&self, _group: &str, checkpoint: &Checkpoint) -> Result<(), BoxError> {
        self.0.lock().map_err(|error| error.to_string())?.save(checkpoint)?;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    let broker = embedded::Broker::builder().topic(&args.topic, 4).start().await?;
    let mut client = Client::builder();
    if let Some(name_server) = &args.name_server {
        client = client.name_server(name_server);
    } else if let Some(access_point) = &args.access_point {
        client = client.access_point(access_point);
    } else {
        client = client.name_server(broker.name_server()).access_point(broker.access_point());
        send_some(&client.clone().build()?, &args.topic).await?;
        args.until = Some("now".into());
    }
    let output = Output::open(&args.output, &args.checkpoint)?;
    for (queue, next) in output.positions.iter() {
        println!("{queue} continues at offset {next}");
    }
    if output.positions.is_empty() {
        println!("nothing was read before: every queue begins at its first message");
    }
    let output = Store(Arc::new(Mutex::new(output)));

    // Alone in its group, since nobody else knows these positions; and positions are saved only when the program says so.
    let consumer = client.build()?.pull_consumer(&args.group).subscribe(&args.topic, Filter::all()).share(0, 1);
    let consumer = consumer.start_from(StartFrom::Earliest).checkpoints(output.clone()).commit_mode(CommitMode::Manual);
    let bounded = if args.until.is_some() { consumer.until(StopAt::Now) } else { consumer };
    copy(bounded.build().await?, &output).await
}

async fn copy(mut consumer: rocketmq_stream::PullConsumer, output: &Store) -> anyhow::Result<()> {
    let control = consumer.control();
    let mut written = 0;
    let mut saved = Instant::now();
    loop {
        let next = tokio::select! {
            batch = consumer.try_next() => batch?,
            () = tokio::time::sleep(Duration::from_millis(50)) => { // nothing came: save what there is
                control.commit(&consumer.position()).await?;
                continue;
            }
            interrupted = tokio::signal::ctrl_c() => { interrupted?; None }
        };
        let Some(batch) = next else { break };
        output.0.lock().map_err(|error| anyhow::anyhow!("{error}"))?.write(&batch)?;
        written += batch.len();
        batch.complete();
        if saved.elapsed() > Duration::from_millis(50) {
            control.commit(&consumer.position()).await?;
            saved = Instant::now();
        }
    }
    control.commit(&consumer.position()).await?;
    println!("{written} messages written");
    control.shutdown(Duration::from_secs(5)).await.ignore();
    Ok(())
}

async fn send_some(client: &Client, topic: &str) -> anyhow::Result<()> {
    let producer = client.producer().build().await?;
    let messages = (0..100).map(|n| Ok(OutboundMessage::new(topic, format!("order {n}"))));
    Ok(stream::iter(messages).forward(producer.sink()).await?)
}
