use std::time::SystemTime;

use futures_util::StreamExt;

use super::wire::{config, group, queue, settings, topic, wire_to};
use super::*;
use crate::error::ErrorKind;
use crate::model::{ClientSettings, Filter, Offset, Subscription};
use crate::transport::remoting::command::group::MembersChanged;
use crate::transport::remoting::command::heartbeat::{CONSUME_ACTIVELY, Heartbeat, Unregister};
use crate::transport::remoting::command::server::{
    ResetOffset, RunningInfo, RunningInfoRequest, Status, StatusRequest,
};
use crate::transport::remoting::command::{Command, Kind, Payload, code};
use crate::transport::remoting::tests::peer::Talk;
use crate::transport::remoting::{RemotingConfig, RemotingWire};
use crate::transport::{ClientReply, ConsumerInfo, GroupRequest, Presence, PresenceLink, QueueProgress, ServerCommand};

/// A member of the group, at a broker that has answered its first heartbeat.
async fn joined() -> (RemotingWire, Peer, PresenceLink, Talk) {
    let peer = Peer::new().await;
    let wire = wire_to(&peer);
    let settings = settings(Some(group()), Filter::all());
    let (link, talk) = tokio::join!(soon(wire.open(&peer.at, &settings)), async {
        let mut talk = peer.accept().await;
        let heartbeat = talk.expect(code::HEART_BEAT).await;
        talk.answer(&heartbeat, &()).await;
        talk
    });
    let mut link = link.unwrap();
    assert!(matches!(soon(link.commands.next()).await, Some(Ok(ServerCommand::Settings(_)))));
    (wire, peer, link, talk)
}

async fn asked(link: &mut PresenceLink) -> GroupRequest {
    match soon(link.commands.next()).await {
        Some(Ok(ServerCommand::Ask(request))) => request,
        other => panic!("{other:?}"),
    }
}

/// One heartbeat, as the broker reads it.
async fn heartbeat(wire: &RemotingWire, peer: &Peer, talk: &mut Talk, settings: &ClientSettings) -> Heartbeat {
    let (sent, heard) = tokio::join!(soon(wire.heartbeat(&peer.at, settings)), async {
        let heartbeat = talk.expect(code::HEART_BEAT).await;
        talk.answer(&heartbeat, &()).await;
        Heartbeat::read(&heartbeat).unwrap()
    });
    sent.unwrap();
    heard
}

#[tokio::test]
async fn a_heartbeat_says_who_pulls_what_and_is_equal_while_nothing_changes() {
    let (wire, peer, _link, mut talk) = joined().await;
    let all = settings(Some(group()), Filter::all());
    let first = heartbeat(&wire, &peer, &mut talk, &all).await;
    assert_eq!((&*first.client_id, first.producers.len()), ("me", 0));
    let consumer = &first.consumers[0];
    assert_eq!((&*consumer.group, &*consumer.consume_type), ("etl", CONSUME_ACTIVELY));
    assert_eq!((&*consumer.subscriptions[0].topic, &consumer.subscriptions[0].filter), ("orders", &Filter::all()));
    assert_eq!(heartbeat(&wire, &peer, &mut talk, &all).await, first, "an equal one makes no stir in the group");
    let changed = heartbeat(&wire, &peer, &mut talk, &settings(Some(group()), Filter::tag("a"))).await;
    let version = |heartbeat: &Heartbeat| heartbeat.consumers[0].subscriptions[0].version;
    assert!(version(&changed) > version(&first), "else the broker keeps the old filter");
}

#[tokio::test]
async fn p27_a_client_without_a_group_joins_no_list() {
    let (wire, peer, _link, mut talk) = joined().await;
    let beat = heartbeat(&wire, &peer, &mut talk, &settings(None, Filter::all())).await;
    assert_eq!((beat.consumers, beat.producers), (vec![], vec![]));
    soon(wire.goodbye(&peer.at, None)).await.unwrap();
    let (said, ()) = tokio::join!(async { soon(wire.goodbye(&peer.at, Some(&group()))).await }, async {
        let goodbye = talk.expect(code::UNREGISTER_CLIENT).await;
        assert_eq!(Unregister::read(&goodbye).unwrap().consumer_group, Some(group()));
        talk.answer(&goodbye, &()).await;
    });
    said.unwrap();
}

