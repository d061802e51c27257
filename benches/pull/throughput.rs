//! A full topic, read from its first message.

use anyhow::Result;

use crate::server::Server;
use crate::side_by_side::meter::Meter;
use crate::side_by_side::process;
use crate::side_by_side::rounds::Who;
use crate::side_by_side::table::{Report, one_line};
use crate::{Options, Work, ours, raw, rounds, server};

/// What a process may have pulled beyond what it has counted: a buffer's worth, and uneven queues.
const SLACK: u64 = 16_384;

pub(crate) fn compare(options: &Options) -> Result<()> {
    let server = Server::open(options, options.warm + options.messages + SLACK)?;
    let rounds = rounds::play(options, &server, |command, turn| {
        let sample = process::measure(command)?;
        eprintln!("{turn}: {}", one_line(&sample));
        Ok(sample)
    })?;
    let report = Report::new(server.processes(), rounds);
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
