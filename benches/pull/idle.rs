//! A topic to which nothing comes: what the long polls of its queues cost.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::rounds;
use crate::server::{self, Server};
use crate::side_by_side::meter::Sample;
use crate::side_by_side::process;
use crate::side_by_side::rounds::{Round, Who};
use crate::side_by_side::table::{print_aligned, spread};
use crate::side_by_side::usage::Snapshot;
use crate::{Options, Work, ours, raw};

/// How long a process may take until its polls stand.
const START: Duration = Duration::from_secs(10);

pub(crate) fn compare(options: &Options) -> Result<()> {
    let server = Server::open(options, 0)?;
    let rounds = rounds::play(options, &server, |command, turn| {
        let sample = process::measure(command)?;
        eprintln!("{turn}: {:.2} % of a core, {:.1} MB", percent(&sample), megabytes(&sample));
        Ok(sample)
    })?;
    print(options, &server, &rounds);
    Ok(())
}

/// Watches this process from a thread, and ends it.
pub(crate) fn work(work: &Work) -> Result<()> {
    let (time, pids) = (Duration::from_secs(work.seconds), work.pids.clone());
    thread::spawn(move || {
        thread::sleep(START);
        let first = Snapshot::now(&pids);
        thread::sleep(time);
        println!("{}", Sample::between(1, &first, &Snapshot::now(&pids)).to_line());
        std::process::exit(0);
    });
    match work.who {
        Who::Raw => {
            let pulling = server::pulling(work.name_server, &work.topic, &work.group, work.batch)?;
            raw::pull(&pulling.live(), |_| false).context("the raw loop")
        }
        Who::Crate => ours::run(ours::live(work, |_| false)),
    }
}

fn percent(sample: &Sample) -> f64 {
    sample.own.map_or(f64::NAN, |own| 100.0 * own.as_secs_f64() / sample.elapsed.as_secs_f64())
}

fn megabytes(sample: &Sample) -> f64 {
    sample.memory_kib.map_or(f64::NAN, |kib| kib as f64 / 1024.0)
}

fn print(options: &Options, server: &Server, rounds: &[Round<Sample>]) {
    println!("\nidle, {} queues, {} s, on {}", options.queues, options.seconds, server.name_server);
    println!("median (min to max) of {} rounds\n", rounds.len());
    let row = |name: &str, samples: Vec<&Sample>| {
        let over = |get: fn(&Sample) -> f64| spread(&samples.iter().map(|sample| get(sample)).collect::<Vec<_>>(), 2);
        vec![name.to_owned(), over(percent), over(megabytes)]
    };
    let header = ["", "% of a core", "peak RSS MB"].map(str::to_owned).to_vec();
    print_aligned(&[
        header,
        row("raw remoting", rounds.iter().filter_map(|round| round.raw.as_ref()).collect()),
        row("rocketmq-stream", rounds.iter().filter_map(|round| round.ours.as_ref()).collect()),
    ]);
}
