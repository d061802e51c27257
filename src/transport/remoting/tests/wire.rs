use std::sync::Arc;
use std::time::SystemTime;

use super::*;
use crate::error::ErrorKind;
use crate::model::{
    ClientKind, ClientSettings, Credentials, Endpoint, Filter, Limits, MessageQueue, Offset, Scheme, Subscription,
};
use crate::task::TaskGroup;
use crate::transport::auth;
use crate::transport::remoting::command::group::{CheckClient, ConnectionData, Connections, Members};
use crate::transport::remoting::command::heartbeat::{CONSUME_PASSIVELY, SubscriptionData};
use crate::transport::remoting::command::offset::{CommittedRequest, OffsetAnswer};
use crate::transport::remoting::command::pull::{PullAnswer, PullHeader, SUBSCRIPTION, SUSPEND};
use crate::transport::remoting::command::route::{BrokerData, QueueData, RouteData, RouteRequest};
use crate::transport::remoting::command::{Command, Kind, Payload, code};
use crate::transport::remoting::{RemotingConfig, RemotingWire};
use crate::transport::tls::TlsOptions;
use crate::transport::{ConsumeKind, Presence, PullOutcome, PullRequest, Pulled, Pulling, QueueBound, Routing};
use bytes::Bytes;

pub(super) fn config(name_servers: Vec<Endpoint>) -> RemotingConfig {
    RemotingConfig {
        client_id: "me".into(),
        scheme: Scheme::Plaintext,
        tls: TlsOptions::default(),
        credentials: None,
        namespace: "".into(),
        name_servers,
        request_timeout: DEADLINE,
        connect_timeout: DEADLINE,
        limits: Limits::default(),
        check_digest: true,
    }
}

pub(super) fn wire_to(peer: &Peer) -> RemotingWire {
    RemotingWire::new(config(vec![peer.at.clone()])).unwrap()
}

pub(super) fn topic() -> Arc<str> {
    "orders".into()
}

pub(super) fn group() -> Arc<str> {
    "etl".into()
}

pub(super) fn queue() -> MessageQueue {
    MessageQueue::new("orders", "broker-a", 3)
}

pub(super) fn settings(group: Option<Arc<str>>, filter: Filter) -> ClientSettings {
    ClientSettings {
        kind: ClientKind::PullConsumer,
        request_timeout: DEADLINE,
        group,
        subscriptions: vec![Subscription { topic: topic(), filter }],
        await_duration: None,
        topics: Vec::new(),
    }
}

fn pull_at(offset: u64) -> PullRequest {
    PullRequest {
        group: group(),
        queue: queue(),
        offset: Offset::new(offset),
        filter: Filter::tag("a || b"),
        max_messages: 32,
        suspend: Some(Duration::from_secs(15)),
    }
}

fn one_queue(address: &str) -> RouteData {
    RouteData {
        queues: vec![QueueData { broker: "broker-a".into(), read: 1, write: 1, permission: 6 }],
        brokers: vec![BrokerData {
            cluster: "C".into(),
            name: "broker-a".into(),
            addresses: vec![(0, address.into())],
        }],
    }
}

/// Asks for the route three times; which server answered, by its address in the answer.
async fn three_routes(wire: &RemotingWire, servers: &[Endpoint]) -> Vec<Result<String>> {
    let mut answers = Vec::new();
    for _ in 0..3 {
        let route = soon(wire.query_route(&servers[0], &topic())).await;
        answers.push(route.map(|route| route.queues[0].endpoints[0].host().to_owned()));
    }
    answers
}

#[tokio::test]
async fn a_route_comes_from_the_first_name_server_that_knows() {
    let tasks = TaskGroup::new();
    let unknown = |request: &Command| request.refusal(code::TOPIC_NOT_EXIST, "No topic route info");
    let ignorant = Peer::new().await.serve(&tasks, unknown);
    let knowing = Peer::new().await.serve(&tasks, |request| {
        assert_eq!(RouteRequest::read(request).unwrap().topic, topic());
        request.answer(&one_queue("knowing:1"))
    });
    let gone = Peer::new().await.at.clone();

    let servers = vec![gone.clone(), ignorant.clone(), knowing.clone()];
    let wire = RemotingWire::new(config(servers.clone())).unwrap();
    for answer in three_routes(&wire, &servers).await {
        assert_eq!(answer.unwrap(), "knowing");
    }
    drop(wire); // a peer serves one connection at a time
    let servers = vec![gone.clone(), ignorant];
    let wire = RemotingWire::new(config(servers.clone())).unwrap();
    for answer in three_routes(&wire, &servers).await {
        let error = answer.unwrap_err();
        assert_eq!((error.kind(), error.server_code()), (ErrorKind::NotFound, Some(17)), "{error}");
        assert_eq!(error.topic(), Some("orders"));
    }
    let wire = RemotingWire::new(config(vec![gone.clone()])).unwrap();
    let error = three_routes(&wire, &[gone]).await.remove(0).unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error}");
}

