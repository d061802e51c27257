//! The topics of a consumer: those that it names, and those that a test of its user picks from the name server's list.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::{Filter, Subscription};

/// A name server that has just started lists nothing until the brokers have told it: a topic is gone when it is missing in
/// so many lists in a row.
const MISSES: u32 = 3;
/// Topics that Apache's servers keep for themselves, beside those of its clusters and brokers.
const RESERVED: [&str; 7] = [
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "BenchmarkTest",
    "OFFSET_MOVED_EVENT",
    "SELF_TEST_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "DefaultHeartBeatSyncerTopic",
];

/// A test that picks topics by their names.
#[derive(Clone)]
pub(crate) struct Matching {
    pub(crate) is_wanted: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    pub(crate) filter: Filter,
    /// How long a list of topics is good for.
    pub(crate) refresh: Duration,
}

/// What a consumer subscribes to at the moment.
pub(crate) struct Topics {
    named: BTreeMap<Arc<str>, Filter>,
    matching: Option<Matching>,
    /// The topics that matched, and in how many lists each has been missing since.
    found: Mutex<BTreeMap<Arc<str>, u32>>,
}

impl Topics {
    pub(crate) fn new(named: impl IntoIterator<Item = Subscription>, matching: Option<Matching>) -> Self {
        let named = named.into_iter().map(|one| (one.topic, one.filter)).collect();
        Self { named, matching, found: Mutex::default() }
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, u32>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often to look at the list of topics; `None` when there is nothing to look for.
    pub(crate) fn refresh(&self) -> Option<Duration> {
        self.matching.as_ref().map(|matching| matching.refresh)
    }

    /// Every topic at the moment.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.named.keys().cloned().chain(self.found().keys().cloned()).collect()
    }

    pub(crate) fn is_named(&self, topic: &str) -> bool {
        self.named.contains_key(topic)
    }

    /// Whether this topic is read, or would be if it were there.
    pub(crate) fn wants(&self, topic: &str) -> bool {
        self.is_named(topic) || self.matching.as_ref().is_some_and(|matching| (matching.is_wanted)(topic))
    }

    /// Everything that is read of a topic that nobody subscribed to: it was assigned.
    pub(crate) fn filter(&self, topic: &str) -> Filter {
        let by_test = || self.matching.as_ref().filter(|matching| (matching.is_wanted)(topic));
        let filter = self.named.get(topic).or_else(|| Some(&by_test()?.filter));
        filter.cloned().unwrap_or_else(Filter::all)
    }

    pub(crate) fn subscriptions(&self) -> Vec<Subscription> {
        let one = |topic: Arc<str>| Subscription { filter: self.filter(&topic), topic };
        self.names().into_iter().map(one).collect()
    }

    /// Learns which topics there are now. `true`: what is subscribed to is another set than before.
    pub(crate) fn learn(&self, listed: &BTreeSet<Arc<str>>) -> bool {
        let Some(matching) = &self.matching else { return false };
        let is_new = |topic: &&Arc<str>| !self.is_named(topic) && !is_reserved(topic) && (matching.is_wanted)(topic);
        let wanted: Vec<&Arc<str>> = listed.iter().filter(is_new).collect();
        let mut found = self.found();
        let before: Vec<Arc<str>> = found.keys().cloned().collect();
        found.values_mut().for_each(|misses| *misses += 1);
        found.extend(wanted.into_iter().map(|topic| (Arc::clone(topic), 0)));
        found.retain(|_, misses| *misses < MISSES);
        !found.keys().eq(&before)
    }
}

/// Retry, dead-letter and reply topics are kept for the groups and clients that they name.
fn is_reserved(topic: &str) -> bool {
    let prefixes = ["%", "rmq_sys_", "RMQ_SYS_"];
    RESERVED.contains(&topic)
        || topic.ends_with("_REPLY_TOPIC")
        || prefixes.iter().any(|start| topic.starts_with(start))
}

impl fmt::Debug for Matching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matching").field("filter", &self.filter).field("refresh", &self.refresh).finish_non_exhaustive()
    }
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics")
            .field("named", &self.named)
            .field("matching", &self.matching)
            .field("found", &self.found())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(topics: &[&str]) -> BTreeSet<Arc<str>> {
        topics.iter().map(|topic| Arc::from(*topic)).collect()
    }

    fn names(topics: &Topics) -> Vec<String> {
        let mut names: Vec<_> = topics.names().iter().map(ToString::to_string).collect();
        names.sort();
        names
    }

    fn matching(start: &'static str) -> Topics {
        let named = Subscription { topic: "orders".into(), filter: Filter::tag("paid") };
        let is_wanted = Arc::new(move |topic: &str| topic.starts_with(start));
        let refresh = Duration::from_secs(30);
        Topics::new([named], Some(Matching { is_wanted, filter: Filter::tag("eu"), refresh }))
    }

    #[test]
    fn topics_that_match_are_read_by_the_filter_of_the_test_and_named_ones_by_their_own() {
        let topics = matching("orders");
        assert!(topics.learn(&set(&["orders", "orders-eu", "bills"])));
        assert_eq!(names(&topics), ["orders", "orders-eu"]);
        let filters = ["orders", "orders-eu", "bills"].map(|topic| topics.filter(topic).expression().to_owned());
        assert_eq!(filters, ["paid", "eu", "*"]);
        assert_eq!(topics.subscriptions().len(), 2);
    }

    #[test]
    fn what_the_server_keeps_for_itself_never_matches() {
        let topics = matching("");
        let all = [
            "%RETRY%billing",
            "%DLQ%billing",
            "rmq_sys_wheel_timer",
            "RMQ_SYS_TRANS_HALF_TOPIC",
            "TBW102",
            "SCHEDULE_TOPIC_XXXX",
            "DefaultCluster_REPLY_TOPIC",
            "bills",
        ];
        topics.learn(&set(&all));
        assert_eq!(names(&topics), ["bills", "orders"]);
    }

    #[test]
    fn only_another_set_is_news() {
        let topics = matching("bills");
        assert!(!topics.learn(&set(&["other"])));
        assert!(topics.learn(&set(&["bills-1"])));
        assert!(!topics.learn(&set(&["bills-1", "other"])));
        assert!(topics.learn(&set(&["bills-1", "bills-2"])));
    }

    #[test]
    fn a_topic_is_let_go_when_three_lists_in_a_row_lack_it() {
        let topics = matching("bills");
        topics.learn(&set(&["bills"]));
        for _ in 0..5 {
            assert!(!topics.learn(&set(&[])), "a name server that has just started");
            assert!(!topics.learn(&set(&[])));
            assert!(!topics.learn(&set(&["bills"])));
        }
        let news = [(); 3].map(|()| topics.learn(&set(&[])));
        assert_eq!((news, names(&topics)), ([false, false, true], vec!["orders".to_owned()]));
    }

    #[test]
    fn without_a_test_no_list_is_looked_at() {
        let topics = Topics::new([Subscription { topic: "orders".into(), filter: Filter::all() }], None);
        assert_eq!(topics.refresh(), None);
        assert!(!topics.learn(&set(&["bills"])));
        assert_eq!(names(&topics), ["orders"]);
    }
}
