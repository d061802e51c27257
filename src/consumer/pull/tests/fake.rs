//! Brokers in memory: queues with messages, gaps and resets, that answer, hang or fail by script.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};

use super::message::{sized, stored_at};
use crate::assignment::Directory;
use crate::clock;
use crate::consumer::pull::brokers::Brokers;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{Endpoint, Filter, MessageQueue, Offset, Permission, Route, RouteQueue, Subscription};
use crate::task::TaskGroup;
use crate::transport::{Call, GroupProfile, PullOutcome, PullRequest, Pulled, Pulling, QueueBound};

/// What one queue has.
#[derive(Debug, Default, Clone)]
pub(crate) struct Log {
    pub(crate) min: u64,
    pub(crate) max: u64,
    /// Offsets without a message for us.
    pub(crate) hidden: BTreeSet<u64>,
    pub(crate) committed: Option<u64>,
    pub(crate) reset: Option<u64>,
    pub(crate) size: usize,
    /// The index of times points so many messages too far.
    pub(crate) index_is_late_by: u64,
    /// Or so many too early.
    pub(crate) index_is_early_by: u64,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) logs: BTreeMap<MessageQueue, Log>,
    /// Brokers that refuse every request.
    pub(crate) down: BTreeSet<String>,
    /// Brokers that never answer a pull.
    pub(crate) silent: BTreeSet<String>,
    /// Brokers of which only a slave is left.
    pub(crate) without_master: BTreeSet<String>,
    /// Masters are there again, as who asks for a route anew is told.
    pub(crate) master_is_back: bool,
    pub(crate) members: Vec<Arc<str>>,
    pub(crate) pulls: HashMap<MessageQueue, Vec<u64>>,
    pub(crate) commits: Vec<(MessageQueue, u64)>,
    /// Queues whose commits wait, until a tick after they are none of these.
    pub(crate) mute: BTreeSet<MessageQueue>,
    pub(crate) bad_filter: bool,
}

/// Where the slave of a broker listens.
const SLAVE: u16 = 10912;

