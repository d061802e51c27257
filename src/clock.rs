//! The only place that reads time or sleeps.
//!
//! Everything else takes `now` as a parameter. On a runtime whose clock is paused, these follow that clock.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

/// The monotonic time of the runtime.
#[allow(clippy::disallowed_methods, reason = "this is the one place that reads time")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The time of day, for time stamps that leave this process. Durations never come from here.
#[allow(clippy::disallowed_methods, reason = "this is the one place that reads time")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// A timer that a hand-written `poll` can keep and move.
pub(crate) fn timer(at: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(at.into())
}

/// `None` when the time is over first; the future is dropped then.
pub(crate) async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(duration, future).await.ok()
}

#[allow(clippy::disallowed_methods, reason = "this is the one place that reads time")]
/// Ticks after each `period`, not at once; a tick that was missed is not made up for.
pub(crate) fn interval(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}
