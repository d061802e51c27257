//! What the attributes over an item say about it.

use proc_macro2::TokenTree;
use syn::{Attribute, Meta, Token, punctuated::Punctuated};

/// `#[ignore]`, also by way of `#[cfg_attr(…, ignore)]`.
pub(crate) fn is_ignore(attribute: &Attribute) -> bool {
    let conditional = || match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg_attr") => {
            list.tokens.clone().into_iter().any(|token| matches!(token, TokenTree::Ident(name) if name == "ignore"))
        }
        _ => false,
    };
    attribute.path().is_ident("ignore") || conditional()
}

/// `#[cfg(test)]`, or a `#[test]` of any runtime.
pub(crate) fn is_test_only(attribute: &Attribute) -> bool {
    if attribute.path().is_ident("cfg") {
        return attribute.parse_args::<Meta>().is_ok_and(|condition| needs_test(&condition));
    }
    attribute.path().segments.last().is_some_and(|last| last.ident == "test")
}

/// Whether the condition holds in test builds only.
fn needs_test(condition: &Meta) -> bool {
    let parts = |list: &syn::MetaList| list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => parts(list).is_ok_and(|all| all.iter().any(needs_test)),
        Meta::List(list) if list.path.is_ident("any") => parts(list).is_ok_and(|any| any.iter().all(needs_test)),
        _ => false,
    }
}

/// The condition of a `cfg`.
pub(crate) fn cfg_text(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => Some(list.tokens.to_string()),
        _ => None,
    }
}
