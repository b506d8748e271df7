//! Whose secret parts can be sealed: looked at before a command has a place in the log.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::{OrganisationId, Secret};
use persistence::Sealer;

use crate::node::SubmitError;

/// How long an organisation whose key can't be made or read waits until that is tried again: each time costs the core
/// a visit to the disk.
const KEY_RETRY: Duration = Duration::from_secs(1);

/// Whose secret parts can be sealed.
pub(super) struct Seals {
    pub(super) sealer: Sealer,
    /// Organisations whose key could not be made or read, each with the [`super::Surroundings::uptime`] from which that is tried
    /// again, and what is answered until then.
    failing: BTreeMap<OrganisationId, (Duration, SubmitError)>,
}

impl Seals {
    pub(super) fn new(sealer: Sealer) -> Self {
        Self { sealer, failing: BTreeMap::new() }
    }

    /// Makes sure that a secret part can be sealed: its key is there, durable and in memory from now on.
    pub(super) fn ready(&mut self, secret: &Secret, uptime: Duration) -> Result<(), SubmitError> {
        let organisation = secret.organisation();
        let failing = self.failing.get(&organisation).copied();
        if let Some((_, error)) = failing.filter(|(until, _)| uptime < *until) {
            metrics::counter!("rt_key_refusals_total").increment(1);
            return Err(error);
        }
        let Err(error) = self.sealer.ready(organisation) else {
            if failing.is_some() {
                self.failing.remove(&organisation);
                metrics::gauge!("rt_keys_failing").set(self.failing.len() as f64);
                tracing::info!(
                    "The key of organisation {:032x} can be used: its commands are taken",
                    organisation.0
                );
            }
            return Ok(());
        };
        let answer = if error.is_full() { SubmitError::ReadOnly } else { SubmitError::Unsealable };
        self.failing.insert(organisation, (uptime + KEY_RETRY, answer));
        metrics::counter!("rt_key_refusals_total").increment(1);
        metrics::gauge!("rt_keys_failing").set(self.failing.len() as f64);
        if failing.is_none() {
            tracing::error!(
                "The secret parts of an organisation can't be sealed, so commands with one are refused to it and to \
                 nobody else, until its key can be used; that is tried again by itself: {error}"
            );
        }
        Err(answer)
    }
}
