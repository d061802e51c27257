use std::error::Error as _;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::task::TaskGroup;
use crate::transport::remoting::command::group::{MembersChanged, MembersRequest};
use crate::transport::remoting::command::offset::{MaxOffset, OffsetAnswer, QueueName};
use crate::transport::remoting::command::{Command, Kind, Payload, code};
use crate::transport::remoting::connection::Connection;
use crate::transport::remoting::frame::FrameError;
use crate::transport::remoting::tests::peer::Talk;

fn ask(queue: i32) -> Command {
    Command::request(&MaxOffset(QueueName { topic: "t".into(), queue }))
}

fn queue_of(request: &Command) -> i32 {
    request.fields.number("queueId").unwrap()
}

async fn told(answer: impl Future<Output = Result<Command>>) -> Result<i64> {
    Ok(OffsetAnswer::read(&soon(answer).await?)?.0)
}

async fn connected(tasks: &TaskGroup) -> (Connection, Talk) {
    let peer = Peer::new().await;
    let connection = Connection::open(tasks, peer.dialer());
    let talk = peer.accept().await;
    soon(connection.opened()).await.unwrap();
    (connection, talk)
}

/// What all who wait are told.
fn cause(error: &Error) -> String {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    format!("{:?} {error} {source}", error.kind())
}

#[tokio::test]
async fn many_requests_share_a_connection_and_are_answered_in_any_order() {
    let tasks = TaskGroup::new();
    let (connection, mut talk) = connected(&tasks).await;
    let calls = futures_util::future::join_all((0..50).map(|queue| told(connection.call(ask(queue), DEADLINE))));
    let serving = async {
        let mut requests = Vec::new();
        for _ in 0..50 {
            requests.push(talk.expect(code::GET_MAX_OFFSET).await);
        }
        for request in requests.iter().rev() {
            talk.answer(request, &OffsetAnswer(i64::from(queue_of(request)) * 10)).await;
        }
    };
    let (answers, ()) = tokio::join!(calls, serving);
    let answers: Vec<i64> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, (0..50).map(|queue| queue * 10).collect::<Vec<_>>());
    assert_eq!(connection.under_way(), 0);
}

#[tokio::test]
async fn the_first_framing_error_ends_the_connection_with_one_cause_for_all() {
    let tasks = TaskGroup::new();
    let (connection, mut talk) = connected(&tasks).await;
    let calls = futures_util::future::join_all((0..3).map(|queue| connection.call(ask(queue), DEADLINE)));
    let serving = async {
        for _ in 0..3 {
            talk.expect(code::GET_MAX_OFFSET).await;
        }
        talk.say_bytes(&[0xff; 8]).await;
    };
    let (answers, ()) = tokio::join!(soon(calls), serving);
    let errors: Vec<Error> = answers.into_iter().map(Result::unwrap_err).collect();
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::Protocol && cause(error) == cause(&errors[0])));
    assert!(matches!(
        errors[0].source().unwrap().downcast_ref::<FrameError>(),
        Some(FrameError::TooLong { length: 0xffff_ffff })
    ));
    let later = soon(connection.call(ask(9), DEADLINE)).await.unwrap_err();
    assert_eq!(cause(&later), cause(&errors[0]), "whoever comes later is told the same");
    assert!(connection.is_broken());
}

