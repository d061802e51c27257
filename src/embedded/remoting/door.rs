//! A port that can be closed and opened again: a stopped broker refuses connections, and keeps its address.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// The door of one server.
#[derive(Debug)]
pub(crate) struct Door {
    address: SocketAddr,
    leaf: Mutex<Leaf>,
    /// Who waits for the next to get in: a listener that is dropped wakes nobody.
    waiting: Mutex<Option<Waker>>,
}

#[derive(Debug)]
enum Leaf {
    Open(TcpListener),
    /// Whoever connects is refused. The socket keeps the port from being given to others that want any free one.
    Shut(Option<TcpSocket>),
}

impl Door {
    /// Listens.
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let listener = bound(address)?.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Self { address, leaf: Mutex::new(Leaf::Open(listener)), waiting: Mutex::default() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn leaf(&self) -> MutexGuard<'_, Leaf> {
        self.leaf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nobody gets in. Shutting it twice does nothing.
    pub(crate) fn shut(&self) {
        let mut leaf = self.leaf();
        if matches!(*leaf, Leaf::Open(_)) {
            // The listener goes first: two sockets cannot have the port.
            *leaf = Leaf::Shut(None);
            *leaf = Leaf::Shut(bound(self.address).ok());
        }
    }

    /// Listens again, on the old port.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let mut leaf = self.leaf();
        let Leaf::Shut(kept) = &mut *leaf else { return Ok(()) };
        let socket = kept.take().map_or_else(|| bound(self.address), Ok)?;
        *leaf = Leaf::Open(socket.listen(BACKLOG)?);
        drop(leaf);
        self.waiting().take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// The next who gets in.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        // First, so that a door that is opened meanwhile wakes us.
        *self.waiting() = Some(cx.waker().clone());
        match &*self.leaf() {
            Leaf::Open(listener) => Poll::Ready(ready!(listener.poll_accept(cx))),
            Leaf::Shut(_) => Poll::Pending,
        }
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    const SOON: Duration = Duration::from_secs(5);

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    async fn accepted(door: &Door) -> bool {
        clock::timeout(SOON, door.accept()).await.is_some_and(|accepted| accepted.is_ok())
    }

    #[tokio::test]
    async fn a_door_that_was_shut_refuses_and_opens_again_on_its_port() {
        let door = Door::open("127.0.0.1:0".parse().unwrap()).unwrap();
        let _first = TcpStream::connect(door.address()).await.unwrap();
        assert!(accepted(&door).await);
        door.shut();
        door.shut();
        assert!(TcpStream::connect(door.address()).await.is_err());
        let entering = accepted(&door);
        let coming = async {
            door.reopen().unwrap();
            door.reopen().unwrap();
            TcpStream::connect(door.address()).await.unwrap()
        };
        let (entered, _second) = tokio::join!(entering, coming);
        assert!(entered);
    }

    /// Nothing else wakes the one who waits: not a connection that is cut, and no timer.
    #[tokio::test]
    async fn who_waits_at_a_door_that_is_shut_and_opened_meanwhile_is_woken() {
        let door = Door::open("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut entering = std::pin::pin!(door.accept());
        let woken = std::sync::Arc::new(Woken::default());
        let waker = Waker::from(std::sync::Arc::clone(&woken));
        assert!(entering.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        door.shut();
        door.reopen().unwrap();
        assert!(woken.0.load(std::sync::atomic::Ordering::Relaxed));
        let _guest = TcpStream::connect(door.address()).await.unwrap();
        assert!(clock::timeout(SOON, entering).await.is_some());
    }

    #[tokio::test]
    async fn a_door_whose_port_was_taken_meanwhile_says_so_and_opens_later() {
        let door = Door::open("127.0.0.1:0".parse().unwrap()).unwrap();
        door.shut();
        let other = Door::open(door.address()).unwrap();
        assert!(door.reopen().is_err());
        drop(other);
        door.reopen().unwrap();
        assert!(Door::open(door.address()).is_err());
    }
}
