//! Resources that can't currently be read from Twilio, for the landing page.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// The resources that can't currently be read, shared.
#[derive(Clone, Debug, Default)]
pub struct Troubles(Arc<Mutex<Vec<UnreadableResource>>>);

/// One resource of one account that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableResource {
    /// The account's label.
    pub account: String,
    /// The resource, as a value of the label `resource`.
    pub resource: &'static str,
    /// Why it can't be read, in plain words.
    pub why: String,
    /// Since when it can't be read, in local time.
    pub since: Timestamp,
}

impl Troubles {
    /// Returns all unreadable resources.
    pub fn all(&self) -> Vec<UnreadableResource> {
        self.lock().clone()
    }

    pub(super) fn set(
        &self,
        account: &str,
        resource: &'static str,
        problem: Option<(String, Timestamp)>,
    ) {
        let mut known = self.lock();
        known.retain(|known| known.account != account || known.resource != resource);
        known.extend(problem.map(|(why, since)| {
            let account = account.to_owned();
            UnreadableResource { account, resource, why, since }
        }));
    }

    pub(super) fn remove_accounts(&self, is_gone: impl Fn(&str) -> bool) {
        self.lock().retain(|known| !is_gone(&known.account));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<UnreadableResource>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
