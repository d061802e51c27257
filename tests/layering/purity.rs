//! Pure files: they decide and do nothing else, so that tables of cases can test them without a runtime.

use crate::{
    names::{Names, Stop},
    rule::{Rule, Violation},
    tree::{ModulePath, SourceFile, Tree},
};

/// The modules (with all below them) that are pure; `*` stands for one name. One that is not written yet is no fault.
const PURE: &[&str] = &[
    "retry",
    "model",
    "transport::auth",
    "transport::body",
    "transport::grpc::convert",
    "transport::remoting::frame",
    "transport::remoting::command",
    "transport::remoting::stored",
    "assignment::chosen",
    "assignment::guard::judge",
    "assignment::holding",
    "assignment::round",
    "assignment::share",
    "assignment::strategy",
    "checkpoint::book",
    "checkpoint::event",
    "checkpoint::tracker",
    "lease::entry",
    "lease::judge",
    "lease::lanes",
    "lease::outcomes",
    "lease::slab",
    "lease::table",
    "lease::terms",
    "lease::timers",
    "lease::work",
    "consumer::*::planner",
    "consumer::pull::returns",
    "consumer::push::lanes",
    "consumer::rules",
    "producer::router",
    "producer::accumulator",
    "producer::failure",
    "producer::flushes",
    "arrow::encoder",
    "datafusion::filters",
    "embedded::engine",
];

/// What a pure file may use of this crate, beside the pure files of its own top-level module.
const OPEN: &[&str] = &["error", "model", "retry"];

/// Pure modules that also name what the traits in `transport/mod.rs` carry: requests and answers, which are plain data.
const CARRIERS: &[&str] = &[
    "transport::grpc::convert",
    "assignment::guard::judge",
    "consumer::*::planner",
    "lease::entry",
    "lease::outcomes",
    "lease::table",
    "lease::terms",
    "lease::work",
    "lease::judge",
    "lease::lanes",
];

/// Pure modules that keep the wakers of those who wait, as values: the shell wakes them, after its lock was let go.
const KEEP_WAKERS: &[&str] = &["lease::entry", "lease::outcomes", "lease::table", "lease::work"];

/// The one pure module that knows protobuf.
const CONVERT: &str = "transport::grpc::convert";

/// Beginnings of what only shells use, with those of all crates in the family (`tokio` stands for `tokio_util` too).
const SHELLS_ONLY: &[&str] = &[
    "tokio",
    "futures",
    "async_stream",
    "tonic",
    "hyper",
    "tower",
    "std::future",
    "std::task",
    "core::future",
    "core::task",
];
const PROTOBUF: &[&str] = &["prost"];

/// Pure files only decide.
pub(crate) struct PureFilesOnlyDecide;

impl Rule for PureFilesOnlyDecide {
    fn name(&self) -> &'static str {
        "a pure file uses error, model, retry and its pure neighbours; nothing that waits, talks or reads a clock"
    }

    fn violations(&self, tree: &Tree) -> Vec<Violation> {
        let names = Names::of(tree);
        tree.handwritten()
            .filter(|file| is_pure(&file.module))
            .flat_map(|file| impure_paths(file, &names).into_iter().chain(async_functions(file)))
            .collect()
    }
}

fn impure_paths(file: &SourceFile, names: &Names<'_>) -> Vec<Violation> {
    let mut violations: Vec<Violation> = Vec::new();
    for mention in file.facts.mentions.iter().filter(|mention| !mention.in_test) {
        for stop in names.stops(mention) {
            let Some(instead) = objection(&file.module, &stop) else { continue };
            let found = format!("a pure file names `{}`", mention.path.join("::"));
            if violations.last().is_none_or(|last| last.line != mention.line || last.found != found) {
                violations.push(violation(file, mention.line, found, instead));
            }
        }
    }
    violations
}

fn async_functions(file: &SourceFile) -> impl Iterator<Item = Violation> {
    file.facts.functions.iter().filter(|function| function.is_async && !function.in_test).map(|function| {
        let found = format!("a pure file has `async fn {}`", function.name);
        violation(file, function.line, found, "return an enum that says what to do next; a shell awaits it")
    })
}

fn violation(file: &SourceFile, line: usize, found: String, instead: &str) -> Violation {
    Violation { file: file.path.clone(), line, found, instead: instead.to_owned() }
}

/// What a pure module should do instead of going to `stop`, if it may not.
fn objection(from: &ModulePath, stop: &Stop) -> Option<&'static str> {
    let is_convert = matches(from, CONVERT);
    match stop {
        Stop::Module(to) => {
            let is_open = to.first().is_some_and(|home| OPEN.contains(&home.as_str()));
            let is_neighbour = from.first() == to.first() && is_pure(to);
            let is_own_proto = is_convert && matches(to, "proto");
            let is_carried = (*to == ["transport"] || *to == ["transport", "pulling"])
                && CARRIERS.iter().any(|pattern| matches(from, pattern));
            let fits = is_open || is_neighbour || is_own_proto || is_carried;
            (!fits).then_some("take it as an argument, or define in model what both sides need")
        }
        Stop::Outside(path)
            if begins(path, "std::task") && KEEP_WAKERS.iter().any(|pattern| matches(from, pattern)) =>
        {
            None
        }
        Stop::Outside(path) if SHELLS_ONLY.iter().any(|name| begins(path, name)) => {
            Some("return an enum that says what to do next; a shell beside this file does it")
        }
        Stop::Outside(path) if !is_convert && PROTOBUF.iter().any(|name| begins(path, name)) => {
            Some("convert in transport/grpc/convert.rs")
        }
        Stop::Outside(path) if path.len() > 1 && path.ends_with(&["now".to_owned()]) => {
            Some("take `now: Instant` as an argument")
        }
        Stop::Outside(_) => None,
    }
}

