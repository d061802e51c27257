//! The table by itself: no runtime, time is a number.

use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::error::{AckError, Error, ErrorKind, Result};
use crate::lease::entry::{Action, Arrival, Grant};
use crate::lease::slab::SlotId;
use crate::lease::table::{Effects, Slot, Table};
use crate::lease::work::{AckBatch, Single, Work};
use crate::lease::{LeaseEvent, LeaseOptions, Origin, Renewal};
use crate::model::{Endpoint, Held};
use crate::transport::{InvisibleChange, Scope};

const JITTER: f64 = 0.0;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

struct Case {
    table: Table,
    origin: Arc<Origin>,
    start: Instant,
    now: Instant,
    count: u32,
}

impl Case {
    fn new() -> Self {
        Self::with_max_lease(s(3 * 3600))
    }

    fn with_max_lease(max_lease: Duration) -> Self {
        let mut table = Table::new(LeaseOptions { max_lease, max_attempts: 16 });
        table.tell_events();
        let scope = Scope { group: "g".into(), topic: "t".into() };
        let origin = table.origin(&Endpoint::new("proxy-a", 8081), &"broker-a".into(), &scope);
        #[allow(clippy::disallowed_methods, reason = "any starting point will do")]
        let start = Instant::now();
        Self { table, origin, start, now: start, count: 0 }
    }

    /// A lease of 30 s; the handle of the n-th is `n`.
    fn lease(&mut self, renewal: Renewal) -> SlotId {
        let origin = Arc::clone(&self.origin);
        self.lease_from(&origin, renewal)
    }

    fn lease_from(&mut self, origin: &Arc<Origin>, renewal: Renewal) -> SlotId {
        self.lease_for(origin, s(30), renewal)
    }

    fn lease_for(&mut self, origin: &Arc<Origin>, invisible: Duration, renewal: Renewal) -> SlotId {
        self.count += 1;
        let grant = Grant {
            held: Held::new(&format!("m{}", self.count), &self.count.to_string()),
            delivery_attempt: 3,
            invisible,
        };
        self.register(origin, renewal, [grant])[0]
    }

    /// Messages that arrive together.
    fn register<const N: usize>(&mut self, origin: &Arc<Origin>, renewal: Renewal, grants: [Grant; N]) -> [SlotId; N] {
        let arrival = Arrival { origin, at: self.now, renewal };
        let mut ids = [SlotId::NONE; N];
        self.table.register(&arrival, ids.iter_mut().zip(grants), |place, id| *place = id);
        ids
    }

    fn at(&mut self, seconds: u64) -> &mut Self {
        self.now = self.start + s(seconds);
        self
    }

    fn next(&mut self) -> Option<Work> {
        self.table.next(self.now)
    }

    fn acks(&mut self) -> AckBatch {
        match self.next() {
            Some(Work::Ack(batch)) => batch,
            other => panic!("an ack is due, not {other:?}"),
        }
    }

    fn change(&mut self) -> (Single, InvisibleChange) {
        match self.next() {
            Some(Work::Change(single, change)) => (single, change),
            other => panic!("a change is due, not {other:?}"),
        }
    }

    fn quiet(&mut self) {
        let next = self.next();
        assert!(next.is_none(), "nothing is due, but {next:?}");
    }

    /// Grants what renewals are due; nothing else is.
    fn quiet_but_for_renewals(&mut self) {
        while let Some(work) = self.next() {
            let Work::Change(single, _) = work else { panic!("only renewals are due, not {work:?}") };
            self.changed(&single, Ok("renewed"));
        }
    }

    fn acked(&mut self, batch: &AckBatch, result: Result<Vec<Result<()>>>) {
        self.table.on_acked(batch, result, self.now, JITTER);
    }

    fn changed(&mut self, single: &Single, result: Result<&str>) {
        self.table.on_changed(single.id, result.map(Into::into), self.now, JITTER);
    }

    fn settle(&mut self, id: SlotId, action: Action) {
        self.table.settle(id, action);
    }

    fn answer(&mut self, id: SlotId) -> Option<Result<(), AckError>> {
        self.poll(Slot::Lease(id))
    }

    fn extension(&mut self, ticket: SlotId) -> Option<Result<(), AckError>> {
        self.poll(Slot::Extension(ticket))
    }