#[tokio::test]
async fn p17_a_name_server_that_says_nothing_is_left_for_the_next_and_connected_anew() {
    let silent = Peer::new().await;
    let wire = RemotingWire::new(RemotingConfig {
        request_timeout: Duration::from_millis(100),
        ..config(vec![silent.at.clone()])
    });
    let wire = wire.unwrap();
    let (topic, at) = (topic(), silent.at.clone());
    let (answer, mut first) = tokio::join!(soon(wire.query_route(&at, &topic)), silent.accept());
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
    first.expect(code::GET_ROUTE_BY_TOPIC).await;
    assert!(soon(first.hear()).await.is_none(), "that connection may be dead: it is given up");
    let (answer, _second) = tokio::join!(soon(wire.query_route(&at, &topic)), async {
        let mut second = silent.accept().await;
        let request = second.expect(code::GET_ROUTE_BY_TOPIC).await;
        second.answer(&request, &one_queue("a:1")).await;
        second
    });
    assert!(answer.is_ok());
}

/// One pull, and what the server says to it.
async fn pull(request: PullRequest, answer: impl FnOnce(&Command) -> Command) -> (Command, Result<Pulled>) {
    let peer = Peer::new().await;
    let wire = wire_to(&peer);
    let (asked, pulled) = tokio::join!(
        async {
            let mut talk = peer.accept().await;
            let asked = talk.expect(code::PULL_MESSAGE).await;
            talk.say(answer(&asked)).await;
            (asked, talk)
        },
        soon(wire.pull(&peer.at, &request))
    );
    (asked.0, pulled)
}

fn pull_answer(next_offset: i64) -> PullAnswer {
    PullAnswer {
        next_offset,
        min_offset: Some(5),
        max_offset: Some(50),
        suggested_replica: Some(1),
        offset_delta: None,
    }
}

#[tokio::test]
async fn a_pull_carries_its_filter_and_its_broker_and_bypasses_no_authorisation() {
    let (asked, pulled) = pull(pull_at(17), |request| Command { code: 19, ..request.answer(&pull_answer(17)) }).await;
    assert_eq!(asked.code, 11, "361 is not authorised by anybody");
    assert_eq!(asked.fields.get("bname"), Some("broker-a"), "a proxy needs to know");
    let header = PullHeader::read(&asked).unwrap();
    assert_eq!(header.flags, SUSPEND | SUBSCRIPTION);
    assert_eq!((header.queue, header.offset, header.max_messages, header.suspend_ms), (3, 17, 32, 15_000));
    assert_eq!((header.commit_offset, header.filter), (0, Some(Filter::tag("a || b"))));
    let pulled = pulled.unwrap();
    assert_eq!((pulled.outcome, pulled.next_offset, pulled.messages.len()), (PullOutcome::Empty, Offset::new(17), 0));
    assert_eq!((pulled.min_offset, pulled.max_offset), (Some(Offset::new(5)), Some(Offset::new(50))));
    assert_eq!(pulled.suggested_replica, Some(1));

    let at_once = PullRequest { suspend: None, ..pull_at(17) };
    let (asked, _) = pull(at_once, |request| Command { code: 19, ..request.answer(&pull_answer(17)) }).await;
    assert_eq!(PullHeader::read(&asked).unwrap().flags, SUBSCRIPTION);
}

