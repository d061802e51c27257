use super::raw::{Raw, text_message};
use super::*;

#[tokio::test]
async fn r20_a_restarted_proxy_knows_no_settings_but_takes_old_handles() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    client.send("t", "m", b"x").await;
    let held = client.receive("t", "g", 1, SECOND).await.handle(0);
    broker.stop_proxy(0).await.unwrap();
    assert!(client.try_ack("t", "g", std::slice::from_ref(&held)).await.is_err(), "the port is closed");
    broker.start_proxy(0).await.unwrap();
    let mut client = Raw::connect(&broker, "client-of-g").await;
    assert_eq!(client.heartbeat().await.code(), Code::UnrecognizedClientType);
    assert_eq!(client.receive("t", "g", 1, SECOND).await.status.code(), Code::InternalServerError);
    assert_eq!(code(client.change("t", "g", &held, SECOND).await.status), Code::InternalServerError);
    assert_eq!(code(client.ack("t", "g", &[held]).await.status), Code::Ok);
    assert_eq!(broker.in_flight("g", "t"), 0);
}

#[tokio::test]
async fn each_proxy_keeps_settings_of_its_own() {
    let broker = builder().proxies(2).start().await.unwrap();
    let mut first = Raw::consumer(&broker, "g").await;
    let second = broker.addresses()[1].to_string();
    let mut other = Raw::connect_to(&second, "client-of-g").await;
    assert_eq!(first.heartbeat().await.code(), Code::Ok);
    assert_eq!(other.heartbeat().await.code(), Code::UnrecognizedClientType);
    first.send("t", "m", b"x").await;
    let held = first.receive("t", "g", 1, SECOND).await.handle(0);
    assert_eq!(code(other.ack("t", "g", &[held]).await.status), Code::Ok, "a handle is good at every proxy");
    assert_eq!(broker.access_point(), format!("{};{second}", broker.addresses()[0]));
}

#[tokio::test(start_paused = true)]
async fn r19_a_broker_that_stops_looks_as_on_apache() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    client.send("t", "m", b"x").await;
    let held = client.receive("t", "g", 1, SECOND).await.handle(0);
    let stop = async {
        clock::sleep(SECOND).await;
        broker.stop_broker(0);
    };
    let (parked, ()) = tokio::join!(client.receive("t", "g", 1, 5 * SECOND), stop);
    assert_eq!(parked.status.code(), Code::InternalServerError);
    assert!(parked.status.message.starts_with("send request to broker-a failed"), "{}", parked.status.message);
    let away = client.send("t", "m2", b"x").await.status.unwrap();
    assert_eq!((away.code(), &*away.message), (Code::InternalServerError, "connect to broker-a failed"));
    let ack = client.ack("t", "g", std::slice::from_ref(&held)).await.status.unwrap();
    assert_eq!((ack.code(), &*ack.message), (Code::InternalServerError, "connect to broker-a failed"));
    assert_eq!(code(client.route("t", None).await.status), Code::Ok, "still cached");
    assert_eq!(client.heartbeat().await.code(), Code::Ok);
}

#[tokio::test(start_paused = true)]
async fn r19_a_broker_that_is_gone_from_the_routes_is_not_found_and_comes_back() {
    let broker = builder()
        .route_expiry(Duration::from_millis(500))
        .type_cache_delay(Duration::from_secs(40))
        .start()
        .await
        .unwrap();
    let mut client = Raw::consumer(&broker, "g").await;
    client.send("t", "m", b"x").await;
    let held = client.receive("t", "g", 1, SECOND).await.handle(0);
    broker.stop_broker(0);
    clock::sleep(SECOND).await;
    assert_eq!(code(client.send("t", "m2", b"x").await.status), Code::TopicNotFound);
    assert_eq!(client.receive("t", "g", 1, SECOND).await.status.code(), Code::TopicNotFound);
    assert_eq!(code(client.route("t", None).await.status), Code::TopicNotFound);
    let ack = client.ack("t", "g", std::slice::from_ref(&held)).await.status.unwrap();
    assert_eq!(ack.code(), Code::InvalidReceiptHandle);
    assert!(ack.message.starts_with("cannot find broker broker-a"), "{}", ack.message);
    broker.start_broker(0);
    assert_eq!(code(client.ack("t", "g", &[held]).await.status), Code::Ok);
    let cold = client.send("t", "m2", b"x").await.status.unwrap();
    assert!(cold.message.contains("expected type is UNSPECIFIED"), "{}", cold.message);
    clock::sleep(40 * SECOND).await;
    assert_eq!(code(client.send("t", "m2", b"x").await.status), Code::Ok);
}

