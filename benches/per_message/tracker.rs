//! What it costs to complete: the tracker of a queue, and the completions that users hold.

use std::hint::black_box;
use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput};

use crate::checkpoint::tracker::Tracker;
use crate::checkpoint::{Completion, Ledger, QueueLedger};
use crate::model::{Epoch, MessageQueue, Offset};

const OPEN: u64 = 1 << 20;
const BATCH: u64 = 32;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("completions");
    group.throughput(Throughput::Elements(OPEN));
    group.sample_size(10);
    let (random, batches) = (shuffled(OPEN), shuffled(OPEN / BATCH));
    group.bench_function("tracker, 1 M open, one by one in random order", |bencher| {
        bencher.iter_batched_ref(full, |tracker| complete(tracker, &random, 1), BatchSize::PerIteration);
    });
    group.bench_function("tracker, 1 M open, batches of 32 in random order", |bencher| {
        bencher.iter_batched_ref(full, |tracker| complete(tracker, &batches, BATCH), BatchSize::PerIteration);
    });
    group.bench_function("tracker, hand out and complete in order, 32 at a time", |bencher| {
        bencher.iter_batched_ref(|| Tracker::new(Offset::new(0)), in_order, BatchSize::PerIteration);
    });
    group.bench_function("Completion, 1 M open, one by one in random order", |bencher| {
        let tokens = || random_tokens(&random);
        let complete = |tokens: Vec<Completion>| tokens.into_iter().for_each(Completion::complete);
        bencher.iter_batched(tokens, complete, BatchSize::PerIteration);
    });
    group.finish();
}

fn shuffled(count: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..count).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut order);
    order
}

fn full() -> Tracker {
    let mut tracker = Tracker::new(Offset::new(0));
    tracker.hand_out((1..=OPEN).map(Offset::new), Instant::now()).expect("rising offsets");
    tracker
}

fn complete(tracker: &mut Tracker, order: &[u64], size: u64) {
    for at in order {
        black_box(tracker.complete(at * size..(at + 1) * size));
    }
    assert_eq!(tracker.low_mark(), Offset::new(OPEN));
}

fn in_order(tracker: &mut Tracker) {
    let now = Instant::now();
    for at in (0..OPEN).step_by(BATCH as usize) {
        let ends = (at + 1..=at + BATCH).map(Offset::new);
        let pieces = tracker.hand_out(ends, now).expect("rising offsets");
        black_box(tracker.complete(pieces));
    }
    assert_eq!(tracker.low_mark(), Offset::new(OPEN));
}

fn random_tokens(order: &[u64]) -> Vec<Completion> {
    let ledger = Ledger::new(Box::new(|_| {}));
    let queue = MessageQueue::new("orders", "broker-a", 0);
    let queue = ledger.begin(&queue, Epoch::default(), Offset::new(0)).expect("a new epoch");
    let mut tokens: Vec<Option<Completion>> = singles(&queue).map(Some).collect();
    order.iter().filter_map(|at| tokens[*at as usize].take()).collect()
}

fn singles(queue: &QueueLedger) -> impl Iterator<Item = Completion> {
    let mut rest = queue.hand_out((1..=OPEN).map(Offset::new), Instant::now()).ok();
    (1..=OPEN).filter_map(move |end| match &mut rest {
        Some(whole) if end < OPEN => Some(whole.take_first(1, Offset::new(end))),
        _ => rest.take(),
    })
}
