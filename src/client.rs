//! The client: wiring only.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::consumer::pull::PullConsumerBuilder;
use crate::consumer::simple::SimpleConsumerBuilder;
use crate::error::{Error, Result};
use crate::model::{AccessPoint, Credentials, Limits, Scheme, check_namespace};
use crate::producer::ProducerBuilder;
use crate::session::{Connector, Groups, RouteEndpoints};
use crate::transport::tls::TlsOptions;

/// A RocketMQ cluster, as this program knows it. Cheap to clone; it opens no connection by itself: each consumer and
/// producer has connections of its own.
#[derive(Debug, Clone)]
pub struct Client {
    connector: Arc<Connector>,
}

impl Client {
    /// Begins with the defaults; [`access_point`](ClientBuilder::access_point) is the one thing needed, or
    /// [`name_server`](ClientBuilder::name_server) for those who only pull.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A consumer that receives messages under leases and settles each by itself.
    pub fn simple_consumer(&self, group: impl Into<String>) -> SimpleConsumerBuilder {
        SimpleConsumerBuilder::new(Arc::clone(&self.connector), group.into())
    }

    /// A consumer that reads queues by offset, in batches, with checkpoints. It must not share its group with consumers of
    /// another kind.
    pub fn pull_consumer(&self, group: impl Into<String>) -> PullConsumerBuilder {
        PullConsumerBuilder::new(Arc::clone(&self.connector), group.into())
    }

    /// A producer.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(Arc::clone(&self.connector))
    }
}

/// Builds a [`Client`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it builds"]
pub struct ClientBuilder {
    access_point: Option<String>,
    name_server: Option<String>,
    credentials: Option<Credentials>,
    namespace: String,
    ca_certificate: Option<Arc<[u8]>>,
    ca_certificate_file: Option<PathBuf>,
    danger_accept_any_certificate: bool,
    request_timeout: Duration,
    connect_timeout: Duration,
    route_endpoints: RouteEndpoints,
    limits: Limits,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            access_point: None,
            name_server: None,
            credentials: None,
            namespace: String::new(),
            ca_certificate: None,
            ca_certificate_file: None,
            danger_accept_any_certificate: false,
            request_timeout: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(3),
            route_endpoints: RouteEndpoints::default(),
            limits: Limits::default(),
        }
    }
}

impl ClientBuilder {
    /// The address of RocketMQ's proxy (gRPC): `host:port`, several separated by `;`. Without a scheme or with `http://`
    /// the connection is plaintext, with `https://` it is TLS with a verified certificate. An IPv6 address stands in
    /// brackets. The proxy's port is usually 8081. Needed by producers and by consumers that receive.
    pub fn access_point(mut self, access_point: impl Into<String>) -> Self {
        self.access_point = Some(access_point.into());
        self
    }

    /// The address of RocketMQ's name server (remoting): `host:port`, several separated by `;`, the next being asked when
    /// one does not answer. Schemes are as for the [access point](Self::access_point), and hold for the brokers, too. Its
    /// port is usually 9876. The remoting port of a proxy (usually 8080) does as well, but all members of a group must go the
    /// same way: those at the brokers and those at a proxy do not see each other, and both read every queue. Needed to pull
    /// from Apache's servers.
    pub fn name_server(mut self, name_server: impl Into<String>) -> Self {
        self.name_server = Some(name_server.into());
        self
    }