pub(crate) struct Fake {
    state: Mutex<State>,
    arrived: Notify,
    changes: watch::Sender<u64>,
    tasks: TaskGroup,
    pub(crate) closed: AtomicBool,
    under_way: AtomicUsize,
    pub(crate) most_under_way: AtomicUsize,
    questions: AtomicUsize,
    pub(crate) most_questions: AtomicUsize,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    /// Topic `t` with queues of these lengths, all on broker `b`.
    pub(crate) fn new(lengths: &[u64]) -> Arc<Self> {
        let logs = lengths.iter().zip(0..).map(|(max, id)| (q(id), Log { max: *max, ..Log::default() }));
        let state = State { logs: logs.collect(), members: vec!["me".into()], ..State::default() };
        Arc::new(Self {
            state: Mutex::new(state),
            arrived: Notify::new(),
            changes: watch::Sender::new(0),
            tasks: TaskGroup::new(),
            closed: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            questions: AtomicUsize::new(0),
            most_questions: AtomicUsize::new(0),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn with_log<T>(&self, queue: &MessageQueue, change: impl FnOnce(&mut Log) -> T) -> T {
        let result = change(self.state().logs.entry(queue.clone()).or_default());
        self.arrived.notify_waiters();
        result
    }

    pub(crate) fn append(&self, queue: &MessageQueue, count: u64) {
        self.with_log(queue, |log| log.max += count);
    }

    pub(crate) fn committed(&self, queue: &MessageQueue) -> Option<u64> {
        self.state().logs.get(queue).and_then(|log| log.committed)
    }

    /// The members of the group from now on.
    pub(crate) fn set_members(&self, members: &[&str]) {
        self.state().members = members.iter().map(|id| (*id).into()).collect();
        self.tick();
    }

    pub(crate) fn set_down(&self, broker: &str, down: bool) {
        if down {
            self.state().down.insert(broker.into())
        } else {
            self.state().down.remove(broker)
        };
        self.tick();
    }

    /// The route, or the members, changed.
    pub(crate) fn tick(&self) {
        self.changes.send_modify(|count| *count += 1);
        self.arrived.notify_waiters();
    }

    fn check_up(&self, at: &Endpoint, operation: Operation) -> Result<()> {
        if self.state().down.contains(at.host()) {
            return Err(Error::new(ErrorKind::Unavailable, "down").during(operation).at(at));
        }
        Ok(())
    }

    fn answer(&self, request: &PullRequest) -> Option<Pulled> {
        let mut state = self.state();
        let log = state.logs.get_mut(&request.queue)?;
        let (asked, min, max) = (request.offset.get(), log.min, log.max);
        let told = |outcome, messages, next: u64| Pulled {
            messages,
            next_offset: Offset::new(next),
            outcome,
            min_offset: Some(Offset::new(min)),
            max_offset: Some(Offset::new(max)),
            suggested_replica: None,
        };
        if let Some(target) = log.reset.take() {
            return Some(told(PullOutcome::Reset, vec![], target));
        }
        if asked < min || asked > max {
            return Some(told(PullOutcome::OutOfRange, vec![], if asked < min { min } else { max }));
        }
        if asked == max {
            return Some(told(PullOutcome::Empty, vec![], asked));
        }
        let wanted = (asked..max).filter(|offset| !log.hidden.contains(offset));
        let offsets: Vec<u64> = wanted.take(request.max_messages.min(32) as usize).collect();
        let Some(last) = offsets.last() else { return Some(told(PullOutcome::Filtered, vec![], max)) };
        let messages = offsets.iter().map(|offset| sized(&request.queue, *offset, log.size)).collect();
        Some(told(PullOutcome::Found, messages, last + 1))
    }

    async fn pull_once(&self, at: &Endpoint, request: &PullRequest) -> Result<Pulled> {
        self.state().pulls.entry(request.queue.clone()).or_default().push(request.offset.get());
        let until = clock::now() + request.suspend.unwrap_or_default();
        loop {
            let arrived = self.arrived.notified();
            self.check_up(at, Operation::Pull)?;
            if self.state().silent.contains(at.host()) {
                std::future::pending::<()>().await;
            }
            let unknown = || Error::new(ErrorKind::NotFound, "no such queue").during(Operation::Pull);
            let pulled = self.answer(request).ok_or_else(unknown)?;
            let left = until.saturating_duration_since(clock::now());
            if pulled.outcome != PullOutcome::Empty || left.is_zero() {
                return Ok(pulled);
            }
            clock::timeout(left, arrived).await;
        }
    }
}

pub(crate) fn q(id: u32) -> MessageQueue {
    MessageQueue::new("t", "b", id)
}

/// Counts while it lives.
struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Pulling for Fake {
    fn pull<'a>(&'a self, at: &'a Endpoint, request: &'a PullRequest) -> Call<'a, Pulled> {
        Box::pin(async move {
            let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            let _counted = Counted(&self.under_way);
            self.most_under_way.fetch_max(now, Ordering::SeqCst);
            self.pull_once(at, request).await
        })
    }

    fn committed<'a>(&'a self, at: &'a Endpoint, _: &'a Arc<str>, queue: &'a MessageQueue) -> Call<'a, Option<Offset>> {
        Box::pin(async move {
            self.check_up(at, Operation::QueryOffset)?;
            Ok(self.committed(queue).map(Offset::new))
        })
    }

    fn commit<'a>(&'a self, at: &'a Endpoint, _: &'a Arc<str>, queue: &'a MessageQueue, next: Offset) -> Call<'a, ()> {
        Box::pin(async move {
            while self.state().mute.contains(queue) {
                self.arrived.notified().await;
            }
            self.check_up(at, Operation::CommitOffset)?;
            assert_ne!(at.port(), SLAVE, "a slave keeps no offsets");
            let mut state = self.state();
            state.commits.push((queue.clone(), next.get()));
            state.logs.entry(queue.clone()).or_default().committed = Some(next.get());
            Ok(())
        })
    }

    fn bound<'a>(&'a self, at: &'a Endpoint, queue: &'a MessageQueue, bound: QueueBound) -> Call<'a, Offset> {
        Box::pin(async move {
            let now = self.questions.fetch_add(1, Ordering::SeqCst) + 1;
            let _counted = Counted(&self.questions);
            self.most_questions.fetch_max(now, Ordering::SeqCst);
            clock::sleep(Duration::from_millis(1)).await;
            self.check_up(at, Operation::QueryOffset)?;
            // As on a real server: 0 for what does not exist.
            let log = self.state().logs.get(queue).cloned().unwrap_or_default();
            Ok(Offset::new(if bound == QueueBound::Min { log.min } else { log.max }))
        })
    }

    fn offset_at<'a>(&'a self, at: &'a Endpoint, queue: &'a MessageQueue, time: SystemTime) -> Call<'a, Offset> {
        Box::pin(async move {
            self.check_up(at, Operation::QueryOffset)?;
            let log = self.state().logs.get(queue).cloned().unwrap_or_default();
            let first = (log.min..log.max).find(|offset| stored_at(*offset) >= time);
            let pointed = first.unwrap_or(log.max) + log.index_is_late_by;
            Ok(Offset::new(pointed.saturating_sub(log.index_is_early_by).clamp(log.min, log.max)))
        })
    }

    fn check_filter<'a>(
        &'a self,
        at: &'a Endpoint,
        _: &'a Arc<str>,
        _: &'a Arc<str>,
        filter: &'a Filter,
    ) -> Call<'a, ()> {
        Box::pin(async move {
            self.check_up(at, Operation::CheckFilter)?;
            if self.state().bad_filter {
                let text = format!("`{}` does not parse", filter.expression());
                return Err(Error::new(ErrorKind::InvalidArgument, text).during(Operation::CheckFilter));
            }
            Ok(())
        })
    }

    fn members<'a>(&'a self, _: &'a Endpoint, _: &'a Arc<str>) -> Call<'a, Vec<Arc<str>>> {
        Box::pin(async move { Ok(self.state().members.clone()) })
    }

    fn topics<'a>(&'a self, _: &'a Endpoint) -> Call<'a, BTreeSet<Arc<str>>> {
        Box::pin(async { Ok(BTreeSet::new()) })
    }

    fn group_profile<'a>(&'a self, _: &'a Endpoint, _: &'a Arc<str>) -> Call<'a, Option<GroupProfile>> {
        Box::pin(async { Ok(None) })
    }
}

