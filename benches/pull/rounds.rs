//! Runs the processes, one after the other.

use anyhow::{Context as _, Result, ensure};

use crate::server::Server;
use crate::side_by_side::process;
use crate::{Mode, Options, Who, idle, latency, standing, throughput};

pub(crate) fn compare(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
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
    Options { rounds: 1, discard: 0, messages: 2_000, warm: 500, seconds: 1, ..options.clone() }
}

/// What both did in each round that counts.
#[derive(Debug)]
pub(crate) struct Round<T> {
    pub(crate) raw: Option<T>,
    pub(crate) ours: Option<T>,
}

/// Lets both work in turn, every second round in the other order. `run` starts the process that it is given.
pub(crate) fn play<T>(
    options: &Options,
    server: &Server,
    mut run: impl FnMut(&mut std::process::Command, &str) -> Result<T>,
) -> Result<Vec<Round<T>>> {
    let mut rounds = Vec::new();
    for number in 0..options.discard + options.rounds {
        let mut round = Round { raw: None, ours: None };
        let mut order = vec![Who::Raw, Who::Crate];
        if number % 2 == 1 {
            order.reverse();
        }
        for who in order.into_iter().filter(|who| options.only.is_none_or(|only| only == *who)) {
            let name = format!("round {number}: {who:?}");
            let done = run(&mut command(options, server, who, number)?, &name).with_context(|| name)?;
            match who {
                Who::Raw => round.raw = Some(done),
                Who::Crate => round.ours = Some(done),
            }
        }
        if number >= options.discard {
            rounds.push(round);
        }
    }
    Ok(rounds)
}

fn command(options: &Options, server: &Server, who: Who, number: u32) -> Result<std::process::Command> {
    let pids: Vec<_> = server.pids.iter().map(|(_, pid)| pid.to_string()).collect();
    let mut pairs = vec![
        ("--mode", format!("{:?}", options.mode).to_lowercase()),
        ("--who", format!("{who:?}").to_lowercase()),
        ("--name-server", server.name_server.to_string()),
        ("--topic", options.topic.clone()),
        ("--group", format!("bench-{}-{number}-{who:?}", std::process::id()).to_lowercase()),
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
