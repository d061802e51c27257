//! The keeper and the receipts, against a wire written here. The clock is paused: no I/O happens.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::clock;
use crate::error::{AckError, Error, ErrorKind, Result};
use crate::lease::{Arrival, Endpoints, Grant, LeaseEvent, LeaseOptions, Leases, Origin, Receipt, Renewal, Settled};
use crate::model::{Endpoint, Held};
use crate::task::{TaskGroup, panicked_tasks};
use crate::transport::{
    Call, DeliveryAttempts, Incoming, InvisibleChange, ReceiveFrame, ReceiveRequest, Receiving, Scope,
};

#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Ack(Vec<String>),
    Change(String, InvisibleChange),
    DeadLetter(String),
}

/// Answers after `latency`; endpoint `away` never answers anything but an error.
#[derive(Debug)]
struct Wire {
    latency: Duration,
    seen: Mutex<Vec<(Endpoint, Seen)>>,
    handles: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
    away: AtomicBool,
}

impl Wire {
    async fn answer(&self, at: &Endpoint, seen: Seen) -> Result<()> {
        self.seen.lock().unwrap().push((at.clone(), seen));
        let running = self.running.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_running.fetch_max(running, Ordering::Relaxed);
        clock::sleep(self.latency).await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        if self.away.load(Ordering::Relaxed) && at.host() == "proxy-a" {
            return Err(Error::new(ErrorKind::Unavailable, "connection refused").at(at));
        }
        Ok(())
    }
}

fn handles(held: &[Held]) -> Vec<String> {
    held.iter().map(|held| held.handle().to_owned()).collect()
}

impl Receiving for Wire {
    fn receive<'a>(&'a self, _: &'a Endpoint, _: &'a ReceiveRequest) -> Call<'a, Incoming<ReceiveFrame>> {
        Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "this wire only settles")) })
    }

    fn ack<'a>(&'a self, at: &'a Endpoint, scope: &'a Scope, entries: &'a [Held]) -> Call<'a, Vec<Result<()>>> {
        assert_eq!(&*scope.topic, "orders");
        Box::pin(async move {
            self.answer(at, Seen::Ack(handles(entries))).await?;
            Ok(entries.iter().map(|_| Ok(())).collect())
        })
    }

    fn change_invisible<'a>(
        &'a self,
        at: &'a Endpoint,
        _: &'a Scope,
        held: &'a Held,
        change: InvisibleChange,
    ) -> Call<'a, Arc<str>> {
        Box::pin(async move {
            self.answer(at, Seen::Change(held.handle().to_owned(), change)).await?;
            Ok(format!("new-{}", self.handles.fetch_add(1, Ordering::Relaxed)).into())
        })
    }

    fn dead_letter<'a>(&'a self, at: &'a Endpoint, _: &'a Scope, held: &'a Held, _: DeliveryAttempts) -> Call<'a, ()> {
        Box::pin(self.answer(at, Seen::DeadLetter(held.handle().to_owned())))
    }
}

#[derive(Debug, Default)]
struct Map {
    detour: AtomicBool,
    failures: AtomicUsize,
}

impl Endpoints for Map {
    fn settle_at(&self, origin: &Origin) -> Endpoint {
        if self.detour.load(Ordering::Relaxed) {
            Endpoint::new(format!("other-of-{}", origin.broker), 8081)
        } else {
            origin.endpoint.clone()
        }
    }

    fn failed(&self, at: &Endpoint, error: &Error) {
        assert_eq!((at.host(), error.kind()), ("proxy-a", ErrorKind::Unavailable));
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.detour.store(true, Ordering::Relaxed);
    }
}

struct Case {
    tasks: TaskGroup,
    wire: Arc<Wire>,
    map: Arc<Map>,
    leases: Leases,
    events: Arc<Mutex<Vec<LeaseEvent>>>,
    count: usize,
    start: Instant,
}

const LATENCY: Duration = Duration::from_millis(10);
const MINUTE: Duration = Duration::from_secs(60);

impl Case {
    fn new() -> Self {
        Self::with_max_lease(MINUTE * 180)
    }

