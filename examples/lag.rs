//! How far a consumer group is behind, queue by queue, again and again.
//!
//! `cargo run --example lag` shows a slow consumer of an embedded broker. On a server of yours, without touching the group:
//! `cargo run --example lag -- --name-server HOST:9876 --topic T --group G --count 10`

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "the rules on output and time are for the library")]

use std::collections::HashMap;
use std::time::Duration;

use clap::Parser;
use futures::prelude::*;
use rocketmq_stream::{
    Client, CommitMode, Filter, LagWatch, MessageQueue, OutboundMessage, QueueLag, StartFrom, embedded,
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
    /// How many tables to print; for ever when it is 0.
    #[arg(long, default_value_t = 3)]
    count: u64,
    /// Seconds between two tables.
    #[arg(long, default_value_t = 1)]
    interval: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let broker = embedded::Broker::builder().topic(&args.topic, 4).start().await?;
    let interval = Duration::from_secs(args.interval.max(1));
    let (client, embedded) = match (&args.name_server, &args.access_point) {
        (Some(name_server), _) => (Client::builder().name_server(name_server).build()?, false),
        (None, Some(access_point)) => (Client::builder().access_point(access_point).build()?, false),
        (None, None) => {
            let both = Client::builder().name_server(broker.name_server()).access_point(broker.access_point());
            (both.build()?, true)
        }
    };
    // It takes no part in the group's sharing, is never polled, and saves nothing: it looks on.
    let consumer = client
        .pull_consumer(&args.group)
        .subscribe(&args.topic, Filter::all())
        .share(0, 1)
        .start_from(StartFrom::committed_or_earliest())
        .commit_mode(if embedded { CommitMode::AtLeastOnce } else { CommitMode::Manual })
        .commit_interval(Duration::from_millis(500))
        .build()
        .await?;
    let lag = consumer.control().lag().every(interval);
    if embedded {
        tokio::select! {
            done = work_slowly(&client, &args.topic, consumer) => done,
            () = show(&lag, args.count, interval) => Ok(()),
        }
    } else {
        show(&lag, args.count, interval).await;
        Ok(())
    }
}

async fn show(lag: &LagWatch, count: u64, interval: Duration) {
    let mut before = HashMap::new();
    let mut shown = 0;
    while count == 0 || shown < count {
        let queues = lag.changed().await;
        table(&queues, &before, interval);
        before = queues.into_iter().filter_map(|lag| Some((lag.queue, lag.committed?.get()))).collect();
        shown += 1;
    }
}

fn table(queues: &[QueueLag], before: &HashMap<MessageQueue, u64>, interval: Duration) {
    println!("{:30} {:>12} {:>12} {:>10} {:>10} {:>14}", "queue", "committed", "max", "lag", "msg/s", "blocked by");
    let number = |number: Option<u64>| number.map_or_else(|| "-".into(), |number| number.to_string());
    for lag in queues {
        let committed = lag.committed.map(|offset| offset.get());
        let moved = committed.zip(before.get(&lag.queue)).map(|(now, then)| now.saturating_sub(*then));
        let rate = moved.map(|moved| moved / interval.as_secs());
        let (max, behind) = (number(lag.max.map(|offset| offset.get())), number(lag.lag));
        let blocked = number(lag.blocked_by.as_ref().map(|range| range.start.get()));
        let (name, committed, rate) = (lag.queue.to_string(), number(committed), number(rate));
        println!("{name:30} {committed:>12} {max:>12} {behind:>10} {rate:>10} {blocked:>14}");
    }
    println!();
}

/// A producer, and a consumer that is a little slower.
async fn work_slowly(client: &Client, topic: &str, mut consumer: rocketmq_stream::PullConsumer) -> anyhow::Result<()> {
    let producer = client.producer().build().await?;
    let send = async {
        loop {
            let messages = (0..100).map(|n| Ok(OutboundMessage::new(topic, format!("order {n}"))));
            stream::iter(messages).forward(producer.sink()).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let work = async {
        while let Some(batch) = consumer.try_next().await? {
            tokio::time::sleep(Duration::from_millis(50)).await;
            batch.complete();
        }
        anyhow::Ok(())
    };
    tokio::select! { sent = send => sent, worked = work => worked }
}
