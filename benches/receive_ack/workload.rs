//! What a measured process is told to do.

use std::time::Duration;

use bytes::Bytes;
use clap::ValueEnum;

#[derive(Debug, Clone)]
pub(crate) struct Receiving {
    pub(crate) access_point: String,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) ack: bool,
    pub(crate) invisible: Duration,
    /// Receives under way at once.
    pub(crate) streams: usize,
    /// Raw loop: entries per AckMessage, and such RPCs under way at most.
    pub(crate) ack_batch: usize,
    pub(crate) ack_rpcs: usize,
    pub(crate) style: Style,
    /// The crate: messages worked on at once.
    pub(crate) concurrency: usize,
}

/// How a program acknowledges with this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Style {
    /// `for_each_concurrent`: each delivery by itself, its ack awaited.
    Each,
    /// `forward` into an `AckSink`.
    Sink,
}

#[derive(Debug, Clone)]
pub(crate) struct Sending {
    pub(crate) access_point: String,
    pub(crate) topic: String,
    pub(crate) size: usize,
    pub(crate) in_flight: usize,
}

/// Bytes that no compression makes smaller; all messages share them.
pub(crate) fn body(size: usize) -> Bytes {
    let mut state = 88_172_645_463_325_252u64;
    let random = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    random.take(size).collect()
}
