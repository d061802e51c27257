//! Queues that come and go, and a stream for each.

use futures_util::FutureExt;

use super::*;
use crate::checkpoint::CommitMode;
use crate::consumer::pull::{PullControl, PullEvent, QueueStreams};
use crate::model::StopAt;

#[tokio::test(start_paused = true)]
async fn p8_a_queue_that_is_taken_away_finishes_what_was_handed_out_is_committed_and_then_fenced() {
    let fake = Fake::new(&[100, 100]);
    let mut consumer = build(subscribed().drain_timeout(Duration::from_secs(5)), &fake).await.unwrap();
    let mut events = consumer.control().events();
    let mut held = Vec::new();
    while held.len() < 4 {
        held.push(next(&mut consumer).await);
    }
    fake.set_members(&["a", "me"]); // queue 0 goes to a
    tokio::time::sleep(Duration::from_millis(500)).await;
    let moved = async {
        let (mine, lost): (Vec<_>, Vec<_>) = held.into_iter().partition(|batch| *batch.queue() == q(1));
        let mut ends: Vec<_> = lost.iter().map(|batch| batch.range().end).collect();
        ends.sort_unstable();
        tokio::time::sleep(Duration::from_secs(2)).await;
        lost.into_iter().for_each(PullBatch::complete);
        (mine, ends[ends.len() - 1])
    };
    let ((mine, end), ()) = tokio::join!(moved, async {
        let batch = next(&mut consumer).await;
        assert_eq!(*batch.queue(), q(1), "nothing more of the lost queue");
        batch.complete();
    });
    loop {
        match events.next().await.expect("events") {
            PullEvent::Revoked { queue, reached } => break assert_eq!((queue, reached), (q(0), end)),
            PullEvent::Revoking { queue, .. } => assert_eq!(queue, q(0)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fake.committed(&q(0)), Some(end.get()));
    drop(mine);
}

#[tokio::test(start_paused = true)]
async fn p6_what_is_left_of_a_batch_is_not_handed_out_after_its_queue_was_given_up() {
    let fake = Fake::new(&[100, 100]);
    let consumer = build(subscribed(), &fake).await.unwrap();
    let control = consumer.control();
    control.pause(&q(1)).unwrap();
    let mut messages = consumer.per_message();
    for _ in 0..5 {
        messages.next().await.unwrap().unwrap().complete();
    }
    fake.set_members(&["a", "me"]); // queue 0 goes to a
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.committed(&q(0)), Some(5), "where a begins");
    assert_eq!(messages.position().get(&q(0)), None, "it is for a to say");
    control.resume(&q(1)).unwrap();
    let next = messages.next().await.unwrap().unwrap().into_completion();
    assert_eq!(next.queue(), Some(&q(1)), "a reads the rest");
}

#[tokio::test(start_paused = true)]
async fn at_most_once_what_is_left_of_a_batch_is_handed_out_also_after_its_queue_was_given_up() {
    let fake = Fake::new(&[100, 100]);
    let consumer = build(subscribed().commit_mode(CommitMode::AtMostOnce), &fake).await.unwrap();
    consumer.control().pause(&q(1)).unwrap();
    let mut messages = consumer.per_message();
    let _first = messages.next().await.unwrap().unwrap();
    let committed = fake.committed(&q(0)).unwrap();
    fake.set_members(&["a", "me"]); // queue 0 goes to a
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.committed(&q(0)), Some(committed), "where a begins, so nobody else reads what is left");
    for offset in 1..committed {
        let message = messages.next().await.unwrap().unwrap();
        assert_eq!(message.message().queue_offset(), Some(at(offset)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_lost_while_its_position_is_saved_disturbs_no_other() {
    let fake = Fake::new(&[100, 100]);
    let mut consumer = build(subscribed().commit_mode(CommitMode::AtMostOnce), &fake).await.unwrap();
    next(&mut consumer).await.complete();
    fake.state().mute.insert(q(0));
    let saved_in_vain = async { while *next(&mut consumer).await.queue() == q(1) {} };
    assert!(tokio::time::timeout(Duration::from_secs(1), saved_in_vain).await.is_err(), "nothing before it is saved");
    fake.set_members(&["a", "me"]); // queue 0 goes to a
    for _ in 0..3 {
        let batch = tokio::time::timeout(Duration::from_secs(3), next(&mut consumer)).await.expect("the other goes on");
        assert_eq!(*batch.queue(), q(1));
    }
}

#[tokio::test(start_paused = true)]
async fn p7_what_is_completed_after_the_drain_is_refused_and_p9_the_drain_is_bounded() {
    let fake = Fake::new(&[100, 100]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    let mut held = Vec::new();
    while held.len() < 2 {
        held.push(next(&mut consumer).await);
    }
    fake.set_members(&["a", "me"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    fake.with_log(&q(0), |log| log.committed = Some(77)); // its next owner
    held.into_iter().for_each(PullBatch::complete);
    let control = consumer.control();
    control.flush().await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(fake.committed(&q(0)), Some(77));
    let stale = crate::model::Checkpoint::from_iter([(q(0), at(1))]);
    assert_eq!(control.commit(&stale).await.unwrap_err().kind(), crate::error::ErrorKind::Precondition);
}

#[tokio::test(start_paused = true)]
async fn p12_a_queue_that_goes_away_and_comes_back_begins_where_its_last_owner_stopped() {
    let fake = Fake::new(&[100, 100]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    let before = next(&mut consumer).await;
    assert_eq!(*before.queue(), q(0));
    before.complete();
    fake.set_members(&["a", "me"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    fake.with_log(&q(0), |log| log.committed = Some(60));
    fake.set_members(&["me"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(read(&mut consumer, &q(0), 40).await, (60..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn p11_a_queue_whose_broker_was_down_at_the_start_begins_at_the_start_instant() {
    let fake = Fake::new(&[10]);
    let late = MessageQueue::new("t", "c", 0);
    // Messages are stored offset seconds after 1970: all of these long before the start.
    fake.with_log(&late, |log| log.max = 10);
    fake.set_down("c", true);
    let mut consumer = build(subscribed().start_from(StartFrom::Latest), &fake).await.unwrap();
    fake.append(&q(0), 1);
    assert_eq!(next(&mut consumer).await.range(), at(10)..at(11));
    fake.set_down("c", false);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(consumer.control().assignment().len(), 2);
    fake.append(&late, 0);
    assert!(is_silent(&mut consumer).await, "nothing old is read under Latest");
}

#[tokio::test(start_paused = true)]
async fn p11_a_new_queue_is_discovered_and_read_from_its_beginning() {
    let fake = Fake::new(&[10]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    read(&mut consumer, &q(0), 10).await;
    fake.with_log(&q(1), |log| log.max = 3);
    fake.tick();
    assert_eq!(read(&mut consumer, &q(1), 3).await, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn p10_a_queue_that_was_paused_lost_and_regained_is_not_paused() {
    let fake = Fake::new(&[100, 100]);
    let mut consumer = build(subscribed(), &fake).await.unwrap();
    consumer.control().pause(&q(0)).unwrap();
    fake.set_members(&["a", "me"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    fake.set_members(&["me"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(read(&mut consumer, &q(0), 100).await.len(), 100);
}

async fn stream_of(streams: &mut QueueStreams) -> crate::consumer::pull::QueueStream {
    let next = tokio::time::timeout(Duration::from_secs(60), streams.next()).await;
    next.expect("no stream came").expect("it ended").expect("an error came")
}

#[tokio::test(start_paused = true)]
async fn p15_each_queue_has_a_stream_of_its_own_and_one_that_is_not_polled_holds_up_nobody() {
    let fake = Fake::new(&[50, 50]);
    let mut streams = build(subscribed(), &fake).await.unwrap().per_queue();
    let idle = stream_of(&mut streams).await;
    let mut busy = stream_of(&mut streams).await;
    let mut seen = 0;
    while seen < 50 {
        let batch = busy.next().await.unwrap().unwrap();
        seen += batch.len();
        batch.complete();
    }
    assert_eq!((busy.position(), idle.position()), (at(50), at(0)));
    assert_ne!(busy.queue(), idle.queue());
}

#[tokio::test(start_paused = true)]
async fn p15_a_queue_stream_that_is_dropped_gives_its_queue_back_from_what_was_completed() {
    let fake = Fake::new(&[50]);
    let mut streams = build(subscribed(), &fake).await.unwrap().per_queue();
    let mut first = stream_of(&mut streams).await;
    first.next().await.unwrap().unwrap().complete();
    let lost = first.next().await.unwrap().unwrap();
    drop(first);
    drop(lost);
    let mut again = stream_of(&mut streams).await;
    assert_eq!(again.next().await.unwrap().unwrap().range().start, at(1));
}

/// At most once: reads on after a stream that was dropped, and nothing sets back what is saved then.
async fn reads_on_undisturbed(builder: PullConsumerBuilder, fake: &Arc<Fake>, dropped: PullControl) {
    let mut next_owner = build(builder, fake).await.unwrap();
    let read = read(&mut next_owner, &q(0), 5).await;
    let saved = fake.committed(&q(0));
    assert!(saved > read.last().copied(), "{read:?}");
    tokio::time::sleep(Duration::from_secs(20)).await;
    drop(dropped);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(fake.committed(&q(0)), saved, "who comes after it would read again what it was given");
}

fn shared_at_most_once() -> PullConsumerBuilder {
    let builder = subscribed().share(0, 1).start_from(StartFrom::committed_or_earliest());
    builder.commit_mode(CommitMode::AtMostOnce)
}

/// A stream that gave its queue back with a piece that was saved and not handed out; and the end of what was.
async fn gave_back(fake: &Arc<Fake>) -> (QueueStreams, u64) {
    let mut streams = build(shared_at_most_once(), fake).await.unwrap().per_queue();
    let mut stream = stream_of(&mut streams).await;
    let seen = stream.next().await.unwrap().unwrap().range().end.get();
    while fake.committed(&q(0)) == Some(seen) {
        assert!(stream.next().now_or_never().is_none(), "it is saved before it is handed out");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (streams, seen)
}

#[tokio::test(start_paused = true)]
async fn p7_at_most_once_what_a_stream_gave_back_is_not_saved_over_who_reads_on_when_all_are_gone() {
    let fake = Fake::new(&[100]);
    let (streams, _) = gave_back(&fake).await;
    let control = streams.control();
    drop(streams);
    reads_on_undisturbed(shared_at_most_once(), &fake, control).await;
}

#[tokio::test(start_paused = true)]
async fn at_most_once_a_shutdown_saves_what_a_stream_gave_back_also_when_all_are_dropped_meanwhile() {
    let fake = Fake::new(&[100]);
    let (streams, seen) = gave_back(&fake).await;
    let control = streams.control();
    fake.state().mute.insert(q(0));
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(streams);
        tokio::time::sleep(Duration::from_millis(100)).await;
        fake.state().mute.clear();
        fake.tick();
    };
    let (report, ()) = tokio::join!(control.shutdown(Duration::from_secs(20)), meanwhile);
    assert!(report.complete, "{report:?}");
    assert_eq!(fake.committed(&q(0)), Some(seen), "nobody has seen the rest");
}

#[tokio::test(start_paused = true)]
async fn p7_at_most_once_what_could_not_be_saved_is_not_saved_over_who_reads_on_when_the_stream_is_gone() {
    let fake = Fake::new(&[100]);
    let mut consumer = build(shared_at_most_once(), &fake).await.unwrap();
    let control = consumer.control();
    next(&mut consumer).await.complete();
    fake.set_down("b", true);
    assert!(tokio::time::timeout(Duration::from_secs(4), consumer.next()).await.is_err(), "nothing before it is saved");
    drop(consumer);
    tokio::time::sleep(Duration::from_millis(10)).await;
    fake.set_down("b", false);
    reads_on_undisturbed(shared_at_most_once(), &fake, control).await;
}

#[tokio::test(start_paused = true)]
async fn a_queue_stream_ends_when_its_queue_is_taken_away_and_bounded_ones_at_their_end() {
    let fake = Fake::new(&[50, 50]);
    let mut streams = build(subscribed(), &fake).await.unwrap().per_queue();
    let (mut zero, mut one) = (stream_of(&mut streams).await, stream_of(&mut streams).await);
    next_of(&mut zero).await.complete();
    fake.set_members(&["a", "me"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(zero.next().await.is_none(), "queue 0 is somebody else's");
    next_of(&mut one).await.complete();

    let fake = Fake::new(&[5, 7]);
    let streams = build(subscribed().until(StopAt::Now), &fake).await.unwrap().per_queue();
    let counts: Vec<usize> = streams
        .then(|stream| async move {
            stream
                .unwrap()
                .fold(0, |sum, batch| async move {
                    sum + batch.unwrap().into_iter().map(crate::PulledMessage::complete).count()
                })
                .await
        })
        .collect()
        .await;
    assert_eq!(counts, [5, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_paused_before_its_stream_comes_out_comes_out_paused() {
    // Before anything was polled; while its stream waits to come out; and before the consumer became streams.
    for (streams_before, is_read_before) in [(0, false), (1, false), (0, true)] {
        let fake = Fake::new(&[50, 50]);
        let mut consumer = build(subscribed(), &fake).await.unwrap();
        let control = consumer.control();
        if is_read_before {
            next(&mut consumer).await.complete();
            control.pause(&q(1)).unwrap();
            next(&mut consumer).await.complete();
        }
        let mut queues = consumer.per_queue();
        let mut streams = Vec::new();
        while streams.len() < streams_before {
            streams.push(stream_of(&mut queues).await);
        }
        let paused = (0..2).map(q).find(|queue| streams.iter().all(|stream| stream.queue() != queue)).unwrap();
        let paused = if is_read_before { q(1) } else { paused };
        control.pause(&paused).unwrap();
        while streams.len() < 2 {
            streams.push(stream_of(&mut queues).await);
        }
        for stream in &mut streams {
            let item = tokio::time::timeout(Duration::from_secs(60), stream.next()).await;
            assert_eq!(
                item.is_err(),
                *stream.queue() == paused,
                "{streams_before} {is_read_before}: {}",
                stream.queue()
            );
        }
        control.resume(&paused).unwrap();
        let stream = streams.iter_mut().find(|stream| *stream.queue() == paused).unwrap();
        next_of(stream).await.complete();
    }
}

#[tokio::test(start_paused = true)]
async fn p15_a_queue_whose_stream_failed_is_offered_again_and_the_others_go_on() {
    let fake = Fake::new(&[100, 100]);
    fake.with_log(&q(0), |log| log.min = 50);
    let start = StartFrom::Offsets([(q(0), at(10)), (q(1), at(0))].into());
    let consumer = build(subscribed().start_from(start), &fake).await.unwrap();
    let control = consumer.control();
    let mut streams = consumer.per_queue();
    let (mut zero, mut one) = (stream_of(&mut streams).await, stream_of(&mut streams).await);
    let error = zero.next().await.unwrap().unwrap_err();
    assert_eq!(error.queue(), Some(&q(0)), "{error}");
    assert!(zero.next().await.is_none(), "it comes once");
    next_of(&mut one).await.complete();
    control.seek(&q(0), crate::SeekTo::Beginning).await.unwrap();
    drop(zero);
    let mut again = stream_of(&mut streams).await;
    assert_eq!(again.queue(), &q(0));
    assert_eq!(next_of(&mut again).await.range().start, at(50));
    next_of(&mut one).await.complete();
}

#[tokio::test(start_paused = true)]
async fn p15_a_queue_that_comes_back_while_its_ended_stream_is_still_held_is_offered_again() {
    let fake = Fake::new(&[50, 50]);
    let mut streams = build(subscribed(), &fake).await.unwrap().per_queue();
    let (mut zero, _one) = (stream_of(&mut streams).await, stream_of(&mut streams).await);
    next_of(&mut zero).await.complete();
    fake.set_members(&["a", "me"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(zero.next().await.is_none(), "queue 0 is somebody else's");
    fake.set_members(&["me"]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut again = stream_of(&mut streams).await;
    assert_eq!(again.queue(), &q(0));
    assert_eq!(next_of(&mut again).await.range().start, at(1));
    drop(zero);
    next_of(&mut again).await.complete();
}

#[tokio::test(start_paused = true)]
async fn a_bounded_queue_stream_that_reached_its_end_is_not_offered_again() {
    let fake = Fake::new(&[5, 7]);
    let mut streams = build(subscribed().until(StopAt::Now), &fake).await.unwrap().per_queue();
    while let Some(stream) = streams.next().await {
        let mut stream = stream.unwrap();
        while let Some(batch) = stream.next().await {
            batch.unwrap().complete();
        }
        drop(stream);
    }
}

async fn next_of(stream: &mut crate::consumer::pull::QueueStream) -> PullBatch {
    stream.next().await.expect("it ended").expect("an error came")
}

#[tokio::test(start_paused = true)]
async fn with_the_last_of_its_streams_the_consumer_ends() {
    let fake = Fake::new(&[5]);
    let mut streams = build(subscribed(), &fake).await.unwrap().per_queue();
    let mut one = stream_of(&mut streams).await;
    drop(streams);
    next_of(&mut one).await.complete();
    drop(one);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(fake.closed.load(std::sync::atomic::Ordering::SeqCst));
    assert_eq!(fake.committed(&q(0)), Some(1));
}

/// Members that ask where to begin while the one before has not committed its last work yet are behind it.
#[tokio::test(start_paused = true)]
async fn a_member_that_completes_nothing_overwrites_nobodys_commit() {
    let fake = Fake::new(&[100, 100]);
    fake.with_log(&q(0), |log| log.committed = Some(5));
    let start = StartFrom::committed_or_earliest();
    let mut consumer = build(subscribed().start_from(start), &fake).await.unwrap();
    let mut held = vec![next(&mut consumer).await, next(&mut consumer).await];
    fake.with_log(&q(0), |log| log.committed = Some(8));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(fake.committed(&q(0)), Some(8), "at the intervals");
    fake.set_members(&["a", "me"]); // queue 0 goes to a
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.committed(&q(0)), Some(8), "when it is given up");
    assert_eq!(fake.committed(&q(1)), Some(0), "where it began by itself is saved, so that the next begins there too");
    held.retain(|batch| *batch.queue() == q(1));
    let end = held[0].range().end.get();
    held.into_iter().for_each(PullBatch::complete);
    consumer.control().flush().await.unwrap();
    assert_eq!(fake.committed(&q(1)), Some(end), "what is completed is saved");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_has_completed_something_commits_it_when_it_gives_the_queue_up() {
    let fake = Fake::new(&[100, 100]);
    fake.with_log(&q(0), |log| log.committed = Some(5));
    let start = StartFrom::committed_or_earliest();
    let mut consumer = build(subscribed().start_from(start), &fake).await.unwrap();
    consumer.control().pause(&q(1)).unwrap();
    let first = next(&mut consumer).await;
    let end = first.range().end.get();
    first.complete();
    fake.with_log(&q(0), |log| log.committed = Some(5));
    fake.set_members(&["a", "me"]); // queue 0 goes to a
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.committed(&q(0)), Some(end));
}
