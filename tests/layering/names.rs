//! Which module a path really leads to: through `super`, renames, globs and re-exports.
//!
//! Without this a re-export would launder any arrow: `super::Thing` in a parent may be another module's `Thing`.

use std::collections::BTreeMap;

use crate::{
    facts::{Import, Mention},
    tree::{ModulePath, Tree},
};

/// More re-exports in a row than anyone writes; a circle of them ends here.
const LONGEST_CHAIN: usize = 16;

/// The modules of a tree, and what each imports.
pub(crate) struct Names<'a> {
    modules: BTreeMap<ModulePath, Vec<&'a Mention>>,
}

/// A place on the way of a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A module of this crate, by which the path goes or in which it ends.
    Module(ModulePath),
    /// Another crate's item, or a local one.
    Outside(Vec<String>),
}

enum Found<'a> {
    Child,
    Imported(Vec<&'a Mention>),
    ByGlob(Vec<String>),
    Nothing,
}

impl<'a> Names<'a> {
    pub(crate) fn of(tree: &'a Tree) -> Self {
        let mut modules: BTreeMap<ModulePath, Vec<&Mention>> = BTreeMap::new();
        for file in &tree.files {
            modules.entry(file.module.clone()).or_default();
            for inner in &file.facts.modules {
                modules.entry(joined(&inner.scope, &inner.name)).or_default();
            }
            let imports = file.facts.mentions.iter().filter(|m| !m.in_test && m.import != Import::None);
            for mention in imports {
                modules.entry(mention.scope.clone()).or_default().push(mention);
            }
        }
        Self { modules }
    }

    /// Every module that a mention goes by, and where it ends.
    pub(crate) fn stops(&self, mention: &Mention) -> Vec<Stop> {
        let mut stops = Vec::new();
        self.follow(mention, &[], LONGEST_CHAIN, &mut stops);
        stops
    }

    /// Follows what `mention` names, then `rest`.
    fn follow(&self, mention: &Mention, rest: &[String], fuel: usize, stops: &mut Vec<Stop>) {
        let path = [&mention.path[..], rest].concat();
        let here = &mention.scope;
        match path[0].as_str() {
            _ if fuel == 0 || mention.is_foreign => stops.push(Stop::Outside(path)),
            "crate" => self.walk(Vec::new(), &path[1..], fuel, stops),
            "self" | "super" => self.walk(here.clone(), &path, fuel, stops),
            first => match self.find(here, first, fuel) {
                Found::Nothing => stops.push(Stop::Outside(path)),
                // `use tokio;` names the crate, not itself.
                Found::Imported(imports) if imports.iter().any(|import| import.path[0] == first) => {
                    stops.push(Stop::Outside(path));
                }
                Found::Imported(imports) => {
                    for import in imports {
                        self.follow(import, &path[1..], fuel - 1, stops);
                    }
                }
                Found::ByGlob(home) => self.walk(home, &path, fuel - 1, stops),
                Found::Child => self.walk(here.clone(), &path, fuel, stops),
            },
        }
    }

    /// Walks down from `module` as far as `path` names modules.
    fn walk(&self, mut module: ModulePath, path: &[String], fuel: usize, stops: &mut Vec<Stop>) {
        for (at, name) in path.iter().enumerate() {
            match name.as_str() {
                "self" => continue,
                "super" => {
                    module.pop();
                    continue;
                }
                _ => {}
            }
            match self.find(&module, name, fuel) {
                Found::Child => module.push(name.clone()),
                Found::Nothing => break,
                Found::Imported(imports) => {
                    self.passed(module, stops);
                    for import in imports {
                        self.follow(import, &path[at + 1..], fuel - 1, stops);
                    }
                    return;
                }
                Found::ByGlob(home) => {
                    self.passed(module, stops);
                    return self.walk(home, &path[at..], fuel - 1, stops);
                }
            }
        }
        stops.push(Stop::Module(module));
    }

    /// Going through the crate's root is using what it re-exports, nothing else.
    fn passed(&self, module: ModulePath, stops: &mut Vec<Stop>) {
        if !module.is_empty() {
            stops.push(Stop::Module(module));
        }
    }