    fn poll(&mut self, slot: Slot) -> Option<Result<(), AckError>> {
        match self.table.poll_answer(slot, Waker::noop()) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    fn effects(&mut self) -> Effects {
        self.table.take_effects().unwrap_or_default()
    }

    fn events(&mut self) -> Vec<LeaseEvent> {
        self.effects().events
    }

    fn wakes_in(&mut self) -> Option<Duration> {
        self.table.next_wake().map(|at| at - self.start)
    }

    /// Lets the first renewal come due, and lose its answer.
    fn lose_a_renewal(&mut self) {
        self.at(20);
        let (single, _) = self.change();
        self.changed(&single, Err(lost()));
    }
}

fn handles(held: &[Held]) -> Vec<&str> {
    held.iter().map(|held| held.handle()).collect()
}

fn expired() -> Error {
    Error::new(ErrorKind::InvalidReceipt, "receipt handle is expired").with_code(40013)
}

fn away() -> Error {
    Error::new(ErrorKind::InvalidReceipt, "cannot find broker broker-a").with_code(40013)
}

fn internal() -> Error {
    Error::new(ErrorKind::Server, "null channel").with_code(50001)
}

fn refused() -> Error {
    Error::new(ErrorKind::PermissionDenied, "no").with_code(40300)
}

fn lost() -> Error {
    Error::new(ErrorKind::Timeout, "no answer within 3000 ms")
}

fn rejected() -> AckError {
    AckError::Rejected { code: 40300, message: "no".into() }
}

// ---- acks

#[test]
fn r8_a_multi_entry_ack_is_judged_entry_by_entry() {
    let mut case = Case::new();
    let ids: Vec<_> = (0..5).map(|_| case.lease(Renewal::Client)).collect();
    ids.iter().for_each(|&id| case.settle(id, Action::Ack));
    let batch = case.acks();
    assert_eq!(handles(&batch.held), ["1", "2", "3", "4", "5"]);
    case.acked(&batch, Ok(vec![Ok(()), Err(expired()), Err(away()), Err(refused()), Err(lost())]));
    let answers: Vec<_> = ids.iter().map(|&id| case.answer(id)).collect();
    assert_eq!(answers, [Some(Ok(())), Some(Err(AckError::LeaseExpired)), None, Some(Err(rejected())), None]);
    let stats = case.table.stats();
    assert_eq!((stats.acked, stats.rejected, stats.lost, stats.queued, stats.held), (1, 1, 1, 2, 0));
}

#[test]
fn a_status_missing_from_the_answer_is_asked_for_again() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Off);
    case.settle(id, Action::Ack);
    let batch = case.acks();
    case.acked(&batch, Ok(vec![]));
    assert_eq!(case.answer(id), None);
    case.at(1);
    let batch = case.acks();
    case.acked(&batch, Ok(vec![Ok(())]));
    assert_eq!(case.answer(id), Some(Ok(())));
}

#[test]
fn r7_an_expired_handle_is_not_retried_and_the_user_is_told() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Off);
    case.settle(id, Action::Ack);
    let batch = case.acks();
    case.acked(&batch, Ok(vec![Err(expired())]));
    assert_eq!(case.answer(id), Some(Err(AckError::LeaseExpired)));
    case.at(29).quiet();
}

#[test]
fn r19_an_ack_is_retried_through_an_outage_while_the_lease_lasts() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Off);
    case.settle(id, Action::Ack);
    for error in [away(), internal(), Error::new(ErrorKind::NotFound, "no route").with_code(40402)] {
        let batch = case.acks();
        case.acked(&batch, Ok(vec![Err(error)]));
        assert_eq!(case.answer(id), None);
        case.quiet();
        let at = case.wakes_in().unwrap();
        case.now = case.start + at;
    }
    let batch = case.acks();
    case.acked(&batch, Ok(vec![Ok(())]));
    assert_eq!(case.answer(id), Some(Ok(())));
}

#[test]
fn an_ack_that_stays_refused_by_an_outage_ends_with_the_lease() {
    for (error, outcome) in [(away as fn() -> Error, AckError::LeaseExpired), (lost, AckError::Unknown)] {
        let mut case = Case::new();
        let id = case.lease(Renewal::Off);
        case.settle(id, Action::Ack);
        let mut tries = 0;
        while case.now < case.start + s(30) {
            if let Some(Work::Ack(batch)) = case.next() {
                case.acked(&batch, Err(error()));
                tries += 1;
            }
            let at = case.wakes_in().unwrap();
            case.now = case.now.max(case.start + at);
        }
        case.quiet();
        assert_eq!(case.answer(id), Some(Err(outcome)));
        assert!((8..15).contains(&tries), "waits grow from 0.2 s to 5 s: {tries}");
    }
}

#[test]
fn after_a_lost_answer_a_later_refusal_proves_nothing() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Off);
    case.settle(id, Action::Ack);
    let batch = case.acks();
    case.acked(&batch, Err(lost()));
    let batch = case.at(1).acks();
    case.acked(&batch, Ok(vec![Err(expired())]));
    assert_eq!(case.answer(id), Some(Err(AckError::Unknown)));
}

#[test]
fn an_ack_after_the_lease_expired_says_the_message_will_come_again() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Off);
    case.at(30).quiet();
    case.settle(id, Action::Ack);
    assert_eq!(case.answer(id), Some(Err(AckError::LeaseExpired)));
    case.quiet();
    assert_eq!(case.table.stats().lost, 1, "counted once");
}

