//! Keeps an assignment up to date and publishes it: a task, because members come and go while nobody polls.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::assignment::holding::{Assignment, Epochs};
use crate::assignment::round::{APART, Learnt, Outcome, SOON, Standing, judge, keep_while_away, whom_to_ask};
use crate::assignment::share::Share;
use crate::assignment::strategy::{Allocation, AssignmentStrategy, allocate};
use crate::assignment::topics::Topics;
use crate::clock;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{Endpoint, MessageQueue, Route, Subscription};
use crate::task::TaskGroup;
use crate::transport::Call;

/// Whom the watch asks.
pub(crate) trait Directory: Send + Sync {
    /// The route of a topic, from a cache that is kept fresh.
    fn route<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, Arc<Route>>;

    /// The client ids of a group's members, as one broker knows them.
    fn members<'a>(&'a self, at: &'a Endpoint, group: &'a Arc<str>) -> Call<'a, Vec<Arc<str>>>;

    /// The names of all topics but those of clusters and brokers.
    fn topics(&self) -> Call<'_, BTreeSet<Arc<str>>>;

    /// Tells the brokers, from the next heartbeat on, what this client subscribes to.
    fn subscribe(&self, subscriptions: Vec<Subscription>);

    /// Ticks when a route changed.
    fn route_changes(&self) -> watch::Receiver<u64>;

    /// Ticks when a broker said that the members of the group changed (NOTIFY 40), and when one has taken this client's
    /// first heartbeat.
    fn member_changes(&self) -> watch::Receiver<u64>;
}

/// Which queues a consumer wants.
pub(crate) enum Rule {
    /// Its share within the group, topic by topic.
    Group { group: Arc<str>, me: Arc<str>, strategy: Arc<dyn AssignmentStrategy> },
    /// Its share among numbered tasks.
    Share(Share),
}

/// What is held, and why.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) assignment: Assignment,
    pub(crate) standing: Standing,
}

/// An assignment as it is now, and as it becomes.
#[derive(Debug, Clone)]
pub(crate) struct Watch(watch::Receiver<Held>);

impl Watch {
    /// Queues that the user chose: they never change, and nobody is asked.
    pub(crate) fn fixed(queues: &[MessageQueue]) -> Self {
        let wanted = queues.iter().cloned().collect();
        let assignment = Epochs::default().advance(&Assignment::default(), wanted);
        Self(watch::channel(Held { assignment, standing: Standing::Settled }).1)
    }

    /// Begins a task that keeps the assignment until `tasks` end or every `Watch` is gone.
    pub(crate) fn spawn(tasks: &TaskGroup, directory: Arc<dyn Directory>, topics: Arc<Topics>, rule: Rule) -> Self {
        let (held, seen) = watch::channel(Held { assignment: Assignment::default(), standing: Standing::Joining });
        let first = fastrand::usize(..);
        let relist = topics.refresh().map(|refresh| clock::now() + refresh);
        let keeper = Keeper { directory, topics, rule, held, epochs: Epochs::default(), first, relist };
        tasks.spawn("assignment", keeper.run());
        Self(seen)
    }

    /// What is held now.
    pub(crate) fn held(&self) -> Held {
        self.0.borrow().clone()
    }

    /// The next news; `None` when the task has ended. Cancel safe.
    pub(crate) async fn changed(&mut self) -> Option<Held> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }

    /// The first assignment that a round came to, within `limit`.
    ///
    /// # Errors
    /// What stands in the way for good (the wire has no member lists, no right to ask), or `Timeout` with the last failure.
    pub(crate) async fn settled(&mut self, limit: Duration) -> Result<Assignment> {
        let decided = async { self.0.wait_for(Held::is_decided).await.map(|held| held.clone()) };
        let Some(decided) = clock::timeout(limit, decided).await else {
            return Err(late(limit, &self.held().standing));
        };
        let decided = decided.map_err(|_| Error::closed("consumer"))?;
        match decided.standing {
            Standing::Stale(error) => Err(error),
            _ => Ok(decided.assignment),
        }
    }
}

impl Held {
    fn is_decided(&self) -> bool {
        match &self.standing {
            Standing::Settled | Standing::Idle { .. } => true,
            Standing::Joining => false,
            Standing::Stale(error) => !error.kind().is_transient() && error.kind() != ErrorKind::NotFound,
        }
    }
}

fn late(limit: Duration, standing: &Standing) -> Error {
    let text = |why| format!("no assignment within {limit:?}: {why}");
    match standing {
        Standing::Stale(cause) => {
            let error = Error::new(ErrorKind::Timeout, text("the brokers could not be asked for the group's members"));
            error.during(Operation::QueryGroup).with_source(cause.clone())
        }
        _ => Error::new(ErrorKind::Timeout, text("the brokers do not list this client among the group's members"))
            .during(Operation::QueryGroup),
    }
}

/// The task.
struct Keeper {
    directory: Arc<dyn Directory>,
    topics: Arc<Topics>,
    /// When to look which topics there are: the list that the consumer was built by is good for a while.
    relist: Option<Instant>,
    rule: Rule,
    held: watch::Sender<Held>,
    epochs: Epochs,
    /// The place of the broker to ask first.
    first: usize,
}

/// The member lists of one round: a broker is asked once, however many topics it serves.
type Lists = HashMap<Endpoint, Result<Vec<Arc<str>>>>;

