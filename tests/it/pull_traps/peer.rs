//! Members of a group that are no consumers of this library.

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Java's remoting PushConsumer, as far as a broker sees it: a connection that sent this heartbeat.
async fn push_consumer(rig: &Pulls) -> TcpStream {
    let body = format!(
        r#"{{"clientID":"10.0.0.9@java","producerDataSet":[],"consumerDataSet":[{{"groupName":"{GROUP}",
        "consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_LAST_OFFSET",
        "unitMode":false,"subscriptionDataSet":[{{"topic":"{TOPIC}","subString":"*","tagsSet":[],"codeSet":[],
        "subVersion":1,"expressionType":"TAG","classFilterMode":false}}]}}]}}"#
    );
    let header = r#"{"code":34,"flag":0,"language":"JAVA","opaque":1,"version":489,"extFields":{}}"#;
    let mut connection = TcpStream::connect(rig.broker.broker_addresses()[0]).await.expect("a connection");
    let length = 4 + header.len() + body.len();
    let mut frame = u32::try_from(length).expect("short").to_be_bytes().to_vec();
    frame.extend(u32::try_from(header.len()).expect("short").to_be_bytes());
    frame.extend(header.bytes().chain(body.bytes()));
    connection.write_all(&frame).await.expect("written");
    let answer = connection.read_u32().await.expect("an answer");
    let mut rest = vec![0; answer as usize];
    connection.read_exact(&mut rest).await.expect("an answer");
    connection
}

#[tokio::test(start_paused = true)]
async fn p21_a_group_that_another_kind_of_consumer_uses_is_refused_and_both_kinds_are_named() {
    let rig = Pulls::start(1).await;
    let java = push_consumer(&rig).await;
    for builder in [rig.etl(), rig.etl().share(0, 1)] {
        let error = is(builder.build().await, ErrorKind::Precondition);
        let text = error.to_string().to_lowercase();
        assert!(text.contains("push") && text.contains("pull") && text.contains(GROUP), "{error}");
    }
    assert_eq!(rig.broker.members(GROUP, 0), ["10.0.0.9@java"], "and the group is left as it was");
    assert_eq!(rig.calls(&[PULL, COMMIT]), 0);
    drop(java);
    tokio::time::sleep(secs(1)).await;
    drop(rig.etl().build().await.expect("it has gone"));
}

#[tokio::test(start_paused = true)]
async fn p21_a_group_whose_members_subscribe_otherwise_is_refused() {
    let rig = Pulls::start(1).await;
    let first = rig.etl().build().await.expect("build");
    let other = rig.other_client();
    let differs = other.pull_consumer(GROUP).subscribe(TOPIC, Filter::tag("paid")).start_from(StartFrom::Earliest);
    let error = is(differs.build().await, ErrorKind::Precondition);
    assert!(error.to_string().contains("paid"), "{error}");
    assert_eq!(rig.broker.members(GROUP, 0).len(), 1, "it never became a member");
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn p28_two_consumers_of_one_client_have_each_an_identity_and_connections_of_its_own() {
    let rig = Pulls::start(2).await;
    rig.fill_all(10);
    let mut first = rig.etl().build().await.expect("build");
    let mut second = rig.etl().build().await.expect("build");
    halved(&first.control(), &second.control()).await;
    tokio::time::sleep(secs(180)).await;
    let mut members = rig.broker.members(GROUP, 0);
    members.dedup();
    assert_eq!(members.len(), 2, "neither has put the other out: {members:?}");
    for consumer in [&mut first, &mut second] {
        let queue = holds(&consumer.control(), 1).await.remove(0);
        assert_eq!(read(consumer, &queue, 10).await.len(), 10);
    }
    ended(&first.control()).await;
    holds(&second.control(), 2).await;
    assert_eq!(rig.broker.members(GROUP, 0).len(), 1, "the goodbye of one is not that of the other");
}