#[test]
fn r17_an_ack_that_waited_beyond_its_lease_is_not_sent() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Off);
    case.settle(id, Action::Ack);
    case.at(31).quiet();
    assert_eq!(case.answer(id), Some(Err(AckError::LeaseExpired)));
    assert_eq!(case.table.stats().lost, 1);
}

#[test]
fn messages_of_one_endpoint_and_topic_share_rpcs_whatever_their_broker() {
    let mut case = Case::new();
    let (endpoint, scope) = (case.origin.endpoint.clone(), case.origin.scope.clone());
    let other_broker = case.table.origin(&endpoint, &"broker-b".into(), &scope);
    let other_proxy = case.table.origin(&Endpoint::new("proxy-b", 8081), &"broker-b".into(), &scope);
    assert!(Arc::ptr_eq(&case.table.origin(&endpoint, &"broker-b".into(), &scope), &other_broker));
    let ids = [
        case.lease(Renewal::Off),
        case.lease_from(&other_broker, Renewal::Off),
        case.lease_from(&other_proxy, Renewal::Off),
        case.lease(Renewal::Off),
    ];
    case.settle(ids[0], Action::Ack);
    assert_eq!(handles(&case.acks().held), ["1"], "a lone ack goes at once");
    ids[1..].iter().for_each(|&id| case.settle(id, Action::Ack));
    assert_eq!(handles(&case.acks().held), ["3"], "another lane");
    case.quiet();
}

#[test]
fn r9_a_batch_whose_endpoint_is_away_is_split_by_broker() {
    let mut case = Case::new();
    let (endpoint, scope) = (case.origin.endpoint.clone(), case.origin.scope.clone());
    let other = case.table.origin(&endpoint, &"broker-b".into(), &scope);
    let ids = [case.lease(Renewal::Off), case.lease_from(&other, Renewal::Off), case.lease(Renewal::Off)];
    ids.iter().for_each(|&id| case.settle(id, Action::Ack));
    let batch = case.acks();
    let parts = case.table.split(batch);
    assert_eq!(parts.iter().map(|part| handles(&part.held)).collect::<Vec<_>>(), [vec!["1", "3"], vec!["2"]]);
    assert_eq!(&*parts[1].origin.broker, "broker-b");
    case.acked(&parts[0], Ok(vec![Ok(()), Ok(())]));
    let late = case.lease(Renewal::Off);
    case.settle(late, Action::Ack);
    case.quiet();
    case.acked(&parts[1], Ok(vec![Ok(())]));
    assert_eq!(handles(&case.acks().held), ["4"], "the lane was busy until the last part had ended");
    assert_eq!(ids.map(|id| case.answer(id)), [Some(Ok(())), Some(Ok(())), Some(Ok(()))]);
}

// ---- renewal

#[test]
fn r6_a_renewed_lease_is_settled_by_its_new_handle() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Client);
    case.quiet();
    assert_eq!(case.wakes_in(), Some(s(20)), "a third before the end");
    let (single, change) = case.at(20).change();
    assert_eq!((single.held.handle(), change), ("1", InvisibleChange { duration: s(30), suspend: false }));
    case.changed(&single, Ok("1b"));
    case.at(39).quiet();
    case.settle(id, Action::Ack);
    assert_eq!(handles(&case.acks().held), ["1b"]);
    assert_eq!(case.table.stats().renewals, 1);
}

#[test]
fn a_renewal_comes_a_third_of_the_span_before_the_end_but_three_seconds_or_half_of_a_short_span() {
    for (span, renewed_at) in [(s(60), s(40)), (s(9), s(6)), (s(7), s(4)), (s(4), s(2)), (s(1), s(1) / 2)] {
        let mut case = Case::new();
        let origin = Arc::clone(&case.origin);
        let id = case.lease_for(&origin, span, Renewal::Client);
        assert_eq!(case.wakes_in(), Some(renewed_at), "of {span:?}");
        let lease = case.table.leases.get(id).expect("held");
        assert!(!lease.renewal_is_due(case.start + renewed_at - Duration::from_millis(1)));
        assert!(lease.renewal_is_due(case.start + renewed_at));
    }
}

#[test]
fn an_ack_during_a_renewal_waits_for_the_new_handle() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Client);
    let (single, _) = case.at(20).change();
    case.settle(id, Action::Ack);
    case.quiet();
    case.changed(&single, Ok("1b"));
    assert_eq!(handles(&case.acks().held), ["1b"]);
}

