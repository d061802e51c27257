//! The engine under one lock, its clock, and those who wait for it. The lock is never held across an await.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::sync::{Notify, oneshot};

use super::arrivals::Arrivals;
use super::clients::{Asked, Clients};
use super::engine::{Change, Claim, Delivery, Engine, Millis, Popped, Refusal, Wake, WakeReason};
use super::fault::{Faults, Rpc};
use super::pollers::{Orphan, PollKey, Pollers, Pop};
use super::settings::ServerConfig;
use crate::clock;

/// How often clients that fell silent are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// Everything the proxies share.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) config: ServerConfig,
    pub(crate) faults: Faults,
    /// One registry per proxy, as on Apache.
    pub(crate) clients: Vec<Clients>,
    pub(crate) asked: Asked,
    /// The ports of the proxies.
    pub(crate) ports: Vec<u16>,
    /// Where the brokers are reached over remoting; empty when they do not speak it.
    pub(crate) broker_addresses: Vec<SocketAddr>,
    state: Mutex<State>,
    started: Started,
    rearm: Notify,
    calls: [AtomicU64; Rpc::COUNT],
    /// By the code of the request.
    remoting_calls: Mutex<HashMap<i32, u64>>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) engine: Engine,
    pollers: Pollers,
    pub(super) arrivals: Arrivals,
    /// What the timer sleeps for.
    armed: Millis,
}

/// The wall clock of the cluster: read once, then moved by the monotonic one, so that a paused test clock moves it too.
#[derive(Debug)]
struct Started {
    wall: Millis,
    at: Instant,
}

/// The answer to a pop.
#[derive(Debug)]
pub(crate) enum Poll {
    Messages(Vec<Delivery>),
    /// All messages went to the dead-letter queue.
    NoMatch,
    Wait(Waiter),
    /// Too many wait already.
    Full,
}

