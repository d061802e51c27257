//! Runs the processes, one after the other.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::server::{SLACK, Server};
use crate::side_by_side::meter::Sample;
use crate::side_by_side::process;
use crate::side_by_side::table::{Report, Round, one_line};
use crate::{Mode, Options, Who};

pub(crate) fn compare(options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
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
    Options { rounds: 1, discard: 0, messages: 2_000, warm: 500, ..options.clone() }
}

fn run(options: &Options, mode: Mode) -> Result<Report> {
    let plan = Plan::new(options, mode);
    let mut server = Server::open(options, plan.needed())?;
    let mut report = Report::new(server.pids.iter().map(|(name, _)| name.clone()).collect());
    for number in 0..options.discard + options.rounds {
        if number > 0 && plan.wants_fresh_broker() {
            server = Server::open(options, plan.needed())?;
        }
        let round = plan.round(&server, number)?;
        if number >= options.discard {
            report.add(round);
        }
    }
    Ok(report)
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

    fn round(&self, server: &Server, number: u32) -> Result<Round> {
        let mut round = Round::default();
        let mut order = vec![Who::Raw, Who::Crate];
        if number % 2 == 1 {
            order.reverse();
        }
        for who in order.into_iter().filter(|who| self.options.only.is_none_or(|only| only == *who)) {
            let sample = self.process(server, who, number).with_context(|| format!("round {number}, {who:?}"))?;
            eprintln!("round {number}: {}", one_line(&format!("{who:?}"), &sample));
            match who {
                Who::Raw => round.raw = Some(sample),
                Who::Crate => round.ours = Some(sample),
            }
        }
        Ok(round)
    }

    fn process(&self, server: &Server, who: Who, number: u32) -> Result<Sample> {
        let group = format!("bench-{}-{number}-{who:?}-{:?}", std::process::id(), self.mode).to_lowercase();
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
