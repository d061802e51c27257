use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::*;
use crate::assignment::round::{CALM, SOON};
use crate::assignment::strategy::{Average, Circle};
use crate::assignment::topics::Matching;
use crate::model::{Filter, Permission, RouteQueue};

/// Brokers that know topics and members; what a test writes here is what the watch is told.
struct Brokers {
    routes: Mutex<HashMap<Arc<str>, Result<Arc<Route>>>>,
    lists: Mutex<HashMap<Endpoint, Result<Vec<Arc<str>>>>>,
    changes: watch::Sender<u64>,
    asked: AtomicUsize,
    subscribed: Mutex<Vec<String>>,
}

impl Directory for Brokers {
    fn route<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, Arc<Route>> {
        let route = self.routes.lock().unwrap().get(topic).cloned();
        Box::pin(async move { route.unwrap_or_else(|| Err(away())) })
    }

    fn members<'a>(&'a self, at: &'a Endpoint, _: &'a Arc<str>) -> Call<'a, Vec<Arc<str>>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let list = self.lists.lock().unwrap().get(at).cloned();
        Box::pin(async move { list.unwrap_or_else(|| Err(away())) })
    }

    fn topics(&self) -> Call<'_, BTreeSet<Arc<str>>> {
        let listed = self.routes.lock().unwrap().keys().cloned().collect();
        Box::pin(async move { Ok(listed) })
    }

    fn subscribe(&self, subscriptions: Vec<Subscription>) {
        *self.subscribed.lock().unwrap() = subscriptions.iter().map(|one| one.topic.to_string()).collect();
    }

    fn route_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn member_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Brokers {
    fn new(topics: &[(&str, &[(&str, u32)])]) -> Arc<Self> {
        let brokers = Self {
            routes: Mutex::default(),
            lists: Mutex::default(),
            changes: watch::Sender::new(0),
            asked: AtomicUsize::new(0),
            subscribed: Mutex::default(),
        };
        topics.iter().for_each(|(topic, queues)| brokers.set_route(topic, queues));
        Arc::new(brokers)
    }

    /// A topic with so many queues on each broker.
    fn set_route(&self, topic: &str, brokers: &[(&str, u32)]) {
        let queue = |broker: &str, id: u32| RouteQueue {
            broker: broker.into(),
            id: id.cast_signed(),
            permission: Permission::ReadWrite,
            endpoints: [Endpoint::new(broker, 1)].into(),
            replicas: [(0, Endpoint::new(broker, 1))].into(),
            accepts: Vec::new(),
        };
        let queues = brokers.iter().flat_map(|(broker, count)| (0..*count).map(move |id| queue(broker, id))).collect();
        let route = Route { topic: topic.into(), queues };
        self.routes.lock().unwrap().insert(topic.into(), Ok(Arc::new(route)));
    }

    fn lists(&self) -> MutexGuard<'_, HashMap<Endpoint, Result<Vec<Arc<str>>>>> {
        self.lists.lock().unwrap()
    }

    fn list(&self, broker: &str, members: &[&str]) {
        self.lists().insert(Endpoint::new(broker, 1), Ok(members.iter().map(|id| Arc::from(*id)).collect()));
    }

    fn fail(&self, broker: &str) {
        self.lists().insert(Endpoint::new(broker, 1), Err(away()));
    }

    /// NOTIFY 40, a new route, or a heartbeat to a new broker.
    fn tick(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

fn away() -> Error {
    Error::new(ErrorKind::Unavailable, "away")
}

fn watch(tasks: &TaskGroup, brokers: &Arc<Brokers>, topics: &[&str], rule: Rule) -> Watch {
    let directory: Arc<dyn Directory> = Arc::<Brokers>::clone(brokers);
    let named = topics.iter().map(|topic| Subscription { topic: Arc::from(*topic), filter: Filter::all() });
    Watch::spawn(tasks, directory, Arc::new(Topics::new(named, None)), rule)
}

/// A watch over the topics that begin so, looked for every `SOON`.
fn watch_matching(tasks: &TaskGroup, brokers: &Arc<Brokers>, start: &'static str, rule: Rule) -> Watch {
    let directory: Arc<dyn Directory> = Arc::<Brokers>::clone(brokers);
    let is_wanted = Arc::new(move |topic: &str| topic.starts_with(start));
    let matching = Matching { is_wanted, filter: Filter::all(), refresh: SOON };
    Watch::spawn(tasks, directory, Arc::new(Topics::new([], Some(matching))), rule)
}

fn member(me: &str) -> Rule {
    Rule::Group { group: "g".into(), me: me.into(), strategy: Arc::new(Average) }
}

/// `topic@broker:id#epoch`, joined.
fn shown(assignment: &Assignment) -> String {
    assignment.iter().map(|(queue, epoch)| format!("{queue}#{}", epoch.get())).collect::<Vec<_>>().join(" ")
}

async fn next(watch: &mut Watch) -> (String, Standing) {
    let held = clock::timeout(Duration::from_secs(60), watch.changed()).await.expect("news").expect("a task");
    (shown(&held.assignment), held.standing)
}

/// Long enough for a round, and shorter than any timer of the watch.
async fn a_moment() {
    clock::sleep(APART + Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn topics_that_match_are_shared_from_the_next_look_on_and_the_brokers_are_told_of_them() {
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("bills", &[("a", 4)])]));
    brokers.list("a", &["me", "other"]);
    let mut watch = watch_matching(&tasks, &brokers, "orders", member("me"));
    let (held, standing) = next(&mut watch).await;
    assert!(held.is_empty() && matches!(standing, Standing::Idle { .. }), "no topic matches: {held} {standing:?}");
    brokers.set_route("orders-eu", &[("a", 4)]);
    assert_eq!(next(&mut watch).await.0, "orders-eu@a:0#0 orders-eu@a:1#0");
    assert_eq!(*brokers.subscribed.lock().unwrap(), ["orders-eu"]);
    brokers.set_route("orders-us", &[("a", 2)]);
    assert_eq!(next(&mut watch).await.0, "orders-eu@a:0#0 orders-eu@a:1#0 orders-us@a:0#0");
    brokers.routes.lock().unwrap().remove("orders-eu");
    let (mut held, mut looks) = (String::new(), 0);
    while !held.starts_with("orders-us") {
        (held, looks) = (next(&mut watch).await.0, looks + 1);
        assert!(looks < 10, "a topic that is gone is let go");
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_holds_its_share_as_soon_as_the_broker_lists_it() {
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("t", &[("a", 4)])]));
    brokers.list("a", &["other"]);
    let mut me = watch(&tasks, &brokers, &["t"], member("me"));
    a_moment().await;
    assert!(me.held().assignment.is_empty() && matches!(me.held().standing, Standing::Joining));
    brokers.list("a", &["other", "me"]);
    brokers.tick();
    assert_eq!(next(&mut me).await.0, "t@a:0#0 t@a:1#0");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_not_listed_asks_again_every_second() {
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("t", &[("a", 2)])]));
    brokers.list("a", &["other"]);
    let mut me = watch(&tasks, &brokers, &["t"], member("me"));
    clock::sleep(SOON * 5 + SOON / 2).await;
    assert_eq!(brokers.asked(), 6);
    brokers.list("a", &["me", "other"]);
    let before = clock::now();
    assert_eq!(next(&mut me).await.0, "t@a:0#0");
    assert!(clock::now() - before <= SOON);
}