#[test]
fn a_renewal_that_was_not_sent_in_time_does_not_touch_the_ack_that_overtook_it() {
    let mut case = Case::new();
    let others: Vec<_> = (0..64).map(|_| case.lease(Renewal::Off)).collect();
    others.iter().for_each(|&id| case.settle(id, Action::Nack(s(1))));
    let under_way: Vec<_> = std::iter::from_fn(|| case.next()).collect();
    let id = case.lease(Renewal::Client);
    case.at(20).quiet();
    case.settle(id, Action::Ack);
    let batch = case.acks();
    let Work::Change(first, _) = &under_way[0] else { panic!("nacks") };
    case.at(31).changed(first, Ok("gone"));
    case.quiet();
    assert_eq!(case.answer(id), None, "only its answer ends what was sent");
    case.acked(&batch, Ok(vec![Ok(())]));
    assert_eq!(case.answer(id), Some(Ok(())));
}

#[test]
fn r6_a_refused_renewal_keeps_the_handle_and_is_tried_again() {
    for error in [away(), internal()] {
        let mut case = Case::new();
        let id = case.lease(Renewal::Client);
        let (single, _) = case.at(20).change();
        case.changed(&single, Err(error));
        case.quiet();
        let (single, _) = case.at(21).change();
        assert_eq!(single.held.handle(), "1");
        case.changed(&single, Err(refused()));
        case.at(29).quiet();
        case.settle(id, Action::Ack);
        let batch = case.acks();
        assert_eq!(handles(&batch.held), ["1"]);
        case.acked(&batch, Ok(vec![Ok(())]));
        assert_eq!(case.answer(id), Some(Ok(())), "the refusal was definite: the handle is good");
    }
}

#[test]
fn r7_a_renewal_that_finds_the_lease_expired_is_a_lost_lease() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Client);
    let signal = case.table.lost_signal(id);
    let (single, _) = case.at(20).change();
    case.changed(&single, Err(expired()));
    case.effects().lost.iter().for_each(|signal| signal.fire());
    assert!(signal.has_fired());
    case.at(25).quiet();
    case.settle(id, Action::Ack);
    assert_eq!(case.answer(id), Some(Err(AckError::LeaseExpired)));
    assert_eq!(case.table.stats().lost, 1);
}

#[test]
fn r18_after_a_lost_renewal_nothing_is_changed_by_that_handle_and_an_ack_stays_unknown() {
    let mut case = Case::new();
    let ids: Vec<_> = (0..4).map(|_| case.lease(Renewal::Client)).collect();
    for _ in 0..4 {
        case.lose_a_renewal();
    }
    case.at(29).quiet();
    case.settle(ids[0], Action::Ack);
    let batch = case.acks();
    assert_eq!(handles(&batch.held), ["1"]);
    case.acked(&batch, Ok(vec![Ok(())]));
    assert_eq!(case.answer(ids[0]), Some(Err(AckError::Unknown)), "a replaced handle answers OK and does nothing");
    let ticket = case.table.extend(ids[1], s(60));
    assert_eq!(case.extension(ticket), Some(Err(AckError::Unknown)));
    case.settle(ids[1], Action::Nack(s(1)));
    case.settle(ids[2], Action::DeadLetter);
    case.quiet();
    assert_eq!(case.answer(ids[1]), Some(Err(AckError::Unknown)));
    assert_eq!(case.answer(ids[2]), Some(Err(AckError::Unknown)));
    case.at(30).quiet();
    let stats = case.table.stats();
    assert_eq!(stats.unknown, 3);
    assert_eq!(stats.lost, 1, "trust ends with the old deadline");
}

#[test]
fn r6_an_empty_handle_is_no_handle() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Client);
    let (single, _) = case.at(20).change();
    case.changed(&single, Ok(""));
    case.settle(id, Action::Ack);
    assert_eq!(handles(&case.acks().held), ["1"]);
}

#[test]
fn r23_renewal_ends_at_the_longest_lease_and_then_the_lease_is_lost() {
    let mut case = Case::with_max_lease(s(100));
    let id = case.lease(Renewal::Client);
    let mut renewals = 0;
    while case.wakes_in().is_some() {
        let at = case.wakes_in().unwrap();
        case.now = case.start + at;
        if let Some(Work::Change(single, _)) = case.next() {
            renewals += 1;
            case.changed(&single, Ok("new"));
        }
    }
    assert_eq!(renewals, 4, "at 20, 40, 60 and 80 s");
    assert_eq!(case.now - case.start, s(110));
    assert!(matches!(&case.events()[..], [LeaseEvent::Lost { message_id, .. }] if &**message_id == "m1"));
    assert!(case.table.is_lost(id));
}

#[test]
fn without_renewal_a_lease_is_lost_when_it_runs_out() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Off);
    case.at(29).quiet();
    assert!(!case.table.is_lost(id));
    case.at(30).quiet();
    assert!(case.table.is_lost(id));
    assert_eq!(case.wakes_in(), None);
}

