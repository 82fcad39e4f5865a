//! Failing requests as rows: written with the batch that counts them, limited in number, and queried.
//!
//! A row holds labels, a code, a duration and a Call SID, but no parameter, body, phone number or URL.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::twiml::Malformation;
use crate::domain::judge::verdict::{Code, Reason};
use crate::domain::words::sid::CallSid;
use crate::metrics::ledger::{AccountId, Committed, EndpointId, FailedRequest};

use super::super::error_log;
use super::{
    FailureFilter, MAX_PER_ACCOUNT, MAX_PER_ENDPOINT, MAX_RESULTS, ReadError, RecentFailure,
    RecentFailures,
};

/// Writes the failures of a batch, and deletes the oldest ones beyond the limits.
pub(in crate::store) fn record(
    connection: &Connection,
    failures: &[FailedRequest],
) -> rusqlite::Result<()> {
    let kept = most_recent(failures);
    for failed in &kept {
        connection
            .prepare_cached(
                "INSERT INTO failure
                    (account_id, endpoint_id, kind, at_ms, code, reason, duration_ms, call_sid,
                     detail)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                failed.account.0,
                failed.endpoint.0,
                failed.kind.as_str(),
                failed.at.as_millisecond(),
                failed.code.to_string(),
                failed.reason.as_str(),
                failed.duration_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
                failed.call_sid.to_string(),
                failed.malformation.map(Malformation::as_str),
            ])?;
    }
    let endpoints: BTreeSet<EndpointId> = kept.iter().map(|failed| failed.endpoint).collect();
    for EndpointId(id) in endpoints {
        connection
            .prepare_cached(
                "DELETE FROM failure WHERE id IN (
                    SELECT id FROM failure WHERE endpoint_id = ?1
                    ORDER BY at_ms DESC, id DESC LIMIT -1 OFFSET ?2)",
            )?
            .execute(params![id, limit(MAX_PER_ENDPOINT)])?;
    }
    let accounts: BTreeSet<AccountId> = kept.iter().map(|failed| failed.account).collect();
    for AccountId(id) in accounts {
        connection
            .prepare_cached(
                "DELETE FROM failure WHERE id IN (
                    SELECT id FROM failure WHERE account_id = ?1
                    ORDER BY at_ms DESC, id DESC LIMIT -1 OFFSET ?2)",
            )?
            .execute(params![id, limit(MAX_PER_ACCOUNT)])?;
    }
    Ok(())
}

/// Returns the failures of one batch that can be within the limits, oldest first: after a burst of failures,
/// thousands need not be written only to be deleted.
pub(in crate::store) fn most_recent(failures: &[FailedRequest]) -> Vec<&FailedRequest> {
    let mut newest_first: Vec<&FailedRequest> = failures.iter().rev().collect();
    // The sort is stable: of failures at the same time, the last one counted stays the newest.
    newest_first.sort_by_key(|failed| std::cmp::Reverse(failed.at));
    let mut per_endpoint: BTreeMap<EndpointId, usize> = BTreeMap::new();
    let mut per_account: BTreeMap<AccountId, usize> = BTreeMap::new();
    newest_first.retain(|failed| {
        let of_endpoint = per_endpoint.entry(failed.endpoint).or_default();
        let of_account = per_account.entry(failed.account).or_default();
        let has_room = *of_endpoint < MAX_PER_ENDPOINT && *of_account < MAX_PER_ACCOUNT;
        *of_endpoint += usize::from(has_room);
        *of_account += usize::from(has_room);
        has_room
    });
    newest_first.reverse();
    newest_first
}

/// Returns the most recent matching failures.
pub(in crate::store) fn recent(
    connection: &Connection,
    committed: &Committed,
    filter: &FailureFilter,
) -> Result<RecentFailures, ReadError> {
    // The ledger has the account labels. Its lock is released before the disk is read, so that no scrape
    // waits.
    let accounts: BTreeMap<u32, String> = {
        let ledger = committed.read();
        let is_selected = |label| filter.accounts.is_empty() || filter.accounts.contains(label);
        let selected = ledger.accounts().iter().filter(|(_, label)| is_selected(label));
        selected.map(|(AccountId(id), label)| (*id, label.clone())).collect()
    };
    let read = || {
        let reported = error_log::unconfirmed(connection, &accounts, filter)?;
        Ok(RecentFailures { reported, ..query(connection, &accounts, filter)? })
    };
    read().map_err(|error: rusqlite::Error| ReadError::Failed(error.to_string()))
}

