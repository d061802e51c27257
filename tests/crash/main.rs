//! `kill -9` from outside: the example `pull_checkpoint` is killed at random points, again and again, and what it leaves is
//! the topic, each message once.
//!
//! 200 times on the embedded broker in a process of its own; 12 times on a real server when one is named
//! (`tests/apache/cluster.sh run -- cargo test --test crash`).

#![allow(clippy::disallowed_methods, reason = "the rules on time are for the library")]

#[path = "../apache/admin.rs"]
mod admin;
#[path = "../apache/cluster_sh.rs"]
mod cluster_sh;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::prelude::*;
use rocketmq_stream::{Client, CommitMode, Filter, OutboundMessage, StartFrom, StopAt};

/// An example's program: `cargo test` builds them, too.
fn example(name: &str) -> Result<PathBuf> {
    let own = env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).context("the folder of the build")?;
    let program = folder.join("examples").join(name).with_extension(env::consts::EXE_EXTENSION);
    ensure!(program.exists(), "{} is not there: run `cargo build --examples` first", program.display());
    Ok(program)
}

/// Killed when it is dropped, so that a failed test leaves nothing behind.
struct Process(Child);

impl Process {
    /// Reads all it says, so that it can go on writing. The receiver is told of its first line.
    fn listen(&mut self) -> Result<mpsc::Receiver<()>> {
        let lines = BufReader::new(self.0.stdout.take().context("its output")?).lines();
        let (first, spoke) = mpsc::sync_channel(1);
        thread::spawn(move || lines.for_each(|_| _ = first.try_send(())));
        Ok(spoke)
    }

