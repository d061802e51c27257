//! Connections for tonic, which notice what the other side speaks.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_service::Service;

use crate::transport::dial::{ConnectFailure, Dialer, Io};
use crate::transport::grpc::peer::{ENOUGH, Peer, Phase, first_words};

/// Opens connections to one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    pub(crate) dialer: Dialer,
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
        let io = self.dialer.dial().await?;
        self.peer.set(Phase::Silent);
        Ok(Stream { io, heard: Heard { peer: self.peer, bytes: [0; ENOUGH], len: 0, is_settled: false } })
    }
}

/// A connection that notices what the other side speaks.
#[derive(Debug)]
pub(crate) struct Stream {
    io: Io,
    heard: Heard,
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
    fn io(self: Pin<&mut Self>) -> Pin<&mut Io> {
        Pin::new(&mut self.get_mut().io)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        Poll::Ready(this.heard.listen(&buf.filled()[before..]))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }
}
