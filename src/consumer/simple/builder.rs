use std::sync::Arc;
use std::time::Duration;

use crate::consumer::rules::{check_sizes, check_subscriptions, check_times};
use crate::consumer::simple::control::{Core, lease_events};
use crate::consumer::simple::endpoints::SettleOverSession;
use crate::consumer::simple::events::Hub;
use crate::consumer::simple::inbox::Inbox;
use crate::consumer::simple::intake::{Intake, OnMalformed, ReceiveOptions};
use crate::consumer::simple::planner::{Bounds, Planner};
use crate::consumer::simple::subscriptions::Subscriptions;
use crate::consumer::simple::{SimpleConsumer, SimpleReceiver};
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::lease::{LeaseOptions, Leases, Renewal};
use crate::model::{ClientKind, ClientSettings, ConsumerGroup, Filter, Subscription};
use crate::session::{Connector, Session};
use crate::transport::Receiving;

/// Builds a [`SimpleConsumer`] or a [`SimpleReceiver`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it builds"]
pub struct SimpleConsumerBuilder {
    connector: Arc<Connector>,
    group: String,
    subscriptions: Vec<(String, Filter)>,
    invisible_duration: Duration,
    await_duration: Duration,
    max_lease: Duration,
    renewal: Renewal,
    max_buffered_messages: usize,
    max_buffered_bytes: usize,
    max_receives: usize,
    on_malformed: OnMalformed,
    check_digest: bool,
    build_timeout: Duration,
}

impl SimpleConsumerBuilder {
    pub(crate) fn new(connector: Arc<Connector>, group: String) -> Self {
        Self {
            connector,
            group,
            subscriptions: Vec::new(),
            invisible_duration: Duration::from_secs(30),
            await_duration: Duration::from_secs(20),
            max_lease: LeaseOptions::default().max_lease,
            renewal: Renewal::default(),
            max_buffered_messages: 1024,
            max_buffered_bytes: 16 << 20,
            max_receives: 8,
            on_malformed: OnMalformed::default(),
            check_digest: false,
            build_timeout: Duration::from_secs(10),
        }
    }

    /// Adds a topic. At least one is needed. All members of a group must subscribe to the same topics with the same
    /// filters: what one member's filter skips is consumed for the whole group.
    pub fn subscribe(mut self, topic: impl Into<String>, filter: Filter) -> Self {
        self.subscriptions.push((topic.into(), filter));
        self
    }

    /// How long the server hides a message from others after it was received. The lease is renewed while the receipt is
    /// held, so this is how soon a message comes back after a crash. Defaults to 30 s; Apache's servers take 10 s to 12 h.
    pub fn invisible_duration(mut self, duration: Duration) -> Self {
        self.invisible_duration = duration;
        self
    }

    /// How long a receive waits for a first message. Defaults to 20 s; Apache's servers round it to between 5 s and 20 s.
    pub fn await_duration(mut self, duration: Duration) -> Self {
        self.await_duration = duration;
        self
    }

    /// How long a message is renewed at most after it was received; then its lease runs out, and
    /// [`Receipt::lost`](crate::Receipt::lost) tells. Defaults to 3 h.
    pub fn max_lease(mut self, duration: Duration) -> Self {
        self.max_lease = duration;
        self
    }

    /// Who renews the leases. Defaults to [`Renewal::Client`].
    pub fn renewal(mut self, renewal: Renewal) -> Self {
        self.renewal = renewal;
        self
    }

    /// How many messages are received and not handed out at most. Defaults to 1 024.
    pub fn max_buffered_messages(mut self, messages: usize) -> Self {
        self.max_buffered_messages = messages;
        self
    }