#[test]
fn a_lease_renewed_by_the_server_lives_until_the_longest_lease_at_its_own_endpoint() {
    let mut case = Case::with_max_lease(s(1000));
    let ids = [case.lease(Renewal::Server), case.lease(Renewal::Server)];
    case.at(500).quiet();
    case.settle(ids[0], Action::Ack);
    let batch = case.acks();
    assert!(batch.pinned && handles(&batch.held) == ["1"]);
    case.acked(&batch, Ok(vec![Ok(())]));
    assert_eq!(case.answer(ids[0]), Some(Ok(())));
    case.at(1000).quiet();
    assert!(case.table.is_lost(ids[1]));
}

#[test]
fn an_ack_to_a_renewing_server_that_went_away_ends_in_a_minute_not_in_hours() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Server);
    case.settle(id, Action::Ack);
    loop {
        if let Some(Work::Ack(batch)) = case.next() {
            assert!(batch.pinned);
            case.acked(&batch, Err(lost()));
        }
        if let Some(answer) = case.answer(id) {
            assert_eq!(answer, Err(AckError::Unknown));
            break;
        }
        let at = case.wakes_in().unwrap();
        case.now = case.now.max(case.start + at);
    }
    assert_eq!(case.now - case.start, s(60));
}

#[test]
fn a_dropped_receipt_is_not_renewed_and_nothing_is_sent() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Client);
    case.table.abandon(id);
    assert!(matches!(&case.events()[..], [LeaseEvent::Dropped { .. }]));
    case.at(60).quiet();
    let stats = case.table.stats();
    assert_eq!((stats.dropped, stats.lost, stats.held, case.table.leases.len()), (1, 0, 0, 0));
}

#[test]
fn a_receipt_dropped_during_its_renewal_is_gone_when_the_answer_comes() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Client);
    let (single, _) = case.at(20).change();
    case.table.abandon(id);
    let other = case.lease(Renewal::Client);
    case.changed(&single, Ok("1b"));
    case.settle(other, Action::Ack);
    assert_eq!(handles(&case.acks().held), ["2"], "the slot's new lease keeps its own handle");
}

// ---- extensions

#[test]
fn an_extension_waits_for_the_renewal_under_way_and_sets_handle_and_deadline() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Client);
    let (renewal, _) = case.at(20).change();
    let ticket = case.table.extend(id, s(600));
    case.quiet();
    case.changed(&renewal, Ok("1b"));
    let (extension, change) = case.change();
    assert_eq!((extension.held.handle(), change.duration, change.suspend), ("1b", s(600), false));
    case.changed(&extension, Ok("1c"));
    assert_eq!(case.extension(ticket), Some(Ok(())));
    case.at(419).quiet();
    let (renewal, change) = case.at(420).change();
    assert_eq!((renewal.held.handle(), change.duration), ("1c", s(30)), "renewal goes on, to what it was");
}

#[test]
fn a_settlement_waits_for_the_extensions_before_it() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Off);
    let tickets = [case.table.extend(id, s(40)), case.table.extend(id, s(50))];
    case.settle(id, Action::Nack(s(5)));
    for (handle, new, seconds) in [("1", "1b", 40), ("1b", "1c", 50)] {
        let (single, change) = case.change();
        assert_eq!((single.held.handle(), change.duration), (handle, s(seconds)));
        case.quiet();
        case.changed(&single, Ok(new));
    }
    let (nack, change) = case.change();
    assert_eq!((nack.held.handle(), change.duration), ("1c", s(5)));
    case.changed(&nack, Ok("gone"));
    assert_eq!(tickets.map(|ticket| case.extension(ticket)), [Some(Ok(())), Some(Ok(()))]);
    assert_eq!(case.answer(id), Some(Ok(())));
}

#[test]
fn an_extension_fails_by_what_is_known() {
    for (error, expected, lost_now) in [
        (refused(), rejected(), false),
        (internal(), AckError::Rejected { code: 50001, message: "null channel".into() }, false),
        (lost(), AckError::Unknown, false),
        (expired(), AckError::LeaseExpired, true),
    ] {
        let mut case = Case::new();
        let id = case.lease(Renewal::Client);
        let ticket = case.table.extend(id, s(60));
        let (single, _) = case.change();
        case.changed(&single, Err(error));
        assert_eq!(case.extension(ticket), Some(Err(expected)));
        assert_eq!(case.table.is_lost(id), lost_now);
    }
}

#[test]
fn an_extension_that_certainly_was_not_done_is_tried_again() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Off);
    let ticket = case.table.extend(id, s(60));
    let (single, _) = case.change();
    case.changed(&single, Err(away()));
    case.quiet();
    let (single, change) = case.at(1).change();
    assert_eq!(change.duration, s(60));
    case.changed(&single, Ok("1b"));
    assert_eq!(case.extension(ticket), Some(Ok(())));
    case.at(60).quiet();
    assert!(!case.table.is_lost(id), "60 s from when it was sent");
    case.at(61).quiet();
    assert!(case.table.is_lost(id));
}

