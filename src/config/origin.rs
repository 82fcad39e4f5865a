//! Records what a configuration took from its file, so that a reload can't silently lose it: an empty file,
//! or one that was cut off while being written, is valid YAML.

use std::collections::BTreeSet;

/// What a configuration took from its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The keys that the file sets.
    pub(super) keys: BTreeSet<String>,
    /// Whether the accounts come from the file.
    pub(super) has_accounts: bool,
}

impl Origin {
    /// Why a file must not replace the previous one: the key and the reason.
    pub(super) fn refusal(&self, previous: &Self) -> Option<(&'static str, &'static str)> {
        if self.keys.is_empty() && !previous.keys.is_empty() {
            let text = "is empty and sets nothing; to run with the defaults, restart";
            return Some(("", text));
        }
        let has_lost_accounts = previous.has_accounts && !self.has_accounts;
        has_lost_accounts.then_some((
            "accounts",
            "lists no accounts; to run with the account from the environment, restart",
        ))
    }

    /// The keys that were set before and no longer are, except those of accounts that were removed
    /// completely.
    pub fn removed_keys(&self, previous: &Self) -> Vec<String> {
        let is_kept = |key: &&String| match key.split_once(']') {
            None => true,
            Some((account, _)) => self.keys.iter().any(|key| key.starts_with(account)),
        };
        previous.keys.difference(&self.keys).filter(is_kept).cloned().collect()
    }
}
