//! What cannot be meant is refused with its field, its value and the rule, where it was said.

use std::time::Duration;

use rocketmq_stream::embedded::{Broker, GroupOptions};
use rocketmq_stream::{Client, Credentials, Error, ErrorKind, Filter, Limits, OutboundMessage};

use crate::support::rig::{GROUP, Rig, TOPIC, builder};
use crate::support::{next, secs, send_all, within};

/// A configuration error that names what is wrong.
fn assert_names(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(!error.is_retryable(), "{error:?}");
    for part in parts {
        assert!(error.to_string().contains(part), "`{part}` is missing: {error}");
    }
}

#[test]
fn a_wrong_access_point_is_refused_when_the_client_is_built() {
    for bad in [
        "",
        " ",
        "localhost",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        ":8081",
        "::1:8081",
        "[::1]",
        "[::1:8081",
        "ftp://a:1",
        "http://",
        "https://a",
        "a:1;;b:2",
        "a:1;b",
        "a b:1",
        "a:1/path",
        "user@a:1",
        "a:-1",
        "a:1x",
    ] {
        let error = Client::builder().access_point(bad).build().expect_err(bad);
        assert_names(&error, ErrorKind::Config, &["access_point", bad.trim()]);
    }
    let error = Client::builder().build().expect_err("no access point");
    assert_names(&error, ErrorKind::Config, &["access_point"]);
}

#[test]
fn good_access_points_are_taken() {
    for good in [
        "localhost:8081",
        "127.0.0.1:1",
        "[::1]:8081",
        "http://a.example:80",
        "https://a.example:443",
        "a:1;b:2",
        "http://a:1;b:2",
    ] {
        Client::builder().access_point(good).build().unwrap_or_else(|error| panic!("{good}: {error}"));
    }
}

#[test]
fn absurd_client_settings_are_refused() {
    let client = || Client::builder().access_point("localhost:8081");
    let secure = || Client::builder().access_point("https://localhost:8081");
    for (field, builder) in [
        ("request_timeout", client().request_timeout(Duration::ZERO)),
        ("connect_timeout", client().connect_timeout(Duration::ZERO)),
        ("request_timeout", client().request_timeout(Duration::MAX)),
        ("connect_timeout", client().connect_timeout(Duration::MAX)),
        ("ca_certificate", secure().ca_certificate("this is no certificate")),
        ("ca_certificate_file", secure().ca_certificate_file("/no/such/file.pem")),
        ("credentials", client().credentials(Credentials::new("", "secret"))),
        ("credentials", client().credentials(Credentials::new("key", ""))),
        ("credentials", client().credentials(Credentials::new("key\n", "secret"))),
        ("namespace", client().namespace("a b")),
    ] {
        assert_names(&builder.build().expect_err(field), ErrorKind::Config, &[field]);
    }
}

#[test]
fn e1_an_error_about_credentials_does_not_tell_the_secret() {
    let builder = Client::builder().access_point("localhost:8081").credentials(Credentials::new("k\n", "hush-hush"));
    let shown = format!("{builder:?}");
    let error = builder.build().expect_err("a line break in a key");
    assert!(!format!("{shown} {error} {error:?}").contains("hush-hush"));
}

fn long(length: usize) -> String {
    "x".repeat(length)
}

#[tokio::test(start_paused = true)]
async fn absurd_consumer_settings_are_refused_at_build_and_name_their_field() {
    let rig = Rig::start(builder()).await;
    let good = || rig.consuming();
    let group = |name: &str| rig.client.simple_consumer(name).subscribe(TOPIC, Filter::all());
    let topic = |name: &str| rig.client.simple_consumer(GROUP).subscribe(name, Filter::all());
    let filter = |filter: Filter| rig.client.simple_consumer(GROUP).subscribe(TOPIC, filter);
    let (long_group, long_topic) = (long(256), long(256));
    let cases = [
        ("group", "must", group("")),
        ("group", "a b", group("a b")),
        ("group", "ä", group("ä")),
        ("group", "256", group(&long_group)),
        ("topic", "must", topic("")),
        ("topic", "a b", topic("a b")),
        ("topic", "a/b", topic("a/b")),
        ("topic", "256", topic(&long_topic)),
        ("filter", "||", filter(Filter::tag("a || "))),
        ("filter", "a b", filter(Filter::tag("a b"))),
        ("filter", "empty", filter(Filter::tag(""))),
        ("filter", "empty", filter(Filter::sql92(" "))),
        ("subscribe", "at least one", rig.client.simple_consumer(GROUP)),
        ("subscribe", TOPIC, good().subscribe(TOPIC, Filter::all())),
        ("invisible_duration", "0", good().invisible_duration(Duration::ZERO)),
        ("invisible_duration", "must", good().invisible_duration(Duration::MAX)),
        ("await_duration", "0", good().await_duration(Duration::ZERO)),
        ("await_duration", "must", good().await_duration(Duration::MAX)),
        ("max_lease", "0", good().max_lease(Duration::ZERO)),
        ("build_timeout", "0", good().build_timeout(Duration::ZERO)),
        ("build_timeout", "must", good().build_timeout(Duration::MAX)),
        ("max_buffered_messages", "0", good().max_buffered_messages(0)),
        ("max_buffered_bytes", "0", good().max_buffered_bytes(0)),
        ("max_buffered_bytes", "must", good().max_buffered_bytes(usize::MAX)),
        ("max_receives", "0", good().max_receives(0)),
    ];
    let before = rig.broker.clients(0).len();
    for (field, part, builder) in cases {
        let began = tokio::time::Instant::now();
        let error = builder.clone().build().await.expect_err(field);
        assert_names(&error, ErrorKind::Config, &[field, part]);
        builder.build_receiver().await.expect_err("the same rules");
        assert!(began.elapsed() < secs(1), "{field}: nobody has to be asked");
    }
    assert_eq!(rig.broker.clients(0).len(), before);
}

