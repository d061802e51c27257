//! Counts messages in a measured process, and takes the figures between the end of the warm-up and the end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::Notify;

use crate::side_by_side::usage::{self, Snapshot};

pub(crate) struct Meter {
    warm: u64,
    messages: u64,
    pids: Vec<u32>,
    seen: AtomicU64,
    begun: Mutex<Option<(u64, Snapshot)>>,
    over: Notify,
}

impl Meter {
    /// Measures `messages` after the first `warm` ones, and the CPU time of the processes `pids` meanwhile.
    pub(crate) fn new(warm: u64, messages: u64, pids: Vec<u32>) -> Self {
        let warm = warm.max(1);
        Self { warm, messages, pids, seen: AtomicU64::new(0), begun: Mutex::default(), over: Notify::new() }
    }

    /// So many more messages are done. `true`: it has seen enough.
    pub(crate) fn count(&self, done: u64) -> bool {
        let before = self.seen.fetch_add(done, Ordering::Relaxed);
        let now = before + done;
        if before < self.warm && now >= self.warm {
            *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Snapshot::now(&self.pids)));
        }
        let end = self.warm + self.messages;
        if before < end && now >= end {
            let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((from, first)) = begun {
                println!("{}", Sample::between(now - from, &first, &Snapshot::now(&self.pids)).to_line());
            }
            self.over.notify_one();
        }
        now >= end
    }

    #[allow(dead_code, reason = "a program with one loop asks `count` instead")]
    pub(crate) async fn over(&self) {
        self.over.notified().await;
    }
}

/// What one process did. Printed by it as one line, and read by the one that started it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sample {
    pub(crate) messages: u64,
    pub(crate) elapsed: Duration,
    pub(crate) own: Option<Duration>,
    pub(crate) others: Vec<Option<Duration>>,
    pub(crate) machine: Option<Duration>,
    pub(crate) memory_kib: Option<u64>,
}

const MARK: &str = "sample";

impl Sample {
    pub(crate) fn between(messages: u64, first: &Snapshot, last: &Snapshot) -> Self {
        let used = |from: Option<Duration>, to: Option<Duration>| to?.checked_sub(from?);
        Self {
            messages,
            elapsed: last.at - first.at,
            own: used(first.own, last.own),
            others: first.others.iter().zip(&last.others).map(|(from, to)| used(*from, *to)).collect(),
            machine: used(first.machine, last.machine),
            memory_kib: usage::peak_memory(),
        }
    }

    pub(crate) fn to_line(&self) -> String {
        let nanos = |time: Option<Duration>| time.map_or_else(|| "-".into(), |time| time.as_nanos().to_string());
        let others: Vec<_> = self.others.iter().copied().map(nanos).collect();
        let memory = self.memory_kib.map_or_else(|| "-".into(), |kib| kib.to_string());
        let Self { messages, elapsed, own, machine, .. } = self;
        let head = format!("{MARK} {messages} {} {} {} {memory}", elapsed.as_nanos(), nanos(*own), nanos(*machine));
        [head, others.join(" ")].join(" ")
    }

    /// `Ok(None)`: the line is something else that the process said.
    pub(crate) fn from_line(line: &str) -> anyhow::Result<Option<Self>> {
        let mut words = line.split_whitespace();
        if words.next() != Some(MARK) {
            return Ok(None);
        }
        let mut number = || -> anyhow::Result<Option<u64>> {
            match words.next().context("a sample is cut short")? {
                "-" => Ok(None),
                word => Ok(Some(word.parse()?)),
            }
        };
        let (messages, elapsed) = (number()?.context("no count")?, number()?.context("no time")?);
        let (own, machine, memory_kib) = (number()?, number()?, number()?);
        let others = words.map(|word| word.parse().ok().map(Duration::from_nanos)).collect();
        let nanos = |time: Option<u64>| time.map(Duration::from_nanos);
        let elapsed = Duration::from_nanos(elapsed);
        Ok(Some(Self { messages, elapsed, own: nanos(own), others, machine: nanos(machine), memory_kib }))
    }

    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }

    /// CPU time per message, in microseconds.
    pub(crate) fn micros(&self, used: Option<Duration>) -> Option<f64> {
        Some(used?.as_secs_f64() * 1e6 / self.messages as f64)
    }

    /// How many cores were busy with what is not ours.
    pub(crate) fn foreign_cores(&self) -> Option<f64> {
        let known: Option<Duration> = self.others.iter().copied().sum();
        let foreign = self.machine?.saturating_sub(self.own? + known?);
        Some(foreign.as_secs_f64() / self.elapsed.as_secs_f64())
    }
}
