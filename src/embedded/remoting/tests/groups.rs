use super::raw::heartbeat;
use super::*;
use crate::clock;
use crate::transport::remoting::command::Command;
use crate::transport::remoting::command::group::{ConnectionsRequest, MembersRequest};
use crate::transport::remoting::command::heartbeat::Unregister;

async fn ids(client: &mut Raw) -> Vec<String> {
    let members = client.ask(&MembersRequest { group: "g".into() }).await.unwrap();
    members.0.iter().map(|id| id.to_string()).collect()
}

/// The groups the server has told of by now.
async fn told(client: &mut Raw) -> Vec<(i32, String)> {
    let mut told = Vec::new();
    // An answer comes after what was told before it.
    let opaque = client.write(Command::request(&MembersRequest { group: "g".into() })).await;
    client.answer(opaque).await.unwrap();
    while let Some(request) = client.requests.pop_front() {
        told.push((request.code, request.fields.get("consumerGroup").unwrap_or_default().to_owned()));
    }
    told
}

#[tokio::test]
async fn members_hear_of_each_other() {
    let broker = broker().await;
    let (mut a, mut b) = (Raw::to_broker(&broker, 0).await, Raw::to_broker(&broker, 0).await);
    assert_eq!(a.ask(&MembersRequest { group: "g".into() }).await.unwrap_err().0, 1, "nobody yet");
    a.heartbeat("a", "g", "t").await;
    assert_eq!(told(&mut a).await, [(40, "g".to_owned())], "the joiner hears, too");
    b.heartbeat("b", "g", "t").await;
    assert_eq!((ids(&mut a).await, told(&mut a).await.len()), (vec!["a".to_owned(), "b".to_owned()], 1));
    a.heartbeat("a", "g", "t").await;
    assert!(told(&mut a).await.is_empty(), "a repeated heartbeat is no news");
    b.ask(&Unregister { client_id: "b".into(), producer_group: None, consumer_group: Some("g".into()) }).await.unwrap();
    assert_eq!((ids(&mut a).await, told(&mut a).await.len()), (vec!["a".to_owned()], 1));
    b.heartbeat("b", "g", "t").await;
    a.request().await.unwrap();
    drop(b);
    assert_eq!(a.request().await.unwrap().code, 40, "a closed connection is a goodbye");
    assert_eq!(broker.members("g", 0), ["a"]);
}

#[tokio::test]
async fn p28_a_second_client_id_on_a_connection_takes_the_place_of_the_first() {
    let broker = broker().await;
    let mut client = Raw::to_broker(&broker, 0).await;
    client.heartbeat("first", "g", "t").await;
    told(&mut client).await;
    client.heartbeat("second", "g", "t").await;
    assert_eq!((ids(&mut client).await, told(&mut client).await), (vec!["second".to_owned()], vec![]));
}

#[tokio::test]
async fn p21_the_kind_and_the_subscriptions_of_a_group_are_shown() {
    let broker = broker().await;
    let mut client = Raw::to_broker(&broker, 0).await;
    let asked = ConnectionsRequest { group: "g".into() };
    assert_eq!(client.ask(&asked).await.unwrap_err().0, 206);
    client.heartbeat("c", "g", "t").await;
    let connections = client.ask(&asked).await.unwrap();
    assert_eq!((&*connections.consume_type, &*connections.message_model), ("CONSUME_ACTIVELY", "CLUSTERING"));
    assert_eq!((&*connections.connections[0].client_id, &*connections.connections[0].language), ("c", "RUST"));
    assert_eq!(&*connections.subscriptions[0].topic, "t");
    assert!(topic_type(&broker, "%RETRY%g").is_some(), "its retry topic came into being");
}

#[tokio::test]
async fn each_broker_has_members_of_its_own() {
    let broker = builder().brokers(2).start().await.unwrap();
    let mut client = Raw::to_broker(&broker, 1).await;
    client.heartbeat("c", "g", "t").await;
    assert_eq!((broker.members("g", 0).len(), broker.members("g", 1).len()), (0, 1));
    drop(client);
    while !broker.members("g", 1).is_empty() {
        clock::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_that_falls_silent_is_forgotten() {
    let broker = builder().client_expiry(30 * SECOND).start().await.unwrap();
    let (mut a, mut b) = (Raw::to_broker(&broker, 0).await, Raw::to_broker(&broker, 0).await);
    a.heartbeat("a", "g", "t").await;
    b.heartbeat("b", "g", "t").await;
    for _ in 0..3 {
        clock::sleep(20 * SECOND).await;
        a.ask(&heartbeat("a", "g", "t")).await.unwrap();
    }
    assert_eq!(broker.members("g", 0), ["a"]);
    assert_eq!(told(&mut a).await.len(), 3, "of its own join, of b's, and of b's end");
}

#[tokio::test]
async fn a_queue_is_locked_by_one_client_at_a_time() {
    let broker = broker().await;
    let mut client = Raw::to_broker(&broker, 0).await;
    let queue = r#"{"topic":"t","brokerName":"broker-a","queueId":0}"#;
    let body = |id: &str| format!(r#"{{"consumerGroup":"g","clientId":"{id}","mqSet":[{queue}]}}"#);
    for (code, id, expected) in [
        (41, "a", format!(r#"{{"lockOKMQSet":[{queue}]}}"#)),
        (41, "b", r#"{"lockOKMQSet":[]}"#.to_owned()),
        (42, "a", String::new()),
        (41, "b", format!(r#"{{"lockOKMQSet":[{queue}]}}"#)),
    ] {
        let answer = client.plain(code, &[], &body(id)).await;
        assert_eq!((answer.code, String::from_utf8_lossy(&answer.body).into_owned()), (0, expected), "{code} {id}");
    }
    assert_eq!(client.plain(41, &[], "{}").await.code, 1);
}
