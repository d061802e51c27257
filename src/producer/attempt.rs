//! One attempt to send one message.

use std::sync::{Arc, Mutex};

use crate::clock;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{Endpoint, MessageType, OutboundMessage, Route};
use crate::producer::accumulator::Entry;
use crate::producer::courier::Courier;
use crate::producer::failure::{Failure, judge, may_have_stored};
use crate::producer::lock;
use crate::producer::parcel::Parcel;
use crate::producer::receipt::SendReceipt;
use crate::producer::router::Router;

/// What all attempts share.
pub(crate) struct Way {
    pub(crate) courier: Arc<dyn Courier>,
    pub(crate) router: Mutex<Router>,
}

/// How an attempt ended; the message comes back with it.
pub(crate) struct Ended {
    pub(crate) entry: Entry<Box<Parcel>>,
    pub(crate) result: Result<SendReceipt, (Failure, Error)>,
}

/// Makes one attempt. Dropping the future drops the message, which tells its sender.
pub(crate) async fn attempt(way: Arc<Way>, mut entry: Entry<Box<Parcel>>) -> Ended {
    let stored_before = entry.payload.may_be_stored;
    entry.payload.may_be_stored = true;
    let result = way.send(&entry).await;
    entry.payload.may_be_stored =
        stored_before || result.as_ref().err().is_some_and(|(_, error)| may_have_stored(error));
    Ended { entry, result }
}

impl Way {
    pub(crate) fn new(courier: Arc<dyn Courier>) -> Self {
        Self { courier, router: Mutex::new(Router::new(fastrand::usize(..))) }
    }

    /// Notes a topic whose route was found, and which the servers have been told of.
    pub(crate) fn learn(&self, topic: &Arc<str>) {
        lock(&self.router).learn(topic);
    }

    /// Finds the route of a topic, and announces the topic if it is new.
    async fn route(&self, topic: &Arc<str>) -> Result<Arc<Route>> {
        let route = self.courier.route(topic).await?;
        if lock(&self.router).learn(topic) {
            self.courier.announce(topic);
        }
        Ok(route)
    }

    async fn send(&self, entry: &Entry<Box<Parcel>>) -> Result<SendReceipt, (Failure, Error)> {
        let parcel = &*entry.payload;
        let message = parcel.message();
        let topic = message.shared_topic();
        let at = match self.endpoint(message, &topic).await {
            Ok(at) => at,
            Err(error) => return Err((judge(&error, lock(&self.router).knows(&topic)), error)),
        };
        match self.courier.send(&at, parcel.stamped()).await {
            Ok(sent) => {
                lock(&self.router).on_answered(&at);
                Ok(SendReceipt::new(sent, entry.attempts(), at))
            }
            Err(error) => Err((self.on_failed(&at, &error), error)),
        }
    }

    async fn endpoint(&self, message: &OutboundMessage, topic: &Arc<str>) -> Result<Endpoint> {
        let route = self.route(topic).await?;
        let kind = message.message_type();
        if !route.accepts(kind) && self.courier.settings().validate_message_type == Some(true) {
            return Err(wrong_type(&route, kind));
        }
        let now = clock::now();
        let mut router = lock(&self.router);
        let queue = router.pick(&route, message.get_message_group(), now)?;
        Ok(self.courier.choose(&router.preferred(&queue.endpoints, now)))
    }

    fn on_failed(&self, at: &Endpoint, error: &Error) -> Failure {
        let failure = judge(error, true);
        if matches!(failure, Failure::Counted | Failure::Outage) {
            self.courier.report(at, error);
            lock(&self.router).on_failed(at, clock::now());
        }
        failure
    }
}

fn wrong_type(route: &Route, kind: MessageType) -> Error {
    let mut accepted: Vec<_> = route.queues.iter().flat_map(|queue| &queue.accepts).collect();
    accepted.dedup();
    let text = format!(
        "topic {} takes messages of type {accepted:?}, this one is {kind:?}: a message group makes it Fifo, a delivery time \
         Delay, a priority Priority; or change the type of the topic on the server",
        route.topic
    );
    Error::new(ErrorKind::Precondition, text).during(Operation::Send).on_topic(Arc::clone(&route.topic))
}
