//! A reader that took one batch and then stands still, on a full topic: how much memory its consumer holds.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::prelude::*;
use rocketmq_stream::StartFrom;

use crate::server::Server;
use crate::side_by_side::process;
use crate::side_by_side::rounds::{Rounds, Who};
use crate::side_by_side::table::{print_aligned, spread};
use crate::side_by_side::usage;
use crate::{Options, Work, ours, rounds};

const MARK: &str = "resident";
/// Bytes that a consumer holds at most.
const ALLOWED: usize = 16 << 20;
/// The same for one that shows what a process needs anyway.
const SMALL: usize = 64 << 10;

pub(crate) fn compare(options: &Options) -> Result<()> {
    let rounds = Rounds { only: Some(Who::Crate), ..options.rounds };
    let options = &Options { rounds, ..options.clone() };
    let server = Server::open(options, options.warm + options.messages)?;
    let rounds = rounds::play(options, &server, |command, turn| {
        let mut found = None;
        process::run(command, |line| {
            found = line.strip_prefix(MARK).map(|kib| kib.trim().parse::<u64>()).transpose()?.or(found);
            Ok(())
        })?;
        let grown = found.context("the process ended without a figure")? << 10;
        eprintln!("{turn}: {:.1} MiB", mebibytes(grown));
        Ok(grown)
    })?;
    let grown: Vec<_> = rounds.iter().filter_map(|round| round.ours).map(mebibytes).collect();
    println!("\na reader that stands still, {} B, on {}, {} rounds\n", options.size, server.name_server, grown.len());
    let header = ["", "MiB more than without a consumer", "MiB allowed"].map(str::to_owned).to_vec();
    let allowed = format!("{:.1}", mebibytes(ALLOWED as u64));
    print_aligned(&[header, vec!["rocketmq-stream".into(), spread(&grown, 1), allowed]]);
    Ok(())
}

/// The memory at its peak, less that of the process when it has read one batch by a consumer with a small buffer.
pub(crate) fn work(work: &Work) -> Result<()> {
    ours::run(async {
        let mut small = ours::consumer(work, StartFrom::Earliest, SMALL).await?;
        small.try_next().await?.context("the topic is empty")?.complete();
        drop(small.control().shutdown(Duration::from_secs(5)).await);
        drop(small);
        let before = usage::peak_memory().context("no figures on this system")?;
        let mut standing = ours::consumer(work, StartFrom::Earliest, ALLOWED).await?;
        let _held = standing.try_next().await?.context("the topic is empty")?;
        tokio::time::sleep(Duration::from_secs(work.seconds)).await;
        println!("{MARK} {}", usage::peak_memory().context("no figures on this system")? - before);
        Ok(())
    })
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
