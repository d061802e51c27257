//! Which queue, and so which endpoint, an attempt goes to.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::model::{Endpoint, Route, RouteQueue};

/// How long an endpoint that failed is left alone while others exist: the interval of heartbeats, after which the session
/// knows whether it answers.
const LEFT_ALONE: Duration = Duration::from_secs(10);

/// Rotates over writable queues from a random start, which a refreshed route does not reset. Messages of a message group
/// all go to one queue.
#[derive(Debug)]
pub(crate) struct Router {
    next: usize,
    /// Topics that have had a route: "not found" for one of them is an outage, not a wrong name.
    known: HashSet<Arc<str>>,
    /// Endpoints that failed, and until when they are left alone.
    failed: HashMap<Endpoint, Instant>,
}

impl Router {
    /// `start` is a random number, given by the caller so that this stays a function.
    pub(crate) fn new(start: usize) -> Self {
        Self { next: start, known: HashSet::new(), failed: HashMap::new() }
    }

    pub(crate) fn knows(&self, topic: &str) -> bool {
        self.known.contains(topic)
    }

    /// Notes that a topic has a route. `true` the first time.
    pub(crate) fn learn(&mut self, topic: &Arc<str>) -> bool {
        !self.known.contains(topic) && self.known.insert(Arc::clone(topic))
    }

    /// The queue for the next message, or the error that tells why there is none.
    pub(crate) fn pick<'r>(
        &mut self,
        route: &'r Route,
        message_group: Option<&str>,
        now: Instant,
    ) -> Result<&'r RouteQueue, Error> {
        let picked = match message_group {
            Some(group) => queue_of_group(route, group),
            None => self.rotate(route, now),
        };
        picked.ok_or_else(|| no_queue(route))
    }

    /// Of a broker's endpoints those that have not failed of late; all of them when each has.
    pub(crate) fn preferred<'e>(&self, endpoints: &'e [Endpoint], now: Instant) -> Cow<'e, [Endpoint]> {
        if !endpoints.iter().any(|endpoint| self.is_left_alone(endpoint, now)) {
            return Cow::Borrowed(endpoints);
        }
        let well: Vec<_> = endpoints.iter().filter(|endpoint| !self.is_left_alone(endpoint, now)).cloned().collect();
        if well.is_empty() { Cow::Borrowed(endpoints) } else { Cow::Owned(well) }
    }

    pub(crate) fn on_failed(&mut self, endpoint: &Endpoint, now: Instant) {
        self.failed.insert(endpoint.clone(), now + LEFT_ALONE);
    }

    pub(crate) fn on_answered(&mut self, endpoint: &Endpoint) {
        if !self.failed.is_empty() {
            self.failed.remove(endpoint);
        }
    }

    fn rotate<'r>(&mut self, route: &'r Route, now: Instant) -> Option<&'r RouteQueue> {
        let count = route.queues.len();
        let start = self.next.checked_rem(count)?;
        let candidates = || (start..count).chain(0..start).filter(|index| route.queues[*index].permission.writable());
        let well = candidates().find(|index| !self.all_left_alone(&route.queues[*index].endpoints, now));
        let index = well.or_else(|| candidates().next())?;
        // One behind the queue that was taken, so that skipped ones do not double the share of their neighbour.
        self.next = index.wrapping_add(1);
        Some(&route.queues[index])
    }

    fn all_left_alone(&self, endpoints: &[Endpoint], now: Instant) -> bool {
        !self.failed.is_empty()
            && !endpoints.is_empty()
            && endpoints.iter().all(|endpoint| self.is_left_alone(endpoint, now))
    }

    fn is_left_alone(&self, endpoint: &Endpoint, now: Instant) -> bool {
        self.failed.get(endpoint).is_some_and(|until| *until > now)
    }
}

/// As the Java client chooses (trap S7): SipHash-2-4 of the UTF-8 group as a signed 64-bit number, modulo the number of
/// writable queues in the order of the route. Two languages must not split one group.
fn queue_of_group<'r>(route: &'r Route, group: &str) -> Option<&'r RouteQueue> {
    let writable = || route.queues.iter().filter(|queue| queue.permission.writable());
    let count = i64::try_from(writable().count()).ok()?;
    let index = sip_hash(group.as_bytes()).checked_rem_euclid(count)?;
    writable().nth(usize::try_from(index).ok()?)
}

