//! The group guard: RocketMQ lets a PullConsumer share a group with nothing but its like, and enforces none of it.
//!
//! It sees what brokers know: the remoting clients that are connected to them. **What it cannot see:** gRPC consumers behind
//! a proxy in CLUSTER mode, and pull consumers that go in through a proxy's remoting port while this one goes to the brokers
//! (trap P26); nor who joins later.

mod judge;

use std::sync::Arc;

use futures_util::future::join_all;

use crate::assignment::round::replicas_by_broker;
use crate::error::{Error, ErrorKind, Operation, Result};
use crate::model::{Endpoint, Route};
use crate::transport::{Call, GroupProfile};

pub(crate) use judge::{Candidate, GroupWarning};
use judge::{Told, judge, lease_topics};

/// Whom the guard asks.
pub(crate) trait GroupDirectory: Sync {
    /// What one broker knows of a group (request 203); `None` is nobody.
    fn profile<'a>(&'a self, at: &'a Endpoint, group: &'a Arc<str>) -> Call<'a, Option<GroupProfile>>;

    /// Whether a topic has a route.
    fn exists<'a>(&'a self, topic: &'a Arc<str>) -> Call<'a, bool>;
}

/// Asks every broker of the routes, **before** this consumer's first heartbeat: with it the broker would take the kind and
/// the subscriptions of the group from us.
///
/// # Errors
/// `Precondition` when the group is used in another way, naming both; a transient error when no broker answered.
pub(crate) async fn check_group(
    directory: &dyn GroupDirectory,
    candidate: &Candidate,
    routes: &[Arc<Route>],
) -> Result<Vec<GroupWarning>> {
    let brokers = replicas_by_broker(routes.iter().map(|route| &**route));
    let told = join_all(brokers.iter().map(|(broker, replicas)| ask(directory, candidate, broker, replicas))).await;
    let mut warnings = judge(candidate, &told)?;
    warnings.extend(traces_of_leases(directory, candidate, routes).await);
    Ok(warnings)
}

/// The first member of the broker's group that answers; members of a consumer group tell slaves too.
async fn ask(directory: &dyn GroupDirectory, candidate: &Candidate, broker: &Arc<str>, replicas: &[Endpoint]) -> Told {
    let text = "the route names no address of this broker";
    let mut answer = Err(Error::new(ErrorKind::Unavailable, text).during(Operation::QueryGroup));
    for at in replicas {
        answer = directory.profile(at, &candidate.group).await;
        if answer.is_ok() {
            break;
        }
    }
    (Arc::clone(broker), answer)
}

/// A hint, so a failure to look is no more than one warning less.
async fn traces_of_leases(
    directory: &dyn GroupDirectory,
    candidate: &Candidate,
    routes: &[Arc<Route>],
) -> Vec<GroupWarning> {
    let group = &candidate.group;
    let names: Vec<Arc<str>> = routes.iter().flat_map(|route| lease_topics(group, &route.topic)).collect();
    let found = join_all(names.iter().map(|name| directory.exists(name))).await;
    let there = names.into_iter().zip(found).filter_map(|(name, found)| match found {
        Ok(true) => Some(name),
        Ok(false) => None,
        Err(error) => {
            tracing::debug!(topic = %name, %error, "whether consumers by lease use the group could not be looked up");
            None
        }
    });
    there.map(|retry_topic| GroupWarning::UsedByLease { group: Arc::clone(group), retry_topic }).collect()
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
