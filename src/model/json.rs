//! A small reader of JSON, for the few texts that this crate keeps itself.
//!
//! It is strict: half of a damaged checkpoint must not be taken for a whole one. What servers write is read by another reader,
//! of the remoting wire, which has to forgive what this one refuses.

use std::fmt;

/// Deeper than anything that is written here; a text cannot exhaust the stack.
const DEEPEST: usize = 32;

/// A value. Numbers stay text: offsets are larger than a float is exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    Array(Vec<Self>),
    /// In the order of the text; each name once.
    Object(Vec<(String, Self)>),
}

/// Where a text is not JSON, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotJson {
    at: usize,
    what: &'static str,
}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl Json {
    pub(crate) fn parse(text: &str) -> Result<Self, NotJson> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(DEEPEST)?;
        reader.space();
        if reader.at == text.len() { Ok(value) } else { reader.fail("more after the end") }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Object(fields) = self else { return None };
        fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    pub(crate) fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(values) = self { Some(values) } else { None }
    }

    pub(crate) fn as_object(&self) -> Option<&[(String, Self)]> {
        if let Self::Object(fields) = self { Some(fields) } else { None }
    }

    /// A whole number that is not negative and fits.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        if let Self::Number(digits) = self { digits.parse().ok() } else { None }
    }
}

