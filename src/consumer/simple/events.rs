use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_channel::mpsc;
use futures_core::{FusedStream, Stream};

use crate::lease::LeaseEvent;

/// Events a slow reader may be behind.
const CAPACITY: usize = 256;

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
#[must_use = "streams do nothing unless polled"]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    missed: Arc<AtomicU64>,
}

impl Events {
    /// How many events this reader was too slow for.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        Pin::new(&mut self.receiver).poll_next(cx)
    }
}

impl FusedStream for Events {
    fn is_terminated(&self) -> bool {
        self.receiver.is_terminated()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("missed", &self.missed()).finish_non_exhaustive()
    }
}

/// Hands events to all who listen.
#[derive(Default)]
pub(crate) struct Hub(Mutex<Vec<Listener>>);

struct Listener {
    sender: mpsc::Sender<Event>,
    missed: Arc<AtomicU64>,
}

impl Hub {
    pub(crate) fn subscribe(&self) -> Events {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let missed = Arc::new(AtomicU64::new(0));
        let listener = Listener { sender, missed: Arc::clone(&missed) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
        Events { receiver, missed }
    }

    pub(crate) fn publish(&self, event: &Event) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain_mut(|listener| match listener.sender.try_send(event.clone()) {
            Ok(()) => true,
            Err(refused) if refused.is_full() => {
                listener.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(_) => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    #[tokio::test]
    async fn a_slow_reader_misses_events_and_knows_how_many() {
        let hub = Hub::default();
        let mut events = hub.subscribe();
        let event = Event::NotAcked(crate::error::AckError::LeaseExpired);
        for _ in 0..CAPACITY + 11 {
            hub.publish(&event);
        }
        drop(hub);
        let seen = events.by_ref().count().await;
        assert_eq!(seen as u64 + events.missed(), CAPACITY as u64 + 11);
        assert!(events.missed() > 0);
    }
}
