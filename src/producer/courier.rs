//! What the producer needs of a session, so that its tests can play one.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::model::{Endpoint, Route, ServerSettings};
use crate::session::{HealthWatch, Session};
use crate::transport::{Call, Sending, Sent, Stamped};

/// Finds the way for a message and carries it there, once.
pub(crate) trait Courier: Send + Sync {
    /// Where a topic lives.
    fn route<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, Arc<Route>>;

    /// Of a broker's endpoints, the one to use.
    fn choose(&self, endpoints: &[Endpoint]) -> Endpoint;

    /// Sends a message, once. Has a deadline of its own.
    fn send<'a>(&'a self, at: &'a Endpoint, stamped: &'a Stamped) -> Call<'a, Sent>;

    /// An endpoint failed.
    fn report(&self, at: &Endpoint, error: &Error);

    fn settings(&self) -> ServerSettings;

    fn health(&self) -> HealthWatch;

    /// Tells the servers that this producer sends to a topic.
    fn announce(&self, topic: &Arc<str>);

    /// Says goodbye, at most `deadline`.
    fn close(&self, deadline: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// A session, and the wire to send over.
pub(crate) struct Post {
    pub(crate) session: Session,
    pub(crate) wire: Arc<dyn Sending>,
}

impl Courier for Post {
    fn route<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, Arc<Route>> {
        Box::pin(self.session.route(topic))
    }

    fn choose(&self, endpoints: &[Endpoint]) -> Endpoint {
        self.session.choose(endpoints)
    }

    fn send<'a>(&'a self, at: &'a Endpoint, stamped: &'a Stamped) -> Call<'a, Sent> {
        self.wire.send(at, stamped)
    }

    fn report(&self, at: &Endpoint, error: &Error) {
        self.session.report(at, error);
    }

    fn settings(&self) -> ServerSettings {
        self.session.settings()
    }

    fn health(&self) -> HealthWatch {
        HealthWatch::new(self.session.health())
    }

    fn announce(&self, topic: &Arc<str>) {
        self.session.update(|settings| {
            if !settings.topics.contains(topic) {
                settings.topics.push(Arc::clone(topic));
            }
        });
    }

    fn close(&self, deadline: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.session.close(deadline).await;
        })
    }
}