#[tokio::test]
async fn new_settings_are_told_by_a_heartbeat_at_once() {
    let (_wire, _peer, mut link, mut talk) = joined().await;
    link.replies.send(ClientReply::Settings(settings(Some(group()), Filter::tag("a")))).await.unwrap();
    let (command, ()) = tokio::join!(soon(link.commands.next()), async {
        let heartbeat = talk.expect(code::HEART_BEAT).await;
        assert_eq!(Heartbeat::read(&heartbeat).unwrap().consumers[0].subscriptions[0].filter, Filter::tag("a"));
        talk.answer(&heartbeat, &()).await;
    });
    assert!(matches!(command, Some(Ok(ServerCommand::Settings(_)))));
}

#[tokio::test]
async fn a_change_of_the_members_is_heard_of() {
    let (_wire, _peer, mut link, mut talk) = joined().await;
    talk.say(Command::one_way(&MembersChanged { group: group() })).await;
    assert!(matches!(soon(link.commands.next()).await, Some(Ok(ServerCommand::MembersChanged))));
}

#[tokio::test]
async fn a_notice_that_overtakes_the_answer_to_the_first_heartbeat_is_heard() {
    let peer = Peer::new().await;
    let wire = wire_to(&peer);
    let settings = settings(Some(group()), Filter::all());
    let (link, _talk) = tokio::join!(soon(wire.open(&peer.at, &settings)), async {
        let mut talk = peer.accept().await;
        let heartbeat = talk.expect(code::HEART_BEAT).await;
        talk.say(Command::one_way(&MembersChanged { group: group() })).await;
        talk.answer(&heartbeat, &()).await;
        talk
    });
    let mut link = link.unwrap();
    assert!(matches!(soon(link.commands.next()).await, Some(Ok(ServerCommand::Settings(_)))));
    assert!(matches!(soon(link.commands.next()).await, Some(Ok(ServerCommand::MembersChanged))));
}

#[tokio::test]
async fn an_administrator_is_answered_by_the_consumer() {
    let (_wire, _peer, mut link, mut talk) = joined().await;
    talk.say(Command::request(&StatusRequest { group: group(), topic: topic() })).await;
    match asked(&mut link).await {
        GroupRequest::Positions { topic: asked, reply } => {
            assert_eq!(asked, topic());
            reply.send(vec![(queue(), Offset::new(17))]);
        }
        other => panic!("{other:?}"),
    }
    let answer = soon(talk.hear()).await.unwrap();
    assert_eq!((answer.kind, answer.code), (Kind::Answer, code::SUCCESS));
    assert_eq!(Status::read(&answer).unwrap().offsets, [(queue(), 17)]);

    talk.say(Command::request(&RunningInfoRequest { group: group(), client_id: "me".into(), with_stacks: false }))
        .await;
    let progress = QueueProgress {
        committed: Some(Offset::new(17)),
        cached: Some(Offset::new(17)..Offset::new(20)),
        cached_messages: 3,
        cached_bytes: 5 << 20,
        ..QueueProgress::default()
    };
    match asked(&mut link).await {
        GroupRequest::Describe { reply } => reply.send(ConsumerInfo {
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            subscriptions: vec![Subscription { topic: topic(), filter: Filter::all() }],
            queues: vec![(queue(), progress)],
        }),
        other => panic!("{other:?}"),
    }
    let info = RunningInfo::read(&soon(talk.hear()).await.unwrap()).unwrap();
    let start = info.properties.iter().find(|(name, _)| &**name == "PROP_CONSUMER_START_TIMESTAMP");
    assert_eq!(start.map(|(_, value)| &**value), Some("1700000000123"), "mqadmin parses it");
    let shown = &info.queues[0].1;
    assert_eq!((shown.commit_offset, shown.cached_min_offset, shown.cached_max_offset), (17, 17, 19));
    assert_eq!((shown.cached_messages, shown.cached_mebibytes, info.subscriptions.len()), (3, 5, 1));
}

