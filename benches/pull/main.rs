//! Compares pulling by this crate with the least a client can do: a raw loop over the same protocol that decodes no message,
//! on the same broker, side by side. See `benches/README.md`.
//!
//! `cargo bench --bench pull -- --rounds 5` needs no server: the embedded broker runs in another process.

#![allow(clippy::print_stdout, reason = "a program, whose output is its purpose")]
#![allow(clippy::disallowed_methods, reason = "the raw loop is what a program without this crate would be")]

#[path = "../../tests/apache/admin.rs"]
mod admin;
mod frame;
#[path = "../receive_ack/meter.rs"]
#[allow(dead_code, reason = "nobody waits for its end here")]
mod meter;
mod ours;
mod raw;
mod server;
#[path = "../receive_ack/table.rs"]
mod table;
#[path = "../receive_ack/usage.rs"]
mod usage;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::meter::{Meter, Sample};
use crate::server::Server;
use crate::table::{Report, Round};

#[derive(Parser)]
#[command(about = "Compares pulling by this crate with a raw loop: CPU time per message, and messages per second")]
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
    Broker {
        #[arg(long)]
        topic: String,
    },
}

#[derive(Args, Debug, Clone)]
pub(crate) struct Options {
    /// In each round both run, in turn; the order alternates.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Rounds before them, which do not count.
    #[arg(long, default_value_t = 1)]
    discard: u32,
    /// Only one of the two.
    #[arg(long)]
    only: Option<Who>,
    /// Messages measured in each process.
    #[arg(long, default_value_t = 200_000)]
    messages: u64,
    /// Messages in each process before those.
    #[arg(long, default_value_t = 20_000)]
    warm: u64,
    /// Bytes of a body.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Messages to ask for in a pull of the raw loop. By default servers give 32, whatever is asked for.
    #[arg(long, default_value_t = 32)]
    batch: u32,
    /// The name server of a real cluster; without it, the embedded broker runs in a process of its own.
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
    /// Processes whose CPU time to show, e.g. `broker=34`.
    #[arg(long, value_delimiter = ',', value_parser = named_pid)]
    pids: Vec<(String, u32)>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Who {
    /// A blocking loop.
    Raw,
    /// This crate.
    Crate,
}

/// What one measured process is started with.
#[derive(Args, Debug, Clone)]
pub(crate) struct Work {
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
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
}

fn named_pid(text: &str) -> Result<(String, u32), String> {
    let (name, pid) = text.split_once('=').ok_or("write NAME=PID")?;
    Ok((name.into(), pid.parse().map_err(|_| format!("{pid} is not a process id"))?))
}

fn main() -> Result<()> {
    let Cli { part, options } = Cli::parse();
    match part {
        Some(Part::Work(work)) => work.run(),
        Some(Part::Broker { topic }) => server::serve(&topic),
        None => compare(&options),
    }
}

fn compare(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    // Without `--bench`, cargo only wants to know whether it works (`cargo test --benches`).
    let options = &if options.bench { options.clone() } else { smoke(options) };
    let server = Server::open(options)?;
    let mut report = Report::new(server.pids.iter().map(|(name, _)| name.clone()).collect());
    for number in 0..options.discard + options.rounds {
        let round = play(options, &server, number)?;
        if number >= options.discard {
            report.add(round);
        }
    }
    report.print(&format!("pull, {} B, on {}", options.size, server.name_server), "raw remoting");
    Ok(())
}

fn smoke(options: &Options) -> Options {
    eprintln!("started without --bench: one short round, whose figures mean nothing");
    Options { rounds: 1, discard: 0, messages: 2_000, warm: 500, ..options.clone() }
}

fn play(options: &Options, server: &Server, number: u32) -> Result<Round> {
    let mut round = Round::default();
    let mut order = vec![Who::Raw, Who::Crate];
    if number % 2 == 1 {
        order.reverse();
    }
    for who in order.into_iter().filter(|who| options.only.is_none_or(|only| only == *who)) {
        let sample = process(options, server, who, number).with_context(|| format!("round {number}, {who:?}"))?;
        eprintln!("round {number}: {}", table::one_line(&format!("{who:?}"), &sample));
        match who {
            Who::Raw => round.raw = Some(sample),
            Who::Crate => round.ours = Some(sample),
        }
    }
    Ok(round)
}

fn process(options: &Options, server: &Server, who: Who, number: u32) -> Result<Sample> {
    let pids: Vec<_> = server.pids.iter().map(|(_, pid)| pid.to_string()).collect();
    let mut pairs = vec![
        ("--who", format!("{who:?}").to_lowercase()),
        ("--name-server", server.name_server.to_string()),
        ("--topic", options.topic.clone()),
        ("--group", format!("bench-{}-{number}-{who:?}", std::process::id()).to_lowercase()),
        ("--warm", options.warm.to_string()),
        ("--messages", options.messages.to_string()),
        ("--batch", options.batch.to_string()),
    ];
    if !pids.is_empty() {
        pairs.push(("--pids", pids.join(",")));
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("work").args(pairs.iter().flat_map(|(name, value)| [name, value.as_str()]));
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let output = BufReader::new(child.stdout.take().context("its output")?);
    let mut found = None;
    for line in output.lines() {
        found = Sample::from_line(&line?)?.or(found);
    }
    let status = child.wait()?;
    ensure!(status.success(), "the process ended with {status}");
    found.context("the process ended without a figure")
}

impl Work {
    /// Ends the process: what is still under way then does not matter.
    fn run(self) -> Result<()> {
        let meter = Arc::new(Meter::new(self.warm, self.messages, self.pids.clone()));
        match self.who {
            Who::Raw => {
                let admin = admin::Admin::new(self.name_server, Vec::new(), None);
                let queues = admin.queues(&self.topic)?;
                raw::pull(&server::pulling(&queues, &self.topic, &self.group, self.batch)?, &meter)?;
            }
            Who::Crate => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(ours::pull(&self.name_server.to_string(), &self.topic, &self.group, &meter))?;
            }
        }
        std::process::exit(0)
    }
}
