//! The messages of one receive, on their way into the buffer.

use std::sync::Arc;

use crate::clock;
use crate::consumer::simple::Delivery;
use crate::consumer::simple::inbox::Inbox;
use crate::consumer::simple::intake::{Intake, OnMalformed};
use crate::consumer::simple::planner::Begun;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Arrival, Origin};
use crate::model::{Held, Message};
use crate::transport::ReceiveRequest;

/// So many messages, or bytes of bodies, are taken in together at most: whether there is room for them is seen then.
const TOGETHER: (usize, usize) = (64, 256 << 10);

/// Messages that have arrived together, and are leased and buffered together: the locks are taken once for all of them.
pub(super) struct Arrivals<'a> {
    intake: &'a Intake,
    inbox: &'a Inbox,
    request: &'a ReceiveRequest,
    origin: Arc<Origin>,
    /// Of the subscriptions, when the receive was begun.
    version: u64,
    /// When the first of all came.
    since: Option<std::time::Instant>,
    messages: Vec<(Message, Held)>,
    bytes: usize,
    deliveries: Vec<Delivery>,
}

impl<'a> Arrivals<'a> {
    pub(super) fn new(
        intake: &'a Intake,
        inbox: &'a Inbox,
        request: &'a ReceiveRequest,
        origin: Arc<Origin>,
        version: u64,
    ) -> Self {
        let expected = TOGETHER.0.min(request.max_messages as usize);
        let (messages, deliveries) = (Vec::with_capacity(expected), Vec::with_capacity(expected));
        Self { intake, inbox, request, origin, version, since: None, messages, bytes: 0, deliveries }
    }

    /// A message has come. What is full is taken in.
    pub(super) fn add(&mut self, begun: &mut Begun, message: Message, held: Held) -> Result<()> {
        self.since.get_or_insert_with(clock::now);
        self.bytes += message.body().len();
        self.messages.push((message, held));
        let is_full = self.messages.len() >= TOGETHER.0 || self.bytes >= TOGETHER.1;
        if is_full { self.take_in(begun) } else { Ok(()) }
    }

    /// Leases what has come, and buffers it. What there is no room for, or nobody wants any more, is given back.
    pub(super) fn take_in(&mut self, begun: &mut Begun) -> Result<()> {
        let Some(at) = self.since.filter(|_| !self.messages.is_empty()) else { return Ok(()) };
        self.bytes = 0;
        let (options, deliveries) = (&self.intake.options, &mut self.deliveries);
        let arrival = Arrival { origin: &self.origin, at, renewal: options.renewal };
        self.intake.lease(&arrival, options.invisible, self.messages.drain(..), |delivery| deliveries.push(delivery));
        let (mut back, mut outcome) = (Vec::new(), Ok(()));
        if self.is_wanted() {
            outcome = self.sort_out(&mut back);
            self.inbox.put(begun, &mut self.deliveries, &mut back);
        } else {
            back.append(&mut self.deliveries);
        }
        back.into_iter().for_each(Delivery::release);
        outcome
    }

    /// `false`: they were asked for before the subscription was changed.
    fn is_wanted(&self) -> bool {
        let subscriptions = &self.intake.subscriptions;
        self.version == subscriptions.version()
            || subscriptions.filter(&self.request.scope.topic).as_ref() == Some(&self.request.filter)
    }

    /// Does with malformed messages as the policy says. An error ends the receive: what came after it moves to `back`.
    fn sort_out(&mut self, back: &mut Vec<Delivery>) -> Result<()> {
        match self.intake.options.on_malformed {
            OnMalformed::Deliver => {}
            OnMalformed::DeadLetter => {
                self.deliveries.extract_if(.., |one| is_malformed(one)).for_each(dead_letter);
            }
            OnMalformed::Fail => {
                let first = self.deliveries.iter().position(is_malformed).unwrap_or(self.deliveries.len());
                let mut rest = self.deliveries.split_off(first).into_iter();
                if let Some(malformed) = rest.next() {
                    back.extend(rest);
                    return Err(refusal(&malformed));
                }
            }
        }
        Ok(())
    }
}

fn is_malformed(delivery: &Delivery) -> bool {
    delivery.message().corrupted().is_some()
}

fn dead_letter(malformed: Delivery) {
    if let Some(corruption) = malformed.message().corrupted() {
        let id = malformed.message().id();
        tracing::warn!(id, %corruption, "malformed message to the dead-letter queue");
    }
    drop(malformed.dead_letter()); // queued; the keeper sends it
}

fn refusal(malformed: &Delivery) -> Error {
    let message = malformed.message();
    let why = message.corrupted().map(ToString::to_string).unwrap_or_default();
    let text = format!("message {} is malformed: {why}", message.id());
    Error::new(ErrorKind::Protocol, text).on_topic(message.topic())
}