#[tokio::test]
async fn p18_a_reset_reaches_the_consumer_and_nonsense_is_refused() {
    let (_wire, _peer, mut link, mut talk) = joined().await;
    let reset = |offset| {
        let offsets = vec![(queue(), offset)];
        Command::request(&ResetOffset { group: group(), topic: topic(), timestamp: 0, force: true, offsets })
    };
    talk.say(reset(-1)).await;
    talk.say(reset(40)).await;
    let (request, refusal) = tokio::join!(asked(&mut link), soon(talk.hear()));
    assert_eq!(refusal.unwrap().code, code::SYSTEM_ERROR);
    match request {
        GroupRequest::ResetOffsets { offsets, reply } => {
            assert_eq!(offsets, [(queue(), Offset::new(40))]);
            reply.send(());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(soon(talk.hear()).await.unwrap().code, code::SUCCESS);
}

#[tokio::test]
async fn a_request_that_the_consumer_does_not_answer_or_know_is_refused() {
    let (_wire, _peer, mut link, mut talk) = joined().await;
    talk.say(Command::request(&StatusRequest { group: group(), topic: topic() })).await;
    drop(asked(&mut link).await);
    assert_eq!(soon(talk.hear()).await.unwrap().code, code::SYSTEM_ERROR);
    let unknown = Command { code: 309, ..Command::request(&StatusRequest { group: group(), topic: topic() }) };
    talk.say(unknown).await;
    let refusal = tokio::select! {
        refusal = soon(talk.hear()) => refusal.unwrap(),
        command = link.commands.next() => panic!("{command:?}"),
    };
    assert_eq!(refusal.code, code::REQUEST_CODE_NOT_SUPPORTED);
}

#[tokio::test]
async fn the_end_of_the_connection_ends_the_commands_with_its_cause() {
    let (wire, peer, mut link, talk) = joined().await;
    drop(talk);
    let error = soon(link.commands.next()).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.endpoint()), (ErrorKind::Unavailable, Some(&peer.at)));
    assert!(soon(link.commands.next()).await.is_none());
    drop(wire);
}

#[tokio::test]
async fn a_broker_that_refuses_the_heartbeat_is_not_joined() {
    let peer = Peer::new().await;
    let wire = wire_to(&peer);
    let settings = settings(Some(group()), Filter::all());
    let (link, _talk) = tokio::join!(soon(wire.open(&peer.at, &settings)), async {
        let mut talk = peer.accept().await;
        let heartbeat = talk.expect(code::HEART_BEAT).await;
        talk.say(heartbeat.refusal(code::NO_PERMISSION, "User:u has no permission to access Group:etl")).await;
        talk
    });
    let error = link.unwrap_err();
    assert_eq!((error.kind(), error.group()), (ErrorKind::PermissionDenied, Some("etl")), "{error}");
}

#[tokio::test]
async fn p28_two_clients_never_share_a_connection() {
    let peer = Peer::new().await;
    let beat = async |id: &str| {
        let wire = RemotingWire::new(RemotingConfig { client_id: id.into(), ..config(vec![peer.at.clone()]) }).unwrap();
        let settings = settings(Some(group()), Filter::all());
        let (sent, talk) = tokio::join!(async { soon(wire.heartbeat(&peer.at, &settings)).await }, async {
            let mut talk = peer.accept().await;
            let heartbeat = talk.expect(code::HEART_BEAT).await;
            assert_eq!(&*Heartbeat::read(&heartbeat).unwrap().client_id, id);
            talk.answer(&heartbeat, &()).await;
            talk
        });
        sent.unwrap();
        (wire, talk)
    };
    let one = beat("one").await;
    let other = beat("other").await; // it was accepted anew
    drop((one, other));
}
