//! One life of a consumer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::prelude::*;
use rocketmq_stream::embedded::Broker;
use rocketmq_stream::{
    Checkpoint, Client, CommitMode, Completion, Error, Filter, Offset, PullConsumer, PullControl, RouteEndpoints,
    StartFrom,
};
use tokio::task::JoinHandle;

use crate::keeping::Fused;
use crate::op::{Contract, Op, Process, Queue, Why};
use crate::plan::{Keeping, Owning, Plan, Way};
use crate::reading::{Item, Reading};
use crate::record::{Listener, Look, Record};
use crate::wire::Wire;

pub(crate) const TOPIC: &str = "trades";
pub(crate) const GROUP: &str = "etl";

/// What was handed out and is neither completed nor forgotten.
pub(crate) struct Held {
    /// Queue, life of the queue, range; of several when completions were merged.
    pub(crate) covers: Vec<(Queue, u64, std::ops::Range<u64>)>,
    pub(crate) offsets: Vec<(Queue, u64)>,
    pub(crate) completions: Vec<Completion>,
}

pub(crate) struct Member {
    pub(crate) process: Process,
    pub(crate) slot: usize,
    pub(crate) wire: Wire,
    /// `None` once the stream is gone.
    pub(crate) reading: Option<Reading>,
    pub(crate) control: PullControl,
    pub(crate) listener: Arc<Listener>,
    pub(crate) hears: JoinHandle<()>,
    pub(crate) store: Option<Fused>,
    pub(crate) held: Vec<Held>,
    /// It has dropped a completion, so its stream may fail.
    pub(crate) forgot: bool,
    record: Arc<Record>,
}

impl Member {
    /// # Errors
    /// The consumer's, when it could not be built.
    pub(crate) async fn join(
        (process, slot): (Process, usize),
        plan: &Plan,
        broker: &Arc<Broker>,
        (store, positions): (Option<Fused>, &Checkpoint),
        record: &Arc<Record>,
    ) -> Result<Self, Error> {
        let wire = Wire::to(broker).await;
        let stored = store.as_ref().map(|store| store.saved(GROUP)).unwrap_or_default();
        let consumer = build(plan, slot, &wire, store.clone(), positions).await?;
        let control = consumer.control();
        let look = looks(plan, broker, store.clone());
        let listener = Listener::new(process, Arc::clone(record), control.events(), look);
        for (queue, at) in control.checkpoint().iter() {
            let why = match positions.get(queue).filter(|_| plan.is_restored()) {
                Some(at) => Why::Restored { at: at.get() },
                None => Why::Started { stored: stored.get(queue).map(Offset::get) },
            };
            listener.begin(record.index(queue), at.get(), why);
        }
        let hears = tokio::spawn(Arc::clone(&listener).run());
        let reading = Some(Reading::new(consumer, plan.form));
        let record = Arc::clone(record);
        Ok(Self {
            process,
            slot,
            wire,
            reading,
            control,
            listener,
            hears,
            store,
            held: Vec::new(),
            forgot: false,
            record,
        })
    }

    /// The next item within this time; `None`: nothing came. What has happened before is written down.
    pub(crate) async fn poll(&mut self, patience: Duration) -> Option<Result<Option<Item>, Error>> {
        let polled = tokio::time::timeout(patience, self.reading.as_mut()?.next()).await;
        self.listener.catch_up();
        Some(polled.ok()?.transpose())
    }

    pub(crate) fn write_down(&self, item: &Item) {
        for part in &item.parts {
            self.record.put(Op::Poll {
                by: self.process,
                queue: self.record.index(&part.queue),
                epoch: part.epoch,
                range: part.range.clone(),
                messages: part.messages.clone(),
                gathered: part.gathered,
            });
        }
    }

    pub(crate) fn hold(&mut self, item: Item) {
        let mut held = Held { covers: Vec::new(), offsets: Vec::new(), completions: vec![item.completion] };
        for part in item.parts {
            let queue = self.record.index(&part.queue);
            held.offsets.extend(part.messages.iter().map(|(offset, _)| (queue, *offset)));
            held.covers.push((queue, self.listener.life(queue), part.range));
        }
        self.held.push(held);
    }

    /// Completes all of it; a completion that is left is written down first, because it is work that was done.
    pub(crate) fn complete(&self, held: Held) {
        self.listener.catch_up();
        for (queue, life, range) in held.covers {
            let late = self.listener.life(queue) != life;
            self.record.put(Op::Complete { by: self.process, queue, range, late });
        }
        held.completions.into_iter().for_each(Completion::complete);
    }

    /// What is completed of each queue.
    pub(crate) fn completed(&self) -> BTreeMap<Queue, u64> {
        let checkpoint = self.control.checkpoint();
        checkpoint.iter().map(|(queue, next)| (self.record.index(queue), next.get())).collect()
    }
}

/// Looks in all the places that a process saves in.
fn looks(plan: &Plan, broker: &Arc<Broker>, store: Option<Fused>) -> Look {
    let (broker, is_mirrored) = (Arc::downgrade(broker), plan.keeping != Keeping::MemoryAlone);
    Box::new(move |queue| {
        let broker = broker.upgrade().filter(|_| is_mirrored);
        let committed = broker.map(|broker| broker.committed(GROUP, queue));
        let stored = store.as_ref().map(|store| store.saved(GROUP).get(queue));
        let saved = committed.into_iter().chain(stored).map(|saved| saved.map_or(0, Offset::get));
        saved.min().unwrap_or_default()
    })
}

async fn build(
    plan: &Plan,
    slot: usize,
    wire: &Wire,
    store: Option<Fused>,
    positions: &Checkpoint,
) -> Result<PullConsumer, Error> {
    let client = Client::builder().request_timeout(Duration::from_secs(3)).connect_timeout(Duration::from_secs(1));
    let client = match plan.way {
        Way::Remoting => client.name_server(&wire.name_server),
        Way::Grpc => client.access_point(&wire.access_point).route_endpoints(RouteEndpoints::AccessPoint),
    };
    let filter = if plan.is_filtered { Filter::tag("wanted") } else { Filter::all() };
    let millis = Duration::from_millis;
    let mut builder = client.build().unwrap().pull_consumer(GROUP).subscribe(TOPIC, filter);
    builder = match plan.contract {
        Contract::AtLeastOnce => builder.commit_mode(CommitMode::AtLeastOnce),
        Contract::AtMostOnce => builder.commit_mode(CommitMode::AtMostOnce),
        Contract::ExactlyOnce => builder.commit_mode(CommitMode::Manual),
    };
    builder = if plan.is_restored() {
        builder.start_from(StartFrom::Checkpoint(positions.clone()))
    } else {
        builder.start_from(StartFrom::committed_or_earliest())
    };
    builder = builder
        .commit_interval(millis(plan.interval_ms))
        .drain_timeout(millis(plan.drain_ms))
        .max_messages(plan.max_messages)
        .max_buffered_messages(plan.buffered)
        .max_open_messages(plan.max_open)
        .await_duration(millis(5_000));
    if plan.owning == Owning::Share {
        builder = builder.share(slot as u32, plan.slots as u32);
    }
    if let Some(store) = store {
        builder = builder.checkpoints(store).mirror_to_brokers(plan.keeping != Keeping::MemoryAlone);
    }
    builder.build().await
}
