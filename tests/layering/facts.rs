//! What one file says: which paths it names, which functions it has, which macros and methods it calls.

use proc_macro2::Span;
use syn::{
    Attribute, Block, ImplItem, Item, Meta, Path, Signature, TraitItem, UseTree,
    ext::IdentExt,
    spanned::Spanned,
    visit::{self, Visit},
};

use crate::{
    attributes::{cfg_text, is_ignore, is_test_only},
    tree::ModulePath,
};

/// Everything the rules ask about a file.
#[derive(Default)]
pub(crate) struct Facts {
    pub mentions: Vec<Mention>,
    pub functions: Vec<Function>,
    pub modules: Vec<Module>,
    pub macros: Vec<Call>,
    pub methods: Vec<Call>,
    /// Lines with `#[ignore]`.
    pub ignored: Vec<usize>,
    /// Line of the first `#[cfg(test)] mod`.
    pub first_test_module: Option<usize>,
}

/// A path that the file names, in a `use` or in the code.
pub(crate) struct Mention {
    pub line: usize,
    /// The module in which it stands.
    pub scope: ModulePath,
    pub path: Vec<String>,
    /// Written with `::` before it: the name of another crate.
    pub is_foreign: bool,
    pub import: Import,
    pub in_test: bool,
}

/// What a mention brings into its module's scope.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Import {
    /// Nothing: it stands in the code, or is `use … as _`.
    None,
    As(String),
    Glob,
}

/// A function with a body.
pub(crate) struct Function {
    pub line: usize,
    pub name: String,
    /// Lines between the braces of its body.
    pub length: usize,
    pub is_async: bool,
    pub in_test: bool,
}

/// A module that the file declares or contains.
pub(crate) struct Module {
    pub line: usize,
    pub scope: ModulePath,
    pub name: String,
    /// The text of its `cfg` attributes.
    pub cfg: String,
    pub in_test: bool,
}

/// A macro or a method that the file calls.
pub(crate) struct Call {
    pub line: usize,
    pub name: String,
    pub in_test: bool,
}

impl Facts {
    /// Reads a file that is the module `module`.
    pub(crate) fn of(file: &syn::File, module: &ModulePath, is_test: bool) -> Self {
        let in_test = is_test || file.attrs.iter().any(is_test_only);
        let mut reader = Reader { facts: Self::default(), scope: module.clone(), in_test };
        reader.visit_file(file);
        reader.facts
    }
}

/// Walks one file's syntax and notes what it meets.
pub(crate) struct Reader {
    pub(crate) facts: Facts,
    scope: ModulePath,
    in_test: bool,
}

/// The attributes of an enum of items, whichever variant it is.
macro_rules! attributes {
    ($value:expr, $kind:ident: $($variant:ident)*) => {
        match $value { $($kind::$variant(inner) => &inner.attrs[..],)* _ => &[] }
    };
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = attributes!(item, Item: Const Enum ExternCrate Fn ForeignMod Impl Macro Mod Static Struct
            Trait TraitAlias Type Union Use);
        self.within(attributes, |reader| visit::visit_item(reader, item));
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = attributes!(item, ImplItem: Const Fn Type Macro);
        self.within(attributes, |reader| visit::visit_impl_item(reader, item));
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let attributes = attributes!(item, TraitItem: Const Fn Type Macro);
        self.within(attributes, |reader| visit::visit_trait_item(reader, item));
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        self.within(&field.attrs, |reader| visit::visit_field(reader, field));
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        self.within(&local.attrs, |reader| visit::visit_local(reader, local));
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let line = item.attrs.first().map_or_else(|| item.span(), Spanned::span).start().line;
        if self.in_test && self.facts.first_test_module.is_none() {
            self.facts.first_test_module = Some(line);
        }
        let name = item.ident.unraw().to_string();
        let cfg = item.attrs.iter().filter_map(cfg_text).collect();
        self.facts.modules.push(Module {
            line,
            scope: self.scope.clone(),
            name: name.clone(),
            cfg,
            in_test: self.in_test,
        });
        self.scope.push(name);
        visit::visit_item_mod(self, item);
        self.scope.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_foreign = item.leading_colon.is_some();
        self.use_tree(&item.tree, &mut Vec::new(), is_foreign);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.unraw().to_string()).collect();
        // A single name is a local thing or was imported, and then the `use` was read.
        if names.len() > 1 {
            self.mention(path.span(), names, path.leading_colon.is_some(), Import::None);
        }
        visit::visit_path(self, path);
    }

    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {
        // `pub(in crate::a)` says who sees us, not whom we use.
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if is_ignore(attribute) {
            self.facts.ignored.push(attribute.span().start().line);
        }
        if let Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone(), &[]);
        }
        visit::visit_attribute(self, attribute);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.method(call.method.span(), call.method.unraw().to_string());
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(last) = call.path.segments.last() {
            self.macro_call(call.path.span(), last.ident.unraw().to_string());
        }
        self.tokens(call.tokens.clone(), &[]);
        visit::visit_macro(self, call);
    }
}

