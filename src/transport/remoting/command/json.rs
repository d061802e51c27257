//! JSON as RocketMQ writes it, read leniently.
//!
//! Servers write with fastjson: old ones leave numeric keys without quotes, and maps with an object for a key have that
//! object itself as the key (`{{"topic":"T"}:5}`), which no JSON library reads. Numbers come as text and text as numbers.
//! What is read borrows from the input; depth and number of values are bounded, so that no input costs more than a frame may.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bytes::BufMut;

/// Deeper is nothing that RocketMQ writes: its deepest is a route, with 5.
const MAX_DEPTH: usize = 24;
/// A route of 1 000 brokers has some 20 000 values. This many take about as much memory as the longest frame.
const MAX_VALUES: usize = 1 << 18;

/// One value. Numbers keep their text, so that none is rounded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Cow<'a, str>),
    Text(Cow<'a, str>),
    List(Vec<Self>),
    /// In the order of the text. A key is mostly [`Text`](Json::Text), but may be anything.
    Map(Vec<(Self, Self)>),
}

/// Why a text is not even leniently JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonError {
    what: &'static str,
    at: usize,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} of the JSON", self.what, self.at)
    }
}

impl std::error::Error for JsonError {}

impl<'a> Json<'a> {
    /// Reads one value that takes up the whole text.
    pub(crate) fn read(text: &'a str) -> Result<Self, JsonError> {
        let mut reader = Reader { text, at: 0, values: 0 };
        let value = reader.value(0)?;
        reader.blanks();
        if reader.at == text.len() { Ok(value) } else { Err(reader.error("something follows the value")) }
    }

    pub(crate) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn number(number: impl Into<i64>) -> Self {
        Self::Number(number.into().to_string().into())
    }

    pub(crate) fn map<const N: usize>(members: [(&'a str, Self); N]) -> Self {
        Self::Map(members.into_iter().map(|(name, value)| (Self::text(name), value)).collect())
    }

    /// The member of a map. `None` also for `null`, and in what is no map.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.members()
            .iter()
            .find(|(key, _)| key.as_text().as_deref() == Some(name))
            .map(|(_, value)| value)
            .filter(|value| **value != Self::Null)
    }

    /// The members of a map; none in what is no map.
    pub(crate) fn members(&self) -> &[(Self, Self)] {
        match self {
            Self::Map(members) => members,
            _ => &[],
        }
    }

    /// The values of a list; none in what is no list.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// The text, also of a number or a truth value.
    pub(crate) fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(Cow::Borrowed(text)),
            Self::Bool(true) => Some(Cow::Borrowed("true")),
            Self::Bool(false) => Some(Cow::Borrowed("false")),
            _ => None,
        }
    }

    /// The number, also of a text that is one.
    pub(crate) fn as_number<N: FromStr>(&self) -> Option<N> {
        match self {
            Self::Text(text) | Self::Number(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// The truth value, also of a text that is one.
    #[cfg(any(test, feature = "embedded"))]
    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Text(text) => text.trim().to_ascii_lowercase().parse().ok(),
            _ => None,
        }
    }

    /// Writes it as compactly as fastjson does; a map that is a key is written as it is.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Self::Number(text) => out.extend_from_slice(text.as_bytes()),
            Self::Text(text) => write_text(text, out),
            Self::List(items) => write_list(b"[]", items, out, Self::write),
            Self::Map(members) => write_list(b"{}", members, out, |(key, value), out| {
                key.write(out);
                out.push(b':');
                value.write(out);
            }),
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        self.write(&mut out);
        out
    }
}

fn write_list<T>(brackets: &[u8; 2], items: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    out.push(brackets[0]);
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(brackets[1]);
}

