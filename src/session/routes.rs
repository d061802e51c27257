//! The route cache: one look-up serves all who wait for it, and the last good answer outlives a failed refresh.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::error::Result;
use crate::model::Route;

type LookUp = Shared<BoxFuture<'static, Result<Arc<Route>>>>;

/// The routes of a session.
#[derive(Default)]
pub(crate) struct Routes(Mutex<HashMap<Arc<str>, Entry>>);

#[derive(Default)]
struct Entry {
    known: Option<Arc<Route>>,
    under_way: Option<LookUp>,
}

impl Routes {
    /// The last good answer.
    pub(crate) fn known(&self, topic: &str) -> Option<Arc<Route>> {
        self.lock().get(topic).and_then(|entry| entry.known.clone())
    }

    /// All topics with a good answer.
    pub(crate) fn topics(&self) -> Vec<Arc<str>> {
        self.lock().iter().filter(|(_, entry)| entry.known.is_some()).map(|(topic, _)| Arc::clone(topic)).collect()
    }

    /// All good answers.
    pub(crate) fn all(&self) -> Vec<Arc<Route>> {
        self.lock().values().filter_map(|entry| entry.known.clone()).collect()
    }

    /// Asks the server, joining a look-up of the same topic that is under way. `true`: the answer is a new one.
    pub(crate) async fn look_up(
        &self,
        topic: &Arc<str>,
        ask: impl FnOnce() -> BoxFuture<'static, Result<Arc<Route>>>,
    ) -> Result<(Arc<Route>, bool)> {
        let look_up = {
            let mut entries = self.lock();
            let entry = entries.entry(Arc::clone(topic)).or_default();
            entry.under_way.get_or_insert_with(|| ask().shared()).clone()
        };
        let answer = look_up.clone().await;
        let mut entries = self.lock();
        let entry = entries.entry(Arc::clone(topic)).or_default();
        if entry.under_way.as_ref().is_some_and(|other| other.ptr_eq(&look_up)) {
            entry.under_way = None;
        }
        match answer {
            Ok(route) => {
                let new = entry.known.as_ref() != Some(&route);
                entry.known = Some(Arc::clone(&route));
                Ok((route, new))
            }
            Err(error) => {
                if entry.known.is_none() && entry.under_way.is_none() {
                    entries.remove(topic);
                }
                Err(error)
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.topics()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn route(topic: &str) -> Arc<Route> {
        Arc::new(Route { topic: topic.into(), queues: vec![] })
    }

    #[tokio::test]
    async fn one_look_up_serves_all_who_wait_for_it() {
        let routes = Routes::default();
        let asked = Arc::new(AtomicUsize::new(0));
        let topic: Arc<str> = "t".into();
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let ask = || {
            let (asked, gate) = (Arc::clone(&asked), Arc::clone(&gate));
            async move {
                asked.fetch_add(1, Ordering::Relaxed);
                drop(gate.acquire().await.expect("open"));
                Ok(route("t"))
            }
            .boxed()
        };
        let waiters = futures_util::future::join_all((0..100).map(|_| routes.look_up(&topic, ask)));
        let answers = tokio::join!(waiters, async { gate.add_permits(1) }).0;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_failed_refresh_keeps_the_last_good_answer() {
        let routes = Routes::default();
        let topic: Arc<str> = "t".into();
        let (_, new) = routes.look_up(&topic, || async { Ok(route("t")) }.boxed()).await.expect("good");
        assert!(new);
        let fail = || async { Err(Error::new(ErrorKind::NotFound, "broker away")) }.boxed();
        assert!(routes.look_up(&topic, fail).await.is_err());
        assert_eq!(routes.known("t"), Some(route("t")));
        let (_, new) = routes.look_up(&topic, || async { Ok(route("t")) }.boxed()).await.expect("good");
        assert!(!new, "the same answer is no news");
    }

    #[tokio::test]
    async fn a_look_up_whose_first_waiter_was_cancelled_is_finished_by_the_next() {
        let routes = Routes::default();
        let topic: Arc<str> = "t".into();
        let slow = || {
            async {
                tokio::task::yield_now().await;
                Ok(route("t"))
            }
            .boxed()
        };
        let mut first = Box::pin(routes.look_up(&topic, slow));
        assert!(futures_util::poll!(&mut first).is_pending());
        drop(first);
        let (found, _) = routes.look_up(&topic, || unreachable!("it joins")).await.expect("good");
        assert_eq!(found, route("t"));
    }
}
