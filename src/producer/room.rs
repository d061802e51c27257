//! The bound on messages that are accepted and not answered.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// Room for a number of messages and bytes. Whoever waits gets in by turns.
#[derive(Debug)]
pub(crate) struct Room {
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_bytes: u32,
}

/// The room that one message takes until it is answered.
#[derive(Debug)]
pub(crate) struct Place {
    _message: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

/// Why there is no place now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    Full,
    Closed,
}

impl Room {
    /// Both bounds are at least 1.
    pub(crate) fn new(messages: usize, max_bytes: u32) -> Self {
        Self {
            messages: Arc::new(Semaphore::new(messages)),
            bytes: Arc::new(Semaphore::new(max_bytes as usize)),
            max_bytes,
        }
    }

    /// Waits for room for a message of `weight` bytes; one that is larger than all the room waits for all of it. `None`: closed.
    /// Cancel safe.
    pub(crate) async fn enter(&self, weight: usize) -> Option<Place> {
        let message = Arc::clone(&self.messages).acquire_owned().await.ok()?;
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(self.capped(weight)).await.ok()?;
        Some(Place { _message: message, bytes })
    }

    /// As [`enter`](Self::enter), when there is room now and nobody waits for it.
    pub(crate) fn try_enter(&self, weight: usize) -> Result<Place, NoRoom> {
        let closed = |error| match error {
            TryAcquireError::Closed => NoRoom::Closed,
            TryAcquireError::NoPermits => NoRoom::Full,
        };
        let message = Arc::clone(&self.messages).try_acquire_owned().map_err(closed)?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.capped(weight)).map_err(closed)?;
        Ok(Place { _message: message, bytes })
    }

    /// Adds bytes to a place that was entered before its message was known. `false`: there is no room for them.
    pub(crate) fn try_add(&self, place: &mut Place, weight: usize) -> bool {
        let added = Arc::clone(&self.bytes).try_acquire_many_owned(self.capped(weight));
        added.map(|bytes| place.bytes.merge(bytes)).is_ok()
    }

    /// Nobody gets in any more; those who wait are told.
    pub(crate) fn close(&self) {
        self.messages.close();
        self.bytes.close();
    }

    fn capped(&self, weight: usize) -> u32 {
        u32::try_from(weight).unwrap_or(u32::MAX).min(self.max_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn both_bounds_hold_and_a_place_gives_its_room_back() {
        let room = Room::new(2, 10);
        let first = room.try_enter(6).unwrap();
        assert_eq!(room.try_enter(6).unwrap_err(), NoRoom::Full, "no bytes left");
        let second = room.try_enter(4).unwrap();
        assert_eq!(room.try_enter(0).unwrap_err(), NoRoom::Full, "no messages left");
        drop((first, second));
        assert!(room.try_enter(10).is_ok());
    }

    #[test]
    fn a_message_larger_than_the_room_waits_for_all_of_it() {
        let room = Room::new(9, 10);
        let small = room.try_enter(1).unwrap();
        assert!(room.enter(1000).now_or_never().is_none());
        drop(small);
        let large = room.enter(1000).now_or_never().unwrap().unwrap();
        assert!(room.try_enter(1).is_err());
        drop(large);
        assert!(room.try_enter(1).is_ok());
    }

    #[test]
    fn bytes_may_be_added_while_there_is_room() {
        let room = Room::new(9, 10);
        let mut place = room.try_enter(0).unwrap();
        assert!(room.try_add(&mut place, 7));
        assert!(!room.try_add(&mut place, 4));
        assert!(room.try_enter(4).is_err());
        drop(place);
        assert!(room.try_enter(10).is_ok());
    }

    #[tokio::test]
    async fn e4_a_cancelled_wait_takes_no_room() {
        let room = Room::new(1, 10);
        let held = room.try_enter(10).unwrap();
        let mut waiting = Box::pin(room.enter(5));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        drop(waiting);
        assert!(room.try_enter(10).is_ok());
    }

    #[tokio::test]
    async fn closing_tells_those_who_wait() {
        let room = Room::new(1, 10);
        let held = room.try_enter(1).unwrap();
        let mut waiting = Box::pin(room.enter(1));
        assert!(waiting.as_mut().now_or_never().is_none());
        room.close();
        assert!(waiting.await.is_none());
        assert_eq!(room.try_enter(1).unwrap_err(), NoRoom::Closed);
        drop(held);
    }
}
