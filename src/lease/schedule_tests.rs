//! Random schedules: whatever happens in whatever order, each settlement is answered once, each lease has at most one
//! request under way, and no handle that is known to be replaced is used.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::error::{Error, ErrorKind};
use crate::lease::entry::{Action, Arrival, Grant};
use crate::lease::slab::SlotId;
use crate::lease::table::{Slot, Table};
use crate::lease::work::{AckBatch, Single, Work};
use crate::lease::{LeaseOptions, Origin, Renewal};
use crate::model::{Endpoint, Held};
use crate::transport::Scope;

#[derive(Debug, Clone)]
enum Op {
    Register(Renewal),
    Settle(usize, Action),
    Extend(usize),
    DropReceipt(usize),
    DropSettled(usize),
    /// The n-th request under way ends so.
    Answer(usize, u8),
    Pass(u64),
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    let action = prop_oneof![
        5 => Just(Action::Ack),
        1 => Just(Action::Nack(Duration::from_secs(3))),
        1 => Just(Action::DeadLetter),
        1 => Just(Action::Release),
    ];
    let renewal = prop_oneof![4 => Just(Renewal::Client), 1 => Just(Renewal::Server), 1 => Just(Renewal::Off)];
    prop_oneof![
        300 => renewal.prop_map(Op::Register),
        200 => (any::<usize>(), action).prop_map(|(n, action)| Op::Settle(n, action)),
        60 => any::<usize>().prop_map(Op::Extend),
        30 => any::<usize>().prop_map(Op::DropReceipt),
        50 => any::<usize>().prop_map(Op::DropSettled),
        300 => (any::<usize>(), any::<u8>()).prop_map(|(n, outcome)| Op::Answer(n, outcome)),
        200 => (0u64..8_000).prop_map(Op::Pass),
        1 => Just(Op::Close),
    ]
}

enum UnderWay {
    Ack(AckBatch),
    Change(Single),
    DeadLetter(Single),
}

struct World {
    table: Table,
    origin: Arc<Origin>,
    now: Instant,
    registered: usize,
    receipts: Vec<SlotId>,
    /// Waited for.
    settled: Vec<Slot>,
    /// Looked at by nobody.
    answered: HashSet<String>,
    under_way: Vec<UnderWay>,
    /// By message id: the newest handle, and what the messages' requests under way are.
    handles: HashMap<Arc<str>, Arc<str>>,
    busy: HashSet<Arc<str>>,
    next_handle: u64,
}

impl World {
    fn new() -> Self {
        let options = LeaseOptions { max_lease: Duration::from_secs(60), max_attempts: 16 };
        let mut table = Table::new(options);
        let scope = Scope { group: "g".into(), topic: "t".into() };
        let origin = table.origin(&Endpoint::new("a", 1), &"b".into(), &scope);
        #[allow(clippy::disallowed_methods, reason = "any starting point will do")]
        let now = Instant::now();
        Self {
            table,
            origin,
            now,
            registered: 0,
            receipts: Vec::new(),
            settled: Vec::new(),
            answered: HashSet::new(),
            under_way: Vec::new(),
            handles: HashMap::new(),
            busy: HashSet::new(),
            next_handle: 0,
        }
    }

