use super::*;
use crate::assignment::holding::Epochs;
use crate::error::ErrorKind;
use crate::model::{Permission, RouteQueue};

fn queue(topic: &str, broker: &str, id: u32) -> MessageQueue {
    MessageQueue::new(topic, broker, id)
}

fn set(queues: &[(&str, u32)]) -> BTreeSet<MessageQueue> {
    queues.iter().map(|(topic, id)| queue(topic, "b", *id)).collect()
}

fn held(queues: &[(&str, u32)]) -> Assignment {
    Epochs::default().advance(&Assignment::default(), set(queues))
}

fn mine(queues: &[(&str, u32)]) -> Learnt {
    Learnt::Shared { allocation: Allocation::Mine(set(queues)), members: 3, queues: 2 }
}

fn not_listed() -> Learnt {
    Learnt::Shared { allocation: Allocation::NotListed, members: 3, queues: 2 }
}

fn failed() -> Learnt {
    Learnt::Failed(Error::new(ErrorKind::Unavailable, "away"))
}

fn judged(before: &[(&str, u32)], learnt: &[(&str, Learnt)]) -> Outcome {
    let learnt = learnt.iter().map(|(topic, learnt)| (Arc::from(*topic), learnt.clone())).collect();
    judge(&held(before), &learnt)
}

#[test]
fn a_standing_is_news_when_it_or_the_numbers_of_an_idle_member_change() {
    let stale = |text: &str| Standing::Stale(Error::new(ErrorKind::Unavailable, text));
    let idle = |members, queues| Standing::Idle { members, queues };
    let all = [Standing::Joining, Standing::Settled, stale("away"), idle(3, 2), idle(4, 2), idle(3, 1)];
    for (place, standing) in all.iter().enumerate() {
        for (other, another) in all.iter().enumerate() {
            assert_eq!(standing.is_same(another), place == other, "{standing:?} and {another:?}");
        }
    }
    assert!(stale("away").is_same(&stale("still away")), "one failure is as good as another");
}

#[test]
fn a_round_says_what_to_hold_and_when_to_ask_again() {
    let before = [("a", 0), ("a", 1), ("b", 0)];
    for (what, learnt, wanted, standing, next) in [
        (
            "both shared",
            vec![("a", mine(&[("a", 1)])), ("b", mine(&[("b", 0)]))],
            vec![("a", 1), ("b", 0)],
            "Settled",
            CALM,
        ),
        ("one failed", vec![("a", failed()), ("b", mine(&[]))], vec![("a", 0), ("a", 1)], "Stale", SOON),
        ("all failed", vec![("a", failed()), ("b", failed())], before.to_vec(), "Stale", SOON),
        ("not listed", vec![("a", not_listed()), ("b", mine(&[("b", 0)]))], vec![("b", 0)], "Joining", SOON),
        ("nothing for me", vec![("a", mine(&[])), ("b", mine(&[]))], vec![], "Idle { members: 3, queues: 4 }", CALM),
        ("one topic has none", vec![("a", mine(&[])), ("b", mine(&[("b", 0)]))], vec![("b", 0)], "Settled", CALM),
        ("a topic went", vec![("b", mine(&[("b", 0)]))], vec![("b", 0)], "Settled", CALM),
    ] {
        let outcome = judged(&before, &learnt);
        assert_eq!(outcome.wanted, set(&wanted), "{what}");
        assert!(format!("{:?}", outcome.standing).starts_with(standing), "{what}: {:?}", outcome.standing);
        assert_eq!(outcome.next(), next, "{what}");
    }
}

#[test]
fn before_the_first_list_nothing_is_held() {
    let outcome = judged(&[], &[("a", not_listed())]);
    assert!(outcome.wanted.is_empty() && matches!(outcome.standing, Standing::Joining));
    let outcome = judged(&[], &[("a", failed())]);
    assert!(outcome.wanted.is_empty() && matches!(outcome.standing, Standing::Stale(_)));
}

/// A queue per entry: broker, its replicas by id, permission.
fn route(queues: &[(&str, &[u64], Permission)]) -> Route {
    let queue = |(id, (broker, replicas, permission)): (usize, &(&str, &[u64], Permission))| RouteQueue {
        broker: (*broker).into(),
        id: i32::try_from(id).unwrap(),
        permission: *permission,
        endpoints: [Endpoint::new(*broker, 1)].into(),
        replicas: replicas.iter().map(|id| (*id, Endpoint::new(format!("{broker}-{id}"), 1))).collect(),
        accepts: Vec::new(),
    };
    Route { topic: "t".into(), queues: queues.iter().enumerate().map(queue).collect() }
}

fn asked(route: &Route, first: usize) -> Vec<String> {
    whom_to_ask(route, first).iter().map(|at| at.to_string().replace(":1", "")).collect()
}

#[test]
fn masters_are_asked_before_slaves_and_not_always_the_same_one_first() {
    const R: Permission = Permission::Read;
    let both = route(&[("a", &[1, 0], R), ("a", &[1, 0], R), ("b", &[0], R), ("c", &[0], Permission::Write)]);
    assert_eq!(asked(&both, 0), ["a-0", "b-0", "a-1"], "c cannot be read");
    assert_eq!(asked(&both, 1), ["b-0", "a-0", "a-1"]);
    assert_eq!(asked(&both, 2), asked(&both, 0));
    assert_eq!(asked(&route(&[("a", &[], R)]), 7), ["a"], "without replicas, the broker's endpoints");
    assert_eq!(asked(&route(&[]), 7), [""; 0]);
}

#[test]
fn a_numbered_task_keeps_the_queues_of_a_broker_that_is_away_and_lets_go_of_those_that_are_no_more() {
    let epochs = &mut Epochs::default();
    let held = [queue("t", "a", 0), queue("t", "a", 9), queue("t", "gone", 0), queue("other", "gone", 0)];
    let held = epochs.advance(&Assignment::default(), held.into());
    let mut shared = BTreeSet::from([queue("t", "a", 0)]);
    keep_while_away(&held, &route(&[("a", &[], Permission::Read)]), &mut shared);
    assert_eq!(shared, BTreeSet::from([queue("t", "a", 0), queue("t", "gone", 0)]));
}
