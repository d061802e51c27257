//! Which topics a consumer reads, through which filter.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::consumer::simple::planner::SourceKey;
use crate::model::{Filter, Subscription};
use crate::session::Session;

/// The subscriptions of one consumer; they may change while it runs.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Mutex<BTreeMap<Arc<str>, Filter>>);

impl Subscriptions {
    pub(crate) fn new(subscriptions: impl IntoIterator<Item = Subscription>) -> Self {
        Self(Mutex::new(subscriptions.into_iter().map(|one| (one.topic, one.filter)).collect()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Filter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn filter(&self, topic: &str) -> Option<Filter> {
        self.lock().get(topic).cloned()
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
        self.lock().insert(subscription.topic, subscription.filter)
    }

    pub(crate) fn remove(&self, topic: &str) -> bool {
        self.lock().remove(topic).is_some()
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
