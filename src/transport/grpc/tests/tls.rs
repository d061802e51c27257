//! TLS: who is trusted, and what the errors advise.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;
use crate::error::{Error, ErrorKind};

/// A TLS server with a certificate of its own for `name`, that answers in HTTP/1: when the client hears that, the handshake
/// was good. Gives the certificate as PEM.
async fn tls_server(tasks: &TaskGroup, name: &str) -> (Endpoint, Arc<[u8]>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, endpoint) = listen().await;
    tasks.spawn("tls server", async move {
        while let Ok((connection, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(connection).await else { continue };
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let _ = stream.read(&mut [0; 16]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    (Endpoint::new("localhost", endpoint.port()), made.cert.pem().into_bytes().into())
}

fn tls_config(tls: TlsOptions) -> GrpcConfig {
    GrpcConfig { scheme: Scheme::Tls, tls, ..config() }
}

async fn route_error(endpoint: &Endpoint, config: GrpcConfig) -> Error {
    soon(wire(config).query_route(endpoint, &orders())).await.expect_err("it is no proxy")
}

#[tokio::test]
async fn e1_a_certificate_nobody_vouches_for_is_refused_and_the_error_says_what_to_do() {
    let tasks = TaskGroup::new();
    let (endpoint, _) = tls_server(&tasks, "localhost").await;
    let error = route_error(&endpoint, tls_config(TlsOptions::default())).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    let text = error.to_string();
    assert!(text.contains("UnknownIssuer") && text.contains("danger_accept_any_certificate"), "{text}");
}

#[tokio::test]
async fn a_certificate_among_the_extra_roots_is_trusted() {
    let tasks = TaskGroup::new();
    let (endpoint, pem) = tls_server(&tasks, "localhost").await;
    let tls = TlsOptions { extra_roots: Some(pem), ..TlsOptions::default() };
    let error = route_error(&endpoint, tls_config(tls)).await;
    assert!(error.to_string().contains("HTTP/1"), "the handshake was good: {error:?}");
}

#[tokio::test]
async fn e1_a_trusted_certificate_for_another_name_is_refused() {
    let tasks = TaskGroup::new();
    let (endpoint, pem) = tls_server(&tasks, "other.example.org").await;
    let tls = TlsOptions { extra_roots: Some(pem), ..TlsOptions::default() };
    let error = route_error(&endpoint, tls_config(tls)).await;
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
}

#[tokio::test]
async fn any_certificate_is_accepted_only_on_demand() {
    let tasks = TaskGroup::new();
    let (endpoint, _) = tls_server(&tasks, "other.example.org").await;
    let tls = TlsOptions { danger_accept_any_certificate: true, ..TlsOptions::default() };
    let error = route_error(&endpoint, tls_config(tls)).await;
    assert!(error.to_string().contains("HTTP/1"), "the handshake was good: {error:?}");
}

#[tokio::test]
async fn a_server_without_tls_is_told_from_one_with_a_bad_certificate() {
    let (listener, endpoint) = listen().await;
    let tasks = TaskGroup::new();
    tasks.spawn("plaintext server", async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.read(&mut [0; 512]).await;
            let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let error = route_error(&endpoint, tls_config(TlsOptions::default())).await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
}

#[tokio::test]
async fn a_handshake_that_is_never_answered_ends() {
    let (listener, endpoint) = listen().await;
    let tasks = TaskGroup::new();
    tasks.spawn("silent server", async move {
        let mut open = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            open.push(connection);
        }
    });
    let config = GrpcConfig { connect_timeout: Duration::from_millis(200), ..tls_config(TlsOptions::default()) };
    let error = route_error(&endpoint, config).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("no connection within 200 ms"), "{error}");
}

#[test]
fn extra_roots_that_are_none_are_refused_at_once() {
    for (pem, rule) in [
        ("not PEM at all", "no `BEGIN CERTIFICATE`"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a certificate that is none"),
        ("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", "are not PEM"),
    ] {
        let tls = TlsOptions { extra_roots: Some(pem.as_bytes().into()), ..TlsOptions::default() };
        let error = GrpcWire::new(tls_config(tls)).expect_err(pem);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(rule), "{error}");
    }
}
