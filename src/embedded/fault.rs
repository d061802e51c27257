//! Faults by script: what should go wrong, in which RPC, how often.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock;

/// An RPC of the gRPC protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rpc {
    /// Where a topic lives.
    QueryRoute,
    /// The queues to receive from.
    QueryAssignment,
    /// The stream of settings and commands; a fault hits its opening.
    Telemetry,
    /// A client says that it is alive.
    Heartbeat,
    /// Sending messages.
    SendMessage,
    /// Receiving messages.
    ReceiveMessage,
    /// Acknowledging messages.
    AckMessage,
    /// Changing the invisible duration of a message.
    ChangeInvisibleDuration,
    /// Moving a message to the dead-letter queue.
    ForwardMessageToDeadLetterQueue,
    /// Committing or rolling back a transaction.
    EndTransaction,
    /// Taking a delayed message back.
    RecallMessage,
    /// A client says goodbye.
    NotifyClientTermination,
    /// Pulling messages by offset.
    PullMessage,
    /// Committing the offset of a group.
    UpdateOffset,
    /// Reading the committed offset of a group.
    GetOffset,
    /// The first, the last, or the offset of a time.
    QueryOffset,
}

impl Rpc {
    pub(crate) const COUNT: usize = Self::QueryOffset as usize + 1;
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Delay(Duration),
    DelayReply(Duration),
    Status(i32, String),
    Grpc(i32, String),
    Disconnect,
    LoseReply,
    Duplicate,
}

/// Which requests a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Grpc(Rpc),
    /// By their code.
    Remoting(i32),
}

#[derive(Debug)]
struct Rule {
    target: Target,
    place: Option<usize>,
    skip: u64,
    times: u64,
    action: Action,
    hits: Arc<AtomicU64>,
}

/// The faults of a [`Broker`](super::Broker), in the order they were asked for.
///
/// Each request takes at most one fault: the first that fits and is not used up.
///
/// ```
/// # async fn example() -> rocketmq_stream::Result<()> {
/// use rocketmq_stream::embedded::{Broker, Rpc};
///
/// let broker = Broker::start().await?;
/// let lost = broker.faults().on(Rpc::AckMessage).times(2).lose_reply();
/// // … run what should survive two lost replies …
/// # broker.shutdown().await;
/// assert_eq!(lost.hits(), 0); // nothing ran here
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Faults {
    rules: Arc<Mutex<Vec<Rule>>>,
}

impl Faults {
    /// Starts a fault of an RPC. It hits once unless [`times`](FaultBuilder::times) says otherwise.
    pub fn on(&self, rpc: Rpc) -> FaultBuilder {
        self.start(Target::Grpc(rpc))
    }

    /// Starts a fault of the remoting requests of a code: 11 pulls, 15 commits an offset, 34 is a heartbeat, 105 asks a name
    /// server for a route. It hits once unless [`times`](FaultBuilder::times) says otherwise.
    pub fn on_remoting(&self, code: i32) -> FaultBuilder {
        self.start(Target::Remoting(code))
    }

    fn start(&self, target: Target) -> FaultBuilder {
        FaultBuilder { faults: self.clone(), target, place: None, skip: 0, times: 1 }
    }

    /// Takes all faults back.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets what goes wrong with this request happen, up to where it is acted on.
    pub(crate) async fn meet(&self, target: Target, place: usize) -> Result<After, Stop> {
        Ok(match self.strike(target, place) {
            None => After::Reply,
            Some(Action::Delay(time)) => {
                clock::sleep(time).await;
                After::Reply
            }
            Some(Action::DelayReply(time)) => After::ReplyLater(time),
            Some(Action::LoseReply) => After::LoseReply,
            Some(Action::Duplicate) => After::ActTwice,
            Some(Action::Status(code, text)) => return Err(Stop::Status(code, text)),
            Some(Action::Grpc(code, text)) => return Err(Stop::Grpc(code, text)),
            Some(Action::Disconnect) => return Err(Stop::Disconnect),
        })
    }

    /// What goes wrong with this request, if anything.
    fn strike(&self, target: Target, place: usize) -> Option<Action> {
        let mut rules = self.lock();
        let fits =
            |rule: &&mut Rule| rule.target == target && rule.place.is_none_or(|only| only == place) && rule.times > 0;
        for rule in rules.iter_mut().filter(fits) {
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times -= 1;
            rule.hits.fetch_add(1, Ordering::Relaxed);
            return Some(rule.action.clone());
        }
        None
    }
}

/// What a fault does beside or after the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Reply,
    ReplyLater(Duration),
    LoseReply,
    ActTwice,
}

/// The request is not acted on: what happens instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A status of RocketMQ is the answer.
    Status(i32, String),
    /// A status of gRPC is.
    Grpc(i32, String),
    /// The connection is cut.
    Disconnect,
}

