//! Text to tokens.

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A name or a keyword; keywords are told apart by the parser, in any case.
    Word(Box<str>),
    Text(Box<str>),
    Number(f64),
    Symbol(&'static str),
}

/// Longer symbols first.
const SYMBOLS: [&str; 10] = ["<>", "<=", ">=", "!=", "=", "<", ">", "(", ")", ","];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (token, length) = next(rest)?;
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// The first token and its length in bytes.
fn next(rest: &str) -> Result<(Token, usize), String> {
    if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
        return Ok((Token::Symbol(symbol), symbol.len()));
    }
    let first = rest.chars().next().unwrap_or(' ');
    match first {
        '\'' => quoted(rest),
        '0'..='9' | '.' | '-' | '+' => number(rest),
        _ if first.is_alphabetic() || matches!(first, '_' | '$') => Ok(word(rest)),
        _ => Err(format!("unexpected {first:?} at `{rest}`")),
    }
}

/// A quote inside is written twice.
fn quoted(rest: &str) -> Result<(Token, usize), String> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((index, character)) = characters.next() {
        if character != '\'' {
            text.push(character);
        } else if characters.next_if(|(_, next)| *next == '\'').is_some() {
            text.push('\'');
        } else {
            return Ok((Token::Text(text.into()), index + 1));
        }
    }
    Err(format!("the quote of `{rest}` is not closed"))
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let end = rest.char_indices().find(|(index, c)| !is_numeric(rest, *index, *c)).map_or(rest.len(), |(end, _)| end);
    let number = rest[..end].parse().map_err(|_| format!("`{}` is not a number", &rest[..end]))?;
    Ok((Token::Number(number), end))
}

fn is_numeric(rest: &str, index: usize, character: char) -> bool {
    match character {
        '0'..='9' | '.' | 'e' | 'E' => true,
        // In front of the number or of its exponent.
        '+' | '-' => index == 0 || rest[..index].ends_with(['e', 'E']),
        _ => false,
    }
}

fn word(rest: &str) -> (Token, usize) {
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.');
    let end = rest.find(|c| !in_word(c)).unwrap_or(rest.len());
    (Token::Word(rest[..end].into()), end)
}