/// Text as a JSON string.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for char in self.0.chars() {
            match char {
                '"' | '\\' => write!(f, "\\{char}")?,
                control if control < ' ' => write!(f, "\\u{:04x}", u32::from(control))?,
                other => write!(f, "{other}")?,
            }
        }
        f.write_str("\"")
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn fail<T>(&self, what: &'static str) -> Result<T, NotJson> {
        Err(NotJson { at: self.at, what })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    fn skip_while(&mut self, accept: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&accept) {
            self.at += 1;
        }
    }

    /// Takes `byte`, after space, if it is next.
    fn takes(&mut self, byte: u8) -> bool {
        self.space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, depth: usize) -> Result<Json, NotJson> {
        self.space();
        match self.peek() {
            _ if depth == 0 => self.fail("too deep"),
            Some(b'{') => self.object(depth - 1),
            Some(b'[') => self.array(depth - 1),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Json, NotJson> {
        for (word, value) in [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))] {
            if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
                self.at += word.len();
                return Ok(value);
            }
        }
        self.fail("no value")
    }

    fn number(&mut self) -> Result<Json, NotJson> {
        let start = self.at;
        self.skip_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        let number = self.text[start..self.at].to_owned();
        if number.parse::<f64>().is_ok() { Ok(Json::Number(number)) } else { self.fail("no number") }
    }

    fn array(&mut self, depth: usize) -> Result<Json, NotJson> {
        self.at += 1;
        let mut values = Vec::new();
        if self.takes(b']') {
            return Ok(Json::Array(values));
        }
        loop {
            values.push(self.value(depth)?);
            if self.takes(b']') {
                return Ok(Json::Array(values));
            }
            if !self.takes(b',') {
                return self.fail("no `,` or `]`");
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, NotJson> {
        self.at += 1;
        let mut fields: Vec<(String, Json)> = Vec::new();
        if self.takes(b'}') {
            return Ok(Json::Object(fields));
        }
        loop {
            self.space();
            let name = self.string()?;
            if fields.iter().any(|(other, _)| *other == name) {
                return self.fail("a name for the second time");
            }
            if !self.takes(b':') {
                return self.fail("no `:`");
            }
            fields.push((name, self.value(depth)?));
            if self.takes(b'}') {
                return Ok(Json::Object(fields));
            }
            if !self.takes(b',') {
                return self.fail("no `,` or `}`");
            }
        }
    }

    fn string(&mut self) -> Result<String, NotJson> {
        if !self.takes(b'"') {
            return self.fail("no string");
        }
        let mut string = String::new();
        loop {
            let start = self.at;
            self.skip_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f));
            string.push_str(&self.text[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(string);
                }
                Some(b'\\') => string.push(self.escape()?),
                _ => return self.fail("a string without an end"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, NotJson> {
        self.at += 1;
        let escaped = self.peek();
        self.at += 1;
        Ok(match escaped {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return self.fail("an unknown escape"),
        })
    }

    /// What follows `\u`: one code unit, or two that make one character.
    fn unicode(&mut self) -> Result<char, NotJson> {
        let first = self.code_unit()?;
        let mut units = vec![first];
        if (0xd800..0xdc00).contains(&first) && self.text.get(self.at..).is_some_and(|rest| rest.starts_with("\\u")) {
            self.at += 2;
            units.push(self.code_unit()?);
        }
        match char::decode_utf16(units).next() {
            Some(Ok(char)) => Ok(char),
            _ => self.fail("half a character"),
        }
    }

    fn code_unit(&mut self) -> Result<u16, NotJson> {
        let digits = self.text.get(self.at..self.at + 4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(unit) = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()) else {
            return self.fail("no four digits after `\\u`");
        };
        self.at += 4;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_read_with_the_space_around_them() {
        let text = r#" { "a" : [ 1 , -2.5e3 , "x\"\\\/\n\u00e4\ud83d\ude00" ] , "b" : { } , "c" : [] , "d" : null , "e" : true } "#;
        let json = Json::parse(text).expect("it is JSON");
        let array = json.get("a").and_then(Json::as_array).expect("an array");
        assert_eq!((array[0].as_u64(), array[1].as_u64()), (Some(1), None));
        assert_eq!(array[2].as_str(), Some("x\"\\/\nä😀"));
        assert_eq!(json.get("b").and_then(Json::as_object), Some(&[][..]));
        assert_eq!(json.as_object().map(|fields| fields.len()), Some(5));
        assert_eq!((json.get("d"), json.get("e"), json.get("f")), (Some(&Json::Null), Some(&Json::Bool(true)), None));
        let large = Json::parse("9223372036854775807").expect("a number");
        assert_eq!(large.as_u64(), Some(i64::MAX as u64), "also where a float is not exact");
    }

    #[test]
    fn every_escape_is_read_and_no_more_than_must_be_is_written() {
        let text = Json::parse(r#""\b\f\n\r\t\/ \u00E4\u0020""#).expect("it is JSON");
        assert_eq!(text.as_str(), Some("\u{8}\u{c}\n\r\t/ ä "));
        assert_eq!(Quoted("a b\n\u{1f}\"\\/ä").to_string(), r#""a b\u000a\u001f\"\\/ä""#);
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for (text, why) in [
            ("", "no value at byte 0"),
            ("{", "no string at byte 1"),
            ("[1", "no `,` or `]` at byte 2"),
            ("[1,]", "no value at byte 3"),
            (r#"{"a" 1}"#, "no `:` at byte 5"),
            (r#"{"a":1 "b":2}"#, "no `,` or `}` at byte 7"),
            (r#"{"a":1,"a":2}"#, "a name for the second time at byte 10"),
            (r#""abc"#, "a string without an end at byte 4"),
            ("\"\n\"", "a string without an end at byte 1"),
            (r#""\x""#, "an unknown escape at byte 3"),
            (r#""\ud800""#, "half a character at byte 7"),
            (r#""\u00g0""#, "no four digits after `\\u` at byte 3"),
            ("--1", "no number at byte 3"),
            ("1 2", "more after the end at byte 2"),
            ("nul", "no value at byte 0"),
        ] {
            assert_eq!(Json::parse(text).expect_err(text).to_string(), why, "{text}");
        }
        for deep in ["[", r#"{"a":"#, r#"[{"a":"#] {
            assert_eq!(Json::parse(&deep.repeat(100_000)).expect_err("deep").what, "too deep");
        }
        let deepest = ["[".repeat(DEEPEST - 1), "1".to_owned(), "]".repeat(DEEPEST - 1)].concat();
        assert!(Json::parse(&deepest).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_survives_as_a_string(text in ".*") {
            let json = Json::parse(&Quoted(&text).to_string());
            prop_assert_eq!(json, Ok(Json::String(text)));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in r#"[\[\]{}:,"\\u0-9a-fä \n.+-]{0,60}"#) {
            drop(Json::parse(&text));
        }
    }
}
