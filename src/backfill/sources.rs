//! The accounts whose calls are read: the configured ones and their subaccounts.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};

use crate::app::accounts;
use crate::config::{Config, shape};
use crate::domain::engine::request::{AnswerContent, NextPage, Target};
use crate::metrics::ledger::AccountId;
use crate::poller::Account;
use crate::poller::subaccount;

use super::Mistake;
use super::requests::Requests;
use super::state::State;

/// An account whose calls are read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) id: AccountId,
    pub(super) account: Account,
}

/// Returns the configured accounts and their subaccounts with these labels, or all if none are given.
///
/// # Errors
/// [`Mistake`] if an account doesn't exist. Fails if Twilio refuses the list of subaccounts.
pub(super) async fn select(
    config: &Config,
    requests: &Requests,
    labels: &[String],
) -> anyhow::Result<Vec<Account>> {
    let mut found = Vec::new();
    for (account, configured) in accounts(config)?.into_iter().zip(&config.accounts) {
        if let Some(filter) = configured.subaccount_filter() {
            let mut seen = BTreeSet::new();
            let on_page = |content: AnswerContent, _is_first| {
                let page = content.accounts().context("the response to another request")?;
                let selected =
                    page.items.iter().filter(|item| filter.includes(item.sid, item.status));
                let new = selected.filter(|item| seen.insert(item.sid));
                found.extend(new.map(|item| subaccount(&account, item, filter)));
                Ok(match page.next {
                    NextPage::At { link, .. } => Some(link),
                    NextPage::End | NextPage::Foreign => None,
                })
            };
            requests.pages(&account, Target::Accounts, on_page).await?;
        }
        found.push(account);
    }
    let known: BTreeSet<&str> = found.iter().map(|account| account.label.as_str()).collect();
    if let Some(unknown) = labels.iter().find(|label| !known.contains(label.as_str())) {
        let known = known.into_iter().collect::<Vec<_>>().join("`, `");
        // A token may have been pasted in the wrong place.
        let unknown = shape::text(unknown);
        bail!(Mistake(format!("--account: no account has this name of {unknown}, only `{known}`")));
    }
    found.retain(|account| labels.is_empty() || labels.contains(&account.label));
    Ok(found)
}

/// Returns the accounts of a backfill. If they `may_be_new`, adds them to it.
pub(super) fn identify(
    accounts: Vec<Account>,
    state: &State,
    may_be_new: bool,
) -> anyhow::Result<BTreeMap<AccountId, Source>> {
    let mut sources = BTreeMap::new();
    for account in accounts {
        if may_be_new {
            state.add_account(&account.key, &account.label)?;
        }
        match state.account(&account.key)? {
            Some(id) => {
                sources.insert(id, Source { id, account });
            }
            None => {
                let label = account.label;
                tracing::warn!(
                    account = label,
                    "this account isn't part of the backfill, which began without it"
                );
            }
        }
    }
    Ok(sources)
}
