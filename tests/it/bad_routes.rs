//! A name server that answers nonsense: a typed error in time, no panic, and no memory for what it claims.

use std::net::SocketAddr;
use std::time::Duration;

use futures::prelude::*;
use rocketmq_stream::embedded::Broker;
use rocketmq_stream::{
    Client, Error, ErrorKind, Filter, Offset, OutboundMessage, PullConsumer, PullConsumerBuilder, StartFrom,
};
use tokio::net::TcpListener;

use crate::bad_pull::serve;
use crate::support::{Calm, secs, within};

const TOPIC: &str = "trades";

/// Before the name server of the broker; its routes get another body.
async fn naming(broker: &Broker, body: String) -> SocketAddr {
    let target: SocketAddr = broker.name_server().parse().unwrap();
    let names = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = names.local_addr().unwrap();
    tokio::spawn(serve(names, target, move |frame| {
        let header = 4 + (u32::from_be_bytes(frame[..4].try_into().unwrap()) & 0xff_ffff) as usize;
        let is_route = String::from_utf8_lossy(&frame[header..]).contains("queueDatas");
        let body = if is_route { body.as_bytes() } else { &frame[header..] };
        let length = u32::try_from(header + body.len()).unwrap();
        ([&length.to_be_bytes()[..], &frame[..header], body].concat(), false)
    }));
    address
}

fn route(queues: &str, brokers: &str) -> String {
    format!(r#"{{"queueDatas":{queues},"brokerDatas":{brokers},"filterServerTable":{{}}}}"#)
}

fn queues(count: &str) -> String {
    format!(r#"{{"brokerName":"broker-a","perm":6,"readQueueNums":{count},"writeQueueNums":{count},"topicSysFlag":0}}"#)
}

fn master(id: &str, address: &str) -> String {
    format!(r#"[{{"brokerName":"broker-a","cluster":"C","brokerAddrs":{{"{id}":"{address}"}}}}]"#)
}

fn etl(name_server: SocketAddr) -> PullConsumerBuilder {
    let client = Client::builder().name_server(name_server.to_string()).request_timeout(secs(1)).build().unwrap();
    client.pull_consumer("etl").subscribe(TOPIC, Filter::all()).start_from(StartFrom::Earliest).build_timeout(secs(2))
}

async fn answered(body: String) -> (Broker, Result<PullConsumer, Error>) {
    let broker = Broker::builder().topic(TOPIC, 1).start().await.unwrap();
    let name_server = naming(&broker, body).await;
    let built = within(secs(20), "an answer", etl(name_server).build()).await;
    (broker, built)
}

#[tokio::test]
async fn what_a_hostile_name_server_answers_is_an_error_of_the_topic_in_time() {
    let _calm = Calm::default();
    let (good, here) = (queues("1"), master("0", "127.0.0.1:1"));
    let whole = route(&format!("[{good}]"), &here);
    let many = vec![queues("65536"); 20_000].join(",");
    for (what, body) in [
        ("cut", whole[..whole.len() / 2].to_owned()),
        ("no text", "\u{0}\u{1}queueDatas".to_owned()),
        ("no object", "[1,2,3]".to_owned()),
        ("nested a million deep", "[".repeat(1_000_000)),
        ("queues that are no list", route("7", &here)),
        ("brokers that are no list", route(&format!("[{good}]"), "\"broker-a\"")),
        ("a queue that is no object", route("[7]", &here)),
        ("a count that is text", route(&format!("[{}]", queues("\"many\"")), &here)),
        ("a negative count", route(&format!("[{}]", queues("-4")), &here)),
        ("two thousand million queues", route(&format!("[{}]", queues("2147483648")), &here)),
        ("more than a number holds", route(&format!("[{}]", queues("99999999999999999999")), &here)),
        ("many entries with many queues", route(&format!("[{many}]"), &here)),
    ] {
        let (_broker, built) = answered(body).await;
        let error = built.map(drop).expect_err(what);
        assert_eq!((error.kind(), error.topic()), (ErrorKind::Protocol, Some(TOPIC)), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn a_route_to_nowhere_is_told_as_an_outage_within_the_build_timeout() {
    let _calm = Calm::default();
    let good = format!("[{}]", queues("1"));
    for (what, body) in [
        ("an address that is none", route(&good, &master("0", "nowhere"))),
        ("an address of nobody", route(&good, &master("0", "127.0.0.1:1"))),
        ("a broker without addresses", route(&good, r#"[{"brokerName":"broker-a","cluster":"C","brokerAddrs":{}}]"#)),
        ("no brokers", route(&good, "[]")),
    ] {
        let (_broker, built) = answered(body).await;
        let error = built.map(drop).expect_err(what);
        assert!(error.kind().is_transient(), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn a_broker_without_a_master_is_read_and_nothing_is_committed_there() {
    let _calm = Calm::default();
    let broker = Broker::builder().topic(TOPIC, 1).start().await.unwrap();
    let queue = broker.queues(TOPIC).remove(0);
    broker.append(&queue, OutboundMessage::new(TOPIC, "one")).unwrap();
    let slave = master("1", &broker.broker_addresses()[0].to_string());
    let name_server = naming(&broker, route(&format!("[{}]", queues("1")), &slave)).await;
    let mut consumer = within(secs(20), "a build", etl(name_server).build()).await.expect("it can be read");
    let batch = within(secs(20), "a batch", consumer.try_next()).await.unwrap().expect("the message");
    assert_eq!(batch.range().start, Offset::new(0));
    batch.complete();
    let flushed = tokio::time::timeout(Duration::from_millis(500), consumer.control().flush()).await;
    assert!(!matches!(flushed, Ok(Ok(()))), "offsets are kept by masters");
    assert_eq!(broker.committed("etl", &queue), None);
}
