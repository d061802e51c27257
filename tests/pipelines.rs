//! Pipelines as users write them, with real bodies, on the embedded broker. Their futures are `Send`.
#![allow(
    clippy::disallowed_methods,
    clippy::future_not_send,
    reason = "the rules on time, tasks and threads are for the library; tests are its users"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::prelude::*;
use futures::stream;
use rocketmq_stream::{Client, Error, Filter, Message, OutboundMessage, Producer, SendStreamExt, SimpleConsumer};

use support::rig::{Rig, TOPIC, builder};
use support::{next, nothing_for, numbered, secs, send_all, sorted, take_acked, text, within};

type R<T = ()> = anyhow::Result<T>;

#[derive(Debug)]
struct PayError;

impl std::fmt::Display for PayError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the payment failed")
    }
}

impl std::error::Error for PayError {}

/// What was done with messages.
#[derive(Debug, Default)]
struct Ledger(AtomicU64);

impl Ledger {
    async fn charge(&self, message: &Message) -> Result<(), PayError> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if message.body().is_empty() {
            return Err(PayError);
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn own(&self, message: Message) -> Result<(), PayError> {
        self.charge(&message).await
    }

    fn charged(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Only compiles for futures that can be spawned.
fn spawnable<F: Future + Send + 'static>(future: F) -> F {
    future
}

async fn s1_simple(client: Client, ledger: Arc<Ledger>) -> R {
    let consumer = client.simple_consumer("billing").subscribe(TOPIC, Filter::tag("paid || shipped")).build().await?;
    let ledger = &ledger;
    consumer
        .err_into::<anyhow::Error>()
        .take(20)
        .try_for_each_concurrent(64, |delivery| async move {
            ledger.charge(delivery.message()).await?;
            Ok(delivery.ack().await?)
        })
        .await
}

async fn readme_settles_per_item(consumer: SimpleConsumer, ledger: Arc<Ledger>) {
    let control = consumer.control();
    let process = consumer.for_each_concurrent(64, |item| {
        let ledger = Arc::clone(&ledger);
        async move {
            match item {
                Ok(delivery) => {
                    let settled = match ledger.charge(delivery.message()).await {
                        Ok(()) => delivery.ack(),
                        Err(_) => delivery.nack(Duration::from_secs(10)),
                    };
                    if let Err(error) = settled.await {
                        eprintln!("{error}");
                    }
                }
                Err(error) => eprintln!("{error}"),
            }
        }
    });
    let enough = async {
        while ledger.charged() < 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        control.shutdown(Duration::from_secs(5)).await
    };
    let ((), report) = future::join(process, enough).await;
    assert!(report.complete, "{report:?}");
}

async fn s5_producer(client: Client) -> R {
    let producer = client.producer().topic(TOPIC).build().await?;
    stream::iter([OutboundMessage::new(TOPIC, "forwarded")]).map(Ok).forward(producer.sink()).await?;
    let receipt = producer.send(OutboundMessage::new(TOPIC, "sent").tag("paid").key("42")).await?;
    assert!(!receipt.message_id().is_empty());
    let mut sink = producer.sink();
    sink.send(OutboundMessage::new(TOPIC, "into the sink")).await?;
    sink.flush().await?;
    sink.close().await?;
    Ok(())
}

/// A filter that drops must settle what it drops.
async fn p1_filter_map(consumer: SimpleConsumer) -> R<Vec<String>> {
    consumer
        .err_into::<anyhow::Error>()
        .take(20)
        .try_filter_map(|delivery| async move {
            if delivery.message().tag() == Some("x") {
                delivery.ack().await?;
                Ok(None)
            } else {
                Ok(Some(delivery))
            }
        })
        .map_ok(|delivery| async move {
            let body = text(delivery.message()).to_owned();
            delivery.ack().await?;
            Ok(body)
        })
        .try_buffer_unordered(8)
        .try_collect()
        .await
}

async fn p3_select(a: SimpleConsumer, b: SimpleConsumer, ledger: Arc<Ledger>) -> R {
    let sink = a.control().ack_sink();
    let ledger = &ledger;
    stream::select(a, b)
        .take(20)
        .map_ok(|delivery| async move {
            ledger.own(delivery.message().clone()).await.expect("paid");
            Ok(delivery.into_parts().1)
        })
        .try_buffer_unordered(32)
        .forward(sink)
        .await?;
    Ok(())
}

async fn p10_buffered_ack(consumer: SimpleConsumer) -> R<u64> {
    consumer
        .take(20)
        .err_into::<anyhow::Error>()
        .map_ok(|delivery| delivery.ack().err_into())
        .try_buffer_unordered(256)
        .try_fold(0, |count, ()| future::ok(count + 1))
        .await
}

/// Consume, transform, produce, settle: at least once, every way out.
async fn consume_transform_produce(consumer: SimpleConsumer, producer: Producer, to: String) -> R {
    let sink = consumer.control().ack_sink();
    consumer
        .take(20)
        .map_ok(move |delivery| {
            let (message, receipt) = delivery.into_parts();
            (OutboundMessage::new(&to, message.body().clone()).key(message.id()), receipt)
        })
        .send_with(&producer, 256)
        .map_ok(|(_, receipt)| receipt)
        .forward(sink)
        .await?;
    Ok(())
}

/// One message to many: the receipt is settled when the last of them was sent.
async fn one_to_many(consumer: SimpleConsumer, producer: Producer, to: String) -> R {
    let (producer, to) = (&producer, &to);
    consumer
        .take(20)
        .err_into::<anyhow::Error>()
        .try_for_each_concurrent(16, |delivery| async move {
            let parts = (0..3).map(|n| OutboundMessage::new(to, format!("{}/{n}", text(delivery.message()))));
            future::try_join_all(parts.map(|part| producer.send(part))).await?;
            Ok(delivery.ack().await?)
        })
        .await
}

/// Chunks by count or time, settled together.
async fn chunks(consumer: SimpleConsumer) -> R<Vec<usize>> {
    let mut sizes = Vec::new();
    let chunks = tokio_stream::StreamExt::chunks_timeout(consumer.take(20), 7, Duration::from_millis(100));
    let mut chunks = std::pin::pin!(chunks);
    while let Some(chunk) = chunks.next().await {
        let deliveries: Vec<_> = chunk.into_iter().collect::<Result<_, Error>>()?;
        sizes.push(deliveries.len());
        future::try_join_all(deliveries.into_iter().map(rocketmq_stream::Delivery::ack)).await?;
    }
    Ok(sizes)
}

/// Work in another task, the receipt in a channel.
async fn across_tasks(mut consumer: SimpleConsumer, ledger: Arc<Ledger>) -> R {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
    let worker = tokio::spawn(async move {
        while let Some((message, receipt)) = receiver.recv().await {
            let _: &Message = &message;
            ledger.charge(&message).await?;
            let receipt: rocketmq_stream::Receipt = receipt;
            receipt.ack().await?;
        }
        anyhow::Ok(())
    });
    for _ in 0..20 {
        let delivery = consumer.try_next().await?.expect("it goes on");
        sender.send(delivery.into_parts()).await?;
    }
    drop(sender);
    worker.await?
}

/// With `select!`, beside other work; `next()` is cancel safe.
async fn beside_other_work(mut consumer: SimpleConsumer) -> R<u32> {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    let mut count = 0;
    while count < 20 {
        tokio::select! {
            biased;
            _ = ticks.tick() => tokio::task::yield_now().await,
            item = consumer.next() => {
                item.expect("it goes on")?.ack().await?;
                count += 1;
            }
        }
    }
    Ok(count)
}

/// Race the work against the loss of its lease.
async fn stop_work_on_a_lost_lease(mut consumer: SimpleConsumer) -> R<bool> {
    let delivery = consumer.try_next().await?.expect("a delivery");
    let lost = delivery.lost();
    let work = tokio::time::sleep(Duration::from_secs(3600));
    Ok(tokio::select! {
        () = lost => true,
        () = work => false,
    })
}

async fn with_twenty() -> (Rig, SimpleConsumer, Arc<Ledger>) {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    for (n, body) in numbered(20).enumerate() {
        let tag = ["paid", "x", "shipped"][n % 3];
        producer.send(OutboundMessage::new(TOPIC, body).tag(tag)).await.expect("send");
    }
    let consumer = rig.consumer().await;
    (rig, consumer, Arc::default())
}

async fn all_acked(rig: &Rig) {
    support::eventually(secs(10), "20 acks", || rig.broker.stats().acked == 20).await;
    nothing_for(secs(60), &mut rig.consumer().await).await;
}

#[tokio::test(start_paused = true)]
async fn s1_a_simple_consumer_with_a_tag_filter() {
    let (rig, consumer, ledger) = with_twenty().await;
    drop(consumer);
    let producer = rig.producer().await;
    for body in numbered(20) {
        producer.send(OutboundMessage::new(TOPIC, body).tag("paid")).await.expect("send");
    }
    let run = spawnable(s1_simple(rig.client.clone(), Arc::clone(&ledger)));
    within(secs(30), "s1", run).await.expect("s1");
    assert_eq!(ledger.charged(), 20);
}

#[tokio::test(start_paused = true)]
async fn the_pipeline_of_the_readme() {
    let (rig, consumer, ledger) = with_twenty().await;
    within(secs(30), "readme", spawnable(readme_settles_per_item(consumer, ledger))).await;
    all_acked(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn s5_all_ways_to_send() {
    let rig = Rig::start(builder()).await;
    within(secs(30), "s5", spawnable(s5_producer(rig.client.clone()))).await.expect("s5");
    let received = take_acked(&mut rig.consumer().await, 3).await;
    assert_eq!(sorted(received), ["forwarded", "into the sink", "sent"]);
}

#[tokio::test(start_paused = true)]
async fn p1_a_filter_settles_what_it_drops() {
    let (rig, consumer, _) = with_twenty().await;
    let bodies = within(secs(30), "p1", spawnable(p1_filter_map(consumer))).await.expect("p1");
    assert_eq!(bodies.len(), 13);
    all_acked(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn p3_two_consumers_into_one_ack_sink() {
    let (rig, consumer, ledger) = with_twenty().await;
    let other = rig.consumer().await;
    within(secs(30), "p3", spawnable(p3_select(consumer, other, Arc::clone(&ledger)))).await.expect("p3");
    assert_eq!(ledger.charged(), 20);
    all_acked(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn p10_acks_are_buffered() {
    let (rig, consumer, _) = with_twenty().await;
    assert_eq!(within(secs(30), "p10", spawnable(p10_buffered_ack(consumer))).await.expect("p10"), 20);
    all_acked(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn p2_consume_transform_produce_settle() {
    let (rig, consumer, _) = with_twenty().await;
    let (out, producer) = (rig.create_topic(2), rig.producer().await);
    let run = consume_transform_produce(consumer, producer, out.clone());
    within(secs(30), "p2", spawnable(run)).await.expect("p2");
    assert_eq!(rig.broker.messages(&out).len(), 20);
    all_acked(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn p2_one_message_becomes_many() {
    let (rig, consumer, _) = with_twenty().await;
    let (out, producer) = (rig.create_topic(2), rig.producer().await);
    within(secs(30), "p2", spawnable(one_to_many(consumer, producer, out.clone()))).await.expect("p2");
    assert_eq!(rig.broker.messages(&out).len(), 60);
    all_acked(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn p4_chunks_are_settled_together() {
    let (rig, consumer, _) = with_twenty().await;
    let sizes = within(secs(30), "p4", spawnable(chunks(consumer))).await.expect("p4");
    assert_eq!(sizes, [7, 7, 6]);
    all_acked(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn p5_receipts_travel_to_other_tasks() {
    let (rig, consumer, ledger) = with_twenty().await;
    within(secs(30), "p5", spawnable(across_tasks(consumer, Arc::clone(&ledger)))).await.expect("p5");
    assert_eq!(ledger.charged(), 20);
    all_acked(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_in_a_select_loses_nothing() {
    let (rig, consumer, _) = with_twenty().await;
    assert_eq!(within(secs(30), "select", spawnable(beside_other_work(consumer))).await.expect("select"), 20);
    all_acked(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn work_is_raced_against_the_loss_of_its_lease() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, ["long work"]).await;
    let consumer = rig.consuming().invisible_duration(secs(10)).max_lease(secs(40)).build().await.expect("build");
    let lost = within(secs(120), "the loss", spawnable(stop_work_on_a_lost_lease(consumer))).await.expect("run");
    assert!(lost);
    let again = next(&mut rig.consumer().await).await;
    assert_eq!(again.message().delivery_attempt(), 2);
}