    /// What requests are signed with. Defaults to none.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// The namespace of all topics and groups, on servers that have them. Defaults to none.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// PEM certificates to trust beside those of the system. Defaults to none.
    pub fn ca_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_certificate = Some(pem.into().into());
        self
    }

    /// A file of PEM certificates to trust beside those of the system; read by [`build`](Self::build).
    pub fn ca_certificate_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_certificate_file = Some(path.into());
        self
    }

    /// Accepts any certificate. The connection is encrypted then, but to whoever answers: for tests, and for the
    /// self-signed certificate that RocketMQ's proxy begins with. Defaults to false.
    pub fn danger_accept_any_certificate(mut self, accept: bool) -> Self {
        self.danger_accept_any_certificate = accept;
        self
    }

    /// How long a request may take, beside what it waits for on purpose. Defaults to 3 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long opening a connection may take. Defaults to 3 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Which endpoints to talk to. Defaults to [`RouteEndpoints::Server`].
    pub fn route_endpoints(mut self, policy: RouteEndpoints) -> Self {
        self.route_endpoints = policy;
        self
    }

    /// Limits that the server's configuration decides. Defaults to those of Apache RocketMQ 5.5.0.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Parses and checks everything; opens no connection.
    ///
    /// # Errors
    /// `Config`, naming the setter, the value and the rule.
    pub fn build(self) -> Result<Client> {
        let (access_point, name_server) = self.entrances()?;
        for (field, value) in [("request_timeout", self.request_timeout), ("connect_timeout", self.connect_timeout)] {
            if value.is_zero() || value > Duration::from_secs(24 * 3600) {
                return Err(Error::config(field, format!("{value:?}"), "must be longer than zero and at most a day"));
            }
        }
        if let Some(credentials) = &self.credentials {
            credentials.check()?;
        }
        if !self.namespace.is_empty() {
            check_namespace(&self.namespace)?;
        }
        let tls = TlsOptions {
            extra_roots: self.read_roots()?,
            danger_accept_any_certificate: self.danger_accept_any_certificate,
        };
        let connector = Connector {
            access_point,
            name_server,
            tls,
            credentials: self.credentials,
            namespace: self.namespace.into(),
            request_timeout: self.request_timeout,
            connect_timeout: self.connect_timeout,
            limits: self.limits,
            check_digest: false,
            route_endpoints: self.route_endpoints,
            groups: Groups::default(),
        };
        connector.check()?;
        Ok(Client { connector: Arc::new(connector) })
    }

    /// Access point and name server, of which one is there.
    fn entrances(&self) -> Result<(Option<AccessPoint>, Option<AccessPoint>)> {
        let parse =
            |field, text: &Option<String>| text.as_deref().map(|text| AccessPoint::parse(field, text)).transpose();
        let access_point = parse("access_point", &self.access_point)?;
        let name_server = parse("name_server", &self.name_server)?;
        let entrances = || access_point.iter().chain(&name_server);
        if entrances().next().is_none() {
            let rule = "is needed, or name_server: the address of RocketMQ's proxy, e.g. `localhost:8081`, or of its name \
                        server, e.g. `localhost:9876`";
            return Err(Error::config("access_point", "", rule));
        }
        let has_certificates =
            self.danger_accept_any_certificate || self.ca_certificate.is_some() || self.ca_certificate_file.is_some();
        if has_certificates && entrances().all(|entrance| entrance.scheme == Scheme::Plaintext) {
            let (field, text) = match (&self.access_point, &self.name_server) {
                (Some(text), _) => ("access_point", text.as_str()),
                (None, text) => ("name_server", text.as_deref().unwrap_or_default()),
            };
            return Err(Error::config(field, text, "certificates are for TLS: write `https://` before the host"));
        }
        Ok((access_point, name_server))
    }

    fn read_roots(&self) -> Result<Option<Arc<[u8]>>> {
        let mut roots = self.ca_certificate.as_deref().unwrap_or_default().to_vec();
        if let Some(path) = &self.ca_certificate_file {
            let file = std::fs::read(path).map_err(|cause| {
                Error::config("ca_certificate_file", path.display(), "cannot be read").with_source(cause)
            })?;
            roots.push(b'\n');
            roots.extend(file);
        }
        Ok((!roots.is_empty()).then(|| roots.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_builder_refuses_what_cannot_work_and_says_why() {
        let good = || Client::builder().access_point("localhost:8081");
        assert!(good().build().is_ok());
        assert!(Client::builder().name_server("a:9876;b:9876").build().is_ok());
        for (builder, field) in [
            (Client::builder(), "access_point"),
            (good().access_point("localhost"), "access_point"),
            (good().name_server("localhost"), "name_server"),
            (Client::builder().name_server("localhost:9876").danger_accept_any_certificate(true), "name_server"),
            (good().danger_accept_any_certificate(true), "https://"),
            (good().request_timeout(Duration::ZERO), "request_timeout"),
            (good().connect_timeout(Duration::MAX), "connect_timeout"),
            (good().access_point("https://a:1").ca_certificate_file("/no/such/file"), "ca_certificate_file"),
        ] {
            let error = builder.build().expect_err(field);
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(field), "{error}");
        }
    }

    #[tokio::test]
    async fn what_needs_the_other_entrance_says_so() {
        let only_pulls = Client::builder().name_server("localhost:9876").build().unwrap();
        let error = only_pulls.producer().build().await.expect_err("it sends over gRPC");
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().starts_with("access_point ``: is needed here"), "{error}");
    }
}
