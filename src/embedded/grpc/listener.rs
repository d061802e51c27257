//! The port of one proxy, and connections that can be cut.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_stream::stream;
use futures_core::Stream;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::Proxy;
use crate::clock;
use crate::embedded::tls::{Acceptor, Io, plaintext};
use crate::proto::messaging_service_server::MessagingServiceServer;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection, as requests see it.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionInfo {
    peer: SocketAddr,
    cut: CancellationToken,
}

impl ConnectionInfo {
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Cuts the connection: both directions fail at once.
    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }
}

/// A socket that fails when it is cut.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Io,
    info: ConnectionInfo,
    is_cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    fn new(stream: Io, peer: SocketAddr, cut: CancellationToken) -> Self {
        let is_cut = Box::pin(cut.clone().cancelled_owned());
        Self { stream, info: ConnectionInfo { peer, cut }, is_cut }
    }

    /// Fails when the connection is cut; else sees to it that this task hears of it.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        use std::future::Future;
        match self.is_cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionReset.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The connections of one proxy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections {
    /// The parent of the tokens of all that are open now.
    open: Arc<Mutex<CancellationToken>>,
}

impl Connections {
    /// Cuts all that are open now.
    pub(crate) fn cut(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        open.cancel();
    }

    fn token(&self) -> CancellationToken {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).child_token()
    }
}

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

async fn open(
    stream: TcpStream,
    peer: SocketAddr,
    cut: CancellationToken,
    tls: Option<Acceptor>,
) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let stream = match tls {
        None => plaintext(stream),
        Some(tls) => clock::timeout(HANDSHAKE, tls.accept(stream)).await.ok_or(io::ErrorKind::TimedOut)??,
    };
    Ok(Connection::new(stream, peer, cut))
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
