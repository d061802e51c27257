//! The task that receives while nobody polls: a message that is under way already has a lease, which must be renewed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use crate::clock;
use crate::consumer::simple::Delivery;
use crate::consumer::simple::arrivals::Arrivals;
use crate::consumer::simple::control::ShutdownReport;
use crate::consumer::simple::inbox::Inbox;
use crate::consumer::simple::planner::{Begun, Outcome, Step};
use crate::consumer::simple::subscriptions::Subscriptions;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Arrival, Grant, Leases, Renewal};
use crate::model::{Endpoint, Held, Message};
use crate::session::Session;
use crate::transport::{ReceiveFrame, ReceiveRequest, Receiving, Scope};

/// What to do with a message that came damaged: its body cannot be decoded, or a part of it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnMalformed {
    /// Hand it out with what could be read and [`Message::corrupted`](crate::Message::corrupted) set.
    #[default]
    Deliver,
    /// Move it to the dead-letter queue of the group, and count it.
    DeadLetter,
    /// End the stream with an error that names it; the message is delivered again.
    Fail,
}

/// A server that has messages answers within this, also a busy one: a receive that is older waits at the broker. A younger
/// one must not be cancelled, because an answer that crosses its cancellation is lost until its lease ends (trap R10). Less
/// than the second after which what was released may be handed out again, to this very receive.
const YOUNG: Duration = Duration::from_millis(600);
/// How long an answer is waited for in any case: a message may have come just now.
const LAST_ANSWERS: Duration = Duration::from_millis(250);

/// From when on receives that were not answered may be cancelled, if the youngest began then.
pub(crate) fn settled_at(last_begun: Option<Instant>, now: Instant) -> Instant {
    last_begun.map_or(now, |begun| (begun + YOUNG).max(now + LAST_ANSWERS))
}

/// How long a goodbye may take: the server forgets this client by itself too.
const GOODBYE: Duration = Duration::from_secs(5);

/// What every receive of a consumer has in common.
#[derive(Debug, Clone)]
pub(crate) struct ReceiveOptions {
    pub(crate) group: Arc<str>,
    pub(crate) invisible: Duration,
    pub(crate) await_duration: Duration,
    pub(crate) renewal: Renewal,
    pub(crate) on_malformed: OnMalformed,
}

/// What a receive needs to know and to reach.
#[derive(Clone)]
pub(crate) struct Intake {
    pub(crate) session: Session,
    pub(crate) wire: Arc<dyn Receiving>,
    pub(crate) leases: Leases,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) options: Arc<ReceiveOptions>,
}

impl Intake {
    /// Receives until the inbox is closed or a permanent fault came.
    pub(crate) async fn run(self, inbox: Arc<Inbox>) {
        let mut changes = self.session.changes();
        let mut receives = FuturesUnordered::new();
        loop {
            let wake_at = loop {
                match inbox.next(clock::now()) {
                    None => return self.finish(&inbox, receives).await,
                    Some((_, Some(begun))) => receives.push(self.receive_into(&inbox, begun)),
                    Some((Step::SleepUntil(at), None)) => break Some(at),
                    Some((_, None)) => break None,
                }
            };
            tokio::select! {
                Some(()) = receives.next() => {}
                () = inbox.replanned() => {}
                Ok(()) = changes.changed() => inbox.set_sources(self.subscriptions.sources(&self.session)),
                () = wait_until(wake_at) => {}
            }
        }
    }

    /// What still arrives is leased and given back. A shutdown waits for answers that are on their way, and then ends this
    /// task. A dropped consumer waits for nothing: here its polls wait on at the server, as they would in any case, and what
    /// they bring is given back.
    async fn finish(&self, inbox: &Inbox, mut receives: FuturesUnordered<impl Future<Output = ()>>) {
        let mut settled = std::pin::pin!(clock::timer(settled_at(inbox.last_begun(), clock::now())));
        loop {
            tokio::select! {
                ended = receives.next() => if ended.is_none() { break },
                () = &mut settled => break,
            }
        }
        while inbox.is_arriving() && receives.next().await.is_some() {}
        inbox.set_finished();
        while receives.next().await.is_some() {}
    }