/// A fault that is being described; its last word puts it into force.
#[derive(Debug)]
#[must_use = "a fault is in force only when it says what goes wrong"]
pub struct FaultBuilder {
    faults: Faults,
    target: Target,
    place: Option<usize>,
    skip: u64,
    times: u64,
}

impl FaultBuilder {
    /// How many requests it hits. Defaults to 1.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Hits every request until [`Faults::clear`].
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// Lets this many requests pass first. Defaults to 0.
    pub fn after(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// Hits requests to this proxy only, counted from 0. Defaults to all proxies.
    pub fn at_proxy(mut self, proxy: usize) -> Self {
        self.place = Some(proxy);
        self
    }

    /// Hits requests to this broker only, counted from 0. Defaults to all. For faults of the remoting protocol.
    pub fn at_broker(mut self, broker: usize) -> Self {
        self.place = Some(broker);
        self
    }

    /// The request is acted on after this time.
    pub fn delay(self, time: Duration) -> Fault {
        self.put(Action::Delay(time))
    }

    /// The request is acted on at once, the answer comes after this time.
    pub fn delay_reply(self, time: Duration) -> Fault {
        self.put(Action::DelayReply(time))
    }

    /// The request is not acted on; the answer is this status of RocketMQ, e.g. `(50001, "store is full")`; over
    /// remoting this code and remark, e.g. `(2, "system busy")`.
    pub fn status(self, code: i32, text: impl Into<String>) -> Fault {
        self.put(Action::Status(code, text.into()))
    }

    /// The request is not acted on; the answer is this status of gRPC, e.g. `(14, "unavailable")`. Over remoting it is
    /// the code 1 with this text.
    pub fn grpc_status(self, code: i32, text: impl Into<String>) -> Fault {
        self.put(Action::Grpc(code, text.into()))
    }

    /// The request is not acted on; its connection is cut.
    pub fn disconnect(self) -> Fault {
        self.put(Action::Disconnect)
    }

    /// The request is acted on, and no answer ever comes.
    pub fn lose_reply(self) -> Fault {
        self.put(Action::LoseReply)
    }

    /// The request is acted on twice, as if the network had repeated it; the answer is the second one. Receiving,
    /// pulling and telemetry do not know this fault.
    pub fn duplicate(self) -> Fault {
        self.put(Action::Duplicate)
    }

    fn put(self, action: Action) -> Fault {
        let hits = Arc::new(AtomicU64::new(0));
        let Self { faults, target, place, skip, times } = self;
        faults.lock().push(Rule { target, place, skip, times, action, hits: Arc::clone(&hits) });
        Fault { hits }
    }
}

/// A fault that is in force. Dropping this changes nothing.
#[derive(Clone)]
pub struct Fault {
    hits: Arc<AtomicU64>,
}

impl Fault {
    /// How many requests it has hit.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("hits", &self.hits()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_skips_hits_and_is_used_up() {
        let faults = Faults::default();
        let fault = faults.on(Rpc::AckMessage).after(1).times(2).at_proxy(1).disconnect();
        assert_eq!(faults.strike(Target::Grpc(Rpc::SendMessage), 1), None);
        assert_eq!(faults.strike(Target::Grpc(Rpc::AckMessage), 0), None, "another proxy");
        assert_eq!(faults.strike(Target::Grpc(Rpc::AckMessage), 1), None, "the first passes");
        assert_eq!(faults.strike(Target::Grpc(Rpc::AckMessage), 1), Some(Action::Disconnect));
        assert_eq!(faults.strike(Target::Grpc(Rpc::AckMessage), 1), Some(Action::Disconnect));
        assert_eq!((faults.strike(Target::Grpc(Rpc::AckMessage), 1), fault.hits()), (None, 2));
    }

    #[test]
    fn a_fault_of_a_remoting_code_hits_nothing_else() {
        let faults = Faults::default();
        faults.on_remoting(11).at_broker(1).lose_reply();
        for (target, broker) in [(Target::Remoting(15), 1), (Target::Remoting(11), 0)] {
            assert_eq!(faults.strike(target, broker), None);
        }
        assert_eq!(faults.strike(Target::Remoting(11), 1), Some(Action::LoseReply));
    }

    #[test]
    fn the_first_fault_that_fits_is_taken() {
        let faults = Faults::default();
        faults.on(Rpc::Heartbeat).lose_reply();
        faults.on(Rpc::Heartbeat).always().duplicate();
        let strikes = [0; 3].map(|proxy| faults.strike(Target::Grpc(Rpc::Heartbeat), proxy));
        assert_eq!(strikes, [Action::LoseReply, Action::Duplicate, Action::Duplicate].map(Some));
        faults.clear();
        assert_eq!(faults.strike(Target::Grpc(Rpc::Heartbeat), 0), None);
    }
}