#[tokio::test]
async fn p29_a_reset_is_told_from_a_gap_by_the_remark() {
    for (code, remark, next, outcome) in [
        (20, "NO_MATCHED_MESSAGE", 900, PullOutcome::Filtered),
        (19, "OFFSET_OVERFLOW_ONE", 17, PullOutcome::Empty),
        (21, "OFFSET_TOO_SMALL", 40, PullOutcome::OutOfRange),
        (21, "OFFSET_OVERFLOW_BADLY", 3, PullOutcome::OutOfRange),
        (21, "OFFSET_RESET", 3, PullOutcome::Reset),
    ] {
        let answer = |request: &Command| {
            let answer = request.answer(&pull_answer(next));
            Command { code, remark: Some(remark.into()), ..answer }
        };
        let pulled = pull(pull_at(17), answer).await.1.expect(remark);
        assert_eq!((pulled.outcome, pulled.next_offset.get()), (outcome, next as u64), "{remark}");
    }
}

#[tokio::test]
async fn p4_an_offset_that_cannot_be_is_an_error_and_is_never_sent() {
    for (code, next) in [(0, -1), (19, -1), (20, -1), (21, -1)] {
        let answer = |request: &Command| Command { code, ..request.answer(&pull_answer(next)) };
        let error = pull(pull_at(17), answer).await.1.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{code} {next}");
        assert_eq!((error.topic(), error.group()), (Some("orders"), Some("etl")), "{error}");
    }
    let wire = RemotingWire::new(config(vec![Endpoint::new("localhost", 1)])).unwrap();
    let nowhere = Endpoint::new("localhost", 1);
    let error = soon(wire.pull(&nowhere, &pull_at(u64::MAX))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let commit = wire.commit(&nowhere, &group(), &queue(), Offset::new(1 << 63)).await.unwrap_err();
    assert_eq!(commit.kind(), ErrorKind::InvalidArgument, "{commit}");
    let absurd = MessageQueue::new("orders", "broker-a", u32::MAX);
    let bound = wire.bound(&nowhere, &absurd, QueueBound::Max).await.unwrap_err();
    assert_eq!(bound.kind(), ErrorKind::InvalidArgument, "{bound}");
}

#[tokio::test]
async fn p18_an_answer_that_points_back_is_left_to_who_reads() {
    for (code, next, outcome) in [(19, 0, PullOutcome::Empty), (20, 16, PullOutcome::Filtered)] {
        let answer = |request: &Command| Command { code, ..request.answer(&pull_answer(next)) };
        let pulled = pull(pull_at(17), answer).await.1.unwrap();
        assert_eq!((pulled.next_offset, pulled.outcome), (Offset::new(next.cast_unsigned()), outcome));
    }
}

#[tokio::test]
async fn a_refused_pull_says_what_the_server_said() {
    let refusal = |request: &Command| request.refusal(16, "User:u has no permission to access Topic:orders");
    let error = pull(pull_at(17), refusal).await.1.unwrap_err();
    assert_eq!((error.kind(), error.server_code()), (ErrorKind::PermissionDenied, Some(16)));
    let shown = error.to_string();
    assert!(shown.contains("pull on topic orders in group etl at 127.0.0.1:"), "{shown}");
    assert!(shown.contains("User:u has no permission to access Topic:orders; pulling needs the rights Sub"), "{shown}");
    assert!(shown.ends_with("(server code 16)"), "{shown}");
    let silent = |request: &Command| Command { code: 26, remark: None, ..request.refusal(26, "") };
    let error = pull(pull_at(17), silent).await.1.unwrap_err();
    assert!(error.to_string().contains("the server gave no reason"), "{error}");
}

#[tokio::test]
async fn messages_that_cannot_be_read_are_a_protocol_error() {
    let garbage =
        |request: &Command| Command { body: Bytes::from_static(&[1; 100]), ..request.answer(&pull_answer(18)) };
    let error = pull(pull_at(17), garbage).await.1.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("the stored messages cannot be read"), "{error}");
}

#[tokio::test]
async fn messages_that_were_found_and_not_sent_are_a_protocol_error_and_not_skipped() {
    let error = pull(pull_at(17), |request: &Command| request.answer(&pull_answer(18))).await.1.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("sent none"), "{error}");
}

/// A wire to a server that answers each request so.
async fn served(
    tasks: &TaskGroup,
    answer: impl FnMut(&Command) -> Command + Send + 'static,
) -> (RemotingWire, Endpoint) {
    let at = Peer::new().await.serve(tasks, answer);
    (RemotingWire::new(config(vec![at.clone()])).unwrap(), at)
}

