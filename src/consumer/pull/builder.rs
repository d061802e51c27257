use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::assignment::{AssignmentStrategy, Average, Matching, Share, Topics, check_list};
use crate::checkpoint::{AnyStore, CheckpointStore, CommitMode};
use crate::clock;
use crate::consumer::pull::planner;
use crate::consumer::pull::shared::Options;
use crate::consumer::pull::start::check_named;
use crate::consumer::pull::{PullConsumer, open};
use crate::consumer::rules::{LONGEST, check_sizes, check_subscriptions, check_times};
use crate::error::{Error, Result};
use crate::model::{
    ConsumerGroup, Filter, FilterKind, MessageQueue, OnOffsetGap, StartFrom, StopAt, Subscription, check_topic,
};
use crate::session::Connector;

/// Whether a topic is wanted, by its name.
type TopicTest = dyn Fn(&str) -> bool + Send + Sync;

/// Builds a [`PullConsumer`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it builds"]
pub struct PullConsumerBuilder {
    pub(super) connector: Arc<Connector>,
    group: String,
    subscriptions: Vec<(String, Filter)>,
    matching: Option<(Arc<TopicTest>, Filter)>,
    topic_refresh: Duration,
    pub(super) assigned: Option<Vec<MessageQueue>>,
    pub(super) share: Option<(u32, u32)>,
    pub(super) strategy: Arc<dyn AssignmentStrategy>,
    start: Option<StartFrom>,
    stop: Option<StopAt>,
    pub(super) store: Option<Arc<dyn AnyStore>>,
    pub(super) mirror: bool,
    pub(super) mode: CommitMode,
    pub(super) commit_interval: Duration,
    on_gap: OnOffsetGap,
    max_buffered_messages: usize,
    max_buffered_bytes: usize,
    max_messages: u32,
    max_open_messages: u64,
    await_duration: Duration,
    drain_timeout: Duration,
    pub(super) build_timeout: Duration,
}

impl PullConsumerBuilder {
    pub(crate) fn new(connector: Arc<Connector>, group: String) -> Self {
        Self {
            connector,
            group,
            subscriptions: Vec::new(),
            assigned: None,
            share: None,
            strategy: Arc::new(Average),
            start: None,
            stop: None,
            store: None,
            mirror: true,
            mode: CommitMode::default(),
            commit_interval: Duration::from_secs(5),
            on_gap: OnOffsetGap::default(),
            max_buffered_messages: 1024,
            max_buffered_bytes: 16 << 20,
            max_messages: 256,
            max_open_messages: 1 << 20,
            await_duration: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(5),
            build_timeout: Duration::from_secs(10),
            matching: None,
            topic_refresh: Duration::from_secs(30),
        }
    }

    /// Adds a topic. Its queues are shared out within the group, unless [`assign`](Self::assign) or [`share`](Self::share)
    /// says otherwise. All members of a group must subscribe to the same topics with the same filters.
    pub fn subscribe(mut self, topic: impl Into<String>, filter: Filter) -> Self {
        self.subscriptions.push((topic.into(), filter));
        self
    }

    /// Adds every topic that `is_wanted`, also those that are created later: which topics there are is looked at again
    /// every [`topic_refresh`](Self::topic_refresh). Topics that the servers keep for themselves are left out. With the
    /// crate `regex`: `.subscribe_matching(move |topic| regex.is_match(topic), Filter::all())`.
    ///
    /// The filter is by tags: an SQL92 expression would have to be checked for each topic before it is read. Topics that
    /// [`subscribe`](Self::subscribe) names keep the filter that they have there. A new topic begins as new queues do: where
    /// [`start_from`](Self::start_from) would have put them when the consumer was built. It needs a name server of the
    /// cluster, not a proxy. Defaults to none; a second call takes the place of the first.
    pub fn subscribe_matching(
        mut self,
        is_wanted: impl Fn(&str) -> bool + Send + Sync + 'static,
        filter: Filter,
    ) -> Self {
        self.matching = Some((Arc::new(is_wanted), filter));
        self
    }

