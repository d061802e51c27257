use std::sync::Arc;
use std::time::Duration;

use crate::model::Subscription;

/// What a client is to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ClientKind {
    Producer,
    SimpleConsumer,
    PullConsumer,
}

/// What a client tells the server about itself in the telemetry handshake.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ClientSettings {
    pub(crate) kind: ClientKind,
    pub(crate) request_timeout: Duration,
    /// Consumers only.
    pub(crate) group: Option<Arc<str>>,
    /// Consumers only.
    pub(crate) subscriptions: Vec<Subscription>,
    /// SimpleConsumer only: how long a receive waits.
    pub(crate) await_duration: Option<Duration>,
    /// Producers only: the topics, without which no transaction check can reach this client.
    pub(crate) topics: Vec<Arc<str>>,
}

/// What the server answered. Each field is read on its own: a server may leave any of them out (trap R2).
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ServerSettings {
    pub(crate) fifo: Option<bool>,
    pub(crate) receive_batch: Option<u32>,
    pub(crate) long_polling: Option<Duration>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) retry: Option<RetrySchedule>,
    pub(crate) max_body_size: Option<usize>,
    pub(crate) validate_message_type: Option<bool>,
}

/// How long to wait between delivery attempts, or between tries of a send.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RetrySchedule {
    Exponential {
        initial: Duration,
        max: Duration,
        multiplier: f32,
    },
    /// The wait after attempt n is entry n−1; the last entry holds for all later ones.
    Customized(Vec<Duration>),
}

impl RetrySchedule {
    /// The wait after `attempt` (from 1) has failed.
    pub(crate) fn after(&self, attempt: u32) -> Duration {
        let index = attempt.saturating_sub(1);
        match self {
            Self::Exponential { initial, max, multiplier } => {
                let factor = f64::from(*multiplier).max(0.0).powf(f64::from(index));
                let wait = Duration::try_from_secs_f64(initial.as_secs_f64() * factor);
                // What is no duration is too long for one.
                wait.map_or(*max, |wait| wait.min(*max))
            }
            Self::Customized(waits) => {
                waits.get(index as usize).or_else(|| waits.last()).copied().unwrap_or(Duration::ZERO)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound() {
        let schedule = RetrySchedule::Exponential {
            initial: Duration::from_millis(10),
            max: Duration::from_secs(1),
            multiplier: 2.0,
        };
        assert_eq!(schedule.after(1), Duration::from_millis(10));
        assert_eq!(schedule.after(3), Duration::from_millis(40));
        assert_eq!([7, 8].map(|attempt| schedule.after(attempt).as_millis()), [640, 1000]);
        assert_eq!(schedule.after(4_000_000), Duration::from_secs(1));
    }

    #[test]
    fn a_customized_schedule_repeats_its_last_wait() {
        let schedule = RetrySchedule::Customized(vec![Duration::from_secs(1), Duration::from_secs(5)]);
        assert_eq!([1, 2, 9].map(|attempt| schedule.after(attempt).as_secs()), [1, 5, 5]);
        assert_eq!(RetrySchedule::Customized(vec![]).after(1), Duration::ZERO);
    }
}
