use super::raw::{Raw, consumer_settings, resource, text_message};
use super::*;
use crate::proto::retry_policy::Strategy;
use crate::proto::settings::PubSub;
use crate::proto::telemetry_command::Command;
use crate::proto::{ClientType, QueryAssignmentRequest};

fn answered(command: proto::TelemetryCommand) -> proto::Settings {
    assert_eq!(code(command.status), Code::Ok);
    match command.command {
        Some(Command::Settings(settings)) => settings,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_consumer_is_told_apaches_settings() {
    let broker = Broker::builder().group(GroupOptions::new("f").fifo(true).max_attempts(3)).start().await.unwrap();
    let mut client = Raw::connect(&broker, "c").await;
    for (group, fifo, attempts) in [("g", false, 17), ("f", true, 3)] {
        let settings = answered(client.register(consumer_settings(group)).await.unwrap());
        let Some(PubSub::Subscription(subscription)) = settings.pub_sub else { panic!("a consumer") };
        assert_eq!((subscription.fifo, subscription.receive_batch_size), (Some(fifo), Some(32)));
        assert_eq!(subscription.long_polling_timeout.map(|time| time.seconds), Some(20));
        let backoff = settings.backoff_policy.unwrap();
        let Some(Strategy::CustomizedBackoff(waits)) = backoff.strategy else { panic!("customized") };
        assert_eq!((backoff.max_attempts, waits.next.len()), (attempts, 18));
    }
    assert_eq!(broker.clients(0), ["c"]);
}

#[tokio::test]
async fn a_producer_is_told_apaches_settings() {
    let broker = Broker::builder().start().await.unwrap();
    let mut client = Raw::connect(&broker, "p").await;
    let publishing = proto::Publishing { topics: vec![resource("t").unwrap()], ..Default::default() };
    let settings = proto::Settings {
        client_type: Some(ClientType::Producer.into()),
        pub_sub: Some(PubSub::Publishing(publishing)),
        ..proto::Settings::default()
    };
    let settings = answered(client.register(settings).await.unwrap());
    let Some(PubSub::Publishing(publishing)) = settings.pub_sub else { panic!("a producer") };
    assert_eq!((publishing.max_body_size, publishing.validate_message_type), (4 << 20, true));
    assert_eq!(settings.backoff_policy.unwrap().max_attempts, 3);
    assert_eq!(client.heartbeat().await.code(), Code::Ok);
}

#[tokio::test]
async fn settings_that_do_not_fit_end_the_stream_with_an_error() {
    let broker = builder().grpc_pull(false).start().await.unwrap();
    let mut client = Raw::connect(&broker, "c").await;
    let empty = client.register(proto::Settings::default()).await.unwrap_err();
    assert_eq!(empty.code(), tonic::Code::InvalidArgument);
    assert!(empty.message().starts_with("process client telemetryCommand failed. "), "{empty}");
    let nameless = client.register(consumer_settings("")).await.unwrap_err();
    assert_eq!(nameless.code(), tonic::Code::InvalidArgument);
    let pull = proto::Settings { client_type: Some(ClientType::PullConsumer.into()), ..consumer_settings("g") };
    let pull = client.register(pull).await.unwrap_err();
    assert_eq!(pull.code(), tonic::Code::Internal);
    assert!(pull.message().ends_with("Client type is not consumer, type: PULL_CONSUMER"), "{pull}");
}

#[tokio::test]
async fn a_pull_consumer_is_registered_and_its_group_comes_into_being() {
    let broker = broker().await;
    let mut client = Raw::connect(&broker, "c").await;
    let pull = proto::Settings { client_type: Some(ClientType::PullConsumer.into()), ..consumer_settings("g") };
    answered(client.register(pull).await.unwrap());
    assert_eq!((client.heartbeat().await.code(), broker.clients(0)), (Code::Ok, vec!["c".to_owned()]));
    let update = proto::UpdateOffsetRequest {
        group: resource("g"),
        message_queue: Some(proto::MessageQueue {
            topic: resource("t"),
            broker: Some(proto::Broker { name: "broker-a".into(), ..Default::default() }),
            ..Default::default()
        }),
        offset: 0,
    };
    let committed = client.client.update_offset(client.request(update, SECOND)).await.unwrap().into_inner();
    assert_eq!(code(committed.status), Code::Ok);
}

#[tokio::test]
async fn a_heartbeat_or_a_goodbye_without_settings_is_not_recognised() {
    let broker = broker().await;
    let mut client = Raw::connect(&broker, "c").await;
    assert_eq!(client.heartbeat().await.code(), Code::UnrecognizedClientType);
    let goodbye = client.request(proto::NotifyClientTerminationRequest { group: None }, SECOND);
    let answer = client.client.notify_client_termination(goodbye).await.unwrap().into_inner();
    assert_eq!(code(answer.status), Code::UnrecognizedClientType);
}

#[tokio::test]
async fn a_client_without_an_id_is_refused_everywhere() {
    let broker = broker().await;
    let mut client = Raw::connect(&broker, " ").await;
    assert_eq!(client.heartbeat().await.code(), Code::ClientIdRequired);
    assert_eq!(client.receive("t", "g", 1, SECOND).await.status.code(), Code::ClientIdRequired);
    let answer = client.register(consumer_settings("g")).await.unwrap();
    assert_eq!((code(answer.status), answer.command), (Code::ClientIdRequired, None));
    let end = client.commands.as_mut().unwrap().message().await.unwrap();
    assert!(end.is_none(), "the stream ends as if nothing was");
}

#[tokio::test]
async fn requests_must_be_signed_when_there_are_users() {
    let broker = builder().credentials("accessKey", "secretKey").start().await.unwrap();
    let mut client = Raw::connect(&broker, "c").await;
    let refused = client.send("t", "m", b"x").await.status.unwrap();
    assert_eq!((refused.code(), &*refused.message), (Code::Unauthorized, "username cannot be null."));
    let refused = client.receive("t", "g", 1, SECOND).await;
    assert_eq!((refused.status.code(), refused.ends_with_timestamp), (Code::Unauthorized, false));
    let mut request =
        client.request(proto::SendMessageRequest { messages: vec![text_message("t", "m", b"x")] }, SECOND);
    let signature = "MQv2-HMAC-SHA1 Credential=accessKey, SignedHeaders=x-mq-date-time, \
                     Signature=963ABD36AD60920C3F000248E63AD8782DD2A04E";
    request.metadata_mut().insert("x-mq-date-time", "20260101T000000Z".parse().unwrap());
    request.metadata_mut().insert("authorization", signature.parse().unwrap());
    let sent = client.client.send_message(request).await.unwrap().into_inner();
    assert_eq!(code(sent.status), Code::Ok);
}

#[tokio::test]
async fn a_route_names_every_queue_and_echoes_the_endpoints_with_our_port() {
    let broker = builder().brokers(2).start().await.unwrap();
    let mut client = Raw::connect(&broker, "c").await;
    let port = i32::from(broker.addresses()[0].port());
    let asked = proto::Endpoints {
        scheme: proto::AddressScheme::DomainName.into(),
        addresses: vec![proto::Address { host: "mq.example.org".into(), port: 1 }],
    };
    let route = client.route("t", Some(asked)).await;
    assert_eq!((code(route.status), route.message_queues.len()), (Code::Ok, 4));
    for queue in &route.message_queues {
        let broker = queue.broker.as_ref().unwrap();
        let endpoints = broker.endpoints.as_ref().unwrap();
        assert_eq!(endpoints.scheme(), proto::AddressScheme::DomainName);
        assert_eq!(endpoints.addresses, [proto::Address { host: "mq.example.org".into(), port }]);
        assert_eq!((broker.id, queue.permission()), (0, proto::Permission::ReadWrite));
        assert_eq!(queue.accept_message_types, [i32::from(proto::MessageType::Normal)]);
    }
    assert_eq!(code(client.route("nowhere", None).await.status), Code::TopicNotFound);
    assert_eq!(code(client.route("a b", None).await.status), Code::IllegalTopic);
}

#[tokio::test]
async fn an_assignment_is_one_entry_per_broker_or_every_queue_of_an_ordered_group() {
    let broker = builder().brokers(2).start().await.unwrap();
    let mut client = Raw::connect(&broker, "c").await;
    for (group, expected) in [("g", vec![-1, -1]), ("in-order", vec![0, 1, 0, 1])] {
        let request = QueryAssignmentRequest { topic: resource("t"), group: resource(group), endpoints: None };
        let request = client.request(request, SECOND);
        let answer = client.client.query_assignment(request).await.unwrap().into_inner();
        let ids: Vec<_> = answer.assignments.into_iter().map(|entry| entry.message_queue.unwrap().id).collect();
        assert_eq!(ids, expected);
    }
}

#[tokio::test]
async fn a_client_answers_a_command_of_an_administrator() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    let answer = async {
        let command = client.commands.as_mut().unwrap().message().await.unwrap().unwrap().command.unwrap();
        let Command::PrintThreadStackTraceCommand(asked) = command else { panic!("{command:?}") };
        let trace = proto::ThreadStackTrace { nonce: asked.nonce, thread_stack_trace: Some("main".into()) };
        client.reply(Command::ThreadStackTrace(trace)).await;
    };
    let (trace, ()) = tokio::join!(broker.thread_stack_trace("client-of-g"), answer);
    assert_eq!(trace.unwrap(), "main");
    broker.reconnect_endpoints("client-of-g").unwrap();
    let command = client.commands.as_mut().unwrap().message().await.unwrap().unwrap().command;
    assert!(matches!(command, Some(Command::ReconnectEndpointsCommand(_))), "{command:?}");
    assert_eq!(broker.thread_stack_trace("stranger").await.unwrap_err().kind(), ErrorKind::NotFound);
}