#[tokio::test]
async fn with_two_brokers_one_may_be_away() {
    let broker = builder().brokers(2).route_expiry(Duration::ZERO).start().await.unwrap();
    let mut client = Raw::consumer(&broker, "g").await;
    for n in 0..8 {
        client.send_all(vec![text_message("t", &n.to_string(), b"x")]).await;
    }
    let stored = broker.messages("t");
    assert_eq!(stored.iter().filter(|message| message.broker == "broker-b").count(), 4);
    broker.stop_broker(0);
    assert_eq!(client.route("t", None).await.message_queues.len(), 2);
    assert_eq!(client.receive("t", "g", 32, SECOND).await.messages.len(), 4, "it goes to the broker that is there");
    assert_eq!(code(client.send("t", "new", b"x").await.status), Code::Ok);
    broker.start_broker(0);
    assert_eq!(client.receive("t", "g", 32, SECOND).await.messages.len(), 4);
}

#[tokio::test]
async fn r15_a_new_group_starts_at_the_end_of_an_old_topic() {
    let broker = Broker::builder().topic("t", 1).polling(Duration::ZERO, SECOND).start().await.unwrap();
    let mut client = Raw::consumer(&broker, "g").await;
    for id in ["1", "2", "3"] {
        client.send("t", id, b"x").await;
    }
    assert_eq!(client.receive("t", "early", 32, SECOND).await.messages.len(), 3);
    broker.mark_old("t").unwrap();
    assert_eq!(client.receive("t", "late", 32, SECOND).await.seen(), [("3".into(), 1)]);
    assert_eq!(broker.mark_old("nowhere").unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_builder_refuses_what_cannot_be() {
    for (builder, field) in [
        (Broker::builder().topic("a b", 1), "topic"),
        (Broker::builder().topic("t", 0), "queues"),
        (Broker::builder().group(""), "consumer group"),
        (Broker::builder().group(GroupOptions::new("g").max_attempts(0)), "max_attempts"),
        (Broker::builder().brokers(0), "brokers"),
        (Broker::builder().proxies(100), "proxies"),
        (Broker::builder().polling(2 * SECOND, SECOND), "polling"),
        (Broker::builder().grpc("127.0.0.1:65535".parse().unwrap()).proxies(2), "grpc"),
    ] {
        let error = builder.start().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().starts_with(field), "{error}");
    }
    let broker = broker().await;
    let taken = Broker::builder().grpc(broker.addresses()[0]).start().await.unwrap_err();
    assert!(taken.to_string().contains("cannot listen"), "{taken}");
    assert_eq!(broker.create_topic("x", 0, TopicType::Normal).unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(broker.create_group("a b").unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_dropped_broker_closes_its_port() {
    let broker = broker().await;
    let address = broker.addresses()[0];
    let mut client = Raw::consumer(&broker, "g").await;
    drop(broker);
    assert!(client.commands.as_mut().unwrap().message().await.is_err());
    clock::sleep(Duration::from_millis(50)).await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn one_port_speaks_tls_and_plaintext() {
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let broker = builder().tls(made.cert.pem(), made.signing_key.serialize_pem()).start().await.unwrap();
    assert_eq!(code(Raw::connect(&broker, "p").await.send("t", "m", b"x").await.status), Code::Ok);

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(broker.addresses()[0]).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));

    let wrong = builder().tls("no certificate", "no key").start().await.unwrap_err();
    assert!(wrong.to_string().starts_with("tls `"), "{wrong}");
}
