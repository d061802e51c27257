//! What lies between one process and the cluster: relays of its own, so that it can be cut off without a goodbye.

use std::net::SocketAddr;
use std::sync::Arc;

use rocketmq_stream::embedded::Broker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Everything passes; rises with each cut of what is connected.
    Open(u32),
    /// Everything is cut, and nobody is let in.
    Gone,
    /// Nothing passes any more, and the cluster does not notice.
    Silent,
}

/// Addresses in routes that are replaced by those of the relays. Both are as long.
type Names = Arc<Vec<(String, String)>>;

pub(crate) struct Wire {
    state: watch::Sender<State>,
    pub(crate) name_server: String,
    pub(crate) access_point: String,
    tasks: Vec<JoinHandle<()>>,
}

impl Wire {
    pub(crate) async fn to(broker: &Broker) -> Self {
        let state = watch::Sender::new(State::Open(0));
        let mut tasks = Vec::new();
        let mut names = Vec::new();
        for target in broker.broker_addresses() {
            let (address, task) = relay(target, Names::default(), &state).await;
            names.push((target.to_string(), address.to_string()));
            tasks.push(task);
        }
        let name_server: SocketAddr = broker.name_server().parse().unwrap();
        let (name_server, task) = relay(name_server, Arc::new(names), &state).await;
        tasks.push(task);
        let (access_point, task) = relay(broker.addresses()[0], Names::default(), &state).await;
        tasks.push(task);
        Self { state, name_server: name_server.to_string(), access_point: access_point.to_string(), tasks }
    }

    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| {
            if let State::Open(cuts) = state {
                *cuts += 1;
            }
        });
    }

    pub(crate) fn crash(&self, silent: bool) {
        self.state.send_replace(if silent { State::Silent } else { State::Gone });
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.send_replace(State::Gone);
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Listens, and passes on what comes. The port has five digits, as the cluster's have.
async fn relay(target: SocketAddr, names: Names, state: &watch::Sender<State>) -> (SocketAddr, JoinHandle<()>) {
    let listener = loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if listener.local_addr().unwrap().to_string().len() == target.to_string().len() {
            break listener;
        }
    };
    let address = listener.local_addr().unwrap();
    let state = state.subscribe();
    let task = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            if let State::Open(_) = *state.borrow() {
                tokio::spawn(pass(client, target, Arc::clone(&names), state.clone()));
            }
        }
    });
    (address, task)
}

async fn pass(client: TcpStream, target: SocketAddr, names: Names, mut state: watch::Receiver<State>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    state.mark_unchanged();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut forth = std::pin::pin!(bytes(from_client, to_server));
    let mut back = std::pin::pin!(async {
        if names.is_empty() {
            bytes(from_server, to_client).await
        } else {
            frames(from_server, to_client, &names).await
        }
    });
    tokio::select! {
        _ = state.changed() => {}
        _ = &mut forth => {}
        _ = &mut back => {}
    }
    if *state.borrow_and_update() == State::Silent {
        // Both halves are kept, and nobody reads or writes, until the wire is dropped.
        _ = state.changed().await;
    }
}

async fn bytes(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
    }
}

/// Frames of the remoting protocol, whose addresses are replaced.
async fn frames(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, names: &Names) -> std::io::Result<()> {
    loop {
        let length = from.read_u32().await?;
        let mut frame = vec![0; length as usize];
        from.read_exact(&mut frame).await?;
        for (name, other) in names.iter() {
            for at in 0..frame.len().saturating_sub(name.len() - 1) {
                if frame[at..].starts_with(name.as_bytes()) {
                    frame[at..at + name.len()].copy_from_slice(other.as_bytes());
                }
            }
        }
        to.write_u32(length).await?;
        to.write_all(&frame).await?;
    }
}
