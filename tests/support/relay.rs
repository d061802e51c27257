//! A TCP relay in front of a server, whose connections can be cut, frozen and refused.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the relay does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    /// New connections are closed at once, old ones were cut.
    Closed,
    /// Bytes wait, in both directions.
    Frozen,
}

/// Listens on a loopback port of its own and passes everything on to the target.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Rises with each cut.
    cuts: watch::Sender<u64>,
    accepted: Arc<AtomicU64>,
    /// Each connection has one.
    connected: Arc<()>,
    task: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn to(target: &str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (mode, (cuts, _)) = (watch::Sender::new(Mode::Open), watch::channel(0));
        let (accepted, connected) = (Arc::new(AtomicU64::new(0)), Arc::new(()));
        let counts = (Arc::clone(&accepted), Arc::clone(&connected));
        let task = tokio::spawn(accept(listener, target.to_owned(), mode.subscribe(), cuts.subscribe(), counts));
        Ok(Self { address, mode, cuts, accepted, connected, task })
    }

    pub(crate) fn access_point(&self) -> String {
        self.address.to_string()
    }

    /// How many connections came so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many connections there are now.
    pub(crate) fn connected(&self) -> usize {
        Arc::strong_count(&self.connected) - 2 // its own, and that of who accepts
    }

    /// Cuts what is connected now; new connections are served.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts everything, and closes new connections at once.
    pub(crate) fn close(&self) {
        self.mode.send_replace(Mode::Closed);
        self.cut();
    }

    /// Lets no byte through any more; connections stay.
    pub(crate) fn freeze(&self) {
        self.mode.send_replace(Mode::Frozen);
    }

    /// Serves again.
    pub(crate) fn open(&self) {
        self.mode.send_replace(Mode::Open);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: String,
    mode: watch::Receiver<Mode>,
    cuts: watch::Receiver<u64>,
    (accepted, connected): (Arc<AtomicU64>, Arc<()>),
) {
    while let Ok((client, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::Relaxed);
        if *mode.borrow() == Mode::Closed {
            continue;
        }
        let (target, mode, mut cuts) = (target.clone(), mode.clone(), cuts.clone());
        let connection = Arc::clone(&connected);
        cuts.mark_unchanged();
        tokio::spawn(async move {
            let _connection = connection;
            let Ok(server) = TcpStream::connect(&target).await else { return };
            drop((client.set_nodelay(true), server.set_nodelay(true)));
            let (client, server) = (client.into_split(), server.into_split());
            tokio::select! {
                _ = cuts.changed() => {}
                () = pump(client.0, server.1, mode.clone()) => {}
                () = pump(server.0, client.1, mode) => {}
            }
        });
    }
}

async fn pump(
    from: tokio::net::tcp::OwnedReadHalf,
    to: tokio::net::tcp::OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        if mode.wait_for(|mode| *mode != Mode::Frozen).await.is_err() || from.readable().await.is_err() {
            return;
        }
        if *mode.borrow() == Mode::Frozen {
            continue;
        }
        match from.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if !write_all(&to, &buffer[..count]).await {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

async fn write_all(to: &tokio::net::tcp::OwnedWriteHalf, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        if to.writable().await.is_err() {
            return false;
        }
        match to.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
    true
}
