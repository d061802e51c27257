//! The files of a folder, parsed.

use std::{fs, path::Path};

use crate::facts::Facts;

/// A module as the names that lead to it from the crate's root; the root itself is empty.
pub(crate) type ModulePath = Vec<String>;

/// All Rust files of one folder.
pub(crate) struct Tree {
    pub files: Vec<SourceFile>,
}

/// One parsed file.
pub(crate) struct SourceFile {
    /// From the package's root, with `/` between the parts.
    pub path: String,
    pub module: ModulePath,
    /// The whole file is test code, by its name.
    pub is_test: bool,
    /// Lines before the first test module.
    pub length: usize,
    pub facts: Facts,
}

impl Tree {
    /// `src/` of this package, which may not be empty: rules that looked at nothing would hold.
    pub(crate) fn of_sources() -> Self {
        let tree = Self::of_folder("src");
        assert!(tree.files.iter().any(|file| file.path == "src/lib.rs"), "src/lib.rs was not found");
        tree
    }

    /// A folder of this package; one that is missing has no files.
    pub(crate) fn of_folder(folder: &str) -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        collect(package, &package.join(folder), &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { files }
    }

    /// A made-up program of `(path, text)` files.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self { files: files.iter().map(|(path, text)| SourceFile::parse((*path).to_owned(), text)).collect() }
    }

    /// The files that were written by hand.
    pub(crate) fn handwritten(&self) -> impl Iterator<Item = &SourceFile> {
        self.files.iter().filter(|file| !file.path.starts_with("src/proto/"))
    }
}

fn collect(package: &Path, folder: &Path, files: &mut Vec<SourceFile>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry of the folder can be read").path();
        if path.is_dir() {
            collect(package, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(package).expect("it is in the package").to_string_lossy().replace('\\', "/");
            files.push(SourceFile::parse(name, &fs::read_to_string(&path).expect("a source file is text")));
        }
    }
}

impl SourceFile {
    fn parse(path: String, text: &str) -> Self {
        let syntax = syn::parse_file(text).unwrap_or_else(|e| panic!("{path}:{}: {e}", e.span().start().line));
        let module = module_of(&path);
        let is_test = path.trim_end_matches(".rs").split('/').skip(1).any(is_test_name);
        let facts = Facts::of(&syntax, &module, is_test);
        let length = facts.first_test_module.map_or_else(|| text.lines().count(), |line| line - 1);
        Self { path, module, is_test, length, facts }
    }
}

/// Whether a file, folder or module of this name holds test code only.
pub(crate) fn is_test_name(name: &str) -> bool {
    name == "tests" || name.ends_with("_tests")
}

fn module_of(path: &str) -> ModulePath {
    let mut parts: ModulePath = path.trim_end_matches(".rs").split('/').skip(1).map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib" && parts.len() == 1) {
        parts.pop();
    }
    parts
}

#[test]
fn a_file_knows_its_module() {
    assert_eq!(module_of("src/lib.rs"), ModulePath::new());
    assert_eq!(module_of("src/retry.rs"), ["retry"]);
    assert_eq!(module_of("src/consumer/mod.rs"), ["consumer"]);
    assert_eq!(module_of("src/consumer/pull/planner.rs"), ["consumer", "pull", "planner"]);
}
