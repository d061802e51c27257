//! Peers that are not RocketMQ: a typed error within the build timeout, no hang, no panic.

use std::time::{Duration, Instant};

use rocketmq_stream::embedded::Broker;
use rocketmq_stream::{Client, ErrorKind, Filter, OutboundMessage, RouteEndpoints};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::rig::{GROUP, Rig, TOPIC, builder};
use crate::support::{Calm, next, secs, send_all, within};

const HTTP1: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What a peer does with each connection.
#[derive(Debug, Clone, Copy)]
enum Manner {
    SaysHttp1,
    SaysRandomBytes,
    SaysNothing,
    HangsUp,
    /// A good preface of HTTP/2, then rubbish.
    SaysSettingsThenRubbish,
    /// A frame that claims to be larger than it may be.
    SaysHugeFrame,
    /// An HTTP/2 server that goes away at once.
    SaysGoAway,
}

const MANNERS: [Manner; 7] = [
    Manner::SaysHttp1,
    Manner::SaysRandomBytes,
    Manner::SaysNothing,
    Manner::HangsUp,
    Manner::SaysSettingsThenRubbish,
    Manner::SaysHugeFrame,
    Manner::SaysGoAway,
];

async fn serve(mut connection: TcpStream, manner: Manner) {
    let mut buffer = [0; 4096];
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let answer: Vec<u8> = match manner {
        Manner::SaysHttp1 => HTTP1.to_vec(),
        Manner::SaysRandomBytes => (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
        Manner::SaysNothing => Vec::new(),
        Manner::HangsUp => return,
        Manner::SaysSettingsThenRubbish => [&settings[..], &[0xAB; 2000]].concat(),
        Manner::SaysHugeFrame => [&settings[..], &[0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 1]].concat(),
        Manner::SaysGoAway => [&settings[..], &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
    };
    drop(connection.read(&mut buffer).await);
    drop(connection.write_all(&answer).await);
    // Keeps it open until the client goes.
    while connection.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

async fn peer(manner: Manner) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection, manner));
        }
    });
    address
}

#[tokio::test]
async fn garbage_from_the_access_point_is_a_typed_error_within_the_build_timeout() {
    let _calm = Calm::default();
    let builds = MANNERS.map(|manner| async move {
        let access_point = peer(manner).await;
        let client = Client::builder().access_point(&access_point).build().expect("a client");
        let began = Instant::now();
        let timeout = secs(2);
        let consumer = client.simple_consumer(GROUP).subscribe(TOPIC, Filter::all()).build_timeout(timeout).build();
        let error = within(secs(6), format!("{manner:?}"), consumer).await.expect_err("this is no RocketMQ");
        assert!(
            matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Unavailable | ErrorKind::Timeout),
            "{manner:?}: {error:?}"
        );
        assert!(error.to_string().contains(&access_point), "{manner:?}: it says where: {error}");
        let producer = client.producer().topic(TOPIC).build_timeout(timeout).build();
        let error = within(secs(6), format!("{manner:?}"), producer).await.expect_err("this is no RocketMQ");
        assert!(
            matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Unavailable | ErrorKind::Timeout),
            "{manner:?}: {error:?}"
        );
        assert!(began.elapsed() < secs(9), "{manner:?}: {:?}", began.elapsed());
    });
    futures::future::join_all(builds).await;
}

#[tokio::test]
async fn a_server_that_turns_to_garbage_does_not_end_a_consumer_that_can_recover() {
    let rig = Rig::start(builder()).await;
    let address = rig.broker.addresses()[0];
    let mut consumer = rig.consumer().await;
    let producer = rig.producer().await;
    send_all(&producer, TOPIC, ["one"]).await;
    next(&mut consumer).await.ack().await.expect("ack");
    rig.broker.stop_proxy(0).await.expect("stop");
    let garbage = {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                drop(connection.write_all(HTTP1).await);
            }
        })
    };
    crate::support::nothing_for(secs(3), &mut consumer).await;
    garbage.abort();
    drop(garbage.await);
    rig.broker.start_proxy(0).await.expect("start");
    let sent = producer.send(OutboundMessage::new(TOPIC, "two"));
    within(secs(20), "a send", sent).await.expect("send");
    within(secs(10), "a message", next(&mut consumer)).await.ack().await.expect("ack");
}

#[tokio::test]
async fn a_host_name_that_does_not_exist_is_unavailable_within_the_build_timeout() {
    let _calm = Calm::default();
    let client = Client::builder().access_point("no-such-host.invalid:8081").build().expect("a client");
    let build = client.simple_consumer(GROUP).subscribe(TOPIC, Filter::all()).build_timeout(secs(1)).build();
    let error = within(secs(10), "build", build).await.expect_err("no such host");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn a_host_name_is_resolved() {
    let rig = Rig::start(builder()).await;
    let port = rig.broker.addresses()[0].port();
    let client = Client::builder().access_point(format!("localhost:{port}")).build().expect("a client");
    let producer = client.producer().topic(TOPIC).build().await.expect("build");
    send_all(&producer, TOPIC, ["by name"]).await;
}

#[tokio::test]
async fn an_ipv6_access_point_works() {
    let _calm = Calm::default();
    let address = "[::1]:0".parse().expect("an address");
    let broker = match Broker::builder().topic(TOPIC, 1).grpc(address).start().await {
        Ok(broker) => broker,
        // A machine without IPv6 cannot tell.
        Err(error) if std::net::TcpListener::bind("[::1]:0").is_err() => return eprintln!("no IPv6 here: {error}"),
        Err(error) => panic!("{error}"),
    };
    assert!(broker.access_point().starts_with("[::1]:"), "{}", broker.access_point());
    for policy in [RouteEndpoints::Server, RouteEndpoints::AccessPoint] {
        let client = Client::builder().access_point(broker.access_point()).route_endpoints(policy);
        let client = client.build().expect("a client");
        let producer = client.producer().topic(TOPIC).build().await.expect("build");
        send_all(&producer, TOPIC, ["over IPv6"]).await;
        let consumer = client.simple_consumer(GROUP).subscribe(TOPIC, Filter::all()).build().await;
        let mut consumer = consumer.expect("build");
        next(&mut consumer).await.ack().await.expect("ack");
        assert!(consumer.control().shutdown(Duration::from_secs(5)).await.complete);
    }
}

#[tokio::test]
async fn the_second_address_of_an_access_point_serves_when_the_first_is_garbage() {
    let rig = Rig::start(builder()).await;
    for manner in [Manner::SaysHttp1, Manner::HangsUp, Manner::SaysNothing] {
        let both = format!("{};{}", peer(manner).await, rig.broker.access_point());
        let client = Client::builder().access_point(both).build().expect("a client");
        let build = client.producer().topic(TOPIC).build();
        let producer = within(secs(25), format!("{manner:?}"), build).await;
        producer.unwrap_or_else(|error| panic!("{manner:?}: {error}"));
    }
}
