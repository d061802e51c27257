//! A server of the test's own.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::model::Endpoint;
use crate::task::TaskGroup;
use crate::transport::dial::Dialer;
use crate::transport::remoting::command::{Command, Kind, Payload};
use crate::transport::remoting::frame::{HeaderForm, Intake};

pub(super) struct Peer {
    listener: TcpListener,
    pub(super) at: Endpoint,
}

impl Peer {
    pub(super) async fn new() -> Self {
        Self::at_port(0).await
    }

    pub(super) async fn at_port(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let at = Endpoint::new("127.0.0.1", listener.local_addr().unwrap().port());
        Self { listener, at }
    }

    pub(super) fn dialer(&self) -> Dialer {
        Dialer { endpoint: self.at.clone(), tls: None, connect_timeout: DEADLINE }
    }

    /// Answers every request on every connection, one connection after the other.
    pub(super) fn serve(
        self,
        tasks: &TaskGroup,
        mut answer: impl FnMut(&Command) -> Command + Send + 'static,
    ) -> Endpoint {
        let at = self.at.clone();
        tasks.spawn("peer", async move {
            loop {
                let Ok((io, _)) = self.listener.accept().await else { return };
                let mut talk = Talk::over(io);
                while let Some(request) = talk.hear().await {
                    let answer = answer(&request);
                    talk.say(answer).await;
                }
            }
        });
        at
    }

    pub(super) async fn accept(&self) -> Talk {
        Talk::over(soon(self.listener.accept()).await.unwrap().0)
    }
}

/// One connection, from the server's side.
pub(super) struct Talk<IO = TcpStream> {
    io: IO,
    intake: Intake,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Talk<IO> {
    pub(super) fn over(io: IO) -> Self {
        Self { io, intake: Intake::default() }
    }

    /// The next command; `None` when the client hung up. Waits for ever.
    pub(super) async fn hear(&mut self) -> Option<Command> {
        loop {
            if let Some(frame) = self.intake.next().expect("the client writes frames") {
                return Some(Command::decode(frame).expect("the client writes headers"));
            }
            match self.io.read_buf(self.intake.room()).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next request, which must be of this code.
    pub(super) async fn expect(&mut self, code: i32) -> Command {
        let request = soon(self.hear()).await.expect("a request");
        assert_eq!((request.code, request.kind), (code, Kind::Request), "{request:?}");
        request
    }

    pub(super) async fn say(&mut self, command: Command) {
        let mut bytes = BytesMut::new();
        command.encode_head(HeaderForm::Json, &mut bytes).unwrap();
        bytes.extend_from_slice(&command.body);
        self.say_bytes(&bytes).await;
    }

    pub(super) async fn say_bytes(&mut self, bytes: &[u8]) {
        soon(self.io.write_all(bytes)).await.unwrap();
    }

    pub(super) async fn answer(&mut self, request: &Command, payload: &impl Payload) {
        self.say(request.answer(payload)).await;
    }
}
