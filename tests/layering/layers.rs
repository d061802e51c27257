//! Who may use whom. `src/README.md` shows the same table to people.

use std::collections::BTreeSet;

use crate::{
    names::{Names, Stop},
    rule::{Rule, Violation},
    tree::{ModulePath, SourceFile, Tree},
};

const LEVEL_0: &[&str] = &["error", "model"];
const LEVEL_1: &[&str] = &["retry", "clock", "observe", "task"];
const LEVEL_2: &[&str] = &["transport"];
const LEVEL_3: &[&str] = &["session"];
const LEVEL_4: &[&str] = &["assignment", "checkpoint", "lease"];
const LEVEL_5: &[&str] = &["consumer", "producer"];
const PROTO: &[&str] = &["proto"];
/// The pure parts of the wires, which the embedded broker speaks too.
const BOTH_ENDS: &[&str] = &[
    "transport::grpc::convert",
    "transport::remoting::frame",
    "transport::remoting::command",
    "transport::remoting::stored",
    "transport::body",
    "transport::auth",
];

/// Each module and what it may use beside itself. The longest entry that a module falls under is the one that counts.
const TABLE: &[(&str, &[&[&str]])] = &[
    ("error", &[LEVEL_0]),
    ("model", &[LEVEL_0]),
    ("proto", &[]),
    ("retry", &[LEVEL_0]),
    ("clock", &[LEVEL_0]),
    ("observe", &[LEVEL_0]),
    // The end of a group of tasks is waited for with a deadline, and only clock can wait.
    ("task", &[LEVEL_0, &["clock"]]),
    ("transport", &[LEVEL_0, LEVEL_1]),
    ("transport::grpc", &[LEVEL_0, LEVEL_1, PROTO]),
    ("session", &[LEVEL_0, LEVEL_1, LEVEL_2]),
    ("assignment", &[LEVEL_0, LEVEL_1, LEVEL_2, LEVEL_3]),
    ("checkpoint", &[LEVEL_0, LEVEL_1, LEVEL_2, LEVEL_3]),
    ("lease", &[LEVEL_0, LEVEL_1, LEVEL_2, LEVEL_3]),
    ("consumer", &[LEVEL_0, LEVEL_1, LEVEL_2, LEVEL_3, LEVEL_4]),
    ("producer", &[LEVEL_0, LEVEL_1, LEVEL_2, LEVEL_3, LEVEL_4]),
    ("client", &[LEVEL_0, LEVEL_1, LEVEL_2, LEVEL_3, LEVEL_4, LEVEL_5]),
    ("arrow", &[LEVEL_0, LEVEL_5]),
    ("datafusion", &[LEVEL_0, &["arrow", "client"], LEVEL_5]),
    ("embedded", &[LEVEL_0, LEVEL_1, PROTO, BOTH_ENDS]),
];

/// Parts of a module that may not see each other, but for the `arrows`.
/// What stands beside them in the same folder is seen by all of them and sees none; the module's own `mod.rs` sees all.
struct Apart {
    module: &'static str,
    parts: &'static [&'static str],
    arrows: &'static [(&'static str, &'static str)],
}

const APART: &[Apart] = &[
    Apart { module: "transport", parts: &["grpc", "remoting"], arrows: &[] },
    Apart { module: "consumer", parts: &["pull", "simple", "push"], arrows: &[("push", "simple")] },
];

/// Arrows that people want to add, and what serves them better.
const ADVICE: &[(&str, &str, &str)] = &[
    ("transport", "session", "pass tokens and routes in as arguments"),
    ("model", "proto", "convert in transport/grpc/convert.rs, so that the other wire never mentions protobuf"),
    ("", "embedded", "only tests, examples and users start an embedded broker: let src reach it over the wire"),
];

/// A module uses only what stands above it in the table.
pub(crate) struct WhoMayUseWhom;

impl Rule for WhoMayUseWhom {
    fn name(&self) -> &'static str {
        "a module uses only what the table in src/README.md lets it see"
    }

    fn violations(&self, tree: &Tree) -> Vec<Violation> {
        let names = Names::of(tree);
        tree.handwritten().flat_map(|file| unknown(file).into_iter().chain(forbidden(file, &names))).collect()
    }
}

