//! Macro bodies are not syntax to `syn`, so they are read as tokens: what a `select!` or `info!` names counts too.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use crate::facts::{Import, Reader};

impl Reader {
    /// Reads the tokens of a macro; `prefix` is what a path before a `{` in a `use` began with.
    pub(crate) fn tokens(&mut self, tokens: TokenStream, prefix: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Ident(_) => at = self.token_path(&tokens, at, prefix),
                TokenTree::Group(group) => {
                    if at > 0 && is_punct(&tokens[at - 1], '#') && starts_with_ignore(group) {
                        self.facts.ignored.push(group.span().start().line);
                    }
                    self.tokens(group.stream(), &[]);
                    at += 1;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => at += 1,
            }
        }
    }

    /// Reads the path, macro call or method call whose first name is `tokens[start]`; answers where it ends.
    fn token_path(&mut self, tokens: &[TokenTree], start: usize, prefix: &[String]) -> usize {
        let mut last = name_of(&tokens[start]);
        let mut path = [prefix, &[last.clone()]].concat();
        let mut end = start + 1;
        while is_colons(tokens, end) && matches!(tokens.get(end + 2), Some(TokenTree::Ident(_))) {
            last = name_of(&tokens[end + 2]);
            path.push(last.clone());
            end += 3;
        }
        let after_dot = start > 0 && is_punct(&tokens[start - 1], '.');
        let is_foreign = start > 1 && is_colons(tokens, start - 2);
        let at = tokens[start].span();
        match &tokens[end..] {
            [TokenTree::Group(group), ..] if after_dot && group.delimiter() == Delimiter::Parenthesis => {
                self.method(at, last);
            }
            [bang, TokenTree::Group(_), ..] if is_punct(bang, '!') => self.macro_call(at, last),
            [_, _, TokenTree::Group(group), ..] if is_colons(tokens, end) && group.delimiter() == Delimiter::Brace => {
                self.tokens(group.stream(), &path);
                return end + 3;
            }
            _ if path.len() > 1 && !after_dot => self.mention(at, path, is_foreign, Import::None),
            _ => {}
        }
        end
    }
}

fn name_of(token: &TokenTree) -> String {
    token.to_string().trim_start_matches("r#").to_owned()
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    tokens.len() > at + 1 && is_punct(&tokens[at], ':') && is_punct(&tokens[at + 1], ':')
}

fn starts_with_ignore(attribute: &Group) -> bool {
    matches!(attribute.stream().into_iter().next(), Some(TokenTree::Ident(name)) if name == "ignore")
}