#[tokio::test]
async fn offsets_are_asked_for_and_committed() {
    let tasks = TaskGroup::new();
    let (wire, at) = served(&tasks, |request| {
        assert_eq!(request.fields.get("bname"), Some("broker-a"));
        assert_eq!(request.kind, Kind::Request, "a commit that is refused is heard of");
        match request.code {
            14 => {
                assert!(!CommittedRequest::read(request).unwrap().zero_if_absent);
                request.refusal(code::QUERY_NOT_FOUND, "Not found, maybe this group consumer boot first")
            }
            15 => request.refusal(code::SUBSCRIPTION_GROUP_NOT_EXIST, "Group etl not exist!"),
            29 => request.answer(&OffsetAnswer(request.fields.number::<i64>("timestamp").unwrap() / 1_000)),
            30 => request.answer(&OffsetAnswer(99)),
            31 => request.answer(&OffsetAnswer(-1)),
            other => panic!("{other}"),
        }
    })
    .await;
    assert_eq!(soon(wire.committed(&at, &group(), &queue())).await.unwrap(), None);
    let error = soon(wire.commit(&at, &group(), &queue(), Offset::new(4))).await.unwrap_err();
    assert_eq!((error.kind(), error.server_code()), (ErrorKind::NotFound, Some(26)));
    let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(43_200);
    assert_eq!(soon(wire.offset_at(&at, &queue(), noon)).await.unwrap(), Offset::new(43_200));
    assert_eq!(soon(wire.bound(&at, &queue(), QueueBound::Max)).await.unwrap(), Offset::new(99));
    let error = soon(wire.bound(&at, &queue(), QueueBound::Min)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn a_group_is_known_by_its_members() {
    let tasks = TaskGroup::new();
    let subscription = SubscriptionData { topic: topic(), filter: Filter::all(), version: 1 };
    let (wire, at) = served(&tasks, move |request| match (request.code, request.fields.get("consumerGroup")) {
        (38, Some("etl")) => request.answer(&Members(vec!["a".into(), "b".into()])),
        (38, _) => request.refusal(1, "no consumer for this group, nobody"),
        (203, Some("etl")) => request.answer(&Connections {
            connections: vec![ConnectionData {
                client_id: "a".into(),
                address: "127.0.0.1:1".into(),
                language: "JAVA".into(),
                version: 513,
            }],
            subscriptions: vec![subscription.clone()],
            consume_type: CONSUME_PASSIVELY.into(),
            message_model: "CLUSTERING".into(),
            consume_from: "CONSUME_FROM_LAST_OFFSET".into(),
        }),
        (203, _) => request.refusal(206, "the consumer group[nobody] not online"),
        other => panic!("{other:?}"),
    })
    .await;
    let nobody: Arc<str> = "nobody".into();
    assert_eq!(soon(wire.members(&at, &group())).await.unwrap(), ["a".into(), "b".into()]);
    assert_eq!(soon(wire.members(&at, &nobody)).await.unwrap(), []);
    let profile = soon(wire.group_profile(&at, &group())).await.unwrap().unwrap();
    assert_eq!((profile.consume_kind, profile.members), (ConsumeKind::Push, vec!["a".into()]));
    assert_eq!(profile.subscriptions, [(topic(), Filter::all())]);
    assert_eq!(soon(wire.group_profile(&at, &nobody)).await.unwrap(), None);
    let stumbles = |request: &Command| request.refusal(1, "because \"consumerGroupInfo\" is null");
    let (proxy, at) = served(&tasks, stumbles).await;
    assert_eq!(soon(proxy.members(&at, &nobody)).await.unwrap(), []);
    let fails = |request: &Command| request.refusal(1, "disk is full");
    let (broken, at) = served(&tasks, fails).await;
    assert_eq!(soon(broken.members(&at, &nobody)).await.unwrap_err().kind(), ErrorKind::Server);
}

#[tokio::test]
async fn p22_an_sql92_filter_is_checked_by_a_server_that_does_check() {
    let subscription = |request: &Command| CheckClient::read(request).unwrap().subscription;
    let tasks = TaskGroup::new();
    let (broker, at) = served(&tasks, move |request| match subscription(request).filter.expression() {
        "a > 1" => request.answer(&()),
        _ => request.refusal(23, "parse error"),
    })
    .await;
    let check = async |wire: &RemotingWire, at: &Endpoint, filter: Filter| {
        soon(wire.check_filter(at, &group(), &topic(), &filter)).await.map_err(|error| error.kind())
    };
    assert_eq!(check(&broker, &at, Filter::sql92("a > 1")).await, Ok(()));
    assert_eq!(check(&broker, &at, Filter::sql92("a >")).await, Err(ErrorKind::InvalidArgument));
    let (proxy, at) = served(&tasks, |request| request.answer(&())).await;
    assert_eq!(check(&proxy, &at, Filter::sql92("a > 1")).await, Err(ErrorKind::Unsupported));
    assert_eq!(check(&proxy, &at, Filter::tag("a")).await, Ok(()), "tags are checked here");
}

#[tokio::test]
async fn requests_are_signed_with_all_that_they_carry() {
    let tasks = TaskGroup::new();
    let at = Peer::new().await.serve(&tasks, |request| {
        let without = request.fields.iter().filter(|(name, _)| *name != auth::SIGNATURE);
        let expected = auth::remoting_signature("secret", without, &request.body);
        assert_eq!(request.fields.get(auth::SIGNATURE), Some(&*expected));
        assert_eq!(request.fields.get(auth::ACCESS_KEY), Some("ak"));
        assert_eq!(request.fields.get(auth::SECURITY_TOKEN), Some("token"));
        assert_eq!((request.fields.get("ns"), request.fields.get("nsd")), (Some("space"), Some("true")));
        match request.code {
            30 => request.answer(&OffsetAnswer(7)),
            _ => request.answer(&()),
        }
    });
    let credentials = Some(Credentials::new("ak", "secret").session_token("token"));
    let config = RemotingConfig { credentials, namespace: "space".into(), ..config(vec![at.clone()]) };
    let wire = RemotingWire::new(config).unwrap();
    assert_eq!(soon(wire.bound(&at, &queue(), QueueBound::Max)).await.unwrap(), Offset::new(7));
    soon(wire.heartbeat(&at, &settings(Some(group()), Filter::all()))).await.unwrap();
}

#[tokio::test]
async fn p17_a_broker_that_restarts_is_connected_anew_by_the_next_call() {
    let peer = Peer::new().await;
    let wire = wire_to(&peer);
    let (at, port) = (peer.at.clone(), peer.at.port());
    let asked = queue();
    let (answer, ()) = tokio::join!(soon(wire.bound(&at, &asked, QueueBound::Max)), async {
        peer.accept().await.expect(code::GET_MAX_OFFSET).await;
    });
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(peer);
    let again = Peer::at_port(port).await;
    let (answer, _talk) = tokio::join!(soon(wire.bound(&at, &asked, QueueBound::Max)), async {
        let mut talk = again.accept().await;
        let request = talk.expect(code::GET_MAX_OFFSET).await;
        talk.answer(&request, &OffsetAnswer(3)).await;
        talk
    });
    assert_eq!(answer.unwrap(), Offset::new(3));
}

#[tokio::test]
async fn a_server_that_is_about_to_stop_is_left_and_the_request_goes_once_more() {
    let peer = Peer::new().await;
    let wire = wire_to(&peer);
    let asked = queue();
    let (answer, ()) = tokio::join!(soon(wire.bound(&peer.at, &asked, QueueBound::Max)), async {
        let mut stopping = peer.accept().await;
        let request = stopping.expect(code::GET_MAX_OFFSET).await;
        stopping.say(request.refusal(code::GO_AWAY, "please go away")).await;
        let mut fresh = peer.accept().await;
        let request = fresh.expect(code::GET_MAX_OFFSET).await;
        fresh.say(request.refusal(code::GO_AWAY, "please go away")).await;
    });
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Unavailable, "once, not for ever");
}

#[tokio::test]
async fn p25_a_pull_waits_for_longer_than_it_is_held_and_its_broker_looks() {
    tokio::time::pause();
    let peer = Peer::new().await;
    let wire =
        RemotingWire::new(RemotingConfig { request_timeout: Duration::from_secs(3), ..config(vec![peer.at.clone()]) });
    let wire = wire.unwrap();
    let begun = clock::now();
    let request = pull_at(17);
    let (pulled, _talk) = tokio::join!(wire.pull(&peer.at, &request), peer.accept());
    assert_eq!(pulled.unwrap_err().kind(), ErrorKind::Timeout, "there is an end, also without any answer");
    let waited = clock::now() - begun;
    assert!(waited > Duration::from_secs(15 + 5) && waited < Duration::from_secs(40), "{waited:?}");
}
