//! How long a file and a function may be. A reader should hold one in the head at a time.

use std::cmp::Reverse;

use crate::{
    rule::{Rule, Violation},
    tree::Tree,
};

/// Lines of one file, before its first test module.
const FILE_CAP: usize = 450;
/// Nine files of ten are no longer than this.
const FILE_P90: usize = 300;
/// Lines between the braces of one function.
const FUNCTION_CAP: usize = 60;
/// Nine functions of ten are no longer than this.
const FUNCTION_P90: usize = 25;
/// How many of the worst a percentile's violation lists.
const WORST: usize = 10;

/// Files and functions keep to their budgets; generated code and tests have none.
pub(crate) struct Budgets;

/// Something with a length at a place.
struct Sized {
    file: String,
    line: usize,
    what: String,
    length: usize,
}

/// What one kind of thing may spend.
struct Budget {
    kind: &'static str,
    cap: usize,
    p90: usize,
    instead: &'static str,
}

const FILES: Budget = Budget {
    kind: "files",
    cap: FILE_CAP,
    p90: FILE_P90,
    instead: "give each noun in it a file of its own (tests longer than 150 lines go to a sibling tests.rs)",
};

const FUNCTIONS: Budget = Budget {
    kind: "functions",
    cap: FUNCTION_CAP,
    p90: FUNCTION_P90,
    instead: "name its steps as functions, or give each state of the machine a method that returns the next",
};

impl Rule for Budgets {
    fn name(&self) -> &'static str {
        "file: 450 lines before tests, nine of ten within 300; function: 60 lines, nine of ten within 25"
    }

    fn violations(&self, tree: &Tree) -> Vec<Violation> {
        [FILES.overspent(files(tree)), FUNCTIONS.overspent(functions(tree))].concat()
    }
}

impl Budget {
    fn overspent(&self, mut all: Vec<Sized>) -> Vec<Violation> {
        all.sort_by_key(|sized| Reverse(sized.length));
        let over_cap = all.iter().filter(|sized| sized.length > self.cap).map(|sized| self.too_long(sized));
        over_cap.chain(self.too_many(&all)).collect()
    }

    fn too_long(&self, sized: &Sized) -> Violation {
        Violation {
            file: sized.file.clone(),
            line: sized.line,
            found: format!("{} has {} lines, the cap is {}", sized.what, sized.length, self.cap),
            instead: self.instead.to_owned(),
        }
    }

    /// The 90th percentile is over budget; `all` is sorted, longest first.
    fn too_many(&self, all: &[Sized]) -> Option<Violation> {
        // Nearest rank: what is left of a tenth, rounded down, may be longer.
        let ninetieth = all.get(all.len() / 10)?;
        if ninetieth.length <= self.p90 {
            return None;
        }
        let worst = all.iter().take(WORST);
        let worst: Vec<String> =
            worst.map(|s| format!("\n        {:4} {}:{} {}", s.length, s.file, s.line, s.what)).collect();
        Some(Violation {
            file: ninetieth.file.clone(),
            line: ninetieth.line,
            found: format!(
                "one in ten {} has {} lines or more, the budget is {}; the longest:{}",
                self.kind,
                ninetieth.length,
                self.p90,
                worst.concat()
            ),
            instead: self.instead.to_owned(),
        })
    }
}

fn files(tree: &Tree) -> Vec<Sized> {
    let sized = |file: &crate::tree::SourceFile| Sized {
        file: file.path.clone(),
        line: 1,
        what: "the file".to_owned(),
        length: file.length,
    };
    tree.handwritten().filter(|file| !file.is_test).map(sized).collect()
}

fn functions(tree: &Tree) -> Vec<Sized> {
    let mut all = Vec::new();
    for file in tree.handwritten() {
        for function in file.facts.functions.iter().filter(|function| !function.in_test) {
            let what = format!("fn {}", function.name);
            all.push(Sized { file: file.path.clone(), line: function.line, what, length: function.length });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::bites;

    fn function(lines: usize) -> String {
        format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines))
    }

    #[test]
    fn a_function_of_sixty_lines_is_the_longest() {
        let mut short = "fn s() {}\n".repeat(20);
        short.push_str(&function(60));
        assert!(bites(&Budgets, &[("src/a.rs", &short)]).is_empty());
        let long = "fn s() {}\n".repeat(20) + &function(61);
        assert_eq!(bites(&Budgets, &[("src/a.rs", &long)]), ["src/a.rs:21"]);
    }

    #[test]
    fn a_file_of_450_lines_before_its_tests_is_the_longest() {
        let others: Vec<String> = (0..10).map(|n| format!("src/{n}.rs")).collect();
        let program = |lines: usize| {
            let long = "\n".repeat(lines) + "#[cfg(test)]\nmod tests {\n" + &"\n".repeat(500) + "}";
            let mut files: Vec<(&str, &str)> = others.iter().map(|path| (path.as_str(), "")).collect();
            files.push(("src/a.rs", &long));
            bites(&Budgets, &files)
        };
        assert!(program(450).is_empty());
        assert_eq!(program(451), ["src/a.rs:1"]);
    }

    #[test]
    fn more_than_one_in_ten_over_the_p90_is_too_many() {
        let nine = "fn s() {}\n".repeat(9);
        assert!(bites(&Budgets, &[("src/a.rs", &(nine.clone() + &function(26)))]).is_empty());
        let two = nine + &function(26) + &function(30);
        assert_eq!(bites(&Budgets, &[("src/a.rs", &two)]), ["src/a.rs:10"]);
        let halves = [("src/a.rs", &*"\n".repeat(301)), ("src/b.rs", "")];
        assert_eq!(bites(&Budgets, &halves), ["src/a.rs:1"]);
    }

    #[test]
    fn the_longest_are_listed_when_the_p90_is_over_budget() {
        let tree = Tree::of(&[("src/a.rs", &(function(30) + &function(40)))]);
        let found = Budgets.violations(&tree).remove(0).found;
        assert!(found.contains("the longest:\n          40 src/a.rs:33 fn f\n          30 src/a.rs:1 fn f"), "{found}");
    }

    #[test]
    fn tests_and_generated_code_have_no_budget() {
        let long = function(100);
        let test = format!("#[cfg(test)]\nmod tests {{\n{long}}}");
        let files = [("src/a.rs", &*test), ("src/b/tests.rs", &long), ("src/proto/generated.rs", &long)];
        assert!(bites(&Budgets, &files).is_empty());
    }
}
