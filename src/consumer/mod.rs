//! Consumers as streams. The contract all of them keep:
//!
//! * Back-pressure is not polling. What is held is bounded in messages and in bytes; no queue without a bound exists.
//! * Transient faults are retried inside. A permanent fault is yielded **once**, then `None` for ever.
//! * One unreachable broker delays its own queues only.
//! * No message is asked for before the first poll.
//! * Dropping a stream is always safe, at any time; `next()` is cancel safe.

pub(crate) mod hub;
pub(crate) mod pull;
pub(crate) mod rules;
pub(crate) mod simple;