    async fn receive_into(&self, inbox: &Inbox, mut begun: Begun) {
        let outcome = match self.receive(inbox, &mut begun).await {
            Ok(()) if begun.arrived > 0 => Outcome::Messages(begun.arrived),
            Ok(()) => Outcome::Empty,
            Err(error) => Outcome::Failed(error),
        };
        inbox.done(&begun, outcome, clock::now());
    }

    /// One receive: each message is leased before it is buffered.
    async fn receive(&self, inbox: &Inbox, begun: &mut Begun) -> Result<()> {
        let version = self.subscriptions.version();
        let (at, request) = self.prepare(begun, self.options.invisible, self.options.await_duration).await?;
        let call = self.wire.receive(&at, &request).await;
        let mut frames = call.inspect_err(|error| self.session.report(&at, error))?;
        let origin = self.leases.origin(&at, &begun.source.broker, &request.scope);
        let mut arrivals = Arrivals::new(self, inbox, &request, origin, version);
        loop {
            let frame = match frames.next().now_or_never() {
                Some(frame) => frame,
                None => {
                    arrivals.take_in(begun)?;
                    inbox.wake_reader();
                    frames.next().await
                }
            };
            match frame {
                None => return arrivals.take_in(begun),
                Some(Err(error)) => {
                    self.session.report(&at, &error);
                    return arrivals.take_in(begun).and(Err(error));
                }
                Some(Ok(ReceiveFrame::Message { message, held })) => arrivals.add(begun, message, held)?,
                Some(Ok(ReceiveFrame::Empty { text })) => {
                    tracing::trace!(topic = %begun.source.topic, text, "no message")
                }
                Some(Ok(ReceiveFrame::DeliveryTimestamp(time))) => tracing::trace!(?time, "the server's clock"),
            }
        }
    }

    /// Where to ask, and what.
    pub(crate) async fn prepare(
        &self,
        begun: &Begun,
        invisible: Duration,
        await_duration: Duration,
    ) -> Result<(Endpoint, ReceiveRequest)> {
        let topic = &begun.source.topic;
        let route = self.session.route(topic).await?;
        let brokers = route.brokers(|permission| permission.readable());
        let broker = brokers.into_iter().find(|(name, _)| *name == begun.source.broker);
        let (broker, endpoints) = broker.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("broker {} is not in the route", begun.source.broker))
        })?;
        let at = self.session.choose(&endpoints);
        self.session.ready(&at).await?;
        let filter = self.subscriptions.filter(topic).ok_or_else(|| Error::closed("subscription"))?;
        let request = ReceiveRequest {
            scope: Scope { group: Arc::clone(&self.options.group), topic: Arc::clone(topic) },
            broker,
            filter,
            max_messages: begun.max,
            invisible: (self.options.renewal != Renewal::Server).then_some(invisible),
            await_duration,
            attempt_id: None,
        };
        Ok((at, request))
    }

    /// Takes over the leases of messages that arrived together; `each` is given them in their order, under a lock.
    pub(crate) fn lease(
        &self,
        arrival: &Arrival<'_>,
        invisible: Duration,
        messages: impl Iterator<Item = (Message, Held)>,
        mut each: impl FnMut(Delivery),
    ) {
        let granted = messages.map(|(message, held)| {
            let invisible = message.invisible_duration().unwrap_or(invisible);
            let grant = Grant { held, delivery_attempt: message.delivery_attempt(), invisible };
            (message, grant)
        });
        self.leases.register(arrival, granted, |message, receipt| each(Delivery::new(message, receipt)));
    }
}

impl Intake {
    /// Waits for receipts and settlements, at most `deadline`, and says goodbye.
    pub(crate) async fn end(&self, deadline: Duration) -> ShutdownReport {
        let drained = self.leases.settle_all(deadline).await;
        let left = self.leases.stats();
        self.leases.close();
        let closed = self.session.close(GOODBYE).await;
        ShutdownReport { complete: drained && closed, still_held: left.held, unanswered: left.queued }
    }
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => clock::timer(at).await,
        None => std::future::pending().await,
    }
}
