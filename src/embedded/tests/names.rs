//! Host names that move, seen by the library's own clients.

use std::time::Duration;

use futures_util::StreamExt;

use crate::clock;
use crate::embedded::Broker;
use crate::transport::dial::played::moves;
use crate::{Client, Filter, MessageQueue, OutboundMessage, RouteEndpoints, StartFrom};

async fn broker_with(body: &str) -> Broker {
    let broker = Broker::builder().topic("t", 1).start().await.unwrap();
    broker.append(&MessageQueue::new("t", "broker-a", 0), OutboundMessage::new("t", body.to_owned())).unwrap();
    broker
}

#[tokio::test(start_paused = true)]
async fn over_grpc_a_name_is_resolved_again_at_each_reconnect() {
    let (old, new) = (broker_with("old").await, broker_with("new").await);
    moves("proxy.moves.test", &old.access_point());
    let client = Client::builder().access_point("proxy.moves.test:8081");
    let client = client.route_endpoints(RouteEndpoints::AccessPoint).build().unwrap();
    let mut consumer = client.simple_consumer("g").subscribe("t", Filter::all()).build().await.unwrap();
    let first = consumer.next().await.unwrap().unwrap();
    assert_eq!(&first.message().body()[..], b"old");
    first.ack().await.unwrap();
    moves("proxy.moves.test", &new.access_point());
    old.shutdown().await;
    let second = clock::timeout(Duration::from_secs(60), consumer.next()).await.expect("it follows the name");
    assert_eq!(&second.unwrap().unwrap().message().body()[..], b"new");
}

#[tokio::test(start_paused = true)]
async fn over_remoting_a_name_is_resolved_again_at_each_reconnect() {
    let (old, new) = (broker_with("old").await, broker_with("new").await);
    moves("names.moves.test", &old.name_server());
    let client = Client::builder().name_server("names.moves.test:9876").build().unwrap();
    let builder = client.pull_consumer("g").subscribe("t", Filter::all()).start_from(StartFrom::Earliest);
    let mut consumer = builder.build().await.unwrap();
    let first = consumer.next().await.unwrap().unwrap();
    assert_eq!(&first.messages()[0].body()[..], b"old");
    first.complete();
    moves("names.moves.test", &new.name_server());
    old.shutdown().await;
    new.append(&MessageQueue::new("t", "broker-a", 0), OutboundMessage::new("t", "newer")).unwrap();
    let second = clock::timeout(Duration::from_secs(120), consumer.next()).await.expect("it follows the name");
    assert_eq!(&second.unwrap().unwrap().messages()[0].body()[..], b"newer", "at offset 1, where it was");
}