/// Writes a text in quotes. Most need no escape, and go in one piece.
pub(super) fn write_text(text: &str, out: &mut impl BufMut) {
    out.put_u8(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')) {
        out.put_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.put_slice(b"\\\""),
            b'\\' => out.put_slice(b"\\\\"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            other => out.put_slice(format!("\\u{other:04x}").as_bytes()),
        }
        rest = &rest[at + 1..];
    }
    out.put_slice(rest);
    out.put_u8(b'"');
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    values: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, what: &'static str) -> JsonError {
        JsonError { what, at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Steps over `byte` and blanks before it, if it is next.
    fn skip(&mut self, byte: u8) -> bool {
        self.blanks();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        self.blanks();
        self.values += 1;
        if depth > MAX_DEPTH || self.values > MAX_VALUES {
            return Err(self.error("too deep or too many values"));
        }
        match self.peek() {
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => Ok(Json::Text(self.quoted()?)),
            Some(b'-' | b'0'..=b'9') => Ok(Json::Number(Cow::Borrowed(self.number()?))),
            Some(_) => self.word(),
            None => Err(self.error("the text ends where a value must be")),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        self.at += 1;
        let mut members = Vec::new();
        if self.skip(b'}') {
            return Ok(Json::Map(members));
        }
        loop {
            let key = self.value(depth + 1)?;
            if !self.skip(b':') {
                return Err(self.error("a `:` is missing"));
            }
            members.push((key, self.value(depth + 1)?));
            if self.skip(b'}') {
                return Ok(Json::Map(members));
            }
            if !self.skip(b',') {
                return Err(self.error("a `,` or `}` is missing"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        if self.skip(b']') {
            return Ok(Json::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.skip(b']') {
                return Ok(Json::List(items));
            }
            if !self.skip(b',') {
                return Err(self.error("a `,` or `]` is missing"));
            }
        }
    }

    /// `true`, `false`, `null`, or a key without quotes.
    fn word(&mut self) -> Result<Json<'a>, JsonError> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$'))).unwrap_or(rest.len());
        let word = &rest[..end];
        if word.is_empty() {
            return Err(self.error("a value is missing"));
        }
        self.at += end;
        Ok(match word {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            "null" => Json::Null,
            _ if self.text[self.at..].trim_start().starts_with(':') => Json::Text(Cow::Borrowed(word)),
            _ => return Err(self.error("a word that is no value")),
        })
    }

    fn number(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        self.digits()?;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(self.error("a digit is missing")) }
    }

    /// Borrows unless there is an escape.
    fn quoted(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let mut unescaped: Option<String> = None;
        loop {
            let rest = &self.text[self.at..];
            let end = rest.find(['"', '\\']).ok_or_else(|| self.error("the text ends within quotes"))?;
            let piece = &rest[..end];
            let is_over = rest.as_bytes()[end] == b'"';
            self.at += end + 1;
            match &mut unescaped {
                None if is_over => return Ok(Cow::Borrowed(piece)),
                Some(text) if is_over => {
                    text.push_str(piece);
                    return Ok(Cow::Owned(std::mem::take(text)));
                }
                text => {
                    let text = text.get_or_insert_default();
                    text.push_str(piece);
                    text.push(self.escaped()?);
                }
            }
        }
    }

    fn escaped(&mut self) -> Result<char, JsonError> {
        let letter = self.peek().ok_or_else(|| self.error("the text ends within an escape"))?;
        self.at += 1;
        Ok(match letter {
            b'"' | b'\\' | b'/' | b'\'' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'v' => '\u{b}',
            b'0' => '\0',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.utf16()?,
            _ => return Err(JsonError { what: "an escape that JSON does not have", at: self.at - 1 }),
        })
    }

    /// The digits after `\u`, and the second half of a pair. A half without its other becomes U+FFFD.
    fn utf16(&mut self) -> Result<char, JsonError> {
        let first = self.hex4()?;
        if (0xD800..0xDC00).contains(&first) && self.text[self.at..].starts_with("\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xDC00..0xE000).contains(&second) {
                let pair = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return Ok(char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let value = digits.and_then(|digits| {
            digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
        });
        let value = value.ok_or_else(|| self.error("four hexadecimal digits are missing"))?;
        self.at += 4;
        Ok(value)
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
