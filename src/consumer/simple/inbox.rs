//! What lies between the task that receives and the stream that hands out: one buffer, one plan, one lock.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::consumer::simple::Delivery;
use crate::consumer::simple::planner::{Begun, Outcome, Planner, SourceKey, Step};
use crate::error::{Error, Result};

/// The buffer of one consumer.
pub(crate) struct Inbox {
    state: Mutex<State>,
    /// The plan may have something new to do.
    replan: Notify,
    /// The consumer is closed, and no answer is on its way any more.
    finished: CancellationToken,
}

struct State {
    planner: Planner,
    buffer: VecDeque<Delivery>,
    reader: Option<Waker>,
    phase: Phase,
    expired_unseen: u64,
    /// When the youngest receive began.
    last_begun: Option<Instant>,
    /// Receives whose messages are arriving.
    arriving: usize,
}

enum Phase {
    /// Nobody has polled yet: no message is asked for.
    Idle,
    Open,
    /// A permanent fault, to be yielded once what is buffered was handed out.
    Failed(Error),
    Closed,
}

impl Inbox {
    pub(crate) fn new(planner: Planner) -> Self {
        let state = State {
            planner,
            buffer: VecDeque::new(),
            reader: None,
            phase: Phase::Idle,
            expired_unseen: 0,
            last_begun: None,
            arriving: 0,
        };
        Self { state: Mutex::new(state), replan: Notify::new(), finished: CancellationToken::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the stream's side

    /// The next delivery whose lease is alive.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Delivery>>> {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Idle) {
            state.phase = Phase::Open;
            self.replan.notify_one();
        }
        while let Some(delivery) = state.buffer.pop_front() {
            self.gave_room(&mut state, &delivery);
            if !delivery.receipt().is_lost() {
                return Poll::Ready(Some(Ok(delivery)));
            }
            state.expired_unseen += 1; // the server delivers it again; handing it out now would do the work twice
        }
        match std::mem::replace(&mut state.phase, Phase::Closed) {
            Phase::Failed(error) => Poll::Ready(Some(Err(error))),
            Phase::Closed => Poll::Ready(None),
            open => {
                state.phase = open;
                if !state.reader.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                    state.reader = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn gave_room(&self, state: &mut State, delivery: &Delivery) {
        if state.planner.on_taken(delivery.message().weight()) {
            self.replan.notify_one();
        }
    }

    // ---- the task's side

    /// What to do next; `None`: the consumer is closed.
    pub(crate) fn next(&self, now: Instant) -> Option<(Step, Option<Begun>)> {
        let mut state = self.lock();
        match state.phase {
            Phase::Idle => Some((Step::Wait, None)),
            Phase::Open => {
                let (step, begun) = state.planner.next(now);
                if begun.is_some() {
                    state.last_begun = Some(now);
                }
                Some((step, begun))
            }
            Phase::Failed(_) | Phase::Closed => None,
        }
    }

    /// Buffers what arrived, and moves to `refused` what there is no room for; all of it, if the consumer is closed.
    pub(crate) fn put(&self, begun: &mut Begun, arrived: &mut Vec<Delivery>, refused: &mut Vec<Delivery>) {
        if arrived.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.arriving += usize::from(begun.arrived == 0);
        if matches!(state.phase, Phase::Closed) {
            begun.arrived += arrived.len() as u32;
            return refused.append(arrived);
        }
        let State { planner, buffer, .. } = &mut *state;
        for delivery in arrived.drain(..) {
            match planner.on_message(begun, delivery.message().weight()) {
                true => buffer.push_back(delivery),
                false => refused.push(delivery),
            }
        }
    }

    /// Wakes the reader when there is something for it: once for all that arrived together.
    pub(crate) fn wake_reader(&self) {
        let reader = {
            let mut state = self.lock();
            let something = !state.buffer.is_empty() || matches!(state.phase, Phase::Failed(_) | Phase::Closed);
            if something { state.reader.take() } else { None }
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// A receive ended; a permanent fault ends the stream.
    pub(crate) fn done(&self, begun: &Begun, outcome: Outcome, now: Instant) {
        let mut state = self.lock();
        state.arriving -= usize::from(begun.arrived > 0);
        if let Err(error) = state.planner.on_done(begun, outcome, now, fastrand::f64())
            && matches!(state.phase, Phase::Open)
        {
            state.phase = Phase::Failed(error);
        }
        drop(state);
        self.wake_reader();
    }

    /// Until the plan may have something new to do.
    pub(crate) async fn replanned(&self) {
        self.replan.notified().await;
    }

    pub(crate) fn last_begun(&self) -> Option<Instant> {
        self.lock().last_begun
    }

    /// Whether messages of a receive are arriving.
    pub(crate) fn is_arriving(&self) -> bool {
        self.lock().arriving > 0
    }

    /// What can be waited for has arrived; receives that wait at the server may go on.
    pub(crate) fn set_finished(&self) {
        self.finished.cancel();
    }

    // ---- the control's side

    /// Until the consumer is closed and no answer is on its way.
    pub(crate) async fn finished(&self) {
        self.finished.cancelled().await;
    }

    pub(crate) fn set_sources(&self, sources: Vec<SourceKey>) {
        let mut state = self.lock();
        state.planner.set_sources(sources);
        state.planner.wake();
        drop(state);
        self.replan.notify_one();
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.lock().planner.set_paused(paused);
        self.replan.notify_one();
    }

    pub(crate) fn set_batch(&self, batch: u32) {
        self.lock().planner.set_batch(batch);
    }

    /// Ends the stream; what was buffered and never seen is given back, to be released.
    pub(crate) fn close(&self) -> Vec<Delivery> {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        let unseen = std::mem::take(&mut state.buffer);
        for delivery in &unseen {
            state.planner.on_taken(delivery.message().weight());
        }
        let reader = state.reader.take();
        drop(state);
        self.replan.notify_one();
        if let Some(reader) = reader {
            reader.wake();
        }
        unseen.into()
    }

    /// Takes what is buffered of one topic, to be released.
    pub(crate) fn take_topic(&self, topic: &str) -> Vec<Delivery> {
        let mut state = self.lock();
        let buffer = std::mem::take(&mut state.buffer);
        let (taken, kept): (Vec<_>, Vec<_>) = buffer.into_iter().partition(|one| one.message().topic() == topic);
        state.buffer = kept.into();
        for delivery in &taken {
            self.gave_room(&mut state, delivery);
        }
        taken
    }

    pub(crate) fn is_closed(&self) -> bool {
        let state = self.lock();
        matches!(state.phase, Phase::Closed) && state.buffer.is_empty()
    }

    /// Buffered messages and bytes, receives under way, messages that expired before they were seen.
    pub(crate) fn counts(&self) -> (usize, usize, usize, u64) {
        let state = self.lock();
        let (messages, bytes) = state.planner.held();
        (messages, bytes, state.planner.receives_under_way(), state.expired_unseen)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (messages, bytes, receives, _) = self.counts();
        f.debug_struct("Inbox")
            .field("messages", &messages)
            .field("bytes", &bytes)
            .field("receives", &receives)
            .finish()
    }
}
