//! What the producer needs of a session, so that its tests can play one.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::model::{Endpoint, Route, ServerSettings};
use crate::session::{HealthWatch, Session};
use crate::transport::{Call, Sent, Stamped};

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

impl Courier for Session {
    fn route<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, Arc<Route>> {
        Box::pin(Self::route(self, topic))
    }

    fn choose(&self, endpoints: &[Endpoint]) -> Endpoint {
        Self::choose(self, endpoints)
    }

    fn send<'a>(&'a self, at: &'a Endpoint, stamped: &'a Stamped) -> Call<'a, Sent> {
        self.wire().send(at, stamped)
    }

    fn report(&self, at: &Endpoint, error: &Error) {
        Self::report(self, at, error);
    }

    fn settings(&self) -> ServerSettings {
        Self::settings(self)
    }

    fn health(&self) -> HealthWatch {
        HealthWatch::new(Self::health(self))
    }

    fn announce(&self, topic: &Arc<str>) {
        self.update(|settings| {
            if !settings.topics.contains(topic) {
                settings.topics.push(Arc::clone(topic));
            }
        });
    }

    fn close(&self, deadline: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            Self::close(self, deadline).await;
        })
    }
}