fn unknown(file: &SourceFile) -> Option<Violation> {
    let top = file.module.first()?;
    let is_known = file.is_test || TABLE.iter().any(|(module, _)| module == top);
    (!is_known).then(|| Violation {
        file: file.path.clone(),
        line: 1,
        found: format!("the table does not know a module `{top}`"),
        instead: "give it a line in the table of tests/layering/layers.rs and of src/README.md".to_owned(),
    })
}

fn forbidden(file: &SourceFile, names: &Names<'_>) -> Vec<Violation> {
    let mut told = BTreeSet::new();
    let mut violations = Vec::new();
    for mention in file.facts.mentions.iter().filter(|mention| !mention.in_test) {
        for stop in names.stops(mention) {
            let Stop::Module(to) = stop else { continue };
            if may_use(&mention.scope, &to) || !told.insert(to.clone()) {
                continue;
            }
            violations.push(Violation {
                file: file.path.clone(),
                line: mention.line,
                found: format!("{} uses {} by `{}`", show(&mention.scope), show(&to), mention.path.join("::")),
                instead: advice(&mention.scope, &to),
            });
        }
    }
    violations
}

/// Whether code in the module `from` may name what is in the module `to`.
fn may_use(from: &ModulePath, to: &ModulePath) -> bool {
    let Some(home) = to.first() else { return from.is_empty() };
    match from.first() {
        None => home != "embedded",
        Some(own) if own == home => may_use_inside(from, to),
        Some(_) => allowed(from).is_some_and(|lists| lists.concat().iter().any(|open| is_under(to, open))),
    }
}

fn allowed(from: &ModulePath) -> Option<&'static [&'static [&'static str]]> {
    let entries = TABLE.iter().filter(|(module, _)| is_under(from, module));
    entries.max_by_key(|(module, _)| module.len()).map(|(_, lists)| *lists)
}

/// Whether two parts of one module may see each other.
fn may_use_inside(from: &ModulePath, to: &ModulePath) -> bool {
    let Some(apart) = APART.iter().find(|apart| apart.module == to[0]) else { return true };
    match (from.get(1).map(String::as_str), to.get(1).map(String::as_str)) {
        (Some(from), Some(to)) if apart.parts.contains(&to) => from == to || apart.arrows.contains(&(from, to)),
        _ => true,
    }
}

pub(crate) fn is_under(module: &ModulePath, ancestor: &str) -> bool {
    let mut own = module.iter();
    ancestor.split("::").all(|name| own.next().is_some_and(|part| part == name))
}

fn show(module: &ModulePath) -> String {
    if module.is_empty() { "the crate root".to_owned() } else { module.join("::") }
}

fn advice(from: &ModulePath, to: &ModulePath) -> String {
    let fits = |module: &ModulePath, name: &str| name.is_empty() || is_under(module, name);
    match ADVICE.iter().find(|(a, b, _)| fits(from, a) && fits(to, b)) {
        Some((.., advice)) => (*advice).to_owned(),
        None if to.is_empty() => "name the module: `crate::model::Message`, not `crate::*`".to_owned(),
        None => "pass it in as an argument, or move what both need up into a module that both may see".to_owned(),
    }
}

/// What the map in `src/README.md` leaves out of the table, or calls planned although it is there.
pub(crate) fn wrong_in_map(map: &str, tree: &Tree) -> Vec<String> {
    let row = |module: &str| map.lines().find(|line| line.starts_with(&format!("| `{module}`")));
    let missing =
        TABLE.iter().filter(|(module, _)| row(module).is_none()).map(|(module, _)| format!("{module} is missing"));
    let built = tree.files.iter().map(|file| file.module.join("::"));
    let behind = built.filter(|module| row(module).is_some_and(|row| row.contains("*planned*")));
    missing.chain(behind.map(|module| format!("{module} is there, and no longer planned"))).collect()
}

/// `pub mod embedded` stands under the feature.
pub(crate) struct EmbeddedIsAFeature;

