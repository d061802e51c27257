//! The wire against peers on the loopback: what it makes of those that are no RocketMQ at all.

use super::*;

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
