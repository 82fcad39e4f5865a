//! What a backfill has done so far: one SQLite file in its output directory.
//!
//! Invariant: a call is marked as read in the transaction that stores what it adds to the counters. So an interrupted
//! backfill reads no call again, and ends with the same files as an uninterrupted one.

mod calls;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use jiff::Timestamp;
use rusqlite::types::FromSql;
use rusqlite::{Connection, ErrorCode, params};

use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::route::Endpoint;
use crate::metrics::ledger::{
    AccountId, Cell, Delta, EndpointEntry, EndpointId, GroupEntry, GroupId, Hold, Ledger, Scope,
};
use crate::store::codec::{decode_cell, decode_scope, encode_cell, encode_scope};

use super::interval::Interval;
use super::{Mistake, Settings};

pub(super) use calls::PendingCall;

/// The name of the file.
const NAME: &str = "backfill.db";
/// Marks the file as a backfill's (SQLite's `application_id`): the letters `TCEb`.
const APPLICATION_ID: i64 = 0x5443_4562;
/// The context of errors while the state is written.
pub(super) const CANNOT_WRITE: &str = "cannot write the state of the backfill: free space, then run the same command again to continue";

const SCHEMA: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE account (
        id INTEGER PRIMARY KEY,
        sid TEXT NOT NULL,
        region TEXT NOT NULL,
        label TEXT NOT NULL,
        UNIQUE (sid, region)
    );
    CREATE TABLE list (account_id INTEGER, name TEXT, PRIMARY KEY (account_id, name)) WITHOUT ROWID;
    CREATE TABLE call (
        account_id INTEGER NOT NULL,
        sid TEXT NOT NULL,
        direction TEXT NOT NULL,
        status TEXT NOT NULL,
        began_ms INTEGER NOT NULL,
        ended_ms INTEGER,
        -- The order in which calls are read, once all lists are complete.
        position INTEGER,
        -- Whether its Call Events could be read: NULL if that hasn't been tried yet.
        is_readable INTEGER,
        PRIMARY KEY (account_id, sid)
    ) WITHOUT ROWID;
    CREATE INDEX unread_call ON call (position) WHERE is_readable IS NULL;
    CREATE TABLE endpoint (id INTEGER PRIMARY KEY, account_id INTEGER, host TEXT, route TEXT);
    CREATE TABLE request_group (id INTEGER PRIMARY KEY, endpoint_id INTEGER, kind TEXT);
    CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        scope TEXT NOT NULL,
        scope_id INTEGER NOT NULL,
        cell TEXT NOT NULL
    );
    CREATE TABLE increment (
        step INTEGER,
        series_id INTEGER,
        count INTEGER NOT NULL,
        PRIMARY KEY (step, series_id)
    ) WITHOUT ROWID;
";

/// How far a backfill has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The lists of calls are being read.
    Listing = 0,
    /// All calls are known, and their Call Events are being read.
    Reading = 1,
    /// The user has agreed to read them all.
    Agreed = 2,
    /// All files are written.
    Complete = 3,
}

/// The state of a backfill.
#[derive(Debug)]
pub(super) struct State {
    connection: Connection,
    series: BTreeMap<(Scope, Cell), i64>,
}

/// What a new backfill is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct New {
    pub(super) interval: Interval,
    /// Calls that ended later are counted by the exporter.
    pub(super) counted_from: Option<Timestamp>,
}

impl State {
    /// Whether a directory holds a backfill; `false` if it is missing or empty.
    ///
    /// # Errors
    /// [`Mistake`] if it holds anything else.
    pub(super) fn exists(directory: &Path) -> anyhow::Result<bool> {
        if directory.join(NAME).try_exists().unwrap_or(false) {
            return Ok(true);
        }
        match fs::read_dir(directory) {
            Ok(mut entries) => match entries.next() {
                Some(_) => bail!(Mistake(format!(
                    "the output directory `{}` isn't empty and doesn't hold a backfill: choose a new or empty one",
                    directory.display()
                ))),
                None => Ok(false),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| unusable(directory)),
        }
    }

