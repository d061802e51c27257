//! What is logged: nothing per message above TRACE, a repeated failure once, and never a secret.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use rocketmq_stream::embedded::Rpc;
use rocketmq_stream::{Client, Credentials, Filter};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::support::rig::{GROUP, Rig, TOPIC, builder};
use crate::support::{nothing_for, numbered, secs, send_all, take_acked};

/// Every event of the library, with its fields; those of the embedded broker are not its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(Level, String)>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).expect("a string takes it");
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Log {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target().starts_with("rocketmq_stream")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let target = event.metadata().target();
        if !target.contains("embedded") {
            let mut text = Text(format!("{target} "));
            event.record(&mut text);
            self.0.lock().expect("no panic").push((*event.metadata().level(), text.0));
        }
    }
}

impl Log {
    /// Listens on this thread, which is the whole of a current-thread runtime.
    pub(crate) fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(log.clone()));
        (log, guard)
    }

    pub(crate) fn lines(&self, least: Level) -> Vec<String> {
        let lines = self.0.lock().expect("no panic");
        lines.iter().filter(|(level, _)| *level <= least).map(|(_, text)| text.clone()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn e3_nothing_is_logged_per_message_above_trace() {
    let (log, _guard) = Log::listen();
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    let mut consumer = rig.consumer().await;
    send_all(&producer, TOPIC, numbered(10)).await;
    take_acked(&mut consumer, 10).await;
    let before = log.lines(Level::DEBUG).len();
    send_all(&producer, TOPIC, numbered(300)).await;
    take_acked(&mut consumer, 300).await;
    let lines = log.lines(Level::DEBUG);
    assert!(lines.len() - before <= 20, "{} lines for 300 messages: {:#?}", lines.len() - before, &lines[before..]);
}

#[tokio::test(start_paused = true)]
async fn e3_a_repeated_failure_is_logged_once_and_then_counted() {
    let (log, _guard) = Log::listen();
    let rig = Rig::start(builder()).await;
    let mut consumer = rig.consumer().await;
    nothing_for(secs(1), &mut consumer).await;
    rig.broker.stop_proxy(0).await.expect("stop");
    nothing_for(secs(600), &mut consumer).await;
    rig.broker.start_proxy(0).await.expect("start");
    rig.broker.faults().on(Rpc::ReceiveMessage).times(200).status(50001, "the store is busy");
    nothing_for(secs(600), &mut consumer).await;
    let lines = log.lines(Level::INFO);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for line in &lines {
        *kinds.entry(line.chars().take(80).collect()).or_default() += 1;
    }
    assert!(lines.len() <= 20, "{} lines in ten minutes of outage and ten of failures: {kinds:#?}", lines.len());
    assert!(!log.lines(Level::WARN).is_empty(), "an outage is not silent");
}

#[tokio::test(start_paused = true)]
async fn e1_secrets_and_bodies_are_in_no_log() {
    let (log, _guard) = Log::listen();
    let credentials = Credentials::new("key", "top-secret").session_token("token-secret");
    let rig = Rig::with(builder().credentials("key", "top-secret"), |client| client.credentials(credentials)).await;
    let producer = rig.producer().await;
    send_all(&producer, TOPIC, ["confidential body"]).await;
    let mut consumer = rig.consumer().await;
    take_acked(&mut consumer, 1).await;
    let shown = format!("{:?} {:?} {producer:?} {consumer:?} {:?}", rig.client, Client::builder(), consumer.control());
    rig.broker.stop_proxy(0).await.expect("stop");
    nothing_for(secs(60), &mut consumer).await;
    let all = format!("{shown} {:?}", log.lines(Level::TRACE));
    for secret in ["top-secret", "token-secret", "confidential body"] {
        assert!(!all.contains(secret), "{secret} was shown");
    }
}

#[tokio::test(start_paused = true)]
async fn r22_changing_a_filter_at_run_time_warns_once() {
    let (log, _guard) = Log::listen();
    let rig = Rig::start(builder()).await;
    let mut consumer = rig.consumer().await;
    let control = consumer.control();
    nothing_for(secs(1), &mut consumer).await;
    assert_eq!(log.lines(Level::WARN), [""; 0]);
    for tag in ["a", "b", "c"] {
        control.subscribe(TOPIC, Filter::tag(tag)).await.expect("subscribe");
    }
    let warnings = log.lines(Level::WARN);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains(TOPIC) && warnings[0].contains("filter"), "{warnings:?}");
    // Another topic is nothing to warn of.
    let other = rig.create_topic(1);
    control.subscribe(&other, Filter::all()).await.expect("subscribe");
    assert_eq!(log.lines(Level::WARN).len(), 1);
    // A receive that was under way with the old filter may still bring what it lets through: let it end.
    nothing_for(secs(21), &mut consumer).await;
    let producer = rig.producer().await;
    for (body, tag) in [("1", "a"), ("2", "c")] {
        producer.send(rocketmq_stream::OutboundMessage::new(TOPIC, body).tag(tag)).await.expect("send");
    }
    assert_eq!(take_acked(&mut consumer, 1).await, ["2"], "the new filter is in force in group {GROUP}");
}
