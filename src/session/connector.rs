//! What every session of a client is made from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::error::Result;
use crate::model::{ClientSettings, Limits};
use crate::session::{RouteEndpoints, Session, SessionConfig};
use crate::transport::grpc::{GrpcConfig, GrpcWire};

/// The client's part of a session; each consumer and producer opens one of its own, with an identity of its own.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    /// Its `client_id` is replaced by one of each session's own.
    pub(crate) grpc: GrpcConfig,
    pub(crate) route_endpoints: RouteEndpoints,
}

impl Connector {
    pub(crate) fn limits(&self) -> &Limits {
        &self.grpc.limits
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.grpc.request_timeout
    }

    /// The same, with or without a check of body digests.
    pub(crate) fn checking_digests(&self, check: bool) -> Self {
        let mut other = self.clone();
        other.grpc.check_digest = check;
        other
    }

    /// The same with another time for a request, if one is given.
    pub(crate) fn with_request_timeout(&self, timeout: Option<Duration>) -> Self {
        let mut other = self.clone();
        other.grpc.request_timeout = timeout.unwrap_or(other.grpc.request_timeout);
        other
    }

    /// Whether the wire can be made: what TLS needs is looked at now, not at the first request.
    pub(crate) fn check(&self) -> Result<()> {
        GrpcWire::new(self.grpc.clone()).map(drop)
    }

    pub(crate) async fn open(&self, settings: ClientSettings, build_timeout: Duration) -> Result<Session> {
        let grpc = GrpcConfig { client_id: new_client_id(), ..self.grpc.clone() };
        let access_point = grpc.access_point.clone();
        let wire = Arc::new(GrpcWire::new(grpc)?);
        let route_endpoints = self.route_endpoints;
        Session::open(SessionConfig { wire, access_point, settings, route_endpoints, build_timeout }).await
    }
}

/// Unique for each session: the server keeps settings and leases by it.
fn new_client_id() -> Arc<str> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("rocketmq-stream@{}@{count}@{:x}", std::process::id(), fastrand::u64(..)).into()
}
