//! What stands in for TLS in a build without the feature `tls`: plaintext only.

use std::io;

use tokio::net::TcpStream;

pub(crate) type Io = TcpStream;

/// There is none.
#[derive(Debug, Clone)]
pub(crate) enum Acceptor {}

impl Acceptor {
    pub(crate) async fn accept(&self, _stream: TcpStream) -> io::Result<Io> {
        match *self {}
    }
}

pub(crate) fn plaintext(stream: TcpStream) -> Io {
    stream
}