#[tokio::test(start_paused = true)]
async fn a_member_whom_the_broker_no_longer_lists_gives_all_up_and_begins_a_new_epoch() {
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("t", &[("a", 1)])]));
    brokers.list("a", &["me"]);
    let mut me = watch(&tasks, &brokers, &["t"], member("me"));
    assert_eq!(next(&mut me).await.0, "t@a:0#0");
    brokers.list("a", &["other"]);
    brokers.tick();
    assert_eq!(next(&mut me).await.0, "", "the others have shared out without it");
    brokers.list("a", &["me", "other"]);
    assert_eq!(next(&mut me).await.0, "t@a:0#1");
}

#[tokio::test(start_paused = true)]
async fn a_failed_list_keeps_the_assignment_and_is_told_once() {
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("t", &[("a", 2)])]));
    brokers.list("a", &["me"]);
    let mut me = watch(&tasks, &brokers, &["t"], member("me"));
    assert_eq!(next(&mut me).await.0, "t@a:0#0 t@a:1#0");
    brokers.fail("a");
    brokers.tick();
    let (held, standing) = next(&mut me).await;
    assert_eq!(held, "t@a:0#0 t@a:1#0");
    assert!(matches!(standing, Standing::Stale(_)), "{standing:?}");
    assert!(clock::timeout(SOON * 9, me.changed()).await.is_none(), "a failure that goes on is no news");
    brokers.list("a", &["me", "other"]);
    assert_eq!(next(&mut me).await.0, "t@a:0#0");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_knows_nobody_does_not_take_queues_away() {
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("t", &[("a", 2)])]));
    brokers.list("a", &["me"]);
    let mut me = watch(&tasks, &brokers, &["t"], member("me"));
    assert_eq!(next(&mut me).await.0, "t@a:0#0 t@a:1#0");
    brokers.list("a", &[]);
    brokers.tick();
    let (held, standing) = next(&mut me).await;
    assert_eq!(held, "t@a:0#0 t@a:1#0");
    assert!(format!("{standing:?}").contains("has just started"), "{standing:?}");
}

