//! The same work by this crate, as a user would write it, with its default settings.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures::prelude::*;
use rocketmq_stream::{Client, Filter, OutboundMessage};

use crate::meter::Meter;
use crate::workload::{self, Receiving, Sending};

pub(crate) async fn receive(work: Receiving, meter: Arc<Meter>) -> Result<()> {
    let client = Client::builder().access_point(&work.access_point).build()?;
    let consumer = client
        .simple_consumer(&work.group)
        .subscribe(&work.topic, Filter::all())
        .max_receives(work.streams)
        .invisible_duration(work.invisible)
        .build()
        .await?;
    let (meter, ack) = (&*meter, work.ack);
    let process =
        consumer.err_into::<anyhow::Error>().try_for_each_concurrent(work.concurrency, |delivery| async move {
            if ack {
                delivery.ack().await?;
            }
            meter.count(1);
            Ok(())
        });
    tokio::select! {
        () = meter.over() => Ok(()),
        ended = process => ended.and(Err(anyhow::anyhow!("the stream ended"))),
    }
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
