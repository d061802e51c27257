use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Made by Java's own classes (rocketmq-client 5.5.0): each line has members and queues in a random order, and for each
/// strategy the owner of each queue as its place among the members; -1 is nobody, which happens only where an id is listed
/// twice. Java sorted both lists first, as its rebalancing does.
const JAVA: &str = include_str!("strategy/java_vectors.jsonl");

const STRATEGIES: [(&str, &dyn AssignmentStrategy); 3] =
    [("AVG", &Average), ("AVG_BY_CIRCLE", &Circle), ("CONSISTENT_HASH", &ConsistentHash)];

fn names(value: &Value) -> Vec<Arc<str>> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap().into()).collect()
}

fn queues(value: &Value) -> Vec<MessageQueue> {
    let queue = |parts: &Value| {
        let id = u32::try_from(parts[2].as_u64().unwrap()).unwrap();
        MessageQueue::new(parts[0].as_str().unwrap(), parts[1].as_str().unwrap(), id)
    };
    value.as_array().unwrap().iter().map(queue).collect()
}

fn mine(
    strategy: &dyn AssignmentStrategy,
    me: &str,
    members: &[Arc<str>],
    queues: &[MessageQueue],
) -> BTreeSet<MessageQueue> {
    match allocate(strategy, me, members, queues.iter().cloned().collect()).unwrap() {
        Allocation::Mine(mine) => mine,
        Allocation::NotListed => panic!("{me} is listed"),
    }
}

/// For each queue the place of its owner among the members, as the vectors have it.
fn owners(strategy: &dyn AssignmentStrategy, members: &[Arc<str>], queues: &[MessageQueue]) -> Vec<i64> {
    let shares: Vec<_> = members.iter().map(|me| mine(strategy, me, members, queues)).collect();
    let owner = |queue| shares.iter().position(|share| share.contains(queue));
    queues.iter().map(|queue| owner(queue).map_or(-1, |place| i64::try_from(place).unwrap())).collect()
}

#[test]
fn p19_all_strategies_share_out_as_javas_do() {
    let mut lines = 0;
    for line in JAVA.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let (members, queues) = (names(&case["members"]), queues(&case["queues"]));
        for (name, strategy) in STRATEGIES {
            let java: Vec<i64> = case[name].as_array().unwrap().iter().map(|owner| owner.as_i64().unwrap()).collect();
            assert_eq!(owners(strategy, &members, &queues), java, "{name} in {line}");
        }
        lines += 1;
    }
    assert!(lines > 50, "{lines} vectors");
}

#[test]
fn text_is_sorted_by_utf_16_code_units() {
    assert_eq!(java_order("\u{1F680}", "\u{FF61}"), Ordering::Less, "a surrogate stands before U+FF61");
    assert_eq!(java_order("10.0.0.10", "10.0.0.9"), Ordering::Less);
    assert_eq!(java_order("a", "ab"), Ordering::Less);
    let (nine, ten) = (MessageQueue::new("t", "b", 9), MessageQueue::new("t", "b", 10));
    assert_eq!(java_queue_order(&nine, &ten), Ordering::Less, "queue ids are numbers");
}

#[test]
fn a_client_that_is_not_listed_yet_gets_no_answer_rather_than_no_queue() {
    let queue = MessageQueue::new("t", "b", 0);
    assert_eq!(allocate(&Average, "me", &["other".into()], [queue.clone()].into()).unwrap(), Allocation::NotListed);
    assert_eq!(allocate(&Average, "me", &[], [queue].into()).unwrap(), Allocation::NotListed);
}

#[test]
fn p19_a_member_beyond_the_queues_has_none_and_that_is_no_error() {
    let members: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).into();
    let queues = [MessageQueue::new("t", "b", 0), MessageQueue::new("t", "b", 1)];
    assert_eq!(owners(&Average, &members, &queues), [0, 1]);
    assert_eq!(mine(&Average, "c", &members, &queues), BTreeSet::new());
    assert_eq!(mine(&Average, "c", &members, &[]), BTreeSet::new(), "a topic without a readable queue");
}

struct Broken(fn(&[MessageQueue]) -> Vec<MessageQueue>);

impl AssignmentStrategy for Broken {
    fn assign(&self, _: &str, _: &[String], queues: &[MessageQueue]) -> Vec<MessageQueue> {
        (self.0)(queues)
    }
}

#[test]
fn a_strategy_of_the_users_cannot_invent_queues_and_its_panic_ends_nothing() {
    let ask = |answer| {
        let offered = [MessageQueue::new("t", "b", 0)].into();
        allocate(&Broken(answer), "me", &["me".into()], offered)
    };
    let invented = ask(|_| vec![MessageQueue::new("t", "b", 1)]).expect_err("invented").to_string();
    assert!(invented.contains("t@b:1, which was not offered"), "{invented}");
    let panicked = ask(|_| panic!("a bug")).expect_err("panicked").to_string();
    assert!(panicked.contains("it panicked"), "{panicked}");
    let twice = ask(|queues| [queues, queues].concat()).unwrap();
    assert_eq!(twice, Allocation::Mine([MessageQueue::new("t", "b", 0)].into()), "named twice, and taken once");
}

fn group() -> impl Strategy<Value = (Vec<Arc<str>>, Vec<MessageQueue>)> {
    let members = proptest::collection::btree_set("[a-c\u{e4}\u{ff61}\u{1F680}0-9]{1,4}", 1..12);
    let queues = proptest::collection::btree_set(("[ab]", 0..40_u32), 0..40);
    let shuffled = |members: BTreeSet<String>| Just(members.into_iter().map(Arc::from).collect()).prop_shuffle();
    let named = |queues: BTreeSet<(String, u32)>| {
        let queue = |(broker, id): (String, u32)| MessageQueue::new("t", broker, id);
        Just(queues.into_iter().map(queue).collect()).prop_shuffle()
    };
    (members.prop_flat_map(shuffled), queues.prop_flat_map(named))
}

proptest! {
    #[test]
    fn every_queue_has_exactly_one_owner((members, queues) in group()) {
        for (name, strategy) in STRATEGIES {
            let shares: Vec<_> = members.iter().map(|me| mine(strategy, me, &members, &queues)).collect();
            let count: usize = shares.iter().map(BTreeSet::len).sum();
            let all: BTreeSet<_> = shares.into_iter().flatten().collect();
            prop_assert_eq!(count, queues.len(), "{}: none twice", name);
            prop_assert_eq!(all, queues.iter().cloned().collect(), "{}: none by nobody", name);
        }
    }

    #[test]
    fn p19_the_share_of_one_is_at_most_one_queue_above_that_of_another((members, queues) in group()) {
        for (name, strategy) in &STRATEGIES[..2] {
            let sizes: Vec<_> = members.iter().map(|me| mine(*strategy, me, &members, &queues).len()).collect();
            let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{}: {:?}", name, sizes);
        }
    }

    #[test]
    fn who_leaves_a_ring_moves_only_its_own_queues((members, queues) in group()) {
        let (gone, rest) = members.split_last().unwrap();
        for me in rest {
            let (before, after) = (mine(&ConsistentHash, me, &members, &queues), mine(&ConsistentHash, me, rest, &queues));
            let gained: BTreeSet<_> = after.difference(&before).cloned().collect();
            prop_assert!(before.is_subset(&after) && gained.is_subset(&mine(&ConsistentHash, gone, &members, &queues)));
        }
    }
}
