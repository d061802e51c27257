//! A received message read in one pass over its frame, without the generated code: nearly every message is as expected.
//!
//! [`quick_message`] answers with exactly what the generated code and [`read`](super::message::read) would make of the frame,
//! or not at all. The topic (trap R9) is looked at only for whether it is sound.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::{BodyDigest, BodyEncoding, Held, Message, MessageParts, Offset, Place, Properties};
use crate::transport::ReceiveFrame;
use crate::transport::grpc::convert::fields::{Fields, Odd, Value, text};
use crate::transport::grpc::convert::message::{Reading, is_left_by_the_server};
use crate::transport::grpc::convert::value::{algorithm, duration, encoding, message_type, system_time};

/// `None`: it is not a message, or there is something to it; the generated code shall judge.
pub(crate) fn quick_message(frame: &Bytes, reading: &Reading) -> Option<ReceiveFrame> {
    if reading.check_digest || !reading.is_delivery {
        return None;
    }
    let message = the_message(frame).ok()?;
    let outline = Outline::read(frame, message).ok()?;
    let system = System::read(frame, outline.system).ok()?;
    system.into_frame(frame, outline, reading).ok()
}

/// Where the message of an answer lies; an answer has one content.
fn the_message(frame: &[u8]) -> Result<Place, Odd> {
    const MESSAGE: u32 = 2;
    let mut fields = Fields::of(frame);
    let (number, value) = fields.next()?.ok_or(Odd)?;
    let is_alone = fields.next()?.is_none();
    if number == MESSAGE && is_alone { value.span() } else { Err(Odd) }
}

/// The fields of `Message`.
struct Outline {
    system: Place,
    body: Place,
    properties: Properties,
}

impl Outline {
    fn read(frame: &[u8], message: Place) -> Result<Self, Odd> {
        let (mut system, mut body, mut pairs) = (None, Place::default(), Vec::new());
        let mut fields = Fields::within(frame, message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => check_topic(frame, value)?,
                2 => pairs.extend(property(frame, value.span()?)?),
                // Two of them would have to be merged.
                3 if system.is_some() => return Err(Odd),
                3 => system = Some(value.span()?),
                4 => body = value.span()?,
                _ => {}
            }
        }
        // Sorted, and the last one of a name counts: as in a map.
        pairs.sort_by(|(name, _), (other, _)| name.cmp(other));
        if pairs.windows(2).any(|two| two[0].0 == two[1].0) {
            return Err(Odd);
        }
        Ok(Self { system: system.ok_or(Odd)?, body, properties: Properties::from_pairs(pairs) })
    }
}

/// One entry of the map of user properties, unless it is the server's own.
fn property(frame: &[u8], entry: Place) -> Result<Option<(String, String)>, Odd> {
    let (mut name, mut content) = ("", "");
    let mut fields = Fields::within(frame, entry);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = text(frame, value)?,
            2 => content = text(frame, value)?,
            _ => {}
        }
    }
    Ok((!is_left_by_the_server(name)).then(|| (name.to_owned(), content.to_owned())))
}

