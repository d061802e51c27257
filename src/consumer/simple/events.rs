use crate::consumer::hub;
use crate::lease::LeaseEvent;

/// What happens in a consumer beside its messages.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Something happened to a lease that nobody waited for.
    Lease(LeaseEvent),
    /// An [`AckSink`](crate::AckSink) was told that a message was not settled.
    NotAcked(crate::error::AckError),
}

/// The events of a consumer, as a stream. It ends with the consumer.
pub type Events = hub::EventStream<Event>;

/// Hands events to all who listen.
pub(crate) type Hub = hub::Hub<Event>;
