//! Random schedules over the whole PullConsumer, and a checker of what came of them.
//!
//! A schedule comes of one number. `HISTORY_SEED=17 cargo test --test history` repeats one, and `HISTORY_SEEDS=1000..3000`
//! runs others than the usual ones; with `HISTORY_ALL=1` all that fail are listed, in a line each.
#![allow(
    clippy::disallowed_methods,
    clippy::future_not_send,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "the rules on time, tasks, threads, output and panics are for the library; tests are its users"
)]

mod checker;
mod keeping;
mod member;
mod op;
mod plan;
mod reading;
mod record;
mod trouble;
mod wire;
mod world;

use std::ops::Range;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use checker::{Anomaly, anomalies};
use op::{Contract, Event};
use plan::{Plan, contract_of};

/// What every run of the suite tries.
const SEEDS: Range<u64> = 0..1_000;
/// Tests of each contract, so that they run at once.
const PARTS: u64 = 4;

/// How long one history may take by the clock on the wall: a thousand times as long as most.
const LONGEST: Duration = Duration::from_secs(100);

/// Runs it on a thread of its own, which is left behind when it does not come to its end.
fn run(plan: &Plan) -> (Vec<Event>, Vec<Anomaly>) {
    let (tell, told) = mpsc::channel();
    let its = plan.clone();
    std::thread::spawn(move || {
        fastrand::seed(its.seed);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let history = runtime.block_on(world::run(&its));
        tell.send(history).unwrap();
    });
    let history = match told.recv_timeout(LONGEST) {
        Ok(history) => history,
        Err(RecvTimeoutError::Timeout) => hangs(),
        Err(RecvTimeoutError::Disconnected) => panic!("seed {} has panicked", plan.seed),
    };
    let found = anomalies(plan.contract, &history);
    (history, found)
}

/// A history that says so much.
fn hangs() -> Vec<Event> {
    let what = format!("it was not over within {LONGEST:?}");
    vec![Event { at: 0, op: op::Op::Stuck { what } }]
}

fn seeds() -> Range<u64> {
    let number = |text: &str| text.trim().parse::<u64>().unwrap();
    if let Ok(seed) = std::env::var("HISTORY_SEED") {
        return number(&seed)..number(&seed) + 1;
    }
    match std::env::var("HISTORY_SEEDS") {
        Ok(seeds) => {
            let (from, to) = seeds.split_once("..").unwrap();
            number(from)..number(to)
        }
        Err(_) => SEEDS,
    }
}

fn check(contract: Contract, part: u64) {
    let lists_all = std::env::var_os("HISTORY_ALL").is_some();
    let mut failed = Vec::new();
    for seed in seeds().filter(|seed| contract_of(*seed) == contract && seed / 16 % PARTS == part) {
        let plan = Plan::of(seed);
        let (history, found) = run(&plan);
        let Some(first) = found.first() else { continue };
        assert!(lists_all, "{}", report(&plan, &history, first, &found));
        failed.push(format!("seed {seed}: {first}"));
    }
    assert!(failed.is_empty(), "{} seeds fail\n{}", failed.len(), failed.join("\n"));
}

/// The plan, what was found, and what concerns it.
fn report(plan: &Plan, history: &[Event], first: &Anomaly, found: &[Anomaly]) -> String {
    let concerns = |event: &&Event| {
        event.op.queue().is_none_or(|queue| first.queue.is_none_or(|concerned| concerned == queue))
            && event.at <= first.at + 1_000
            && !matches!(event.op, op::Op::Send { by: world::HAND, .. } | op::Op::Log { .. })
    };
    let lines: Vec<String> = history.iter().filter(concerns).map(ToString::to_string).collect();
    let found: Vec<String> = found.iter().take(10).map(ToString::to_string).collect();
    format!(
        "{plan}\n\n{}\n\nfound:\n{}\n\nrepeat it: HISTORY_SEED={} cargo test --test history",
        lines.join("\n"),
        found.join("\n"),
        plan.seed
    )
}

macro_rules! contract {
    ($name:ident, $contract:ident) => {
        mod $name {
            use crate::{Contract, check};

            #[test]
            fn part_1_of_4() {
                check(Contract::$contract, 0);
            }

            #[test]
            fn part_2_of_4() {
                check(Contract::$contract, 1);
            }

            #[test]
            fn part_3_of_4() {
                check(Contract::$contract, 2);
            }

            #[test]
            fn part_4_of_4() {
                check(Contract::$contract, 3);
            }
        }
    };
}

contract!(at_least_once_nothing_is_lost_and_nothing_that_was_committed_comes_again, AtLeastOnce);
contract!(at_most_once_nothing_comes_twice, AtMostOnce);
contract!(exactly_once_every_message_is_once_in_the_outputs, ExactlyOnce);
