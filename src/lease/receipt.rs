//! What users hold: receipts, and the futures of what they asked for.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::FusedFuture;

use crate::error::AckError;
use crate::lease::entry::{Action, LostSignal};
use crate::lease::keeper::Owner;
use crate::lease::slab::SlotId;
use crate::lease::table::Slot;

/// The right to settle one received message, once.
///
/// Settle it with [`ack`](Self::ack), [`nack`](Self::nack) or [`dead_letter`](Self::dead_letter). Dropping it unsettled
/// sends nothing: its lease is no longer renewed, and the server delivers the message again when it runs out.
///
/// Receipts work from any task or thread, and after the stream they came from was dropped, until the consumer is shut down.
#[must_use = "an unsettled message is delivered again"]
pub struct Receipt {
    /// `None` once it was settled.
    owner: Option<Arc<Owner>>,
    id: SlotId,
}

impl Receipt {
    pub(super) fn new(owner: Arc<Owner>, id: SlotId) -> Self {
        Self { owner: Some(owner), id }
    }

    /// The message was processed: do not deliver it again.
    ///
    /// The acknowledgement is queued by this call, and sent together with others; dropping the returned future does not
    /// take it back. It is repeated through short outages, as long as the lease lasts.
    ///
    /// # Errors
    /// The future's [`AckError`] says whether the message will be delivered again.
    pub fn ack(self) -> Settled {
        self.settle(Action::Ack)
    }

    /// The message could not be processed: deliver it again `after` this time, to any consumer of the group.
    ///
    /// This costs a delivery attempt: a message that has none left goes to the dead-letter queue. The server accepts 0 to
    /// 12 h. It is queued by this call; dropping the returned future does not take it back. After a lost answer it is not
    /// repeated, because each repeat would make a copy of the message; the future then says [`AckError::Unknown`].
    ///
    /// # Errors
    /// The future's [`AckError`] says whether the message comes later than asked for.
    pub fn nack(self, after: Duration) -> Settled {
        self.settle(Action::Nack(after))
    }

    /// The message can never be processed: move it to the group's dead-letter queue now.
    ///
    /// It is queued by this call; dropping the returned future does not take it back. After a lost answer it is not
    /// repeated, because each repeat would add another dead letter; the future then says [`AckError::Unknown`].
    ///
    /// # Errors
    /// The future's [`AckError`] says whether the message will be delivered again.
    pub fn dead_letter(self) -> Settled {
        self.settle(Action::DeadLetter)
    }

    /// Hides the message for `duration` from now on, longer or shorter than before.
    ///
    /// The server accepts 0 to 12 h. It is queued by this call and waits for a renewal or an extension under way; a
    /// settlement that follows waits for it. Under [`Renewal::Client`](crate::Renewal::Client) renewal goes on after it;
    /// under [`Renewal::Server`](crate::Renewal::Server) the server renews this message no more. Dropping the returned
    /// future does not take it back.
    ///
    /// # Errors
    /// [`AckError::LeaseExpired`]: it came too late. [`AckError::Rejected`]: nothing has changed.
    /// [`AckError::Unknown`]: the answer was lost; the lease is not renewed any more, and what settles the receipt will
    /// say `Unknown` too.
    pub fn extend(&self, duration: Duration) -> Settled {
        let Some(owner) = &self.owner else { return Settled::over() };
        let ticket = owner.shared.with(|table| table.extend(self.id, duration));
        Settled { owner: Some(Arc::clone(owner)), slot: Slot::Extension(ticket) }
    }

    /// Resolves when the message is no longer ours: its lease ran out, the longest lease was reached, or the consumer was
    /// shut down. Then stop working on it; it is delivered again.
    ///
    /// It never resolves for a message that was settled, or whose receipt was dropped, before that: race it against the
    /// work, do not wait for it alone.
    pub fn lost(&self) -> LeaseLost {
        let signal = match &self.owner {
            Some(owner) => owner.shared.with(|table| table.lost_signal(self.id)),
            None => Arc::default(),
        };
        LeaseLost { signal, watcher: 0, done: false }
    }

    /// Whether the message is no longer ours; see [`lost`](Self::lost).
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.owner.as_ref().is_none_or(|owner| owner.shared.is_lost(self.id))
    }

    /// Gives a message back that no user saw: it comes again soon, and costs no delivery attempt where the server can do
    /// that (trap R10).
    pub(crate) fn release(self) -> Settled {
        self.settle(Action::Release)
    }

    fn settle(mut self, action: Action) -> Settled {
        let Some(owner) = self.owner.take() else { return Settled::over() };
        owner.shared.with(|table| table.settle(self.id, action));
        Settled { owner: Some(owner), slot: Slot::Lease(self.id) }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take() {
            owner.shared.with(|table| table.abandon(self.id));
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("lease", &self.id).finish_non_exhaustive()
    }
}

/// What became of a settlement or an extension: `Ok` when the server has confirmed it.
///
/// What was asked for is queued already and goes on without this future: it may be polled, dropped or awaited later, from
/// any task. Polling it after it was ready gives `Pending` for ever.
#[must_use = "it says whether the message will be delivered again; `let _ =` ignores that, and takes nothing back"]
pub struct Settled {
    /// `None` once the result was taken.
    owner: Option<Arc<Owner>>,
    slot: Slot,
}

impl Settled {
    const fn over() -> Self {
        Self { owner: None, slot: Slot::Lease(SlotId::NONE) }
    }
}

impl Future for Settled {
    type Output = Result<(), AckError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(owner) = &this.owner else { return Poll::Pending };
        let polled = owner.shared.with(|table| table.poll_answer(this.slot, cx.waker()));
        if polled.is_ready() {
            this.owner = None;
        }
        polled
    }
}

impl FusedFuture for Settled {
    fn is_terminated(&self) -> bool {
        self.owner.is_none()
    }
}

impl Drop for Settled {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take() {
            owner.shared.with(|table| table.forget_answer(self.slot));
        }
    }
}

impl fmt::Debug for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settled").field("of", &self.slot).finish_non_exhaustive()
    }
}

/// Resolves when a message is no longer ours; see [`Receipt::lost`].
///
/// Cheap to clone; each clone resolves by itself. Cancel safe.
#[must_use = "futures do nothing unless polled"]
pub struct LeaseLost {
    signal: Arc<LostSignal>,
    /// 0 until it was polled.
    watcher: u64,
    done: bool,
}

impl Future for LeaseLost {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let polled = this.signal.poll(&mut this.watcher, cx.waker());
        this.done = polled.is_ready();
        polled
    }
}

impl FusedFuture for LeaseLost {
    fn is_terminated(&self) -> bool {
        self.done
    }
}

impl Clone for LeaseLost {
    fn clone(&self) -> Self {
        Self { signal: Arc::clone(&self.signal), watcher: 0, done: false }
    }
}

impl Drop for LeaseLost {
    fn drop(&mut self) {
        if self.watcher != 0 {
            self.signal.forget(self.watcher);
        }
    }
}

impl fmt::Debug for LeaseLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseLost").field("fired", &self.signal.has_fired()).finish()
    }
}
