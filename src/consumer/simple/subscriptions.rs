//! Which topics a consumer reads, through which filter.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::consumer::simple::planner::SourceKey;
use crate::model::{Filter, Subscription};
use crate::session::Session;

/// The subscriptions of one consumer; they may change while it runs.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    filters: Mutex<BTreeMap<Arc<str>, Filter>>,
    /// Counts the changes, so that a look at every message costs no lock.
    version: AtomicU64,
}

impl Subscriptions {
    pub(crate) fn new(subscriptions: impl IntoIterator<Item = Subscription>) -> Self {
        let filters = subscriptions.into_iter().map(|one| (one.topic, one.filter)).collect();
        Self { filters: Mutex::new(filters), version: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Filter>> {
        self.filters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn filter(&self, topic: &str) -> Option<Filter> {
        self.lock().get(topic).cloned()
    }

    /// Changes whenever a subscription does.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn topics(&self) -> Vec<Arc<str>> {
        self.lock().keys().cloned().collect()
    }

    pub(crate) fn all(&self) -> Vec<Subscription> {
        self.lock()
            .iter()
            .map(|(topic, filter)| Subscription { topic: Arc::clone(topic), filter: filter.clone() })
            .collect()
    }

    /// Adds or changes one; the filter that was there before.
    pub(crate) fn insert(&self, subscription: Subscription) -> Option<Filter> {
        let before = self.lock().insert(subscription.topic, subscription.filter);
        self.version.fetch_add(1, Ordering::Release);
        before
    }

    pub(crate) fn remove(&self, topic: &str) -> bool {
        let was_there = self.lock().remove(topic).is_some();
        self.version.fetch_add(1, Ordering::Release);
        was_there
    }

    /// The topics on the brokers that the session knows.
    pub(crate) fn sources(&self, session: &Session) -> Vec<SourceKey> {
        let topics = self.topics();
        let routes = topics.iter().filter_map(|topic| session.known_route(topic));
        routes
            .flat_map(|route| {
                let topic = Arc::clone(&route.topic);
                let brokers = route.brokers(|permission| permission.readable());
                brokers.into_iter().map(move |(broker, _)| SourceKey { topic: Arc::clone(&topic), broker })
            })
            .collect()
    }
}
