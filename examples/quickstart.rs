//! Produce, consume with combinators, acknowledge, and print what happened.
//!
//! `cargo run --example quickstart` needs no server; `-- --access-point HOST:PORT` uses yours (with a topic `quickstart`).

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "the rules on output and time are for the library")]

use std::time::Duration;

use clap::Parser;
use futures::prelude::*;
use rocketmq_stream::{Client, Filter, OutboundMessage, embedded};

#[derive(Parser)]
struct Args {
    /// The proxy of a RocketMQ server; without it, one is embedded.
    #[arg(long)]
    access_point: Option<String>,
    /// A topic of type NORMAL.
    #[arg(long, default_value = "quickstart")]
    topic: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { access_point, topic } = Args::parse();
    let broker = embedded::Broker::builder().topic(&topic, 4).start().await?;
    let client = Client::builder().access_point(access_point.unwrap_or_else(|| broker.access_point())).build()?;

    let producer = client.producer().build().await?;
    for (order, tag) in [(1, "paid"), (2, "open"), (3, "paid"), (4, "paid")] {
        let message = OutboundMessage::new(&topic, format!("order {order}")).tag(tag).key(order.to_string());
        let receipt = producer.send(message).await?;
        println!("sent     order {order} ({tag}) as {}", receipt.message_id());
    }

    let consumer = client.simple_consumer("quickstart-group").subscribe(&topic, Filter::tag("paid")).build().await?;
    let control = consumer.control();
    let acked = consumer
        .take(3) // this example ends; yours need not
        .try_fold(0, |count, delivery| async move {
            let text = String::from_utf8_lossy(delivery.message().body()).into_owned();
            println!("received {text}, delivery attempt {}", delivery.message().delivery_attempt());
            delivery.ack().await?;
            Ok(count + 1)
        })
        .await?;
    println!("{acked} messages acknowledged; the open order was filtered out by the server");

    control.shutdown(Duration::from_secs(5)).await.ignore();
    let _report = producer.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
