use std::fmt;

use crate::error::Error;
use crate::lease::{Endpoints, Origin};
use crate::model::Endpoint;
use crate::session::Session;

/// Where settlements go, over the session's knowledge of what answers (trap R9).
pub(crate) struct SettleOverSession(pub(crate) Session);

impl Endpoints for SettleOverSession {
    /// The endpoint that delivered, while it answers; else another one of that broker, since handles name the broker.
    fn settle_at(&self, origin: &Origin) -> Endpoint {
        if self.0.is_ready(&origin.endpoint) {
            return origin.endpoint.clone();
        }
        let route = self.0.known_route(&origin.scope.topic);
        let brokers = route.map(|route| route.brokers(|permission| permission.readable())).unwrap_or_default();
        let found = brokers.into_iter().find(|(name, _)| *name == origin.broker);
        let other = found.map(|(_, endpoints)| self.0.choose(&endpoints)).filter(|other| self.0.is_ready(other));
        other.unwrap_or_else(|| origin.endpoint.clone())
    }

    fn failed(&self, at: &Endpoint, error: &Error) {
        self.0.report(at, error);
    }
}

impl fmt::Debug for SettleOverSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SettleOverSession")
    }
}
