//! The header in its two forms.

use std::borrow::Cow;

use bytes::{Buf, BufMut, BytesMut};

use crate::error::Result;
use crate::transport::remoting::command::json::{Json, write_text};
use crate::transport::remoting::command::{Command, Fields, Kind, malformed};

const ANSWER: i32 = 1;
const ONE_WAY: i32 = 2;

/// The language of a client, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Language(u8);

impl Language {
    pub(crate) const RUST: Self = Self(12);
    pub(crate) const JAVA: Self = Self(0);
    const OTHER: Self = Self(7);
    const NAMES: [&str; 14] = [
        "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST",
        "NODE_JS",
    ];

    fn numbered(number: u8) -> Self {
        if usize::from(number) < Self::NAMES.len() { Self(number) } else { Self::OTHER }
    }

    /// Java's name of it. One that we do not know is OTHER.
    pub(crate) fn named(name: &str) -> Self {
        Self::NAMES.iter().position(|known| *known == name).map_or(Self::OTHER, |at| Self(at as u8))
    }

    pub(crate) fn name(self) -> &'static str {
        Self::NAMES[usize::from(self.0)]
    }
}

impl Kind {
    const fn flag(self) -> i32 {
        match self {
            Self::Request => 0,
            Self::OneWay => ONE_WAY,
            Self::Answer => ANSWER,
        }
    }

    const fn of(flag: i32) -> Self {
        match flag {
            _ if flag & ANSWER != 0 => Self::Answer,
            _ if flag & ONE_WAY != 0 => Self::OneWay,
            _ => Self::Request,
        }
    }
}

/// Names that come with every answer need no memory of their own.
fn known_name(name: &str) -> Cow<'static, str> {
    const KNOWN: [&str; 12] = [
        "suggestWhichBrokerId",
        "nextBeginOffset",
        "minOffset",
        "maxOffset",
        "topicSysFlag",
        "groupSysFlag",
        "offset",
        "consumerGroup",
        "topic",
        "queueId",
        "offsetDelta",
        "forbiddenType",
    ];
    match KNOWN.iter().find(|known| **known == name) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(name.to_owned()),
    }
}

pub(super) fn read_json(header: &[u8]) -> Result<Command> {
    // Java replaces what is not UTF-8, too: a remark may quote anything.
    let text = String::from_utf8_lossy(header);
    let json = Json::read(&text)
        .map_err(|error| malformed(format!("the header cannot be read: {error}")).with_source(error))?;
    let number = |name: &str| json.get(name).and_then(Json::as_number::<i32>);
    let code = number("code").ok_or_else(|| malformed("the header has no `code`"))?;
    let opaque = number("opaque").ok_or_else(|| malformed("the header has no `opaque`"))?;
    let mut command = Command::bare(code, Kind::of(number("flag").unwrap_or_default()), opaque);
    command.version = number("version").unwrap_or_default();
    command.language = match json.get("language").and_then(Json::as_text) {
        Some(name) => name.parse().map_or_else(|_| Language::named(&name), Language::numbered),
        None => Language::JAVA,
    };
    command.remark = json.get("remark").and_then(Json::as_text).filter(|text| !text.is_empty()).map(Into::into);
    for (name, value) in json.get("extFields").map(Json::members).unwrap_or_default() {
        if let (Some(name), Some(value)) = (name.as_text(), value.as_text()) {
            command.fields.push(known_name(&name), &value);
        }
    }
    Ok(command)
}

/// Field by field, not by way of a [`Json`]: this is done for each pull.
pub(super) fn write_json(command: &Command, out: &mut BytesMut) {
    let put_number = |out: &mut BytesMut, name: &str, number: i32| {
        out.put_slice(name.as_bytes());
        out.put_slice(number.to_string().as_bytes());
    };
    put_number(out, "{\"code\":", command.code);
    put_number(out, ",\"flag\":", command.kind.flag());
    out.put_slice(b",\"language\":");
    write_text(command.language.name(), out);
    put_number(out, ",\"opaque\":", command.opaque);
    put_number(out, ",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":", command.version);
    for (at, (name, value)) in command.fields.iter().enumerate() {
        out.put_slice(if at == 0 { b",\"extFields\":{" } else { b"," });
        write_text(name, out);
        out.put_u8(b':');
        write_text(value, out);
    }
    if !command.fields.is_empty() {
        out.put_u8(b'}');
    }
    if let Some(remark) = &command.remark {
        out.put_slice(b",\"remark\":");
        write_text(remark, out);
    }
    out.put_u8(b'}');
}

pub(super) fn read_binary(mut header: &[u8]) -> Result<Command> {
    const FIXED: usize = 13;
    if header.len() < FIXED {
        return Err(malformed(format!("a binary header of {} bytes; it has at least {FIXED}", header.len())));
    }
    let bytes = &mut header;
    let code = i32::from(bytes.get_i16());
    let language = Language::numbered(bytes.get_u8());
    let version = i32::from(bytes.get_i16());
    let opaque = bytes.get_i32();
    let kind = Kind::of(bytes.get_i32());
    let remark = match bytes.try_get_i32() {
        Ok(length) => take(bytes, length, "remark")?,
        Err(_) => &[],
    };
    let fields = match bytes.try_get_i32() {
        Ok(length) => read_fields(take(bytes, length, "map of fields")?)?,
        Err(_) => Fields::default(),
    };
    let remark = (!remark.is_empty()).then(|| String::from_utf8_lossy(remark).into());
    Ok(Command { language, version, remark, fields, ..Command::bare(code, kind, opaque) })
}

fn read_fields(mut bytes: &[u8]) -> Result<Fields> {
    let mut fields = Fields::default();
    while !bytes.is_empty() {
        let cut_off = || malformed("a binary header ends within a field");
        let length = bytes.try_get_i16().map_err(|_| cut_off())?;
        let name = take(&mut bytes, i32::from(length), "name of a field")?;
        let length = bytes.try_get_i32().map_err(|_| cut_off())?;
        let value = take(&mut bytes, length, "value of a field")?;
        fields.push(known_name(&String::from_utf8_lossy(name)), &String::from_utf8_lossy(value));
    }
    Ok(fields)
}

fn take<'a>(bytes: &mut &'a [u8], length: i32, what: &str) -> Result<&'a [u8]> {
    let taken = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length));
    let (taken, rest) = taken.ok_or_else(|| {
        malformed(format!("the {what} in a binary header is said to have {length} bytes; {} are left", bytes.len()))
    })?;
    *bytes = rest;
    Ok(taken)
}

pub(super) fn write_binary(command: &Command, code: i16, out: &mut BytesMut) {
    out.put_i16(code);
    out.put_u8(command.language.0);
    // Java cuts it off, too; no version is near that.
    out.put_i16(command.version as i16);
    out.put_i32(command.opaque);
    out.put_i32(command.kind.flag());
    put_long(command.remark().as_bytes(), out);
    let start = out.len();
    out.put_i32(0);
    for (name, value) in command.fields.iter() {
        out.put_u16(name.len() as u16);
        out.put_slice(name.as_bytes());
        put_long(value.as_bytes(), out);
    }
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_long(bytes: &[u8], out: &mut BytesMut) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}
