//! How failures are worded and logged.

use std::time::{Duration, Instant};

use crate::error::{Error, Operation, millis};
use crate::producer::accumulator::Entry;
use crate::producer::parcel::Parcel;

/// How often a trouble that lasts is logged.
const LOGGED_EVERY: Duration = Duration::from_secs(30);

/// A trouble is logged when it begins and then now and again with a count, not for each message (trap E3).
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    logged: Option<Instant>,
    failed_since: u64,
}

impl Trouble {
    /// An attempt failed that will be repeated.
    pub(crate) fn on_failure(&mut self, error: &Error, now: Instant) {
        self.failed_since += 1;
        if self.is_due(now) {
            tracing::warn!(%error, failed_attempts = self.failed_since, "sends fail; messages are kept and sent again");
            self.logged = Some(now);
            self.failed_since = 0;
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= LOGGED_EVERY)
    }
}

/// The error that the sender sees: which message, how often it was tried, and whether the server may have it.
pub(crate) fn final_error(entry: &Entry<Box<Parcel>>, error: Error, now: Instant) -> Error {
    let parcel = &entry.payload;
    let mut text = format!("{}: {}", parcel.name(), error.text());
    if entry.attempts() > 1 {
        let taken = millis(now.saturating_duration_since(entry.accepted()));
        text += &format!("; given up after {} attempts in {taken}", entry.attempts());
    }
    if parcel.may_be_stored {
        text += "; the server may have stored it all the same";
    }
    let error = if error.operation().is_none() { error.during(Operation::Send) } else { error };
    error.on_topic(parcel.message().shared_topic()).with_text(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::error::ErrorKind;

    #[test]
    fn e3_a_trouble_that_lasts_is_logged_once_and_then_counted() {
        let now = clock::now();
        let error = Error::new(ErrorKind::Unavailable, "away");
        let mut trouble = Trouble::default();
        assert!(trouble.is_due(now));
        for _ in 0..1000 {
            trouble.on_failure(&error, now);
            assert!(!trouble.is_due(now));
        }
        assert_eq!(trouble.failed_since, 999);
        assert!(trouble.is_due(now + LOGGED_EVERY));
    }
}
