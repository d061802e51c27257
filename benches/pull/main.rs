//! Compares pulling by this crate with the least a client can do: a raw loop over the same protocol that decodes no message,
//! on the same broker, side by side. See `benches/README.md`.
//!
//! `cargo bench --bench pull -- --rounds 5` needs no server: the embedded broker runs in another process.

#![allow(clippy::print_stdout, reason = "a program, whose output is its purpose")]
#![allow(clippy::disallowed_methods, reason = "the raw loop is what a program without this crate would be")]

#[path = "../../tests/apache/admin.rs"]
mod admin;
mod frame;
mod idle;
mod latency;
mod ours;
mod raw;
mod rounds;
mod server;
#[path = "../side_by_side/mod.rs"]
mod side_by_side;
mod standing;
mod throughput;

use std::net::SocketAddr;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};
use rocketmq_stream::embedded::Broker;

use crate::side_by_side::named_pid;
use crate::side_by_side::process::Serve;
use crate::side_by_side::rounds::{Rounds, Who};

#[derive(Parser)]
#[command(about = "Compares pulling by this crate with a raw loop")]
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
}

#[derive(Args, Debug, Clone)]
pub(crate) struct Options {
    /// What to compare.
    #[arg(long, value_enum, default_value = "throughput")]
    mode: Mode,
    #[command(flatten)]
    rounds: Rounds,
    /// Rounds before those that count.
    #[arg(long, default_value_t = 1)]
    discard: u32,
    /// Messages measured in each process.
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// Messages in each process before those.
    #[arg(long, default_value_t = 20_000)]
    warm: u64,
    /// Bytes of a body.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Queues of a topic that is created.
    #[arg(long, default_value_t = 8)]
    queues: u32,
    /// Messages to ask for in a pull of the raw loop. By default servers give 32, whatever is asked for.
    #[arg(long, default_value_t = 32)]
    batch: u32,
    /// Latency: messages sent in a second.
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Idle and standing: how long to watch.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// The name server of a real cluster; without it, the embedded broker runs in a process of its own.
    #[arg(long, value_name = "IP:PORT")]
    name_server: Option<SocketAddr>,
    /// Its broker, to create the topic at.
    #[arg(long, value_name = "IP:PORT")]
    broker: Option<SocketAddr>,
    /// On a real server, a topic that exists, or is created where `--broker` is given.
    #[arg(long, default_value = "Bench")]
    topic: String,
    /// Send so many messages first (real server; the embedded one always gets what is needed).
    #[arg(long, default_value_t = 0)]
    preload: u64,
    /// Processes whose CPU time to show, e.g. `broker=34`.
    #[arg(long, value_delimiter = ',', value_parser = named_pid)]
    pids: Vec<(String, u32)>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// A full topic, read from its first message: CPU time per message, and messages per second.
    Throughput,
    /// From the moment before a message is sent to the moment it is handed out, at a steady rate.
    Latency,
    /// A topic to which nothing comes: CPU time and memory of the long polls of many queues.
    Idle,
    /// A full topic, and a reader that took one batch and no more: the memory that its consumer fills.
    Standing,
}

/// What one measured process is started with.
#[derive(Args, Debug, Clone)]
pub(crate) struct Work {
    #[arg(long)]
    mode: Mode,
    #[arg(long)]
    who: Who,
    #[arg(long)]
    name_server: SocketAddr,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    group: String,
    #[arg(long)]
    warm: u64,
    #[arg(long)]
    messages: u64,
    #[arg(long)]
    batch: u32,
    #[arg(long)]
    seconds: u64,
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
}

fn main() -> Result<()> {
    let Cli { part, options } = Cli::parse();
    match part {
        Some(Part::Work(work)) => work.run(),
        Some(Part::Broker(serve)) => serve.run(Broker::name_server),
        None => rounds::compare(&options),
    }
}

impl Work {
    /// Ends the process: what is still under way then does not matter.
    fn run(self) -> Result<()> {
        match self.mode {
            Mode::Throughput => throughput::work(&self)?,
            Mode::Latency => latency::work(&self)?,
            Mode::Idle => idle::work(&self)?,
            Mode::Standing => standing::work(&self)?,
        }
        std::process::exit(0)
    }
}
