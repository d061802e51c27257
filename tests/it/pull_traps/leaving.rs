//! What adapters hold of a queue that is taken away, and nobody has seen: it is for the next owner, at once.

use rocketmq_stream::{AssignmentStrategy, CommitMode, PullStreamExt, PulledMessage, PulledMessages};

use super::*;

/// Everything while it is alone, and nothing as soon as there is somebody else.
struct UntilOthersCome;

impl AssignmentStrategy for UntilOthersCome {
    fn assign(&self, _: &str, members: &[String], queues: &[MessageQueue]) -> Vec<MessageQueue> {
        if members.len() == 1 { queues.to_vec() } else { Vec::new() }
    }
}

/// Everything while it is alone, and then one queue.
struct Keeps(u32);

impl AssignmentStrategy for Keeps {
    fn assign(&self, _: &str, members: &[String], queues: &[MessageQueue]) -> Vec<MessageQueue> {
        queues.iter().filter(|queue| members.len() == 1 || queue.id() == self.0).cloned().collect()
    }
}

#[tokio::test(start_paused = true)]
async fn the_group_of_a_stream_that_was_dropped_is_free_though_its_control_is_kept() {
    let rig = Pulls::start(1).await;
    let consumer = rig.etl().build().await.expect("build");
    let control = consumer.control();
    let leasing = || rig.client.simple_consumer(GROUP).subscribe(TOPIC, Filter::all()).build();
    is(leasing().await, ErrorKind::Precondition);
    drop(consumer);
    tokio::time::sleep(secs(5)).await;
    assert!(rig.broker.members(GROUP, 0).is_empty(), "it has said goodbye");
    drop(leasing().await.expect("nobody else uses the group any more"));
    drop(control);
}

/// Long enough to see that nothing waits for it.
const DRAIN: Duration = Duration::from_secs(60);

/// A member that reads every queue until another comes.
fn leaving(rig: &Pulls) -> PullConsumerBuilder {
    rig.etl().strategy(UntilOthersCome).drain_timeout(DRAIN)
}

/// The other: it takes the queues.
async fn comes(rig: &Pulls) -> PullConsumer {
    let builder = rig.etl().start_from(StartFrom::committed_or_latest()).strategy(UntilOthersCome);
    builder.build().await.expect("build")
}

async fn take(messages: &mut PulledMessages, count: usize) -> Vec<PulledMessage> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let item = within(PATIENCE, "a message", messages.next()).await;
        taken.push(item.expect("the stream goes on").expect("a message"));
    }
    taken
}

/// Waits until a queue is gone: how long that took, where it was, and what was told of its positions meanwhile.
async fn gone(events: &mut PullEvents) -> (Duration, u64, Vec<CheckpointEvent>) {
    let (mut began, mut told) = (None, Vec::new());
    let reached = event(events, "that the queue is gone", |event| match event {
        PullEvent::Revoking { .. } => {
            began = Some(tokio::time::Instant::now());
            None
        }
        PullEvent::Checkpoint(event) => {
            told.push(event.clone());
            None
        }
        PullEvent::Revoked { reached, .. } => Some(reached.get()),
        _ => None,
    });
    let reached = reached.await;
    (began.expect("it was told before").elapsed(), reached, told)
}

#[tokio::test(start_paused = true)]
async fn p8_what_per_message_has_not_handed_out_is_given_back_when_its_queue_is_taken_away() {
    // Whether the stream is polled meanwhile or not.
    for is_polled in [true, false] {
        let rig = Pulls::start(1).await;
        rig.fill(&q(0), 100, "a");
        let mut messages = leaving(&rig).build().await.expect("build").per_message();
        let control = messages.control();
        let mut taken = take(&mut messages, 5).await;
        let last = taken.pop().expect("five");
        taken.into_iter().for_each(PulledMessage::complete);
        let mut events = control.events();
        let other = comes(&rig).await;
        let work = async {
            tokio::time::sleep(secs(3)).await;
            last.complete();
            if is_polled {
                assert!(tokio::time::timeout(secs(3), messages.next()).await.is_err(), "nothing more is handed out");
            }
        };
        let ((took, reached, told), ()) = tokio::join!(gone(&mut events), work);
        assert!(took < secs(5), "what nobody has seen holds nothing up: {took:?}, polled: {is_polled}");
        assert_eq!((reached, rig.committed(&q(0))), (5, Some(5)), "what was handed out was waited for");
        assert!(told.is_empty(), "nobody dropped anything: {told:?}, polled: {is_polled}");
        drop((messages, other));
    }
}