#[test]
fn an_extension_does_not_wait_for_a_renewals_next_try() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Client);
    let (single, _) = case.at(20).change();
    case.changed(&single, Err(away()));
    case.quiet();
    let _ = case.table.extend(id, s(60));
    assert_eq!(case.change().1.duration, s(60));
}

#[test]
fn an_extension_of_a_lost_lease_comes_too_late() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Off);
    case.at(30).quiet();
    let ticket = case.table.extend(id, s(60));
    assert_eq!(case.extension(ticket), Some(Err(AckError::LeaseExpired)));
}

#[test]
fn an_extension_outlives_its_receipt() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Client);
    let ticket = case.table.extend(id, s(60));
    case.table.abandon(id);
    let (single, _) = case.change();
    case.changed(&single, Ok("1b"));
    assert_eq!(case.extension(ticket), Some(Ok(())));
    assert_eq!(case.table.leases.len(), 0);
    case.at(100).quiet();
}

#[test]
fn an_extension_by_hand_ends_the_servers_renewal() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Server);
    let ticket = case.table.extend(id, s(60));
    let (single, _) = case.change();
    assert!(single.pinned);
    case.changed(&single, Ok("1b"));
    assert_eq!(case.extension(ticket), Some(Ok(())));
    case.at(60).quiet();
    assert!(case.table.is_lost(id));
}

// ---- nack, dead letter, release

#[test]
fn r18_a_nack_or_dead_letter_is_not_repeated_after_a_lost_answer() {
    for action in [Action::Nack(s(5)), Action::DeadLetter, Action::Release] {
        let mut case = Case::new();
        let id = case.lease(Renewal::Client);
        case.settle(id, action);
        let (Some(Work::Change(single, _)) | Some(Work::DeadLetter(single, _))) = case.next() else {
            panic!("{action:?} is due");
        };
        case.table.on_dead_lettered(single.id, Err(lost()), case.now, JITTER);
        assert_eq!(case.answer(id), Some(Err(AckError::Unknown)));
        case.at(29).quiet();
    }
}

#[test]
fn a_nack_that_certainly_was_not_done_is_tried_again() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Client);
    case.settle(id, Action::Nack(s(5)));
    let (single, _) = case.change();
    case.changed(&single, Err(away()));
    assert_eq!(case.answer(id), None);
    let (single, change) = case.at(1).change();
    assert_eq!(change, InvisibleChange { duration: s(5), suspend: false });
    case.changed(&single, Ok("gone"));
    assert_eq!(case.answer(id), Some(Ok(())));
    assert_eq!(case.table.stats().nacked, 1);
}

#[test]
fn r10_a_message_that_no_user_saw_is_released_with_suspend() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Client);
    case.settle(id, Action::Release);
    case.table.forget_answer(Slot::Lease(id));
    let (single, change) = case.change();
    assert_eq!(change, InvisibleChange { duration: s(1), suspend: true });
    case.changed(&single, Ok("gone"));
    assert_eq!((case.table.stats().released, case.table.leases.len()), (1, 0));
}

#[test]
fn a_dead_letter_tells_which_delivery_it_was() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Client);
    case.settle(id, Action::DeadLetter);
    let Some(Work::DeadLetter(single, attempts)) = case.next() else { panic!("a dead letter is due") };
    assert_eq!((attempts.now, attempts.max), (3, 16));
    case.table.on_dead_lettered(single.id, Ok(()), case.now, JITTER);
    assert_eq!((case.answer(id), case.table.stats().dead_lettered), (Some(Ok(())), 1));
}

#[test]
fn single_requests_are_bounded_and_renewals_go_first() {
    let mut case = Case::new();
    let ids: Vec<_> = (0..100).map(|_| case.lease(Renewal::Off)).collect();
    ids.iter().for_each(|&id| case.settle(id, Action::Nack(s(1))));
    let renewed = case.lease(Renewal::Client);
    let under_way: Vec<_> = std::iter::from_fn(|| case.next()).collect();
    assert_eq!(under_way.len(), 64);
    case.at(20).quiet();
    let Work::Change(first, _) = &under_way[0] else { panic!("nacks") };
    case.changed(first, Ok("gone"));
    assert_eq!(case.change().0.id, renewed);
}

// ---- answers, close, memory

struct Silent;

