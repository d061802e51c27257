//! A RocketMQ cluster for clients of any language, in memory and in one process. Runs until Ctrl-C.
//!
//! `cargo run --example embedded_broker -- --grpc 127.0.0.1:8081 --remoting 127.0.0.1:9876 --topic orders:NORMAL:8
//! --topic trades:FIFO:4 --group billing:NORMAL --group settlement:FIFO --brokers 2`

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "the rules on output and time are for the library")]

use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::Parser;
use rocketmq_stream::embedded::{Broker, GroupOptions, TopicType};

#[derive(Parser)]
struct Args {
    /// Where to listen; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:8081")]
    grpc: SocketAddr,
    /// Where the name server listens, for clients of the remoting protocol and mqadmin; the brokers take the ports after it.
    /// Port 0 takes any free ones.
    #[arg(long, default_value = "127.0.0.1:9876")]
    remoting: SocketAddr,
    /// NAME[:TYPE[:QUEUES]] with a type of NORMAL, FIFO, DELAY, TRANSACTION or MIXED. Defaults to NORMAL and 8 queues.
    #[arg(long = "topic", value_name = "NAME:TYPE:QUEUES")]
    topics: Vec<Topic>,
    /// NAME[:FIFO]: a FIFO group gets each queue in order. Groups come into being when they are first used, too.
    #[arg(long = "group", value_name = "NAME:FIFO")]
    groups: Vec<Group>,
    #[arg(long, default_value_t = 1)]
    brokers: usize,
    /// Create topics of 8 queues for normal messages when they are first used.
    #[arg(long)]
    auto_create_topics: bool,
}

#[derive(Clone)]
struct Topic {
    name: String,
    kind: TopicType,
    queues: u32,
}

impl FromStr for Topic {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default().to_owned();
        let kind = match parts.next().unwrap_or("NORMAL").to_uppercase().as_str() {
            "NORMAL" => TopicType::Normal,
            "FIFO" => TopicType::Fifo,
            "DELAY" => TopicType::Delay,
            "TRANSACTION" => TopicType::Transaction,
            "MIXED" => TopicType::Mixed,
            other => bail!("`{other}` is no topic type; use NORMAL, FIFO, DELAY, TRANSACTION or MIXED"),
        };
        let queues = parts.next().unwrap_or("8");
        let queues = queues.parse().with_context(|| format!("`{queues}` is no number of queues"))?;
        if let Some(rest) = parts.next() {
            bail!("`:{rest}` is too much; write NAME:TYPE:QUEUES");
        }
        Ok(Self { name, kind, queues })
    }
}

#[derive(Clone)]
struct Group(GroupOptions);

impl FromStr for Group {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, kind) = text.split_once(':').unwrap_or((text, "NORMAL"));
        match kind.to_uppercase().as_str() {
            "NORMAL" => Ok(Self(GroupOptions::new(name))),
            "FIFO" => Ok(Self(GroupOptions::new(name).fifo(true))),
            other => bail!("`{other}` is no kind of group; write NAME or NAME:FIFO"),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let builder = Broker::builder().grpc(args.grpc).remoting(args.remoting).brokers(args.brokers);
    let mut builder = builder.auto_create_topics(args.auto_create_topics);
    for Topic { name, kind, queues } in &args.topics {
        builder = builder.typed_topic(name, *queues, *kind);
    }
    for Group(options) in args.groups {
        builder = builder.group(options);
    }
    let broker = builder.start().await?;

    println!("listening at {} (gRPC, plaintext)", broker.access_point());
    println!("listening at {} (remoting: the name server, plaintext); Ctrl-C stops it", broker.name_server());
    for Topic { name, kind, queues } in &args.topics {
        let note = match kind {
            TopicType::Transaction => "; not served yet: transactions, a send answers NOT_IMPLEMENTED",
            TopicType::Delay => "; not served yet: recalling a message",
            _ => "",
        };
        println!("topic {name}: {kind:?}, {queues} queues on each of {} brokers{note}", args.brokers);
    }
    tokio::signal::ctrl_c().await?;
    broker.shutdown().await;
    Ok(())
}
