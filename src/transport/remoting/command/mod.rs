//! Commands: what a frame carries, either way (protocol.md E.2 to E.4). Both ends of the wire are here: what one side writes
//! the other reads, so that the embedded broker speaks through the same code.
//!
//! `header` is the header in both forms; the other files are the requests and answers, a file for each subject. What is
//! read is read leniently: fields may be missing, superfluous, or text where a number is meant.

pub(crate) mod code;
mod fields;
pub(crate) mod group;
mod header;
pub(crate) mod heartbeat;
pub(crate) mod json;
pub(crate) mod offset;
pub(crate) mod pull;
pub(crate) mod route;
pub(crate) mod server;
pub(crate) mod topics;

use bytes::{Bytes, BytesMut};

use crate::error::{Error, ErrorKind, Result};
use crate::transport::remoting::frame::{Frame, FrameError, HeaderForm, write_head};

pub(crate) use fields::Fields;
pub(crate) use header::Language;

/// What we say we are: V5_3_3. From 401 on name servers answer in standard JSON; above 475 a server that is about to stop
/// says so (GO_AWAY).
pub(crate) const VERSION: i32 = 479;

/// One request or answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// Of a request: what is asked. Of an answer: how it went, and never the remark.
    pub(crate) code: i32,
    pub(crate) language: Language,
    pub(crate) version: i32,
    /// Tells the request that an answer is for. Each direction counts for itself: look at [`kind`](Self::kind) first.
    pub(crate) opaque: i32,
    pub(crate) kind: Kind,
    pub(crate) remark: Option<Box<str>>,
    pub(crate) fields: Fields,
    pub(crate) body: Bytes,
}

/// What the flag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    /// A request that wants no answer.
    OneWay,
    Answer,
}

/// What a command can carry: its fields and body, both ways.
pub(crate) trait Payload: Sized + Send + Sync {
    fn write(&self, command: &mut Command);

    /// # Errors
    /// `Protocol`, naming the field, its value and the rule.
    fn read(command: &Command) -> Result<Self>;
}

/// A payload that is a request.
pub(crate) trait Request: Payload {
    const CODE: i32;
    /// What is in the answer when it has code 0.
    type Answer: Payload;
}

/// An answer that has nothing to say.
impl Payload for () {
    fn write(&self, _: &mut Command) {}

    fn read(_: &Command) -> Result<Self> {
        Ok(())
    }
}

impl Command {
    /// A request; the connection numbers it.
    pub(crate) fn request<R: Request>(request: &R) -> Self {
        let mut command = Self::bare(R::CODE, Kind::Request, 0);
        request.write(&mut command);
        command
    }

    /// A request that wants no answer.
    #[cfg(any(test, feature = "embedded"))]
    pub(crate) fn one_way<R: Request>(request: &R) -> Self {
        Self { kind: Kind::OneWay, ..Self::request(request) }
    }

    /// The answer "done" to this request.
    pub(crate) fn answer(&self, payload: &impl Payload) -> Self {
        let mut answer = Self::bare(code::SUCCESS, Kind::Answer, self.opaque);
        payload.write(&mut answer);
        answer
    }

    /// The answer "no" to this request.
    pub(crate) fn refusal(&self, code: i32, remark: impl Into<Box<str>>) -> Self {
        Self { remark: Some(remark.into()), ..Self::bare(code, Kind::Answer, self.opaque) }
    }

    fn bare(code: i32, kind: Kind, opaque: i32) -> Self {
        Self {
            code,
            language: Language::RUST,
            version: VERSION,
            opaque,
            kind,
            remark: None,
            fields: Fields::default(),
            body: Bytes::new(),
        }
    }

    /// # Errors
    /// `Protocol`: the header cannot be read. The frames around it can.
    pub(crate) fn decode(frame: Frame) -> Result<Self> {
        let mut command = match frame.form {
            HeaderForm::Json => header::read_json(&frame.header),
            HeaderForm::Binary => header::read_binary(&frame.header),
        }?;
        command.body = frame.body;
        Ok(command)
    }

    /// Writes the frame but for the body, which follows it on the wire. A code that the binary form would cut off is
    /// written in JSON.
    ///
    /// # Errors
    /// `TooLong`: nothing was written.
    pub(crate) fn encode_head(&self, form: HeaderForm, out: &mut BytesMut) -> Result<(), FrameError> {
        match (form, i16::try_from(self.code)) {
            (HeaderForm::Binary, Ok(code)) => {
                write_head(form, self.body.len(), out, |out| header::write_binary(self, code, out))
            }
            _ => write_head(HeaderForm::Json, self.body.len(), out, |out| header::write_json(self, out)),
        }
    }

    pub(crate) fn remark(&self) -> &str {
        self.remark.as_deref().unwrap_or_default()
    }

    /// The body as JSON.
    fn json(&self) -> Result<json::Json<'_>> {
        let text =
            std::str::from_utf8(&self.body).map_err(|error| malformed(format!("the body is not UTF-8: {error}")))?;
        json::Json::read(text).map_err(|error| malformed(format!("the body is not JSON: {error}")).with_source(error))
    }
}

/// Something in a command is not as it must be.
fn malformed(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Protocol, text)
}

#[cfg(test)]
mod tests;
