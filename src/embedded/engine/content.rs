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
    pub(crate) message_group: Option<Box<str>>,
    pub(crate) trace_context: Option<Box<str>>,
    pub(crate) delivery_at: Option<Millis>,
    pub(crate) born_at: Millis,
    pub(crate) born_host: Box<str>,
    pub(crate) stored_at: Millis,
}

impl Content {
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
}

impl Record {
    pub(crate) fn fresh(content: Arc<Content>) -> Self {
        Self { content, reconsumed: 0, dead_letter: false }
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
        Self { content: Arc::clone(&self.content), reconsumed: 1, dead_letter: true }
    }

    pub(crate) fn size(&self) -> usize {
        self.content.size()
    }
}
