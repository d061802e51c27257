//! One connection: frames come in, are worked on side by side, and answers go out as they are ready.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;

use super::{Server, dispatch};
use crate::embedded::engine::members::ConnectionId;
use crate::embedded::socket::{Connection, ConnectionInfo};
use crate::transport::remoting::command::{Command, Kind};
use crate::transport::remoting::frame::{Frame, HeaderForm, Intake};

/// Commands that wait to be written. Answers wait for room; notices to a client that does not read are dropped.
const OUTBOX: usize = 1024;

/// Requests of one connection that are worked on at once, parked pulls among them; more wait in the socket.
const IN_FLIGHT: usize = 4096;

/// Who sends a request.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) id: ConnectionId,
    pub(super) address: SocketAddr,
    connection: ConnectionInfo,
}

impl Caller {
    /// Cuts the connection.
    pub(super) fn cut(&self) {
        self.connection.cut();
    }
}

/// Says goodbye for the connection, however it ends.
struct Farewell<'a> {
    server: &'a Server,
    id: ConnectionId,
}

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        self.server.left(self.id);
    }
}

/// Serves a connection until either side ends it.
pub(super) async fn serve(server: Arc<Server>, stream: Connection, id: ConnectionId) {
    let connection = stream.info();
    let caller = Arc::new(Caller { id, address: connection.peer(), connection });
    let (input, output) = split(stream);
    let (outbox, outgoing) = mpsc::channel(OUTBOX);
    server.peers.join(id, outbox.clone());
    let _farewell = Farewell { server: &server, id };
    let ended = tokio::select! {
        read = read(&server, &caller, input, outbox) => read,
        written = write(output, outgoing) => written,
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %caller.address, %error, "a remoting connection ended");
    }
}

async fn read(
    server: &Arc<Server>,
    caller: &Arc<Caller>,
    mut input: ReadHalf<Connection>,
    outbox: mpsc::Sender<Command>,
) -> io::Result<()> {
    let mut intake = Intake::default();
    let mut working = FuturesUnordered::new();
    loop {
        tokio::select! {
            read = input.read_buf(intake.room()), if working.len() < IN_FLIGHT => {
                if read? == 0 {
                    return intake.end().map_err(invalid);
                }
                while let Some(frame) = intake.next().map_err(invalid)? {
                    working.push(work(server, caller, frame));
                }
            }
            Some(answer) = working.next() => {
                let Some(answer) = answer else { continue };
                if outbox.send(answer).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What becomes of one frame. `None`: nothing is to be sent.
async fn work(server: &Arc<Server>, caller: &Arc<Caller>, frame: Frame) -> Option<Command> {
    match Command::decode(frame) {
        Ok(answer) if answer.kind == Kind::Answer => {
            server.peers.answered(caller.id, answer);
            None
        }
        Ok(request) => dispatch::answer(server, caller, request).await,
        Err(error) => {
            tracing::debug!(peer = %caller.address, %error, "a command that cannot be read");
            None
        }
    }
}

async fn write(mut output: WriteHalf<Connection>, mut outgoing: mpsc::Receiver<Command>) -> io::Result<()> {
    let mut head = BytesMut::new();
    while let Some(command) = outgoing.recv().await {
        head.clear();
        command.encode_head(HeaderForm::Json, &mut head).map_err(invalid)?;
        output.write_all(&head).await?;
        output.write_all(&command.body).await?;
        output.flush().await?;
    }
    Ok(())
}
