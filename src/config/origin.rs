//! What of a configuration came from its file, and what a reload must not lose in silence: a file that
//! is empty, or was cut off while it was written, is valid.

use std::collections::BTreeSet;

/// What a configuration took from its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The keys that the file sets.
    pub(super) keys: BTreeSet<String>,
    /// Whether the accounts are those of the file.
    pub(super) has_accounts: bool,
}

impl Origin {
    /// Why a file must not take the place of the one that was read before: the key, and the reason.
    pub(super) fn refusal(&self, former: &Self) -> Option<(&'static str, &'static str)> {
        if self.keys.is_empty() && !former.keys.is_empty() {
            let text = "is empty: it sets nothing any more; to run with the defaults, restart";
            return Some(("", text));
        }
        let has_lost_accounts = former.has_accounts && !self.has_accounts;
        has_lost_accounts.then_some((
            "accounts",
            "has no account any more; to run with the account of the environment, restart",
        ))
    }

    /// The keys that were set before, and are no longer. Left out are those of whole accounts.
    pub fn lost(&self, former: &Self) -> Vec<String> {
        let is_kept = |key: &&String| match key.split_once(']') {
            None => true,
            Some((account, _)) => self.keys.iter().any(|key| key.starts_with(account)),
        };
        former.keys.difference(&self.keys).filter(is_kept).cloned().collect()
    }
}
