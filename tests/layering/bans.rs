//! What no file may contain, and what has one home.

use crate::{
    facts::{Call, Mention},
    names::{Names, Stop},
    rule::{Rule, Violation},
    tree::{SourceFile, Tree, is_test_name},
};

/// Paths that only one module may name.
struct Ban {
    what: &'static str,
    /// Each one is banned where its names follow each other anywhere in a path.
    paths: &'static [&'static str],
    /// The module that may; none if nobody may.
    home: Option<&'static str>,
    instead: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        what: "spawns",
        paths: &[
            "tokio::spawn",
            "tokio::task::spawn",
            "tokio::task::spawn_blocking",
            "tokio::task::spawn_local",
            "tokio::task::JoinSet",
            "tokio_util::task::TaskTracker",
            "std::thread::spawn",
            "std::thread::scope",
            "std::thread::Builder",
        ],
        home: Some("task"),
        instead: "use task::TaskGroup: every task has a name, an owner and an end",
    },
    Ban {
        what: "reads time",
        paths: &["Instant::now", "SystemTime::now"],
        home: Some("clock"),
        instead: "use clock in a shell, take `now: Instant` as an argument in a pure file",
    },
    Ban {
        what: "sleeps",
        paths: &[
            "tokio::time::sleep",
            "tokio::time::sleep_until",
            "tokio::time::timeout",
            "tokio::time::timeout_at",
            "tokio::time::interval",
            "tokio::time::interval_at",
            "std::thread::sleep",
        ],
        home: Some("clock"),
        instead: "use clock, so that a test can hold time",
    },
    Ban {
        what: "opens a channel without a bound",
        paths: &[
            "unbounded_channel",
            "UnboundedSender",
            "UnboundedReceiver",
            "mpsc::unbounded",
            "channel::unbounded",
            "std::sync::mpsc::channel",
        ],
        home: None,
        instead: "give the channel a bound, and say what happens when it is full",
    },
];

/// The wall clock may jump at any time, so it says when something was, never how long it lasts (trap R17). Who reads it:
const WALL_CLOCK_READERS: &[&str] = &[
    "consumer::pull::builder", // when the consumer was started, to be compared with the broker's times of messages
    "embedded::cluster",       // when the embedded broker was started: its messages have times
    "producer",                // when a message was born
    "transport::grpc::rpc",    // the time that is signed with a request
    "transport::remoting::presence", // the version of a subscription
];

/// Methods that read a clock behind the caller's back.
const CLOCK_METHODS: &[&str] = &["elapsed"];
const UNFINISHED: &[&str] = &["todo", "unimplemented"];
const PRINTING: &[&str] = &["println", "print", "eprintln", "eprint", "dbg"];

/// Tasks, time and queues come from one place each.
pub(crate) struct OneHomeEach;

impl Rule for OneHomeEach {
    fn name(&self) -> &'static str {
        "only task.rs spawns, only clock.rs reads time and sleeps, every channel has a bound"
    }

    fn violations(&self, tree: &Tree) -> Vec<Violation> {
        let names = Names::of(tree);
        tree.handwritten().flat_map(|file| banned_paths(file, &names).into_iter().chain(clock_methods(file))).collect()
    }
}

fn banned_paths(file: &SourceFile, names: &Names<'_>) -> Vec<Violation> {
    let mut violations: Vec<Violation> = Vec::new();
    for mention in file.facts.mentions.iter().filter(|mention| !mention.in_test) {
        for stop in names.stops(mention) {
            let Stop::Outside(path) = stop else { continue };
            let Some(ban) = BANS.iter().find(|ban| ban.forbids(file, &path)) else { continue };
            violations.push(Violation {
                file: file.path.clone(),
                line: mention.line,
                found: format!("`{}` {}", path.join("::"), ban.what),
                instead: ban.instead.to_owned(),
            });
        }
    }
    violations
}

impl Ban {
    fn forbids(&self, file: &SourceFile, path: &[String]) -> bool {
        let at_home = self.home.is_some_and(|home| file.module.first().is_some_and(|top| top == home));
        !at_home && self.paths.iter().any(|banned| contains(path, banned))
    }
}

fn contains(path: &[String], banned: &str) -> bool {
    let banned: Vec<&str> = banned.split("::").collect();
    path.windows(banned.len()).any(|window| window.iter().eq(banned.iter()))
}

/// Leases, deadlines and back-offs are measured by a clock that does not jump.
pub(crate) struct NoDurationsOfTheWallClock;

