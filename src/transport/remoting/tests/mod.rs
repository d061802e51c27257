//! The wire against a peer that does what each test says.

mod connection;
mod peer;
mod presence;
#[cfg(feature = "tls")]
mod tls;
mod wire;

use std::time::Duration;

use crate::clock;
use crate::error::Result;

use peer::Peer;

/// Nothing here waits for longer than a loaded machine needs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    clock::timeout(Duration::from_secs(20), future).await.expect("it should have been done by now")
}

const DEADLINE: Duration = Duration::from_secs(10);
