//! The requests of which there are many, written straight into one buffer: the generated code would first copy every text
//! into a string of its own.

use std::time::SystemTime;

use bytes::Bytes;

use crate::model::Held;
use crate::proto;
use crate::transport::grpc::convert::fields::{put, put_head, put_number, size};
use crate::transport::grpc::convert::request::Requests;
use crate::transport::grpc::convert::value::{proto_message_type, proto_timestamp};
use crate::transport::{Scope, Stamped};

/// A request as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) head: Vec<u8>,
    /// What follows: the body of a message, which is not copied before it must.
    pub(crate) tail: Bytes,
}

impl Written {
    pub(crate) fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }
}

impl Requests {
    /// An `AckMessageRequest`.
    pub(crate) fn ack(&self, scope: &Scope, entries: &[Held]) -> Written {
        let entry_size = |held: &Held| size(held.message_id_bytes().len()) + size(held.handle_bytes().len());
        let names = [&scope.group, &scope.topic].map(|name| size(self.resource_size(name)));
        let length = names.iter().sum::<usize>() + entries.iter().map(|held| size(entry_size(held))).sum::<usize>();
        let mut head = Vec::with_capacity(length);
        self.put_resource(&mut head, 1, &scope.group);
        self.put_resource(&mut head, 2, &scope.topic);
        for held in entries {
            put_head(&mut head, 3, entry_size(held));
            put(&mut head, 1, held.message_id_bytes());
            put(&mut head, 2, held.handle_bytes());
        }
        debug_assert_eq!(head.len(), length);
        Written { head, tail: Bytes::new() }
    }

    /// A `SendMessageRequest` of one message: for a batch the server gives one result, and loses the order of message groups
    /// (C.1). The body is shared, not copied. It is sent as it is: what a compressing client may send is not what all read
    /// (B.4).
    pub(crate) fn send(&self, stamped: &Stamped) -> Written {
        let (message, system) = (&stamped.message, system_properties(stamped));
        let properties = message.properties();
        let entry_size = |(name, value): (&str, &str)| size(name.len()) + size(value.len());
        let entries: usize = properties.iter().map(|pair| size(entry_size(pair))).sum();
        let body = message.body();
        let before_body = size(self.resource_size(message.topic())) + entries + size(system.len());
        let length = before_body + if body.is_empty() { 0 } else { size(body.len()) };
        let mut head = Vec::with_capacity(before_body + 24);
        put_head(&mut head, 1, length);
        self.put_resource(&mut head, 1, message.topic());
        for pair in properties.iter() {
            put_head(&mut head, 2, entry_size(pair));
            put(&mut head, 1, pair.0.as_bytes());
            put(&mut head, 2, pair.1.as_bytes());
        }
        put(&mut head, 3, &system);
        if !body.is_empty() {
            put_head(&mut head, 4, body.len());
        }
        Written { head, tail: body.clone() }
    }

    pub(super) fn put_resource(&self, out: &mut Vec<u8>, number: u8, name: &str) {
        put_head(out, number, self.resource_size(name));
        if !self.namespace().is_empty() {
            put(out, 1, self.namespace().as_bytes());
        }
        put(out, 2, name.as_bytes());
    }

    pub(super) fn resource_size(&self, name: &str) -> usize {
        let namespace = self.namespace();
        size(name.len()) + if namespace.is_empty() { 0 } else { size(namespace.len()) }
    }
}

/// The `SystemProperties` of a message to be sent.
fn system_properties(stamped: &Stamped) -> Vec<u8> {
    let message = &stamped.message;
    let message_type = match message.message_type() {
        _ if stamped.transactional => proto::MessageType::Transaction,
        kind => proto_message_type(kind),
    };
    let mut out = Vec::with_capacity(160);
    put_text(&mut out, 1, message.get_tag());
    for key in message.get_keys() {
        put(&mut out, 2, key.as_bytes());
    }
    put(&mut out, 3, stamped.id.as_bytes());
    put_number(&mut out, 5, proto::Encoding::Identity as u64);
    put_number(&mut out, 6, message_type as u64);
    put_time(&mut out, 7, Some(stamped.born));
    put(&mut out, 8, stamped.born_host.as_bytes());
    put_time(&mut out, 11, message.get_deliver_at());
    put_text(&mut out, 17, message.get_message_group());
    put_text(&mut out, 18, message.get_trace_context());
    if let Some(priority) = message.get_priority() {
        put_number(&mut out, 22, i64::from(priority).cast_unsigned());
    }
    out
}

