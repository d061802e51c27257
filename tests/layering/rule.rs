//! What a rule is, and how its violations are told.

use std::fmt;

use crate::tree::Tree;

/// One thing that must hold for every file of a tree.
pub(crate) trait Rule {
    /// What must hold, as a short sentence.
    fn name(&self) -> &'static str;
    /// Each place where it does not hold.
    fn violations(&self, tree: &Tree) -> Vec<Violation>;
}

/// One place where a rule does not hold.
#[derive(Clone)]
pub(crate) struct Violation {
    pub file: String,
    pub line: usize,
    pub found: String,
    pub instead: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n    instead: {}", self.file, self.line, self.found, self.instead)
    }
}

/// Panics with the list of all violations, if there is one.
#[track_caller]
pub(crate) fn uphold(rule: &dyn Rule, tree: &Tree) {
    let violations = rule.violations(tree);
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "rule: {}\n{}\n", rule.name(), list.join("\n"));
}

/// The places ("file:line") where `rule` finds fault with a program of these `(path, text)` files.
#[track_caller]
pub(crate) fn bites(rule: &dyn Rule, files: &[(&str, &str)]) -> Vec<String> {
    rule.violations(&Tree::of(files)).iter().map(|v| format!("{}:{}", v.file, v.line)).collect()
}
