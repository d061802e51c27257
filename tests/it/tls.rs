//! TLS: verified by default, with an authority of one's own, or explicitly not.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rocketmq_stream::{Client, ClientBuilder, ErrorKind, Filter, RouteEndpoints};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::rig::{GROUP, Rig, TOPIC, builder};
use crate::support::{next, secs, send_all, within};

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

fn certified(name: &str) -> (ServerConfig, String) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).expect("a certificate").pem();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth();
    let mut config = config.with_single_cert(vec![certificate.der().clone()], private).expect("a configuration");
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
