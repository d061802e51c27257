//! From the moment before a message is sent to the moment it is handed out, at a steady rate.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use crate::rounds;
use crate::server::{self, Server};
use crate::side_by_side::process;
use crate::side_by_side::rounds::{Round, Who};
use crate::side_by_side::table::{print_aligned, spread};
use crate::{Options, Work, ours, raw};

const MARK: &str = "latency";
/// How long a process may take until its polls stand.
const START: Duration = Duration::from_secs(2);

/// Of the messages after the warm-up.
#[derive(Debug, Clone, Copy)]
struct Latency {
    median: Duration,
    p99: Duration,
    most: Duration,
}

pub(crate) fn compare(options: &Options) -> Result<()> {
    let server = Server::open(options, 0)?;
    let rounds = rounds::play(options, &server, |command, turn| {
        let latency = under_load(options, &server, command)?;
        eprintln!("{turn}: median {:?}, p99 {:?}, most {:?}", latency.median, latency.p99, latency.most);
        Ok(latency)
    })?;
    print(options, &server, &rounds);
    Ok(())
}

/// Sends in a thread of this process while `command` receives.
fn under_load(options: &Options, server: &Server, command: &mut std::process::Command) -> Result<Latency> {
    let sending = server::pulling(server.name_server, &options.topic, "fill", options.batch)?;
    let (count, rate, size) = (options.warm + options.messages, options.rate, options.size);
    let sender = thread::spawn(move || {
        thread::sleep(START);
        send(&sending, count, rate, size)
    });
    let mut found = None;
    process::run(command, |line| {
        found = Latency::from_line(line).or(found);
        Ok(())
    })?;
    sender.join().expect("the sender does not panic").context("send")?;
    found.context("the process ended without a figure")
}

/// One request for each message, at the times of a fixed plan: a slow answer delays what comes after it as little as it can.
fn send(work: &raw::Pulling, count: u64, rate: u32, size: usize) -> Result<()> {
    let mut sender = raw::Sender::connect(work)?;
    let mut body = server::body(size.max(8));
    let (start, step) = (Instant::now(), Duration::from_secs(1) / rate);
    for number in 0..count {
        let due = start + step * u32::try_from(number)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        body[..8].copy_from_slice(&now()?.to_be_bytes());
        sender.send(&body, number)?;
    }
    Ok(())
}

/// Nanoseconds since 1970: one clock for two processes.
fn now() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?)
}

pub(crate) fn work(work: &Work) -> Result<()> {
    let mut watch = Watch { warm: work.warm, wanted: work.messages as usize, seen: 0, ages: Vec::new() };
    match work.who {
        Who::Raw => {
            let pulling = server::pulling(work.name_server, &work.topic, &work.group, work.batch)?;
            raw::pull(&pulling.live(), |body| raw::records(body).filter_map(raw::body).any(|body| watch.sees(body)))?;
        }
        Who::Crate => ours::run(ours::live(work, |body| watch.sees(body)))?,
    }
    println!("{}", Latency::of(watch.ages).to_line());
    Ok(())
}

struct Watch {
    warm: u64,
    wanted: usize,
    seen: u64,
    ages: Vec<u64>,
}

impl Watch {
    /// `true`: it has seen enough.
    fn sees(&mut self, body: &[u8]) -> bool {
        let sent = body.first_chunk().map(|stamp| u64::from_be_bytes(*stamp));
        let age = sent.zip(now().ok()).map_or(0, |(sent, now)| now.saturating_sub(sent));
        self.seen += 1;
        if self.seen > self.warm {
            self.ages.push(age);
        }
        self.ages.len() >= self.wanted
    }
}

impl Latency {
    fn of(mut ages: Vec<u64>) -> Self {
        ages.sort_unstable();
        let at = |part: usize| Duration::from_nanos(ages.get(ages.len() * part / 100).copied().unwrap_or_default());
        let most = Duration::from_nanos(ages.last().copied().unwrap_or_default());
        Self { median: at(50), p99: at(99), most }
    }

    fn to_line(self) -> String {
        format!("{MARK} {} {} {}", self.median.as_nanos(), self.p99.as_nanos(), self.most.as_nanos())
    }

    fn from_line(line: &str) -> Option<Self> {
        let mut numbers = line.strip_prefix(MARK)?.split_whitespace().map(|word| word.parse().ok());
        let mut next = || Some(Duration::from_nanos(numbers.next()??));
        Some(Self { median: next()?, p99: next()?, most: next()? })
    }
}

fn print(options: &Options, server: &Server, rounds: &[Round<Latency>]) {
    println!(
        "\nlatency, {} B, {} msg/s, on {}, {} rounds",
        options.size,
        options.rate,
        server.name_server,
        rounds.len()
    );
    println!("median (min to max) of the rounds, in milliseconds\n");
    let row = |name: &str, latencies: &[Latency]| {
        let over = |get: fn(&Latency) -> Duration| {
            spread(&latencies.iter().map(|latency| get(latency).as_secs_f64() * 1e3).collect::<Vec<_>>(), 2)
        };
        vec![name.to_owned(), over(|l| l.median), over(|l| l.p99), over(|l| l.most)]
    };
    let raw: Vec<_> = rounds.iter().filter_map(|round| round.raw).collect();
    let ours: Vec<_> = rounds.iter().filter_map(|round| round.ours).collect();
    let header = ["", "p50", "p99", "most"].map(str::to_owned).to_vec();
    print_aligned(&[header, row("raw remoting", &raw), row("rocketmq-stream", &ours)]);
}
