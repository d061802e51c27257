//! Concurrent work on messages, each settled by itself: acknowledged, or given back when it failed.
//!
//! `cargo run --example simple_ack` sends itself some messages on an embedded broker. On a server of yours:
//! `cargo run --example simple_ack -- --access-point HOST:PORT --topic T --group G --count N`
//! prints one line per message and exits after exactly N of them were acknowledged; what came beside them is given back.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "the rules on output and time are for the library")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::Parser;
use futures::prelude::*;
use rocketmq_stream::{Client, Delivery, Filter, Message, OutboundMessage, embedded};
use tokio::sync::Semaphore;

#[derive(Parser)]
struct Args {
    /// The proxy of a RocketMQ server; without it, one is embedded.
    #[arg(long)]
    access_point: Option<String>,
    /// A topic of type NORMAL.
    #[arg(long, default_value = "orders")]
    topic: String,
    #[arg(long, default_value = "billing")]
    group: String,
    /// Exit after so many acknowledged messages.
    #[arg(long, default_value_t = 10)]
    count: u32,
    /// How many messages are worked on at once.
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
}

/// What your program does with a message.
async fn work(message: &Message) -> anyhow::Result<()> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    anyhow::ensure!(!message.body().is_empty(), "nothing to do");
    Ok(())
}

/// Works on one message and settles it. Its failure concerns no other message. Each message that is to be acknowledged takes
/// one of the `wanted` permits and keeps it when it was; whoever finds them used up gives its message back.
async fn handle(delivery: Delivery, wanted: &Semaphore, left: &AtomicU32) {
    let message = delivery.message().clone(); // shares the body
    let Ok(permit) = wanted.acquire().await else {
        drop(delivery.nack(Duration::ZERO)); // queued: the shutdown waits for it
        return;
    };
    let settled = match work(&message).await {
        Ok(()) => delivery.ack().await.map(|()| {
            permit.forget();
            left.fetch_sub(1, Ordering::Relaxed);
        }),
        Err(error) => {
            eprintln!("{}: {error}; it comes again in 10 s", message.id());
            delivery.nack(Duration::from_secs(10)).await
        }
    };
    let text = String::from_utf8_lossy(message.body());
    match settled {
        Ok(()) => println!("{} attempt {}: {text:.40}", message.id(), message.delivery_attempt()),
        Err(error) => eprintln!("{}: {error}", message.id()),
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let broker = embedded::Broker::builder().topic(&args.topic, 4).start().await?;
    let embedded = args.access_point.is_none();
    let client = Client::builder().access_point(args.access_point.unwrap_or_else(|| broker.access_point())).build()?;
    if embedded {
        let producer = client.producer().build().await?;
        // A few more than are wanted: they stay for others.
        let messages = (0..args.count + 5).map(|n| Ok(OutboundMessage::new(&args.topic, format!("order {n}"))));
        stream::iter(messages).forward(producer.sink()).await?;
    }

    let consumer = client.simple_consumer(&args.group).subscribe(&args.topic, Filter::all()).build().await?;
    let control = consumer.control();
    let wanted = &Semaphore::new(args.count as usize);
    let left = &AtomicU32::new(args.count);
    let process = consumer.for_each_concurrent(args.concurrency, |item| async move {
        match item {
            Ok(delivery) => handle(delivery, wanted, left).await,
            Err(error) => eprintln!("{error}"), // permanent: the stream ends after it
        }
    });
    let enough = async {
        while left.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        wanted.close(); // who waits for a permit gives its message back
        control.shutdown(Duration::from_secs(10)).await // ends the stream, and waits for what is under way
    };
    let ((), report) = tokio::join!(process, enough);
    anyhow::ensure!(report.complete, "not everything was settled: {report:?}");
    Ok(())
}