/// Whether the module is, or is below, one of the pure ones.
fn is_pure(module: &ModulePath) -> bool {
    PURE.iter().any(|pattern| matches(module, pattern))
}

fn matches(module: &ModulePath, pattern: &str) -> bool {
    let mut own = module.iter();
    pattern.split("::").all(|name| own.next().is_some_and(|part| name == "*" || part == name))
}

/// Whether a path starts with `name`, or with a crate of that family.
fn begins(path: &[String], name: &str) -> bool {
    let names: Vec<&str> = name.split("::").collect();
    let family = || names.len() == 1 && path[0].starts_with(&format!("{name}_"));
    path.len() >= names.len() && path.iter().zip(&names).all(|(part, name)| part == name) || family()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::bites;

    fn impure(path: &str, text: &str) -> Vec<String> {
        let others = [
            ("src/model/mod.rs", ""),
            ("src/retry.rs", ""),
            ("src/clock.rs", ""),
            ("src/proto/mod.rs", ""),
            ("src/transport/mod.rs", ""),
            ("src/transport/body.rs", ""),
            ("src/transport/grpc/mod.rs", ""),
            ("src/embedded/engine/mod.rs", ""),
            ("src/embedded/mod.rs", ""),
        ];
        let mut files: Vec<(&str, &str)> = others.into_iter().filter(|(other, _)| *other != path).collect();
        files.push((path, text));
        bites(&PureFilesOnlyDecide, &files)
    }

    fn holds(path: &str, text: &str) {
        assert_eq!(impure(path, text), [""; 0], "{path}: {text}");
    }

    fn breaks(path: &str, text: &str) {
        assert_eq!(impure(path, text), [format!("{path}:1")], "{path}: {text}");
    }

    #[test]
    fn a_pure_file_uses_values_of_level_zero_and_retry() {
        let text = "use std::{collections::HashMap, time::Instant}; use crate::{model::Queue, retry::Backoff};
            use bytes::Bytes; fn f(now: Instant) -> Instant { now + Duration::from_secs(1) }";
        holds("src/lease/table.rs", text);
        holds("src/consumer/pull/planner.rs", text);
        holds("src/embedded/engine/group.rs", "use super::log; use crate::embedded::engine::fifo;");
    }

    #[test]
    fn a_pure_file_neither_waits_nor_talks() {
        breaks("src/model/queue.rs", "use tokio::sync::Mutex;");
        breaks("src/model/queue.rs", "use tokio_util::sync::CancellationToken;");
        breaks("src/retry.rs", "use futures_util::StreamExt;");
        breaks("src/checkpoint/tracker.rs", "use std::{task::Waker};");
        holds("src/lease/table.rs", "use std::{task::Waker};");
        breaks("src/lease/table.rs", "use std::future::Future;");
        breaks("src/lease/table.rs", "async fn f() {}");
        breaks("src/transport/grpc/convert.rs", "use tonic::Status;");
        breaks("src/consumer/simple/planner.rs", "fn f() { select! { x = tokio::time::sleep(d) => {} } }");
    }

    #[test]
    fn a_pure_file_is_told_the_time() {
        breaks("src/lease/table.rs", "fn f() { std::time::Instant::now(); }");
        breaks("src/lease/table.rs", "fn f() { SystemTime::now(); }");
        breaks("src/lease/table.rs", "use std::time::Instant as I; fn f() { or_else(I::now) }");
        breaks("src/lease/table.rs", "use crate::clock;");
    }

    #[test]
    fn only_convert_knows_protobuf() {
        holds(
            "src/transport/grpc/convert.rs",
            "use crate::{proto::Code, transport::body}; use prost_types::Timestamp;",
        );
        breaks("src/transport/body.rs", "use prost::Message;");
        breaks("src/embedded/engine/log.rs", "use crate::proto::Message;");
    }

    #[test]
    fn convert_and_the_planners_know_what_the_wires_carry() {
        holds("src/transport/grpc/convert.rs", "use crate::transport::ReceiveRequest;");
        holds("src/consumer/simple/planner.rs", "use crate::transport::ReceiveFrame;");
        breaks("src/consumer/simple/planner.rs", "use crate::transport::grpc::Channel;");
        holds("src/lease/table.rs", "use crate::transport::Held;");
        breaks("src/producer/router.rs", "use crate::transport::Held;");
    }

    #[test]
    fn a_pure_file_does_not_lean_on_a_shell_of_its_own_module() {
        breaks("src/transport/remoting/stored.rs", "use crate::transport::Pulled;");
        breaks("src/embedded/engine/log.rs", "use crate::embedded::Broker;");
    }

    #[test]
    fn other_files_and_tests_are_free() {
        holds("src/lease/keeper.rs", "use tokio::sync::Mutex;");
        holds("src/lease/table.rs", "#[cfg(test)] mod tests { use tokio::time::Instant; }");
        holds("src/lease/table/tests.rs", "use tokio::time::Instant;");
    }
}
