//! What one message costs where no network is involved: the stream (planner, lease, delivery, settlement) over a wire that
//! answers at once, the way from the bytes of an answer of 32 messages to messages, on both wires, and completing what was
//! pulled.
//!
//! The sources of the crate are compiled into this program, so that its public surface needs no opening for benches.
#![allow(dead_code, unused_imports, unreachable_pub, unnameable_types, reason = "the parts that are not measured")]
#![allow(clippy::disallowed_methods, reason = "criterion measures by its own clock")]

#[path = "../../src/assignment/mod.rs"]
mod assignment;
#[path = "../../src/checkpoint/mod.rs"]
mod checkpoint;
#[path = "../../src/client.rs"]
mod client;
#[path = "../../src/clock.rs"]
mod clock;
#[path = "../../src/consumer/mod.rs"]
mod consumer;
#[path = "../../src/error/mod.rs"]
mod error;
#[path = "../../src/lease/mod.rs"]
mod lease;
#[path = "../../src/model/mod.rs"]
mod model;
#[path = "../../src/producer/mod.rs"]
mod producer;
#[path = "../../src/proto/mod.rs"]
mod proto;
#[path = "../../src/retry.rs"]
mod retry;
#[path = "../../src/session/mod.rs"]
mod session;
#[path = "../../src/task.rs"]
mod task;
#[path = "../../src/transport/mod.rs"]
mod transport;

mod convert;
mod stored;
mod stream;
mod tracker;
mod wire;

use std::time::Duration;

use client::Client;
use error::{Error, ErrorKind, Result};

use criterion::{Criterion, criterion_group};

fn short() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3))
}

criterion_group! {
    name = benches;
    config = short();
    targets = stream::bench, convert::bench, stored::bench, tracker::bench
}

/// `once WHAT COUNT` runs one bench without measuring it, for what counts instructions: those of two counts, subtracted.
fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[1..] {
        [once, what, count, ..] if once == "once" => stream::once(what, count.parse().expect("a number")),
        _ => {
            benches();
            Criterion::default().configure_from_args().final_summary();
        }
    }
}
