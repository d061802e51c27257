//! What is stored: the content of a message, shared by all its copies, and one copy's place in a log.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

/// Milliseconds since 1970 by the clock of the embedded cluster.
pub(crate) type Millis = u64;

/// What a message is, as its properties say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentKind {
    Normal,
    Fifo,
    Delay,
    Transaction,
}

/// A message as its producer sent it. Retries and dead letters share it.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) id: Arc<str>,
    pub(crate) kind: ContentKind,
    pub(crate) body: Bytes,
    /// The wire's GZIP flag: "compressed", whatever the algorithm.
    pub(crate) compressed: bool,
    /// MD5 of the body as carried, upper-case hex.
    pub(crate) digest: Box<str>,
    pub(crate) tag: Option<Box<str>>,
    pub(crate) keys: Vec<String>,
    pub(crate) properties: BTreeMap<String, String>,
    /// Properties that RocketMQ uses itself and that have no field here, as a remoting client sent them (`WAIT`, `CLUSTER`).
    /// Readers over remoting see them, readers over gRPC do not.
    pub(crate) hidden: BTreeMap<String, String>,
    /// The user's flag of the remoting protocol: any number.
    pub(crate) flag: i32,
    /// The bits of the remoting protocol that name the codec of a compressed body.
    pub(crate) codec_bits: i32,
    pub(crate) message_group: Option<Box<str>>,
    pub(crate) trace_context: Option<Box<str>>,
    pub(crate) delivery_at: Option<Millis>,
    pub(crate) born_at: Millis,
    pub(crate) born_host: Box<str>,
    pub(crate) stored_at: Millis,
}

impl Content {
    /// Roughly what a stored record of it takes on the remoting wire (protocol.md E.7).
    pub(crate) fn wire_size(&self) -> usize {
        const FIXED: usize = 91;
        let pairs = self.properties.iter().chain(&self.hidden).map(|(name, value)| name.len() + value.len() + 2);
        let keys: usize = self.keys.iter().map(|key| key.len() + 1).sum();
        FIXED
            + self.body.len()
            + self.id.len()
            + self.tag.as_ref().map_or(0, |tag| tag.len())
            + keys
            + pairs.sum::<usize>()
    }

    /// Roughly what it takes in memory.
    fn size(&self) -> usize {
        const FIXED: usize = 256;
        let properties: usize = self.properties.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        FIXED + self.body.len() + properties
    }
}

/// One copy of a message in a log.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) content: Arc<Content>,
    /// How often it was delivered in vain before; the next delivery attempt is one more.
    pub(crate) reconsumed: u32,
    pub(crate) dead_letter: bool,
    /// Where it lies in the commit log of its broker; 0 until it is put there.
    pub(crate) log_offset: u64,
    /// When this copy was put into its log: later than the message was sent if it was delayed.
    pub(crate) stored_at: Millis,
}

impl Record {
    pub(crate) fn fresh(content: Arc<Content>) -> Self {
        let stored_at = content.stored_at;
        Self { content, reconsumed: 0, dead_letter: false, log_offset: 0, stored_at }
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.reconsumed + 1
    }

    /// The copy that comes after this delivery was in vain.
    pub(crate) fn again(&self, costs_an_attempt: bool) -> Self {
        Self { reconsumed: self.reconsumed + u32::from(costs_an_attempt), ..self.clone() }
    }

    /// The copy for the dead-letter queue. Live on 5.5.0 its first delivery is attempt 2, however many came before.
    pub(crate) fn dead(&self) -> Self {
        Self { reconsumed: 1, dead_letter: true, ..self.clone() }
    }

    pub(crate) fn size(&self) -> usize {
        self.content.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::engine::tests::made;

    fn rich() -> Content {
        Content {
            keys: vec!["k1".into(), "key2".into()],
            properties: [("region".to_owned(), "EU".to_owned()), ("n".to_owned(), "12345".to_owned())].into(),
            hidden: [("WAIT".to_owned(), "false".to_owned())].into(),
            ..made("01ABCD", "paid", None)
        }
    }

    #[test]
    fn a_message_takes_on_the_wire_what_its_parts_take() {
        // 91 bytes without anything in it; the body; the id; the tag.
        let plain = 91 + 4 + 6 + 4;
        assert_eq!(Content { keys: vec![], properties: [].into(), hidden: [].into(), ..rich() }.wire_size(), plain);
        // A separator behind each key; two with each property.
        let pairs = (6 + 2 + 2) + (1 + 5 + 2) + (4 + 5 + 2);
        assert_eq!(rich().wire_size(), plain + (2 + 1) + (4 + 1) + pairs);
    }

    #[test]
    fn a_message_takes_in_memory_its_body_and_its_properties_and_some_more() {
        let record = Record::fresh(Arc::new(rich()));
        assert_eq!(record.size(), 256 + 4 + (6 + 2 + 48) + (1 + 5 + 48));
    }

    #[test]
    fn copies_of_a_message_count_their_attempts() {
        let first = Record::fresh(Arc::new(Content { stored_at: 17, ..rich() }));
        let again = first.again(true).again(true).again(false);
        assert_eq!((first.attempt(), again.attempt(), first.stored_at), (1, 3, 17));
        let dead = again.dead();
        assert_eq!((dead.attempt(), dead.dead_letter, again.dead_letter), (2, true, false));
    }
}
