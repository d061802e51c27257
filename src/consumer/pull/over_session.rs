//! A pulling consumer over a session, whatever its wire.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::consumer::pull::brokers::Brokers;
use crate::error::Error;
use crate::model::{Endpoint, Route};
use crate::session::Session;
use crate::task::TaskGroup;
use crate::transport::{Call, Pulling};

pub(crate) struct OverSession {
    session: Session,
    wire: Arc<dyn Pulling>,
}

impl OverSession {
    pub(crate) const fn new(session: Session, wire: Arc<dyn Pulling>) -> Self {
        Self { session, wire }
    }
}

impl Brokers for OverSession {
    fn route<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, Arc<Route>> {
        Box::pin(self.session.route(topic))
    }

    fn fresh_route<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, Arc<Route>> {
        Box::pin(self.session.fresh_route(topic))
    }

    fn known_route(&self, topic: &str) -> Option<Arc<Route>> {
        self.session.known_route(topic)
    }

    fn wire(&self) -> &dyn Pulling {
        &*self.wire
    }

    fn choose(&self, offered: &[Endpoint]) -> Endpoint {
        self.session.choose(offered)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.session.changes()
    }

    fn handshake(&self, at: &Endpoint) -> Option<u64> {
        self.session.handshake(at)
    }

    fn report(&self, at: &Endpoint, error: &Error) {
        self.session.report(at, error);
    }

    fn tasks(&self) -> &TaskGroup {
        self.session.tasks()
    }

    fn close(&self, deadline: Duration) -> BoxFuture<'_, bool> {
        Box::pin(self.session.close(deadline))
    }

    fn leave(&self) {
        self.session.leave();
    }
}

impl fmt::Debug for OverSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OverSession").field("session", &self.session).finish_non_exhaustive()
    }
}
