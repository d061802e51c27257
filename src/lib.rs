#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests may"))]
#![allow(dead_code, reason = "the parts are being put together")]

mod clock;
#[cfg(feature = "embedded")]
pub mod embedded;
mod error;
mod model;
mod proto;
mod retry;
mod session;
mod task;
mod transport;

pub use error::{AckError, BoxError, Error, ErrorKind, Operation, Result, SendError};
pub use model::{
    ConsumerGroup, Corruption, Credentials, DeadLetterOrigin, Endpoint, Filter, Limits, Message, MessageQueue,
    MessageType, Offset, OutboundMessage, Properties,
};
pub use session::{Health, RouteEndpoints};
#[doc(hidden)]
pub use task::panicked_tasks;
