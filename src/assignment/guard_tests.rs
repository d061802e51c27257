use std::collections::HashMap;
use std::sync::Mutex;

use super::*;
use crate::model::{Filter, Permission, RouteQueue, Subscription};
use crate::transport::ConsumeKind;

/// What each address answers; an address that is not named does not answer.
#[derive(Default)]
struct Cluster {
    profiles: HashMap<Endpoint, Option<GroupProfile>>,
    topics: Vec<&'static str>,
    asked: Mutex<Vec<String>>,
}

impl GroupDirectory for Cluster {
    fn profile<'a>(&'a self, at: &'a Endpoint, _: &'a Arc<str>) -> Call<'a, Option<GroupProfile>> {
        self.asked.lock().unwrap().push(at.host().to_owned());
        let answer = self.profiles.get(at).cloned();
        Box::pin(async move { answer.ok_or_else(|| Error::new(ErrorKind::Unavailable, "away")) })
    }

    fn exists<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, bool> {
        Box::pin(async move { Ok(self.topics.contains(&&**topic)) })
    }
}

fn at(host: &str) -> Endpoint {
    Endpoint::new(host, 1)
}

/// A topic on two brokers, a with a slave.
fn route(topic: &str) -> Arc<Route> {
    let queue = |broker: &str, replicas: &[(u64, &str)]| RouteQueue {
        broker: broker.into(),
        id: 0,
        permission: Permission::ReadWrite,
        endpoints: Arc::default(),
        replicas: replicas.iter().map(|(id, host)| (*id, at(host))).collect(),
        accepts: Vec::new(),
    };
    let queues = vec![queue("a", &[(1, "slave"), (0, "a")]), queue("b", &[(0, "b")])];
    Arc::new(Route { topic: topic.into(), queues })
}

fn profile(kind: ConsumeKind) -> Option<GroupProfile> {
    let subscriptions = vec![("orders".into(), Filter::all())];
    Some(GroupProfile { consume_kind: kind, members: vec!["java".into()], subscriptions })
}

fn candidate() -> Candidate {
    let subscriptions = vec![Subscription { topic: "orders".into(), filter: Filter::all() }];
    Candidate { group: "g".into(), subscriptions, joins: true, looks: false }
}

#[tokio::test]
async fn p21_every_broker_of_the_topics_is_asked_once_and_one_that_knows_better_is_enough() {
    let profiles = HashMap::from([(at("a"), None), (at("b"), profile(ConsumeKind::Push))]);
    let cluster = Cluster { profiles, ..Cluster::default() };
    let routes = [route("orders"), route("more")];
    let error = check_group(&cluster, &candidate(), &routes).await.expect_err("a push consumer at b");
    assert_eq!(error.kind(), ErrorKind::Precondition);
    let mut asked = cluster.asked.into_inner().unwrap();
    asked.sort();
    assert_eq!(asked, ["a", "b"]);
}

#[tokio::test]
async fn a_slave_is_asked_when_the_master_is_away() {
    let profiles = HashMap::from([(at("slave"), profile(ConsumeKind::Push)), (at("b"), None)]);
    let cluster = Cluster { profiles, ..Cluster::default() };
    assert!(check_group(&cluster, &candidate(), &[route("orders")]).await.is_err());
}

#[tokio::test]
async fn when_no_broker_answers_it_is_an_error_that_may_pass() {
    let error = check_group(&Cluster::default(), &candidate(), &[route("orders")]).await.expect_err("nobody");
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn r22_traces_of_consumers_by_lease_are_warned_about() {
    let profiles = HashMap::from([(at("a"), None), (at("b"), None)]);
    for topic in ["%RETRY%g_orders", "%RETRY%g+orders"] {
        let cluster = Cluster { profiles: profiles.clone(), topics: vec!["%RETRY%g", topic], ..Cluster::default() };
        let warnings = check_group(&cluster, &candidate(), &[route("orders")]).await.expect("a hint is no refusal");
        let shown: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert!(shown.len() == 1 && shown[0].starts_with(&format!("topic {topic} exists")), "{shown:?}");
    }
}