fn query(
    connection: &Connection,
    accounts: &BTreeMap<u32, String>,
    filter: &FailureFilter,
) -> rusqlite::Result<RecentFailures> {
    let mut statement = connection.prepare_cached(
        "SELECT failure.account_id, region, host, route, kind, at_ms, code, reason, duration_ms,
            call_sid, detail, count(*) OVER ()
         FROM failure
            JOIN account ON account.id = failure.account_id
            JOIN endpoint ON endpoint.id = failure.endpoint_id
         WHERE failure.account_id IN (SELECT value FROM json_each(?1))
            AND (?2 IS NULL OR host IN (SELECT value FROM json_each(?2)))
            AND (?3 IS NULL OR route IN (SELECT value FROM json_each(?3)))
            AND (?4 IS NULL OR kind IN (SELECT value FROM json_each(?4)))
            AND (?5 IS NULL OR reason IN (SELECT value FROM json_each(?5)))
            AND at_ms BETWEEN ?6 AND ?7
         ORDER BY at_ms DESC, failure.id DESC LIMIT ?8",
    )?;
    let mut rows = statement.query(params![
        list(accounts.keys().copied()),
        any_of(filter.hosts.iter().map(String::as_str)),
        any_of(filter.routes.iter().map(String::as_str)),
        any_of(filter.kinds.iter().map(|kind| kind.as_str())),
        any_of(filter.reasons.iter().map(|reason| reason.as_str())),
        filter.from.map_or(i64::MIN, Timestamp::as_millisecond),
        filter.to.map_or(i64::MAX, Timestamp::as_millisecond),
        limit(filter.limit.min(MAX_RESULTS)),
    ])?;
    let mut found = RecentFailures::default();
    while let Some(row) = rows.next()? {
        found.failures.push(decode(row, accounts)?);
        found.total = usize::try_from(row.get::<_, i64>(11)?).unwrap_or(usize::MAX);
    }
    Ok(found)
}

/// Encodes the accepted values. Returns `None` if any value is accepted.
pub(in crate::store) fn any_of<'a>(
    values: impl ExactSizeIterator<Item = &'a str>,
) -> Option<String> {
    (values.len() > 0).then(|| list(values))
}

/// Encodes a list for SQLite's `json_each`: one parameter for any number of values.
fn list<T: Into<serde_json::Value>>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(Into::into).collect::<serde_json::Value>().to_string()
}

fn limit(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn decode(row: &Row<'_>, accounts: &BTreeMap<u32, String>) -> rusqlite::Result<RecentFailure> {
    let text = |at| row.get::<_, String>(at);
    let (kind, ms): (String, i64) = (text(4)?, row.get(5)?);
    let (code, reason, call_sid) = (text(6)?, text(7)?, text(9)?);
    let (duration_ms, detail): (Option<i64>, Option<String>) = (row.get(8)?, row.get(10)?);
    let malformation = match detail {
        Some(detail) => {
            Some(Malformation::from_label(&detail).ok_or_else(|| unknown(10, &detail))?)
        }
        None => None,
    };
    Ok(RecentFailure {
        at: Timestamp::from_millisecond(ms).map_err(|_| unknown(5, &ms.to_string()))?,
        account: accounts.get(&row.get(0)?).cloned().unwrap_or_default(),
        region: text(1)?,
        endpoint: Endpoint { host: text(2)?, route: text(3)? },
        kind: RequestKind::from_label(&kind).ok_or_else(|| unknown(4, &kind))?,
        code: Code::from_label(&code).ok_or_else(|| unknown(6, &code))?,
        reason: Reason::from_label(&reason).ok_or_else(|| unknown(7, &reason))?,
        malformation,
        duration_ms: duration_ms.and_then(|ms| u64::try_from(ms).ok()),
        call_sid: CallSid::parse(&call_sid).map_err(|_| unknown(9, &call_sid))?,
    })
}

pub(in crate::store) fn unknown(at: usize, value: &str) -> rusqlite::Error {
    let what = format!("a table of failures has an unknown value `{value}`");
    rusqlite::Error::FromSqlConversionFailure(at, Type::Text, what.into())
}