    /// How many bytes they hold at most (decompressed; one message more may be under way). Defaults to 16 MiB.
    pub fn max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.max_buffered_bytes = bytes;
        self
    }

    /// How many receives run at once at most, over all topics and brokers. An idle topic uses one for each broker.
    /// Defaults to 8.
    pub fn max_receives(mut self, receives: usize) -> Self {
        self.max_receives = receives;
        self
    }

    /// What to do with a message that came damaged. Defaults to [`OnMalformed::Deliver`].
    pub fn on_malformed(mut self, policy: OnMalformed) -> Self {
        self.on_malformed = policy;
        self
    }

    /// Whether the digest of each body is checked. Defaults to no: it costs more than the rest of a receive, and TCP has
    /// checked the bytes already.
    pub fn check_digest(mut self, check: bool) -> Self {
        self.check_digest = check;
        self
    }

    /// How long `build` may take to connect and to find the topics; answers that may pass (a server that starts, a cold
    /// cache) are retried until then. Defaults to 10 s.
    pub fn build_timeout(mut self, duration: Duration) -> Self {
        self.build_timeout = duration;
        self
    }

    /// Connects, negotiates, finds the topics. No message is asked for before the stream is first polled.
    ///
    /// # Errors
    /// `Config` for a value that breaks a rule; `NotFound` for a topic that does not exist; `Unauthenticated` or
    /// `PermissionDenied` for credentials; `Unavailable` when no server answered; `Unsupported` for a group of type FIFO,
    /// whose ordered stream does not exist yet ([`build_receiver`](Self::build_receiver) works).
    pub async fn build(self) -> Result<SimpleConsumer> {
        self.bounds()?;
        let (session, wire) = self.connect().await?;
        self.build_over(session, wire).await
    }

    /// The stream over any session, whatever its wire.
    pub(crate) async fn build_over(self, session: Session, wire: Arc<dyn Receiving>) -> Result<SimpleConsumer> {
        let (bounds, build_timeout) = (self.bounds()?, self.build_timeout);
        let limits = self.connector.limits().clone();
        let hub = Arc::new(Hub::default());
        let intake = self.open(session, wire, &hub).await?;
        let settings = intake.session.settings();
        if settings.fifo == Some(true) {
            let text = "the stream of a FIFO group is not built yet; use build_receiver(), or a group that is not FIFO";
            let group = Arc::clone(&intake.options.group);
            intake.end(Duration::ZERO).await.ignore();
            return Err(Error::new(ErrorKind::Unsupported, text).in_group(group));
        }
        let inbox = Arc::new(Inbox::new(Planner::new(bounds, fastrand::usize(..1 << 16))));
        if let Some(batch) = settings.receive_batch {
            inbox.set_batch(batch.min(limits.max_receive_batch));
        }
        inbox.set_sources(intake.subscriptions.sources(&intake.session));
        intake.session.tasks().spawn("receive", intake.clone().run(Arc::clone(&inbox)));
        Ok(SimpleConsumer::new(Arc::new(Core { intake, inbox, hub, limits, build_timeout, warned: false.into() })))
    }

    /// Connects as [`build`](Self::build) does, for those who call [`receive`](SimpleReceiver::receive) themselves. The
    /// bounds of the buffer, the renewal and the policy for malformed messages do not apply.
    ///
    /// # Errors
    /// As [`build`](Self::build), except that a FIFO group is served.
    pub async fn build_receiver(self) -> Result<SimpleReceiver> {
        self.bounds()?;
        let (session, wire) = self.connect().await?;
        Ok(SimpleReceiver::new(self.open(session, wire, &Arc::new(Hub::default())).await?))
    }

    async fn connect(&self) -> Result<(Session, Arc<dyn Receiving>)> {
        let (group, subscriptions) = self.check()?;
        let settings = ClientSettings {
            kind: ClientKind::SimpleConsumer,
            request_timeout: self.connector.request_timeout(),
            group: Some(group.shared()),
            subscriptions,
            await_duration: Some(self.await_duration),
            topics: Vec::new(),
        };
        let connector = self.connector.checking_digests(self.check_digest);
        let opened = connector.open(settings, self.build_timeout).await;
        opened.map(|(session, wire)| (session, wire as _)).map_err(|e| e.in_group(group.shared()))
    }

    async fn open(self, session: Session, wire: Arc<dyn Receiving>, hub: &Arc<Hub>) -> Result<Intake> {
        let (group, subscriptions) = self.check()?;
        for one in &subscriptions {
            let found = session.route_within(&one.topic, self.build_timeout).await;
            found.map_err(|error| explain(error, &one.topic).in_group(group.shared()))?;
        }
        let options = ReceiveOptions {
            group: group.shared(),
            invisible: self.invisible_duration,
            await_duration: self.await_duration,
            renewal: self.renewal,
            on_malformed: self.on_malformed,
        };
        let subscriptions = Arc::new(Subscriptions::new(subscriptions));
        let leases = self.leases(&session, &wire, hub);
        Ok(Intake { session, wire, leases, subscriptions, options: Arc::new(options) })
    }

    fn leases(&self, session: &Session, wire: &Arc<dyn Receiving>, hub: &Arc<Hub>) -> Leases {
        let mut options = LeaseOptions { max_lease: self.max_lease, ..LeaseOptions::default() };
        if let Some(attempts) = session.settings().max_attempts {
            options.max_attempts = attempts;
        }
        let endpoints = Arc::new(SettleOverSession(session.clone()));
        Leases::start(session.tasks(), Arc::clone(wire), endpoints, options, lease_events(hub))
    }

    fn check(&self) -> Result<(ConsumerGroup, Vec<Subscription>)> {
        let limits = self.connector.limits();
        let group = ConsumerGroup::new(&self.group, limits)?;
        if self.subscriptions.is_empty() {
            return Err(Error::config("subscribe", "", "at least one topic is needed").in_group(group.shared()));
        }
        let subscriptions = check_subscriptions(&self.subscriptions, limits)?;
        check_times([
            ("invisible_duration", self.invisible_duration),
            ("await_duration", self.await_duration),
            ("max_lease", self.max_lease),
            ("build_timeout", self.build_timeout),
        ])?;
        Ok((group, subscriptions))
    }

    fn bounds(&self) -> Result<Bounds> {
        check_sizes([
            ("max_buffered_messages", self.max_buffered_messages),
            ("max_buffered_bytes", self.max_buffered_bytes),
            ("max_receives", self.max_receives),
        ])?;
        Ok(Bounds {
            messages: self.max_buffered_messages,
            bytes: self.max_buffered_bytes,
            batch: self.connector.limits().max_receive_batch.max(1),
            receives: self.max_receives,
            largest: self.connector.limits().max_body_size,
        })
    }
}

/// "Not found" alone leaves a newcomer guessing.
pub(crate) fn explain(error: Error, topic: &Arc<str>) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    let text = "the topic does not exist, or its broker is away; RocketMQ 5 creates no topics by itself: \
                `mqadmin updateTopic -n NAMESERVER -c CLUSTER -t TOPIC -a +message.type=NORMAL`";
    let code = error.server_code();
    let told = Error::new(ErrorKind::NotFound, text)
        .during(Operation::QueryRoute)
        .on_topic(Arc::clone(topic))
        .with_source(error);
    match code {
        Some(code) => told.with_code(code),
        None => told,
    }
}
