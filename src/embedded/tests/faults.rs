use super::raw::{Raw, receive_request};
use super::*;

#[tokio::test]
async fn a_lost_reply_is_acted_on_and_never_answered() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    client.send("t", "m", b"x").await;
    let held = client.receive("t", "g", 1, SECOND).await.handle(0);
    let fault = broker.faults().on(Rpc::AckMessage).lose_reply();
    let lost = clock::timeout(Duration::from_millis(200), client.ack("t", "g", std::slice::from_ref(&held))).await;
    assert!(lost.is_none());
    assert_eq!((fault.hits(), broker.in_flight("g", "t")), (1, 0));
    assert_eq!(code(client.ack("t", "g", &[held]).await.status), Code::Ok, "the fault is used up");
    assert_eq!(broker.calls(Rpc::AckMessage), 2);
}

#[tokio::test]
async fn a_receive_whose_reply_is_lost_keeps_its_messages_hidden() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    client.send("t", "m", b"x").await;
    broker.faults().on(Rpc::ReceiveMessage).lose_reply();
    assert!(clock::timeout(Duration::from_millis(300), client.receive("t", "g", 1, SECOND)).await.is_none());
    clock::sleep(SECOND + Duration::from_millis(200)).await;
    assert_eq!((broker.in_flight("g", "t"), broker.waiting("g", "t")), (1, 0));
    assert_eq!(broker.expire_leases(), 1);
    assert_eq!(client.receive("t", "g", 1, SECOND).await.seen(), [("m".into(), 2)]);
}

#[tokio::test]
async fn r18_a_repeated_nack_makes_a_second_copy() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    client.send("t", "m", b"x").await;
    let held = client.receive("t", "g", 1, SECOND).await.handle(0);
    broker.faults().on(Rpc::ChangeInvisibleDuration).duplicate();
    client.change("t", "g", &held, Duration::ZERO).await;
    let again = client.receive("t", "g", 32, SECOND).await;
    assert_eq!(again.seen(), [("m".into(), 2), ("m".into(), 2)]);
}

#[tokio::test]
async fn a_status_an_error_and_a_delay_can_be_scripted() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    broker.faults().on(Rpc::SendMessage).status(50001, "the store is full");
    broker.faults().on(Rpc::ReceiveMessage).status(42900, "flow limit");
    broker.faults().on(Rpc::Heartbeat).grpc_status(14, "not now");
    let full = client.send("t", "m", b"x").await.status.unwrap();
    assert_eq!((full.code, &*full.message), (50001, "the store is full"));
    assert_eq!(client.receive("t", "g", 1, SECOND).await.status.code, 42900);
    let beat = client.request(proto::HeartbeatRequest::default(), SECOND);
    assert_eq!(client.client.heartbeat(beat).await.unwrap_err().code(), tonic::Code::Unavailable);
    assert_eq!(broker.stats().sent, 0);
    for fault in [Broker::delayed_send, Broker::delayed_reply] {
        fault(&broker);
        let from = clock::now();
        client.send("t", "m", b"x").await;
        assert!(clock::now() - from >= Duration::from_millis(200));
    }
}

impl Broker {
    fn delayed_send(&self) {
        self.faults().on(Rpc::SendMessage).delay(Duration::from_millis(200));
    }

    fn delayed_reply(&self) {
        self.faults().on(Rpc::SendMessage).delay_reply(Duration::from_millis(200));
    }
}

#[tokio::test]
async fn a_connection_can_be_cut_by_a_request_or_all_at_once() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    broker.faults().on(Rpc::AckMessage).disconnect();
    assert!(client.try_ack("t", "g", &["x".into()]).await.is_err());
    let commands = client.commands.as_mut().unwrap();
    assert!(commands.message().await.is_err(), "the telemetry stream was on the same connection");
    let mut client = Raw::consumer(&broker, "g").await;
    broker.cut_connections(0).unwrap();
    assert!(client.commands.as_mut().unwrap().message().await.is_err());
    assert_eq!(client.heartbeat().await.code(), Code::Ok, "the port is open, the client is remembered");
    assert_eq!(broker.cut_connections(1).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn what_was_popped_for_a_client_that_went_away_comes_back_after_a_second() {
    let broker = broker().await;
    let mut client = Raw::consumer(&broker, "g").await;
    // More than the windows of a connection hold, so that messages are left unwritten when it is cut.
    for n in 0..8 {
        client.send("t", &n.to_string(), &vec![0; 4 << 20]).await;
    }
    let request = client.request(receive_request("t", "g", 32, SECOND), 6 * SECOND);
    let mut stream = client.client.receive_message(request).await.unwrap().into_inner();
    stream.message().await.unwrap();
    broker.cut_connections(0).unwrap();
    clock::sleep(2 * SECOND).await;
    assert!(broker.waiting("g", "t") >= 1, "{} wait", broker.waiting("g", "t"));
    assert_eq!(broker.waiting("g", "t") as usize + broker.in_flight("g", "t"), 8);
}