#[tokio::test]
async fn a_header_that_cannot_be_read_ends_the_connection_too() {
    let tasks = TaskGroup::new();
    let (connection, mut talk) = connected(&tasks).await;
    let (answer, ()) = tokio::join!(soon(connection.call(ask(0), DEADLINE)), async {
        talk.expect(code::GET_MAX_OFFSET).await;
        talk.say_bytes(&[0, 0, 0, 6, 0, 0, 0, 2, b'{', b'x']).await;
    });
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("the header cannot be read"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_a_lost_connection() {
    let tasks = TaskGroup::new();
    let (connection, mut talk) = connected(&tasks).await;
    let (answer, ()) = tokio::join!(soon(connection.call(ask(0), DEADLINE)), async move {
        talk.expect(code::GET_MAX_OFFSET).await;
        talk.say_bytes(&[0, 0, 1, 0, 0, 0, 0, 99, b'{']).await;
    });
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("ended within a frame, after 9 of at least 260 bytes"), "{error}");
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_behind_and_its_late_answer_harms_nobody() {
    let tasks = TaskGroup::new();
    let (connection, mut talk) = connected(&tasks).await;
    let late = {
        let mut call = Box::pin(connection.call(ask(1), DEADLINE));
        let request = tokio::select! {
            _ = &mut call => panic!("there is no answer yet"),
            request = talk.expect(code::GET_MAX_OFFSET) => request,
        };
        assert_eq!(connection.under_way(), 1);
        request
    };
    assert_eq!(connection.under_way(), 0, "the entry is gone with its caller");
    let (answer, ()) = tokio::join!(told(connection.call(ask(2), DEADLINE)), async {
        let request = talk.expect(code::GET_MAX_OFFSET).await;
        talk.answer(&late, &OffsetAnswer(111)).await;
        talk.answer(&request, &OffsetAnswer(222)).await;
    });
    assert_eq!(answer.unwrap(), 222);
}

#[tokio::test]
async fn a_frame_that_was_begun_is_finished_though_its_caller_is_gone() {
    let tasks = TaskGroup::new();
    let (connection, mut talk) = connected(&tasks).await;
    // More than the buffers of both sockets hold: the write stands still in the middle of the body.
    let mut large = ask(1);
    large.body = Bytes::from(vec![7; 15 << 20]);
    let cancelled = clock::timeout(Duration::from_millis(200), connection.call(large, DEADLINE)).await;
    assert!(cancelled.is_none());
    let (answer, ()) = tokio::join!(told(connection.call(ask(2), DEADLINE)), async {
        let first = talk.expect(code::GET_MAX_OFFSET).await;
        assert_eq!(first.body.len(), 15 << 20, "whole");
        let second = talk.expect(code::GET_MAX_OFFSET).await;
        talk.answer(&second, &OffsetAnswer(i64::from(queue_of(&second)))).await;
    });
    assert_eq!(answer.unwrap(), 2);
}

#[tokio::test]
async fn a_call_has_a_deadline_and_the_connection_outlives_it() {
    let tasks = TaskGroup::new();
    let (connection, mut talk) = connected(&tasks).await;
    let error = soon(connection.call(ask(1), Duration::from_millis(50))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!((error.to_string().as_str(), connection.under_way()), ("no answer within 50 ms", 0));
    let (answer, ()) = tokio::join!(told(connection.call(ask(2), DEADLINE)), async {
        talk.expect(code::GET_MAX_OFFSET).await;
        let request = talk.expect(code::GET_MAX_OFFSET).await;
        talk.answer(&request, &OffsetAnswer(2)).await;
    });
    assert_eq!(answer.unwrap(), 2);
}

#[tokio::test]
async fn a_server_that_does_not_read_makes_callers_wait_and_time_out_not_pile_up() {
    let tasks = TaskGroup::new();
    let (connection, _talk) = connected(&tasks).await;
    let large = || {
        let mut command = ask(1);
        command.body = Bytes::from(vec![7; 1 << 20]);
        command
    };
    let calls = (0..400).map(|_| connection.call(large(), Duration::from_millis(300)));
    let answers = soon(futures_util::future::join_all(calls)).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout)));
    assert_eq!(connection.under_way(), 0);
}

#[tokio::test]
async fn a_request_of_the_server_is_no_answer_though_it_has_the_number_of_one() {
    let tasks = TaskGroup::new();
    let (connection, mut talk) = connected(&tasks).await;
    let mut requests = connection.listen();
    let (answer, ()) = tokio::join!(told(connection.call(ask(1), DEADLINE)), async {
        let request = talk.expect(code::GET_MAX_OFFSET).await;
        let mut notice = Command::one_way(&MembersChanged { group: "g".into() });
        notice.opaque = request.opaque;
        talk.say(notice).await;
        talk.answer(&request, &OffsetAnswer(1)).await;
    });
    assert_eq!(answer.unwrap(), 1);
    let notice = soon(requests.recv()).await.unwrap();
    assert_eq!(MembersChanged::read(&notice.command).unwrap().group, Arc::from("g"));
}