    /// As `kill -9`.
    fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Where the topic is.
#[derive(Clone)]
struct Site {
    name_server: String,
    access_point: String,
    topic: String,
}

/// The embedded broker in a process of its own.
fn embedded(topic: &str) -> Result<(Process, Site)> {
    let mut command = Command::new(example("embedded_broker")?);
    command.args(["--grpc", "127.0.0.1:0", "--remoting", "127.0.0.1:0", "--topic", &format!("{topic}:NORMAL:4")]);
    let mut process = Process(command.stdout(Stdio::piped()).spawn()?);
    let mut lines = BufReader::new(process.0.stdout.take().context("its output")?).lines();
    let mut address = |what: &str| -> Result<String> {
        let line = lines.next().context("the broker ended")??;
        ensure!(line.contains(what), "expected the {what} address: {line}");
        Ok(line.split_whitespace().nth(2).context("an address")?.to_owned())
    };
    let site = Site { access_point: address("gRPC")?, name_server: address("remoting")?, topic: topic.into() };
    thread::spawn(move || lines.for_each(drop)); // so that it can go on writing
    Ok((process, site))
}

/// A run of the example, in a folder of its own.
struct Run {
    site: Site,
    folder: PathBuf,
}

impl Run {
    fn new(site: Site, name: &str) -> Result<Self> {
        let folder = env::temp_dir().join(format!("rocketmq-stream-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self { site, folder })
    }

    fn output(&self) -> PathBuf {
        self.folder.join("output.txt")
    }

    fn start(&self, more: &[&str]) -> Result<Process> {
        let mut command = Command::new(example("pull_checkpoint")?);
        command.args(["--name-server", &self.site.name_server, "--topic", &self.site.topic, "--group", "crash-etl"]);
        command.arg("--checkpoint").arg(self.folder.join("state.ckpt")).arg("--output").arg(self.output()).args(more);
        Ok(Process(command.stdout(Stdio::piped()).spawn()?))
    }

    /// Lines that the last run wrote and did not come to save.
    fn has_unsaved(&self) -> bool {
        let saved = fs::read_to_string(self.folder.join("state.ckpt")).unwrap_or_default();
        let saved: u64 = saved.lines().next().and_then(|line| line.parse().ok()).unwrap_or_default();
        fs::metadata(self.output()).is_ok_and(|output| output.len() > saved)
    }

    /// `kills` runs, one in ten of which is killed while it starts, the others up to `longest` after they have said where
    /// they continue. Returns how many left lines behind that they had not come to save.
    fn survive(&self, kills: u32, longest: Duration) -> Result<u32> {
        let mut torn = 0;
        for _ in 0..kills {
            let mut process = self.start(&[])?;
            let spoke = process.listen()?;
            if fastrand::u32(..10) > 0 {
                spoke.recv_timeout(Duration::from_secs(30)).context("the run says nothing")?;
            }
            thread::sleep(longest.mul_f64(fastrand::f64()));
            process.kill()?;
            torn += u32::from(self.has_unsaved());
        }
        Ok(torn)
    }

    fn finish(&self) -> Result<()> {
        let mut last = self.start(&["--until", "now"])?;
        let _spoke = last.listen()?;
        let status = last.0.wait()?;
        ensure!(status.success(), "the last run ended with {status}");
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Sends until it is told to stop.
async fn keep_sending(site: &Site, stop: &AtomicBool) -> Result<()> {
    let producer = Client::builder().access_point(&site.access_point).build()?.producer().build().await?;
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let messages = (count..count + 10).map(|n| Ok(OutboundMessage::new(&site.topic, format!("message {n}"))));
        stream::iter(messages).forward(producer.sink()).await?;
        count += 10;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// All lines that the output should have, as the topic says.
async fn expected(site: &Site) -> Result<Vec<String>> {
    let client = Client::builder().name_server(&site.name_server).build()?;
    let consumer = client.pull_consumer("crash-reader").subscribe(&site.topic, Filter::all()).share(0, 1);
    let consumer = consumer.start_from(StartFrom::Earliest).until(StopAt::Now).commit_mode(CommitMode::Manual);
    let batches: Vec<_> = consumer.build().await?.try_collect().await?;
    let mut lines: Vec<String> = Vec::new();
    for batch in batches {
        for message in batch.messages() {
            let offset = message.queue_offset().context("an offset")?.get();
            let (queue, body) = (batch.queue(), message.body().escape_ascii());
            lines.push(format!("{} {} {offset} {body}", queue.broker(), queue.id()));
        }
        batch.complete();
    }
    lines.sort();
    Ok(lines)
}

/// In the output, every queue's offsets come once each, in order, and none is left out.
fn check_order(lines: &[String]) -> Result<()> {
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for line in lines {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let (queue, offset) = (format!("{} {}", words[0], words[1]), words[2].parse::<u64>()?);
        let expected = next.entry(queue).or_insert(offset);
        ensure!(*expected == offset, "offset {expected} should come here: {line}");
        *expected += 1;
    }
    Ok(())
}

fn kill_and_compare(site: Site, name: &str, kills: u32, longest: Duration) -> Result<u32> {
    let run = Run::new(site.clone(), name)?;
    let stop = AtomicBool::new(false);
    let torn = thread::scope(|scope| {
        let sending = scope.spawn(|| tokio::runtime::Runtime::new()?.block_on(keep_sending(&site, &stop)));
        let torn = run.survive(kills, longest);
        stop.store(true, Ordering::Relaxed);
        sending.join().map_err(|_| anyhow::anyhow!("the producer panicked"))??;
        torn
    })?;
    run.finish()?;
    let mut written: Vec<String> = fs::read_to_string(run.output())?.lines().map(str::to_owned).collect();
    check_order(&written)?;
    written.sort();
    let expected = tokio::runtime::Runtime::new()?.block_on(expected(&site))?;
    ensure!(!expected.is_empty(), "nothing was sent");
    ensure!(written == expected, "the output has {} lines, the topic {} messages", written.len(), expected.len());
    Ok(torn)
}

#[test]
fn the_output_is_the_topic_however_often_its_writer_is_killed() -> Result<()> {
    let (_broker, site) = embedded("crash")?;
    let torn = kill_and_compare(site, "crash", 200, Duration::from_millis(300))?;
    ensure!(torn > 0, "no run was killed between a line and its position: the test did not bite");
    Ok(())
}

#[test]
fn on_a_real_server_too() -> Result<()> {
    let names = ["NAME_SERVER", "ACCESS_POINT"];
    let Some([name_server, access_point]) = cluster_sh::from_env(names, "tests/apache/cluster.sh") else {
        return Ok(());
    };
    let topic = format!("crash-{}", std::process::id());
    admin::Admin::from_env()?.create_topic(&admin::Topic::new(&topic).queues(4))?;
    let site = Site { name_server, access_point, topic };
    kill_and_compare(site, "crash-real", 12, Duration::from_secs(2)).map(drop)
}