impl Wake for Silent {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn the_answer_wakes_who_polled_last_and_the_waker_before_is_dropped_outside_the_lock() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Off);
    let ticket = case.table.extend(id, s(60));
    let (extension, _) = case.change();
    case.settle(id, Action::Ack);
    for slot in [Slot::Extension(ticket), Slot::Lease(id)] {
        let (before, last) = (Waker::from(Arc::new(Silent)), Waker::from(Arc::new(Silent)));
        let _ = case.effects();
        assert!(case.table.poll_answer(slot, &before).is_pending());
        assert!(case.table.poll_answer(slot, &before).is_pending());
        assert!(case.effects().spent.is_empty(), "one that is known is kept");
        assert!(case.table.poll_answer(slot, &last).is_pending());
        assert!(matches!(&case.effects().spent[..], [spent] if spent.will_wake(&before)));
        if let Slot::Extension(_) = slot {
            case.changed(&extension, Ok("1b"));
        } else {
            let batch = case.acks();
            case.acked(&batch, Ok(vec![Ok(())]));
        }
        assert!(matches!(&case.effects().wakers[..], [woken] if woken.will_wake(&last)));
    }
}

#[test]
fn e4_a_dropped_settled_takes_nothing_back_and_leaks_nothing() {
    let mut case = Case::new();
    let ids = [case.lease(Renewal::Off), case.lease(Renewal::Off), case.lease(Renewal::Off)];
    ids.iter().for_each(|&id| case.settle(id, Action::Ack));
    case.table.forget_answer(Slot::Lease(ids[0]));
    case.table.forget_answer(Slot::Lease(ids[1]));
    let batch = case.acks();
    case.acked(&batch, Ok(vec![Ok(()), Err(refused()), Err(refused())]));
    assert!(
        matches!(&case.events()[..], [LeaseEvent::NotSettled { message_id, error, .. }]
            if &**message_id == "m2" && *error == rejected()),
        "a failure that nobody waits for is an event"
    );
    case.table.forget_answer(Slot::Lease(ids[2]));
    assert_eq!(case.events().len(), 1, "also when it had failed before it was dropped");
    assert_eq!(case.table.leases.len(), 0);
}

#[test]
fn close_answers_what_is_queued_and_what_is_under_way_and_all_that_comes_later() {
    let mut case = Case::new();
    let ids: Vec<_> = (0..5).map(|_| case.lease(Renewal::Client)).collect();
    let signal = case.table.lost_signal(ids[4]);
    case.settle(ids[0], Action::Ack);
    let batch = case.acks();
    case.settle(ids[1], Action::Ack);
    let sent = case.table.extend(ids[2], s(60));
    let (change, _) = case.change();
    let queued = case.table.extend(ids[2], s(60));
    case.settle(ids[2], Action::DeadLetter);
    case.table.close();
    assert_eq!(case.answer(ids[0]), Some(Err(AckError::Unknown)));
    assert_eq!(case.answer(ids[1]), Some(Err(AckError::Closed)));
    assert_eq!(case.answer(ids[2]), Some(Err(AckError::Closed)));
    assert_eq!(case.extension(sent), Some(Err(AckError::Unknown)));
    assert_eq!(case.extension(queued), Some(Err(AckError::Closed)));
    case.acked(&batch, Ok(vec![Ok(())]));
    case.changed(&change, Ok("late"));
    case.settle(ids[3], Action::Ack);
    assert_eq!(case.answer(ids[3]), Some(Err(AckError::Closed)));
    case.effects().lost.iter().for_each(|signal| signal.fire());
    assert!(signal.has_fired(), "whoever works on a message is told that it is no longer ours");
    assert_eq!(case.wakes_in(), None);
    let late = case.lease(Renewal::Client);
    case.table.abandon(late);
    case.table.abandon(ids[4]);
    case.at(1000).quiet();
    let stats = case.table.stats();
    assert_eq!((case.table.leases.len(), case.table.tickets.len(), stats.held, stats.queued), (0, 0, 0, 0));
}

#[test]
fn a_lease_is_watched_after_its_loss_too() {
    let mut case = Case::new();
    let (lost, held) = (case.lease(Renewal::Off), case.lease(Renewal::Client));
    assert!(!case.table.has_lost());
    case.at(29).quiet_but_for_renewals();
    assert!(!case.table.has_lost(), "none is lost");
    case.at(30).quiet_but_for_renewals();
    assert!(case.table.has_lost() && case.table.is_lost(lost) && !case.table.is_lost(held));
    let _ = case.effects();
    let _ = case.table.lost_signal(held);
    assert!(case.effects().lost.is_empty());
    let signal = case.table.lost_signal(lost);
    assert!(matches!(&case.effects().lost[..], [told] if Arc::ptr_eq(told, &signal)), "it fires at once");
}

#[test]
fn after_the_close_every_lease_counts_as_lost() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Client);
    assert!(!case.table.is_closed());
    case.table.close();
    assert!(case.table.is_closed() && case.table.has_lost() && case.table.is_lost(id));
    let _ = case.effects();
    let _ = case.table.lost_signal(id);
    assert_eq!(case.effects().lost.len(), 1);
}

