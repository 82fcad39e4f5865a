//! Remembers the counted entries of Twilio's error log, so that each is counted once.
//!
//! A row holds an entry's SID, account, time, endpoint, error code, level and Call SID, but no text, parameter
//! or URL. It is written in the transaction that counts the entry.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::domain::engine::effects::{Batch, Fact};
use crate::domain::judge::route::Endpoint;
use crate::domain::words::error_log::{ErrorCode, Level};
use crate::domain::words::sid::{CallSid, ErrorLogSid};
use crate::metrics::ledger::{AccountId, CountedReport};

use super::codec::{corrupt, instant};
use super::error::OpenError;
use super::failures::{FailureFilter, MAX_REPORTED, RecentReport, rows};

/// How long an entry is remembered, in milliseconds: Twilio keeps its log for 30 days.
const REMEMBERED_MS: i64 = 31 * 24 * 60 * 60 * 1000;
/// The maximum number of entries remembered per account: twenty times as many as Twilio shows at once.
const MAX_PER_ACCOUNT: i64 = 200_000;
/// The maximum number of entries loaded for an account: twice as many as Twilio shows at once.
const MAX_LATEST: i64 = 20_000;

/// An account, the facts of its batch, and when they were learnt.
pub(super) type Facts<'a> = (AccountId, Cow<'a, [Fact]>, Option<Timestamp>);

/// Returns the facts of batches without the entries that are already counted, by the store or by an earlier
/// batch. Entries from a time whose entries have been forgotten are treated as counted.
pub(super) fn uncounted<'a>(
    connection: &Connection,
    batches: impl Iterator<Item = (AccountId, &'a Batch)>,
) -> rusqlite::Result<Vec<Facts<'a>>> {
    let mut seen = BTreeSet::new();
    let mut statement = connection.prepare_cached(
        "SELECT 1 FROM error_log_entry WHERE account_id = ?1 AND sid = ?2
         UNION ALL SELECT 1 FROM account WHERE id = ?1 AND ?3 <= error_log_forgotten_ms",
    )?;
    let mut is_new = |account: AccountId, sid: ErrorLogSid, at: Timestamp| {
        let key = params![account.0, sid.to_string(), at.as_millisecond()];
        Ok::<_, rusqlite::Error>(!statement.exists(key)? && seen.insert((account, sid)))
    };
    let mut uncounted = Vec::new();
    for (account, batch) in batches {
        let mut facts = Cow::Borrowed(batch.facts.as_slice());
        if batch.facts.iter().any(|fact| matches!(fact, Fact::Reported { .. })) {
            let mut new = Vec::with_capacity(batch.facts.len());
            for fact in &batch.facts {
                if let Fact::Reported { reported, at, .. } = fact
                    && !is_new(account, reported.sid, *at)?
                {
                    continue;
                }
                new.push(fact.clone());
            }
            facts = Cow::Owned(new);
        }
        uncounted.push((account, facts, batch.received_at));
    }
    Ok(uncounted)
}

/// Writes the entries of a batch, and forgets the oldest ones beyond the limits of age and number.
pub(super) fn record(connection: &Connection, reports: &[CountedReport]) -> rusqlite::Result<()> {
    let mut newest: BTreeSet<(AccountId, i64)> = BTreeSet::new();
    for report in reports {
        connection
            .prepare_cached("INSERT INTO error_log_entry VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![
                report.account.0,
                report.sid.to_string(),
                report.at.as_millisecond(),
                report.endpoint.map(|endpoint| endpoint.0),
                report.code.to_string(),
                report.level.as_str(),
                report.call_sid.map(|sid| sid.to_string()),
            ])?;
        newest.insert((report.account, report.at.as_millisecond()));
    }
    let accounts: BTreeSet<AccountId> = newest.iter().map(|(account, _)| *account).collect();
    for account in accounts {
        let of_account = newest.range((account, i64::MIN)..=(account, i64::MAX));
        let last = of_account.last().map_or(i64::MIN, |(_, at)| *at);
        forget(connection, account, last.saturating_sub(REMEMBERED_MS))?;
    }
    Ok(())
}