/// The fields of `SystemProperties` that most messages have.
#[derive(Default)]
struct System<'a> {
    tag: Option<&'a str>,
    keys: Vec<String>,
    message_id: (&'a str, Place),
    handle: (&'a str, Place),
    body_digest: Option<BodyDigest>,
    message_type: i32,
    born_timestamp: Option<prost_types::Timestamp>,
    born_host: &'a str,
    store_timestamp: Option<prost_types::Timestamp>,
    store_host: &'a str,
    queue_id: i32,
    queue_offset: Option<i64>,
    invisible_duration: Option<prost_types::Duration>,
    delivery_attempt: Option<i32>,
    message_group: Option<&'a str>,
    trace_context: Option<&'a str>,
}

impl<'a> System<'a> {
    fn read(frame: &'a [u8], span: Place) -> Result<Self, Odd> {
        let mut system = Self::default();
        let mut fields = Fields::within(frame, span);
        while let Some((number, value)) = fields.next()? {
            system.set(frame, number, value)?;
        }
        Ok(system)
    }

    fn set(&mut self, frame: &'a [u8], number: u32, value: Value) -> Result<(), Odd> {
        match number {
            1 => self.tag = Some(text(frame, value)?),
            2 => self.keys.push(text(frame, value)?.to_owned()),
            3 => self.message_id = (text(frame, value)?, value.span()?),
            // Two of them would have to be merged.
            4 if self.body_digest.is_some() => return Err(Odd),
            4 => self.body_digest = Some(digest(frame, value)?),
            5 if encoding(value.int32()?) == BodyEncoding::Identity => {}
            5 => return Err(Odd),
            6 => self.message_type = value.int32()?,
            7 => self.born_timestamp = Some(time(frame, self.born_timestamp.is_some(), value)?),
            8 => self.born_host = text(frame, value)?,
            9 => self.store_timestamp = Some(time(frame, self.store_timestamp.is_some(), value)?),
            10 => self.store_host = text(frame, value)?,
            12 => self.handle = (text(frame, value)?, value.span()?),
            13 => self.queue_id = value.int32()?,
            14 => self.queue_offset = Some(value.int64()?),
            15 => {
                let prost_types::Timestamp { seconds, nanos } = time(frame, self.invisible_duration.is_some(), value)?;
                self.invisible_duration = Some(prost_types::Duration { seconds, nanos });
            }
            16 => self.delivery_attempt = Some(value.int32()?),
            17 => self.message_group = Some(text(frame, value)?),
            18 => self.trace_context = Some(text(frame, value)?),
            // Of delayed, lite, dead and transactional messages.
            11 | 19..=22 => return Err(Odd),
            _ => {}
        }
        Ok(())
    }

    fn into_frame(self, frame: &Bytes, outline: Outline, reading: &Reading) -> Result<ReceiveFrame, Odd> {
        if self.message_id.1.is_empty() || self.handle.1.is_empty() {
            return Err(Odd);
        }
        let held = Held::within(frame, self.message_id.1, self.handle.1);
        let parts = MessageParts {
            id: self.message_id.0.into(),
            topic: Arc::clone(&reading.topic),
            body: frame.slice(outline.body.range()),
            body_digest: self.body_digest,
            body_encoding: BodyEncoding::Identity,
            tag: self.tag.map(Into::into),
            keys: self.keys,
            properties: outline.properties,
            message_group: self.message_group.map(Into::into),
            trace_context: self.trace_context.map(Into::into),
            lite_topic: None,
            priority: None,
            message_type: message_type(self.message_type),
            born_timestamp: self.born_timestamp.as_ref().and_then(system_time),
            born_host: self.born_host.into(),
            store_timestamp: self.store_timestamp.as_ref().and_then(system_time),
            store_host: self.store_host.into(),
            delivery_timestamp: None,
            broker: reading.broker.clone(),
            queue_id: self.queue_id,
            queue_offset: self.queue_offset.and_then(|offset| u64::try_from(offset).ok()).map(Offset::new),
            invisible_duration: self.invisible_duration.as_ref().map(duration),
            delivery_attempt: self.delivery_attempt.map_or(1, |attempt| attempt.max(1).unsigned_abs()),
            dead_letter_origin: None,
            transaction_recovery: None,
            corrupted: None,
        };
        Ok(ReceiveFrame::Message { message: Message::new(parts), held })
    }
}

fn digest(frame: &[u8], value: Value) -> Result<BodyDigest, Odd> {
    let (mut kind, mut checksum) = (0, "");
    let mut fields = Fields::within(frame, value.span()?);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => kind = value.int32()?,
            2 => checksum = text(frame, value)?,
            _ => {}
        }
    }
    Ok(BodyDigest::new(algorithm(kind), checksum))
}

/// The topic is not used; but both parts of it must be texts.
fn check_topic(frame: &[u8], value: Value) -> Result<(), Odd> {
    let mut fields = Fields::within(frame, value.span()?);
    while let Some((number, value)) = fields.next()? {
        if number == 1 || number == 2 {
            text(frame, value)?;
        }
    }
    Ok(())
}

/// `Timestamp` and `Duration` have the same fields. Two of them would have to be merged.
fn time(frame: &[u8], is_second: bool, value: Value) -> Result<prost_types::Timestamp, Odd> {
    let mut time = prost_types::Timestamp::default();
    let mut fields = Fields::within(frame, value.span()?);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => time.seconds = value.int64()?,
            2 => time.nanos = value.int32()?,
            _ => {}
        }
    }
    if is_second { Err(Odd) } else { Ok(time) }
}

#[cfg(test)]
#[path = "quick_tests.rs"]
mod tests;
