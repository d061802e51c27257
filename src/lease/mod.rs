//! What is held under a lease, until when, and how it is settled.
//!
//! The table decides (pure), the keeper talks (one task per consumer), receipts are what users hold. A user's receipt names
//! a lease; the server's receipt handle, which changes with every renewal, stays in the table.

mod entry;
mod judge;
mod keeper;
mod lanes;
mod outcomes;
mod receipt;
mod slab;
mod table;
mod terms;
mod timers;
mod work;

#[cfg(test)]
mod keeper_tests;
#[cfg(test)]
mod schedule_tests;
#[cfg(test)]
mod table_tests;

use std::fmt;

use crate::error::Error;
use crate::model::Endpoint;

pub(crate) use entry::{Arrival, Grant};
pub(crate) use keeper::Leases;
pub use receipt::{LeaseLost, Receipt, Settled};
pub use terms::{LeaseEvent, LeaseStats, Renewal};
pub(crate) use terms::{LeaseOptions, Origin};

/// Which endpoint answers for a message's broker.
pub(crate) trait Endpoints: Send + Sync {
    /// The endpoint that delivered, while it answers, else another one of that broker (trap R9).
    fn settle_at(&self, origin: &Origin) -> Endpoint;

    /// An endpoint did not answer.
    fn failed(&self, at: &Endpoint, error: &Error);
}

/// Told of each event, from any thread; must not block.
pub(crate) type EventHandler = Box<dyn Fn(LeaseEvent) + Send + Sync>;

impl fmt::Debug for dyn Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endpoints")
    }
}
