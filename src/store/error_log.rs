//! The entries of Twilio's error log that were counted, so that each is counted once.
//!
//! A row holds a SID, a time, an error code and a Call SID: no text, parameter or URL. It is written in the
//! transaction that counts its entry.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::domain::engine::effects::{Batch, Fact};
use crate::domain::words::sid::ErrorLogSid;
use crate::metrics::ledger::{AccountId, CountedReport};

use super::codec::{corrupt, instant};
use super::error::OpenError;

/// How long an entry is remembered, in milliseconds: Twilio keeps its log for 30 days.
const REMEMBERED_MS: i64 = 31 * 24 * 60 * 60 * 1000;
/// Most entries that are remembered of an account, the newest: twenty times as many as Twilio shows at once.
const MAX_PER_ACCOUNT: i64 = 200_000;
/// Most entries that an account begins with: twice as many as Twilio shows at once.
const MAX_LATEST: i64 = 20_000;

/// A batch's facts, with its account and when they were learnt.
pub(super) type Facts<'a> = (AccountId, Cow<'a, [Fact]>, Option<Timestamp>);

/// The facts of batches with their accounts and when they were learnt, without those entries that are counted
/// already: by the store, or by a batch before.
pub(super) fn uncounted<'a>(
    connection: &Connection,
    batches: impl Iterator<Item = (AccountId, &'a Batch)>,
) -> rusqlite::Result<Vec<Facts<'a>>> {
    let mut before = BTreeSet::new();
    let mut statement = connection
        .prepare_cached("SELECT 1 FROM error_log_entry WHERE account_id = ?1 AND sid = ?2")?;
    let mut is_new = |account: AccountId, sid: ErrorLogSid| {
        let is_counted = statement.exists(params![account.0, sid.to_string()])?;
        Ok::<_, rusqlite::Error>(!is_counted && before.insert((account, sid)))
    };
    let mut uncounted = Vec::new();
    for (account, batch) in batches {
        let mut facts = Cow::Borrowed(batch.facts.as_slice());
        if batch.facts.iter().any(|fact| matches!(fact, Fact::Reported { .. })) {
            let mut new = Vec::with_capacity(batch.facts.len());
            for fact in &batch.facts {
                if let Fact::Reported { reported, .. } = fact
                    && !is_new(account, reported.sid)?
                {
                    continue;
                }
                new.push(fact.clone());
            }
            facts = Cow::Owned(new);
        }
        uncounted.push((account, facts, batch.learnt_at));
    }
    Ok(uncounted)
}

/// Writes the entries of a batch, and forgets those that are too old or too many.
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
        connection
            .prepare_cached(
                "DELETE FROM error_log_entry WHERE account_id = ?1 AND (at_ms < ?2 OR at_ms < (
                    SELECT at_ms FROM error_log_entry WHERE account_id = ?1
                    ORDER BY at_ms DESC LIMIT 1 OFFSET ?3))",
            )?
            .execute(params![account.0, last.saturating_sub(REMEMBERED_MS), MAX_PER_ACCOUNT])?;
    }
    Ok(())
}

/// The entries of an account from an instant on, each with when it happened.
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