    /// Opens the state in a directory, or creates it. The settings of an existing one stay. `resolve` returns what a
    /// new one is about, if `new` doesn't.
    ///
    /// # Errors
    /// [`Mistake`] if the directory isn't a backfill's, or another backfill's.
    pub(super) fn open(
        directory: &Path,
        settings: &Settings,
        new: Option<New>,
        resolve: impl Fn() -> anyhow::Result<New>,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| unusable(directory))?;
        let connection =
            Connection::open(directory.join(NAME)).with_context(|| unusable(directory))?;
        connection
            .pragma_update(None, "locking_mode", "EXCLUSIVE")
            .with_context(|| unusable(directory))?;
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => bail!(
                "another backfill is running in `{}`: wait until it ends, or choose another directory",
                directory.display()
            ),
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
                bail!(Mistake::foreign(directory))
            }
            result => result.with_context(|| unusable(directory))?,
        }
        // A process that is killed loses nothing; after a power cut, the last calls are read again.
        connection
            .pragma_update(None, "synchronous", "NORMAL")
            .with_context(|| unusable(directory))?;
        connection.set_prepared_statement_cache_capacity(32);
        let id =
            connection.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0))?;
        let mut state = Self { connection, series: BTreeMap::new() };
        match id {
            APPLICATION_ID => state.check_settings(directory, settings)?,
            // New, or the process was killed before it was created.
            0 if state.is_empty()? => {
                let new = new.map_or_else(resolve, Ok)?;
                state.create(settings, new).with_context(|| unusable(directory))?;
            }
            _ => bail!(Mistake::foreign(directory)),
        }
        state.series = state.load_series()?.into_iter().map(|(id, key)| (key, id)).collect();
        Ok(state)
    }

    fn is_empty(&self) -> rusqlite::Result<bool> {
        self.connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
    }

    fn create(&mut self, settings: &Settings, new: New) -> rusqlite::Result<()> {
        let New { interval, counted_from } = new;
        let transaction = self.connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.execute(
            "INSERT INTO meta VALUES ('flags', ?1), ('configuration', ?2), ('first', ?3), ('last', ?4),
                ('step_seconds', ?5), ('counted_from_ms', ?6), ('phase', 0)",
            params![
                settings.flags,
                settings.configuration,
                interval.first,
                interval.last,
                interval.step_seconds,
                counted_from.map(Timestamp::as_millisecond),
            ],
        )?;
        transaction.commit()
    }

    fn check_settings(&self, directory: &Path, settings: &Settings) -> anyhow::Result<()> {
        let (flags, configuration): (String, String) =
            (self.meta("flags")?, self.meta("configuration")?);
        let directory = directory.display();
        if flags != settings.flags {
            bail!(Mistake(format!(
                "`{directory}` holds a backfill with `{flags}`: continue it with these flags, or choose another directory"
            )));
        }
        if configuration != settings.configuration {
            bail!(Mistake(format!(
                "`routes:` or `limits:` have changed since the backfill in `{directory}` began: start again in another \
                 directory"
            )));
        }
        Ok(())
    }

    /// Returns the interval.
    pub(super) fn interval(&self) -> rusqlite::Result<Interval> {
        let (first, last, step_seconds) =
            (self.meta("first")?, self.meta("last")?, self.meta("step_seconds")?);
        Ok(Interval { first, last, step_seconds })
    }

    /// Returns the end of the last call that the exporter doesn't count, if it was running.
    pub(super) fn counted_from(&self) -> anyhow::Result<Option<Timestamp>> {
        let ms: Option<i64> = self.meta("counted_from_ms")?;
        Ok(ms.map(Timestamp::from_millisecond).transpose()?)
    }

    fn meta<T: FromSql>(&self, key: &str) -> rusqlite::Result<T> {
        self.connection.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0))
    }

    /// Returns how far the backfill has come.
    pub(super) fn phase(&self) -> rusqlite::Result<Phase> {
        Ok(match self.meta::<i64>("phase")? {
            0 => Phase::Listing,
            1 => Phase::Reading,
            2 => Phase::Agreed,
            _ => Phase::Complete,
        })
    }

    /// Notes how far the backfill has come.
    pub(super) fn set_phase(&self, phase: Phase) -> rusqlite::Result<()> {
        let update = "UPDATE meta SET value = ?1 WHERE key = 'phase'";
        self.connection.execute(update, [phase as i64]).map(drop)
    }

    /// Marks a call as read, and stores what it adds to the counters in each step.
    pub(super) fn add(
        &mut self,
        call: &PendingCall,
        is_readable: bool,
        changes: &[(i64, Delta)],
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for (step, delta) in changes {
            for (EndpointId(id), entry) in &delta.endpoints {
                let Endpoint { host, route } = &entry.endpoint;
                transaction
                    .prepare_cached("INSERT INTO endpoint VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![id, entry.account.0, host, route])?;
            }
            for (GroupId(id), entry) in &delta.groups {
                transaction
                    .prepare_cached("INSERT INTO request_group VALUES (?1, ?2, ?3)")?
                    .execute(params![id, entry.endpoint.0, entry.kind.as_str()])?;
            }
            for (key, count) in &delta.added {
                let series = match self.series.get(key) {
                    Some(id) => *id,
                    None => {
                        let (scope, scope_id) = encode_scope(key.0);
                        transaction
                            .prepare_cached(
                                "INSERT INTO series (scope, scope_id, cell) VALUES (?1, ?2, ?3)",
                            )?
                            .execute(params![scope, scope_id, encode_cell(key.1)])?;
                        let id = transaction.last_insert_rowid();
                        self.series.insert(*key, id);
                        id
                    }
                };
                transaction
                    .prepare_cached(
                        "INSERT INTO increment VALUES (?1, ?2, ?3)
                         ON CONFLICT DO UPDATE SET count = count + excluded.count",
                    )?
                    .execute(params![step, series, i64::try_from(*count).unwrap_or(i64::MAX)])?;
            }
        }
        transaction
            .prepare_cached("UPDATE call SET is_readable = ?3 WHERE account_id = ?1 AND sid = ?2")?
            .execute(params![call.account.0, call.sid.to_string(), is_readable])?;
        transaction.commit()
    }

    /// Returns a ledger with all known series at 0.
    pub(super) fn ledger(&self) -> anyhow::Result<Ledger> {
        let mut ledger = Ledger::default();
        let hold = Hold { is_released: true, held_since: Timestamp::MIN, shown_at: None };
        let mut statement = self.connection.prepare("SELECT id, label FROM account")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            ledger.show(AccountId(row.get(0)?), row.get(1)?, Timestamp::MIN);
        }
        let mut statement =
            self.connection.prepare("SELECT id, account_id, host, route FROM endpoint")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let endpoint = Endpoint { host: row.get(2)?, route: row.get(3)? };
            let (account, last_event_at) = (AccountId(row.get(1)?), Timestamp::MIN);
            let entry = EndpointEntry { account, endpoint, hold, last_event_at };
            ledger.insert_endpoint(EndpointId(row.get(0)?), entry);
        }
        let mut statement =
            self.connection.prepare("SELECT id, endpoint_id, kind FROM request_group")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let kind = RequestKind::from_label(&row.get::<_, String>(2)?).ok_or_else(damaged)?;
            let entry = GroupEntry { endpoint: EndpointId(row.get(1)?), kind, hold };
            ledger.insert_group(GroupId(row.get(0)?), entry);
        }
        for (scope, cell) in self.load_series()?.into_values() {
            ledger.add(scope, cell, 0);
        }
        Ok(ledger)
    }

    /// Returns all series by id.
    pub(super) fn load_series(&self) -> anyhow::Result<BTreeMap<i64, (Scope, Cell)>> {
        let mut statement =
            self.connection.prepare("SELECT id, scope, scope_id, cell FROM series")?;
        let mut rows = statement.query([])?;
        let mut series = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let scope = decode_scope(&row.get::<_, String>(1)?, row.get(2)?).ok_or_else(damaged)?;
            let cell = decode_cell(&row.get::<_, String>(3)?).ok_or_else(damaged)?;
            series.insert(row.get(0)?, (scope, cell));
        }
        Ok(series)
    }

    /// Returns the increments of a step: the series and the count.
    pub(super) fn increments(&self, step: i64) -> rusqlite::Result<Vec<(i64, u64)>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT series_id, count FROM increment WHERE step = ?1")?;
        let rows = statement
            .query_map([step], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
        rows.collect()
    }
}

fn damaged() -> anyhow::Error {
    anyhow!("the state of the backfill is damaged: start again in another directory")
}

fn unusable(directory: &Path) -> String {
    format!("cannot use the output directory `{}`", directory.display())
}
