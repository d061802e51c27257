//! TLS: verified by default, with an authority of one's own, or explicitly not.

use std::io;
use std::sync::Arc;

use futures::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rocketmq_stream::embedded::Broker;
use rocketmq_stream::{
    Client, ClientBuilder, ErrorKind, Filter, OutboundMessage, PullConsumerBuilder, RouteEndpoints, StartFrom, StopAt,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::rig::{GROUP, Rig, TOPIC, builder};
use crate::support::{next, secs, send_all, text, within};

/// A port that speaks TLS before a broker, and the authority that signed its certificate.
struct Terminated {
    rig: Rig,
    port: u16,
    authority: String,
}

impl Terminated {
    /// The certificate is for this name.
    async fn for_name(name: &str) -> Self {
        let rig = Rig::start(builder()).await;
        let (config, authority) = certified(name);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let target = rig.broker.access_point();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(relay(acceptor.clone(), connection, target.clone()));
            }
        });
        Self { rig, port, authority }
    }

    fn client(&self, host: &str, change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
        let client = Client::builder().access_point(format!("https://{host}:{}", self.port));
        change(client.route_endpoints(RouteEndpoints::AccessPoint)).build().expect("a client")
    }
}

/// A certificate for these names and its key, and the authority that signed it, all in PEM.
fn signed(names: &[&str]) -> (String, KeyPair, String) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).expect("a certificate").pem();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let certificate = params.expect("parameters").signed_by(&key, &issuer).expect("a certificate");
    (certificate.pem(), key, authority)
}

fn certified(name: &str) -> (ServerConfig, String) {
    let (certificate, key, authority) = signed(&[name]);
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate], private).expect("a configuration");
    config.alpn_protocols = vec![b"h2".to_vec()];
    (config, authority)
}

async fn relay(acceptor: TlsAcceptor, connection: TcpStream, target: String) -> io::Result<()> {
    let mut client = acceptor.accept(connection).await?;
    let mut server = TcpStream::connect(target).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Sends and receives one message.
async fn works(client: &Client) {
    let producer = client.producer().topic(TOPIC).build().await.expect("build");
    send_all(&producer, TOPIC, ["confidential"]).await;
    let consumer = client.simple_consumer(GROUP).subscribe(TOPIC, Filter::all()).build().await;
    let mut consumer = consumer.expect("build");
    next(&mut consumer).await.ack().await.expect("ack");
    assert!(consumer.control().shutdown(secs(5)).await.complete);
}

async fn refused(client: &Client) -> rocketmq_stream::Error {
    let build = client.producer().topic(TOPIC).build_timeout(secs(3)).build();
    within(secs(10), "build", build).await.expect_err("this must not be trusted")
}

#[tokio::test]
async fn e1_a_certificate_of_ones_own_authority_is_verified_and_works() {
    let server = Terminated::for_name("localhost").await;
    works(&server.client("localhost", |client| client.ca_certificate(server.authority.clone()))).await;
    let path = std::env::temp_dir().join(format!("{}.pem", crate::support::unique("authority")));
    std::fs::write(&path, &server.authority).expect("a file");
    works(&server.client("localhost", |client| client.ca_certificate_file(&path))).await;
    std::fs::remove_file(&path).expect("the file was there");
}

#[tokio::test]
async fn e1_an_unknown_authority_is_refused_by_default_and_the_error_says_why() {
    let server = Terminated::for_name("localhost").await;
    let error = refused(&server.client("localhost", |client| client)).await;
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Config | ErrorKind::Protocol), "{error:?}");
    let chain = format!("{error:?}").to_lowercase();
    assert!(chain.contains("certificate"), "{error:?}");
    assert_eq!(server.rig.broker.clients(0).len(), 0);
}

#[tokio::test]
async fn e1_a_certificate_for_another_name_is_refused() {
    let server = Terminated::for_name("elsewhere.example").await;
    let error = refused(&server.client("localhost", |client| client.ca_certificate(server.authority.clone()))).await;
    assert!(format!("{error:?}").to_lowercase().contains("certificate"), "{error:?}");
}

#[tokio::test]
async fn e1_the_danger_switch_accepts_any_certificate() {
    let server = Terminated::for_name("elsewhere.example").await;
    works(&server.client("127.0.0.1", |client| client.danger_accept_any_certificate(true))).await;
}

#[tokio::test]
async fn a_certificate_for_an_address_works_by_address() {
    let server = Terminated::for_name("127.0.0.1").await;
    works(&server.client("127.0.0.1", |client| client.ca_certificate(server.authority.clone()))).await;
}

#[tokio::test]
async fn plaintext_to_a_tls_port_and_tls_to_a_plaintext_port_are_typed_errors() {
    let server = Terminated::for_name("localhost").await;
    let plain = Client::builder().access_point(format!("http://127.0.0.1:{}", server.port)).build().expect("a client");
    let error = refused(&plain).await;
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Protocol | ErrorKind::Timeout), "{error:?}");
    let tls = Client::builder().access_point(format!("https://{}", server.rig.broker.access_point()));
    let error = refused(&tls.danger_accept_any_certificate(true).build().expect("a client")).await;
    assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Protocol | ErrorKind::Timeout), "{error:?}");
}

/// An embedded cluster that speaks TLS at its name server and at its brokers, which are reached at 127.0.0.1; and a client of
/// it, which enters by the name `localhost`.
async fn pulling(names: &[&str], trust: impl FnOnce(ClientBuilder, String) -> ClientBuilder) -> (Broker, Client) {
    let (certificate, key, authority) = signed(names);
    let broker = builder().tls(certificate, key.serialize_pem()).start().await.expect("a broker");
    let port = broker.name_server().rsplit_once(':').expect("host:port").1.to_owned();
    let client = Client::builder().name_server(format!("https://localhost:{port}"));
    let client = trust(client, authority).build().expect("a client");
    for queue in broker.queues(TOPIC) {
        broker.append(&queue, OutboundMessage::new(TOPIC, "confidential")).expect("stored");
    }
    (broker, client)
}

fn reading(client: &Client) -> PullConsumerBuilder {
    let builder = client.pull_consumer("etl").subscribe(TOPIC, Filter::all());
    builder.start_from(StartFrom::Earliest).until(StopAt::Now).build_timeout(secs(5))
}

#[tokio::test]
async fn e1_queues_are_read_over_tls_from_name_server_and_broker() {
    let (_broker, client) = pulling(&["localhost", "127.0.0.1"], ClientBuilder::ca_certificate).await;
    let consumer = within(secs(10), "build", reading(&client).build()).await.expect("build");
    let batches: Vec<_> = within(secs(10), "the end", consumer.try_collect()).await.expect("no error");
    assert_eq!(batches.iter().flat_map(|batch| batch.messages()).map(text).collect::<Vec<_>>(), ["confidential"]);
}

#[tokio::test]
async fn e1_who_pulls_is_told_at_once_whose_certificate_is_refused() {
    let (_broker, client) = pulling(&["localhost", "127.0.0.1"], |client, _| client).await;
    let stranger =
        within(secs(4), "build", reading(&client).build()).await.map(drop).expect_err("an unknown authority");
    // Routes name brokers by address: a certificate for the name alone does for the name server, not for them.
    let (_broker, client) = pulling(&["localhost"], ClientBuilder::ca_certificate).await;
    let by_address = within(secs(4), "build", reading(&client).build()).await.map(drop).expect_err("another name");
    for (error, host) in [(stranger, "localhost"), (by_address, "127.0.0.1")] {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(&format!("the certificate of {host} is refused")), "{error}");
        assert!(error.to_string().contains("ca_certificate_file"), "{error}");
    }
}
