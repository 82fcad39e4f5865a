//! The accounts, their lists and their calls.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use crate::domain::words::call::{CallStatus, Direction};
use crate::domain::words::sid::CallSid;
use crate::metrics::ledger::AccountId;
use crate::store::AccountKey;

use super::{Phase, State};

/// How many calls are read first, evenly spread over the interval, so that the estimate knows the routes.
const PROBES: i64 = 20;

/// A call to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backfill) struct PendingCall {
    pub(in crate::backfill) account: AccountId,
    pub(in crate::backfill) sid: CallSid,
    pub(in crate::backfill) direction: Direction,
    pub(in crate::backfill) status: CallStatus,
    pub(in crate::backfill) began_at: Timestamp,
    pub(in crate::backfill) ended_at: Option<Timestamp>,
}

/// How many calls there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::backfill) struct Totals {
    /// All that are to be read.
    pub(in crate::backfill) calls: u64,
    /// Those that have been tried.
    pub(in crate::backfill) read: u64,
    /// Of these, those whose Call Events Twilio doesn't return.
    pub(in crate::backfill) unreadable: u64,
}

impl State {
    /// Adds an account unless it is known.
    pub(in crate::backfill) fn add_account(
        &self,
        key: &AccountKey,
        label: &str,
    ) -> rusqlite::Result<()> {
        let insert = "INSERT OR IGNORE INTO account (sid, region, label) VALUES (?1, ?2, ?3)";
        let parameters = params![key.sid.to_string(), key.region, label];
        self.connection.execute(insert, parameters).map(drop)
    }

    /// Returns the id of an account.
    pub(in crate::backfill) fn account(
        &self,
        key: &AccountKey,
    ) -> rusqlite::Result<Option<AccountId>> {
        let query = "SELECT id FROM account WHERE sid = ?1 AND region = ?2";
        let parameters = params![key.sid.to_string(), key.region];
        let id = self.connection.query_row(query, parameters, |row| row.get(0)).optional()?;
        Ok(id.map(AccountId))
    }

    /// Whether a list has been read to its end.
    pub(in crate::backfill) fn is_listed(
        &self,
        account: AccountId,
        list: &str,
    ) -> rusqlite::Result<bool> {
        let query = "SELECT count(*) FROM list WHERE account_id = ?1 AND name = ?2";
        self.connection.query_row(query, params![account.0, list], |row| row.get::<_, bool>(0))
    }

    /// Notes that a list has been read to its end.
    pub(in crate::backfill) fn set_listed(
        &self,
        account: AccountId,
        list: &str,
    ) -> rusqlite::Result<()> {
        let insert = "INSERT OR IGNORE INTO list VALUES (?1, ?2)";
        self.connection.execute(insert, params![account.0, list]).map(drop)
    }

    /// Adds listed calls. Those already known are ignored.
    pub(in crate::backfill) fn add_calls(&mut self, calls: &[PendingCall]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for call in calls {
            let insert = "INSERT OR IGNORE INTO call VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL, NULL)";
            transaction.prepare_cached(insert)?.execute(params![
                call.account.0,
                call.sid.to_string(),
                call.direction.as_str(),
                call.status.as_str(),
                call.began_at.as_millisecond(),
                call.ended_at.map(Timestamp::as_millisecond),
            ])?;
        }
        transaction.commit()
    }

    /// Determines the order in which calls are read: a few spread over the interval, then all by their start.
    pub(in crate::backfill) fn finish_listing(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "WITH ordered AS (
                 SELECT account_id, sid, row_number() OVER (ORDER BY began_ms, account_id, sid) - 1 AS number,
                     max(1, count(*) OVER () / ?1) AS apart
                 FROM call)
             UPDATE call SET position = iif(number % apart = 0 AND number / apart < ?1, number - 1000000000000, number)
             FROM ordered WHERE call.account_id = ordered.account_id AND call.sid = ordered.sid",
            [PROBES],
        )?;
        transaction
            .execute("UPDATE meta SET value = ?1 WHERE key = 'phase'", [Phase::Reading as i64])?;
        transaction.commit()
    }

    /// Returns up to `limit` calls to read after a position, each with its position: all calls, or only the few that
    /// come first.
    pub(in crate::backfill) fn pending(
        &self,
        only_probes: bool,
        after: i64,
        limit: usize,
    ) -> anyhow::Result<Vec<(i64, PendingCall)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT account_id, sid, direction, status, began_ms, ended_ms, position FROM call
             WHERE is_readable IS NULL AND position > ?2 AND (position < 0 OR NOT ?1)
             ORDER BY position LIMIT ?3",
        )?;
        let mut rows = statement.query(params![only_probes, after, i64::try_from(limit)?])?;
        let mut calls = Vec::new();
        while let Some(row) = rows.next()? {
            let (sid, direction, status): (String, String, String) =
                (row.get(1)?, row.get(2)?, row.get(3)?);
            let call = PendingCall {
                account: AccountId(row.get(0)?),
                sid: CallSid::parse(&sid)?,
                direction: Direction::from_word(&direction),
                status: CallStatus::from_word(&status),
                began_at: Timestamp::from_millisecond(row.get(4)?)?,
                ended_at: row
                    .get::<_, Option<i64>>(5)?
                    .map(Timestamp::from_millisecond)
                    .transpose()?,
            };
            calls.push((row.get(6)?, call));
        }
        Ok(calls)
    }

    /// Returns how many calls there are.
    pub(in crate::backfill) fn totals(&self) -> rusqlite::Result<Totals> {
        let query = "SELECT count(*), count(is_readable), count(*) FILTER (WHERE NOT is_readable) FROM call";
        self.connection.query_row(query, [], |row| {
            let count = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
            Ok(Totals { calls: count(0)?, read: count(1)?, unreadable: count(2)? })
        })
    }

    /// Returns a call of an account whose Call Events could be read.
    pub(in crate::backfill) fn readable_call(
        &self,
        account: AccountId,
    ) -> anyhow::Result<Option<CallSid>> {
        let query = "SELECT sid FROM call WHERE account_id = ?1 AND is_readable LIMIT 1";
        let found = self.connection.query_row(query, [account.0], |row| row.get::<_, String>(0));
        Ok(found.optional()?.map(|sid| CallSid::parse(&sid)).transpose()?)
    }
}
