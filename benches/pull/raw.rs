//! The least a client can do: one blocking connection, one pull under way for each queue, no message decoded. It walks the
//! records to find the next offset.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

use crate::frame::{Peer, number, request, word};
use crate::meter::Meter;

const PULL: i16 = 11;
const SEND_BATCH: i16 = 320;
const FOUND: i32 = 0;
const NOTHING_NEW: i32 = 19;
const NOTHING_MATCHED: i32 = 20;
/// The subscription is in the request.
const SUBSCRIPTION: &str = "4";
/// Messages in one batch while a topic is filled.
const BATCH: usize = 64;
const BATCHES_UNDER_WAY: u64 = 4;

pub(crate) struct Pulling {
    pub(crate) broker: SocketAddr,
    pub(crate) broker_name: String,
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) queues: u32,
    pub(crate) max_messages: u32,
}

/// Until the meter has seen enough, or every queue is read.
pub(crate) fn pull(work: &Pulling, meter: &Meter) -> Result<()> {
    let mut peer = Peer::connect(work.broker).context("connect to the broker")?;
    let mut offsets = vec![0u64; work.queues as usize];
    let mut ended = 0;
    let mut out = Vec::new();
    for queue in 0..work.queues {
        ask(&mut out, work, queue, 0);
    }
    peer.write(&out)?;
    while ended < work.queues {
        let answer = peer.answer()?;
        let queue = answer.opaque;
        let next = number(answer.header, "\"nextBeginOffset\":").context("an answer without the next offset")?;
        match answer.code {
            FOUND => {
                if meter.count(count(answer.body)) {
                    return Ok(());
                }
            }
            NOTHING_MATCHED => {}
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

/// Each record begins with its length.
fn count(body: &[u8]) -> u64 {
    let (mut at, mut records) = (0, 0);
    while let Some(length) = word(body, at).filter(|length| *length > 0) {
        at += length as usize;
        records += 1;
    }
    records
}

fn ask(out: &mut Vec<u8>, work: &Pulling, queue: u32, offset: u64) {
    let (id, offset, max) = (queue.to_string(), offset.to_string(), work.max_messages.to_string());
    let fields = [
        ("consumerGroup", work.group.as_str()),
        ("topic", &work.topic),
        ("queueId", &id),
        ("queueOffset", &offset),
        ("maxMsgNums", &max),
        ("sysFlag", SUBSCRIPTION),
        ("commitOffset", "0"),
        ("suspendTimeoutMillis", "0"),
        ("subscription", "*"),
        ("subVersion", "0"),
        ("expressionType", "TAG"),
        ("bname", &work.broker_name),
    ];
    request(out, PULL, queue, &fields, b"");
}

/// Sends so many messages, spread over the queues.
pub(crate) fn fill(work: &Pulling, body: &[u8], messages: u64) -> Result<()> {
    let mut peer = Peer::connect(work.broker).context("connect to the broker")?;
    let born = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().to_string();
    let batches = messages.div_ceil(BATCH as u64);
    let (mut sent, mut answered) = (0, 0);
    while answered < batches {
        while sent < batches && sent - answered < BATCHES_UNDER_WAY {
            let queue = (sent % u64::from(work.queues)).to_string();
            let mut out = Vec::new();
            let fields = send_fields(work, &queue, &born);
            request(&mut out, SEND_BATCH, sent as u32, &fields, &batch(body, sent));
            peer.write(&out)?;
            sent += 1;
        }
        let answer = peer.answer()?;
        if answer.code != 0 {
            bail!("fill the topic: code {}: {}", answer.code, String::from_utf8_lossy(answer.header));
        }
        answered += 1;
    }
    Ok(())
}

fn send_fields<'a>(work: &'a Pulling, queue: &'a str, born: &'a str) -> [(&'a str, &'a str); 13] {
    [
        ("a", "bench"),
        ("b", &work.topic),
        ("c", "TBW102"),
        ("d", "4"),
        ("e", queue),
        ("f", "0"),
        ("g", born),
        ("h", "0"),
        ("i", ""),
        ("j", "0"),
        ("k", "false"),
        ("m", "true"),
        ("n", &work.broker_name),
    ]
}

/// Messages back to back, each with an id of its own, a tag and two properties.
fn batch(body: &[u8], number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(BATCH * (body.len() + 128));
    for index in 0..BATCH as u64 {
        let id = number * BATCH as u64 + index;
        let properties = format!("UNIQ_KEY\u{1}{id:032X}\u{2}TAGS\u{1}paid\u{2}region\u{1}eu\u{2}WAIT\u{1}true\u{2}");
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
