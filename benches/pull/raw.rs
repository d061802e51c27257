//! The least a client can do: one blocking connection, one pull under way for each queue, no message decoded. It walks the
//! records to find the next offset.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};

use crate::frame::{Peer, number, request, word};

const PULL: i16 = 11;
const SEND: i16 = 310;
const SEND_BATCH: i16 = 320;
const FOUND: i32 = 0;
const NOTHING_NEW: i32 = 19;
const NOTHING_MATCHED: i32 = 20;
/// The subscription is in the request.
const SUBSCRIPTION: u32 = 4;
/// The broker may hold the request until a message comes.
const SUSPEND: u32 = 2;
/// As long as this crate lets it.
const HOLD_MILLIS: u32 = 15_000;
/// Where a stored message has the length of its body, with addresses of four bytes.
const BODY_LENGTH: usize = 84;
/// Messages, and bytes of bodies, in one batch while a topic is filled.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 1 << 20;
const BATCHES_UNDER_WAY: u64 = 4;

#[derive(Debug, Clone)]
pub(crate) struct Pulling {
    pub(crate) broker: SocketAddr,
    pub(crate) broker_name: String,
    pub(crate) group: String,
    pub(crate) topic: String,
    /// The end of each queue.
    pub(crate) ends: Vec<u64>,
    pub(crate) max_messages: u32,
    /// By long polls, from the ends.
    pub(crate) live: bool,
}

impl Pulling {
    pub(crate) fn live(self) -> Self {
        Self { live: true, ..self }
    }

    fn queues(&self) -> u32 {
        self.ends.len() as u32
    }
}

/// Until `enough` of the bodies of answers, or, unless it is live, until every queue is read.
pub(crate) fn pull(work: &Pulling, mut enough: impl FnMut(&[u8]) -> bool) -> Result<()> {
    let mut peer = Peer::connect(work.broker).context("connect to the broker")?;
    let mut offsets = if work.live { work.ends.clone() } else { vec![0; work.ends.len()] };
    let mut ended = 0;
    let mut out = Vec::new();
    for (queue, offset) in (0..).zip(&offsets) {
        ask(&mut out, work, queue, *offset);
    }
    peer.write(&out)?;
    while ended < work.queues() {
        let answer = peer.answer()?;
        let queue = answer.opaque;
        let next = number(answer.header, "\"nextBeginOffset\":").context("an answer without the next offset")?;
        match answer.code {
            FOUND => {
                if enough(answer.body) {
                    return Ok(());
                }
            }
            NOTHING_MATCHED => {}
            NOTHING_NEW if work.live => {}
            NOTHING_NEW => {
                ended += 1;
                continue;
            }
            code => bail!("code {code}: {}", String::from_utf8_lossy(answer.header)),
        }
        offsets[queue as usize] = next;
        out.clear();
        ask(&mut out, work, queue, next);
        peer.write(&out)?;
    }
    bail!("the topic ended before the measurement did")
}

/// The stored messages of an answer. Each begins with its length.
pub(crate) fn records(mut body: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = word(body, 0).filter(|length| *length > 0)? as usize;
        let (record, rest) = body.split_at_checked(length)?;
        body = rest;
        Some(record)
    })
}

/// The body of a stored message.
pub(crate) fn body(record: &[u8]) -> Option<&[u8]> {
    let length = word(record, BODY_LENGTH)? as usize;
    record.get(BODY_LENGTH + 4..)?.get(..length)
}

fn ask(out: &mut Vec<u8>, work: &Pulling, queue: u32, offset: u64) {
    let (id, offset, max) = (queue.to_string(), offset.to_string(), work.max_messages.to_string());
    let (flags, hold) = if work.live { (SUBSCRIPTION | SUSPEND, HOLD_MILLIS) } else { (SUBSCRIPTION, 0) };
    let (flags, hold) = (flags.to_string(), hold.to_string());
    let fields = [
        ("consumerGroup", work.group.as_str()),
        ("topic", &work.topic),
        ("queueId", &id),
        ("queueOffset", &offset),
        ("maxMsgNums", &max),
        ("sysFlag", &flags),
        ("commitOffset", "0"),
        ("suspendTimeoutMillis", &hold),
        ("subscription", "*"),
        ("subVersion", "0"),
        ("expressionType", "TAG"),
        ("bname", &work.broker_name),
    ];
    request(out, PULL, queue, &fields, b"");
}

/// Sends so many messages, spread over the queues.
pub(crate) fn fill(work: &Pulling, body: &[u8], messages: u64) -> Result<()> {
    let mut sender = Sender::connect(work)?;
    let per_batch = (BATCH_BYTES / body.len().max(1)).clamp(1, BATCH) as u64;
    let batches = messages.div_ceil(per_batch);
    let (mut sent, mut answered) = (0, 0);
    while answered < batches {
        while sent < batches && sent - answered < BATCHES_UNDER_WAY {
            sender.ask(SEND_BATCH, sent, "", &batch(body, sent, per_batch))?;
            sent += 1;
        }
        sender.answer()?;
        answered += 1;
    }
    Ok(())
}

/// Sends over one connection.
pub(crate) struct Sender {
    work: Pulling,
    peer: Peer,
}

impl Sender {
    pub(crate) fn connect(work: &Pulling) -> Result<Self> {
        Ok(Self { work: work.clone(), peer: Peer::connect(work.broker).context("connect to the broker")? })
    }

    /// One message, whose number decides the queue, and its answer.
    pub(crate) fn send(&mut self, body: &[u8], number: u64) -> Result<()> {
        self.ask(SEND, number, &properties(number), body)?;
        self.answer()
    }

    fn ask(&mut self, code: i16, number: u64, properties: &str, body: &[u8]) -> Result<()> {
        let queue = (number % u64::from(self.work.queues())).to_string();
        let born = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().to_string();
        let several = if code == SEND_BATCH { "true" } else { "false" };
        let fields = [
            ("a", "bench"),
            ("b", &self.work.topic),
            ("c", "TBW102"),
            ("d", "4"),
            ("e", &queue),
            ("f", "0"),
            ("g", &born),
            ("h", "0"),
            ("i", properties),
            ("j", "0"),
            ("k", "false"),
            ("m", several),
            ("n", &self.work.broker_name),
        ];
        let mut out = Vec::with_capacity(body.len() + 512);
        request(&mut out, code, number as u32, &fields, body);
        Ok(self.peer.write(&out)?)
    }

    fn answer(&mut self) -> Result<()> {
        let answer = self.peer.answer()?;
        ensure!(answer.code == 0, "send: code {}: {}", answer.code, String::from_utf8_lossy(answer.header));
        Ok(())
    }
}

/// An id of its own, a tag and two more.
fn properties(number: u64) -> String {
    format!("UNIQ_KEY\u{1}{number:032X}\u{2}TAGS\u{1}paid\u{2}region\u{1}eu\u{2}WAIT\u{1}true\u{2}")
}

/// Messages back to back.
fn batch(body: &[u8], number: u64, messages: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(messages as usize * (body.len() + 128));
    for index in 0..messages {
        let properties = properties(number * messages + index);
        let total = 4 * 5 + body.len() + 2 + properties.len();
        for word in [total as u32, 0, 0, 0, body.len() as u32] {
            out.extend(word.to_be_bytes());
        }
        out.extend(body);
        out.extend((properties.len() as u16).to_be_bytes());
        out.extend(properties.as_bytes());
    }
    out
}
