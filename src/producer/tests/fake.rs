//! A courier that plays the servers by script.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{Endpoint, Limits, MessageType, Offset, OutboundMessage, Permission, Route, RouteQueue};
use crate::model::{RetrySchedule, ServerSettings};
use crate::producer::accumulator::Patience;
use crate::producer::attempt::Way;
use crate::producer::courier::Courier;
use crate::producer::{Producer, ProducerConfig, lock};
use crate::session::{Health, HealthWatch};
use crate::transport::{Call, Sent, Stamped};

/// What happens to one attempt.
pub(crate) enum Play {
    Store,
    /// Stored, and answered after a while.
    Slowly(Duration),
    /// Stored, but the answer never comes: a timeout after 3 s.
    LoseReply,
    Fail(ErrorKind, &'static str),
    /// For ever.
    Hang,
}

/// One attempt that reached the courier.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: Arc<str>,
    pub(crate) body: String,
    pub(crate) at: Endpoint,
    pub(crate) when: Instant,
}

type Script = Box<dyn Fn(&Seen, usize) -> Play + Send + Sync>;

pub(crate) struct Fake {
    routes: Mutex<HashMap<String, Arc<Route>>>,
    pub(crate) settings: Mutex<ServerSettings>,
    /// From the attempt and how many came before it for the same body.
    script: Script,
    pub(crate) seen: Mutex<Vec<Seen>>,
    pub(crate) stored: Mutex<Vec<String>>,
    pub(crate) announced: Mutex<Vec<Arc<str>>>,
    pub(crate) reported: Mutex<Vec<Endpoint>>,
    pub(crate) closed: AtomicBool,
    under_way: AtomicUsize,
    pub(crate) most_under_way: AtomicUsize,
}

impl Fake {
    /// Two brokers, each with an endpoint and two queues, and the topic `t`.
    pub(crate) fn new(script: impl Fn(&Seen, usize) -> Play + Send + Sync + 'static) -> Arc<Self> {
        let fake = Self {
            routes: Mutex::default(),
            settings: Mutex::default(),
            script: Box::new(script),
            seen: Mutex::default(),
            stored: Mutex::default(),
            announced: Mutex::default(),
            reported: Mutex::default(),
            closed: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
        };
        fake.create("t", vec![]);
        Arc::new(fake)
    }

    pub(crate) fn create(&self, topic: &str, accepts: Vec<MessageType>) {
        let queue = |broker: &str, id| RouteQueue {
            broker: broker.into(),
            id,
            permission: Permission::ReadWrite,
            endpoints: [Endpoint::new(broker, 8081)].into(),
            replicas: Arc::default(),
            accepts: accepts.clone(),
        };
        let queues = vec![queue("a", 0), queue("a", 1), queue("b", 0), queue("b", 1)];
        let route = Route { topic: topic.into(), queues };
        lock(&self.routes).insert(topic.to_owned(), Arc::new(route));
    }

    pub(crate) fn attempts(&self, body: &str) -> Vec<Seen> {
        lock(&self.seen).iter().filter(|seen| seen.body == body).cloned().collect()
    }

    pub(crate) fn stored(&self) -> Vec<String> {
        lock(&self.stored).clone()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn retry_schedule(&self, schedule: RetrySchedule) {
        lock(&self.settings).retry = Some(schedule);
    }

    fn store(&self, stamped: &Stamped) -> Sent {
        let mut stored = lock(&self.stored);
        stored.push(body_of(&stamped.message));
        Sent {
            message_id: (*stamped.id).into(),
            offset: Offset::new(stored.len() as u64 - 1),
            transaction_id: None,
            recall_handle: None,
        }
    }
}

impl Courier for Fake {
    fn route<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, Arc<Route>> {
        Box::pin(async move {
            let known = lock(&self.routes).get(&**topic).cloned();
            known.ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "no topic route info").during(Operation::QueryRoute).on_topic(&**topic)
            })
        })
    }

    fn choose(&self, endpoints: &[Endpoint]) -> Endpoint {
        endpoints[0].clone()
    }

    fn send<'a>(&'a self, at: &'a Endpoint, stamped: &'a Stamped) -> Call<'a, Sent> {
        let body = body_of(&stamped.message);
        let before = self.attempts(&body).len();
        let seen = Seen { id: Arc::clone(&stamped.id), body, at: at.clone(), when: clock::now() };
        lock(&self.seen).push(seen.clone());
        Box::pin(async move {
            let under_way = UnderWay::new(self);
            let fail = |kind, text| Err(Error::new(kind, text).during(Operation::Send).at(at));
            let result: Result<Sent> = match (self.script)(&seen, before) {
                Play::Store => Ok(self.store(stamped)),
                Play::Slowly(duration) => {
                    clock::sleep(duration).await;
                    Ok(self.store(stamped))
                }
                Play::LoseReply => {
                    self.store(stamped);
                    clock::sleep(Duration::from_secs(3)).await;
                    fail(ErrorKind::Timeout, "no answer within 3000 ms")
                }
                Play::Fail(kind, text) => fail(kind, text),
                Play::Hang => std::future::pending().await,
            };
            drop(under_way);
            result
        })
    }

    fn report(&self, at: &Endpoint, _: &Error) {
        lock(&self.reported).push(at.clone());
    }

    fn health(&self) -> HealthWatch {
        HealthWatch::new(tokio::sync::watch::channel(Health::Healthy).1)
    }

    fn settings(&self) -> ServerSettings {
        lock(&self.settings).clone()
    }

    fn announce(&self, topic: &Arc<str>) {
        lock(&self.announced).push(Arc::clone(topic));
    }

    fn close(&self, _: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.closed.store(true, Ordering::SeqCst);
        Box::pin(std::future::ready(()))
    }
}

struct UnderWay<'a>(&'a Fake);

impl<'a> UnderWay<'a> {
    fn new(fake: &'a Fake) -> Self {
        let now = fake.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        fake.most_under_way.fetch_max(now, Ordering::SeqCst);
        Self(fake)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn body_of(message: &OutboundMessage) -> String {
    String::from_utf8_lossy(message.body()).into_owned()
}

pub(crate) const MAX_IN_FLIGHT: usize = 8;

pub(crate) fn config() -> ProducerConfig {
    ProducerConfig {
        max_in_flight: MAX_IN_FLIGHT,
        max_in_flight_bytes: 1 << 20,
        patience: Patience { max_attempts: 3, send_timeout: Duration::from_secs(60) },
        limits: Limits::default(),
        born_host: "host".into(),
    }
}

pub(crate) fn producer_with(fake: &Arc<Fake>, config: ProducerConfig) -> Producer {
    let courier: Arc<dyn Courier> = Arc::<Fake>::clone(fake);
    Producer::start(Arc::new(Way::new(courier)), config)
}

pub(crate) fn producer(fake: &Arc<Fake>) -> Producer {
    producer_with(fake, config())
}

pub(crate) fn message(body: &str) -> OutboundMessage {
    OutboundMessage::new("t", body.to_owned())
}
