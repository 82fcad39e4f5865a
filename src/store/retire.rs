//! Deletes what no longer has events, so that the file stays bounded over years.
//!
//! Age is measured by Twilio's time: an account's list cursor is the time up to which its lists are known. So
//! a wrong local clock can't delete anything, and nothing ages while Twilio can't be reached.
//! Invariant: endpoints age only while their account is polled. If a cursor jumps, after a downtime or because
//! an earlier one was wrong, all of its endpoints become younger by the jump.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::domain::track::twilio_time::{after, before};
use crate::metrics::ledger::{AccountId, Committed, EndpointId};

use super::schema::Opened;

/// How long an endpoint (a host and a route) or a removed account is kept without events. Longer than
/// Prometheus looks back for a month's error budget.
const KEPT_FOR: Duration = Duration::from_secs(35 * 24 * 60 * 60);

/// Longer steps of a cursor are jumps: lists are read every few minutes.
const LONGEST_STEP: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an account must have been polled before its cursor lets removed accounts be deleted. By then,
/// all accounts that are still configured are attached.
const FOLLOWED_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How often an account is searched for anything to delete.
const SEARCH_EVERY: Duration = Duration::from_secs(60 * 60);

/// How long accounts have been polled without a jump since the program started.
#[derive(Debug, Default)]
pub(super) struct CursorHistory(BTreeMap<AccountId, AccountCursor>);

#[derive(Clone, Copy, Debug, Default)]
struct AccountCursor {
    cursor: Option<Timestamp>,
    followed_for: Duration,
    searched_at: Option<Timestamp>,
}

impl CursorHistory {
    /// Starts with the stored cursor.
    pub(super) fn begin(&mut self, account: AccountId, cursor: Option<Timestamp>) {
        self.0.entry(account).or_default().cursor = cursor;
    }

    /// Returns the accounts whose cursor is about to jump, each with the length of the jump.
    pub(super) fn jumps(
        &self,
        cursors: impl Iterator<Item = (AccountId, Option<Timestamp>)>,
    ) -> Vec<(AccountId, Duration)> {
        let jump = |(account, cursor): (AccountId, Option<Timestamp>)| {
            let step = step(self.0.get(&account)?.cursor?, cursor?);
            (step > LONGEST_STEP).then_some((account, step))
        };
        cursors.filter_map(jump).collect()
    }

    /// Records a new cursor. Returns `None` if a search isn't due, otherwise whether the search may delete
    /// accounts.
    pub(super) fn advance(&mut self, account: AccountId, cursor: Timestamp) -> Option<bool> {
        let state = self.0.entry(account).or_default();
        let step = state.cursor.replace(cursor).map_or(Duration::ZERO, |from| step(from, cursor));
        state.followed_for =
            if step > LONGEST_STEP { Duration::ZERO } else { state.followed_for + step };
        let is_due = state.searched_at.is_none_or(|at| after(at, SEARCH_EVERY) <= cursor);
        is_due.then_some(state.followed_for >= FOLLOWED_FOR)
    }

    /// Records that an account was searched.
    pub(super) fn mark_searched(&mut self, account: AccountId, cursor: Timestamp) {
        self.0.entry(account).or_default().searched_at = Some(cursor);
    }
}

fn step(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Makes an account's endpoints younger by the time in which the account wasn't polled.
pub(super) fn postpone(
    connection: &Connection,
    AccountId(account): AccountId,
    by: Duration,
) -> rusqlite::Result<()> {
    let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "UPDATE endpoint SET last_event_ms = last_event_ms + ?2 WHERE account_id = ?1",
        )?
        .execute(params![account, ms])?;
    Ok(())
}

/// Deletes an account's endpoints without events and, if `may_delete_accounts`, the accounts that were
/// removed: first from the store, then from the ledger. Returns the number of deleted endpoints of the account.
pub(super) fn retire(
    store: &mut Opened,
    committed: &Committed,
    account: AccountId,
    cursor: Timestamp,
    may_delete_accounts: bool,
) -> rusqlite::Result<u64> {
    let since = before(cursor, KEPT_FOR);
    let idle = committed.read().idle_endpoints(account, since);
    let removed = if may_delete_accounts {
        removed_accounts(store.database.read(), committed, since)?
    } else {
        Vec::new()
    };
    if idle.is_empty() && removed.is_empty() {
        return Ok(0);
    }
    store.write(|transaction| {
        for &EndpointId(id) in &idle {
            delete_endpoint(transaction, id)?;
        }
        for &AccountId(id) in &removed {
            delete_account(transaction, id)?;
        }
        Ok(())
    })?;
    committed.publish(|ledger| {
        for id in &idle {
            if let Some(entry) = ledger.endpoints.get(id) {
                let label = ledger.accounts().get(&account).map_or("", String::as_str);
                tracing::info!(
                    account = label,
                    host = entry.endpoint.host,
                    route = entry.endpoint.route,
                    "retired the series of a route without events for 35 days"
                );
            }
        }
        ledger.retire(&idle);
        for account in &removed {
            ledger.remove_account(*account);
        }
    });
    Ok(u64::try_from(idle.len()).unwrap_or(u64::MAX))
}

/// Returns the accounts that aren't polled and whose lists were last read before `since`.
fn removed_accounts(
    connection: &Connection,
    committed: &Committed,
    since: Timestamp,
) -> rusqlite::Result<Vec<AccountId>> {
    let mut statement = connection.prepare_cached("SELECT id FROM account WHERE cursor_ms < ?1")?;
    let ids = statement.query_map([since.as_millisecond()], |row| row.get(0).map(AccountId))?;
    let mut removed = ids.collect::<rusqlite::Result<Vec<_>>>()?;
    let ledger = committed.read();
    removed.retain(|id| !ledger.accounts().contains_key(id));
    Ok(removed)
}

fn delete_account(connection: &Connection, id: u32) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM endpoint WHERE account_id = ?1")?;
    let endpoints = statement.query_map([id], |row| row.get(0))?;
    for endpoint in endpoints.collect::<rusqlite::Result<Vec<u32>>>()? {
        delete_endpoint(connection, endpoint)?;
    }
    for statement in [
        "DELETE FROM series WHERE scope = 'account' AND scope_id = ?1",
        "DELETE FROM call WHERE account_id = ?1",
        "DELETE FROM failure WHERE account_id = ?1",
        "DELETE FROM error_log_entry WHERE account_id = ?1",
        "DELETE FROM account WHERE id = ?1",
    ] {
        connection.prepare_cached(statement)?.execute(params![id])?;
    }
    Ok(())
}

fn delete_endpoint(connection: &Connection, id: u32) -> rusqlite::Result<()> {
    for statement in [
        "DELETE FROM failure WHERE endpoint_id = ?1",
        // The entry stays, so that it isn't counted again.
        "UPDATE error_log_entry SET endpoint_id = NULL WHERE endpoint_id = ?1",
        "DELETE FROM series WHERE scope = 'group' AND scope_id IN
            (SELECT id FROM request_group WHERE endpoint_id = ?1)",
        "DELETE FROM request_group WHERE endpoint_id = ?1",
        "DELETE FROM series WHERE scope = 'endpoint' AND scope_id = ?1",
        "DELETE FROM endpoint WHERE id = ?1",
    ] {
        connection.prepare_cached(statement)?.execute(params![id])?;
    }
    Ok(())
}
