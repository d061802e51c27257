//! What every session of a client is made from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::model::{AccessPoint, ClientSettings, Credentials, Limits};
use crate::session::{Enrolment, Groups, RouteEndpoints, Session, SessionConfig};
use crate::transport::GroupRequest;
use crate::transport::grpc::{GrpcConfig, GrpcWire};
use crate::transport::remoting::{RemotingConfig, RemotingWire};
use crate::transport::tls::TlsOptions;

/// The client's part of a session; each consumer and producer opens one of its own, with an identity of its own.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    /// Where gRPC enters.
    pub(crate) access_point: Option<AccessPoint>,
    /// Where remoting enters.
    pub(crate) name_server: Option<AccessPoint>,
    pub(crate) tls: TlsOptions,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) namespace: Arc<str>,
    pub(crate) request_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) limits: Limits,
    pub(crate) check_digest: bool,
    pub(crate) route_endpoints: RouteEndpoints,
    /// Which kinds of this client's consumers use which groups.
    pub(crate) groups: Groups,
}

impl Connector {
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// The same, with or without a check of body digests.
    pub(crate) fn checking_digests(&self, check: bool) -> Self {
        Self { check_digest: check, ..self.clone() }
    }

    /// The same with another time for a request, if one is given.
    pub(crate) fn with_request_timeout(&self, timeout: Option<Duration>) -> Self {
        Self { request_timeout: timeout.unwrap_or(self.request_timeout), ..self.clone() }
    }

    /// Whether the wires can be made: what TLS needs is looked at now, not at the first request.
    pub(crate) fn check(&self) -> Result<()> {
        if self.access_point.is_some() {
            GrpcWire::new(self.grpc()?)?;
        }
        if self.name_server.is_some() {
            RemotingWire::new(self.remoting()?)?;
        }
        Ok(())
    }

    /// A session over gRPC, and its wire. A consumer's group is kept from other kinds of this client's consumers while the
    /// session lives.
    ///
    /// # Errors
    /// `Config` without an access point; `Precondition` for a group that another kind uses; else what the handshake says.
    pub(crate) async fn open(
        &self,
        settings: ClientSettings,
        build_timeout: Duration,
    ) -> Result<(Session, Arc<GrpcWire>)> {
        let config = self.grpc()?;
        let entered = settings.group.as_ref().map(|group| self.groups.enter(group, settings.kind)).transpose()?;
        let access_point = config.access_point.clone();
        let wire = Arc::new(GrpcWire::new(config)?);
        let session = Session::open(SessionConfig {
            wire: Arc::clone(&wire) as _,
            access_point,
            settings,
            route_endpoints: self.route_endpoints,
            enrolment: Enrolment::Entrance,
            requests: None,
            build_timeout,
        });
        let session = session.await?;
        if let Some(group) = entered {
            session.keep(group);
        }
        Ok((session, wire))
    }

    /// A session over remoting, and its wire. It connects to nobody before it is asked for a route: who builds on it asks
    /// for those of its topics, and learns then what is wrong.
    ///
    /// With a group in `settings` this client joins the group at each broker. Without, it stays out of the list of members
    /// (trap P27). `requests` gets what brokers ask of a member. Enter the group in [`groups`](Self::groups) first, and let
    /// the session [`keep`](Session::keep) it.
    ///
    /// # Errors
    /// `Config` without a name server.
    pub(crate) async fn open_remoting(
        &self,
        settings: ClientSettings,
        requests: Option<mpsc::Sender<GroupRequest>>,
        build_timeout: Duration,
    ) -> Result<(Session, Arc<RemotingWire>)> {
        let config = self.remoting()?;
        let access_point = config.name_servers.clone();
        let wire = Arc::new(RemotingWire::new(config)?);
        let session = Session::open(SessionConfig {
            wire: Arc::clone(&wire) as _,
            access_point,
            settings,
            route_endpoints: self.route_endpoints,
            enrolment: Enrolment::Brokers,
            requests,
            build_timeout,
        });
        Ok((session.await?, wire))
    }

    fn grpc(&self) -> Result<GrpcConfig> {
        let rule = "is needed here: the address of RocketMQ's proxy (gRPC), e.g. `localhost:8081`";
        let access_point = self.access_point.clone().ok_or_else(|| Error::config("access_point", "", rule))?;
        Ok(GrpcConfig {
            client_id: new_client_id(),
            scheme: access_point.scheme,
            tls: self.tls.clone(),
            credentials: self.credentials.clone(),
            namespace: Arc::clone(&self.namespace),
            access_point: access_point.endpoints,
            request_timeout: self.request_timeout,
            connect_timeout: self.connect_timeout,
            limits: self.limits.clone(),
            check_digest: self.check_digest,
        })
    }

    fn remoting(&self) -> Result<RemotingConfig> {
        let rule = "is needed here: the address of RocketMQ's name server, e.g. `localhost:9876`";
        let name_server = self.name_server.clone().ok_or_else(|| Error::config("name_server", "", rule))?;
        Ok(RemotingConfig {
            client_id: new_client_id(),
            scheme: name_server.scheme,
            tls: self.tls.clone(),
            credentials: self.credentials.clone(),
            namespace: Arc::clone(&self.namespace),
            name_servers: name_server.endpoints,
            request_timeout: self.request_timeout,
            connect_timeout: self.connect_timeout,
            limits: self.limits.clone(),
            check_digest: self.check_digest,
        })
    }
}

/// Unique for each session: the server keeps settings, leases and members by it.
fn new_client_id() -> Arc<str> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("rocketmq-stream@{}@{count}@{:x}", std::process::id(), fastrand::u64(..)).into()
}
