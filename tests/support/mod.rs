//! What the suites share: names, patience, and the few steps that every test takes.
#![allow(dead_code, reason = "each test binary uses the part it needs")]

pub(crate) mod relay;
pub(crate) mod rig;

use std::fmt::Display;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::prelude::*;
use rocketmq_stream::{Delivery, Message, OutboundMessage, Producer, SendReceipt, SimpleConsumer};

/// Longer than anything a test waits for in vain.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Seconds, shorter to read.
pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A name nobody else uses, also not in an earlier run on the same server.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() % 100_000_000;
    format!("{prefix}-{since}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Fails the test when the future takes longer.
pub(crate) async fn within<F: Future>(limit: Duration, what: impl Display, future: F) -> F::Output {
    match tokio::time::timeout(limit, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {limit:?}"),
    }
}

/// Fails the test when the condition does not come true in time.
pub(crate) async fn eventually(limit: Duration, what: impl Display, mut condition: impl FnMut() -> bool) {
    let until = tokio::time::Instant::now() + limit;
    while !condition() {
        assert!(tokio::time::Instant::now() < until, "{what}: not within {limit:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn text(message: &Message) -> &str {
    std::str::from_utf8(message.body()).expect("this test sends text")
}

/// Sends one message after the other.
pub(crate) async fn send_all(
    producer: &Producer,
    topic: &str,
    bodies: impl IntoIterator<Item = impl Into<String>>,
) -> Vec<SendReceipt> {
    let mut receipts = Vec::new();
    for body in bodies {
        let message = OutboundMessage::new(topic, body.into());
        receipts.push(within(PATIENCE, "send", producer.send(message)).await.expect("send"));
    }
    receipts
}

/// The bodies `m0`, `m1`, …
pub(crate) fn numbered(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| format!("m{n}"))
}

/// The next delivery, which must come.
pub(crate) async fn next(consumer: &mut SimpleConsumer) -> Delivery {
    let item = within(PATIENCE, "the next delivery", consumer.next()).await;
    item.expect("the stream goes on").expect("a delivery")
}

/// The next deliveries, as many as are wanted.
pub(crate) async fn take(consumer: &mut SimpleConsumer, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        deliveries.push(next(consumer).await);
    }
    deliveries
}

/// The next deliveries, acknowledged; their bodies.
pub(crate) async fn take_acked(consumer: &mut SimpleConsumer, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    for delivery in take(consumer, count).await {
        bodies.push(text(delivery.message()).to_owned());
        within(PATIENCE, "ack", delivery.ack()).await.expect("ack");
    }
    bodies
}

/// Nothing may come for so long.
pub(crate) async fn nothing_for(time: Duration, consumer: &mut SimpleConsumer) {
    if let Ok(item) = tokio::time::timeout(time, consumer.next()).await {
        let item = item.map(|item| item.map(|delivery| text(delivery.message()).to_owned()));
        panic!("nothing should have come within {time:?}, but there was {item:?}");
    }
}

pub(crate) fn sorted(items: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut items: Vec<_> = items.into_iter().collect();
    items.sort();
    items
}

/// A panic in a background task fails the test that has one of these; so make it the first thing.
#[derive(Debug, Default)]
#[must_use = "it looks when it is dropped"]
pub(crate) struct Calm(());

impl Drop for Calm {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(rocketmq_stream::panicked_tasks(), 0, "a background task panicked");
        }
    }
}
