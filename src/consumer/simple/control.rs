use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock;
use crate::consumer::simple::builder::explain;
use crate::consumer::simple::events::{Event, Events, Hub};
use crate::consumer::simple::inbox::Inbox;
use crate::consumer::simple::intake::Intake;
use crate::consumer::simple::sink::AckSink;
use crate::error::{Error, Result};
use crate::lease::LeaseStats;
use crate::model::{Filter, Subscription, check_topic};
use crate::session::HealthWatch;

/// What stream, control and sinks of one consumer share.
pub(crate) struct Core {
    pub(crate) intake: Intake,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) limits: crate::model::Limits,
    pub(crate) build_timeout: Duration,
    /// Whether the warning about a changed filter was given (trap R22): once is enough.
    pub(crate) warned: AtomicBool,
}

impl Core {
    pub(crate) fn group(&self) -> &str {
        &self.intake.options.group
    }

    /// Ends the stream and gives back what nobody saw.
    pub(crate) fn stop(&self) {
        for unseen in self.inbox.close() {
            unseen.release();
        }
    }
}

/// Controls a [`SimpleConsumer`](crate::SimpleConsumer) while it streams. Cheap to clone.
#[derive(Clone)]
pub struct SimpleControl {
    core: Arc<Core>,
}

impl SimpleControl {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Asks for no more messages; what is buffered and under way is still handed out, and its leases are renewed.
    pub fn pause(&self) {
        self.core.inbox.set_paused(true);
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.core.inbox.set_paused(false);
    }

    /// Subscribes to one more topic, or changes the filter of one.
    ///
    /// A changed filter must be changed in all members of the group: what one member's filter skips is consumed for the
    /// whole group. Cancel safe: cancelled, nothing is changed.
    ///
    /// # Errors
    /// `Config` for a bad topic name or filter; `NotFound` when the topic does not appear within the build timeout;
    /// `Closed` after a shutdown.
    pub async fn subscribe(&self, topic: impl Into<String>, filter: Filter) -> Result<()> {
        let topic: Arc<str> = topic.into().into();
        check_topic(&topic, &self.core.limits)?;
        filter.check()?;
        if self.core.inbox.is_closed() {
            return Err(Error::closed("consumer"));
        }
        let Intake { session, subscriptions, .. } = &self.core.intake;
        let found = session.route_within(&topic, self.core.build_timeout).await;
        found.map_err(|error| explain(error, &topic))?;
        let before = subscriptions.insert(Subscription { topic: Arc::clone(&topic), filter: filter.clone() });
        let changed = before.is_some_and(|before| before != filter);
        if changed {
            self.release_buffered(&topic); // the new filter judges them when they come again
        }
        if changed && !self.core.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(%topic, "filter changed while consuming: change it in all members of the group, or messages are skipped");
        }
        self.announce();
        Ok(())
    }

    /// Ends the subscription to a topic; messages of it that were buffered and not seen are given back.
    /// `false`: it was not subscribed.
    pub fn unsubscribe(&self, topic: &str) -> bool {
        let was_there = self.core.intake.subscriptions.remove(topic);
        self.release_buffered(topic);
        self.announce();
        was_there
    }

    fn release_buffered(&self, topic: &str) {
        for unseen in self.core.inbox.take_topic(topic) {
            unseen.release();
        }
    }

    fn announce(&self) {
        let Intake { session, subscriptions, .. } = &self.core.intake;
        session.update(|settings| settings.subscriptions = subscriptions.all());
        self.core.inbox.set_sources(subscriptions.sources(session));
    }

    /// How the consumer stands now.
    #[must_use]
    pub fn stats(&self) -> SimpleStats {
        let (buffered_messages, buffered_bytes, receives_under_way, expired_unseen) = self.core.inbox.counts();
        let leases = self.core.intake.leases.stats();
        SimpleStats { buffered_messages, buffered_bytes, receives_under_way, expired_unseen, leases }
    }

    /// What happens beside the messages, from now on. Bounded: a reader that does not keep up misses events, and sees how
    /// many by [`Events::missed`].
    pub fn events(&self) -> Events {
        let events = self.core.hub.subscribe();
        self.core.intake.leases.tell_events();
        events
    }

    /// How well this consumer is connected, as a watch.
    #[must_use]
    pub fn health(&self) -> HealthWatch {
        HealthWatch::new(self.core.intake.session.health())
    }

    /// A sink that acknowledges the receipts it is given.
    pub fn ack_sink(&self) -> AckSink {
        AckSink::new(Arc::clone(&self.core.hub))
    }

    /// Ends the stream, gives back what nobody saw, waits for the receipts that are held and for every settlement to be
    /// answered, and says goodbye; at most `deadline`. A receive that has just begun is waited for; one that
    /// waits at the server is cancelled: what it would take there, the server makes visible again after a few seconds,
    /// without a delivery attempt since Apache's 5.5.0. Only a message whose answer crosses that cancellation, within the time
    /// that a request takes one way, may stay hidden for its invisible duration: to rule that out, every shutdown would have
    /// to wait for the end of its polls, up to the await duration. Safe to call twice.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let began = clock::now();
        self.core.stop();
        clock::timeout(deadline, self.core.inbox.finished()).await;
        self.core.intake.end(deadline.saturating_sub(clock::now() - began)).await
    }
}

impl fmt::Debug for SimpleControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleControl").field("group", &self.core.group()).field("stats", &self.stats()).finish()
    }
}

/// How a [`SimpleConsumer`](crate::SimpleConsumer) stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimpleStats {
    /// Messages received and not handed out yet.
    pub buffered_messages: usize,
    /// Their size in memory.
    pub buffered_bytes: usize,
    /// Receives that wait for an answer now.
    pub receives_under_way: usize,
    /// Messages whose lease ran out before the reader took them: these are delivered again.
    pub expired_unseen: u64,
    /// The leases.
    pub leases: LeaseStats,
}

/// What a shutdown left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "it says whether something was left behind"]
pub struct ShutdownReport {
    /// Whether everything was finished within the deadline.
    pub complete: bool,
    /// Receipts that were still held: their messages are delivered again.
    pub still_held: usize,
    /// Settlements that were not answered: their messages may be delivered again.
    pub unanswered: usize,
}

impl ShutdownReport {
    /// For those who have nothing to do with it.
    pub fn ignore(self) {}
}

/// So that the lease keeper can report to the consumer's events.
pub(crate) fn lease_events(hub: &Arc<Hub>) -> crate::lease::EventHandler {
    let hub = Arc::downgrade(hub);
    Box::new(move |event| {
        if let Some(hub) = hub.upgrade() {
            hub.publish(&Event::Lease(event));
        }
    })
}
