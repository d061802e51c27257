//! TLS at name server, broker and proxy, by a certificate of an authority that only its users trust.

use futures::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rocketmq_stream::{Client, Error, ErrorKind, Filter, PullConsumerBuilder, StartFrom, StopAt};

use crate::cluster_sh;
use crate::server::{STORED, Server};
use crate::support::{Calm, PATIENCE, numbered, secs, sorted, text, within};

fn pulling(client: &Client, server: &Server) -> PullConsumerBuilder {
    let builder = client.pull_consumer(server.group("over-tls")).subscribe(&server.topic, Filter::all()).share(0, 1);
    builder.start_from(StartFrom::Earliest).until(StopAt::Now).build_timeout(secs(60))
}

/// Everything from name server and broker, and one message from the proxy.
async fn reads(client: &Client, server: &Server) {
    server.filled().await;
    let mut consumer = within(PATIENCE, "build", pulling(client, server).build()).await.expect("build");
    let mut bodies = Vec::new();
    while let Some(batch) = within(PATIENCE, "the next batch", consumer.try_next()).await.expect("a batch") {
        bodies.extend(batch.messages().iter().map(|message| text(message).to_owned()));
    }
    assert_eq!(sorted(bodies), sorted(numbered(STORED)));
}

/// What pulling and receiving say of the server's certificate.
async fn refusals(client: &Client, server: &Server) -> [Error; 2] {
    let pull = within(secs(8), "pull", pulling(client, server).build()).await;
    let receive = client.simple_consumer(server.group("receivers-over-tls")).subscribe(&server.topic, Filter::all());
    let receive = within(secs(8), "receive", receive.build_timeout(secs(60)).build()).await;
    [pull.map(drop).expect_err("not to be trusted"), receive.map(drop).expect_err("not to be trusted")]
}

#[tokio::test]
async fn with_the_servers_own_authority_everything_is_read_over_tls() {
    let _calm = Calm::default();
    let Some(server) = Server::from_env() else { return };
    reads(&server.tls_client(|client| client.ca_certificate(server.authority.clone())), server).await;
    let file = cluster_sh::variable("TLS_CA");
    let client = server.tls_client(|client| client.ca_certificate_file(file));
    reads(&client, server).await;
}

#[tokio::test]
async fn an_authority_that_did_not_sign_the_certificate_is_named_as_the_reason_at_once() {
    let _calm = Calm::default();
    let Some(server) = Server::from_env() else { return };
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let other = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").pem();
    for client in [server.tls_client(|client| client.ca_certificate(other)), server.tls_client(|client| client)] {
        for error in refusals(&client, server).await {
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            for part in ["the certificate of localhost is refused", "ca_certificate_file"] {
                assert!(error.to_string().contains(part), "`{part}` is not in: {error}");
            }
        }
    }
}