#[tokio::test]
async fn requests_of_the_server_are_answered_with_their_number_and_refused_when_nobody_listens() {
    let tasks = TaskGroup::new();
    let (connection, mut talk) = connected(&tasks).await;
    let mut request = Command::request(&MembersRequest { group: "g".into() });
    request.opaque = 4711;
    talk.say(request.clone()).await;
    let refusal = talk.hear().await.unwrap();
    assert_eq!((refusal.kind, refusal.opaque, refusal.code), (Kind::Answer, 4711, code::REQUEST_CODE_NOT_SUPPORTED));

    let mut requests = connection.listen();
    talk.say(request.clone()).await;
    let inbound = soon(requests.recv()).await.unwrap();
    let answer = inbound.command.answer(&OffsetAnswer(5));
    inbound.answer(answer);
    let answer = talk.hear().await.unwrap();
    assert_eq!((answer.kind, answer.opaque, answer.code), (Kind::Answer, 4711, code::SUCCESS));

    drop(requests);
    talk.say(Command { kind: Kind::OneWay, ..request.clone() }).await;
    talk.say(request).await;
    assert_eq!(talk.hear().await.unwrap().opaque, 4711, "one answer: none was wanted to the first");
}

#[tokio::test]
async fn the_requests_of_the_server_end_with_the_connection() {
    let tasks = TaskGroup::new();
    let (connection, talk) = connected(&tasks).await;
    let mut requests = connection.listen();
    drop(talk);
    assert!(soon(requests.recv()).await.is_none());
    assert_eq!(connection.cause().kind(), ErrorKind::Unavailable);
    assert!(soon(connection.listen().recv()).await.is_none(), "also for who listens too late");
}

#[tokio::test]
async fn a_connection_that_cannot_be_opened_tells_why_to_all() {
    let peer = Peer::new().await;
    let (tasks, dialer) = (TaskGroup::new(), peer.dialer());
    drop(peer);
    let connection = Connection::open(&tasks, dialer);
    let calls = (0..3).map(|queue| connection.call(ask(queue), DEADLINE));
    for answer in soon(futures_util::future::join_all(calls)).await {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().starts_with("connect at 127.0.0.1:"), "{error}");
    }
}

#[tokio::test]
async fn a_connection_is_closed_when_nobody_has_it_any_more() {
    let tasks = TaskGroup::new();
    let (connection, mut talk) = connected(&tasks).await;
    let other = connection.clone();
    drop(connection);
    let (answer, ()) = tokio::join!(told(other.call(ask(1), DEADLINE)), async {
        let request = talk.expect(code::GET_MAX_OFFSET).await;
        talk.answer(&request, &OffsetAnswer(1)).await;
    });
    assert_eq!(answer.unwrap(), 1);
    drop(other);
    assert!(talk.hear().await.is_none());
}

#[tokio::test]
async fn the_end_of_the_client_wakes_all_who_wait() {
    let tasks = TaskGroup::new();
    let (connection, mut talk) = connected(&tasks).await;
    let (answer, ()) = tokio::join!(soon(connection.call(ask(1), DEADLINE)), async {
        talk.expect(code::GET_MAX_OFFSET).await;
        drop(tasks);
    });
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Closed);
    let ended = TaskGroup::new();
    ended.token().cancel();
    let late = Connection::open(&ended, Peer::new().await.dialer());
    assert_eq!(soon(late.call(ask(1), DEADLINE)).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_request_that_no_server_would_read_is_too_large() {
    let tasks = TaskGroup::new();
    let (connection, mut talk) = connected(&tasks).await;
    let mut large = ask(1);
    large.body = Bytes::from(vec![7; 16 << 20]);
    assert_eq!(soon(connection.call(large, DEADLINE)).await.unwrap_err().kind(), ErrorKind::TooLarge);
    let (answer, ()) = tokio::join!(told(connection.call(ask(2), DEADLINE)), async {
        let request = talk.expect(code::GET_MAX_OFFSET).await;
        talk.answer(&request, &OffsetAnswer(2)).await;
    });
    assert_eq!(answer.unwrap(), 2, "nothing of it was written");
}