#[tokio::test(start_paused = true)]
async fn absurd_producer_settings_are_refused_at_build_and_name_their_field() {
    let rig = Rig::start(builder()).await;
    let producer = || rig.client.producer();
    for (field, builder) in [
        ("topic", producer().topic("a b")),
        ("topic", producer().topic("")),
        ("max_in_flight", producer().max_in_flight(0)),
        ("max_in_flight", producer().max_in_flight(usize::MAX)),
        ("max_in_flight_bytes", producer().max_in_flight_bytes(0)),
        ("max_in_flight_bytes", producer().max_in_flight_bytes(usize::MAX)),
        ("max_attempts", producer().max_attempts(0)),
        ("request_timeout", producer().request_timeout(Duration::ZERO)),
        ("request_timeout", producer().request_timeout(Duration::MAX)),
        ("send_timeout", producer().send_timeout(Duration::MAX)),
        ("build_timeout", producer().build_timeout(Duration::ZERO)),
        ("build_timeout", producer().build_timeout(Duration::MAX)),
    ] {
        assert_names(&builder.build().await.expect_err(field), ErrorKind::Config, &[field]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_breaks_a_rule_is_refused_before_it_is_sent_and_given_back() {
    let rig = Rig::start(builder()).await;
    let producer = rig.producer().await;
    let message = || OutboundMessage::new(TOPIC, "body");
    let properties = (0..200).fold(message(), |message, n| message.property(format!("p{n}"), "v"));
    let cases = [
        ("topic", ErrorKind::InvalidArgument, OutboundMessage::new("a b", "body")),
        ("topic", ErrorKind::InvalidArgument, OutboundMessage::new("", "body")),
        ("tag", ErrorKind::InvalidArgument, message().tag("a|b")),
        ("tag", ErrorKind::InvalidArgument, message().tag("")),
        ("tag", ErrorKind::InvalidArgument, message().tag("a\u{7}")),
        ("key", ErrorKind::InvalidArgument, message().key("")),
        ("key", ErrorKind::InvalidArgument, message().key("a\u{7}")),
        ("propert", ErrorKind::InvalidArgument, message().property("KEYS", "v")),
        ("propert", ErrorKind::TooLarge, message().property("p", long(20 << 10))),
        ("propert", ErrorKind::TooLarge, properties),
        ("message_group", ErrorKind::InvalidArgument, message().message_group("")),
        ("message_group", ErrorKind::InvalidArgument, message().message_group(long(64))),
        ("priority", ErrorKind::InvalidArgument, message().priority(-1)),
        ("body", ErrorKind::TooLarge, OutboundMessage::new(TOPIC, vec![0; (4 << 20) + 1])),
    ];
    for (field, kind, bad) in cases {
        let body = bad.body().clone();
        let failed = producer.send(bad).await.expect_err(field);
        let text = failed.error().to_string();
        assert_eq!(failed.kind(), kind, "{text}");
        assert!(text.contains(field), "`{field}` is missing: {text}");
        assert!(!failed.may_have_been_stored());
        assert_eq!(failed.into_message().body(), &body);
    }
    assert_eq!(rig.broker.stats().sent, 0);
    assert_eq!(rig.broker.calls(rocketmq_stream::embedded::Rpc::SendMessage), 0, "nobody had to be asked");
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_is_a_message_like_any_other_or_is_refused_by_name() {
    let rig = Rig::start(builder()).await;
    match rig.producer().await.send(OutboundMessage::new(TOPIC, "")).await {
        Ok(_) => {
            let delivery = next(&mut rig.consumer().await).await;
            assert!(delivery.message().body().is_empty() && delivery.message().corrupted().is_none());
        }
        Err(failed) => assert!(failed.error().to_string().contains("body"), "{failed}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_servers_configuration_decides_is_not_refused_by_a_constant() {
    let rig = Rig::with(builder().max_body_size(6 << 20).invisible_duration(secs(1), secs(100)), |client| {
        client.limits(Limits::default().max_topic_length(250).max_group_length(250).max_properties_size(64 << 10))
    })
    .await;
    // The server announces its own limit of bodies.
    let body = vec![b'x'; 5 << 20];
    rig.producer().await.send(OutboundMessage::new(TOPIC, body.clone())).await.expect("6 MiB are allowed here");
    let mut consumer = rig.consuming().invisible_duration(secs(2)).build().await.expect("2 s are allowed here");
    assert_eq!(next(&mut consumer).await.message().body().len(), body.len());
    // A longer name reaches the server, which then says what it thinks of it.
    let name = long(200);
    let error = rig.client.simple_consumer(GROUP).subscribe(&name, Filter::all()).build_timeout(secs(1));
    let error = error.build().await.expect_err("there is no such topic");
    assert_ne!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.server_code().is_some(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_plain_receive_refuses_zeros() {
    let rig = Rig::start(builder()).await;
    let receiver = rig.consuming().build_receiver().await.expect("build");
    for (field, received) in
        [("max", receiver.receive(0, secs(10)).await), ("invisible", receiver.receive(1, Duration::ZERO).await)]
    {
        let error = received.expect_err(field);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(field), "{error}");
    }
    // What the server refuses, it refuses by its own code.
    let error = receiver.receive(1, secs(1)).await.expect_err("10 s are the least");
    assert_eq!((error.kind(), error.server_code()), (ErrorKind::InvalidArgument, Some(40011)));
    // A server gives 32 at once; asking for more is not an error.
    send_all(&rig.producer().await, TOPIC, ["one"]).await;
    assert_eq!(receiver.receive(1000, secs(10)).await.expect("receive").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn absurd_settlement_durations_are_answered_and_do_not_panic() {
    let rig = Rig::start(builder()).await;
    send_all(&rig.producer().await, TOPIC, ["1", "2", "3"]).await;
    let mut consumer = rig.consumer().await;
    let deliveries = crate::support::take(&mut consumer, 3).await;
    let [one, two, three] = <[_; 3]>::try_from(deliveries).expect("three");
    for answer in [one.extend(Duration::MAX), two.nack(Duration::MAX), three.extend(secs(13 * 3600))] {
        let error = within(secs(60), "an answer", answer).await.expect_err("12 h are the most");
        assert!(error.to_string().contains("40011") || error.to_string().contains("again"), "{error}");
    }
    one.ack().await.expect("a refused extension changes nothing");
    three.ack().await.expect("a refused extension changes nothing");
}

#[tokio::test(start_paused = true)]
async fn wrong_credentials_are_told_at_build_with_the_servers_words_and_not_the_secret() {
    let broker = || builder().credentials("key", "right-secret");
    for (credentials, text) in [
        (Credentials::new("key", "wrong-secret"), "check signature failed"),
        (Credentials::new("nobody", "wrong-secret"), "is not found"),
    ] {
        let rig = Rig::with(broker(), |client| client.credentials(credentials)).await;
        let began = tokio::time::Instant::now();
        let consumer = rig.consuming().build().await.expect_err("wrong credentials");
        let producer = rig.client.producer().topic(TOPIC).build().await.expect_err("wrong credentials");
        for error in [consumer, producer] {
            assert_eq!((error.kind(), error.server_code()), (ErrorKind::Unauthenticated, Some(40100)), "{error:?}");
            assert!(error.to_string().contains(text), "{error}");
            assert!(!format!("{error:?} {error}").contains("wrong-secret"), "{error:?}");
        }
        assert!(began.elapsed() < secs(3), "wrong credentials do not get right by waiting: {:?}", began.elapsed());
    }
    let rig = Rig::start(broker()).await;
    let error = rig.consuming().build().await.expect_err("no credentials");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
}

#[tokio::test(start_paused = true)]
async fn right_credentials_sign_every_request() {
    let rig =
        Rig::with(builder().credentials("key", "right"), |client| client.credentials(Credentials::new("key", "right")))
            .await;
    send_all(&rig.producer().await, TOPIC, ["signed"]).await;
    let mut consumer = rig.consuming().invisible_duration(secs(10)).build().await.expect("build");
    let control = consumer.control();
    let delivery = next(&mut consumer).await;
    tokio::time::sleep(secs(60)).await; // heartbeats, renewals
    delivery.nack(Duration::ZERO).await.expect("nack");
    next(&mut consumer).await.dead_letter().await.expect("dead letter");
    assert!(control.shutdown(secs(5)).await.complete);
}

#[tokio::test]
async fn a_broker_with_absurd_settings_does_not_start() {
    for (field, builder) in [
        ("topic", Broker::builder().topic("a b", 1)),
        ("queues", Broker::builder().topic("a", 0)),
        ("brokers", Broker::builder().brokers(0)),
        ("proxies", Broker::builder().proxies(0)),
        ("polling", Broker::builder().polling(secs(2), secs(1))),
        ("invisible_duration", Broker::builder().invisible_duration(secs(2), secs(1))),
        ("max_attempts", Broker::builder().group(GroupOptions::new("g").max_attempts(0))),
        ("group", Broker::builder().group("a b")),
    ] {
        assert_names(&builder.start().await.expect_err(field), ErrorKind::Config, &[field]);
    }
}