impl Cluster {
    pub(crate) fn new(
        config: ServerConfig,
        engine: Engine,
        ports: Vec<u16>,
        broker_addresses: Vec<SocketAddr>,
    ) -> Self {
        let wall = clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            config,
            faults: Faults::default(),
            clients: ports.iter().map(|_| Clients::default()).collect(),
            asked: Asked::default(),
            ports,
            broker_addresses,
            state: Mutex::new(State {
                engine,
                pollers: Pollers::default(),
                arrivals: Arrivals::default(),
                armed: Millis::MAX,
            }),
            started: Started { wall: wall.as_millis() as Millis, at: clock::now() },
            rearm: Notify::new(),
            calls: std::array::from_fn(|_| AtomicU64::new(0)),
            remoting_calls: Mutex::default(),
        }
    }

    pub(crate) fn now(&self) -> Millis {
        self.started.wall + clock::now().saturating_duration_since(self.started.at).as_millis() as Millis
    }

    pub(crate) fn count(&self, rpc: Rpc) {
        self.calls[rpc as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn calls(&self, rpc: Rpc) -> u64 {
        self.calls[rpc as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn count_code(&self, code: i32) {
        *self.remoting_calls.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    pub(crate) fn remoting_calls(&self, code: i32) -> u64 {
        self.remoting_calls.lock().unwrap_or_else(PoisonError::into_inner).get(&code).copied().unwrap_or(0)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works with the engine at this moment; then wakes whom it concerns.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Engine, Millis) -> R) -> R {
        let now = self.now();
        let mut state = self.lock();
        state.engine.advance(now);
        let result = act(&mut state.engine, now);
        self.finish(&mut state, now);
        result
    }

    pub(super) fn finish(&self, state: &mut State, now: Millis) {
        state.engine.advance(now);
        for wake in state.engine.take_wakes() {
            self.wake(state, &wake, now);
            state.arrivals.ring(&wake);
        }
        if state.engine.next_deadline().is_some_and(|deadline| deadline < state.armed) {
            self.rearm.notify_one();
        }
    }

    fn wake(&self, state: &mut State, wake: &Wake, now: Millis) {
        let alive = |orphan: &Orphan| orphan.until > now && orphan.pop.life == self.clients[orphan.pop.proxy].life();
        for orphan in state.pollers.wake(wake, alive) {
            self.answer_nobody(state, &orphan.pop, now);
        }
    }

    /// What a poll without a caller takes: the proxy notices that nobody is there, and gives it back, as Apache's does.
    fn answer_nobody(&self, state: &mut State, pop: &Pop, now: Millis) {
        match state.engine.pop(&pop.request(), now) {
            Ok(Popped::Messages(messages)) => self.give_back(&mut state.engine, pop, &messages, now),
            Ok(Popped::NoMatch | Popped::Empty) => {}
            Err(refusal) => tracing::debug!(?refusal, "a poll without a caller"),
        }
    }

    /// Makes messages that were popped for a caller who is gone visible soon, without a delivery attempt.
    pub(crate) fn give_back<'a>(
        &self,
        engine: &mut Engine,
        pop: &Pop,
        messages: impl IntoIterator<Item = &'a Delivery>,
        now: Millis,
    ) {
        let change = Change { invisible: self.config.release_delay(), suspend: true };
        for message in messages {
            let claim = Claim { group: &pop.group, topic: &pop.topic, handle: &message.handle, proxy: pop.proxy };
            if let Err(refusal) = engine.change(&claim, change, now) {
                tracing::debug!(?refusal, "a message of an aborted receive stays hidden until its lease ends");
            }
        }
    }

    /// Pops, or parks the caller in the same breath, so that nothing can arrive in between. A caller who goes away while it
    /// is parked leaves its poll behind, as on Apache, where no one tells the broker.
    pub(crate) fn pop(self: &Arc<Self>, pop: &Arc<Pop>, wait: Option<Duration>) -> Result<Poll, Refusal> {
        let now = self.now();
        let mut state = self.lock();
        state.engine.advance(now);
        let popped = state.engine.pop(&pop.request(), now);
        self.finish(&mut state, now);
        match popped? {
            Popped::Messages(messages) => Ok(Poll::Messages(messages)),
            Popped::NoMatch => Ok(Poll::NoMatch),
            Popped::Empty => {
                let Some(wait) = wait else { return Ok(Poll::Messages(Vec::new())) };
                let key = PollKey { topic: Arc::clone(&pop.topic), broker: pop.broker };
                let Some((number, woken)) = state.pollers.park(&key, &pop.group) else { return Ok(Poll::Full) };
                let until = now + wait.as_millis() as Millis;
                let (cluster, pop) = (Arc::clone(self), Arc::clone(pop));
                Ok(Poll::Wait(Waiter { cluster, key, pop, number, woken, until, is_over: false }))
            }
        }
    }

    /// Runs the engine's timers for ever.
    pub(crate) async fn run_timers(self: Arc<Self>) {
        loop {
            self.sweep();
            let next = self.tick();
            tokio::select! {
                () = clock::sleep(next) => {}
                () = self.rearm.notified() => {}
            }
        }
    }

    /// Does what is due. Returns how long there is nothing to do.
    fn tick(&self) -> Duration {
        let now = self.now();
        let mut state = self.lock();
        self.finish(&mut state, now);
        state.armed = state.engine.next_deadline().unwrap_or(Millis::MAX);
        SWEEP.min(Duration::from_millis(state.armed.saturating_sub(now)))
    }

    /// Forgets clients that fell silent; what their proxy renewed for them comes back.
    fn sweep(&self) {
        let now = self.now();
        self.lock().pollers.sweep(now);
        for (proxy, clients) in self.clients.iter().enumerate() {
            for client in clients.sweep(now, &self.config) {
                self.with(|engine, now| engine.release(proxy, Some(&client), now + self.config.release_delay()));
            }
        }
    }
}

/// A parked poll. When it is dropped after it was woken, the next in line is woken in its place.
#[derive(Debug)]
pub(crate) struct Waiter {
    cluster: Arc<Cluster>,
    key: PollKey,
    pop: Arc<Pop>,
    number: u64,
    woken: oneshot::Receiver<WakeReason>,
    until: Millis,
    /// It was woken, or its time is over: it leaves no poll behind.
    is_over: bool,
}

impl Waiter {
    /// Waits at most so long; `None` when the time is over first.
    pub(crate) async fn woken(mut self, at_most: Duration) -> Option<WakeReason> {
        let woken = clock::timeout(at_most, &mut self.woken).await;
        self.is_over = true;
        woken?.ok()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let now = self.cluster.now();
        let mut state = self.cluster.lock();
        match self.woken.try_recv() {
            Ok(reason) => {
                let (topic, broker) = (Arc::clone(&self.key.topic), self.key.broker);
                let wake = Wake { topic, broker, queue: None, group: Some(Arc::clone(&self.pop.group)), reason };
                self.cluster.wake(&mut state, &wake, now);
            }
            Err(_) if self.is_over => state.pollers.leave(&self.key, &self.pop.group, self.number),
            Err(_) => {
                let orphan = Orphan { pop: Arc::clone(&self.pop), until: self.until };
                state.pollers.orphan(&self.key, &self.pop.group, self.number, orphan);
            }
        }
    }
}
