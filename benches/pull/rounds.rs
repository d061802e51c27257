//! Runs the processes, one after the other.

use std::process::Command;

use anyhow::Result;

use crate::server::Server;
use crate::side_by_side::process;
use crate::side_by_side::rounds::{Round, Rounds, Turn};
use crate::{Mode, Options, idle, latency, standing, throughput};

pub(crate) fn compare(options: &Options) -> Result<()> {
    // Without `--bench`, cargo only wants to know whether it works (`cargo test --benches`).
    let options = &if options.bench { options.clone() } else { smoke(options) };
    match options.mode {
        Mode::Throughput => throughput::compare(options),
        Mode::Latency => latency::compare(options),
        Mode::Idle => idle::compare(options),
        Mode::Standing => standing::compare(options),
    }
}

fn smoke(options: &Options) -> Options {
    eprintln!("started without --bench: one short round, whose figures mean nothing");
    let rounds = Rounds { count: 1, ..options.rounds };
    Options { rounds, discard: 0, messages: 2_000, warm: 500, seconds: 1, ..options.clone() }
}

/// Lets both work in turn. `run` starts the process that it is given.
pub(crate) fn play<T>(
    options: &Options,
    server: &Server,
    mut run: impl FnMut(&mut Command, Turn) -> Result<T>,
) -> Result<Vec<Round<T>>> {
    options.rounds.play(options.discard, |turn| run(&mut command(options, server, turn)?, turn))
}

fn command(options: &Options, server: &Server, Turn { who, round }: Turn) -> Result<Command> {
    let pids: Vec<_> = server.pids.iter().map(|(_, pid)| pid.to_string()).collect();
    let mut pairs = vec![
        ("--mode", format!("{:?}", options.mode).to_lowercase()),
        ("--who", format!("{who:?}").to_lowercase()),
        ("--name-server", server.name_server.to_string()),
        ("--topic", options.topic.clone()),
        ("--group", format!("bench-{}-{round}-{who:?}", std::process::id()).to_lowercase()),
        ("--warm", options.warm.to_string()),
        ("--messages", options.messages.to_string()),
        ("--batch", options.batch.to_string()),
        ("--seconds", options.seconds.to_string()),
    ];
    if !pids.is_empty() {
        pairs.push(("--pids", pids.join(",")));
    }
    process::part("work", &pairs)
}
