//! A session, as the assignment and the group guard ask it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::assignment::guard::{Candidate, GroupDirectory, GroupWarning, check_group};
use crate::assignment::watch::Directory;
use crate::clock;
use crate::error::{ErrorKind, Result};
use crate::model::{Endpoint, Route, Subscription};
use crate::retry::Backoff;
use crate::session::Session;
use crate::transport::{Call, GroupProfile, Pulling, Routing};

/// A session over remoting. Whoever holds one keeps the session alive.
#[derive(Debug, Clone)]
pub(crate) struct SessionDirectory {
    session: Session,
    pulling: Arc<dyn Pulling>,
    routing: Arc<dyn Routing>,
    name_server: Endpoint,
}

impl SessionDirectory {
    /// `wire` is the one that the session was opened with, and `name_server` any of its name servers.
    pub(crate) fn new<W: Pulling + Routing + 'static>(session: Session, wire: &Arc<W>, name_server: Endpoint) -> Self {
        let (pulling, routing) = (Arc::<W>::clone(wire), Arc::<W>::clone(wire));
        Self { session, pulling, routing, name_server }
    }

    /// Enters a group through its guard: looks who is in it, at most `limit`, and only then makes this client a member. The
    /// session was opened without a group: a heartbeat before the look would make the brokers take the group's kind and its
    /// subscriptions from us.
    ///
    /// # Errors
    /// `Precondition` when the group is used in another way, naming both; a transient error when no broker answered in time.
    pub(crate) async fn enter_group(
        &self,
        candidate: &Candidate,
        routes: &[Arc<Route>],
        limit: Duration,
    ) -> Result<Vec<GroupWarning>> {
        let warnings = self.look(candidate, routes, limit).await?;
        for warning in &warnings {
            tracing::warn!(group = %candidate.group, "{warning}");
        }
        if candidate.joins {
            let group = Arc::clone(&candidate.group);
            self.session.update(|settings| settings.group = Some(group));
        }
        Ok(warnings)
    }

    async fn look(&self, candidate: &Candidate, routes: &[Arc<Route>], limit: Duration) -> Result<Vec<GroupWarning>> {
        let until = clock::now() + limit;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        loop {
            let error = match check_group(self, candidate, routes).await {
                Ok(warnings) => return Ok(warnings),
                Err(error) => error,
            };
            let wait = backoff.next(fastrand::f64());
            if !error.is_retryable() || clock::now() + wait > until {
                return Err(error);
            }
            clock::sleep(wait).await;
        }
    }
}

impl Directory for SessionDirectory {
    fn route<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, Arc<Route>> {
        Box::pin(self.session.route(topic))
    }

    fn members<'a>(&'a self, at: &'a Endpoint, group: &'a Arc<str>) -> Call<'a, Vec<Arc<str>>> {
        self.pulling.members(at, group)
    }

    fn topics(&self) -> Call<'_, BTreeSet<Arc<str>>> {
        self.pulling.topics(&self.name_server)
    }

    fn subscribe(&self, subscriptions: Vec<Subscription>) {
        self.session.update(|settings| settings.subscriptions = subscriptions);
    }

    fn route_changes(&self) -> watch::Receiver<u64> {
        self.session.changes()
    }

    fn member_changes(&self) -> watch::Receiver<u64> {
        self.session.member_changes()
    }
}

impl GroupDirectory for SessionDirectory {
    fn profile<'a>(&'a self, at: &'a Endpoint, group: &'a Arc<str>) -> Call<'a, Option<GroupProfile>> {
        self.pulling.group_profile(at, group)
    }

    /// Past the session's cache: what it knows it keeps fresh, and makes this client known at.
    fn exists<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, bool> {
        Box::pin(async move {
            match self.routing.query_route(&self.name_server, topic).await {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            }
        })
    }
}
