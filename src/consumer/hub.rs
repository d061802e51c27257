//! Events for all who listen, bounded: a slow reader misses some, and knows how many.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_channel::mpsc;
use futures_core::{FusedStream, Stream};

/// Events a slow reader may be behind.
const CAPACITY: usize = 256;

/// The events of a consumer, as a stream. It ends with the consumer.
#[must_use = "streams do nothing unless polled"]
pub struct EventStream<E> {
    receiver: mpsc::Receiver<E>,
    missed: Arc<AtomicU64>,
}

impl<E> EventStream<E> {
    /// How many events this reader was too slow for.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl<E> Stream for EventStream<E> {
    type Item = E;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<E>> {
        Pin::new(&mut self.receiver).poll_next(cx)
    }
}

impl<E> FusedStream for EventStream<E> {
    fn is_terminated(&self) -> bool {
        self.receiver.is_terminated()
    }
}

impl<E> fmt::Debug for EventStream<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("missed", &self.missed()).finish_non_exhaustive()
    }
}

/// Hands events to all who listen.
pub(crate) struct Hub<E>(Mutex<Vec<Listener<E>>>);

struct Listener<E> {
    sender: mpsc::Sender<E>,
    missed: Arc<AtomicU64>,
}

impl<E> Default for Hub<E> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<E: Clone> Hub<E> {
    pub(crate) fn subscribe(&self) -> EventStream<E> {
        self.subscribe_after(None)
    }

    /// For who must know what is so already: `first` comes before all that happens from now on.
    pub(crate) fn subscribe_after(&self, first: Option<E>) -> EventStream<E> {
        let (mut sender, receiver) = mpsc::channel(CAPACITY);
        // There is room: it is the first.
        _ = first.map(|first| sender.try_send(first));
        let missed = Arc::new(AtomicU64::new(0));
        let listener = Listener { sender, missed: Arc::clone(&missed) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
        EventStream { receiver, missed }
    }

    pub(crate) fn publish(&self, event: &E) {
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
        for n in 0..CAPACITY + 11 {
            hub.publish(&n);
        }
        drop(hub);
        let seen = events.by_ref().count().await;
        assert_eq!(seen as u64 + events.missed(), CAPACITY as u64 + 11);
        assert!(events.missed() > 0);
    }
}
