//! One endpoint: the task that keeps this client registered there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{Notify, mpsc, watch};

use crate::clock;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{ClientSettings, Endpoint, ServerSettings};
use crate::retry::Backoff;
use crate::session::choice::Reach;
use crate::transport::{ClientReply, GroupRequest, PresenceLink, ServerCommand, Wire};

/// As the official clients: the server forgets after 120 s of silence.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// As the official Java client: a server's configuration may have changed.
const RESYNC: Duration = Duration::from_secs(300);
/// The first answer to the settings; the official clients wait 3 s beside the request's own time.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Reading must resume within 10 s of a server's return: waits stay well below.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(4));

/// Where an endpoint stands.
#[derive(Debug, Clone)]
pub(crate) enum LinkState {
    /// The first handshake is under way.
    Connecting,
    /// Settings were sent and answered; which of the session's handshakes this was.
    Ready(u64),
    /// It does not answer; connecting goes on.
    Lost(Error),
    /// It answered that it will not serve this client; tried again slowly, since credentials and rights may change.
    Refused(Error),
}

impl LinkState {
    pub(crate) const fn reach(&self) -> Reach {
        match self {
            Self::Connecting => Reach::Untried,
            Self::Ready(_) => Reach::Ready,
            Self::Lost(_) | Self::Refused(_) => Reach::Lost,
        }
    }
}

/// A link whose server knows this client.
struct Registered {
    link: PresenceLink,
    /// What this client is. As the server knows it until something changes, while hands are shaken too.
    wanted: watch::Receiver<ClientSettings>,
}

type Replies = mpsc::Sender<ClientReply>;

/// What all links of a session share.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) wire: Arc<dyn Wire>,
    pub(crate) client: watch::Sender<ClientSettings>,
    pub(crate) server: watch::Sender<ServerSettings>,
    /// Ticks when a link or a route changed.
    pub(crate) changes: watch::Sender<u64>,
    /// Ticks when the members of the group may have changed.
    pub(crate) members: watch::Sender<u64>,
    /// How many handshakes were answered, at all endpoints together.
    pub(crate) handshakes: AtomicU64,
    /// Who answers what brokers ask of a consumer.
    pub(crate) requests: Option<mpsc::Sender<GroupRequest>>,
}