impl Rule for NoDurationsOfTheWallClock {
    fn name(&self) -> &'static str {
        "r17: only who tells or compares dates reads the wall clock"
    }

    fn violations(&self, tree: &Tree) -> Vec<Violation> {
        tree.handwritten()
            .filter(|file| file.module != ["clock"] && !WALL_CLOCK_READERS.contains(&file.module.join("::").as_str()))
            .flat_map(|file| {
                let wall = |mention: &&Mention| !mention.in_test && contains(&mention.path, "clock::wall");
                file.facts.mentions.iter().filter(wall).map(|mention| Violation {
                    file: file.path.clone(),
                    line: mention.line,
                    found: "reads the wall clock".to_owned(),
                    instead: "measure from clock::now(); if this is a date, add the module to WALL_CLOCK_READERS"
                        .to_owned(),
                })
            })
            .collect()
    }
}

fn clock_methods(file: &SourceFile) -> Vec<Violation> {
    if file.module == ["clock"] {
        return Vec::new();
    }
    let instead = "subtract from a `now` that came from clock";
    calls(file, &file.facts.methods, CLOCK_METHODS, "reads time", instead, false)
}

/// A violation for each of these calls whose name is banned.
fn calls(
    file: &SourceFile,
    calls: &[Call],
    banned: &[&str],
    what: &str,
    instead: &str,
    also_in_tests: bool,
) -> Vec<Violation> {
    calls
        .iter()
        .filter(|call| banned.contains(&call.name.as_str()) && (also_in_tests || !call.in_test))
        .map(|call| Violation {
            file: file.path.clone(),
            line: call.line,
            found: format!("`{}` {what}", call.name),
            instead: instead.to_owned(),
        })
        .collect()
}

/// Nothing is left unfinished, and no test is skipped.
pub(crate) struct NothingUnfinished;

impl Rule for NothingUnfinished {
    fn name(&self) -> &'static str {
        "no todo!, no unimplemented!, no #[ignore]"
    }

    fn violations(&self, tree: &Tree) -> Vec<Violation> {
        let instead = "write it, or answer with a typed error (ErrorKind::Unsupported) that says what to use";
        let unfinished = |file| calls(file, &file.facts.macros, UNFINISHED, "is unfinished work", instead, true);
        tree.files.iter().flat_map(|file| unfinished(file).into_iter().chain(skipped(file))).collect()
    }
}

fn skipped(file: &SourceFile) -> impl Iterator<Item = Violation> {
    file.facts.ignored.iter().map(|line| Violation {
        file: file.path.clone(),
        line: *line,
        found: "`#[ignore]` skips a test".to_owned(),
        instead: "make it pass, or take it out and say in the change log what is not there".to_owned(),
    })
}

/// The library prints nothing.
pub(crate) struct NothingPrinted;

impl Rule for NothingPrinted {
    fn name(&self) -> &'static str {
        "the library prints nothing"
    }

    fn violations(&self, tree: &Tree) -> Vec<Violation> {
        let instead = "use a tracing event, or return it";
        tree.handwritten()
            .flat_map(|file| calls(file, &file.facts.macros, PRINTING, "prints", instead, false))
            .collect()
    }
}

/// The other rules take a file's name for its being test code, so the compiler must hear the same.
pub(crate) struct TestsAreTests;

