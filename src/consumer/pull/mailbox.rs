//! What a reader is told from outside while it is not polled: which queues to begin, to end, to pause.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Context;

use futures_util::task::AtomicWaker;

use crate::checkpoint::QueueLedger;
use crate::consumer::pull::planner::Start;
use crate::model::MessageQueue;

/// Bounded by the number of queues: what is told of a queue later replaces what was told before.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    mail: Mutex<Mail>,
    reader: AtomicWaker,
}

/// Everything since the reader looked last.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    pub(crate) queues: BTreeMap<MessageQueue, Change>,
    /// Whether more queues are on their way.
    pub(crate) expects_queues: Option<bool>,
    /// An error that ends the reader, once.
    pub(crate) failed: Option<crate::error::Error>,
    /// Nothing more is wanted.
    pub(crate) is_closed: bool,
    /// The reader has ended: nothing more is for it.
    is_retired: bool,
}

/// What is new for one queue.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) life: Option<Life>,
    pub(crate) paused: Option<bool>,
}

#[derive(Debug)]
pub(crate) enum Life {
    Begin(Box<Start>, QueueLedger),
    End,
}

impl Mailbox {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.mail());
        self.reader.wake();
    }

    /// The queue begins, or begins anew; a pause of before is over (trap P10).
    pub(crate) fn begin(&self, start: Start, ledger: QueueLedger) {
        let queue = start.queue.clone();
        let life = Some(Life::Begin(Box::new(start), ledger));
        self.post(|mail| _ = mail.queues.insert(queue, Change { life, paused: None }));
    }

    /// As [`begin`](Self::begin), unless the reader has ended. `false`: it has. A queue that was paused since it began
    /// stays so.
    pub(crate) fn begin_if_read(&self, start: Start, ledger: QueueLedger, paused: bool) -> bool {
        let mut mail = self.mail();
        if mail.is_retired {
            return false;
        }
        let queue = start.queue.clone();
        let life = Some(Life::Begin(Box::new(start), ledger));
        mail.queues.insert(queue, Change { life, paused: paused.then_some(true) });
        drop(mail);
        self.reader.wake();
        true
    }

    /// The reader ends.
    pub(crate) fn retire(&self) {
        self.mail().is_retired = true;
    }

    pub(crate) fn end(&self, queue: &MessageQueue) {
        let change = Change { life: Some(Life::End), paused: None };
        self.post(|mail| _ = mail.queues.insert(queue.clone(), change));
    }

    pub(crate) fn pause(&self, queue: &MessageQueue, paused: bool) {
        self.post(|mail| mail.queues.entry(queue.clone()).or_default().paused = Some(paused));
    }

    pub(crate) fn expect_queues(&self, expects: bool) {
        self.post(|mail| mail.expects_queues = Some(expects));
    }

    pub(crate) fn fail(&self, error: crate::error::Error) {
        self.post(|mail| _ = mail.failed.get_or_insert(error));
    }

    pub(crate) fn close(&self) {
        self.post(|mail| mail.is_closed = true);
    }

    /// Shows what a queue's life will be once the reader looks; that one ends because the consumer does is not shown.
    pub(crate) fn look(&self, mut see: impl FnMut(&MessageQueue, &Life)) {
        let mail = self.mail();
        for (queue, change) in &mail.queues {
            match &change.life {
                Some(Life::End) if mail.is_closed => {}
                Some(life) => see(queue, life),
                None => {}
            }
        }
    }

    /// Takes what is new; the reader is woken when there is more. One that reads a single queue ends with it, and what
    /// comes after that end is not for it.
    pub(crate) fn take(&self, cx: &Context<'_>, is_single: bool) -> Mail {
        self.reader.register(cx.waker());
        let mut mail = self.mail();
        let is_closed = mail.is_closed;
        let ends = is_single && mail.queues.values().any(|change| matches!(change.life, Some(Life::End)));
        let is_retired = mail.is_retired || ends;
        std::mem::replace(&mut *mail, Mail { is_closed, is_retired, ..Mail::default() })
    }
}
