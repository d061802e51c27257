//! The words of leases: plain data.

use std::sync::Arc;
use std::time::Duration;

use crate::error::AckError;
use crate::lease::lanes::LaneId;
use crate::model::Endpoint;
use crate::transport::Scope;

/// Where messages came from; made by [`Leases::origin`], once per receive, and shared by all its messages.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The endpoint that delivered them.
    pub(crate) endpoint: Endpoint,
    pub(crate) broker: Arc<str>,
    pub(crate) scope: Scope,
    pub(super) id: u32,
    pub(super) lane: LaneId,
}

/// What all leases of a consumer have in common.
#[derive(Debug, Clone)]
pub(crate) struct LeaseOptions {
    /// How long after it was received a message is renewed at most.
    pub(crate) max_lease: Duration,
    /// Told to the server with a dead letter.
    pub(crate) max_attempts: u32,
}

impl Default for LeaseOptions {
    /// 3 h: Apache's proxy gives up its own renewal then. 16 attempts: the default of a consumer group.
    fn default() -> Self {
        Self { max_lease: Duration::from_secs(3 * 3600), max_attempts: 16 }
    }
}

/// Who keeps a message hidden while it is worked on for longer than its invisible duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Renewal {
    /// This client renews the invisible duration when a third of it is left, until the longest lease is reached.
    #[default]
    Client,
    /// The server renews by itself while this client is registered with it. Settlements must reach the very proxy that
    /// delivered the message; when that proxy stops, its messages are delivered again.
    Server,
    /// Nobody: a message that is not settled within its invisible duration is delivered again.
    Off,
}

/// How the leases of a consumer stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LeaseStats {
    /// Receipts that are held now.
    pub held: usize,
    /// Settlements and extensions that wait for the server's answer now.
    pub queued: usize,
    /// Messages acknowledged.
    pub acked: u64,
    /// Messages given back with [`Receipt::nack`](crate::Receipt::nack).
    pub nacked: u64,
    /// Messages moved to the dead-letter queue.
    pub dead_lettered: u64,
    /// Messages that were buffered, never seen by the user, and given back.
    pub released: u64,
    /// Renewals granted.
    pub renewals: u64,
    /// Leases that ran out before they were settled: these messages are delivered again.
    pub lost: u64,
    /// Receipts that were dropped without being settled: these messages are delivered again.
    pub dropped: u64,
    /// Settlements that the server refused.
    pub rejected: u64,
    /// Settlements whose answer was lost.
    pub unknown: u64,
}

/// What happened to a lease without anybody waiting for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseEvent {
    /// A lease ran out while its receipt was held: the message is delivered again.
    Lost {
        /// The topic that was subscribed to.
        topic: Arc<str>,
        /// The message.
        message_id: Arc<str>,
    },
    /// A receipt was dropped without being settled: the message is delivered again.
    Dropped {
        /// The topic that was subscribed to.
        topic: Arc<str>,
        /// The message.
        message_id: Arc<str>,
    },
    /// A settlement failed whose [`Settled`](crate::Settled) had been dropped.
    NotSettled {
        /// The topic that was subscribed to.
        topic: Arc<str>,
        /// The message.
        message_id: Arc<str>,
        /// Why, and what it means for the message.
        error: AckError,
    },
}