    fn handle(&mut self) -> Arc<str> {
        self.next_handle += 1;
        format!("h{}", self.next_handle).into()
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Register(renewal) => self.register(renewal),
            Op::Settle(n, action) => {
                if let Some(id) = pick(&mut self.receipts, n) {
                    self.table.settle(id, action);
                    self.settled.push(Slot::Lease(id));
                }
            }
            Op::Extend(n) if !self.receipts.is_empty() => {
                let id = self.receipts[n % self.receipts.len()];
                let ticket = self.table.extend(id, Duration::from_secs(n as u64 % 50));
                self.settled.push(Slot::Extension(ticket));
            }
            Op::Extend(_) => {}
            Op::DropReceipt(n) => {
                if let Some(id) = pick(&mut self.receipts, n) {
                    self.table.abandon(id);
                }
            }
            Op::DropSettled(n) => {
                if let Some(slot) = pick(&mut self.settled, n) {
                    self.table.forget_answer(slot);
                }
            }
            Op::Answer(n, outcome) => {
                if let Some(under_way) = pick(&mut self.under_way, n) {
                    self.answer(under_way, outcome);
                }
            }
            Op::Pass(millis) => self.now += Duration::from_millis(millis),
            Op::Close => self.table.close(),
        }
        self.send();
        self.look();
        let _ = self.table.take_effects();
    }

    fn register(&mut self, renewal: Renewal) {
        self.registered += 1;
        let (message_id, handle): (Arc<str>, _) = (format!("m{}", self.registered).into(), self.handle());
        self.handles.insert(Arc::clone(&message_id), Arc::clone(&handle));
        let held = Held::new(&message_id, &handle);
        let grant = Grant { held, delivery_attempt: 1, invisible: Duration::from_secs(15) };
        let arrival = Arrival { origin: &self.origin, at: self.now, renewal };
        self.table.register(&arrival, std::iter::once(((), grant)), |(), id| self.receipts.push(id));
    }

    fn send(&mut self) {
        while let Some(work) = self.table.next(self.now) {
            let under_way = match work {
                Work::Ack(batch) => UnderWay::Ack(batch),
                Work::Change(single, _) => UnderWay::Change(single),
                Work::DeadLetter(single, _) => UnderWay::DeadLetter(single),
            };
            for held in held(&under_way) {
                assert!(self.busy.insert(held.message_id().into()), "two requests for {}", held.message_id());
                assert_eq!(
                    &*self.handles[held.message_id()],
                    held.handle(),
                    "a replaced handle of {}",
                    held.message_id()
                );
            }
            self.under_way.push(under_way);
        }
        let wake = self.table.next_wake();
        assert!(wake.is_none_or(|at| at > self.now), "what is due was done");
    }

    fn answer(&mut self, under_way: UnderWay, outcome: u8) {
        for held in held(&under_way) {
            self.busy.remove(held.message_id());
        }
        let (now, jitter) = (self.now, f64::from(outcome) / 256.0);
        match under_way {
            UnderWay::Ack(batch) if outcome.is_multiple_of(5) => {
                self.table.on_acked(&batch, Err(error(outcome / 5)), now, jitter);
            }
            UnderWay::Ack(batch) => {
                let each = |n: usize| if (n as u8 ^ outcome) & 3 == 0 { Err(error(outcome ^ n as u8)) } else { Ok(()) };
                let results = (0..batch.held.len()).map(each).collect();
                self.table.on_acked(&batch, Ok(results), now, jitter);
            }
            UnderWay::Change(single) => {
                let result = if outcome < 128 { Ok(self.handle()) } else { Err(error(outcome)) };
                if let Ok(handle) = &result {
                    self.handles.insert(single.held.message_id().into(), Arc::clone(handle));
                }
                self.table.on_changed(single.id, result, now, jitter);
            }
            UnderWay::DeadLetter(single) => {
                let result = if outcome < 128 { Ok(()) } else { Err(error(outcome)) };
                self.table.on_dead_lettered(single.id, result, now, jitter);
            }
        }
    }

    fn look(&mut self) {
        let table = &mut self.table;
        let answered = &mut self.answered;
        self.settled.retain(|&slot| match table.poll_answer(slot, Waker::noop()) {
            Poll::Pending => true,
            Poll::Ready(_) => {
                assert!(answered.insert(format!("{slot:?}")), "{slot:?} was answered twice");
                false
            }
        });
    }

    /// Time passes, every request ends, and then nothing is left.
    fn finish(&mut self) {
        while let Some(id) = self.receipts.pop() {
            self.table.settle(id, Action::Ack);
            self.settled.push(Slot::Lease(id));
        }
        for round in 0..200 {
            self.send();
            while let Some(under_way) = self.under_way.pop() {
                self.answer(under_way, if round < 3 { 250 } else { 1 });
            }
            self.look();
            self.now += Duration::from_secs(1);
        }
        let stats = self.table.stats();
        assert!(self.settled.is_empty(), "{} settlements were never answered", self.settled.len());
        assert_eq!((stats.held, stats.queued), (0, 0));
        assert_eq!((self.table.leases.len(), self.table.tickets.len()), (0, 0), "memory is given back");
        let ended = stats.acked + stats.nacked + stats.dead_lettered + stats.released + stats.lost + stats.dropped;
        assert!(ended as usize <= self.registered, "{stats:?}");
    }
}

fn held(under_way: &UnderWay) -> &[Held] {
    match under_way {
        UnderWay::Ack(batch) => &batch.held,
        UnderWay::Change(single) | UnderWay::DeadLetter(single) => std::slice::from_ref(&single.held),
    }
}

fn pick<T>(from: &mut Vec<T>, n: usize) -> Option<T> {
    if from.is_empty() { None } else { Some(from.swap_remove(n % from.len())) }
}

fn error(kind: u8) -> Error {
    match kind % 6 {
        0 => Error::new(ErrorKind::InvalidReceipt, "receipt handle is expired").with_code(40013),
        1 => Error::new(ErrorKind::InvalidReceipt, "cannot find broker b").with_code(40013),
        2 => Error::new(ErrorKind::Server, "null channel").with_code(50001),
        3 => Error::new(ErrorKind::Unavailable, "connection reset"),
        4 => Error::new(ErrorKind::Timeout, "no answer"),
        _ => Error::new(ErrorKind::PermissionDenied, "no").with_code(40300),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn each_settlement_is_answered_once_and_no_replaced_handle_is_used(ops in prop::collection::vec(op(), 1..200)) {
        let mut world = World::new();
        ops.into_iter().for_each(|op| world.run(op));
        world.finish();
    }
}
