//! SimpleConsumer: receive, settle, per message.
//!
//! ```text
//! session ── routes ──▶ planner ◆ ──▶ intake (task) ──▶ inbox ──▶ stream ──▶ Delivery { message, receipt }
//!                                       │ leases each message before it is buffered         │
//!                                       ▼                                                   ▼
//!                                     lease ◀──────────────── ack, nack, extend, dead letter ┘
//! ```

mod arrivals;
mod builder;
mod control;
mod delivery;
mod endpoints;
mod events;
mod inbox;
mod intake;
mod planner;
mod receiver;
mod sink;
mod stream;
mod subscriptions;

pub use builder::SimpleConsumerBuilder;
pub use control::{ShutdownReport, SimpleControl, SimpleStats};
pub use delivery::Delivery;
pub use events::{Event, Events};
pub use intake::OnMalformed;
pub use receiver::SimpleReceiver;
pub use sink::AckSink;
pub use stream::SimpleConsumer;
