//! This program, started again in a part of its own.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use rocketmq_stream::embedded;

use crate::side_by_side::meter::Sample;

/// `program PART --name value …`.
pub(crate) fn part(name: &str, options: &[(&str, String)]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(name).args(options.iter().flat_map(|(name, value)| [name, value.as_str()]));
    Ok(command)
}

/// Runs it to its end, and reads the figures that it prints.
pub(crate) fn measure(command: &mut Command) -> Result<Sample> {
    let mut found = None;
    run(command, |line| {
        match Sample::from_line(line)? {
            Some(sample) => found = Some(sample),
            None => eprintln!("{line}"),
        }
        Ok(())
    })?;
    found.context("the process ended without a figure")
}

/// Runs it to its end, and shows each line of its output to `read`.
pub(crate) fn run(command: &mut Command, mut read: impl FnMut(&str) -> Result<()>) -> Result<()> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    for line in BufReader::new(child.stdout.take().context("its output")?).lines() {
        read(&line?)?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "the process ended with {status}");
    Ok(())
}

/// The embedded broker in a process of its own, which ends when its input does: when this is dropped, or when this process
/// ends in any way.
pub(crate) struct Broker {
    child: Child,
}

impl Broker {
    /// Starts it, and reads its address, which is its first line of output.
    pub(crate) fn start<A: FromStr>(topic: &str, queues: u32) -> Result<(Self, A)> {
        let options = [("--topic", topic.to_owned()), ("--queues", queues.to_string())];
        let mut child = part("broker", &options)?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut address)?;
        let Ok(parsed) = address.trim().parse() else { bail!("the broker's process told no address: {address:?}") };
        Ok((Self { child }, parsed))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

/// The other side of [`Broker::start`], in the broker's process.
#[derive(Args)]
pub(crate) struct Serve {
    #[arg(long)]
    topic: String,
    #[arg(long)]
    queues: u32,
}

impl Serve {
    /// `address`: which of its addresses to tell.
    pub(crate) fn run(&self, address: fn(&embedded::Broker) -> String) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let broker = runtime.block_on(embedded::Broker::builder().topic(&self.topic, self.queues).start())?;
        println!("{}", address(&broker));
        std::io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    }
}
