//! The producer on a paused clock, with servers that are played.

mod fake;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{FutureExt, SinkExt, StreamExt, stream};

use super::lock;
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::model::{MessageType, OutboundMessage, RetrySchedule};
use fake::{Fake, MAX_IN_FLIGHT, Play, config, message, producer, producer_with};

const SECOND: Duration = Duration::from_secs(1);

fn stores() -> Arc<Fake> {
    Fake::new(|_, _| Play::Store)
}

/// Time for the task to do what it can do now.
async fn settle() {
    clock::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_send_is_answered_with_a_receipt() {
    let fake = stores();
    let producer = producer(&fake);
    let receipt = producer.send(message("x")).await.unwrap();
    let attempts = fake.attempts("x");
    assert_eq!((receipt.message_id(), receipt.offset().get(), receipt.attempts()), (&*attempts[0].id, 0, 1));
    assert_eq!((receipt.queue(), receipt.recall_handle(), receipt.transaction_id()), (None, None, None));
    assert_eq!(*receipt.endpoint(), attempts[0].at);
    assert_eq!(fake.stored(), ["x"]);
}

#[tokio::test(start_paused = true)]
async fn s1_a_send_whose_reply_was_lost_is_repeated_with_the_same_id_and_the_receipt_says_so() {
    let fake = Fake::new(|_, before| if before == 0 { Play::LoseReply } else { Play::Store });
    let receipt = producer(&fake).send(message("x")).await.unwrap();
    let attempts = fake.attempts("x");
    assert_eq!(receipt.attempts(), 2);
    assert_eq!(attempts[0].id, attempts[1].id);
    assert_eq!(receipt.message_id(), &*attempts[0].id);
    assert_ne!(attempts[0].at, attempts[1].at, "the endpoint that failed is left alone");
    assert_eq!(*lock(&fake.reported), [attempts[0].at.clone()]);
}

#[tokio::test(start_paused = true)]
async fn s1_what_is_given_up_says_how_often_it_was_tried_and_that_it_may_be_stored() {
    let fake = Fake::new(|_, _| Play::LoseReply);
    let failed = producer(&fake).send(message("x").key("42")).await.unwrap_err();
    assert_eq!((failed.kind(), fake.attempts("x").len()), (ErrorKind::Timeout, 3));
    assert!(failed.may_have_been_stored());
    let text = failed.error().to_string();
    for part in
        ["send on topic t", "at ", "3000 ms", "(key 42)", "3 attempts", "may have stored", &fake.attempts("x")[0].id]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_before_a_final_refusal_leaves_it_open_whether_the_message_is_stored() {
    let fake = Fake::new(|_, before| match before {
        0 => Play::LoseReply,
        _ => Play::Fail(ErrorKind::PermissionDenied, "no"),
    });
    let failed = producer(&fake).send(message("x")).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::PermissionDenied);
    assert!(failed.may_have_been_stored());
    let fake = Fake::new(|_, _| Play::Fail(ErrorKind::PermissionDenied, "no"));
    let failed = producer(&fake).send(message("x")).await.unwrap_err();
    assert!(!failed.may_have_been_stored());
    assert_eq!(fake.attempts("x").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn s2_a_failed_send_gives_the_message_back_and_the_others_go_on() {
    let fake = Fake::new(|seen, _| match seen.body.as_str() {
        "bad" => Play::Fail(ErrorKind::Unauthenticated, "no"),
        _ => Play::Slowly(SECOND),
    });
    let producer = producer(&fake);
    let sent = ["a", "bad", "b"].map(|body| producer.send(message(body).tag("tag").property("p", "v")));
    let [a, bad, b] = join_all(sent).await.try_into().unwrap();
    let failed = bad.unwrap_err();
    assert_eq!((failed.message().get_tag(), failed.message().properties().get("p")), (Some("tag"), Some("v")));
    assert_eq!(&failed.into_message().body()[..], b"bad");
    assert!(a.is_ok() && b.is_ok());
}

#[tokio::test(start_paused = true)]
async fn s3_a_message_group_keeps_its_order_through_repeats_and_is_sent_to_one_place() {
    let fake = Fake::new(|seen, before| match seen.body.as_bytes()[0] {
        b'1' if before == 0 => Play::Fail(ErrorKind::Unavailable, "reset"),
        b'2' if before == 0 => Play::Fail(ErrorKind::Server, "inner"),
        _ => Play::Slowly(SECOND),
    });
    let producer = producer(&fake);
    let bodies = ["1", "2", "3", "4"];
    let sent = join_all(bodies.map(|body| producer.send(message(body).message_group("g")))).await;
    assert!(sent.iter().all(Result::is_ok));
    assert_eq!(fake.stored(), bodies);
    let seen = lock(&fake.seen).clone();
    assert!(seen.iter().all(|attempt| attempt.at == seen[0].at));
    assert!(seen.iter().map(|attempt| &attempt.body).is_sorted(), "none overtook another");
    assert_eq!(fake.most_under_way.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn s4_a_flush_waits_for_every_accepted_message_and_its_error_names_the_message() {
    let fake = Fake::new(|seen, _| match seen.body.as_str() {
        "bad" => Play::Fail(ErrorKind::PermissionDenied, "no"),
        _ => Play::Slowly(SECOND),
    });
    let producer = producer(&fake);
    let mut sink = producer.sink();
    sink.feed(message("a")).await.unwrap();
    sink.feed(message("bad").key("42")).await.unwrap();
    let begun = clock::now();
    let error = producer.flush().await.unwrap_err();
    assert_eq!(clock::now() - begun, SECOND);
    assert_eq!((error.kind(), error.topic()), (ErrorKind::PermissionDenied, Some("t")));
    let text = error.to_string();
    assert!(text.contains("key 42") && text.contains(&*fake.attempts("bad")[0].id), "{text}");
    assert!(producer.flush().await.is_ok(), "told once");
    assert_eq!(sink.flush().await.unwrap_err().into_unsent().unwrap().len(), 1, "the sink gives the message back");
}

#[tokio::test(start_paused = true)]
async fn a_flush_does_not_wait_for_what_is_accepted_after_it() {
    let fake = Fake::new(|seen, _| if seen.body == "later" { Play::Hang } else { Play::Slowly(SECOND) });
    let producer = producer(&fake);
    let mut sink = producer.sink();
    sink.feed(message("a")).await.unwrap();
    let mut flush = pin!(producer.flush());
    assert!(flush.as_mut().now_or_never().is_none());
    sink.feed(message("later")).await.unwrap();
    flush.await.unwrap();
    assert_eq!(fake.stored(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn s6_what_the_server_would_refuse_is_refused_without_asking_it() {
    let fake = stores();
    fake.create("fifo", vec![MessageType::Fifo]);
    *lock(&fake.settings) = crate::model::ServerSettings {
        max_body_size: Some(10),
        validate_message_type: Some(true),
        ..Default::default()
    };
    let producer = producer(&fake);
    for (message, kind, text) in [
        (message("more than ten"), ErrorKind::TooLarge, "at most 10"),
        (message(""), ErrorKind::InvalidArgument, "empty"),
        (OutboundMessage::new("bad topic", "b"), ErrorKind::InvalidArgument, "topic"),
        (OutboundMessage::new("fifo", "b"), ErrorKind::Precondition, "[Fifo]"),
    ] {
        let topic = message.topic().to_owned();
        let failed = producer.send(message).await.unwrap_err();
        assert_eq!(failed.kind(), kind);
        assert_eq!(failed.error().topic(), Some(&*topic));
        assert!(failed.error().to_string().contains(text), "{}", failed.error());
    }
    assert!(lock(&fake.seen).is_empty());
    assert!(producer.send(OutboundMessage::new("fifo", "b").message_group("g")).await.is_ok());
    lock(&fake.settings).validate_message_type = Some(false);
    assert!(
        producer.send(OutboundMessage::new("fifo", "b")).await.is_ok(),
        "a server that does not check decides itself"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic_fails_at_once_and_its_name_is_in_the_error() {
    let fake = stores();
    let failed = producer(&fake).send(OutboundMessage::new("nowhere", "b")).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::NotFound);
    assert!(failed.error().to_string().contains("on topic nowhere"), "{}", failed.error());
    assert!(lock(&fake.announced).is_empty());
}

#[tokio::test(start_paused = true)]
async fn r19_messages_outlast_a_broker_outage_as_5_5_0_shows_it() {
    let begun = clock::now();
    let fake = Fake::new(move |seen, _| match (seen.when - begun).as_secs() {
        0..5 => Play::Fail(ErrorKind::Server, "connect to 10.0.0.1:10911 failed"),
        5..10 => Play::Fail(ErrorKind::Unavailable, "refused"),
        10..20 => Play::Fail(ErrorKind::NotFound, "no topic route info"),
        20..50 => Play::Fail(ErrorKind::Precondition, "expected type is UNSPECIFIED, actual type is NORMAL"),
        _ => Play::Store,
    });
    let producer = producer(&fake);
    let sent = join_all((0..8).map(|n| producer.send(message(&n.to_string())))).await;
    assert!(sent.iter().all(Result::is_ok));
    assert!(clock::now() - begun < 56 * SECOND, "sending resumes within the longest wait");
    assert!(lock(&fake.seen).len() < 8 * 30, "without a storm");
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_outlasts_the_send_timeout_is_an_error() {
    let fake = Fake::new(|_, _| Play::Fail(ErrorKind::Throttled, "too many requests"));
    let begun = clock::now();
    let failed = producer(&fake).send(message("x")).await.unwrap_err();
    assert_eq!((failed.kind(), failed.may_have_been_stored()), (ErrorKind::Throttled, false));
    assert_eq!((clock::now() - begun).as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_waits_as_long_as_the_servers_settings_ask() {
    let fake = Fake::new(|_, before| match before {
        0 | 1 => Play::Fail(ErrorKind::Throttled, "too many requests"),
        _ => Play::Store,
    });
    fake.retry_schedule(RetrySchedule::Customized(vec![2 * SECOND, 7 * SECOND]));
    producer(&fake).send(message("x")).await.unwrap();
    let seen = fake.attempts("x");
    assert_eq!(((seen[1].when - seen[0].when).as_secs(), (seen[2].when - seen[1].when).as_secs()), (2, 7));
}

#[tokio::test(start_paused = true)]
async fn while_one_endpoint_is_away_the_other_takes_all() {
    let fake = Fake::new(|seen, _| match seen.at.host() {
        "a" => Play::Fail(ErrorKind::Unavailable, "refused"),
        _ => Play::Store,
    });
    let producer = producer(&fake);
    for n in 0..20 {
        producer.send(message(&n.to_string())).await.unwrap();
    }
    let to_a = lock(&fake.seen).iter().filter(|seen| seen.at.host() == "a").count();
    assert_eq!(to_a, 1, "within ten seconds it is not asked again");
}

#[tokio::test(start_paused = true)]
async fn no_more_messages_are_in_flight_than_allowed_and_those_who_wait_get_in_by_turns() {
    let fake = Fake::new(|_, _| Play::Slowly(SECOND));
    let producer = producer(&fake);
    let bodies: Vec<_> = (10..10 + 3 * MAX_IN_FLIGHT).map(|n| n.to_string()).collect();
    let begun = clock::now();
    assert!(join_all(bodies.iter().map(|body| producer.send(message(body)))).await.iter().all(Result::is_ok));
    assert_eq!((clock::now() - begun).as_secs(), 3);
    assert_eq!(fake.most_under_way.load(Ordering::SeqCst), MAX_IN_FLIGHT);
    let seen: Vec<_> = lock(&fake.seen).iter().map(|seen| seen.body.clone()).collect();
    assert_eq!(seen, bodies);
}

#[tokio::test(start_paused = true)]
async fn no_more_bytes_are_in_flight_than_allowed() {
    let fake = Fake::new(|_, _| Play::Slowly(SECOND));
    let config = crate::producer::ProducerConfig { max_in_flight_bytes: 10_000, ..config() };
    let producer = producer_with(&fake, config);
    let body = |n: usize| format!("{n}{}", "x".repeat(4_000));
    let sent = join_all((0..4).map(|n| producer.send(message(&body(n))))).await;
    assert!(sent.iter().all(Result::is_ok));
    assert_eq!(fake.most_under_way.load(Ordering::SeqCst), 2);
    assert!(producer.send(message(&"y".repeat(20_000))).await.is_ok(), "one that is too large goes alone");
    // A sink knows the size of a message only when it has it: one more gets in.
    let mut sink = producer.sink();
    for n in 4..7 {
        sink.feed(message(&body(n))).await.unwrap();
    }
    assert!(sink.feed(message(&body(7))).now_or_never().is_none());
    sink.close().await.unwrap();
    assert_eq!(fake.most_under_way.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn topics_are_announced_when_they_are_first_used() {
    let fake = stores();
    fake.create("u", vec![]);
    let producer = producer(&fake);
    for topic in ["t", "u", "t", "u"] {
        producer.send(OutboundMessage::new(topic, "b")).await.unwrap();
    }
    assert_eq!(*lock(&fake.announced), ["t".into(), "u".into()]);
}

#[tokio::test(start_paused = true)]
async fn messages_are_stamped_with_host_and_time() {
    let fake = stores();
    let producer = producer(&fake);
    assert_eq!(&*producer.inner.born_host, "host");
    let (a, b) = (producer.send(message("a")).await.unwrap(), producer.clone().send(message("b")).await.unwrap());
    assert_ne!(a.message_id(), b.message_id());
    assert!(a.message_id().starts_with("01") && a.message_id().len() == 34);
}

#[tokio::test(start_paused = true)]
async fn when_the_last_producer_is_dropped_what_was_accepted_is_sent_and_goodbye_is_said() {
    let fake =
        Fake::new(|_, before| if before == 0 { Play::Fail(ErrorKind::Unavailable, "away") } else { Play::Store });
    let producer = producer(&fake);
    let mut sink = producer.clone().sink();
    sink.feed(message("a")).await.unwrap();
    drop(producer);
    sink.feed(message("b")).await.unwrap();
    settle().await;
    assert!(!fake.is_closed(), "a sink keeps it alive");
    drop(sink);
    clock::sleep(SECOND).await;
    assert_eq!(fake.stored().len(), 2);
    assert!(fake.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_the_answers_and_then_says_goodbye() {
    let fake = Fake::new(|_, _| Play::Slowly(SECOND));
    let producer = producer(&fake);
    let other = producer.clone();
    let (sent, report) = futures_util::join!(other.send(message("a")), producer.shutdown(5 * SECOND));
    assert!(sent.is_ok() && report.is_clean() && report.into_result().is_ok());
    assert!(fake.is_closed());
    let failed = other.send(message("late")).await.unwrap_err();
    assert_eq!((failed.kind(), failed.may_have_been_stored()), (ErrorKind::Closed, false));
    assert_eq!(&failed.into_message().body()[..], b"late");
    assert!(other.flush().await.is_ok());
    assert!(other.shutdown(SECOND).await.is_clean(), "again does no harm");
    let error = other.sink().send(message("late")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_at_its_deadline_and_tells_whoever_waits() {
    let fake = Fake::new(|seen, _| match seen.body.as_str() {
        "away" => Play::Fail(ErrorKind::Throttled, "slow down"),
        _ => Play::Hang,
    });
    let producer = producer(&fake);
    let begun = clock::now();
    let sends = join_all(
        (0..MAX_IN_FLIGHT + 1)
            .map(|n| producer.send(message(if n == 0 { "away".to_owned() } else { n.to_string() }.as_str()))),
    );
    let (sent, report, flushed) = futures_util::join!(sends, producer.shutdown(5 * SECOND), producer.flush());
    assert_eq!((clock::now() - begun).as_secs(), 5);
    assert_eq!(report.unanswered(), MAX_IN_FLIGHT);
    assert_eq!(report.into_result().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(flushed.unwrap_err().kind(), ErrorKind::Closed);
    let failed: Vec<_> = sent.into_iter().map(Result::unwrap_err).collect();
    assert!(failed.iter().all(|failed| failed.kind() == ErrorKind::Closed));
    let stored: Vec<_> = failed.iter().map(crate::SendError::may_have_been_stored).collect();
    assert!(!stored[0], "throttled: not stored");
    assert!(stored[1..MAX_IN_FLIGHT].iter().all(|stored| *stored), "under way: nobody knows");
    assert!(!stored[MAX_IN_FLIGHT], "it waited for room: never sent");
    assert!(fake.is_closed());
}

#[tokio::test(start_paused = true)]
async fn e4_a_send_dropped_after_any_number_of_polls_is_sent_whole_or_not_at_all() {
    for polls in 0..6 {
        let fake = Fake::new(|seen, before| match seen.body.as_str() {
            "x" if before == 0 => Play::LoseReply,
            _ => Play::Slowly(SECOND),
        });
        let producer = producer(&fake);
        let mut send = Box::pin(producer.send(message("x")));
        for _ in 0..polls {
            assert!(send.as_mut().now_or_never().is_none());
            clock::sleep(Duration::from_millis(1500)).await;
            if !fake.attempts("x").is_empty() && fake.attempts("x").len() > 1 {
                break;
            }
        }
        drop(send);
        producer.flush().await.unwrap();
        assert_eq!(fake.attempts("x").len(), if polls == 0 { 0 } else { 2 }, "{polls} polls");
        let all = join_all((0..MAX_IN_FLIGHT).map(|n| producer.send(message(&n.to_string())))).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(fake.most_under_way.load(Ordering::SeqCst), MAX_IN_FLIGHT, "no room was lost");
    }
}

#[tokio::test(start_paused = true)]
async fn e4_a_send_that_waits_for_room_and_is_dropped_was_never_accepted() {
    let fake = Fake::new(|_, _| Play::Slowly(SECOND));
    let config = crate::producer::ProducerConfig { max_in_flight: 1, ..config() };
    let producer = producer_with(&fake, config);
    let first = producer.send(message("first"));
    let mut waiting = Box::pin(producer.send(message("waiting")));
    let (first, ()) = futures_util::join!(first, async {
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(waiting);
    });
    first.unwrap();
    producer.send(message("next")).await.unwrap();
    assert_eq!(fake.stored(), ["first", "next"]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_nobody_waited_for_is_told_by_the_next_flush_or_the_shutdown() {
    let fake = Fake::new(|_, _| Play::Fail(ErrorKind::PermissionDenied, "no"));
    let producer = producer(&fake);
    for _ in 0..2 {
        let mut send = Box::pin(producer.send(message("x")));
        assert!(send.as_mut().now_or_never().is_none());
        drop(send);
        settle().await;
    }
    let mut dropped = Box::pin(producer.flush());
    assert!(dropped.as_mut().now_or_never().is_none());
    drop(dropped);
    settle().await;
    let error = producer.flush().await.unwrap_err();
    assert_eq!(error.into_unsent().unwrap().len(), 2, "a flush that was dropped tells nothing");
    assert!(producer.flush().await.is_ok());
    let mut send = Box::pin(producer.send(message("y")));
    assert!(send.as_mut().now_or_never().is_none());
    drop(send);
    let report = producer.shutdown(SECOND).await;
    assert_eq!((report.unanswered(), report.untold().len()), (0, 1));
    assert_eq!(&report.into_unsent()[0].body()[..], b"y");
}

#[test]
fn when_the_runtime_ends_nobody_waits_for_ever() {
    let fake = Fake::new(|_, _| Play::Hang);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (producer, mut sink) = runtime.block_on(async {
        let producer = producer(&fake);
        let mut sink = producer.sink();
        sink.feed(message("under way")).await.unwrap();
        settle().await;
        sink.feed(message("not yet taken")).await.unwrap();
        (producer, sink)
    });
    let mut send = Box::pin(producer.send(message("x")));
    assert!(send.as_mut().now_or_never().is_none());
    drop(runtime);
    let answer = |answered: Option<Result<_, crate::SendError>>| answered.expect("no wait").unwrap_err().kind();
    assert_eq!(answer(send.as_mut().now_or_never()), ErrorKind::Closed);
    assert_eq!(answer(producer.send(message("late")).now_or_never()), ErrorKind::Closed);
    let error = sink.flush().now_or_never().expect("no wait").unwrap_err();
    assert_eq!(error.into_unsent().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn e1_e2_no_debug_output_holds_a_body() {
    let fake = Fake::new(|_, _| Play::Fail(ErrorKind::PermissionDenied, "no"));
    let producer = producer(&fake);
    let failed = producer.send(message("secret")).await.unwrap_err();
    for text in [format!("{producer:?}"), format!("{:?}", producer.sink()), format!("{failed:?}"), format!("{failed}")]
    {
        assert!(!text.contains("secret") && !text.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_absurd_deadline_of_a_shutdown_does_no_harm() {
    let producer = producer(&stores());
    producer.send(message("x")).await.unwrap();
    assert!(producer.shutdown(Duration::MAX).await.is_clean());
}

#[test]
fn what_users_hold_can_be_moved_shared_and_shown() {
    fn holds<T: Send + Sync + Unpin + std::fmt::Debug>() {}
    holds::<crate::Producer>();
    holds::<crate::ProducerSink>();
    holds::<crate::SendReceipt>();
    holds::<crate::SendError>();
    holds::<crate::ProducerReport>();
    holds::<crate::SendWith<stream::Empty<Result<(OutboundMessage, ()), Error>>, ()>>();
    fn is_send<T: Send>(_: &T) {}
    fn futures(producer: &crate::Producer) {
        is_send(&producer.send(message("x")));
        is_send(&producer.flush());
        is_send(&producer.shutdown(SECOND));
    }
    let _ = futures;
}

mod sinks {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flush_is_ready_when_every_message_of_this_sink_is_answered() {
        let fake = Fake::new(|seen, _| if seen.body == "other" { Play::Hang } else { Play::Slowly(SECOND) });
        let producer = producer(&fake);
        let (mut sink, mut other) = (producer.sink(), producer.sink());
        other.feed(message("other")).await.unwrap();
        sink.feed(message("a")).await.unwrap();
        sink.feed(message("b")).await.unwrap();
        assert!(sink.flush().now_or_never().is_none());
        let begun = clock::now();
        sink.flush().await.unwrap();
        assert_eq!((clock::now() - begun, fake.stored().len()), (SECOND, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn errors_carry_the_unsent_messages_and_the_sink_can_be_used_further() {
        let fake = Fake::new(|seen, _| match seen.body.as_str() {
            "bad" => Play::Fail(ErrorKind::PermissionDenied, "no"),
            _ => Play::Slowly(SECOND),
        });
        let mut sink = producer(&fake).sink();
        for body in ["bad", "a", "bad"] {
            sink.feed(message(body)).await.unwrap();
        }
        let error = sink.flush().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(error.into_unsent().unwrap().len(), 2);
        sink.send(message("b")).await.unwrap();
        assert_eq!(fake.stored(), ["a", "b"]);
        sink.feed(message("bad")).await.unwrap();
        settle().await;
        assert!(sink.feed(message("c")).await.is_err(), "told before the next message is taken");
        sink.close().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_breaks_a_rule_comes_back_at_once() {
        let fake = stores();
        let mut sink = producer(&fake).sink();
        let error = sink.feed(message("x").tag("a|b")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(error.into_unsent().unwrap()[0].get_tag(), Some("a|b"));
        sink.send(message("good")).await.unwrap();
        sink.close().await.unwrap();
        let error = sink.start_send_unpin(message("late")).unwrap_err();
        assert_eq!((error.kind(), error.into_unsent().unwrap().len()), (ErrorKind::Closed, 1));
        assert_eq!(fake.stored(), ["good"]);
    }

    #[tokio::test(start_paused = true)]
    async fn start_send_without_poll_ready_gives_the_message_back() {
        let fake = stores();
        let mut sink = producer(&fake).sink();
        assert_eq!(sink.start_send_unpin(message("x")).unwrap_err().into_unsent().unwrap().len(), 1);
        assert!(fake.stored().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_ready_only_while_there_is_room_and_a_dropped_one_gives_its_room_back() {
        let fake = Fake::new(|_, _| Play::Slowly(SECOND));
        let producer = producer(&fake);
        let mut idle: Vec<_> = (0..MAX_IN_FLIGHT).map(|_| producer.sink()).collect();
        for sink in &mut idle {
            futures_util::future::poll_fn(|cx| sink.poll_ready_unpin(cx)).await.unwrap();
        }
        let mut sink = producer.sink();
        let mut feed = Box::pin(sink.feed(message("x")));
        assert!(feed.as_mut().now_or_never().is_none(), "all the room is promised");
        idle.pop();
        feed.await.unwrap();
        idle.pop().unwrap().close().await.unwrap();
        producer.send(message("y")).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_a_sink_as_forward_does_cancels_nothing_and_the_producer_tells_its_failures() {
        let fake = Fake::new(|seen, _| match seen.body.as_str() {
            "bad" => Play::Fail(ErrorKind::PermissionDenied, "no"),
            _ => Play::Slowly(SECOND),
        });
        let producer = producer(&fake);
        let upstream = [Ok(message("a")), Ok(message("bad")), Err(Error::new(ErrorKind::Closed, "upstream"))];
        let error = stream::iter(upstream).forward(producer.sink()).await.unwrap_err();
        assert_eq!(error.to_string(), "upstream");
        let error = producer.flush().await.unwrap_err();
        assert_eq!(&error.into_unsent().unwrap()[0].body()[..], b"bad");
        assert_eq!(fake.stored(), ["a"]);
        // Failed and answered while the sink was still there, but never told.
        let mut sink = producer.sink();
        sink.feed(message("bad")).await.unwrap();
        settle().await;
        drop(sink);
        assert!(producer.flush().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn forward_sends_everything_and_ends_when_all_is_answered() {
        let fake = Fake::new(|_, _| Play::Slowly(SECOND));
        let producer = producer(&fake);
        let messages = (0..100).map(|n| Ok(message(&n.to_string())));
        stream::iter(messages).forward(producer.sink()).await.unwrap();
        assert_eq!(fake.stored().len(), 100);
    }
}

mod send_with {
    use super::super::SendStreamExt;
    use super::*;
    use futures_core::FusedStream;
    use futures_util::TryStreamExt;

    fn numbered(range: std::ops::Range<usize>) -> impl Iterator<Item = Result<(OutboundMessage, usize), Error>> {
        range.map(|n| Ok((message(&n.to_string()), n)))
    }

    #[tokio::test(start_paused = true)]
    async fn receipts_come_in_the_order_of_the_stream_with_what_came_along() {
        let fake = Fake::new(|seen, _| Play::Slowly(SECOND * (20 - seen.body.parse::<u32>().unwrap())));
        let producer = producer(&fake);
        let sent: Vec<_> = stream::iter(numbered(0..20)).send_with(&producer, 4).try_collect().await.unwrap();
        assert_eq!(sent.iter().map(|(_, n)| *n).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
        for (receipt, n) in &sent {
            assert_eq!(receipt.message_id(), &*fake.attempts(&n.to_string())[0].id);
        }
        assert_eq!(fake.most_under_way.load(Ordering::SeqCst), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_error_comes_after_the_answers_to_what_came_before_it_and_ends_the_stream() {
        let fake = Fake::new(|_, _| Play::Slowly(SECOND));
        let producer = producer(&fake);
        let upstream = numbered(0..2).chain([Err(Error::new(ErrorKind::Closed, "upstream"))]).chain(numbered(2..3));
        let mut sent = pin!(stream::iter(upstream).send_with(&producer, 8));
        for n in 0..2 {
            assert_eq!(sent.next().await.unwrap().unwrap().1, n);
        }
        assert_eq!(sent.next().await.unwrap().unwrap_err().to_string(), "upstream");
        assert!(sent.is_terminated());
        assert!(sent.next().await.is_none() && sent.next().await.is_none());
        assert_eq!(fake.stored(), ["0", "1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_is_not_sent_is_an_error_in_its_place_and_the_stream_goes_on() {
        let fake = Fake::new(|seen, _| match seen.body.as_str() {
            "1" => Play::Fail(ErrorKind::PermissionDenied, "no"),
            _ => Play::Slowly(SECOND),
        });
        let producer = producer(&fake);
        let refused = Ok((message("x").tag(" "), 9));
        let sent: Vec<_> = stream::iter(numbered(0..3).chain([refused])).send_with(&producer, 8).collect().await;
        let kinds: Vec<_> = sent.iter().map(|item| item.as_ref().map(|(_, n)| *n).map_err(Error::kind)).collect();
        assert_eq!(kinds, [Ok(0), Err(ErrorKind::PermissionDenied), Ok(2), Err(ErrorKind::InvalidArgument)]);
        for item in sent.into_iter().filter_map(Result::err) {
            assert_eq!(item.into_unsent().unwrap().len(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_of_them_share_the_room_of_a_producer_although_one_is_idle() {
        let fake = stores();
        let config = crate::producer::ProducerConfig { max_in_flight: 1, ..config() };
        let producer = producer_with(&fake, config);
        let mut idle = stream::pending::<Result<(OutboundMessage, ()), Error>>().send_with(&producer, 8);
        assert!(idle.next().now_or_never().is_none());
        let sent: Vec<_> = stream::iter(numbered(0..20)).send_with(&producer, 8).try_collect().await.unwrap();
        assert_eq!(sent.len(), 20);
        assert!(!idle.is_terminated());
    }

    #[tokio::test(start_paused = true)]
    async fn e4_polled_and_dropped_at_any_time_it_loses_nothing_that_was_accepted() {
        for polls in 0..6 {
            let fake = Fake::new(|_, _| Play::Slowly(SECOND));
            let producer = producer(&fake);
            let mut sent = stream::iter(numbered(0..40)).send_with(&producer, 4);
            for poll in 0..polls {
                assert_eq!(sent.next().now_or_never().is_some(), poll > 0);
                clock::sleep(SECOND + Duration::from_millis(1)).await;
            }
            drop(sent);
            producer.flush().await.unwrap();
            assert_eq!(fake.stored().len(), [0, 4, 4, 5, 6, 7][polls], "{polls} polls");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_shutdown_each_message_comes_back_as_an_error() {
        let fake = stores();
        let producer = producer(&fake);
        let _ = producer.shutdown(SECOND).await;
        let sent: Vec<_> = stream::iter(numbered(0..3)).send_with(&producer, 8).collect().await;
        for item in sent {
            let error = item.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed);
            assert_eq!(error.into_unsent().unwrap().len(), 1);
        }
    }
}
