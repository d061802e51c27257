//! The wire on the loopback: against peers that are no RocketMQ at all, against TLS, against a scripted server.

mod foreign;
#[cfg(feature = "embedded")]
mod pulling;
#[cfg(feature = "embedded")]
mod scripted;
#[cfg(feature = "tls")]
mod tls;

use tokio::net::TcpListener;

use super::*;
use crate::clock;
use crate::model::{ClientKind, Filter};
use crate::task::TaskGroup;

pub(crate) fn config() -> GrpcConfig {
    GrpcConfig {
        client_id: "host@1@0@test".into(),
        scheme: Scheme::Plaintext,
        tls: TlsOptions::default(),
        credentials: None,
        namespace: "".into(),
        access_point: vec![Endpoint::new("127.0.0.1", 8081)],
        request_timeout: Duration::from_secs(3),
        connect_timeout: Duration::from_secs(3),
        limits: Limits::default(),
        check_digest: false,
    }
}

fn wire(config: GrpcConfig) -> GrpcWire {
    GrpcWire::new(config).unwrap()
}

async fn listen() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Endpoint::new("127.0.0.1", port))
}

fn orders() -> Arc<str> {
    "orders".into()
}

fn scope() -> Scope {
    Scope { group: "billing".into(), topic: orders() }
}

fn receive_request() -> ReceiveRequest {
    ReceiveRequest {
        scope: scope(),
        broker: "broker-a".into(),
        filter: Filter::all(),
        max_messages: 16,
        invisible: Some(Duration::from_secs(30)),
        await_duration: Duration::from_secs(1),
        attempt_id: None,
    }
}

fn settings(kind: ClientKind, group: Option<&Arc<str>>) -> ClientSettings {
    ClientSettings { kind, group: group.cloned(), ..consumer_settings() }
}

fn consumer_settings() -> ClientSettings {
    ClientSettings {
        kind: ClientKind::SimpleConsumer,
        request_timeout: Duration::from_secs(3),
        group: Some("billing".into()),
        subscriptions: vec![],
        await_duration: Some(Duration::from_secs(15)),
        topics: vec![],
    }
}

/// A test that waits longer than this hangs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    clock::timeout(Duration::from_secs(20), future).await.expect("it must not hang")
}

#[test]
fn a_wire_opens_nothing_when_it_is_made() {
    // There is no runtime here, so that it would panic if it did.
    let shown = format!("{:?}", wire(config()));
    assert!(shown.contains("host@1@0@test"), "{shown}");
}
