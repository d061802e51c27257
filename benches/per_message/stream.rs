//! The stream's own cost per message.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use futures::prelude::*;
use tokio::runtime::{Builder, Runtime};

use crate::consumer::simple::{SimpleConsumer, SimpleConsumerBuilder};
use crate::error::Result;
use crate::model::{AccessPoint, ClientKind, ClientSettings, Endpoint, Filter, Limits, Scheme};
use crate::session::{Connector, Enrolment, Groups, RouteEndpoints, Session, SessionConfig};
use crate::transport::tls::TlsOptions;
use crate::transport::{ReceiveFrame, ReceiveRequest, Receiving, Scope};
use crate::wire::Instant32;

const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream");
    group.throughput(Throughput::Elements(1));
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    group.bench_function("the wire alone", |bencher| bencher.iter_custom(|count| runtime.block_on(wire_alone(count))));
    group.bench_function("the wire and for_each_concurrent alone", |bencher| {
        bencher.iter_custom(|count| runtime.block_on(combinator_alone(count)));
    });
    group.bench_function("receive, drop", |bencher| bencher.iter_custom(|count| run(&runtime, count, dropped)));
    group.bench_function("receive, ack by sink", |bencher| bencher.iter_custom(|count| run(&runtime, count, by_sink)));
    group
        .bench_function("receive, ack each of 1024", |bencher| bencher.iter_custom(|count| run(&runtime, count, each)));
    group.finish();
}

/// One of the benches, not measured.
pub(crate) fn once(what: &str, count: u64) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    match what {
        "wire" => drop(runtime.block_on(wire_alone(count))),
        "combinator" => drop(runtime.block_on(combinator_alone(count))),
        "drop" => drop(run(&runtime, count, dropped)),
        "sink" => drop(run(&runtime, count, by_sink)),
        "each" => drop(run(&runtime, count, each)),
        other => panic!("{other}: no such bench; wire, combinator, drop, sink or each"),
    }
}

fn run<F: Future<Output = ()>>(runtime: &Runtime, count: u64, work: fn(SimpleConsumer, usize) -> F) -> Duration {
    runtime.block_on(async {
        let consumer = consumer().await;
        let begun = Instant::now();
        work(consumer, count as usize).await;
        begun.elapsed()
    })
}

async fn dropped(consumer: SimpleConsumer, count: usize) {
    let dropping = consumer.take(count).for_each(|delivery| {
        drop(delivery);
        future::ready(())
    });
    dropping.await;
}

async fn by_sink(consumer: SimpleConsumer, count: usize) {
    let sink = consumer.control().ack_sink();
    let receipts = consumer.take(count).map_ok(|delivery| delivery.into_parts().1);
    receipts.forward(sink).await.expect("acks are granted");
}

async fn each(consumer: SimpleConsumer, count: usize) {
    let acked = consumer.take(count).for_each_concurrent(1024, |delivery| async move {
        delivery.expect("no fault").ack().await.expect("acks are granted");
    });
    acked.await;
}

/// What of the figures is this bench's own: the boxes and clones that stand for a network.
async fn wire_alone(count: u64) -> Duration {
    let begun = Instant::now();
    let mut frames = pin!(frames(count));
    while let Some(frame) = frames.next().await {
        drop(std::hint::black_box(frame));
    }
    begun.elapsed()
}

/// What of "each of 1024" is the combinator's: the same messages, each with a future that waits once and is woken together
/// with 63 others.
#[allow(clippy::future_not_send, reason = "cells cost nothing, and it runs on one thread")]
async fn combinator_alone(count: u64) -> Duration {
    let begun = Instant::now();
    let (waiting, ended) = (RefCell::new(Vec::with_capacity(64)), Cell::new(false));
    let end = stream::poll_fn(|_| {
        ended.set(true);
        waiting.borrow_mut().drain(..).for_each(Waker::wake);
        Poll::Ready(None)
    });
    let waited = frames(count).chain(end).for_each_concurrent(1024, |frame| {
        let mut is_first = true;
        let (waiting, ended) = (&waiting, &ended);
        future::poll_fn(move |cx| {
            if !std::mem::take(&mut is_first) {
                std::hint::black_box(&frame);
                return Poll::Ready(());
            }
            let mut waiting = waiting.borrow_mut();
            waiting.push(cx.waker().clone());
            if waiting.len() == 64 || ended.get() {
                waiting.drain(..).for_each(Waker::wake);
            }
            Poll::Pending
        })
    });
    waited.await;
    begun.elapsed()
}

/// So many messages, and up to 31 more, as the wire brings them.
fn frames(count: u64) -> impl Stream<Item = Result<ReceiveFrame>> + Send {
    let (wire, at) = (Arc::new(Instant32::new()), Endpoint::new("localhost", 1));
    let request = Arc::new(ReceiveRequest {
        scope: Scope { group: "billing".into(), topic: "orders".into() },
        broker: "broker-a".into(),
        filter: Filter::all(),
        max_messages: 32,
        invisible: None,
        await_duration: PATIENCE,
        attempt_id: None,
    });
    let receives = stream::iter(0..count.div_ceil(32)).then(move |_| {
        let (wire, request, at) = (Arc::clone(&wire), Arc::clone(&request), at.clone());
        async move { wire.receive(&at, &request).await.expect("frames") }
    });
    receives.flatten()
}

async fn consumer() -> SimpleConsumer {
    let at = Endpoint::new("localhost", 1);
    let connector = unused(&at);
    let wire = Arc::new(Instant32::new());
    let settings = ClientSettings {
        kind: ClientKind::SimpleConsumer,
        request_timeout: PATIENCE,
        group: Some("billing".into()),
        subscriptions: Vec::new(),
        await_duration: None,
        topics: Vec::new(),
    };
    let session = Session::open(SessionConfig {
        wire: Arc::clone(&wire) as _,
        access_point: vec![at],
        settings,
        route_endpoints: RouteEndpoints::default(),
        enrolment: Enrolment::Entrance,
        requests: None,
        build_timeout: PATIENCE,
    });
    let session = session.await.expect("a session");
    let builder = SimpleConsumerBuilder::new(Arc::new(connector), "billing".into()).subscribe("orders", Filter::all());
    builder.build_over(session, wire).await.expect("a consumer")
}

fn unused(at: &Endpoint) -> Connector {
    Connector {
        access_point: Some(AccessPoint { scheme: Scheme::Plaintext, endpoints: vec![at.clone()] }),
        name_server: None,
        tls: TlsOptions::default(),
        credentials: None,
        namespace: "".into(),
        request_timeout: PATIENCE,
        connect_timeout: PATIENCE,
        limits: Limits::default(),
        check_digest: false,
        route_endpoints: RouteEndpoints::default(),
        groups: Groups::default(),
    }
}
