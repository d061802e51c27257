//! The whole of it is tested with the gRPC wire: here is that remoting goes over TLS, and what it says when one side does not.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::wire::{config, queue};
use super::*;
use crate::error::ErrorKind;
use crate::model::{Endpoint, Offset, Scheme};
use crate::task::TaskGroup;
use crate::transport::remoting::command::offset::OffsetAnswer;
use crate::transport::remoting::tests::peer::Talk;
use crate::transport::remoting::{RemotingConfig, RemotingWire};
use crate::transport::tls::TlsOptions;
use crate::transport::{Pulling, QueueBound};

/// Answers one request over TLS. Returns the certificate to trust.
async fn serve(tasks: &TaskGroup) -> (Endpoint, String) {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = Endpoint::new("localhost", listener.local_addr().unwrap().port());
    tasks.spawn("tls peer", async move {
        loop {
            let Ok((io, _)) = listener.accept().await else { return };
            let Ok(io) = TlsAcceptor::from(Arc::new(config.clone())).accept(io).await else { continue };
            let mut talk = Talk::over(io);
            while let Some(request) = talk.hear().await {
                talk.answer(&request, &OffsetAnswer(7)).await;
            }
        }
    });
    (at, certified.cert.pem())
}

fn wire(at: &Endpoint, scheme: Scheme, roots: Option<&str>) -> RemotingWire {
    let extra_roots = roots.map(|pem| pem.as_bytes().into());
    let tls = TlsOptions { extra_roots, ..TlsOptions::default() };
    RemotingWire::new(RemotingConfig { scheme, tls, ..config(vec![at.clone()]) }).unwrap()
}

#[tokio::test]
async fn remoting_goes_over_tls_to_a_server_that_is_trusted() {
    let tasks = TaskGroup::new();
    let (at, pem) = serve(&tasks).await;
    let trusting = wire(&at, Scheme::Tls, Some(&pem));
    assert_eq!(soon(trusting.bound(&at, &queue(), QueueBound::Max)).await.unwrap(), Offset::new(7));
    drop(trusting);
    let error = soon(wire(&at, Scheme::Tls, None).bound(&at, &queue(), QueueBound::Max)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("the certificate of localhost is refused"), "{error}");
}

#[tokio::test]
async fn a_side_that_does_not_speak_tls_is_told_so() {
    let tasks = TaskGroup::new();
    let (at, _) = serve(&tasks).await;
    let error = soon(wire(&at, Scheme::Plaintext, None).bound(&at, &queue(), QueueBound::Max)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("write `https://host:port`"), "{error}");

    let plain = Peer::new().await;
    let wire = wire(&plain.at, Scheme::Tls, None);
    let (answer, ()) = tokio::join!(async { soon(wire.bound(&plain.at, &queue(), QueueBound::Max)).await }, async {
        let mut talk = plain.accept().await;
        talk.say_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("does not speak TLS here"), "{error}");
}