impl Keeper {
    async fn run(mut self) {
        let mut routes = self.directory.route_changes();
        let mut members = self.directory.member_changes();
        loop {
            routes.mark_unchanged();
            members.mark_unchanged();
            self.look_for_topics().await;
            let next = self.round().await;
            let earliest = clock::now() + APART;
            let next = self.relist.map_or(next, |at| next.min(at.saturating_duration_since(clock::now())));
            let changed = tokio::select! {
                () = self.held.closed() => return,
                () = clock::sleep(next) => Ok(()),
                changed = routes.changed() => changed,
                changed = members.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            clock::sleep(earliest.saturating_duration_since(clock::now())).await;
        }
    }

    /// If it is time to. A list that cannot be had is asked for again soon; until then the topics are as they were.
    async fn look_for_topics(&mut self) {
        let due = self.relist.is_some_and(|at| at <= clock::now());
        let Some(refresh) = self.topics.refresh().filter(|_| due) else { return };
        let wait = match self.directory.topics().await {
            Ok(listed) => {
                if self.topics.learn(&listed) {
                    self.directory.subscribe(self.topics.subscriptions());
                }
                refresh
            }
            Err(error) => {
                tracing::debug!(%error, "which topics there are could not be asked");
                refresh.min(SOON)
            }
        };
        self.relist = Some(clock::now() + wait);
    }

    /// Asks, decides, publishes; how long the decision holds.
    async fn round(&mut self) -> Duration {
        let mut learnt = BTreeMap::new();
        let mut lists = Lists::new();
        for topic in self.topics.names() {
            let of_topic = self.learn(&topic, &mut lists).await;
            learnt.insert(topic, of_topic);
        }
        if learnt.values().any(|learnt| matches!(learnt, Learnt::Failed(_))) {
            self.first = self.first.wrapping_add(1);
        }
        let outcome = judge(&self.held.borrow().assignment, &learnt);
        let next = outcome.next();
        self.publish(outcome);
        next
    }

    async fn learn(&self, topic: &Arc<str>, lists: &mut Lists) -> Learnt {
        let route = match self.directory.route(topic).await {
            Ok(route) => route,
            Err(error) => return Learnt::Failed(error),
        };
        match &self.rule {
            Rule::Share(share) => self.by_number(*share, &route),
            Rule::Group { group, me, strategy } => {
                let members = match self.members(group, me, &route, lists).await {
                    Ok(members) => members,
                    Err(error) => return Learnt::Failed(error),
                };
                let queues: BTreeSet<MessageQueue> = route.readable().collect();
                let counts = (members.len(), queues.len());
                match allocate(&**strategy, me, &members, queues) {
                    Ok(allocation) => Learnt::Shared { allocation, members: counts.0, queues: counts.1 },
                    Err(error) => Learnt::Failed(error.in_group(Arc::clone(group)).on_topic(Arc::clone(topic))),
                }
            }
        }
    }

    fn by_number(&self, share: Share, route: &Route) -> Learnt {
        let queues: Vec<MessageQueue> = route.readable().collect();
        let count = queues.len();
        let mut mine: BTreeSet<MessageQueue> = queues.into_iter().filter(|queue| share.takes(queue)).collect();
        keep_while_away(&self.held.borrow().assignment, route, &mut mine);
        Learnt::Shared { allocation: Allocation::Mine(mine), members: share.tasks(), queues: count }
    }

    /// A list with this client in it, or if no broker has one the last list without it.
    ///
    /// # Errors
    /// No broker could tell. A broker that knows nobody of the group has just started: nobody shares by such a list.
    async fn members(&self, group: &Arc<str>, me: &str, route: &Route, lists: &mut Lists) -> Result<Vec<Arc<str>>> {
        let mut without_me = Err(nobody_to_ask(route));
        for at in whom_to_ask(route, self.first) {
            if !lists.contains_key(&at) {
                let list = self.directory.members(&at, group).await;
                lists.insert(at.clone(), list);
            }
            match &lists[&at] {
                Ok(list) if list.iter().any(|id| **id == *me) => return Ok(list.clone()),
                Ok(list) if list.is_empty() => without_me = without_me.map_err(|_| knows_nobody(&at, group)),
                Ok(list) => without_me = Ok(list.clone()),
                Err(error) => without_me = without_me.map_err(|_| error.clone()),
            }
        }
        without_me
    }

    /// Tells those who watch, if there is anything new to tell.
    fn publish(&mut self, outcome: Outcome) {
        let epochs = &mut self.epochs;
        self.held.send_if_modified(|held| {
            let next = epochs.advance(&held.assignment, outcome.wanted);
            let as_before = held.standing.is_same(&outcome.standing);
            if !as_before {
                outcome.standing.log();
            }
            let same = next == held.assignment && as_before;
            held.assignment = next;
            held.standing = outcome.standing;
            !same
        });
    }
}

fn nobody_to_ask(route: &Route) -> Error {
    let text = "the topic's route names no broker that can be read: they may be away";
    Error::new(ErrorKind::Unavailable, text).during(Operation::QueryGroup).on_topic(Arc::clone(&route.topic))
}

fn knows_nobody(at: &Endpoint, group: &Arc<str>) -> Error {
    let text = "the broker knows no member of the group: it has just started, or has not taken our heartbeat yet";
    Error::new(ErrorKind::Unavailable, text).during(Operation::QueryGroup).in_group(Arc::clone(group)).at(at)
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group { group, me, .. } => {
                f.debug_struct("Group").field("group", group).field("me", me).finish_non_exhaustive()
            }
            Self::Share(share) => f.debug_tuple("Share").field(share).finish(),
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