#[tokio::test(start_paused = true)]
async fn p17_when_one_broker_does_not_answer_another_is_asked_in_the_same_round() {
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("t", &[("a", 1), ("b", 1)])]));
    brokers.fail("a");
    brokers.list("b", &["me", "other"]);
    let mut me = watch(&tasks, &brokers, &["t"], member("me"));
    let begun = clock::now();
    assert_eq!(next(&mut me).await.0, "t@a:0#0");
    assert!(clock::now() - begun < SOON);
}

#[tokio::test(start_paused = true)]
async fn a_broker_is_asked_once_a_round_however_many_topics_it_serves() {
    let topics = ["t1", "t2", "t3"];
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&topics.map(|topic| (topic, &[("a", 1)][..]))));
    brokers.list("a", &["me"]);
    let mut me = watch(&tasks, &brokers, &topics, member("me"));
    assert_eq!(next(&mut me).await.0, "t1@a:0#0 t2@a:0#0 t3@a:0#0");
    assert_eq!(brokers.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_told_is_found_within_twenty_seconds() {
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("t", &[("a", 2)])]));
    brokers.list("a", &["me", "other"]);
    let mut me = watch(&tasks, &brokers, &["t"], member("me"));
    assert_eq!(next(&mut me).await.0, "t@a:0#0");
    brokers.list("a", &["me"]);
    let before = clock::now();
    assert_eq!(next(&mut me).await.0, "t@a:0#0 t@a:1#0");
    assert!(clock::now() - before <= CALM && clock::now() - before > SOON);
}

#[tokio::test(start_paused = true)]
async fn p11_new_queues_and_new_brokers_are_discovered() {
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("t", &[("a", 1)])]));
    brokers.list("a", &["me"]);
    let mut me = watch(&tasks, &brokers, &["t"], member("me"));
    assert_eq!(next(&mut me).await.0, "t@a:0#0");
    brokers.set_route("t", &[("a", 2), ("b", 1)]);
    brokers.tick();
    assert_eq!(next(&mut me).await.0, "t@a:0#0 t@a:1#0 t@b:0#0", "a queue that stays keeps its epoch");
}

#[tokio::test(start_paused = true)]
async fn p19_a_member_beyond_the_queues_is_told_that_it_is_idle_and_takes_over_when_another_goes() {
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("t", &[("a", 2)])]));
    brokers.list("a", &["m1", "m2", "m3"]);
    let mut me = watch(&tasks, &brokers, &["t"], member("m3"));
    let (held, standing) = next(&mut me).await;
    assert_eq!(held, "");
    assert!(matches!(standing, Standing::Idle { members: 3, queues: 2 }), "{standing:?}");
    assert!(me.settled(SOON).await.expect("idle is settled").is_empty());
    brokers.list("a", &["m1", "m3"]);
    brokers.tick();
    assert_eq!(next(&mut me).await.0, "t@a:1#0");
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_notifications_is_a_few_rounds() {
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("t", &[("a", 1)])]));
    brokers.list("a", &["me"]);
    let mut me = watch(&tasks, &brokers, &["t"], member("me"));
    next(&mut me).await;
    brokers.asked();
    for _ in 0..200 {
        brokers.tick();
        clock::sleep(Duration::from_millis(5)).await;
    }
    let asked = brokers.asked();
    assert!((4..=6).contains(&asked), "{asked} rounds in a second");
}