impl Rule for EmbeddedIsAFeature {
    fn name(&self) -> &'static str {
        "the embedded broker is compiled only with the feature `embedded`"
    }

    fn violations(&self, tree: &Tree) -> Vec<Violation> {
        let declared = tree.files.iter().flat_map(|file| file.facts.modules.iter().map(move |module| (file, module)));
        declared
            .filter(|(file, module)| file.module.is_empty() && module.name == "embedded")
            .filter(|(_, module)| module.cfg != "feature = \"embedded\"")
            .map(|(file, module)| Violation {
                file: file.path.clone(),
                line: module.line,
                found: "`mod embedded` without its feature".to_owned(),
                instead: "write `#[cfg(feature = \"embedded\")]` over it".to_owned(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::bites;

    /// Places that break the table when `text` stands at `path` in a program of empty modules.
    fn broken(path: &str, text: &str) -> Vec<String> {
        let others = [
            ("src/lib.rs", "pub use model::Message; pub use consumer::simple::SimpleConsumer;"),
            ("src/error.rs", ""),
            ("src/model/mod.rs", ""),
            ("src/proto/mod.rs", ""),
            ("src/clock.rs", ""),
            ("src/task.rs", ""),
            ("src/transport/mod.rs", ""),
            ("src/transport/body.rs", ""),
            ("src/transport/grpc/mod.rs", "pub use super::body::Body;"),
            ("src/transport/grpc/convert.rs", ""),
            ("src/transport/remoting/mod.rs", ""),
            ("src/session/mod.rs", ""),
            ("src/lease/mod.rs", ""),
            ("src/checkpoint/mod.rs", ""),
            ("src/consumer/mod.rs", "pub use simple::SimpleConsumer;"),
            ("src/consumer/pull/mod.rs", ""),
            ("src/consumer/simple/mod.rs", ""),
            ("src/consumer/push/mod.rs", ""),
            ("src/producer/mod.rs", ""),
            ("src/client.rs", ""),
            ("src/arrow/mod.rs", ""),
            ("src/embedded/mod.rs", ""),
        ];
        let mut files: Vec<(&str, &str)> = others.into_iter().filter(|(other, _)| *other != path).collect();
        files.push((path, text));
        bites(&WhoMayUseWhom, &files)
    }

    fn holds(path: &str, text: &str) {
        assert_eq!(broken(path, text), [""; 0], "{path}: {text}");
    }

    fn breaks(path: &str, text: &str) {
        assert_eq!(broken(path, text), [format!("{path}:1")], "{path}: {text}");
    }

    #[test]
    fn a_module_sees_what_is_above_it() {
        holds("src/error.rs", "use crate::model::Queue;");
        holds("src/transport/rpc.rs", "use crate::{clock, error::Error, model::Message};");
        holds("src/session/mod.rs", "use crate::transport::grpc;");
        holds("src/lease/keeper.rs", "use crate::session::Session;");
        holds("src/client.rs", "use crate::{consumer::pull, producer::Producer};");
        holds("src/arrow/mod.rs", "use crate::consumer::pull; use arrow::array::Array;");
        holds("src/datafusion/scan.rs", "use crate::{client::Client, arrow::Encoder};");
        holds("src/lib.rs", "mod client; pub use client::Client; pub use producer::Producer;");
    }

    #[test]
    fn a_module_does_not_see_what_is_below_it() {
        breaks("src/clock.rs", "use crate::transport::Routing;");
        breaks("src/transport/mod.rs", "use crate::session::Session;");
        breaks("src/model/mod.rs", "use crate::proto::Message;");
        breaks("src/session/mod.rs", "use crate::lease::Table;");
        breaks("src/session/mod.rs", "use crate::proto::Settings;");
        breaks("src/consumer/mod.rs", "use crate::client::Client;");
        breaks("src/arrow/mod.rs", "use crate::session::Session;");
    }

    #[test]
    fn siblings_do_not_see_each_other() {
        breaks("src/lease/mod.rs", "use crate::checkpoint::Tracker;");
        holds("src/task.rs", "use crate::clock;");
        breaks("src/clock.rs", "use crate::task::TaskGroup; use crate::task;");
        breaks("src/producer/mod.rs", "use crate::consumer::simple::Receipt;");
        breaks("src/transport/grpc/rpc.rs", "use crate::transport::remoting::Frame;");
        breaks("src/transport/remoting/rpc.rs", "use super::super::grpc::Channel;");
        breaks("src/transport/remoting/rpc.rs", "use crate::proto::Message;");
        breaks("src/transport/body.rs", "use super::grpc::Channel;");
        breaks("src/consumer/pull/mod.rs", "use super::simple::Delivery;");
        breaks("src/consumer/simple/mod.rs", "use crate::consumer::push::Handler;");
    }

    #[test]
    fn push_sees_simple_and_a_parent_sees_its_parts() {
        holds("src/consumer/push/driver.rs", "use crate::consumer::simple::SimpleConsumer;");
        holds("src/consumer/mod.rs", "pub mod simple; pub mod pull; pub use pull::PullConsumer;");
        holds("src/consumer/pull/stream.rs", "use super::planner; use crate::consumer::Shared;");
        holds("src/transport/grpc/rpc.rs", "use super::super::{body, Routing}; use crate::proto::Code;");
    }

    #[test]
    fn embedded_sees_only_the_pure_parts_of_the_wires_and_nothing_sees_embedded() {
        holds("src/embedded/grpc.rs", "use crate::{proto::Code, transport::{body, grpc::convert::message}};");
        breaks("src/embedded/grpc.rs", "use crate::transport::grpc::Channel;");
        breaks("src/embedded/grpc.rs", "use crate::transport::Routing;");
        breaks("src/embedded/mod.rs", "use crate::consumer::pull;");
        breaks("src/client.rs", "use crate::embedded::Broker;");
        breaks("src/lib.rs", "pub use embedded::Broker; pub mod embedded;");
    }

    #[test]
    fn no_way_of_writing_it_gets_around_the_table() {
        breaks("src/session/mod.rs", "fn f() -> crate::consumer::X { todo() }");
        breaks("src/session/mod.rs", "fn f() { super::consumer::run() }");
        breaks("src/session/mod.rs", "fn f() { tokio::select! { x = crate::consumer::run() => {} } }");
        breaks("src/session/mod.rs", "mod inner { use super::super::consumer; }");
        breaks("src/session/mod.rs", "fn f() { use crate::consumer as c; c::run() }");
        breaks("src/consumer/pull/mod.rs", "use crate::consumer::SimpleConsumer;");
        breaks("src/session/mod.rs", "use crate::*;");
        breaks("src/consumer/pull/mod.rs", "use super::*; fn f(x: simple::Delivery) {}");
        // The root's re-export leads to its module, and by the module that re-exports it.
        assert_eq!(broken("src/producer/mod.rs", "use crate::SimpleConsumer;"), ["src/producer/mod.rs:1"]);
    }

    #[test]
    fn a_root_re_export_counts_as_its_module() {
        holds("src/session/mod.rs", "use crate::Message;");
    }

    #[test]
    fn tests_may_use_more() {
        holds("src/session/mod.rs", "#[cfg(test)] mod tests { use crate::embedded::Broker; }");
        holds("src/session/tests.rs", "use crate::embedded::Broker;");
        holds("src/session/route_tests.rs", "use crate::embedded::Broker;");
        holds("src/session/mod.rs", "impl X { #[cfg(test)] fn f() { crate::client::build() } }");
        breaks("src/session/mod.rs", "#[cfg(not(test))] use crate::embedded::Broker;");
    }

    #[test]
    fn a_module_that_the_table_does_not_know_is_reported() {
        breaks("src/util.rs", "");
    }

    #[test]
    fn a_map_that_fell_behind_is_reported() {
        let rows: String = TABLE.iter().map(|(module, _)| format!("| `{module}` | *planned* |\n")).collect();
        assert!(wrong_in_map(&rows, &Tree::of(&[])).is_empty());
        let built = Tree::of(&[("src/lease/mod.rs", "")]);
        assert_eq!(wrong_in_map(&rows, &built), ["lease is there, and no longer planned"]);
        assert_eq!(wrong_in_map(&rows.replace("`retry`", "`again`"), &Tree::of(&[])), ["retry is missing"]);
    }

    #[test]
    fn embedded_without_its_feature_is_reported() {
        let gated = "#[cfg(feature = \"embedded\")]\npub mod embedded;";
        assert!(bites(&EmbeddedIsAFeature, &[("src/lib.rs", gated)]).is_empty());
        assert_eq!(bites(&EmbeddedIsAFeature, &[("src/lib.rs", "pub mod embedded;")]), ["src/lib.rs:1"]);
    }

    #[test]
    fn a_violation_says_where_what_and_what_to_do() {
        let tree = Tree::of(&[("src/transport/mod.rs", "\nuse crate::session::Token;"), ("src/session/mod.rs", "")]);
        let violation = WhoMayUseWhom.violations(&tree).remove(0).to_string();
        assert_eq!(
            violation,
            "src/transport/mod.rs:2: transport uses session by `crate::session::Token`\n    \
             instead: pass tokens and routes in as arguments"
        );
    }
}