/// With the key that Guava's `Hashing.sipHash24()` has, the bytes 0 to 15; a key of zeros would put most groups elsewhere.
fn sip_hash(bytes: &[u8]) -> i64 {
    #[allow(deprecated, reason = "the one SipHash-2-4 in std; its successor does not promise an algorithm")]
    let mut hasher = std::hash::SipHasher::new_with_keys(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
    std::hash::Hasher::write(&mut hasher, bytes);
    std::hash::Hasher::finish(&hasher).cast_signed()
}

fn no_queue(route: &Route) -> Error {
    let topic = &route.topic;
    if route.queues.is_empty() {
        Error::new(
            ErrorKind::Unavailable,
            format!("the route of topic {topic} names no queue: its brokers may be away"),
        )
    } else {
        let text = format!(
            "none of the {} queues of topic {topic} is writable: its permission must be changed on the server",
            route.queues.len()
        );
        Error::new(ErrorKind::Precondition, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::model::Permission;

    fn endpoint(name: &str) -> Endpoint {
        Endpoint::new(name, 8081)
    }

    /// A queue per entry: its broker, whose one endpoint has the same name.
    fn route(brokers: &[(&str, Permission)]) -> Route {
        let queues = brokers.iter().enumerate().map(|(id, (broker, permission))| RouteQueue {
            broker: (*broker).into(),
            id: i32::try_from(id).unwrap(),
            permission: *permission,
            endpoints: [endpoint(broker)].into(),
            replicas: Arc::default(),
            accepts: Vec::new(),
        });
        Route { topic: "t".into(), queues: queues.collect() }
    }

    fn picked(router: &mut Router, route: &Route, count: usize, now: Instant) -> Vec<i32> {
        (0..count).map(|_| router.pick(route, None, now).unwrap().id).collect()
    }

    const W: Permission = Permission::ReadWrite;

    #[test]
    fn sip_hash_gives_the_published_vectors() {
        // From the reference implementation of SipHash-2-4: key 00..0f, input 00, 00 01, ….
        let input: Vec<u8> = (0..15).collect();
        for (length, expected) in [
            (0, 0x726f_db47_dd0e_0e31_u64),
            (1, 0x74f8_39c5_93dc_67fd),
            (7, 0xab02_00f5_8b01_d137),
            (8, 0x93f5_f579_9a93_2462),
            (15, 0xa129_ca61_49be_45e5),
        ] {
            assert_eq!(sip_hash(&input[..length]), expected.cast_signed(), "{length} bytes");
        }
    }

    #[test]
    fn s7_a_message_group_always_goes_to_the_queue_that_java_chooses() {
        let mut router = Router::new(3);
        let route = route(&[("a", W), ("a", Permission::Read), ("a", W), ("b", W)]);
        for group in ["", "orders-1", "größe"] {
            let writable = [0, 2, 3];
            let expected = writable[usize::try_from(sip_hash(group.as_bytes()).rem_euclid(3)).unwrap()];
            for _ in 0..3 {
                assert_eq!(router.pick(&route, Some(group), clock::now()).unwrap().id, expected, "{group}");
            }
        }
    }

    #[test]
    fn a_negative_hash_is_reduced_as_floor_mod_does() {
        let group = (0..).map(|n| format!("g{n}")).find(|group| sip_hash(group.as_bytes()) < 0).unwrap();
        let route = route(&[("a", W), ("a", W), ("a", W)]);
        let expected = ((sip_hash(group.as_bytes()) % 3) + 3) % 3;
        assert_eq!(i64::from(queue_of_group(&route, &group).unwrap().id), expected);
    }

    #[test]
    fn queues_take_turns_from_the_given_start_and_a_new_route_does_not_restart_them() {
        let now = clock::now();
        let mut router = Router::new(2);
        let first = route(&[("a", W), ("a", W), ("b", W)]);
        assert_eq!(picked(&mut router, &first, 4, now), [2, 0, 1, 2]);
        let refreshed = route(&[("a", W), ("a", W), ("b", W), ("b", W)]);
        assert_eq!(picked(&mut router, &refreshed, 3, now), [3, 0, 1]);
        assert_eq!(picked(&mut Router::new(usize::MAX), &first, 3, now), [0, 1, 2]);
    }

    #[test]
    fn queues_that_cannot_be_written_are_left_out() {
        let route = route(&[("a", W), ("a", Permission::Read), ("a", Permission::Write), ("a", Permission::None)]);
        assert_eq!(picked(&mut Router::new(0), &route, 4, clock::now()), [0, 2, 0, 2]);
    }

    #[test]
    fn an_endpoint_that_failed_is_skipped_while_others_exist_and_then_tried_again() {
        let now = clock::now();
        let mut router = Router::new(0);
        let route = route(&[("a", W), ("b", W), ("c", W)]);
        router.on_failed(&endpoint("b"), now);
        assert_eq!(picked(&mut router, &route, 4, now), [0, 2, 0, 2]);
        assert_eq!(picked(&mut router, &route, 3, now + LEFT_ALONE), [0, 1, 2]);
        for name in ["a", "b", "c"] {
            router.on_failed(&endpoint(name), now);
        }
        assert_eq!(picked(&mut router, &route, 3, now), [0, 1, 2], "all failed: none is skipped");
        router.on_answered(&endpoint("c"));
        assert_eq!(picked(&mut router, &route, 2, now), [2, 2]);
    }

    #[test]
    fn of_a_brokers_endpoints_those_that_work_are_preferred() {
        let now = clock::now();
        let mut router = Router::new(0);
        let both = [endpoint("p1"), endpoint("p2")];
        assert_eq!(*router.preferred(&both, now), both);
        router.on_failed(&both[0], now);
        assert_eq!(*router.preferred(&both, now), both[1..]);
        router.on_failed(&both[1], now);
        assert_eq!(*router.preferred(&both, now), both);
        assert!(router.preferred(&[], now).is_empty());
    }

    #[test]
    fn a_topic_without_a_queue_may_come_back_but_one_without_a_writable_queue_will_not() {
        let mut router = Router::new(0);
        for group in [None, Some("g")] {
            let mut kind = |brokers: &[(&str, Permission)]| {
                router.pick(&route(brokers), group, clock::now()).expect_err("no queue").kind()
            };
            assert_eq!(kind(&[]), ErrorKind::Unavailable);
            assert_eq!(kind(&[("a", Permission::Read)]), ErrorKind::Precondition);
        }
    }

    #[test]
    fn a_topic_is_new_once() {
        let mut router = Router::new(0);
        let topic: Arc<str> = "t".into();
        assert!(!router.knows("t"));
        assert!(router.learn(&topic));
        assert!(!router.learn(&topic));
        assert!(router.knows("t"));
    }
}
