//! The port of one proxy.

use std::io;
use std::time::Duration;

use async_stream::stream;
use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpListener;
use tonic::transport::Server;

use super::Proxy;
use crate::clock;
use crate::embedded::socket::{Connection, Connections, open};
use crate::embedded::tls::Acceptor;
use crate::proto::messaging_service_server::MessagingServiceServer;

/// Accepts until it is dropped. A slow handshake holds nobody up.
fn incoming(
    listener: TcpListener,
    connections: Connections,
    tls: Option<Acceptor>,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    stream! {
        let mut opening = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => opening.push(open(stream, peer, connections.token(), tls.clone())),
                    Err(error) => {
                        // A client that went away before it was accepted, or no file descriptor left for a while.
                        tracing::debug!(%error, "accepting a connection failed");
                        clock::sleep(Duration::from_millis(10)).await;
                    }
                },
                Some(opened) = opening.next() => match opened {
                    Ok(connection) => yield Ok(connection),
                    Err(error) => tracing::debug!(%error, "opening a connection failed"),
                },
            }
        }
    }
}

/// Serves one proxy until it is dropped. What was accepted lives on until it is cut.
pub(crate) async fn serve(proxy: Proxy, listener: TcpListener, connections: Connections) {
    const WINDOW: u32 = 4 << 20;
    let limit = proxy.cluster.config.limits.max_frame_size;
    let tls = proxy.cluster.config.tls.clone();
    let service = MessagingServiceServer::new(proxy).max_decoding_message_size(limit);
    let server = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .add_service(service)
        .serve_with_incoming(incoming(listener, connections, tls));
    if let Err(error) = server.await {
        tracing::error!(%error, "the embedded broker's server ended");
    }
}