#[test]
fn who_waits_until_nothing_is_queued_is_told_when_the_last_answer_is_there() {
    let mut case = Case::new();
    let ids = [case.lease(Renewal::Off), case.lease(Renewal::Off), case.lease(Renewal::Off)];
    case.settle(ids[0], Action::Ack);
    let batch = case.acks();
    case.acked(&batch, Ok(vec![Ok(())]));
    assert!(!case.effects().idle, "nobody waits");
    case.table.await_idle();
    case.settle(ids[1], Action::Ack);
    case.settle(ids[2], Action::DeadLetter);
    let batch = case.acks();
    case.acked(&batch, Ok(vec![Ok(())]));
    assert!(!case.effects().idle, "a dead letter is queued");
    let Some(Work::DeadLetter(single, _)) = case.next() else { panic!("a dead letter is due") };
    case.table.on_dead_lettered(single.id, Ok(()), case.now, JITTER);
    assert!(case.effects().idle);
}

#[test]
fn the_keeper_is_done_when_no_receipt_can_come_and_the_last_settlement_has_its_answer() {
    let mut case = Case::new();
    let id = case.lease(Renewal::Off);
    assert!(!case.table.is_over(), "receipts may be settled");
    case.settle(id, Action::Ack);
    let batch = case.acks();
    case.quiet();
    case.table.orphan();
    assert!(case.effects().wake_keeper, "it may have to end");
    assert!(!case.table.is_over(), "an ack is under way");
    case.acked(&batch, Ok(vec![Ok(())]));
    assert!(case.table.is_over());
    let mut closed = Case::new();
    closed.table.close();
    assert!(closed.table.is_over());
}

#[test]
fn messages_that_arrive_together_each_have_the_duration_that_was_granted_to_them() {
    let mut case = Case::new();
    let origin = Arc::clone(&case.origin);
    let grant = |seconds| Grant { held: Held::new("m", "h"), delivery_attempt: 1, invisible: s(seconds) };
    let [first, second, long, third] = case.register(&origin, Renewal::Off, [10, 10, 60, 10].map(grant));
    case.at(10).quiet();
    let lost = [first, second, long, third].map(|id| case.table.is_lost(id));
    assert_eq!(lost, [true, true, false, true]);
    case.at(60).quiet();
    assert!(case.table.is_lost(long));
}

#[test]
fn timers_of_settled_leases_do_not_pile_up() {
    let mut case = Case::new();
    let held = case.lease(Renewal::Client);
    for round in 0..100 {
        let ids: Vec<_> = (0..100).map(|_| case.lease(Renewal::Client)).collect();
        ids.iter().for_each(|&id| case.settle(id, Action::Ack));
        while let Some(Work::Ack(batch)) = case.next() {
            let results = batch.held.iter().map(|_| Ok(())).collect();
            case.acked(&batch, Ok(results));
        }
        ids.iter().for_each(|&id| assert_eq!(case.answer(id), Some(Ok(())), "round {round}"));
    }
    assert!(case.table.timers.len() < 1200, "{} timers for no lease", case.table.timers.len());
    assert_eq!(case.at(20).change().0.id, held, "one that is held keeps its own");
}

#[test]
fn the_keeper_is_woken_once_for_many_settlements_and_for_an_earlier_timer() {
    let mut case = Case::new();
    let ids: Vec<_> = (0..10).map(|_| case.lease(Renewal::Client)).collect();
    case.quiet();
    let _ = case.table.next_wake();
    let _ = case.effects();
    case.settle(ids[0], Action::Ack);
    assert!(case.effects().wake_keeper);
    case.settle(ids[1], Action::Ack);
    assert!(!case.effects().wake_keeper, "it was told");
    let _batch = case.acks();
    case.quiet();
    case.settle(ids[2], Action::Ack);
    assert!(!case.effects().wake_keeper, "the lane is busy: the answer will come by");
    let _ = case.lease(Renewal::Client);
    assert!(!case.effects().wake_keeper, "it wakes up early enough");
    let origin = Arc::clone(&case.origin);
    let _ = case.lease_for(&origin, s(10), Renewal::Off);
    assert!(case.effects().wake_keeper, "an earlier end than any known");
}

#[test]
fn no_event_is_made_before_somebody_listens() {
    let mut case = Case::new();
    case.table.tells_events = false;
    let ids = [case.lease(Renewal::Client), case.lease(Renewal::Client)];
    case.table.abandon(ids[0]);
    assert!(case.events().is_empty());
    assert_eq!(case.table.stats().dropped, 1, "it is counted all the same");
    case.table.tell_events();
    case.table.abandon(ids[1]);
    assert_eq!(case.events().len(), 1);
}

#[test]
fn durations_beyond_all_time_are_taken_as_for_ever() {
    let mut case = Case::with_max_lease(Duration::MAX);
    let id = case.lease(Renewal::Server);
    let _ = case.table.extend(id, Duration::MAX);
    let (single, _) = case.change();
    case.changed(&single, Ok("1b"));
    case.at(50 * 365 * 24 * 3600).quiet();
    assert!(!case.table.is_lost(id));
}
