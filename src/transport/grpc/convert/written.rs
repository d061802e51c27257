//! The requests of which there are many, written straight into one buffer: the generated code would first copy every text
//! into a string of its own.

use bytes::Bytes;

use crate::model::Held;
use crate::transport::Scope;
use crate::transport::grpc::convert::fields::{put, put_head, size};
use crate::transport::grpc::convert::request::Requests;

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

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::model::{Endpoint, Held};
    use crate::proto;

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
}
