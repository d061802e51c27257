//! What producers, sinks and streams hand over to the accumulator's task.

use std::mem;
use std::sync::Mutex;
use std::task::{Context, Waker};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::error::{Result, SendError};
use crate::producer::lock;
use crate::producer::parcel::Parcel;
use crate::producer::report::ProducerReport;

/// Something for the task to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send this. Each holds its place in the room, which bounds their number.
    Accept(Box<Parcel>),
    /// Tell when everything accepted before this is answered.
    Flush(oneshot::Sender<Result<()>>),
    /// Failures that a dropped sink had not told.
    Untold(Vec<SendError>),
    /// Accept nothing more; end when all is answered, or at this time.
    Shutdown(Instant, oneshot::Sender<ProducerReport>),
}

/// A queue that is emptied at one stroke: one lock for a message, none for its way through a channel, and no task budget that
/// could cut the queue in two before a flush.
#[derive(Debug, Default)]
pub(crate) struct Mailbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    commands: Vec<Command>,
    waker: Option<Waker>,
    /// Nobody is left who could hand something over.
    finished: bool,
    /// Nobody is left who would take it.
    shut: bool,
}

impl Mailbox {
    /// Gives the command back when the task has ended.
    pub(crate) fn push(&self, command: Command) -> Result<(), Command> {
        let waker = {
            let mut state = lock(&self.0);
            if state.shut {
                return Err(command);
            }
            state.commands.push(command);
            state.waker.take()
        };
        wake(waker);
        Ok(())
    }

    /// No command will come any more.
    pub(crate) fn finish(&self) {
        let waker = {
            let mut state = lock(&self.0);
            state.finished = true;
            state.waker.take()
        };
        wake(waker);
    }

    /// Moves all commands into the empty `into`. `false`: no more will come. Wakes `cx` at the next one.
    pub(crate) fn take(&self, into: &mut Vec<Command>, cx: &Context<'_>) -> bool {
        let mut state = lock(&self.0);
        mem::swap(&mut state.commands, into);
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        !state.finished
    }

    /// Nothing is taken any more; what was not is given back.
    pub(crate) fn shut(&self) -> Vec<Command> {
        let mut state = lock(&self.0);
        state.shut = true;
        mem::take(&mut state.commands)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
