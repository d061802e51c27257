//! The gRPC v2 wire.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Credentials, Endpoint, Limits, Scheme};

/// What a gRPC wire is made from; it belongs to one client identity.
#[derive(Debug, Clone)]
pub(crate) struct GrpcConfig {
    pub(crate) client_id: Arc<str>,
    pub(crate) scheme: Scheme,
    pub(crate) tls: TlsOptions,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) namespace: Arc<str>,
    /// Sent with QueryRoute: the server builds the endpoints of its answer from them.
    pub(crate) access_point: Vec<Endpoint>,
    pub(crate) request_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) limits: Limits,
    /// Whether body digests are checked. Off by default: it costs more than all the rest of a receive.
    pub(crate) check_digest: bool,
}

/// How a server's certificate is judged.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsOptions {
    /// PEM certificates to trust beside those of the system.
    pub(crate) extra_roots: Option<Arc<[u8]>>,
    /// Accept any certificate: the connection is encrypted, but to anyone.
    pub(crate) danger_accept_any_certificate: bool,
}

pub(crate) mod convert;
pub(crate) mod status;
