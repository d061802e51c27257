//! The task that owns accepted messages until they are answered.
//!
//! One task, whatever the number of messages: the requests under way are polled inside it. It ends when it was told to, or
//! when no producer and no sink is left and everything is answered; then it says goodbye.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;

use crate::clock;
use crate::error::{Error, Result, SendError};
use crate::producer::accumulator::{Accumulator, Patience, Step};
use crate::producer::attempt::{Ended, Way, attempt};
use crate::producer::failure::Failure;
use crate::producer::flushes::{Flushes, Over};
use crate::producer::mailbox::{Command, Mailbox};
use crate::producer::parcel::{Parcel, into_one};
use crate::producer::report::ProducerReport;
use crate::producer::trouble::{Trouble, final_error};

/// How long a goodbye may take. Servers also forget a client that is silent for two minutes.
const GOODBYE: Duration = Duration::from_secs(3);
/// Rounds without a pause for other tasks.
const ROUNDS: usize = 16;

type Attempt = Pin<Box<dyn Future<Output = Ended> + Send>>;

pub(crate) struct AccumulatorTask {
    way: Arc<Way>,
    mailbox: Arc<Mailbox>,
    commands: Vec<Command>,
    accumulator: Accumulator<Box<Parcel>>,
    under_way: FuturesUnordered<Attempt>,
    flushes: Flushes<oneshot::Sender<Result<()>>>,
    /// Failures that nobody was there to be told of. The next flush tells them.
    untold: Vec<SendError>,
    max_untold: usize,
    /// Failures beyond that bound.
    forgotten: usize,
    timer: Option<(Instant, Pin<Box<tokio::time::Sleep>>)>,
    /// Set by a shutdown: when to end at the latest.
    deadline: Option<Instant>,
    reports: Vec<oneshot::Sender<ProducerReport>>,
    trouble: Trouble,
}

impl AccumulatorTask {
    /// `max_untold` bounds the failed messages that are kept because nobody was there to take them back.
    pub(crate) fn new(way: Arc<Way>, mailbox: Arc<Mailbox>, patience: Patience, max_untold: usize) -> Self {
        Self {
            way,
            mailbox,
            commands: Vec::new(),
            accumulator: Accumulator::new(patience),
            under_way: FuturesUnordered::new(),
            flushes: Flushes::new(),
            untold: Vec::new(),
            max_untold,
            forgotten: 0,
            timer: None,
            deadline: None,
            reports: Vec::new(),
            trouble: Trouble::default(),
        }
    }

    pub(crate) async fn run(mut self) {
        poll_fn(|cx| self.poll_work(cx)).await;
        let unanswered = self.give_up();
        let left = self.deadline.map_or(GOODBYE, |deadline| deadline.saturating_duration_since(clock::now()));
        self.way.courier.close(left.clamp(GOODBYE / 10, GOODBYE)).await;
        let mut untold = std::mem::take(&mut self.untold);
        for report in self.reports.drain(..) {
            // The first one that asked gets the failures.
            drop(report.send(ProducerReport { unanswered, untold: std::mem::take(&mut untold) }));
        }
    }

    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..ROUNDS {
            let more_to_come = self.take_commands(cx);
            let wake_up = self.start_attempts();
            let answered = self.take_answers(cx);
            if self.is_over(more_to_come) {
                return Poll::Ready(());
            }
            if !answered {
                ready!(self.poll_timer(wake_up, cx));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_over(&self, more_to_come: bool) -> bool {
        let done = self.accumulator.unanswered() == 0;
        match self.deadline {
            Some(deadline) => done || clock::now() >= deadline,
            None => done && !more_to_come,
        }
    }

    fn take_commands(&mut self, cx: &Context<'_>) -> bool {
        let mut commands = std::mem::take(&mut self.commands);
        let more_to_come = self.mailbox.take(&mut commands, cx);
        if !commands.is_empty() {
            let now = clock::now();
            for command in commands.drain(..) {
                self.on_command(command, now);
            }
        }
        self.commands = commands;
        more_to_come
    }

    fn on_command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Accept(parcel) => {
                let message = parcel.message();
                let group = message.get_message_group().map(|group| (message.shared_topic(), group.into()));
                self.accumulator.accept(parcel, group, now);
            }
            Command::Flush(waiter) => {
                let (before, unanswered) = (self.accumulator.next_sequence(), self.accumulator.unanswered());
                let over = self.flushes.start(waiter, before, unanswered);
                self.tell(over);
            }
            Command::Untold(failed) => failed.into_iter().for_each(|failed| self.keep_untold(failed)),
            Command::Shutdown(deadline, report) => {
                self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
                self.reports.push(report);
            }
        }
    }

