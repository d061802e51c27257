//! The library against the embedded broker, with faults by script: a test for each trap, named after it.
//!
//! Most tests run on a paused clock, shared with the broker: long leases and outages take no time there, and how long
//! something took is exact.

#![allow(
    clippy::disallowed_methods,
    clippy::future_not_send,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "the rules on time, tasks, threads, output and panics are for the library; tests are its users"
)]

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod bad_pull;
mod bad_routes;
mod bodies;
mod checkpoint_file;
mod faults;
mod leases;
mod logs;
mod memory;
mod patterns;
mod peers;
mod producer;
mod proto;
mod pull;
mod pull_pipelines;
mod pull_traps;
mod shutdown;
mod stream;
mod tap;
mod tls;
mod wire;
