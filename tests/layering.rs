//! Keeps the house in order: parses every file under `src/` and holds it to the rules that no compiler knows.
//!
//! * `layers`: who may use whom (the table in `src/README.md`);
//! * `purity`: files that decide do no I/O, wait for nothing and read no clock;
//! * `size`: how long a file and a function may be;
//! * `bans`: nothing unfinished, nothing printed, one home for tasks, one for time, a bound for every queue.
//!
//! Each rule is tested against small wrong programs beside it, so that a guard that stopped biting is noticed.

#[path = "layering/attributes.rs"]
mod attributes;
#[path = "layering/bans.rs"]
mod bans;
#[path = "layering/facts.rs"]
mod facts;
#[path = "layering/layers.rs"]
mod layers;
#[path = "layering/names.rs"]
mod names;
#[path = "layering/purity.rs"]
mod purity;
#[path = "layering/rule.rs"]
mod rule;
#[path = "layering/size.rs"]
mod size;
#[path = "layering/tokens.rs"]
mod tokens;
#[path = "layering/tree.rs"]
mod tree;

use rule::uphold;
use tree::Tree;

#[test]
fn a_module_uses_only_what_the_table_lets_it_see() {
    uphold(&layers::WhoMayUseWhom, &Tree::of_sources());
}

#[test]
fn the_map_in_the_readme_shows_every_module_as_it_is() {
    let map = include_str!("../src/README.md");
    assert_eq!(layers::wrong_in_map(map, &Tree::of_sources()), [""; 0]);
}

#[test]
fn embedded_is_compiled_only_with_its_feature() {
    uphold(&layers::EmbeddedIsAFeature, &Tree::of_sources());
}

#[test]
fn a_file_that_decides_does_nothing_else() {
    uphold(&purity::PureFilesOnlyDecide, &Tree::of_sources());
}

#[test]
fn files_and_functions_keep_to_their_budgets() {
    uphold(&size::Budgets, &Tree::of_sources());
}

#[test]
fn tasks_time_and_queues_come_from_one_place_each() {
    uphold(&bans::OneHomeEach, &Tree::of_sources());
}

#[test]
fn r17_nothing_is_measured_by_a_clock_that_jumps() {
    uphold(&bans::NoDurationsOfTheWallClock, &Tree::of_sources());
}

#[test]
fn the_library_prints_nothing() {
    uphold(&bans::NothingPrinted, &Tree::of_sources());
}

#[test]
fn a_file_named_as_tests_is_compiled_only_for_tests() {
    uphold(&bans::TestsAreTests, &Tree::of_sources());
}

#[test]
fn nothing_is_left_unfinished_or_skipped() {
    for folder in ["src", "tests", "examples", "benches"] {
        uphold(&bans::NothingUnfinished, &Tree::of_folder(folder));
    }
}
