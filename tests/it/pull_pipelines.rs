//! Pipelines of the PullConsumer as users write them: every message is worked on once, and the brokers have what was completed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::prelude::*;
use rocketmq_stream::embedded::Broker;
use rocketmq_stream::{
    Checkpoint, Client, CommitMode, Error, Filter, MemoryCheckpoints, Offset, OutboundMessage, PullConsumer,
    PullConsumerBuilder, PullControl, PullStreamExt, Result, StartFrom, StopAt,
};

use crate::support::{Calm, secs, within};

const TOPIC: &str = "trades";
const GROUP: &str = "etl";
const QUEUES: u32 = 4;
const EACH: usize = 50;
const ALL: usize = QUEUES as usize * EACH;

struct Pipes {
    broker: Broker,
    client: Client,
    _calm: Calm,
}

/// What was worked on: how often each body was seen.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<Vec<u8>, usize>>>);

impl Seen {
    fn note(&self, body: &[u8]) {
        *self.0.lock().unwrap().entry(body.to_vec()).or_default() += 1;
    }

    fn each_once(&self, count: usize) {
        let seen = self.0.lock().unwrap();
        assert_eq!(seen.len(), count, "so many different messages");
        assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    }
}

impl Pipes {
    async fn start() -> Self {
        let broker = Broker::builder().topic(TOPIC, QUEUES).start().await.expect("a broker");
        let client = Client::builder().name_server(broker.name_server()).build().expect("a client");
        let pipes = Self { broker, client, _calm: Calm::default() };
        pipes.fill("first");
        pipes
    }

    /// [`EACH`] messages into each queue, every second one without a tag.
    fn fill(&self, word: &str) {
        for queue in self.broker.queues(TOPIC) {
            for n in 0..EACH {
                let message = OutboundMessage::new(TOPIC, format!("{word} {} {n}", queue.id()));
                let message = if n % 2 == 0 { message.tag("even") } else { message };
                self.broker.append(&queue, message).expect("appended");
            }
        }
    }

    fn etl(&self) -> PullConsumerBuilder {
        let builder = self.client.pull_consumer(GROUP).subscribe(TOPIC, Filter::all());
        builder.start_from(StartFrom::committed_or_earliest()).commit_interval(secs(1)).max_messages(10)
    }

    async fn bounded(&self) -> PullConsumer {
        self.etl().until(StopAt::Now).build().await.expect("build")
    }

    /// Everything is committed when the pipeline has ended and the consumer is shut down.
    async fn finish(&self, control: &PullControl, each: usize) {
        assert!(within(secs(60), "shutdown", control.shutdown(secs(30))).await.complete, "nothing was left open");
        for queue in self.broker.queues(TOPIC) {
            assert_eq!(self.broker.committed(GROUP, &queue), Some(Offset::new(each as u64)), "{queue}");
        }
    }
}

/// Work that ends in another order than it began.
async fn work(seen: &Seen, message: &rocketmq_stream::Message) {
    let pause = message.body().iter().map(|byte| u64::from(*byte)).sum::<u64>() % 7;
    tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
    seen.note(message.body());
}

#[tokio::test(start_paused = true)]
async fn messages_one_by_one_are_done_in_any_order() {
    let (pipes, seen) = (Pipes::start().await, Seen::default());
    let messages = pipes.bounded().await.per_message();
    let control = messages.control();
    let done = messages.map_ok(|message| async {
        work(&seen, message.message()).await;
        message.complete();
        Ok::<(), Error>(())
    });
    within(secs(60), "the end", done.try_buffer_unordered(16).try_collect::<()>()).await.expect("no error");
    seen.each_once(ALL);
    pipes.finish(&control, EACH).await;
}

#[tokio::test(start_paused = true)]
async fn batches_across_queues_end_in_a_commit_sink() {
    let (pipes, seen) = (Pipes::start().await, Seen::default());
    let consumer = pipes.bounded().await;
    let control = consumer.control();
    let written = consumer.per_message().batches(64, secs(1)).map_ok(|batch| {
        batch.messages().iter().for_each(|message| seen.note(message.body()));
        batch.into_completion()
    });
    within(secs(60), "the end", written.forward(control.commit_sink())).await.expect("no error");
    seen.each_once(ALL);
    pipes.finish(&control, EACH).await;
}

#[tokio::test(start_paused = true)]
async fn each_queue_is_worked_on_in_its_order_and_all_of_them_at_once() {
    let (pipes, seen) = (Pipes::start().await, Seen::default());
    let queues = pipes.bounded().await.per_queue();
    let control = queues.control();
    let reading = queues.try_for_each_concurrent(None, |mut queue| {
        let seen = &seen;
        async move {
            let mut next = Offset::new(0);
            while let Some(batch) = queue.try_next().await? {
                assert_eq!(batch.range().start, next);
                next = batch.next_offset();
                for message in batch.messages() {
                    work(seen, message).await;
                }
                batch.complete();
            }
            Ok(())
        }
    });
    within(secs(60), "the end", reading).await.expect("no error");
    seen.each_once(ALL);
    pipes.finish(&control, EACH).await;
}