    fn find(&self, module: &ModulePath, name: &str, fuel: usize) -> Found<'a> {
        if fuel == 0 {
            return Found::Nothing;
        }
        if self.modules.contains_key(&joined(module, name)) {
            return Found::Child;
        }
        let Some(imports) = self.modules.get(module) else { return Found::Nothing };
        let named: Vec<&Mention> =
            imports.iter().copied().filter(|m| matches!(&m.import, Import::As(alias) if alias == name)).collect();
        if !named.is_empty() {
            return Found::Imported(named);
        }
        let globs = imports.iter().filter(|mention| mention.import == Import::Glob);
        globs.filter_map(|glob| self.in_glob(glob, name, fuel)).next().map_or(Found::Nothing, Found::ByGlob)
    }

    /// The module that `glob` opens, if `name` is to be found there.
    fn in_glob(&self, glob: &Mention, name: &str, fuel: usize) -> Option<ModulePath> {
        // A glob's own first name may come by this very glob: it is followed with its path alone.
        if glob.path.first().is_some_and(|first| first == name) {
            return None;
        }
        let mut stops = Vec::new();
        self.follow(glob, &[], fuel - 1, &mut stops);
        let Some(Stop::Module(home)) = stops.pop() else { return None };
        if home == glob.scope {
            return None;
        }
        let there = self.find(&home, name, fuel - 1);
        (!matches!(there, Found::Nothing)).then_some(home)
    }
}

fn joined(module: &[String], name: &str) -> ModulePath {
    [module, &[name.to_owned()]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the last mention in `src/a/b.rs` leads, in a program of that file and `others`.
    fn lead(text: &str, others: &[(&str, &str)]) -> Vec<String> {
        let tree = Tree::of(&[&[("src/a/b.rs", text)], others].concat());
        let names = Names::of(&tree);
        let mention = tree.files[0].facts.mentions.last().unwrap();
        let text = |stop| match stop {
            Stop::Module(module) => format!("crate::{}", module.join("::")),
            Stop::Outside(path) => path.join("::"),
        };
        names.stops(mention).into_iter().map(text).collect()
    }

    const OTHERS: &[(&str, &str)] = &[
        ("src/lib.rs", "mod a; mod c; pub use c::Thing; pub use c::d as e;"),
        ("src/a/mod.rs", "mod b; pub use crate::c::Other;"),
        ("src/c/mod.rs", "pub mod d; pub struct Thing; pub struct Other;"),
        ("src/c/d.rs", "pub struct Deep;"),
    ];

    #[test]
    fn a_path_ends_in_the_module_of_its_item() {
        assert_eq!(lead("use crate::c::d::Deep;", OTHERS), ["crate::c::d"]);
        assert_eq!(lead("type X = crate::c::Thing::Assoc;", OTHERS), ["crate::c"]);
        assert_eq!(lead("use super::super::c::d;", OTHERS), ["crate::c::d"]);
    }

    #[test]
    fn re_exports_are_followed() {
        assert_eq!(lead("use crate::Thing;", OTHERS), ["crate::c"]);
        assert_eq!(lead("use crate::e::Deep;", OTHERS), ["crate::c::d"]);
        assert_eq!(lead("use super::Other;", OTHERS), ["crate::a", "crate::c"]);
    }

    #[test]
    fn imported_modules_renames_and_globs_are_followed() {
        assert_eq!(lead("use crate::c; type X = c::d::Deep;", OTHERS), ["crate::c::d"]);
        assert_eq!(lead("use crate as root; type X = root::c::Thing;", OTHERS), ["crate::c"]);
        assert_eq!(lead("use crate::*; type X = c::d::Deep;", OTHERS), ["crate::c::d"]);
        assert_eq!(lead("use tokio::time as t; fn f() { t::sleep() }", OTHERS), ["tokio::time::sleep"]);
    }

    #[test]
    fn other_crates_are_outside() {
        assert_eq!(lead("use tokio; fn f() { tokio::spawn() }", OTHERS), ["tokio::spawn"]);
        assert_eq!(lead("use ::c::X;", OTHERS), ["c::X"]);
        assert_eq!(lead("use super::*; fn f() { bytes::g() }", OTHERS), ["bytes::g"]);
    }

    #[test]
    fn a_circle_of_re_exports_ends() {
        let circle = [("src/a/mod.rs", "mod b; pub use b::X;")];
        assert!(!lead("pub use super::X;", &circle).is_empty());
    }
}