#[tokio::test(start_paused = true)]
async fn numbered_tasks_read_every_queue_once_and_ask_nobody_for_members() {
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("t", &[("a", 5), ("b", 3)])]));
    let mut watches: Vec<Watch> =
        (0..3).map(|index| watch(&tasks, &brokers, &["t"], Rule::Share(Share::new(index, 3).unwrap()))).collect();
    let mut all = Vec::new();
    for watch in &mut watches {
        all.extend(watch.settled(SOON).await.unwrap().iter().map(|(queue, _)| queue.clone()));
    }
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (8, 8));
    brokers.set_route("t", &[("a", 5)]);
    brokers.tick();
    a_moment().await;
    let held: usize = watches.iter().map(|watch| watch.held().assignment.len()).sum();
    assert_eq!((held, brokers.asked()), (8, 0), "the queues of a broker that is away are kept");
}

#[tokio::test(start_paused = true)]
async fn an_assignment_that_cannot_be_says_why() {
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("t", &[("a", 1)])]));
    let limit = Duration::from_secs(5);
    let late = watch(&tasks, &brokers, &["t"], member("me")).settled(limit).await.expect_err("nobody answers");
    assert_eq!(late.kind(), ErrorKind::Timeout);
    assert!(std::error::Error::source(&late).is_some_and(|cause| cause.to_string().contains("away")), "{late}");
    brokers.list("a", &["other"]);
    let unlisted = watch(&tasks, &brokers, &["t"], member("me")).settled(limit).await.expect_err("not listed");
    assert!(unlisted.to_string().contains("do not list this client"), "{unlisted}");
    let refused = Error::new(ErrorKind::Unsupported, "this wire has no member lists");
    brokers.lists().insert(Endpoint::new("a", 1), Err(refused));
    let begun = clock::now();
    let refused = watch(&tasks, &brokers, &["t"], member("me")).settled(limit).await.expect_err("unsupported");
    assert_eq!((refused.kind(), clock::now() - begun < SOON), (ErrorKind::Unsupported, true));
}

#[tokio::test(start_paused = true)]
async fn chosen_queues_are_there_at_once_and_for_ever() {
    let queues = [MessageQueue::new("t", "a", 1), MessageQueue::new("u", "b", 0)];
    let mut fixed = Watch::fixed(&queues);
    assert_eq!(shown(&fixed.settled(Duration::ZERO).await.unwrap()), "t@a:1#0 u@b:0#0");
    assert!(fixed.changed().await.is_none(), "no news will come");
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_who_watches() {
    let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("t", &[("a", 1)])]));
    brokers.list("a", &["me"]);
    let me = watch(&tasks, &brokers, &["t"], member("me"));
    drop(me.clone());
    a_moment().await;
    drop(me);
    assert!(tasks.join(SOON).await);
}

/// A group as one broker after the other hears of its joins and leaves: whatever the order, once all is quiet every queue
/// has one reader.
#[tokio::test(start_paused = true)]
async fn once_settled_no_queue_is_read_by_two_and_none_by_nobody() {
    for seed in 0..20_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (tasks, brokers) = (TaskGroup::new(), Brokers::new(&[("t", &[("a", 5), ("b", 4)]), ("u", &[("b", 3)])]));
        let ids: Vec<String> = (0..6).map(|n| format!("10.0.0.{n}@{}", random.u16(..))).collect();
        let mut members: BTreeMap<&str, Watch> = BTreeMap::new();
        for _ in 0..30 {
            let id = &*ids[random.usize(..ids.len())];
            if members.remove(id).is_none() {
                let strategy = Arc::new(Circle);
                let rule = Rule::Group { group: "g".into(), me: id.into(), strategy };
                members.insert(id, watch(&tasks, &brokers, &["t", "u"], rule));
            }
            for broker in ["a", "b"] {
                clock::sleep(Duration::from_millis(random.u64(0..900))).await;
                let mut list: Vec<&str> = members.keys().copied().collect();
                random.shuffle(&mut list);
                if random.u8(..) < 32 {
                    brokers.fail(broker)
                } else {
                    brokers.list(broker, &list)
                }
                if random.bool() {
                    brokers.tick();
                }
            }
        }
        let list: Vec<&str> = members.keys().copied().collect();
        ["a", "b"].iter().for_each(|broker| brokers.list(broker, &list));
        clock::sleep(CALM + SOON).await;
        let read: Vec<MessageQueue> = members
            .values()
            .flat_map(|me| me.held().assignment.iter().map(|(q, _)| q.clone()).collect::<Vec<_>>())
            .collect();
        let wanted = if members.is_empty() { 0 } else { 12 };
        assert_eq!((read.len(), read.iter().collect::<BTreeSet<_>>().len()), (wanted, wanted), "seed {seed}");
    }
}