impl Reader {
    /// Reads what stands under these attributes, which may make it test code.
    fn within(&mut self, attributes: &[Attribute], read: impl FnOnce(&mut Self)) {
        let outside = self.in_test;
        self.in_test |= attributes.iter().any(is_test_only);
        read(self);
        self.in_test = outside;
    }

    fn function(&mut self, signature: &Signature, body: &Block) {
        let braces = body.brace_token.span;
        self.facts.functions.push(Function {
            line: signature.span().start().line,
            name: signature.ident.to_string(),
            length: (braces.close().start().line - braces.open().start().line).saturating_sub(1),
            is_async: signature.asyncness.is_some(),
            in_test: self.in_test,
        });
    }

    pub(crate) fn mention(&mut self, at: Span, path: Vec<String>, is_foreign: bool, import: Import) {
        let (line, scope, in_test) = (at.start().line, self.scope.clone(), self.in_test);
        self.facts.mentions.push(Mention { line, scope, path, is_foreign, import, in_test });
    }

    pub(crate) fn macro_call(&mut self, at: Span, name: String) {
        self.facts.macros.push(Call { line: at.start().line, name, in_test: self.in_test });
    }

    pub(crate) fn method(&mut self, at: Span, name: String) {
        self.facts.methods.push(Call { line: at.start().line, name, in_test: self.in_test });
    }

    fn use_tree(&mut self, tree: &UseTree, prefix: &mut Vec<String>, is_foreign: bool) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.unraw().to_string());
                self.use_tree(&path.tree, prefix, is_foreign);
                prefix.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.use_tree(tree, prefix, is_foreign);
                }
            }
            UseTree::Glob(glob) => self.mention(glob.span(), prefix.clone(), is_foreign, Import::Glob),
            UseTree::Name(name) => {
                let path = extended(prefix, &name.ident);
                let import = path.last().map_or(Import::None, |last| Import::As(last.clone()));
                self.mention(name.span(), path, is_foreign, import);
            }
            UseTree::Rename(rename) => {
                let path = extended(prefix, &rename.ident);
                let import = match rename.rename.unraw().to_string() {
                    name if name == "_" => Import::None,
                    name => Import::As(name),
                };
                self.mention(rename.span(), path, is_foreign, import);
            }
        }
    }
}

/// `prefix::name`, where `prefix::self` is `prefix`.
fn extended(prefix: &[String], name: &syn::Ident) -> Vec<String> {
    let mut path = prefix.to_vec();
    if name != "self" || path.is_empty() {
        path.push(name.unraw().to_string());
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Facts {
        Facts::of(&syn::parse_file(text).unwrap(), &Vec::new(), false)
    }

    fn paths(text: &str) -> Vec<String> {
        read(text).mentions.iter().map(|mention| mention.path.join("::")).collect()
    }

    #[test]
    fn a_use_tree_is_read_to_its_leaves() {
        assert_eq!(
            paths("use crate::{a::{self, B as C}, d::*, e::F as _};"),
            ["crate::a", "crate::a::B", "crate::d", "crate::e::F"]
        );
    }

    #[test]
    fn paths_in_types_code_attributes_and_macros_are_read() {
        let text = "#[derive(serde::Debug)] struct S(crate::a::B<crate::c::D>);
            fn f() { crate::e::f(); select! { x = crate::g::h() => info!(n = y.z, crate::i::J) } }
            macro_rules! m { () => { use $crate::k::{l, m::N}; } }";
        assert_eq!(
            paths(text),
            [
                "serde::Debug",
                "crate::a::B",
                "crate::c::D",
                "crate::e::f",
                "crate::g::h",
                "crate::i::J",
                "crate::k::l",
                "crate::k::m::N"
            ]
        );
    }

    #[test]
    fn calls_inside_macros_are_seen() {
        let facts = read("fn f() { select! { _ = a => { println!(\"{}\", b.elapsed()); ::tokio::spawn(c) } } }");
        let macros: Vec<&str> = facts.macros.iter().map(|call| call.name.as_str()).collect();
        assert_eq!(macros, ["select", "println"]);
        assert_eq!(facts.methods[0].name, "elapsed");
        assert!(facts.mentions[0].is_foreign);
    }

    #[test]
    fn only_conditions_that_need_test_make_test_code() {
        for (condition, expected) in [
            ("test", true),
            ("all(unix, test)", true),
            ("any(test, all(test, unix))", true),
            ("any(test, feature = \"embedded\")", false),
            ("not(test)", false),
        ] {
            let facts = read(&format!("#[cfg({condition})]\nuse crate::a::B;"));
            assert_eq!(facts.mentions[0].in_test, expected, "{condition}");
        }
    }

    #[test]
    fn a_function_is_as_long_as_what_stands_between_its_braces() {
        let lengths: Vec<usize> =
            read("fn a() {}\nfn b(\n  x: u8,\n) {\n  1;\n  2;\n}").functions.iter().map(|f| f.length).collect();
        assert_eq!(lengths, [0, 2]);
    }
}