    /// How often to look for new topics that match. Defaults to 30 s.
    pub fn topic_refresh(mut self, interval: Duration) -> Self {
        self.topic_refresh = interval;
        self
    }

    /// Reads exactly these queues, and takes no part in the group's sharing. [`subscribe`](Self::subscribe) gives a topic
    /// its filter; without one, every message is read. Nobody else must read them under this group: positions would be
    /// overwritten. Defaults to none.
    pub fn assign(mut self, queues: impl IntoIterator<Item = MessageQueue>) -> Self {
        self.assigned = Some(queues.into_iter().collect());
        self
    }

    /// Reads the share of task `index` of `of` in the queues of the subscribed topics, new queues too, and takes no part in
    /// the group's sharing: for engines that number their tasks. Defaults to none.
    ///
    /// The brokers have the group's offsets all the same; `mqadmin consumerProgress` shows them when it is told the topic
    /// (`-g GROUP -t TOPIC`): without, it looks for a topic that only a group with members has.
    pub fn share(mut self, index: u32, of: u32) -> Self {
        self.share = Some((index, of));
        self
    }

    /// How queues are shared out within the group. All members must use the same. Defaults to [`Average`], as Java's.
    pub fn strategy(mut self, strategy: impl AssignmentStrategy + 'static) -> Self {
        self.strategy = Arc::new(strategy);
        self
    }

    /// Where to begin. Needed: there is no default, because any would surprise half of the users. A position in a
    /// [checkpoint store](Self::checkpoints) comes before all but explicit offsets and checkpoints.
    pub fn start_from(mut self, start: StartFrom) -> Self {
        self.start = Some(start);
        self
    }

    /// Where to end: the stream ends when every queue has reached it. Defaults to never.
    pub fn until(mut self, stop: StopAt) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Where positions are kept. Defaults to the brokers alone.
    ///
    /// When the consumer begins, a position in the store wins over what the broker has, which may have forgotten; but with
    /// [`CommitMode::AtMostOnce`] in a group the larger of both counts, since another member may have gone further.
    ///
    /// Positions of topics that are not read are left alone. But a store that has positions of the group, and none of a topic
    /// that is read, is refused, unless [`start_from`](Self::start_from) names offsets or a checkpoint. One of another cluster
    /// with a topic of the same name is not noticed: brokers that the topic does not have may just be away.
    pub fn checkpoints(mut self, store: impl CheckpointStore + 'static) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Whether positions are also committed at the brokers when there is a store of its own, so that administrators see
    /// them, and members that take a queue over go on from there. Defaults to true; needed by
    /// [`CommitMode::AtMostOnce`] in a group.
    pub fn mirror_to_brokers(mut self, mirror: bool) -> Self {
        self.mirror = mirror;
        self
    }

    /// When positions are saved. Defaults to [`CommitMode::AtLeastOnce`].
    pub fn commit_mode(mut self, mode: CommitMode) -> Self {
        self.mode = mode;
        self
    }

    /// How often positions are saved that have changed. Defaults to 5 s.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = interval;
        self
    }

    /// What to do when an offset is no longer there, or not yet. Defaults to [`OnOffsetGap::Fail`].
    pub fn on_offset_gap(mut self, policy: OnOffsetGap) -> Self {
        self.on_gap = policy;
        self
    }

    /// How many messages are pulled and not handed out at most, over all queues; two for each queue if that is more.
    /// Defaults to 1 024.
    pub fn max_buffered_messages(mut self, messages: usize) -> Self {
        self.max_buffered_messages = messages;
        self
    }

