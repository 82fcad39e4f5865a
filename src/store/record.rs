//! Writes a batch's changes: new endpoints and groups, series values, progress.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::domain::track::listing::{ErrorLogProgress, ListProgress};
use crate::metrics::ledger::{self, AccountId, Committed, Delta, EndpointId, GroupId, Scope};

use super::codec;
use super::error::OpenError;
use super::{AccountKey, Batch};

/// Loads an account's id and the progress of its lists.
pub(super) fn load_progress(
    connection: &Connection,
    key: &AccountKey,
) -> Result<(AccountId, ListProgress), OpenError> {
    let (id, known): (u32, [Option<i64>; 6]) = connection.query_row(
        "SELECT id, cursor_ms, forget_before_ms, ended_to_ms, deep_to_ms, error_log_since_ms,
            error_log_to_ms
         FROM account WHERE sid = ?1 AND region = ?2",
        params![key.sid.to_string(), key.region],
        |row| {
            let [a, b, c, d, e, f] = [1, 2, 3, 4, 5, 6].map(|at| row.get(at));
            Ok((row.get(0)?, [a?, b?, c?, d?, e?, f?]))
        },
    )?;
    let known = known.map(|ms| ms.map(codec::instant).transpose());
    let [cursor, forget_before, ended_to, deep_to, since, known_to] = known;
    let error_log = since?.zip(known_to?);
    let lists = ListProgress {
        cursor: cursor?,
        forget_before: forget_before?,
        ended_to: ended_to?,
        deep_to: deep_to?,
        error_log: error_log.map(|(since, known_to)| ErrorLogProgress { since, known_to }),
    };
    Ok((AccountId(id), lists))
}

/// Writes the progress of an account's calls and lists.
pub(super) fn store_progress(
    connection: &Connection,
    account: AccountId,
    batch: &Batch,
) -> rusqlite::Result<()> {
    for call in &batch.calls {
        codec::store_call(connection, account, call)?;
    }
    for sid in &batch.forgotten {
        connection
            .prepare_cached("DELETE FROM call WHERE account_id = ?1 AND sid = ?2")?
            .execute(params![account.0, sid.to_string()])?;
    }
    connection
        .prepare_cached(
            "UPDATE account SET cursor_ms = ?2, forget_before_ms = ?3, ended_to_ms = ?4,
                deep_to_ms = ?5, error_log_since_ms = ?6, error_log_to_ms = ?7 WHERE id = ?1",
        )?
        .execute(params![
            account.0,
            batch.lists.cursor.map(Timestamp::as_millisecond),
            batch.lists.forget_before.map(Timestamp::as_millisecond),
            batch.lists.ended_to.map(Timestamp::as_millisecond),
            batch.lists.deep_to.map(Timestamp::as_millisecond),
            batch.lists.error_log.map(|log| log.since.as_millisecond()),
            batch.lists.error_log.map(|log| log.known_to.as_millisecond()),
        ])?;
    Ok(())
}

/// Writes the changes that facts make to the ledger.
pub(super) fn store_delta(
    connection: &Connection,
    committed: &Committed,
    delta: &Delta,
) -> rusqlite::Result<()> {
    for (EndpointId(id), entry) in &delta.endpoints {
        connection
            .prepare_cached("INSERT INTO endpoint VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![
                id,
                entry.account.0,
                entry.endpoint.host,
                entry.endpoint.route,
                entry.hold.held_since.as_millisecond(),
                entry.hold.is_released,
                entry.last_event_at.as_millisecond(),
            ])?;
    }
    for (EndpointId(id), at) in &delta.last_events {
        connection
            .prepare_cached("UPDATE endpoint SET last_event_ms = ?2 WHERE id = ?1")?
            .execute(params![id, at.as_millisecond()])?;
    }
    for (GroupId(id), entry) in &delta.groups {
        connection
            .prepare_cached("INSERT INTO request_group VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                id,
                entry.endpoint.0,
                entry.kind.as_str(),
                entry.hold.held_since.as_millisecond(),
                entry.hold.is_released,
            ])?;
    }
    // Collected before writing, so that no scrape waits for the disk.
    let values: BTreeMap<_, u64> = {
        let ledger = committed.read();
        let value = |(&(scope, cell), added): (&(Scope, _), &u64)| {
            ((scope, cell), ledger::sum(ledger.value(scope, cell), *added))
        };
        delta.added.iter().map(value).collect()
    };
    for ((scope, cell), value) in values {
        let (scope, id) = codec::encode_scope(scope);
        // SQLite's integers are signed. The ledger's values never exceed the largest of them.
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        connection
            .prepare_cached(
                "INSERT INTO series VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (scope, scope_id, cell) DO UPDATE SET value = excluded.value",
            )?
            .execute(params![scope, id, codec::encode_cell(cell), value])?;
    }
    Ok(())
}
