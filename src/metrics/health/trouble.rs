//! What can't be read from Twilio at present, for the landing page.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// What can't be read at present.
#[derive(Clone, Debug, Default)]
pub struct Troubles(Arc<Mutex<Vec<UnreadableResource>>>);

/// One resource of one account that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableResource {
    /// The account's label.
    pub account: String,
    /// What can't be read, as the label `resource` has it.
    pub resource: &'static str,
    /// Why, for a person.
    pub why: String,
    /// Since when, in local time.
    pub since: Timestamp,
}

impl Troubles {
    /// All there is.
    pub fn all(&self) -> Vec<UnreadableResource> {
        self.known().clone()
    }

    pub(super) fn set(
        &self,
        account: &str,
        resource: &'static str,
        told: Option<(String, Timestamp)>,
    ) {
        let mut known = self.known();
        known.retain(|known| known.account != account || known.resource != resource);
        known.extend(told.map(|(why, since)| {
            let account = account.to_owned();
            UnreadableResource { account, resource, why, since }
        }));
    }

    pub(super) fn remove_accounts(&self, is_gone: impl Fn(&str) -> bool) {
        self.known().retain(|known| !is_gone(&known.account));
    }

    fn known(&self) -> MutexGuard<'_, Vec<UnreadableResource>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
