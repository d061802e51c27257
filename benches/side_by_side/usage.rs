//! What a process has used so far: CPU time and peak memory, from `/proc`. Elsewhere than on Linux there is only the clock.

use std::fs;
use std::time::{Duration, Instant};

/// `/proc` counts in hundredths of a second on every Linux (USER_HZ), whatever the kernel's own tick is.
const TICK: Duration = Duration::from_millis(10);

/// One moment: the clock, and CPU time used until then. `None`: not known on this system.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) at: Instant,
    pub(crate) own: Option<Duration>,
    /// In the order of the process ids asked for.
    pub(crate) others: Vec<Option<Duration>>,
    /// All processes of the machine together.
    pub(crate) machine: Option<Duration>,
}

impl Snapshot {
    pub(crate) fn now(pids: &[u32]) -> Self {
        Self {
            at: Instant::now(),
            own: process("self"),
            others: pids.iter().map(|pid| process(&pid.to_string())).collect(),
            machine: machine(),
        }
    }
}

/// User and system time of a process, threads that have ended included.
fn process(pid: &str) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, also spaces and parentheses: the numbers begin after the last one.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u32 = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
    Some(TICK * ticks)
}

/// Time that was neither idle nor spent waiting for a disk.
fn machine() -> Option<Duration> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> = text.lines().next()?.split_whitespace().skip(1).flat_map(str::parse).collect();
    let busy: u64 = fields.iter().take(8).sum::<u64>() - fields.get(3)? - fields.get(4)?;
    Some(TICK * u32::try_from(busy).ok()?)
}

/// The most memory that this process ever had resident, in KiB.
pub(crate) fn peak_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
