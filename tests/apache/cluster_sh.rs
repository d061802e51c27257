//! `cluster.sh` as a test sees it: what it says of its server in the environment, and what it does to that server's processes.
//!
//! For use in a test: `#[path = "../apache/cluster_sh.rs"] mod cluster_sh;`
#![allow(dead_code, reason = "each test binary uses the part it needs")]

use std::env;
use std::io::Write;
use std::process::Command;
use std::sync::Once;

/// The variables of these names. `None` where one of them is missing, which must be allowed: plain `cargo test` works on a
/// machine with Rust alone. That is said once; with `REAL_SERVER_REQUIRED=1` it is a failure.
///
/// `start` is the command that sets them.
pub(crate) fn from_env<const N: usize>(names: [&str; N], start: &str) -> Option<[String; N]> {
    static SAID: Once = Once::new();
    if let Some(missing) = names.iter().find(|name| env::var_os(name).is_none()) {
        let said = format!("{missing} is not set: run this under {start} (see tests/README.md)");
        let required = env::var("REAL_SERVER_REQUIRED").is_ok_and(|value| value == "1");
        assert!(!required, "{said}");
        SAID.call_once(|| drop(writeln!(std::io::stderr(), "nothing is checked of a real server: {said}")));
        return None;
    }
    Some(names.map(variable))
}

/// A variable that is there whenever the server is.
pub(crate) fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("{name}, which cluster.sh sets: {error}"))
}

/// Runs the script to its end, which must be a good one, e.g. `kill broker-a`; what it prints.
pub(crate) fn run(arguments: &[&str]) -> String {
    let done = Command::new("bash").arg(variable("CLUSTER_SH")).args(arguments).output().expect("bash");
    let (out, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{arguments:?}: {out}{errors}");
    out.into_owned()
}

/// Runs it while the runtime goes on.
pub(crate) async fn run_aside<const N: usize>(arguments: [&'static str; N]) {
    tokio::task::spawn_blocking(move || run(&arguments)).await.expect("no panic");
}
