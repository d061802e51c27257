//! Connections that can be cut.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::tls::{Acceptor, Io, plaintext};
use crate::clock;

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

    pub(crate) fn info(&self) -> ConnectionInfo {
        self.info.clone()
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

/// The connections of one port.
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

    pub(crate) fn token(&self) -> CancellationToken {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).child_token()
    }
}

/// Makes an accepted stream a connection: shakes hands if TLS is wanted.
pub(crate) async fn open(
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