#[tokio::test(start_paused = true)]
async fn two_members_of_a_group_are_one_stream() {
    let (pipes, seen) = (Pipes::start().await, Seen::default());
    let (one, two) = (pipes.etl().share(0, 2), pipes.etl().share(1, 2));
    let one = one.until(StopAt::Now).build().await.expect("build");
    let two = two.until(StopAt::Now).build().await.expect("build");
    let controls = [one.control(), two.control()];
    let both = stream::select(one, two).try_for_each(|batch| {
        batch.messages().iter().for_each(|message| seen.note(message.body()));
        batch.complete();
        future::ok(())
    });
    within(secs(60), "the end", both).await.expect("no error");
    seen.each_once(ALL);
    for control in &controls {
        assert!(within(secs(60), "shutdown", control.shutdown(secs(30))).await.complete);
    }
    assert!(
        pipes.broker.queues(TOPIC).iter().all(|queue| pipes.broker.committed(GROUP, queue) == Some(Offset::new(50)))
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_filter_drops_is_completed_and_one_message_becomes_three() {
    let (pipes, seen) = (Pipes::start().await, Seen::default());
    let consumer = pipes.bounded().await;
    let control = consumer.control();
    let tagged = consumer.per_message().try_filter_map(|message| {
        if message.message().tag().is_some() {
            return future::ok(Some(message));
        }
        message.complete();
        future::ok(None)
    });
    let thirds = tagged.map_ok(|message| {
        let (message, done) = message.into_parts();
        stream::iter((0..3).zip(done.split(3)).map(move |(n, share)| Ok((message.clone(), n, share))))
    });
    let written = thirds.try_flatten().map_ok(|(message, n, share)| {
        seen.note(&[message.body(), format!(" {n}").as_bytes()].concat());
        share
    });
    within(secs(60), "the end", written.forward(control.commit_sink())).await.expect("no error");
    seen.each_once(3 * ALL / 2);
    pipes.finish(&control, EACH).await;
}

/// An engine's snapshot holds output and position together; after a crash both are as they were then.
#[tokio::test(start_paused = true)]
async fn an_engine_that_keeps_positions_in_its_snapshots_has_every_message_once() {
    let pipes = Pipes::start().await;
    let mut snapshot = (Vec::<Vec<u8>>::new(), Checkpoint::new());
    for run in 0.. {
        let start = match run {
            0 => StartFrom::Earliest,
            _ => StartFrom::Checkpoint(snapshot.1.clone()),
        };
        let builder = pipes.etl().share(0, 1).commit_mode(CommitMode::Manual).start_from(start);
        let mut consumer = builder.until(StopAt::Now).build().await.expect("build");
        let mut output = snapshot.0.clone();
        let mut batches = 0;
        let ended = loop {
            let Some(batch) = within(secs(60), "a batch", consumer.try_next()).await.expect("no error") else {
                break true;
            };
            output.extend(batch.messages().iter().map(|message| message.body().to_vec()));
            batch.complete();
            batches += 1;
            if batches % 3 == 0 {
                snapshot = (output.clone(), consumer.position());
            }
            if batches == 5 {
                break false; // two batches after the last snapshot: a crash
            }
        };
        if ended {
            output.sort();
            assert_eq!(output.len(), ALL);
            output.dedup();
            assert_eq!(output.len(), ALL, "nothing twice");
            assert!(run > 2, "it crashed more than once");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_once_never_repeats_what_a_crash_left_undone() {
    let (pipes, seen) = (Pipes::start().await, Seen::default());
    let builder = || pipes.etl().share(0, 1).commit_mode(CommitMode::AtMostOnce).until(StopAt::Now);
    let mut first = builder().build().await.expect("build");
    for _ in 0..3 {
        let batch = within(secs(60), "a batch", first.try_next()).await.expect("no error").expect("no end");
        batch.messages().iter().for_each(|message| seen.note(message.body()));
    }
    drop(first);
    let rest = builder().build().await.expect("build").try_for_each(|batch| {
        batch.messages().iter().for_each(|message| seen.note(message.body()));
        future::ok(())
    });
    within(secs(60), "the end", rest).await.expect("no error");
    seen.each_once(ALL);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_that_is_told_to_stop_leaves_a_position_from_which_the_next_goes_on() {
    let (pipes, seen) = (Pipes::start().await, Seen::default());
    let store = MemoryCheckpoints::new();
    let builder = || pipes.etl().share(0, 1).checkpoints(store.clone());
    let consumer = builder().build().await.expect("build");
    let control = consumer.control();
    let stop = tokio::time::sleep(secs(5));
    let reading = consumer.take_until(stop).try_for_each(|batch| {
        batch.messages().iter().for_each(|message| seen.note(message.body()));
        batch.complete();
        future::ok(())
    });
    let read: Result<()> = within(secs(60), "the end", reading).await;
    read.expect("no error");
    assert!(within(secs(60), "shutdown", control.shutdown(secs(30))).await.complete);
    pipes.fill("second");
    let rest = builder().until(StopAt::Now).build().await.expect("build");
    let control = rest.control();
    let rest = rest.try_for_each(|batch| {
        batch.messages().iter().for_each(|message| seen.note(message.body()));
        batch.complete();
        future::ok(())
    });
    within(secs(60), "the end", rest).await.expect("no error");
    seen.each_once(2 * ALL);
    pipes.finish(&control, 2 * EACH).await;
}