impl Common {
    pub(crate) fn tick(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn members_changed(&self) {
        self.members.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Refused when there is nobody, or when too much is asked at once: an administrator asks again.
    fn ask(&self, request: GroupRequest) {
        let refused = match &self.requests {
            Some(requests) => requests.try_send(request).err().map(|error| error.to_string()),
            None => Some("this client answers no such requests".to_owned()),
        };
        if let Some(why) = refused {
            tracing::debug!(why, "a request of a broker is refused");
        }
    }
}

/// The task of one endpoint.
pub(crate) struct Link {
    pub(crate) at: Endpoint,
    pub(crate) common: Arc<Common>,
    pub(crate) state: watch::Sender<LinkState>,
    /// Somebody saw this endpoint fail: look now.
    pub(crate) kick: Arc<Notify>,
}

impl Link {
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::new(RECONNECT.0, RECONNECT.1);
        loop {
            let error = match self.shake_hands().await {
                Ok(registered) => {
                    if backoff.attempts() > 1 {
                        tracing::info!(endpoint = %self.at, failures = backoff.attempts(), "answers again");
                    }
                    backoff.reset();
                    let handshake = self.common.handshakes.fetch_add(1, Ordering::Relaxed);
                    self.set(LinkState::Ready(handshake));
                    self.common.members_changed();
                    self.keep(registered).await
                }
                Err(error) => error,
            };
            if backoff.attempts() == 0 {
                // Once per outage; the count comes with the recovery.
                tracing::warn!(endpoint = %self.at, error = %error, "connection lost, reconnecting");
            }
            self.common.wire.forget(&self.at);
            let refused = !error.kind().is_transient();
            self.set(if refused { LinkState::Refused(error) } else { LinkState::Lost(error) });
            clock::sleep(backoff.next(fastrand::f64())).await;
        }
    }

    fn set(&self, state: LinkState) {
        self.state.send_replace(state);
        self.common.tick();
    }

    /// Makes this client known, and waits for the server's answer.
    async fn shake_hands(&self) -> Result<Registered> {
        let late = || {
            Error::new(ErrorKind::Timeout, format!("no answer to the settings within {HANDSHAKE:?}"))
                .during(Operation::Handshake)
                .at(&self.at)
        };
        let mut wanted = self.common.client.subscribe();
        let settings = wanted.borrow_and_update().clone();
        let shake = async {
            let mut link = self.common.wire.open(&self.at, &settings).await?;
            loop {
                match link.commands.next().await {
                    Some(Ok(ServerCommand::Settings(answer))) => {
                        self.common.server.send_replace(answer);
                        return Ok(Registered { link, wanted });
                    }
                    Some(Ok(command)) => self.obey(command, &link.replies).await?,
                    Some(Err(error)) => return Err(error),
                    None => return Err(ended(&self.at)),
                }
            }
        };
        clock::timeout(HANDSHAKE, shake).await.unwrap_or_else(|| Err(late()))
    }

    /// Keeps the registration until the connection is lost; returns why.
    async fn keep(&self, Registered { mut link, mut wanted }: Registered) -> Error {
        let mut beat = clock::interval(HEARTBEAT);
        let mut resync = clock::interval(RESYNC);
        let mut missed = 0;
        loop {
            let step = tokio::select! {
                command = link.commands.next() => match command {
                    Some(Ok(command)) => self.obey(command, &link.replies).await,
                    Some(Err(error)) => Err(error),
                    None => Err(ended(&self.at)),
                },
                Ok(()) = wanted.changed() => self.tell(&link.replies).await,
                _ = resync.tick() => self.tell(&link.replies).await,
                _ = beat.tick() => self.beat(&link.replies, &mut missed).await,
                () = self.kick.notified() => self.beat(&link.replies, &mut missed).await,
            };
            if let Err(error) = step {
                return error;
            }
        }
    }

    /// A heartbeat. One that gets no answer may be chance; two in a row, or a refused connection, is a lost server.
    async fn beat(&self, replies: &Replies, missed: &mut u32) -> Result<()> {
        let settings = self.common.client.borrow().clone();
        match self.common.wire.heartbeat(&self.at, &settings).await {
            Ok(()) => *missed = 0,
            Err(error) if error.server_code() == Some(UNRECOGNIZED_CLIENT_TYPE) => return self.tell(replies).await,
            Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
            Err(error) if error.kind() == ErrorKind::Timeout => {
                *missed += 1;
                if *missed > 1 {
                    return Err(error);
                }
            }
            Err(error) => tracing::debug!(endpoint = %self.at, error = %error, "heartbeat failed"),
        }
        Ok(())
    }

    /// Writes the settings again: after a change, and when the server has forgotten them.
    async fn tell(&self, replies: &Replies) -> Result<()> {
        let settings = self.common.client.borrow().clone();
        replies.send(ClientReply::Settings(settings)).await.map_err(|_| ended(&self.at))
    }

    async fn obey(&self, command: ServerCommand, replies: &Replies) -> Result<()> {
        let reply = match command {
            ServerCommand::Settings(answer) => {
                if *self.common.server.borrow() != answer {
                    self.common.server.send_replace(answer);
                }
                // It knows us now as what we have become; a proxy tells nobody else of it.
                self.common.members_changed();
                return Ok(());
            }
            ServerCommand::Refused(error) => return Err(error),
            ServerCommand::Reconnect => {
                return Err(Error::new(ErrorKind::Unavailable, "the server asked to reconnect").at(&self.at));
            }
            ServerCommand::PrintThreads { nonce } => {
                let text = format!("rocketmq-stream {}: tasks, not threads", env!("CARGO_PKG_VERSION"));
                ClientReply::Threads { nonce, text }
            }
            ServerCommand::VerifyMessage { nonce } => ClientReply::CannotVerify { nonce },
            ServerCommand::CheckTransaction { message, transaction_id } => {
                tracing::debug!(endpoint = %self.at, id = message.id(), transaction_id, "a transaction check came to a client without a checker");
                return Ok(());
            }
            ServerCommand::MembersChanged => {
                self.common.members_changed();
                return Ok(());
            }
            ServerCommand::Ask(request) => {
                self.common.ask(request);
                return Ok(());
            }
            ServerCommand::Unknown => return Ok(()),
        };
        replies.send(reply).await.map_err(|_| ended(&self.at))
    }
}

/// "There are no settings for this client": it was forgotten (protocol.md A.6).
const UNRECOGNIZED_CLIENT_TYPE: i32 = 40015;

fn ended(at: &Endpoint) -> Error {
    Error::new(ErrorKind::Unavailable, "the server closed the connection").during(Operation::Handshake).at(at)
}
