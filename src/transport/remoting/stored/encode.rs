//! Writing stored messages, as a broker does.

use std::fmt;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::BufMut;

use crate::model::{NAME_END, Offset, VALUE_END};
use crate::transport::remoting::stored::flag;
use crate::transport::remoting::stored::layout::{MAGIC_V1, MAGIC_V2};

/// One message as a broker stores it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storing<'a> {
    pub(crate) queue_id: i32,
    /// The user's flag.
    pub(crate) flag: i32,
    pub(crate) queue_offset: Offset,
    /// Where it lies in the commit log.
    pub(crate) log_offset: i64,
    /// The bits that tell of IPv6 hosts are set by [`encode`].
    pub(crate) sys_flag: i32,
    pub(crate) born: SystemTime,
    pub(crate) born_host: SocketAddr,
    pub(crate) stored: SystemTime,
    pub(crate) store_host: SocketAddr,
    pub(crate) reconsume_times: i32,
    pub(crate) prepared_transaction_offset: i64,
    pub(crate) body: &'a [u8],
    pub(crate) topic: &'a str,
    /// As [`join_properties`] makes them.
    pub(crate) properties: &'a str,
}

/// Why a message cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EncodeError {
    field: &'static str,
    size: usize,
    most: usize,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} of {} bytes cannot be stored; at most {} can", self.field, self.size, self.most)
    }
}

impl std::error::Error for EncodeError {}

/// Appends a message. Its layout is the first one unless its topic has a name that needs the second.
///
/// # Errors
/// When something is longer than its length can say; then nothing was written.
pub(crate) fn encode(message: &Storing<'_>, out: &mut impl BufMut) -> Result<(), EncodeError> {
    let is_long = message.topic.len() > 127;
    let properties_len = length("properties", message.properties.len(), i16::MAX)?;
    let topic_len = length("topic", message.topic.len(), u16::MAX)?;
    let body_len = length("body", message.body.len(), i32::MAX)?;
    let hosts = host_len(message.born_host) + host_len(message.store_host);
    let rest = 88 - 16 + hosts + usize::from(is_long) + 1 + message.topic.len() + 2 + message.properties.len();
    let size = length("message", message.body.len() + rest, i32::MAX)?;
    out.put_i32(size);
    out.put_u32(if is_long { MAGIC_V2 } else { MAGIC_V1 });
    out.put_u32(crc32fast::hash(message.body) & 0x7FFF_FFFF);
    out.put_i32(message.queue_id);
    out.put_i32(message.flag);
    out.put_u64(message.queue_offset.get());
    out.put_i64(message.log_offset);
    out.put_i32(sys_flag(message));
    out.put_i64(millis(message.born));
    put_host(message.born_host, out);
    out.put_i64(millis(message.stored));
    put_host(message.store_host, out);
    out.put_i32(message.reconsume_times);
    out.put_i64(message.prepared_transaction_offset);
    out.put_i32(body_len);
    out.put_slice(message.body);
    if is_long {
        out.put_u16(topic_len);
    } else {
        out.put_slice(&topic_len.to_be_bytes()[1..]);
    }
    out.put_slice(message.topic.as_bytes());
    out.put_i16(properties_len);
    out.put_slice(message.properties.as_bytes());
    Ok(())
}

/// Appends a message of a batch.
///
/// # Errors
/// When something is longer than its length can say; then nothing was written.
pub(crate) fn encode_entry(flag: i32, body: &[u8], properties: &str, out: &mut impl BufMut) -> Result<(), EncodeError> {
    let properties_len = length("properties", properties.len(), i16::MAX)?;
    let size = length("message", body.len().saturating_add(22 + properties.len()), i32::MAX)?;
    out.put_i32(size);
    // Neither magic nor checksum, as Java's client.
    out.put_i64(0);
    out.put_i32(flag);
    out.put_i32(length("body", body.len(), i32::MAX)?);
    out.put_slice(body);
    out.put_i16(properties_len);
    out.put_slice(properties.as_bytes());
    Ok(())
}

/// Properties as they are stored. The separators must not occur in them.
pub(crate) fn join_properties<'a>(properties: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut joined = String::new();
    for (name, value) in properties {
        joined.push_str(name);
        joined.push(char::from(NAME_END));
        joined.push_str(value);
        joined.push(char::from(VALUE_END));
    }
    joined
}

/// A length as it is written; `most` is the largest that this kind of number can say.
fn length<T: TryFrom<usize> + TryInto<usize>>(field: &'static str, size: usize, most: T) -> Result<T, EncodeError> {
    T::try_from(size).map_err(|_| EncodeError { field, size, most: most.try_into().unwrap_or(usize::MAX) })
}

fn sys_flag(message: &Storing<'_>) -> i32 {
    let hosts = [(message.born_host, flag::BORN_HOST_V6), (message.store_host, flag::STORE_HOST_V6)];
    hosts
        .into_iter()
        .fold(message.sys_flag, |flags, (host, bit)| if host.is_ipv6() { flags | bit } else { flags & !bit })
}

fn host_len(host: SocketAddr) -> usize {
    if host.is_ipv6() { 20 } else { 8 }
}

fn put_host(host: SocketAddr, out: &mut impl BufMut) {
    match host {
        SocketAddr::V4(host) => out.put_slice(&host.ip().octets()),
        SocketAddr::V6(host) => out.put_slice(&host.ip().octets()),
    }
    out.put_i32(i32::from(host.port()));
}

/// Milliseconds since 1970; before that, negative.
fn millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    }
}
