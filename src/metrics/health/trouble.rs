//! What can't be read from Twilio at present, for the landing page.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

/// What can't be read at present, by account and resource.
#[derive(Clone, Debug, Default)]
pub struct Troubles(Arc<Mutex<BTreeMap<(String, &'static str), (String, Timestamp)>>>);

/// One resource of one account that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
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
    pub fn all(&self) -> Vec<Told> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |((account, resource), (why, since)): (&(String, &'static str), &(_, _))| Told {
            account: account.clone(),
            resource,
            why: String::clone(why),
            since: *since,
        };
        known.iter().map(told).collect()
    }

    pub(super) fn set(
        &self,
        account: &str,
        resource: &'static str,
        told: Option<(String, Timestamp)>,
    ) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (account.to_owned(), resource);
        match told {
            Some(told) => known.insert(key, told),
            None => known.remove(&key),
        };
    }

    pub(super) fn remove_accounts(&self, is_gone: impl Fn(&str) -> bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(account, _), _| !is_gone(account));
    }
}