impl Brokers for Fake {
    fn route<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, Arc<Route>> {
        let route = self.known_route(topic).ok_or_else(|| Error::new(ErrorKind::NotFound, "no such topic"));
        Box::pin(async move { route })
    }

    fn fresh_route<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, Arc<Route>> {
        // The name server knows what happened before the cache does.
        if std::mem::take(&mut self.state().master_is_back) {
            self.state().without_master.clear();
        }
        Brokers::route(self, topic)
    }

    fn known_route(&self, topic: &str) -> Option<Arc<Route>> {
        let state = self.state();
        let queues: Vec<RouteQueue> = state
            .logs
            .keys()
            .filter(|queue| queue.topic() == topic)
            .map(|queue| RouteQueue {
                broker: queue.broker().into(),
                id: i32::try_from(queue.id()).unwrap(),
                permission: Permission::ReadWrite,
                endpoints: [Endpoint::new(queue.broker(), 10911)].into(),
                replicas: [if state.without_master.contains(queue.broker()) {
                    (1, Endpoint::new(queue.broker(), SLAVE))
                } else {
                    (0, Endpoint::new(queue.broker(), 10911))
                }]
                .into(),
                accepts: Vec::new(),
            })
            .collect();
        (!queues.is_empty()).then(|| Arc::new(Route { topic: topic.into(), queues }))
    }

    fn wire(&self) -> &dyn Pulling {
        self
    }

    fn choose(&self, offered: &[Endpoint]) -> Endpoint {
        offered[0].clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn handshake(&self, _: &Endpoint) -> Option<u64> {
        Some(0)
    }

    fn report(&self, _: &Endpoint, _: &Error) {}

    fn tasks(&self) -> &TaskGroup {
        &self.tasks
    }

    fn close(&self, deadline: Duration) -> BoxFuture<'_, bool> {
        self.closed.store(true, Ordering::SeqCst);
        Box::pin(async move { self.tasks.shutdown(deadline).await })
    }

    fn leave(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.tasks.cancel();
    }
}

impl Directory for Fake {
    fn route<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, Arc<Route>> {
        Brokers::route(self, topic)
    }

    fn members<'a>(&'a self, at: &'a Endpoint, group: &'a Arc<str>) -> Call<'a, Vec<Arc<str>>> {
        Pulling::members(self, at, group)
    }

    fn topics(&self) -> Call<'_, BTreeSet<Arc<str>>> {
        Box::pin(async { Ok(BTreeSet::new()) })
    }

    fn subscribe(&self, _: Vec<Subscription>) {}

    fn route_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn member_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
