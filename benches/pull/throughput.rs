//! A full topic, read from its first message.

use anyhow::Result;

use crate::server::Server;
use crate::side_by_side::meter::Meter;
use crate::side_by_side::process;
use crate::side_by_side::table::{self, Report};
use crate::{Options, Who, Work, ours, raw, rounds, server};

/// What a process may have pulled beyond what it has counted: a buffer's worth, and uneven queues.
const SLACK: u64 = 16_384;

pub(crate) fn compare(options: &Options) -> Result<()> {
    let server = Server::open(options, options.warm + options.messages + SLACK)?;
    let mut report = Report::new(server.pids.iter().map(|(name, _)| name.clone()).collect());
    let done = rounds::play(options, &server, |command, name| {
        let sample = process::measure(command)?;
        eprintln!("{}", table::one_line(name, &sample));
        Ok(sample)
    })?;
    for round in done {
        report.add(table::Round { raw: round.raw, ours: round.ours });
    }
    report.print(&format!("pull, {} B, on {}", options.size, server.name_server), "raw remoting");
    Ok(())
}

pub(crate) fn work(work: &Work) -> Result<()> {
    let meter = Meter::new(work.warm, work.messages, work.pids.clone());
    match work.who {
        Who::Raw => {
            let pulling = server::pulling(work.name_server, &work.topic, &work.group, work.batch)?;
            raw::pull(&pulling, |body| meter.count(raw::records(body).count() as u64))
        }
        Who::Crate => ours::run(ours::pull(work, &meter)),
    }
}
