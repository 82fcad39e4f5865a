//! Deleting what has no events any more, so that the file stays bounded over years.
//!
//! Time is Twilio's: an account's list cursor tells how far it is known. No local clock that is
//! wrong for once can delete anything, and while Twilio can't be reached nothing grows old.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::domain::twilio_time::before;
use crate::metrics::ledger::{AccountId, Committed, EndpointId};

use super::schema::Opened;

/// How long a pair of host and route, or a removed account, is kept without events. Longer than
/// Prometheus looks back for a month's error budget.
const KEPT_FOR: Duration = Duration::from_secs(35 * 24 * 60 * 60);

/// Deletes an account's endpoints without events, and accounts that were removed, from the store
/// and then from the ledger. Returns how many endpoints of the account went.
pub(super) fn retire(
    store: &mut Opened,
    committed: &Committed,
    account: AccountId,
    cursor: Timestamp,
) -> rusqlite::Result<u64> {
    let since = before(cursor, KEPT_FOR);
    let idle = committed.read().idle_endpoints(account, since);
    let removed = removed_accounts(store.database.read(), committed, since)?;
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
                    "no events for 35 days: its series are retired"
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

/// Accounts that nobody polls, and whose lists were last read before an instant.
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
        "DELETE FROM account WHERE id = ?1",
    ] {
        connection.prepare_cached(statement)?.execute(params![id])?;
    }
    Ok(())
}

fn delete_endpoint(connection: &Connection, id: u32) -> rusqlite::Result<()> {
    for statement in [
        "DELETE FROM failure WHERE endpoint_id = ?1",
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