    fn with_max_lease(max_lease: Duration) -> Self {
        let tasks = TaskGroup::new();
        let wire = Arc::new(Wire {
            latency: LATENCY,
            seen: Mutex::default(),
            handles: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most_running: AtomicUsize::new(0),
            away: AtomicBool::new(false),
        });
        let map = Arc::new(Map::default());
        let events: Arc<Mutex<Vec<LeaseEvent>>> = Arc::default();
        let sink = Arc::clone(&events);
        let leases = Leases::start(
            &tasks,
            Arc::clone(&wire) as Arc<dyn Receiving>,
            Arc::clone(&map) as Arc<dyn Endpoints>,
            LeaseOptions { max_lease, ..LeaseOptions::default() },
            Box::new(move |event| sink.lock().unwrap().push(event)),
        );
        leases.tell_events();
        Self { tasks, wire, map, leases, events, count: 0, start: clock::now() }
    }

    fn receipt(&mut self, renewal: Renewal) -> Receipt {
        self.receipt_of("broker-a", renewal)
    }

    /// The handle of the n-th is `n`; 30 s.
    fn receipt_of(&mut self, broker: &str, renewal: Renewal) -> Receipt {
        self.count += 1;
        let scope = Scope { group: "billing".into(), topic: "orders".into() };
        let origin = self.leases.origin(&Endpoint::new("proxy-a", 8081), &broker.into(), &scope);
        let arrival = Arrival { origin: &origin, at: clock::now(), renewal };
        let grant = Grant {
            held: Held::new(&format!("m{}", self.count), &self.count.to_string()),
            delivery_attempt: 1,
            invisible: Duration::from_secs(30),
        };
        let mut receipt = None;
        self.leases.register(&arrival, std::iter::once(((), grant)), |(), given| receipt = Some(given));
        receipt.expect("one receipt for one message")
    }

    fn receipts(&mut self, n: usize) -> Vec<Receipt> {
        (0..n).map(|_| self.receipt(Renewal::Client)).collect()
    }

    fn elapsed(&self) -> Duration {
        clock::now() - self.start
    }

    fn seen(&self) -> Vec<Seen> {
        self.wire.seen.lock().unwrap().iter().map(|(_, seen)| seen.clone()).collect()
    }

    fn hosts(&self) -> Vec<String> {
        self.wire.seen.lock().unwrap().iter().map(|(at, _)| at.host().to_owned()).collect()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        assert_eq!(panicked_tasks(), 0);
    }
}

fn ack(handles: &[&str]) -> Seen {
    Seen::Ack(handles.iter().map(ToString::to_string).collect())
}

fn ack_all(receipts: Vec<Receipt>) -> Vec<Settled> {
    receipts.into_iter().map(Receipt::ack).collect()
}

