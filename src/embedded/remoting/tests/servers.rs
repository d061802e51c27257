use super::raw::{plain, pull};
use super::*;
use crate::clock;
use crate::embedded::TopicType;
use crate::transport::remoting::command::Command;
use crate::transport::remoting::command::offset::MaxOffset;
use crate::transport::remoting::command::route::RouteRequest;
use crate::{Credentials, ErrorKind};

fn route(topic: &str) -> RouteRequest {
    RouteRequest { topic: topic.into() }
}

#[tokio::test]
async fn a_route_names_every_brokers_own_address() {
    let broker = builder().brokers(2).start().await.unwrap();
    let mut client = Raw::to_name_server(&broker).await;
    let found = client.ask(&route("t")).await.unwrap();
    let queues: Vec<_> = found.queues.iter().map(|queue| (&*queue.broker, queue.read, queue.permission)).collect();
    assert_eq!(queues, [("broker-a", 2, 6), ("broker-b", 2, 6)]);
    let addresses: Vec<_> = found.brokers.iter().map(|broker| broker.addresses[0].1.to_string()).collect();
    assert_eq!(addresses, broker.broker_addresses().map_to_text());
    assert_eq!(client.ask(&route("nowhere")).await.unwrap_err().0, 17);
    assert_eq!(client.plain(30, &[], "").await.code, 3, "a name server has no queues");
    let mut at_broker = Raw::to_broker(&broker, 0).await;
    assert_eq!(at_broker.ask(&route("t")).await.unwrap_err().0, 3, "and a broker no routes");
    assert_eq!(at_broker.plain(4711, &[], "").await.code, 3);
}

trait MapToText {
    fn map_to_text(&self) -> Vec<String>;
}

impl MapToText for Vec<std::net::SocketAddr> {
    fn map_to_text(&self) -> Vec<String> {
        self.iter().map(ToString::to_string).collect()
    }
}