    /// How many bytes they hold at most, decoded, over all queues; a single answer may be larger. Defaults to 16 MiB.
    pub fn max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.max_buffered_bytes = bytes;
        self
    }

    /// How many messages one pull asks for at most. A broker gives 32 unless its `maxTransferCountOnMessageInMemory` was
    /// raised; more is asked for as soon as it gives more. Defaults to 256.
    pub fn max_messages(mut self, messages: u32) -> Self {
        self.max_messages = messages;
        self
    }

    /// How many messages of a queue may lie between the oldest that is not completed and the newest handed out; then the
    /// queue waits. Defaults to 1 048 576.
    pub fn max_open_messages(mut self, messages: u64) -> Self {
        self.max_open_messages = messages;
        self
    }

    /// How long a broker may hold a pull at the end of a queue. Defaults to 20 s.
    pub fn await_duration(mut self, duration: Duration) -> Self {
        self.await_duration = duration;
        self
    }

    /// How long what was handed out of a queue may still be completed after the queue was taken away. Meanwhile its next
    /// owner may already read: RocketMQ has no hand-over. Defaults to 5 s.
    pub fn drain_timeout(mut self, duration: Duration) -> Self {
        self.drain_timeout = duration;
        self
    }

    /// How long `build` may take to connect, to find the topics, to load stored positions, to share the queues out and to find
    /// where they begin.
    /// Defaults to 10 s.
    pub fn build_timeout(mut self, duration: Duration) -> Self {
        self.build_timeout = duration;
        self
    }

    /// Connects, finds the topics, shares the queues out and finds where they begin. A queue whose broker is away is begun
    /// later. No message is asked for before the stream is first polled.
    ///
    /// When it fails, the consumer has left the group again, or has tried to for 3 s; when it is dropped, it leaves in the
    /// background.
    ///
    /// # Errors
    /// `Config` for a value that breaks a rule; `NotFound` for a topic, or an assigned queue, that does not exist;
    /// `InvalidArgument` for a filter that the broker cannot parse, for offsets that cannot be, or for a
    /// [store](Self::checkpoints) that has positions of other topics only; `Unauthenticated` or
    /// `PermissionDenied` for credentials; `Unavailable` or `Timeout` when no server answered; `Unsupported` when the
    /// server does not serve pulls this way.
    pub async fn build(self) -> Result<PullConsumer> {
        let plan = self.plan()?;
        open::connect(self, plan).await
    }

    /// Checks everything that needs no server.
    pub(super) fn plan(&self) -> Result<Plan> {
        let limits = self.connector.limits();
        let group = ConsumerGroup::new(&self.group, limits)?;
        self.check_times()?;
        self.check_sizes()?;
        let subscriptions = self.subscriptions()?;
        let topics = Topics::new(subscriptions.iter().cloned(), self.matching()?);
        let start = self.start.clone().ok_or_else(|| {
            let rule = "is needed: say where to begin, e.g. StartFrom::committed_or_earliest()";
            Error::config("start_from", "", rule)
        })?;
        check_named(&start)?;
        self.check_mirror()?;
        if let StartFrom::Checkpoint(checkpoint) = &start {
            let of_tests = checkpoint.iter().map(|(queue, _)| queue.topic()).filter(|topic| topics.wants(topic));
            checkpoint
                .check(subscriptions.iter().map(|one| &*one.topic).chain(of_tests))
                .map_err(|error| error.in_group(group.shared()))?;
        }
        let options = Options {
            planner: planner::Options {
                messages: self.max_buffered_messages,
                bytes: self.max_buffered_bytes,
                max_messages: self.max_messages,
                suspend: self.await_duration,
                on_gap: self.on_gap,
            },
            start,
            stop: self.stop.clone(),
            mode: self.mode,
            max_open: self.max_open_messages,
            drain: self.drain_timeout,
            is_group: self.is_group(),
            started: clock::wall(),
        };
        let share = self.share.map(|(index, of)| Share::new(index, of)).transpose()?;
        Ok(Plan { group: group.shared(), topics: Arc::new(topics), share, options })
    }

    fn subscriptions(&self) -> Result<Vec<Subscription>> {
        let subscriptions = check_subscriptions(&self.subscriptions, self.connector.limits())?;
        match &self.assigned {
            Some(_) if self.share.is_some() => Err(Error::config("assign", "", "is either set, or `share`, not both")),
            Some(queues) => self.with_assigned(queues, subscriptions),
            None if subscriptions.is_empty() && self.matching.is_none() => {
                Err(Error::config("subscribe", "", "at least one topic is needed, or queues by `assign`"))
            }
            None => Ok(subscriptions),
        }
    }

    fn matching(&self) -> Result<Option<Matching>> {
        let Some((is_wanted, filter)) = &self.matching else { return Ok(None) };
        if self.assigned.is_some() {
            return Err(Error::config("assign", "", "is either set, or `subscribe_matching`, not both"));
        }
        filter.check()?;
        if filter.kind() != FilterKind::Tag {
            let rule = "topics that match are filtered by tags; name the topics that want SQL92 by `subscribe`";
            return Err(Error::config("subscribe_matching", filter.expression(), rule));
        }
        let (is_wanted, filter, refresh) = (Arc::clone(is_wanted), filter.clone(), self.topic_refresh);
        Ok(Some(Matching { is_wanted, filter, refresh }))
    }

    /// The topics of the assigned queues, each with its filter.
    fn with_assigned(&self, queues: &[MessageQueue], mut given: Vec<Subscription>) -> Result<Vec<Subscription>> {
        check_list(queues)?;
        let topics: BTreeSet<&Arc<str>> = queues.iter().map(MessageQueue::shared_topic).collect();
        if let Some(idle) = given.iter().find(|one| !topics.contains(&one.topic)) {
            return Err(Error::config("subscribe", &idle.topic, "no queue of this topic is assigned"));
        }
        for topic in topics {
            check_topic(topic, self.connector.limits())?;
            if given.iter().all(|one| one.topic != *topic) {
                given.push(Subscription { topic: Arc::clone(topic), filter: Filter::all() });
            }
        }
        Ok(given)
    }

    fn check_times(&self) -> Result<()> {
        check_times([
            ("commit_interval", self.commit_interval),
            ("await_duration", self.await_duration),
            ("build_timeout", self.build_timeout),
            ("topic_refresh", self.topic_refresh),
        ])?;
        if self.drain_timeout > LONGEST {
            return Err(Error::config(
                "drain_timeout",
                format!("{:?}", self.drain_timeout),
                "must be at most 100 years",
            ));
        }
        Ok(())
    }

    /// Members that take a queue over go on from what its broker has.
    fn check_mirror(&self) -> Result<()> {
        let has_mirror = self.store.is_none() || self.mirror;
        if has_mirror || !self.is_group() || self.mode != CommitMode::AtMostOnce {
            return Ok(());
        }
        let rule = "at most once within a group, the brokers must have each position too: whoever takes a queue over goes \
                    on from there, and would read again what this consumer was given; leave the mirror on, or choose the \
                    queues by `share` or `assign`";
        Err(Error::config("mirror_to_brokers", false, rule))
    }

    /// Whether others of the group may own a queue before and after us.
    fn is_group(&self) -> bool {
        self.assigned.is_none() && self.share.is_none()
    }

    fn check_sizes(&self) -> Result<()> {
        let messages = usize::try_from(self.max_open_messages).unwrap_or(usize::MAX);
        check_sizes([
            ("max_buffered_messages", self.max_buffered_messages),
            ("max_buffered_bytes", self.max_buffered_bytes),
            ("max_messages", self.max_messages as usize),
            ("max_open_messages", messages),
        ])?;
        if i32::try_from(self.max_messages).is_err() {
            return Err(Error::config("max_messages", self.max_messages, "must be at most 2^31 - 1"));
        }
        Ok(())
    }
}

/// What was checked, in the terms of the model.
pub(super) struct Plan {
    pub(super) group: Arc<str>,
    pub(super) topics: Arc<Topics>,
    pub(super) share: Option<Share>,
    pub(super) options: Options,
}

impl std::fmt::Debug for PullConsumerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullConsumerBuilder")
            .field("group", &self.group)
            .field("subscriptions", &self.subscriptions)
            .field("start_from", &self.start)
            .finish_non_exhaustive()
    }
}
