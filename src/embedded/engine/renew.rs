//! Renewal by the server (`auto_renew`): a proxy prolongs the leases of its clients for up to three hours.

use std::sync::Arc;

use super::content::Millis;

const MINUTE: Millis = 60_000;

/// Prolongations in minutes, by how many came before; the last holds for all later ones.
const STEPS: [Millis; 6] = [MINUTE, 3 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, 60 * MINUTE];

/// After this it is the client's fault.
const MAX_HOLD: Millis = 180 * MINUTE;

/// Who renews a lease, and for whom.
#[derive(Debug, Clone)]
pub(crate) struct Renewer {
    pub(crate) proxy: usize,
    pub(crate) client: Arc<str>,
    since: Millis,
    renewals: usize,
}

impl Renewer {
    pub(crate) fn new(proxy: usize, client: Arc<str>, now: Millis) -> Self {
        Self { proxy, client, since: now, renewals: 0 }
    }

    /// How much longer the lease lasts from `now`; `None` when three hours are over.
    pub(crate) fn renew(&mut self, now: Millis) -> Option<Millis> {
        if now.saturating_sub(self.since) >= MAX_HOLD {
            return None;
        }
        let step = STEPS.get(self.renewals).or(STEPS.last()).copied()?;
        self.renewals += 1;
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_renewal_grows_and_ends_after_three_hours() {
        let mut renewer = Renewer::new(0, "c".into(), 0);
        let mut now = MINUTE;
        let mut steps = Vec::new();
        while let Some(step) = renewer.renew(now) {
            steps.push(step / MINUTE);
            now += step;
        }
        assert_eq!(steps, [1, 3, 5, 10, 30, 60, 60, 60]);
        assert!(now >= MAX_HOLD);
    }
}