/// Forgets an account's entries before an instant, and the oldest ones beyond [`MAX_PER_ACCOUNT`].
fn forget(connection: &Connection, account: AccountId, before_ms: i64) -> rusqlite::Result<()> {
    let last_of_many = connection
        .prepare_cached(
            "SELECT at_ms FROM error_log_entry WHERE account_id = ?1
             ORDER BY at_ms DESC LIMIT 1 OFFSET ?2",
        )?
        .query_row(params![account.0, MAX_PER_ACCOUNT], |row| row.get::<_, i64>(0))
        .optional()?;
    let before_ms = last_of_many.map_or(before_ms, |at| at.max(before_ms));
    let forgotten = connection
        .prepare_cached("DELETE FROM error_log_entry WHERE account_id = ?1 AND at_ms < ?2")?
        .execute(params![account.0, before_ms])?;
    if forgotten > 0 {
        // Forgotten entries must not be counted again.
        connection
            .prepare_cached(
                "UPDATE account SET error_log_forgotten_ms = max(coalesce(error_log_forgotten_ms, ?2), ?2)
                 WHERE id = ?1",
            )?
            .execute(params![account.0, before_ms - 1])?;
    }
    Ok(())
}

/// Loads an account's newest entries since an instant, each with its time.
pub(super) fn latest(
    connection: &Connection,
    account: AccountId,
    from: Timestamp,
) -> Result<Vec<(ErrorLogSid, Timestamp)>, OpenError> {
    let mut statement = connection.prepare_cached(
        "SELECT sid, at_ms FROM error_log_entry WHERE account_id = ?1 AND at_ms >= ?2
         ORDER BY at_ms DESC LIMIT ?3",
    )?;
    let mut rows = statement.query(params![account.0, from.as_millisecond(), MAX_LATEST])?;
    let mut latest = Vec::new();
    while let Some(row) = rows.next()? {
        let sid: String = row.get(0)?;
        let parsed = ErrorLogSid::parse(&sid).map_err(|_| corrupt("error_log_entry", &sid))?;
        latest.push((parsed, instant(row.get(1)?)?));
    }
    Ok(latest)
}

/// Returns the newest matching entries about webhooks, except those confirmed by a Call Event, which is the
/// better record. `accounts` maps the ids of accounts to their labels.
pub(super) fn unconfirmed(
    connection: &Connection,
    accounts: &BTreeMap<u32, String>,
    filter: &FailureFilter,
) -> rusqlite::Result<Vec<RecentReport>> {
    if !filter.kinds.is_empty() || !filter.reasons.is_empty() {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare_cached(
        "SELECT region, host, route, at_ms, code, level, call_sid
         FROM error_log_entry entry
            JOIN account ON account.id = entry.account_id
            JOIN endpoint ON endpoint.id = entry.endpoint_id
         WHERE entry.account_id = ?1 AND at_ms BETWEEN ?2 AND ?3
            AND (?4 IS NULL OR host IN (SELECT value FROM json_each(?4)))
            AND (?5 IS NULL OR route IN (SELECT value FROM json_each(?5)))
            AND NOT EXISTS (SELECT 1 FROM failure
                WHERE failure.call_sid = entry.call_sid AND failure.endpoint_id = entry.endpoint_id)
         ORDER BY at_ms DESC LIMIT ?6",
    )?;
    let mut found = Vec::new();
    for (id, label) in accounts {
        let mut rows = statement.query(params![
            id,
            filter.from.map_or(i64::MIN, Timestamp::as_millisecond),
            filter.to.map_or(i64::MAX, Timestamp::as_millisecond),
            rows::any_of(filter.hosts.iter().map(String::as_str)),
            rows::any_of(filter.routes.iter().map(String::as_str)),
            i64::try_from(MAX_REPORTED).unwrap_or(i64::MAX),
        ])?;
        while let Some(row) = rows.next()? {
            found.push(decode(row, label)?);
        }
    }
    found.sort_by_key(|report| std::cmp::Reverse(report.at));
    found.truncate(MAX_REPORTED.min(filter.limit));
    Ok(found)
}

fn decode(row: &Row<'_>, account: &str) -> rusqlite::Result<RecentReport> {
    let (code, level): (String, String) = (row.get(4)?, row.get(5)?);
    let (ms, call_sid): (i64, Option<String>) = (row.get(3)?, row.get(6)?);
    let call_sid = match call_sid {
        Some(sid) => Some(CallSid::parse(&sid).map_err(|_| rows::unknown(6, &sid))?),
        None => None,
    };
    Ok(RecentReport {
        at: Timestamp::from_millisecond(ms).map_err(|_| rows::unknown(3, &ms.to_string()))?,
        account: account.to_owned(),
        region: row.get(0)?,
        endpoint: Endpoint { host: row.get(1)?, route: row.get(2)? },
        code: ErrorCode::from_label(&code).ok_or_else(|| rows::unknown(4, &code))?,
        level: Level::from_label(&level).ok_or_else(|| rows::unknown(5, &level))?,
        call_sid,
    })
}
