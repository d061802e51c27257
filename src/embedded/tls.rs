//! TLS on the port of a proxy. As on Apache, the same port goes on speaking plaintext.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::error::{Error, Result};

/// The first byte of a TLS connection; HTTP/2 in plaintext begins with `P`.
const HANDSHAKE: u8 = 0x16;

/// Accepts TLS.
#[derive(Clone)]
pub(crate) struct Acceptor(TlsAcceptor);

impl Acceptor {
    pub(crate) fn new(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Self> {
        let wrong = |what: &str, error: &dyn fmt::Display| Error::config("tls", what, &error.to_string());
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(certificate_pem)
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| wrong("certificate", &error))?;
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| wrong("key", &error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(certificates, key))
            .map_err(|error| wrong("certificate and key", &error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Looks at the first byte, and shakes hands if the client wants to.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Io> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] == HANDSHAKE {
            return Ok(Io::Tls(Box::new(self.0.accept(stream).await?)));
        }
        Ok(Io::Plain(stream))
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

/// A connection in plaintext or in TLS.
#[derive(Debug)]
pub(crate) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Both kinds of stream are `Unpin`.
macro_rules! both {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut *$self {
            Io::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Io::Tls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        both!(self, stream => stream.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        both!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        both!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        both!(self, stream => stream.poll_shutdown(cx))
    }
}

pub(crate) fn plaintext(stream: TcpStream) -> Io {
    Io::Plain(stream)
}
