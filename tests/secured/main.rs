//! A real Apache RocketMQ that asks who calls, and that speaks TLS with a certificate of an authority of its own.
//!
//! ```sh
//! ACL=1 TLS=1 tests/apache/cluster.sh run -- cargo test --test secured
//! ```
//!
//! Without such a server (`ADMIN_ACCESS_KEY` and `TLS_CA` in the environment) nothing is checked, and one line says so; with
//! `REAL_SERVER_REQUIRED=1` that is a failure.
#![allow(
    clippy::disallowed_methods,
    clippy::future_not_send,
    reason = "the rules on time, tasks and threads are for the library; tests are its users"
)]

#[path = "../apache/admin.rs"]
mod admin;
#[path = "../apache/cluster_sh.rs"]
mod cluster_sh;
#[path = "../support/mod.rs"]
mod support;

mod rights;
mod server;
mod tls;
