//! What is on the other side of a connection, as far as its first bytes tell.
//!
//! An HTTP/2 stack reports "frame with invalid size" when it meets an HTTP/1 server or a TLS port, and its errors carry no
//! cause that could be asked. So the connection looks itself, and the error can say what to change.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::ErrorKind;

/// What is known of the connection to an endpoint. One per channel; a reconnect overwrites it.
#[derive(Debug, Default)]
pub(crate) struct Peer(AtomicU8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Not tried yet.
    Idle,
    /// Resolving, connecting or shaking hands.
    Connecting,
    /// Connected, and nothing heard yet.
    Silent,
    /// It speaks HTTP/2, as it should.
    Http2,
    /// It answered in HTTP/1.
    Http1,
    /// It answered with a TLS record although this side spoke plaintext.
    Tls,
    /// It answered something else.
    Foreign,
}

impl Peer {
    pub(crate) fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    pub(crate) fn phase(&self) -> Phase {
        const ALL: [Phase; 7] =
            [Phase::Idle, Phase::Connecting, Phase::Silent, Phase::Http2, Phase::Http1, Phase::Tls, Phase::Foreign];
        ALL.get(usize::from(self.0.load(Ordering::Relaxed))).copied().unwrap_or(Phase::Foreign)
    }
}

impl Phase {
    /// Whether this is not a server for gRPC: what to tell the user, and how final it is.
    pub(crate) const fn objection(self) -> Option<(ErrorKind, &'static str)> {
        match self {
            Self::Idle | Self::Connecting | Self::Silent | Self::Http2 => None,
            Self::Http1 => Some((
                ErrorKind::Protocol,
                "the server answers in HTTP/1, not in HTTP/2: is this the gRPC port of the proxy (8081 by default)?",
            )),
            Self::Tls => Some((
                ErrorKind::Protocol,
                "the server answers with TLS: write `https://host:port` as the access point",
            )),
            Self::Foreign => Some((
                ErrorKind::Protocol,
                "the server does not speak HTTP/2: is this the gRPC port of the proxy (8081 by default), \
                 and not that of a broker or name server?",
            )),
        }
    }
}

/// How many bytes settle it: the header of an HTTP/2 frame.
pub(crate) const ENOUGH: usize = 9;

/// What speaks so; `None` while that is open. An HTTP/2 server begins with a SETTINGS frame (RFC 9113, 3.4).
pub(crate) fn first_words(bytes: &[u8]) -> Option<Phase> {
    match bytes {
        [b'H', b'T', b'T', b'P', b'/', ..] => Some(Phase::Http1),
        // A record of type alert or handshake, version 3.x.
        [0x15 | 0x16, 3, ..] => Some(Phase::Tls),
        [_, _, length, kind, flags, stream @ ..] if stream.len() >= 4 => {
            let is_settings = *kind == 4 && flags & 1 == 0 && stream[..4] == [0; 4] && length % 6 == 0;
            Some(if is_settings { Phase::Http2 } else { Phase::Foreign })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_known_by_its_first_bytes() {
        for (bytes, expected) in [
            (&[0, 0, 0, 4, 0, 0, 0, 0, 0][..], Some(Phase::Http2)),
            (&[0, 0, 18, 4, 0, 0, 0, 0, 0, 9, 9], Some(Phase::Http2)),
            (&[0, 0, 0, 4, 1, 0, 0, 0, 0], Some(Phase::Foreign)),
            (&[0, 0, 8, 6, 0, 0, 0, 0, 0], Some(Phase::Foreign)),
            (b"HTTP/1.1 400 Bad Request", Some(Phase::Http1)),
            (b"HTTP/", Some(Phase::Http1)),
            (&[0x15, 3, 3, 0, 2], Some(Phase::Tls)),
            (b"220 smtp.example.org", Some(Phase::Foreign)),
            (b"HTTP", None),
            (&[0, 0, 0, 4], None),
            (b"", None),
        ] {
            assert_eq!(first_words(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_phase_comes_back() {
        let peer = Peer::default();
        assert_eq!(peer.phase(), Phase::Idle);
        for phase in [Phase::Connecting, Phase::Silent, Phase::Http2, Phase::Http1, Phase::Tls, Phase::Foreign] {
            peer.set(phase);
            assert_eq!(peer.phase(), phase);
        }
    }
}
