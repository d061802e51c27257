//! One connection per endpoint, opened when it is first needed and again when it was lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint as Target};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Endpoint, Scheme};
use crate::transport::dial::Dialer;
use crate::transport::grpc::GrpcConfig;
use crate::transport::grpc::connector::Connector;
use crate::transport::grpc::peer::Peer;
use crate::transport::tls::Tls;

/// HTTP/2 flow control: how much of one answer may be under way. A batch of large bodies exceeds the default 64 KiB at once,
/// and would then go at one window per round trip.
const STREAM_WINDOW: u32 = 4 << 20;
/// And of all answers of a connection together.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// gRPC-java hangs up on clients that ping more often than every 5 minutes (protocol.md A.4).
const PING_INTERVAL: Duration = Duration::from_secs(300);
const PING_TIMEOUT: Duration = Duration::from_secs(30);

/// A way to an endpoint. Cloning is cheap, and the clones share one connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) grpc: Grpc<Channel>,
    pub(crate) peer: Arc<Peer>,
}

/// The connections of one client identity.
#[derive(Debug)]
pub(crate) struct Channels {
    scheme: Scheme,
    tls: Option<Tls>,
    connect_timeout: Duration,
    max_frame_size: usize,
    /// Never locked across an await.
    connections: Mutex<HashMap<Endpoint, Connection>>,
}

impl Channels {
    /// Opens nothing. Fails when TLS is asked for and cannot be had, or its roots are not certificates.
    pub(crate) fn new(config: &GrpcConfig) -> Result<Self> {
        Ok(Self {
            scheme: config.scheme,
            tls: match config.scheme {
                Scheme::Plaintext => None,
                Scheme::Tls => Some(Tls::new(&config.tls, Some(b"h2"))?),
            },
            connect_timeout: config.connect_timeout,
            max_frame_size: config.limits.max_frame_size,
            connections: Mutex::default(),
        })
    }

    pub(crate) fn get(&self, endpoint: &Endpoint) -> Result<Connection> {
        let mut connections = self.lock();
        if let Some(connection) = connections.get(endpoint) {
            return Ok(connection.clone());
        }
        let connection = self.open(endpoint)?;
        connections.insert(endpoint.clone(), connection.clone());
        Ok(connection)
    }

    /// The next call connects anew. Calls under way keep the old connection until they end.
    pub(crate) fn forget(&self, endpoint: &Endpoint) {
        let forgotten = self.lock().remove(endpoint);
        drop(forgotten);
    }

    fn open(&self, endpoint: &Endpoint) -> Result<Connection> {
        let scheme = match self.scheme {
            Scheme::Plaintext => "http",
            Scheme::Tls => "https",
        };
        let target = Target::from_shared(format!("{scheme}://{endpoint}")).map_err(|error| {
            Error::new(ErrorKind::InvalidArgument, format!("`{endpoint}` is not an endpoint")).with_source(error)
        })?;
        let target = target
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let peer = Arc::new(Peer::default());
        let connector = Connector {
            dialer: Dialer { endpoint: endpoint.clone(), tls: self.tls.clone(), connect_timeout: self.connect_timeout },
            peer: Arc::clone(&peer),
        };
        let channel = target.connect_with_connector_lazy(connector);
        Ok(Connection { grpc: Grpc::new(channel).max_decoding_message_size(self.max_frame_size), peer })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Endpoint, Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
