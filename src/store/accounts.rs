//! Stores which accounts are known and whose subaccounts they are, so that a restart shows and polls them at
//! once, before Twilio has listed them.
//!
//! The configuration decides which of them are used, and under which labels.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use crate::domain::words::sid::AccountSid;
use crate::metrics::ledger::AccountId;

use super::AccountKey;
use super::error::OpenError;

/// A subaccount, as of the last listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subaccount {
    /// Its SID. Its region is that of its account.
    pub sid: AccountSid,
    /// Its status, as reported by Twilio.
    pub status: String,
}

/// Returns the labels of the accounts that the store knows, by id.
pub(super) fn by_id<T>(
    connection: &Connection,
    labels: BTreeMap<AccountKey, T>,
) -> rusqlite::Result<BTreeMap<AccountId, T>> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM account WHERE sid = ?1 AND region = ?2")?;
    let mut by_id = BTreeMap::new();
    for (key, label) in labels {
        let id = statement.query_row(params![key.sid.to_string(), key.region], |row| row.get(0));
        by_id.extend(id.optional()?.map(|id| (AccountId(id), label)));
    }
    Ok(by_id)
}

/// Loads the subaccounts of an account.
pub(super) fn subaccounts(
    connection: &Connection,
    parent: &AccountKey,
) -> Result<Vec<Subaccount>, OpenError> {
    let mut statement = connection.prepare_cached(
        "SELECT sid, coalesce(status, '') FROM account
         WHERE parent_sid = ?1 AND region = ?2 ORDER BY sid",
    )?;
    let mut rows = statement.query(params![parent.sid.to_string(), parent.region])?;
    let mut subaccounts = Vec::new();
    while let Some(row) = rows.next()? {
        let sid: String = row.get(0)?;
        let corrupt = |_| OpenError::Corrupt { what: format!("table account has the SID `{sid}`") };
        let sid = AccountSid::parse(&sid).map_err(corrupt)?;
        subaccounts.push(Subaccount { sid, status: row.get(1)? });
    }
    Ok(subaccounts)
}

/// Replaces the subaccounts of an account. Former subaccounts stay as accounts.
pub(super) fn remember(
    connection: &Connection,
    parent: &AccountKey,
    found: &[Subaccount],
) -> rusqlite::Result<()> {
    let (parent_sid, region) = (parent.sid.to_string(), &parent.region);
    connection
        .prepare_cached(
            "UPDATE account SET parent_sid = NULL WHERE parent_sid = ?1 AND region = ?2",
        )?
        .execute(params![parent_sid, region])?;
    for Subaccount { sid, status } in found {
        connection
            .prepare_cached(
                "INSERT INTO account (sid, region, parent_sid, status) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (sid, region) DO UPDATE
                 SET parent_sid = excluded.parent_sid, status = excluded.status",
            )?
            .execute(params![sid.to_string(), region, parent_sid, status])?;
    }
    Ok(())
}
