//! As much of the remoting protocol as a raw loop needs: frames with a binary header out, either kind in.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Large enough for any answer; the loop never grows it.
const BUFFER: usize = 4 << 20;
const RUST: u8 = 12;
/// MQVersion of 5.5.0.
const VERSION: i16 = 513;

/// One connection, and what was read of it.
pub(crate) struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

/// One answer; the ranges are of the buffer, and hold until the next is asked for.
pub(crate) struct Answer<'a> {
    pub(crate) code: i32,
    pub(crate) opaque: u32,
    pub(crate) header: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER], begin: 0, end: 0 })
    }

    pub(crate) fn write(&mut self, frames: &[u8]) -> io::Result<()> {
        self.stream.write_all(frames)
    }

    /// Waits for the next answer.
    pub(crate) fn answer(&mut self) -> io::Result<Answer<'_>> {
        let length = loop {
            let unread = &self.buffer[self.begin..self.end];
            if let Some(length) = word(unread, 0).map(|length| length as usize + 4)
                && unread.len() >= length
            {
                break length;
            }
            self.fill()?;
        };
        let frame = &self.buffer[self.begin..self.begin + length];
        self.begin += length;
        parse(frame).ok_or_else(|| io::Error::other("an answer that is not understood"))
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.begin > BUFFER / 2 || self.end == BUFFER {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        let read = self.stream.read(&mut self.buffer[self.end..])?;
        if read == 0 {
            return Err(io::Error::other("the broker closed the connection"));
        }
        self.end += read;
        Ok(())
    }
}

fn parse(frame: &[u8]) -> Option<Answer<'_>> {
    let sizes = word(frame, 4)?;
    let header_end = 8 + (sizes & 0xff_ffff) as usize;
    let header = frame.get(8..header_end)?;
    let (code, opaque) = if sizes >> 24 == 1 {
        (i32::from(i16::from_be_bytes(header.get(..2)?.try_into().ok()?)), word(header, 5)?)
    } else {
        (i32::try_from(number(header, "\"code\":")?).ok()?, u32::try_from(number(header, "\"opaque\":")?).ok()?)
    };
    Some(Answer { code, opaque, header, body: frame.get(header_end..)? })
}

/// The number after `key` in a JSON text, quoted or not.
pub(crate) fn number(json: &[u8], key: &str) -> Option<u64> {
    let at = json.windows(key.len()).position(|window| window == key.as_bytes())? + key.len();
    let digits = json[at..].iter().skip_while(|byte| **byte == b'"').take_while(|byte| byte.is_ascii_digit());
    digits.map(|byte| u64::from(byte - b'0')).reduce(|number, digit| number * 10 + digit)
}

/// The big-endian number at `at`.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Appends one request.
pub(crate) fn request(out: &mut Vec<u8>, code: i16, opaque: u32, fields: &[(&str, &str)], body: &[u8]) {
    let start = out.len();
    out.extend([0; 8]);
    out.extend(code.to_be_bytes());
    out.push(RUST);
    out.extend(VERSION.to_be_bytes());
    out.extend(opaque.to_be_bytes());
    out.extend([0; 8]); // flag, and no remark
    let map = out.len();
    out.extend([0; 4]);
    for (name, value) in fields {
        out.extend((name.len() as u16).to_be_bytes());
        out.extend(name.as_bytes());
        out.extend((value.len() as u32).to_be_bytes());
        out.extend(value.as_bytes());
    }
    put_length(out, map, 0);
    put_length(out, start + 4, 1 << 24);
    out.extend(body);
    put_length(out, start, 0);
}

/// Writes, in the four bytes at `at`, how many bytes follow them.
fn put_length(out: &mut [u8], at: usize, flags: u32) {
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&(flags | length).to_be_bytes());
}