async fn poll_a_few_times<F: Future>(future: F) {
    let mut future = pin!(future);
    for _ in 0..3 {
        poll_fn(|cx| {
            assert!(future.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        clock::sleep(LATENCY / 10).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_awaited_ack_costs_one_round_trip() {
    let mut case = Case::new();
    let receipt = case.receipt(Renewal::Client);
    clock::sleep(LATENCY).await;
    receipt.ack().await.unwrap();
    assert!(case.elapsed() <= LATENCY * 2 + Duration::from_millis(1), "{:?}", case.elapsed());
    assert_eq!(case.seen(), [ack(&["1"])]);
}

#[tokio::test(start_paused = true)]
async fn acks_gather_while_one_is_under_way() {
    let mut case = Case::new();
    let first = case.receipt(Renewal::Client).ack();
    clock::sleep(LATENCY / 2).await;
    let rest = ack_all(case.receipts(3));
    first.await.unwrap();
    assert!(join_all(rest).await.iter().all(Result::is_ok));
    assert_eq!(case.seen(), [ack(&["1"]), ack(&["2", "3", "4"])]);
    assert_eq!(case.leases.stats().acked, 4);
}

#[tokio::test(start_paused = true)]
async fn the_latency_of_a_server_does_not_limit_the_rate_of_full_batches() {
    let mut case = Case::new();
    let settled = ack_all(case.receipts(64 * 20));
    assert!(join_all(settled).await.iter().all(Result::is_ok));
    assert_eq!(case.seen().len(), 20);
    assert_eq!(case.wire.most_running.load(Ordering::Relaxed), 16);
    assert!(case.elapsed() <= LATENCY * 2 + Duration::from_millis(2), "{:?}", case.elapsed());
}

#[tokio::test(start_paused = true)]
async fn r16_a_slow_handler_gets_its_lease_renewed_and_acks_with_the_newest_handle() {
    let mut case = Case::new();
    let receipt = case.receipt(Renewal::Client);
    clock::sleep(Duration::from_secs(55)).await;
    assert!(!receipt.is_lost());
    receipt.ack().await.unwrap();
    let seen = case.seen();
    assert!(matches!(&seen[0], Seen::Change(handle, change) if handle == "1" && !change.suspend));
    assert_eq!(seen.len(), 3, "renewed at 20 and 40 s: {seen:?}");
    assert_eq!(seen[2], ack(&["new-1"]));
}

#[tokio::test(start_paused = true)]
async fn r23_a_stuck_delivery_is_lost_after_the_longest_lease() {
    let mut case = Case::with_max_lease(MINUTE);
    let receipt = case.receipt(Renewal::Client);
    let (lost, second) = (receipt.lost(), receipt.lost().clone());
    lost.await;
    second.await;
    assert!(case.elapsed() >= MINUTE && case.elapsed() < MINUTE * 2, "{:?}", case.elapsed());
    receipt.lost().await;
    assert!(receipt.is_lost());
    assert!(matches!(&case.events.lock().unwrap()[..], [LeaseEvent::Lost { .. }]));
    assert_eq!(receipt.ack().await, Err(AckError::LeaseExpired));
    assert_eq!(case.leases.stats().dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn lost_wakes_another_task_while_the_receipt_is_worked_on() {
    let mut case = Case::new();
    let receipt = case.receipt(Renewal::Off);
    let lost = receipt.lost();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    case.tasks.spawn("watches", async move {
        lost.await;
        let _ = sender.send(clock::now());
    });
    let when = receiver.await.unwrap();
    assert_eq!((when - case.start).as_secs(), 30);
    drop(receipt);
}

#[tokio::test(start_paused = true)]
async fn r9_acks_go_to_the_endpoint_that_delivered_and_to_another_of_that_broker_when_it_is_away() {
    let mut case = Case::new();
    case.wire.away.store(true, Ordering::Relaxed);
    let settled = [
        case.receipt_of("broker-a", Renewal::Client).ack(),
        case.receipt_of("broker-b", Renewal::Client).ack(),
        case.receipt_of("broker-a", Renewal::Client).ack(),
    ];
    assert!(join_all(settled).await.iter().all(Result::is_ok));
    assert_eq!(case.hosts(), ["proxy-a", "other-of-broker-a", "other-of-broker-b"]);
    assert_eq!(case.seen()[1..], [ack(&["1", "3"]), ack(&["2"])]);
    assert_eq!(case.map.failures.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn r9_a_lease_renewed_by_the_server_is_settled_at_its_own_endpoint_only() {
    let mut case = Case::new();
    case.wire.away.store(true, Ordering::Relaxed);
    let settled = case.receipt(Renewal::Server).ack();
    clock::sleep(Duration::from_secs(3)).await;
    case.wire.away.store(false, Ordering::Relaxed);
    settled.await.unwrap();
    assert!(case.hosts().iter().all(|host| host == "proxy-a"));
}

#[tokio::test(start_paused = true)]
async fn r18_a_nack_is_sent_once_even_when_its_answer_is_lost() {
    let mut case = Case::new();
    case.wire.away.store(true, Ordering::Relaxed);
    let (nack, dead) = (case.receipt(Renewal::Client), case.receipt(Renewal::Client));
    assert_eq!(nack.nack(Duration::from_secs(5)).await, Err(AckError::Unknown));
    case.map.detour.store(false, Ordering::Relaxed);
    assert_eq!(dead.dead_letter().await, Err(AckError::Unknown));
    clock::sleep(MINUTE).await;
    assert_eq!(case.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_extension_is_confirmed_and_moves_the_end() {
    let mut case = Case::new();
    let receipt = case.receipt(Renewal::Off);
    receipt.extend(MINUTE * 10).await.unwrap();
    clock::sleep(MINUTE * 9).await;
    assert!(!receipt.is_lost());
    receipt.ack().await.unwrap();
    assert_eq!(case.seen().last(), Some(&ack(&["new-0"])));
}

#[tokio::test(start_paused = true)]
async fn e4_dropping_a_settled_at_any_point_takes_nothing_back() {
    let mut case = Case::new();
    drop(case.receipt(Renewal::Client).ack());
    poll_a_few_times(case.receipt(Renewal::Client).ack()).await;
    let extended = case.receipt(Renewal::Client);
    poll_a_few_times(extended.extend(MINUTE)).await;
    poll_a_few_times(extended.lost()).await;
    drop(extended.nack(Duration::ZERO));
    assert!(case.leases.drain(MINUTE).await);
    let stats = case.leases.stats();
    assert_eq!((stats.acked, stats.nacked, stats.held, stats.queued), (2, 1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_receipt_sends_nothing_and_is_counted() {
    let mut case = Case::new();
    drop(case.receipt(Renewal::Client));
    clock::sleep(MINUTE * 5).await;
    assert_eq!(case.seen(), []);
    assert_eq!((case.leases.stats().dropped, case.leases.stats().held), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn r10_shutdown_releases_what_no_user_saw_and_waits_for_what_is_held() {
    let mut case = Case::new();
    let buffered = case.receipts(100);
    let held = case.receipt(Renewal::Client);
    buffered.into_iter().for_each(|receipt| drop(receipt.release()));
    assert!(case.leases.drain(MINUTE).await, "the held one does not count");
    assert!(case.elapsed() < Duration::from_secs(1), "none waits for its lease to run out");
    assert!(case.seen().iter().all(|seen| matches!(seen, Seen::Change(_, change) if change.suspend)));
    assert_eq!(case.leases.stats().released, 100);
    assert!(!case.leases.settle_all(MINUTE).await, "one is held");
    let leases = case.leases.clone();
    let (settled, all) = tokio::join!(held.ack(), leases.settle_all(MINUTE));
    settled.unwrap();
    assert!(all);
    case.leases.close();
    assert!(case.tasks.join(MINUTE).await, "the keeper has ended");
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_bounded_and_after_the_close_nothing_is_sent() {
    let mut case = Case::new();
    case.wire.away.store(true, Ordering::Relaxed);
    let stuck = case.receipt(Renewal::Server).ack();
    let held = case.receipt(Renewal::Client);
    let lost = held.lost();
    assert!(!case.leases.drain(Duration::from_secs(5)).await);
    case.leases.close();
    lost.await;
    assert_eq!(stuck.await, Err(AckError::Unknown), "it was tried");
    let sent = case.seen().len();
    assert_eq!(held.extend(MINUTE).await, Err(AckError::Closed));
    assert_eq!(held.ack().await, Err(AckError::Closed));
    assert_eq!(case.receipt(Renewal::Client).nack(Duration::ZERO).await, Err(AckError::Closed));
    clock::sleep(MINUTE).await;
    assert_eq!(case.seen().len(), sent);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_keeper_leaves_nobody_waiting() {
    let mut case = Case::new();
    let first = case.receipt(Renewal::Client).ack();
    clock::sleep(LATENCY / 2).await;
    let second = case.receipt(Renewal::Client).ack();
    case.tasks.token().cancel();
    assert_eq!(first.await, Err(AckError::Unknown));
    assert_eq!(second.await, Err(AckError::Closed));
}

#[tokio::test(start_paused = true)]
async fn the_keeper_ends_by_itself_when_nobody_is_left_but_only_after_what_was_queued() {
    let mut case = Case::new();
    drop(case.receipt(Renewal::Client).ack());
    // The only handle besides those of the receipts; the task group stays.
    case.leases = Case::new().leases.clone();
    assert!(case.tasks.join(MINUTE).await);
    assert!(!case.tasks.token().is_cancelled());
    assert_eq!(case.seen(), [ack(&["1"])]);
}

#[tokio::test(start_paused = true)]
async fn a_settled_polled_after_its_end_stays_pending() {
    use futures_core::FusedFuture;
    let mut case = Case::new();
    let mut settled = case.receipt(Renewal::Client).ack();
    assert!(!settled.is_terminated());
    (&mut settled).await.unwrap();
    assert!(settled.is_terminated());
    poll_a_few_times(&mut settled).await;
}

#[test]
fn what_users_hold_can_move_between_tasks() {
    fn check<T: Send + Sync + Unpin + std::fmt::Debug + 'static>() {}
    check::<Receipt>();
    check::<Settled>();
    check::<crate::lease::LeaseLost>();
}
