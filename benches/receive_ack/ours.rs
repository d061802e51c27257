//! The same work by this crate, as a user would write it, with its default settings.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures::prelude::*;
use rocketmq_stream::{Client, Filter, OutboundMessage, SimpleConsumer};

use crate::side_by_side::meter::Meter;
use crate::workload::{self, Receiving, Sending, Style};

pub(crate) async fn receive(work: Receiving, meter: Arc<Meter>) -> Result<()> {
    let client = Client::builder().access_point(&work.access_point).build()?;
    let consumer = client
        .simple_consumer(&work.group)
        .subscribe(&work.topic, Filter::all())
        .max_receives(work.streams)
        .invisible_duration(work.invisible)
        .build()
        .await?;
    let process = async {
        match (work.ack, work.style) {
            (true, Style::Each) => ack_each(consumer, work.concurrency, &meter).await,
            (true, Style::Sink) => ack_by_sink(consumer, &meter).await,
            (false, _) => take(consumer, &meter).await,
        }
    };
    tokio::select! {
        () = meter.over() => Ok(()),
        ended = process => ended.and(Err(anyhow::anyhow!("the stream ended"))),
    }
}

/// Each delivery is a small task of its own; a message counts when its ack was answered.
async fn ack_each(consumer: SimpleConsumer, concurrency: usize, meter: &Meter) -> Result<()> {
    let deliveries = consumer.err_into::<anyhow::Error>();
    let work = deliveries.try_for_each_concurrent(concurrency, |delivery| async move {
        delivery.ack().await?;
        meter.count(1);
        Ok(())
    });
    work.await
}

/// Receipts go into a sink; a message counts when the sink took it, which holds 1 024 that are not answered.
async fn ack_by_sink(consumer: SimpleConsumer, meter: &Meter) -> Result<()> {
    let sink = consumer.control().ack_sink();
    let receipts = consumer.map_ok(|delivery| delivery.into_parts().1).inspect_ok(|_| {
        meter.count(1);
    });
    Ok(receipts.forward(sink).await?)
}

async fn take(consumer: SimpleConsumer, meter: &Meter) -> Result<()> {
    let work = consumer.try_for_each(|delivery| {
        drop(delivery);
        meter.count(1);
        future::ok(())
    });
    Ok(work.await?)
}

pub(crate) async fn send(work: Sending, meter: Arc<Meter>) -> Result<()> {
    let client = Client::builder().access_point(&work.access_point).build()?;
    let producer = client.producer().topic(&work.topic).build().await?;
    let body = workload::body(work.size);
    let sends = stream::repeat_with(|| producer.send(OutboundMessage::new(&work.topic, body.clone())));
    let process = sends.buffer_unordered(work.in_flight).try_for_each(|_receipt| {
        meter.count(1);
        future::ok(())
    });
    tokio::select! {
        () = meter.over() => Ok(()),
        ended = process => ended.context("send").and(Err(anyhow::anyhow!("the stream ended"))),
    }
}