    /// When to look again.
    fn start_attempts(&mut self) -> Option<Instant> {
        let now = clock::now();
        loop {
            match self.accumulator.next(now) {
                Step::Send(entry) => self.under_way.push(Box::pin(attempt(Arc::clone(&self.way), entry))),
                Step::SleepUntil(at) => return Some(self.deadline.map_or(at, |deadline| deadline.min(at))),
                Step::Wait => return self.deadline,
            }
        }
    }

    fn take_answers(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Poll::Ready(Some(ended)) = self.under_way.poll_next_unpin(cx) {
            any = true;
            self.on_ended(ended);
        }
        any
    }

    fn on_ended(&mut self, Ended { entry, result }: Ended) {
        let (failure, error) = match result {
            Ok(receipt) => {
                let entry = self.accumulator.succeeded(entry);
                let over = self.flushes.on_answer(entry.sequence(), || None);
                entry.payload.delivered(receipt);
                return self.tell(over);
            }
            Err(failed) => failed,
        };
        let asked = self.way.courier.settings().retry.map(|schedule| schedule.after(entry.attempts()));
        let now = clock::now();
        if failure != Failure::Final {
            self.trouble.on_failure(&error, now);
        }
        let given_up = self.accumulator.failed(entry, failure, asked.unwrap_or_default(), now, fastrand::f64());
        let Some(entry) = given_up else { return };
        let error = final_error(&entry, error, now);
        let copy = (!self.flushes.is_empty()).then(|| error.clone());
        let sequence = entry.sequence();
        if let Some(failed) = entry.payload.failed(error) {
            self.keep_untold(failed);
        }
        let over = self.flushes.on_answer(sequence, || copy.clone());
        self.tell(over);
    }

    /// Ends flushes. The first one also tells the failures that nobody else was told of.
    fn tell(&mut self, over: impl IntoIterator<Item = Over<oneshot::Sender<Result<()>>>>) {
        for (waiter, result) in over {
            if waiter.is_closed() {
                // A flush that was dropped tells nothing; the next one will.
                continue;
            }
            let untold = std::mem::take(&mut self.untold);
            let result = match result {
                Ok(()) => into_one(untold).map_or(Ok(()), Err),
                Err(error) => Err(error.with_unsent(untold.into_iter().map(SendError::into_message).collect())),
            };
            drop(waiter.send(result));
        }
    }

    fn keep_untold(&mut self, failed: SendError) {
        if self.untold.len() < self.max_untold {
            self.untold.push(failed);
            return;
        }
        if self.forgotten == 0 {
            let topic = failed.message().topic();
            tracing::warn!(
                topic,
                "failed messages are dropped: nobody asks what became of them, by a flush or a shutdown"
            );
        }
        self.forgotten += 1;
    }

    /// Answers for what is left, and counts it.
    fn give_up(&mut self) -> usize {
        let unanswered = self.accumulator.unanswered();
        drop(self.accumulator.drain());
        self.under_way.clear();
        drop(self.mailbox.shut());
        for waiter in self.flushes.drain() {
            let text = format!("the producer was shut down with {unanswered} messages unanswered");
            drop(waiter.send(Err(Error::new(crate::error::ErrorKind::Closed, text))));
        }
        unanswered
    }

    /// Ready when it is time to look again; pending for ever when there is no such time.
    fn poll_timer(&mut self, at: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = at else {
            self.timer = None;
            return Poll::Pending;
        };
        let (_, timer) = match &mut self.timer {
            Some(timer) if timer.0 == at => timer,
            timer => timer.insert((at, Box::pin(clock::timer(at)))),
        };
        ready!(timer.as_mut().poll(cx));
        self.timer = None;
        Poll::Ready(())
    }
}

impl Drop for AccumulatorTask {
    fn drop(&mut self) {
        // Also after a panic and at the end of the runtime, nobody waits for ever.
        self.give_up();
    }
}
