//! Runs the processes, one after the other.

use std::process::Command;

use anyhow::Result;

use crate::server::{SLACK, Server};
use crate::side_by_side::meter::Sample;
use crate::side_by_side::process;
use crate::side_by_side::rounds::{Rounds, Turn, Who};
use crate::side_by_side::table::{Report, one_line};
use crate::{Mode, Options};

pub(crate) fn compare(options: &Options) -> Result<()> {
    // Without `--bench`, cargo only wants to know whether it works (`cargo test --benches`).
    let options = &if options.bench { options.clone() } else { smoke(options) };
    for mode in &options.mode {
        let report = run(options, *mode)?;
        report.print(&title(options, *mode), "raw tonic");
    }
    Ok(())
}

fn title(options: &Options, mode: Mode) -> String {
    let what = match mode {
        Mode::Ack => "receive + ack",
        Mode::Receive => "receive alone",
        Mode::Send => "send",
    };
    let server = options.access_point.as_deref().unwrap_or("the embedded broker");
    format!("{what}, {} B, on {server}", options.size)
}

fn smoke(options: &Options) -> Options {
    eprintln!("started without --bench: one short round, whose figures mean nothing");
    let rounds = Rounds { count: 1, ..options.rounds };
    Options { rounds, discard: 0, messages: 2_000, warm: 500, ..options.clone() }
}

fn run(options: &Options, mode: Mode) -> Result<Report> {
    let plan = Plan::new(options, mode);
    let mut server = Server::open(options, plan.needed())?;
    let mut served = 0;
    let rounds = options.rounds.play(options.discard, |turn| {
        if turn.round != served && plan.wants_fresh_broker() {
            (server, served) = (Server::open(options, plan.needed())?, turn.round);
        }
        let sample = plan.process(&server, turn)?;
        eprintln!("{turn}: {}", one_line(&sample));
        Ok(sample)
    })?;
    Ok(Report::new(server.processes(), rounds))
}

struct Plan<'a> {
    options: &'a Options,
    mode: Mode,
    messages: u64,
    warm: u64,
}

impl<'a> Plan<'a> {
    fn new(options: &'a Options, mode: Mode) -> Self {
        let share = if mode == Mode::Send && options.access_point.is_none() { 4 } else { 1 };
        Self { options, mode, messages: options.messages / share, warm: options.warm / share }
    }

    /// Messages the topic must hold before a process starts.
    fn needed(&self) -> u64 {
        if self.mode == Mode::Send { 0 } else { self.warm + self.messages + SLACK }
    }

    /// It keeps all messages in memory.
    fn wants_fresh_broker(&self) -> bool {
        self.mode == Mode::Send && self.options.access_point.is_none()
    }

    fn process(&self, server: &Server, Turn { who, round }: Turn) -> Result<Sample> {
        let group = format!("bench-{}-{round}-{who:?}-{:?}", std::process::id(), self.mode).to_lowercase();
        if self.mode != Mode::Send {
            server.prepare(&group, &self.options.topic)?;
        }
        process::measure(&mut self.command(server, who, &group)?)
    }

    fn command(&self, server: &Server, who: Who, group: &str) -> Result<Command> {
        let Options { topic, size, tuning, .. } = self.options;
        let pids: Vec<_> = server.pids.iter().map(|(_, pid)| pid.to_string()).collect();
        let who = format!("{who:?}").to_lowercase();
        let mode = format!("{:?}", self.mode).to_lowercase();
        let mut pairs = vec![
            ("--who", who),
            ("--mode", mode),
            ("--access-point", server.access_point.clone()),
            ("--topic", topic.clone()),
            ("--group", group.to_owned()),
            ("--warm", self.warm.to_string()),
            ("--messages", self.messages.to_string()),
            ("--size", size.to_string()),
            ("--streams", tuning.streams.to_string()),
            ("--ack-batch", tuning.ack_batch.to_string()),
            ("--ack-rpcs", tuning.ack_rpcs.to_string()),
            ("--style", format!("{:?}", tuning.style).to_lowercase()),
            ("--concurrency", tuning.concurrency.to_string()),
            ("--in-flight", tuning.in_flight.to_string()),
        ];
        pairs.extend(tuning.invisible.map(|seconds| ("--invisible", seconds.to_string())));
        if !pids.is_empty() {
            pairs.push(("--pids", pids.join(",")));
        }
        process::part("work", &pairs)
    }
}
