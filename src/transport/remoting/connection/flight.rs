//! The requests under way on one connection, by their number.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::error::Result;
use crate::transport::remoting::command::Command;
use crate::transport::remoting::connection::Shared;

type Waiter = oneshot::Sender<Command>;

#[derive(Default)]
pub(super) struct Flight {
    next: i32,
    waiting: HashMap<i32, Waiter>,
    is_over: bool,
}

impl Flight {
    fn enter(&mut self) -> Option<(i32, oneshot::Receiver<Command>)> {
        if self.is_over {
            return None;
        }
        // The numbers come round after 4 billion requests; one that is still waiting then keeps its own.
        while self.waiting.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let opaque = self.next;
        self.next = opaque.wrapping_add(1);
        let (waiter, answer) = oneshot::channel();
        self.waiting.insert(opaque, waiter);
        Some((opaque, answer))
    }

    /// Takes out who waits for this answer.
    pub(super) fn leave(&mut self, opaque: i32) -> Option<Waiter> {
        self.waiting.remove(&opaque)
    }

    /// Nobody enters any more. Those who wait are woken when what is returned is dropped, which is not for under a lock.
    #[must_use]
    pub(super) fn end(&mut self) -> HashMap<i32, Waiter> {
        self.is_over = true;
        std::mem::take(&mut self.waiting)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

/// A place in the flight; whoever lets go of it leaves the flight.
pub(super) struct Ticket<'a> {
    shared: &'a Shared,
    opaque: i32,
}

impl<'a> Ticket<'a> {
    pub(super) fn take(shared: &'a Shared) -> Result<(Self, oneshot::Receiver<Command>)> {
        let entered = shared.flight().enter();
        let (opaque, answer) = entered.ok_or_else(|| shared.cause())?;
        Ok((Self { shared, opaque }, answer))
    }

    pub(super) const fn opaque(&self) -> i32 {
        self.opaque
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let left = self.shared.flight().leave(self.opaque);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_still_in_use_is_passed_over() {
        let mut flight = Flight { next: i32::MAX, ..Flight::default() };
        let numbers = [(); 3].map(|()| flight.enter().unwrap().0);
        assert_eq!(numbers, [i32::MAX, i32::MIN, i32::MIN + 1]);
        flight.next = i32::MAX;
        assert_eq!(flight.enter().unwrap().0, i32::MIN + 2);
    }

    #[tokio::test]
    async fn the_end_wakes_all_and_lets_nobody_in() {
        let mut flight = Flight::default();
        let (_, answer) = flight.enter().unwrap();
        drop(flight.end());
        assert!(answer.await.is_err());
        assert!(flight.enter().is_none());
    }
}