impl Rule for TestsAreTests {
    fn name(&self) -> &'static str {
        "a module named `tests` or `…_tests` stands under #[cfg(test)]"
    }

    fn violations(&self, tree: &Tree) -> Vec<Violation> {
        let mut violations = Vec::new();
        for file in tree.handwritten() {
            for module in file.facts.modules.iter().filter(|module| is_test_name(&module.name) && !module.in_test) {
                violations.push(Violation {
                    file: file.path.clone(),
                    line: module.line,
                    found: format!("`mod {}` is compiled into the library", module.name),
                    instead: "write `#[cfg(test)]` over it, or give it another name".to_owned(),
                });
            }
        }
        violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::bites;

    fn one(rule: &dyn Rule, path: &str, text: &str) -> usize {
        bites(rule, &[(path, text)]).len()
    }

    #[test]
    fn only_task_spawns() {
        for text in [
            "fn f() { tokio::spawn(g()); }",
            "use tokio::spawn;",
            "use tokio::task as t; fn f() { t::spawn_blocking(g); }",
            "fn f() { select! { _ = a => { tokio::task::spawn(b); } } }",
            "use tokio::task::{JoinSet};",
            "fn f() { std::thread::spawn(g); }",
        ] {
            assert_eq!(one(&OneHomeEach, "src/session/mod.rs", text), 1, "{text}");
            assert_eq!(one(&OneHomeEach, "src/task.rs", text), 0, "{text}");
        }
    }

    #[test]
    fn only_clock_reads_time_and_sleeps() {
        for text in [
            "fn f() { std::time::Instant::now(); }",
            "use tokio::time::Instant as I; fn f() { I::now(); }",
            "fn f() { x.unwrap_or_else(SystemTime::now) }",
            "fn f() { info!(took = start.elapsed()) }",
            "fn f() { start.elapsed() }",
            "use tokio::time; fn f() { time::sleep(d) }",
        ] {
            assert_eq!(one(&OneHomeEach, "src/lease/keeper.rs", text), 1, "{text}");
            assert_eq!(one(&OneHomeEach, "src/clock.rs", text), 0, "{text}");
        }
        assert_eq!(one(&OneHomeEach, "src/lease/keeper.rs", "use crate::clock; fn f() { clock::now() }"), 0);
        assert_eq!(one(&OneHomeEach, "src/a.rs", "#[cfg(test)] mod tests { fn f() { Instant::now(); } }"), 0);
    }

    #[test]
    fn r17_no_lease_is_measured_by_a_clock_that_jumps() {
        for text in ["fn f() { clock::wall(); }", "use crate::clock::{now, wall};"] {
            assert_eq!(one(&NoDurationsOfTheWallClock, "src/lease/keeper.rs", text), 1, "{text}");
            assert_eq!(one(&NoDurationsOfTheWallClock, "src/transport/grpc/rpc.rs", text), 0, "{text}");
        }
        assert_eq!(one(&NoDurationsOfTheWallClock, "src/lease/keeper.rs", "fn f() { clock::now(); }"), 0);
    }

    #[test]
    fn every_channel_has_a_bound() {
        for text in [
            "fn f() { tokio::sync::mpsc::unbounded_channel(); }",
            "use futures_channel::mpsc; fn f() { mpsc::unbounded() }",
            "struct S { s: mpsc::UnboundedSender<u8> }",
            "fn f() { std::sync::mpsc::channel() }",
        ] {
            assert_eq!(one(&OneHomeEach, "src/task.rs", text), 1, "{text}");
        }
        assert_eq!(one(&OneHomeEach, "src/task.rs", "fn f() { tokio::sync::mpsc::channel(8) }"), 0);
    }

    #[test]
    fn unfinished_work_and_skipped_tests_are_found_in_tests_too() {
        for text in [
            "fn f() { todo!() }",
            "fn f() { info!(x = unimplemented!(\"later\")) }",
            "#[cfg(test)] mod tests { fn f() { std::todo!() } }",
            "#[test] #[ignore] fn f() {}",
            "#[test] #[ignore = \"slow\"] fn f() {}",
            "#[test] #[cfg_attr(unix, ignore)] fn f() {}",
            "proptest! { #[test] #[ignore] fn f() {} }",
        ] {
            assert_eq!(one(&NothingUnfinished, "src/a.rs", text), 1, "{text}");
        }
        assert_eq!(one(&NothingUnfinished, "src/a.rs", "fn f() { Status::unimplemented(\"todo!\") }"), 0);
    }

    #[test]
    fn printing_is_for_tests() {
        assert_eq!(one(&NothingPrinted, "src/a.rs", "fn f() { println!(\"x\") }"), 1);
        assert_eq!(one(&NothingPrinted, "src/a.rs", "fn f() { select! { _ = a => { eprintln!(\"x\") } } }"), 1);
        assert_eq!(one(&NothingPrinted, "src/a.rs", "macro_rules! p { () => { print!(\"x\") } }"), 1);
        assert_eq!(one(&NothingPrinted, "src/a.rs", "#[test] fn f() { println!(\"x\") }"), 0);
    }

    #[test]
    fn library_code_does_not_hide_under_a_test_name() {
        assert_eq!(one(&TestsAreTests, "src/a.rs", "mod tests;"), 1);
        assert_eq!(one(&TestsAreTests, "src/a.rs", "pub(crate) mod route_tests { fn f() {} }"), 1);
        assert_eq!(one(&TestsAreTests, "src/a.rs", "#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;"), 0);
    }
}