#[tokio::test]
async fn topics_are_created_grow_are_listed_and_deleted() {
    let broker = broker().await;
    let mut client = Raw::to_broker(&broker, 0).await;
    let create = |queues, attributes| {
        [
            ("topic", "new"),
            ("readQueueNums", queues),
            ("writeQueueNums", queues),
            ("perm", "6"),
            ("attributes", attributes),
        ]
    };
    assert_eq!(client.plain(17, &create("2", "+message.type=FIFO"), "").await.code, 0);
    assert_eq!(topic_type(&broker, "new"), Some((TopicType::Fifo, 2)));
    assert_eq!(client.plain(17, &create("4", ""), "").await.code, 0);
    assert_eq!(topic_type(&broker, "new"), Some((TopicType::Fifo, 4)));
    for bad in [create("0", ""), create("4", "+message.type=LOUD")] {
        assert_eq!(client.plain(17, &bad, "").await.code, 1);
    }
    let mut names = Raw::to_name_server(&broker).await;
    let list = names.plain(206, &[], "").await;
    assert_eq!(String::from_utf8_lossy(&list.body), r#"{"topicList":["new","t"]}"#);
    assert_eq!(client.plain(215, &[("topic", "new")], "").await.code, 0);
    assert_eq!(client.plain(351, &[("topic", "new")], "").await.code, 17);
    assert_eq!(client.plain(351, &[("topic", "t")], "").await.code, 0);
}

#[tokio::test]
async fn topics_come_into_being_when_they_are_first_used_if_that_is_wanted() {
    let broker = Broker::start().await.unwrap();
    let mut names = Raw::to_name_server(&broker).await;
    assert_eq!(names.ask(&route("on-demand")).await.unwrap().queues[0].read, 8);
    for name in ["%RETRY%g", "a b"] {
        assert_eq!(names.ask(&route(name)).await.unwrap_err().0, 17, "{name}");
    }
}

#[tokio::test]
async fn a_group_is_configured() {
    let broker = broker().await;
    let mut client = Raw::to_broker(&broker, 0).await;
    let body = r#"{"groupName":"g","retryMaxTimes":3,"consumeMessageOrderly":true}"#;
    assert_eq!(client.plain(200, &[], body).await.code, 0);
    let config = client.plain(352, &[("group", "g")], "").await;
    let config = String::from_utf8_lossy(&config.body).into_owned();
    assert!(config.contains(r#""consumeMessageOrderly":true"#) && config.contains(r#""retryMaxTimes":3"#), "{config}");
    assert_eq!(client.plain(200, &[], r#"{"groupName":"a b"}"#).await.code, 1);
}

#[tokio::test]
async fn only_signed_requests_are_done_when_there_are_users_but_routes_are_open() {
    let broker = builder().credentials("ak", "sk").start().await.unwrap();
    Raw::to_name_server(&broker).await.ask(&route("t")).await.unwrap();
    let mut client = Raw::to_broker(&broker, 0).await;
    let refused = client.ask(&MaxOffset(place("t", 0))).await.unwrap_err();
    assert_eq!(refused, (16, "username cannot be null.".to_owned()));
    client.credentials = Some(Credentials::new("ak", "wrong"));
    assert_eq!(client.ask(&MaxOffset(place("t", 0))).await.unwrap_err(), (16, "check signature failed.".to_owned()));
    client.credentials = Some(Credentials::new("ak", "sk"));
    assert_eq!(client.ask(&MaxOffset(place("t", 0))).await.unwrap().0, 0);
}

#[tokio::test]
async fn p17_a_stopped_broker_refuses_connections_and_comes_back_with_its_messages() {
    let broker = builder().brokers(2).route_expiry(Duration::ZERO).start().await.unwrap();
    put(&broker, &["kept"]);
    let mut client = Raw::to_broker(&broker, 0).await;
    client.heartbeat("c", "g", "t").await;
    let parked = client.write(Command::request(&pull(1, 20 * SECOND))).await;
    broker.stop_broker(0);
    assert!(client.answer(parked).await.is_none(), "the connection is cut");
    let address = broker.broker_addresses()[0];
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    let mut names = Raw::to_name_server(&broker).await;
    assert_eq!(names.ask(&route("t")).await.unwrap().brokers.len(), 1, "it is gone from the route");
    assert!(broker.members("g", 0).is_empty());
    broker.start_broker(0);
    let mut client = Raw::to_broker(&broker, 0).await;
    assert_eq!(client.ask(&MaxOffset(place("t", 0))).await.unwrap().0, 1);
    assert_eq!(names.ask(&route("t")).await.unwrap().brokers.len(), 2);
}

#[tokio::test]
async fn p17_one_of_two_name_servers_may_be_away() {
    let broker = builder().name_servers(2).start().await.unwrap();
    let addresses: Vec<std::net::SocketAddr> =
        broker.name_server().split(';').map(|address| address.parse().unwrap()).collect();
    broker.stop_name_server(0);
    assert!(tokio::net::TcpStream::connect(addresses[0]).await.is_err());
    Raw::to(addresses[1]).await.ask(&route("t")).await.unwrap();
    broker.start_name_server(0);
    Raw::to(addresses[0]).await.ask(&route("t")).await.unwrap();
}

#[tokio::test]
async fn faults_of_remoting_requests_by_their_code() {
    let broker = builder().brokers(2).start().await.unwrap();
    let mut client = Raw::to_broker(&broker, 0).await;
    let mut other = Raw::to_broker(&broker, 1).await;
    broker.faults().on_remoting(30).at_broker(0).status(2, "busy");
    other.ask(&MaxOffset(place("t", 0))).await.unwrap();
    assert_eq!(client.ask(&MaxOffset(place("t", 0))).await.unwrap_err(), (2, "busy".to_owned()));
    client.ask(&MaxOffset(place("t", 0))).await.unwrap();

    let late = broker.faults().on_remoting(30).delay_reply(Duration::from_millis(50));
    client.ask(&MaxOffset(place("t", 0))).await.unwrap();
    assert_eq!(late.hits(), 1);
    broker.faults().on_remoting(30).lose_reply();
    let lost = client.write(Command::request(&MaxOffset(place("t", 0)))).await;
    assert!(clock::timeout(Duration::from_millis(100), client.answer(lost)).await.is_none());
    broker.faults().on_remoting(30).disconnect();
    let cut = client.write(Command::request(&MaxOffset(place("t", 0)))).await;
    assert!(client.answer(cut).await.is_none());
    assert_eq!(broker.remoting_calls(30), 6);

    other.ask(&MaxOffset(place("t", 0))).await.unwrap();
    broker.cut_broker_connections(1);
    assert!(other.next().await.is_none());
    Raw::to_broker(&broker, 1).await.ask(&MaxOffset(place("t", 0))).await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_no_frame_end_the_connection_and_nothing_else() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let broker = broker().await;
    let mut stream = tokio::net::TcpStream::connect(broker.broker_addresses()[0]).await.unwrap();
    stream.write_all(b"\xFF\xFF\xFF\xFF nonsense").await.unwrap();
    let mut rest = Vec::new();
    // An end or a reset, both are an end.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    let mut client = Raw::to_broker(&broker, 0).await;
    client.write(plain(11, &[], "")).await;
    assert_eq!(client.next().await.unwrap().code, 1, "a header without its fields is answered");
    client.ask(&MaxOffset(place("t", 0))).await.unwrap();
}

#[tokio::test]
async fn a_cluster_without_remoting_or_without_ports_for_it() {
    let broker = builder().without_remoting().start().await.unwrap();
    assert_eq!((broker.name_server(), broker.broker_addresses()), (String::new(), vec![]));
    broker.stop_broker(0);
    broker.start_broker(0);
    let full = builder().remoting("127.0.0.1:65535".parse().unwrap()).start().await.unwrap_err();
    assert!(full.kind() == ErrorKind::Config && full.to_string().starts_with("remoting"), "{full}");
    let first = super::broker().await;
    let taken = builder().remoting(first.name_server().parse().unwrap()).start().await.unwrap_err();
    assert!(taken.to_string().contains("cannot listen"), "{taken}");
    assert!(builder().name_servers(0).start().await.is_err());
}

#[tokio::test]
async fn a_broker_that_is_dropped_or_shut_down_closes_its_ports() {
    for shut_down in [true, false] {
        let broker = broker().await;
        let (names, brokers) = (broker.name_server(), broker.broker_addresses());
        let mut client = Raw::to_broker(&broker, 0).await;
        client.heartbeat("c", "g", "t").await;
        if shut_down {
            broker.shutdown().await
        } else {
            drop(broker)
        }
        while client.next().await.is_some() {}
        clock::sleep(Duration::from_millis(50)).await;
        for address in [names.parse().unwrap(), brokers[0]] {
            assert!(tokio::net::TcpStream::connect(address).await.is_err(), "shut down: {shut_down}");
        }
    }
}