fn put_text(out: &mut Vec<u8>, number: u8, text: Option<&str>) {
    if let Some(text) = text {
        put(out, number, text.as_bytes());
    }
}

fn put_time(out: &mut Vec<u8>, number: u8, time: Option<SystemTime>) {
    let Some(time) = time.map(proto_timestamp) else { return };
    let mut fields = Vec::with_capacity(24);
    put_number(&mut fields, 1, time.seconds.cast_unsigned());
    put_number(&mut fields, 2, i64::from(time.nanos).cast_unsigned());
    put(out, number, &fields);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use prost::Message as _;

    use super::*;
    use crate::model::{Endpoint, OutboundMessage};

    fn requests(namespace: &str) -> Requests {
        Requests::new(namespace.into(), &[Endpoint::new("proxy", 8081)], "host@1@2@3", "5.5.0")
    }

    #[test]
    fn r9_an_ack_names_each_message_and_the_topic_that_was_asked_for() {
        let scope = Scope { group: "billing".into(), topic: "%DLQ%other".into() };
        let long = "h".repeat(200);
        let entries = [Held::new("1", "a"), Held::new("2", &long), Held::new("", "")];
        for namespace in ["", "ns"] {
            let written = requests(namespace).ack(&scope, &entries);
            let resource =
                |name: &str| Some(proto::Resource { resource_namespace: namespace.into(), name: name.into() });
            let entry = |held: &Held| proto::AckMessageEntry {
                message_id: held.message_id().into(),
                receipt_handle: held.handle().into(),
                lite_topic: None,
            };
            let expected = proto::AckMessageRequest {
                group: resource("billing"),
                topic: resource("%DLQ%other"),
                entries: entries.iter().map(entry).collect(),
            };
            assert_eq!(proto::AckMessageRequest::decode(&*written.head), Ok(expected));
            assert_eq!(written.len(), written.head.len());
        }
    }

    fn expected(namespace: &str, stamped: &Stamped) -> proto::SendMessageRequest {
        let message = &stamped.message;
        let kind = if stamped.transactional {
            proto::MessageType::Transaction
        } else {
            proto_message_type(message.message_type())
        };
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let system = proto::SystemProperties {
            tag: message.get_tag().map(str::to_owned),
            keys: message.get_keys().to_vec(),
            message_id: (*stamped.id).to_owned(),
            body_encoding: proto::Encoding::Identity as i32,
            message_type: kind as i32,
            born_timestamp: Some(proto_timestamp(stamped.born)),
            born_host: (*stamped.born_host).to_owned(),
            delivery_timestamp: message.get_deliver_at().map(proto_timestamp),
            message_group: message.get_message_group().map(str::to_owned),
            trace_context: message.get_trace_context().map(str::to_owned),
            priority: message.get_priority(),
            ..proto::SystemProperties::default()
        };
        let topic = proto::Resource { resource_namespace: namespace.into(), name: message.topic().into() };
        let message = proto::Message {
            topic: Some(topic),
            user_properties: message.properties().iter().map(owned).collect(),
            system_properties: Some(system),
            body: message.body().clone(),
        };
        proto::SendMessageRequest { messages: vec![message] }
    }

    #[test]
    fn what_is_written_is_what_the_generated_code_writes() {
        let bare = OutboundMessage::new("orders", "");
        let full = OutboundMessage::new("orders", vec![7; 300])
            .tag("paid")
            .keys(["1", ""])
            .property("region", "EU")
            .property("", "x")
            .message_group("g")
            .trace_context("00-1");
        let late =
            OutboundMessage::new("orders", "b").deliver_at(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
        let urgent = OutboundMessage::new("orders", "b").priority(-3);
        for (message, transactional) in [(bare, true), (full, false), (late, false), (urgent, false)] {
            let stamped = Stamped {
                message,
                id: "01".into(),
                born: UNIX_EPOCH + Duration::from_nanos(1),
                born_host: "here".into(),
                transactional,
            };
            for namespace in ["", "ns"] {
                let requests = requests(namespace);
                let written = requests.send(&stamped);
                let bytes = Bytes::from([&written.head[..], &written.tail[..]].concat());
                assert_eq!(written.len(), bytes.len());
                let read = proto::SendMessageRequest::decode(bytes);
                assert_eq!(read, Ok(expected(namespace, &stamped)));
                assert_eq!(written.tail.as_ptr(), stamped.message.body().as_ptr(), "shared, not copied");
            }
        }
    }
}
