//! Compares this crate with the least a client can do: a raw tonic loop over the same protocol, on the same server, side by
//! side. See `benches/README.md`.
//!
//! `cargo bench --bench receive_ack -- --rounds 5` needs no server: the embedded broker runs in another process.

#![allow(clippy::print_stdout, reason = "a program, whose output is its purpose")]
#![allow(clippy::disallowed_methods, reason = "the raw loop is what a program without this crate would be")]

#[path = "../../tests/apache/admin.rs"]
mod admin;
mod ours;
#[path = "../../src/proto/mod.rs"]
mod proto;
mod raw;
mod rounds;
mod server;
#[path = "../side_by_side/mod.rs"]
mod side_by_side;
mod workload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use rocketmq_stream::embedded::Broker;

use crate::side_by_side::meter::Meter;
use crate::side_by_side::named_pid;
use crate::side_by_side::process::Serve;
use crate::side_by_side::rounds::{Rounds, Who};
use crate::workload::{Receiving, Sending, Style};

#[derive(Parser)]
#[command(about = "Compares this crate with a raw tonic loop: CPU time per message, and messages per second")]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    options: Options,
}

/// The other processes of a run, which it starts by itself.
#[derive(Subcommand)]
enum Part {
    #[command(hide = true)]
    Work(Work),
    #[command(hide = true)]
    Broker(Serve),
    /// On a real server: lets a new group read the topic from its first message, for another client's program.
    Prepare {
        #[arg(long)]
        group: String,
    },
}

#[derive(Args, Debug, Clone)]
pub(crate) struct Options {
    /// What to compare; several separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ack")]
    mode: Vec<Mode>,
    #[command(flatten)]
    rounds: Rounds,
    /// Rounds before those that count: a Java server is slow for its first 200 000 messages.
    #[arg(long, default_value_t = 0)]
    discard: u32,
    /// Messages measured in each process; for `send` on the embedded broker, which keeps them all, a quarter of it.
    #[arg(long, default_value_t = 100_000)]
    messages: u64,
    /// Messages in each process before those.
    #[arg(long, default_value_t = 20_000)]
    warm: u64,
    /// Bytes of a body.
    #[arg(long, default_value_t = 1024)]
    size: usize,

    /// The proxy (gRPC) of a real server; without it, the embedded broker runs in a process of its own.
    #[arg(long, value_name = "HOST:PORT")]
    access_point: Option<String>,
    /// Its name server: needed to let each process read the topic from its first message.
    #[arg(long, value_name = "IP:PORT")]
    name_server: Option<SocketAddr>,
    /// Its broker, to create the topic at.
    #[arg(long, value_name = "IP:PORT")]
    broker: Option<SocketAddr>,
    /// On a real server, a topic that exists, or is created with 8 queues where `--broker` is given.
    #[arg(long, default_value = "Bench")]
    topic: String,
    /// Send so many messages first (real server; the embedded one always gets what is needed).
    #[arg(long, default_value_t = 0)]
    preload: u64,
    /// Processes whose CPU time to show, e.g. `proxy=12,broker=34`.
    #[arg(long, value_delimiter = ',', value_parser = named_pid)]
    pids: Vec<(String, u32)>,

    #[command(flatten)]
    tuning: Tuning,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct Tuning {
    /// Receives under way at once, in both.
    #[arg(long, default_value_t = 8)]
    streams: usize,
    /// Raw loop: acks per RPC.
    #[arg(long, default_value_t = 64)]
    ack_batch: usize,
    /// Raw loop: ack RPCs under way at most.
    #[arg(long, default_value_t = 32)]
    ack_rpcs: usize,
    /// The crate: how acks are asked for.
    #[arg(long, value_enum, default_value = "each")]
    style: Style,
    /// The crate, style `each`: deliveries whose ack is awaited at most.
    #[arg(long, default_value_t = 1024)]
    concurrency: usize,
    /// Sends under way at once, in both.
    #[arg(long, default_value_t = 256)]
    in_flight: usize,
    /// Seconds that a message stays invisible; by default 30 s (the crate's default) with acks and 1 h without.
    #[arg(long)]
    invisible: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Receive and acknowledge; a message counts when its ack was answered.
    Ack,
    /// Receive alone.
    Receive,
    /// Send, one message per RPC.
    Send,
}

/// What one measured process is started with.
#[derive(Args, Debug, Clone)]
pub(crate) struct Work {
    #[arg(long)]
    who: Who,
    #[arg(long)]
    mode: Mode,
    #[arg(long)]
    access_point: String,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    group: String,
    #[arg(long)]
    warm: u64,
    #[arg(long)]
    messages: u64,
    #[arg(long)]
    size: usize,
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
    #[command(flatten)]
    tuning: Tuning,
}

fn main() -> Result<()> {
    let Cli { part, options } = Cli::parse();
    match part {
        Some(Part::Work(work)) => work.run(),
        Some(Part::Broker(serve)) => serve.run(Broker::access_point),
        Some(Part::Prepare { group }) => server::prepare(&options, &group),
        None => rounds::compare(&options),
    }
}

impl Work {
    /// Ends the process: what is still under way then does not matter.
    fn run(self) -> Result<()> {
        let meter = Arc::new(Meter::new(self.warm, self.messages, self.pids.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match (self.who, self.mode) {
                (Who::Raw, Mode::Send) => raw::send(self.sending(), meter).await,
                (Who::Raw, _) => raw::receive(self.receiving(), meter).await,
                (Who::Crate, Mode::Send) => ours::send(self.sending(), meter).await,
                (Who::Crate, _) => ours::receive(self.receiving(), meter).await,
            }
        })?;
        std::process::exit(0)
    }

    fn receiving(&self) -> Receiving {
        let ack = self.mode == Mode::Ack;
        let invisible = self.tuning.invisible.unwrap_or(if ack { 30 } else { 3600 });
        Receiving {
            access_point: self.access_point.clone(),
            topic: self.topic.clone(),
            group: self.group.clone(),
            ack,
            invisible: Duration::from_secs(invisible),
            streams: self.tuning.streams,
            ack_batch: self.tuning.ack_batch,
            ack_rpcs: self.tuning.ack_rpcs,
            style: self.tuning.style,
            concurrency: self.tuning.concurrency,
        }
    }

    fn sending(&self) -> Sending {
        Sending {
            access_point: self.access_point.clone(),
            topic: self.topic.clone(),
            size: self.size,
            in_flight: self.tuning.in_flight,
        }
    }
}
