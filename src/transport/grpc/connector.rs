//! Opening connections: the name is resolved anew each time, and every address is tried.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::clock;
use crate::error::{ErrorKind, millis};
use crate::model::Endpoint;
use crate::transport::grpc::peer::{ENOUGH, Peer, Phase, first_words};
use crate::transport::grpc::tls::{Secured, Tls};

/// Why there is no connection. It travels through tonic and comes out as the cause of a status.
#[derive(Debug)]
pub(crate) struct ConnectFailure {
    pub(crate) kind: ErrorKind,
    pub(crate) text: String,
}

impl ConnectFailure {
    pub(crate) const fn new(kind: ErrorKind, text: String) -> Self {
        Self { kind, text }
    }

    fn unavailable(text: String) -> Self {
        Self::new(ErrorKind::Unavailable, text)
    }
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ConnectFailure {}

/// Opens connections to one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    pub(crate) endpoint: Endpoint,
    pub(crate) tls: Option<Tls>,
    /// For everything together: resolving, connecting, TLS.
    pub(crate) connect_timeout: Duration,
    pub(crate) peer: Arc<Peer>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectFailure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectFailure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}

impl Connector {
    async fn connect(self) -> Result<Stream, ConnectFailure> {
        self.peer.set(Phase::Connecting);
        let opened = clock::timeout(self.connect_timeout, self.open()).await;
        let io = opened.unwrap_or_else(|| {
            Err(ConnectFailure::unavailable(format!("no connection within {}", millis(self.connect_timeout))))
        })?;
        self.peer.set(Phase::Silent);
        Ok(Stream { io, heard: Heard { peer: self.peer, bytes: [0; ENOUGH], len: 0, is_settled: false } })
    }

    async fn open(&self) -> Result<Io, ConnectFailure> {
        let host = self.endpoint.host();
        let found = tokio::net::lookup_host((host, self.endpoint.port())).await.map_err(|error| {
            ConnectFailure::unavailable(format!("the host name `{host}` cannot be resolved: {error}"))
        })?;
        let stream = self.first_that_answers(&found.collect::<Vec<_>>()).await?;
        // Requests are small and wait for their answers: never hold one back to fill a packet.
        stream.set_nodelay(true).map_err(|error| ConnectFailure::unavailable(error.to_string()))?;
        match &self.tls {
            None => Ok(Io::Plain(stream)),
            Some(tls) => Ok(Io::Secured(Box::new(tls.handshake(host, stream).await?))),
        }
    }

    /// Each address gets an equal share of the time that is left, so that a first one that swallows packets does not keep
    /// the others from being tried.
    async fn first_that_answers(&self, addresses: &[SocketAddr]) -> Result<TcpStream, ConnectFailure> {
        let end = clock::now() + self.connect_timeout;
        let mut tried = String::new();
        for (at, address) in addresses.iter().enumerate() {
            let left = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
            let share = end.saturating_duration_since(clock::now()) / left;
            let why = match clock::timeout(share, TcpStream::connect(address)).await {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => error.to_string(),
                None => format!("no answer within {}", millis(share)),
            };
            if !tried.is_empty() {
                tried.push_str("; ");
            }
            tried.push_str(&format!("{address}: {why}"));
        }
        if tried.is_empty() {
            tried = format!("the host name `{}` has no address", self.endpoint.host());
        }
        Err(ConnectFailure::unavailable(format!("cannot connect ({tried})")))
    }
}

/// A connection that notices what the other side speaks.
#[derive(Debug)]
pub(crate) struct Stream {
    io: Io,
    heard: Heard,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Secured(Box<Secured>),
}

/// The first bytes of the other side.
#[derive(Debug)]
struct Heard {
    peer: Arc<Peer>,
    bytes: [u8; ENOUGH],
    len: usize,
    is_settled: bool,
}

impl Heard {
    fn listen(&mut self, new: &[u8]) -> io::Result<()> {
        if self.is_settled {
            return Ok(());
        }
        let taken = new.len().min(ENOUGH - self.len);
        self.bytes[self.len..self.len + taken].copy_from_slice(&new[..taken]);
        self.len += taken;
        let ended_early = new.is_empty() && self.len > 0;
        let phase = if ended_early { Some(Phase::Foreign) } else { first_words(&self.bytes[..self.len]) };
        let Some(phase) = phase else { return Ok(()) };
        self.is_settled = true;
        self.peer.set(phase);
        match phase.objection() {
            None => Ok(()),
            Some((_, text)) => Err(io::Error::new(io::ErrorKind::InvalidData, text)),
        }
    }
}

impl Stream {
    fn io(self: Pin<&mut Self>) -> &mut Io {
        &mut self.get_mut().io
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        std::task::ready!(match &mut this.io {
            Io::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Io::Secured(io) => Pin::new(&mut **io).poll_read(cx, buf),
        })?;
        Poll::Ready(this.heard.listen(&buf.filled()[before..]))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.io() {
            Io::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Io::Secured(io) => Pin::new(&mut **io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.io() {
            Io::Plain(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Io::Secured(io) => Pin::new(&mut **io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Secured(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.io() {
            Io::Plain(io) => Pin::new(io).poll_flush(cx),
            Io::Secured(io) => Pin::new(&mut **io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.io() {
            Io::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Io::Secured(io) => Pin::new(&mut **io).poll_shutdown(cx),
        }
    }
}
