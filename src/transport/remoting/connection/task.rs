//! The task of one connection: dials, then reads and writes until one of both ends.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::transport::dial::{Dialer, Io};
use crate::transport::remoting::command::Command;
use crate::transport::remoting::connection::{Outgoing, Phase, Shared, not_connected};
use crate::transport::remoting::frame::{FrameError, Intake};

/// Frames that wait are written together, so many at once.
const TOGETHER: usize = 64;
/// A longer body is written from where it is, rather than copied behind its head.
const SHORT: usize = 4 << 10;

/// Tells all who wait that it is over, however the task ends, also if it never began.
pub(super) struct Lifeline(pub(super) Arc<Shared>);

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.0.poison(Error::closed("client"));
    }
}

pub(super) async fn run(life: Lifeline, dialer: Dialer, mut queue: mpsc::Receiver<Outgoing>, stop: CancellationToken) {
    let shared = &*life.0;
    let lived = async {
        let io = dialer.dial().await.map_err(|failure| not_connected(failure.kind, failure.text))?;
        shared.phase.send_replace(Phase::Open);
        talk(shared, io, &mut queue).await
    };
    let end = tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        end = lived => end,
    };
    if let Err(error) = end {
        tracing::debug!(endpoint = %shared.at, %error, "connection lost");
        shared.poison(error);
    }
}

async fn talk(shared: &Shared, io: Io, queue: &mut mpsc::Receiver<Outgoing>) -> Result<()> {
    let (reading, writing) = tokio::io::split(io);
    tokio::select! {
        end = read(shared, reading) => end,
        end = write(writing, queue) => end,
    }
}

async fn read(shared: &Shared, mut io: impl AsyncRead + Unpin) -> Result<()> {
    let mut intake = Intake::default();
    loop {
        if io.read_buf(intake.room()).await.map_err(lost)? == 0 {
            intake.end().map_err(nonsense)?;
            return Err(Error::new(ErrorKind::Unavailable, "the server closed the connection"));
        }
        while let Some(frame) = intake.next().map_err(nonsense)? {
            shared.dispatch(Command::decode(frame)?);
        }
    }
}

async fn write(mut io: impl AsyncWrite + Unpin, queue: &mut mpsc::Receiver<Outgoing>) -> Result<()> {
    let (mut together, mut bytes) = (Vec::with_capacity(TOGETHER), BytesMut::new());
    while queue.recv_many(&mut together, TOGETHER).await > 0 {
        for Outgoing { head, body } in together.drain(..) {
            bytes.extend_from_slice(&head);
            if body.len() <= SHORT {
                bytes.extend_from_slice(&body);
            } else {
                io.write_all_buf(&mut bytes).await.map_err(lost)?;
                io.write_all(&body).await.map_err(lost)?;
            }
        }
        io.write_all_buf(&mut bytes).await.map_err(lost)?;
        io.flush().await.map_err(lost)?;
    }
    Ok(())
}

fn lost(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the connection was lost: {error}")).with_source(error)
}

/// A connection that ends within a frame is one that was lost, and no nonsense.
fn nonsense(error: FrameError) -> Error {
    let kind = match error {
        FrameError::Truncated { .. } => ErrorKind::Unavailable,
        _ => ErrorKind::Protocol,
    };
    Error::new(kind, error.to_string()).with_source(error)
}
