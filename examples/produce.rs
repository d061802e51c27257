//! A sink under load: many messages in flight, bounded, at a steady rate, with a progress bar.
//!
//! `cargo run --example produce` uses an embedded broker. On a server of yours:
//! `cargo run --example produce -- --access-point HOST:PORT --topic T --count 100000 --size 1024 --rate 5000`

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "the rules on output and time are for the library")]

use std::time::{Duration, Instant};

use clap::Parser;
use futures::prelude::*;
use indicatif::{ProgressBar, ProgressStyle};
use rocketmq_stream::{Client, Error, OutboundMessage, SendStreamExt, embedded};

#[derive(Parser)]
struct Args {
    /// The proxy of a RocketMQ server; without it, one is embedded.
    #[arg(long)]
    access_point: Option<String>,
    /// A topic of type NORMAL.
    #[arg(long, default_value = "orders")]
    topic: String,
    /// How many messages to send.
    #[arg(long, default_value_t = 1_000)]
    count: u32,
    /// Bytes of each body.
    #[arg(long, default_value_t = 1_024)]
    size: usize,
    /// Messages per second at most; as fast as the server takes them without it.
    #[arg(long)]
    rate: Option<f64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { access_point, topic, count, size, rate } = Args::parse();
    let broker = embedded::Broker::builder().topic(&topic, 4).start().await?;
    let client = Client::builder().access_point(access_point.unwrap_or_else(|| broker.access_point())).build()?;
    let producer = client.producer().topic(&topic).build().await?;

    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} messages, {per_sec}, {eta} left")?;
    let progress = ProgressBar::new(count.into()).with_style(style);
    let pause = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate.max(0.001)));
    let started = Instant::now();
    let body = bytes::Bytes::from(vec![b'x'; size]); // shared by all messages, not copied
    let messages = (0..count).map(|n| (n, OutboundMessage::new(&topic, body.clone()).key(n.to_string())));

    let sent = stream::iter(messages)
        .then(|(n, message)| async move {
            if !pause.is_zero() {
                tokio::time::sleep_until((started + pause * n).into()).await;
            }
            Ok::<_, Error>((message, n))
        })
        .boxed()
        .send_with(&producer, 256)
        .inspect_ok(|_| progress.inc(1))
        .try_fold(0, |count, _| future::ok(count + 1))
        .await?;
    progress.finish();

    let _report = producer.shutdown(Duration::from_secs(10)).await;
    println!("{sent} messages of {size} bytes in {:.2?}", started.elapsed());
    Ok(())
}