#[tokio::test(start_paused = true)]
async fn p8_a_shutdown_waits_for_no_message_that_nobody_has_seen() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 100, "a");
    let mut messages = leaving(&rig).build().await.expect("build").per_message();
    let control = messages.control();
    let mut events = control.events();
    take(&mut messages, 5).await.into_iter().for_each(PulledMessage::complete);
    // The stream is held, and not polled.
    let began = tokio::time::Instant::now();
    let report = control.shutdown(DRAIN).await;
    assert!(report.complete && report.open.is_empty(), "{report:?}");
    assert!(began.elapsed() < secs(5), "{:?}", began.elapsed());
    assert_eq!(rig.committed(&q(0)), Some(5));
    assert!(messages.next().await.is_none(), "it has ended");
    let told: Vec<_> = told(&mut events).into_iter().filter(|e| matches!(e, PullEvent::Checkpoint(_))).collect();
    assert!(told.is_empty(), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn p8_a_stream_of_messages_that_is_dropped_holds_up_no_handover() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 100, "a");
    let mut messages = leaving(&rig).build().await.expect("build").per_message();
    let mut events = messages.control().events();
    take(&mut messages, 5).await.into_iter().for_each(PulledMessage::complete);
    drop(messages);
    let (took, reached, told) = gone(&mut events).await;
    assert!(took < secs(5), "{took:?}");
    assert_eq!((reached, rig.committed(&q(0))), (5, Some(5)));
    assert!(told.is_empty(), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn p8_what_is_being_gathered_of_a_queue_that_is_taken_away_comes_out_at_once_and_may_finish() {
    let rig = Pulls::start(1).await;
    rig.fill(&q(0), 100, "a");
    let consumer = leaving(&rig).build().await.expect("build");
    let mut events = consumer.control().events();
    let mut batches = consumer.per_message().batches(1_000, secs(3_600));
    assert!(tokio::time::timeout(secs(5), batches.next()).await.is_err(), "it gathers still");
    let other = comes(&rig).await;
    let work = async {
        let batch = within(secs(30), "what was gathered", batches.next()).await.expect("it goes on").expect("a batch");
        tokio::time::sleep(secs(2)).await;
        let count = batch.messages().len();
        batch.complete();
        count
    };
    let ((took, reached, told), count) = tokio::join!(gone(&mut events), work);
    assert_eq!((count, reached, rig.committed(&q(0))), (100, 100, Some(100)));
    assert!(took < secs(5), "{took:?}");
    assert!(told.is_empty(), "{told:?}");
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn p8_what_is_being_gathered_of_several_queues_comes_out_whichever_of_them_is_taken_away() {
    for kept in [0, 1] {
        let rig = Pulls::start(2).await;
        rig.fill_all(100);
        let consumer = leaving(&rig).strategy(Keeps(kept)).build().await.expect("build");
        let control = consumer.control();
        let mut batches = consumer.per_message().batches(1_000, secs(3_600));
        // The second time nothing of the first is remembered.
        for _ in 0..2 {
            holds(&control, 2).await;
            assert!(tokio::time::timeout(secs(5), batches.next()).await.is_err(), "it gathers still");
            let other = comes(&rig).await;
            let batch = within(secs(30), "what was gathered", batches.next()).await.expect("it goes on");
            let batch = batch.expect("a batch");
            assert_eq!(batch.messages().len(), 200, "{kept}");
            batch.complete();
            ended(&other.control()).await;
            rig.fill_all(100);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p8_at_most_once_what_is_left_is_handed_out_although_its_queue_was_taken_away_or_the_consumer_shut_down() {
    for is_shut_down in [true, false] {
        let rig = Pulls::start(1).await;
        rig.fill(&q(0), 100, "a");
        let consumer = leaving(&rig).commit_mode(CommitMode::AtMostOnce).build().await.expect("build");
        let control = consumer.control();
        let mut messages = consumer.per_message();
        take(&mut messages, 5).await;
        let committed = rig.committed(&q(0)).expect("before it was handed out");
        assert!(committed > 20, "a batch of which something is left: {committed}");
        let mut events = control.events();
        let mut other = None;
        if is_shut_down {
            ended(&control).await;
        } else {
            other = Some(comes(&rig).await);
            assert_eq!(gone(&mut events).await.1, committed);
        }
        for offset in 5..committed {
            let message = take(&mut messages, 1).await.remove(0);
            assert_eq!(message.message().queue_offset(), Some(at(offset)), "nobody else reads it");
        }
        drop(other);
    }
}
