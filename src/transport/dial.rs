//! Opening connections: the name is resolved anew each time, and every address is tried.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::clock;
use crate::error::{ErrorKind, millis};
use crate::model::Endpoint;
use crate::transport::tls::{Secured, Tls};

/// Why there is no connection. Where another library stands between, it travels through it and comes out as a cause.
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
pub(crate) struct Dialer {
    pub(crate) endpoint: Endpoint,
    pub(crate) tls: Option<Tls>,
    /// For everything together: resolving, connecting, TLS.
    pub(crate) connect_timeout: Duration,
}

impl Dialer {
    pub(crate) async fn dial(&self) -> Result<Io, ConnectFailure> {
        let opened = clock::timeout(self.connect_timeout, self.open()).await;
        opened.unwrap_or_else(|| {
            Err(ConnectFailure::unavailable(format!("no connection within {}", millis(self.connect_timeout))))
        })
    }

    async fn open(&self) -> Result<Io, ConnectFailure> {
        let host = self.endpoint.host();
        let found = resolve(host, self.endpoint.port()).await.map_err(|error| {
            ConnectFailure::unavailable(format!("the host name `{host}` cannot be resolved: {error}"))
        })?;
        let stream = self.first_that_answers(&found).await?;
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

/// The addresses that a name has now.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    #[cfg(all(test, feature = "embedded"))]
    if let Some(address) = played::address_of(host) {
        return Ok(vec![address]);
    }
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// An open connection.
#[derive(Debug)]
pub(crate) enum Io {
    Plain(TcpStream),
    Secured(Box<Secured>),
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Secured(io) => Pin::new(&mut **io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, bytes),
            Self::Secured(io) => Pin::new(&mut **io).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, slices),
            Self::Secured(io) => Pin::new(&mut **io).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Secured(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Secured(io) => Pin::new(&mut **io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Secured(io) => Pin::new(&mut **io).poll_shutdown(cx),
        }
    }
}

/// Names that are resolved as a test says; everybody else's are those of the system.
#[cfg(all(test, feature = "embedded"))]
pub(crate) mod played {
    use std::collections::HashMap;
    use std::net::SocketAddr;
    use std::sync::{Mutex, PoisonError};

    static NAMES: Mutex<Option<HashMap<String, SocketAddr>>> = Mutex::new(None);

    pub(crate) fn address_of(host: &str) -> Option<SocketAddr> {
        NAMES.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(host).copied()
    }

    /// From now on the name has this address.
    pub(crate) fn moves(host: &str, to: &str) {
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        names.get_or_insert_default().insert(host.into(), to.parse().expect("an address"));
    }
}
