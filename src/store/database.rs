//! The open database, with checksums that every transaction updates.
//!
//! A table's checksum is its number of rows and the sum of their hashes. The transaction that changes rows
//! also changes the checksum. Opening a store reads every row and compares. This detects any value, label,
//! key or row that something other than this program has changed, anywhere in the file. It protects against
//! damage, not forgery: the hash has no secret.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use siphasher::sip::SipHasher13;

use super::error::OpenError;

/// The table of checksums. It has no checksum of its own: if it is damaged, it doesn't match the rows.
pub(super) const TABLE: &str = "checksum";

/// A database whose checksums match its rows.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    tables: Vec<String>,
    /// The changes of the current transaction, by index into `tables`.
    changes: Changes,
}

type Changes = Arc<Mutex<BTreeMap<usize, Sum>>>;

/// A number of rows and the wrapping sum of their hashes, or the difference that a change makes to both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: i64,
    hashes: u64,
}

impl Sum {
    fn plus(self, other: Self) -> Self {
        let rows = self.rows.wrapping_add(other.rows);
        Self { rows, hashes: self.hashes.wrapping_add(other.hashes) }
    }

    /// The difference that one added or removed row makes.
    fn from_row(hash: u64, is_added: bool) -> Self {
        if is_added {
            Self { rows: 1, hashes: hash }
        } else {
            Self { rows: -1, hashes: hash.wrapping_neg() }
        }
    }
}

impl Database {
    /// Keeps the checksums of a database up to date from now on.
    ///
    /// Triggers report each inserted, updated or deleted row, so no statement can be missed. They are
    /// temporary: they belong to this connection and aren't stored.
    pub(super) fn new(connection: Connection) -> rusqlite::Result<Self> {
        let tables = tables(&connection)?;
        let changes = Changes::default();
        let (names, changed) = (tables.clone(), Arc::clone(&changes));
        let flags = FunctionFlags::SQLITE_UTF8;
        connection.create_scalar_function("row_changed", -1, flags, move |row| {
            let (table, is_added) = (usize::from(row.get::<u16>(0)?), row.get(1)?);
            let name = names.get(table).map_or("", String::as_str);
            let hash = hash(name, (2..row.len()).map(|at| row.get_raw(at)));
            let mut changed = changed.lock().unwrap_or_else(PoisonError::into_inner);
            let sum = changed.entry(table).or_default();
            *sum = sum.plus(Sum::from_row(hash, is_added));
            Ok(true)
        })?;
        // Without this, rows that `INSERT OR REPLACE` replaces aren't reported.
        connection.pragma_update(None, "recursive_triggers", true)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        for (number, table) in tables.iter().enumerate() {
            connection.execute_batch(&triggers(&connection, number, table)?)?;
        }
        Ok(Self { connection, tables, changes })
    }

    /// The connection, for reading only: changes made through it don't update the checksums.
    pub(super) fn read(&self) -> &Connection {
        &self.connection
    }

    /// Changes rows in one transaction. On success it is durable; on failure nothing has changed.
    pub(super) fn write<T>(
        &mut self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        debug_assert!(self.changes().is_empty(), "rows were changed outside of `write`");
        let written = self.try_write(change);
        // Those of a transaction that was rolled back.
        self.changes().clear();
        written
    }

    fn try_write<T>(
        &mut self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let (tables, changes) = (&self.tables, Arc::clone(&self.changes));
        let changes = || changes.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = self.connection.transaction()?;
        let done = change(&transaction)?;
        if !changes().is_empty() {
            transaction
                .prepare_cached("UPDATE meta SET value = value + 1 WHERE key = 'commits'")?
                .execute([])?;
            let changed = std::mem::take(&mut *changes());
            for (table, change) in changed {
                add(&transaction, &tables[table], change)?;
            }
        }
        transaction.commit()?;
        Ok(done)
    }

    fn changes(&self) -> MutexGuard<'_, BTreeMap<usize, Sum>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds a change to a table's checksum.
fn add(connection: &Connection, table: &str, change: Sum) -> rusqlite::Result<()> {
    let known: i64 = connection
        .prepare_cached("SELECT sum FROM checksum WHERE name = ?1")?
        .query_row([table], |row| row.get(0))?;
    let sum = known.cast_unsigned().wrapping_add(change.hashes).cast_signed();
    connection
        .prepare_cached("UPDATE checksum SET count = count + ?2, sum = ?3 WHERE name = ?1")?
        .execute(params![table, change.rows, sum])?;
    Ok(())
}

/// Returns whether a database has checksums. Those of earlier versions don't.
pub(super) fn has_checksums(connection: &Connection) -> rusqlite::Result<bool> {
    connection.table_exists(None, TABLE)
}

/// Verifies all rows against the checksums.
pub(super) fn verify(connection: &Connection) -> Result<(), OpenError> {
    let mut statement = connection.prepare("SELECT name, count, sum FROM checksum")?;
    let known = statement.query_map([], |row| {
        let sum = Sum { rows: row.get(1)?, hashes: row.get::<_, i64>(2)?.cast_unsigned() };
        Ok((row.get::<_, String>(0)?, sum))
    })?;
    let known = known.collect::<rusqlite::Result<BTreeMap<_, _>>>()?;
    let found = read_all(connection)?;
    if let Some((table, _)) = found.iter().find(|(table, sum)| known.get(*table) != Some(sum)) {
        let what = format!("the rows of table {table} don't match their checksum");
        return Err(OpenError::Corrupt { what });
    }
    if found.len() != known.len() {
        return Err(OpenError::Corrupt {
            what: "there are checksums for unknown tables".to_owned(),
        });
    }
    Ok(())
}

/// Replaces the checksums with those of the current rows, which a migration may have changed.
pub(super) fn recompute(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM checksum", [])?;
    for (table, sum) in read_all(connection)? {
        connection.execute(
            "INSERT INTO checksum VALUES (?1, ?2, ?3)",
            params![table, sum.rows, sum.hashes.cast_signed()],
        )?;
    }
    Ok(())
}

fn read_all(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Sum>> {
    let mut sums = BTreeMap::new();
    for table in tables(connection)? {
        let mut statement = connection.prepare(&format!("SELECT * FROM \"{table}\""))?;
        let columns = statement.column_count();
        let (mut rows, mut sum) = (statement.query([])?, Sum::default());
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|at| row.get_ref(at));
            let values = values.collect::<rusqlite::Result<Vec<_>>>()?;
            sum = sum.plus(Sum::from_row(hash(&table, values.into_iter()), true));
        }
        sums.insert(table, sum);
    }
    Ok(sums)
}

/// Lists the tables that have a checksum.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name <> ?1 ORDER BY name",
    )?;
    statement.query_map([TABLE], |row| row.get(0))?.collect()
}

/// Returns the SQL of the triggers that report changes to a table's rows.
fn triggers(connection: &Connection, number: usize, table: &str) -> rusqlite::Result<String> {
    let mut columns: Vec<String> = Vec::new();
    connection.pragma(None, "table_info", table, |row| {
        columns.push(row.get("name")?);
        Ok(())
    })?;
    let report = |row: &str, is_added: u8| {
        let columns: Vec<String> =
            columns.iter().map(|column| format!("{row}.\"{column}\"")).collect();
        format!("SELECT row_changed({number}, {is_added}, {});", columns.join(", "))
    };
    let (added, removed) = (report("NEW", 1), report("OLD", 0));
    let trigger = |event: &str, body: &str| {
        format!(
            "CREATE TEMP TRIGGER {table}_{event} AFTER {event} ON main.\"{table}\" BEGIN {body} END;"
        )
    };
    Ok(trigger("INSERT", &added)
        + &trigger("UPDATE", &(removed.clone() + &added))
        + &trigger("DELETE", &removed))
}

/// Hashes a row: the table's name, then the type and value of each column.
fn hash<'a>(table: &str, values: impl Iterator<Item = ValueRef<'a>>) -> u64 {
    let mut hasher = SipHasher13::new();
    let mut put = |kind: u8, bytes: &[u8]| {
        hasher.write_u8(kind);
        // The same bytes on every machine.
        hasher.write(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.write(bytes);
    };
    put(0, table.as_bytes());
    for value in values {
        match value {
            ValueRef::Null => put(1, &[]),
            ValueRef::Integer(number) => put(2, &number.to_le_bytes()),
            ValueRef::Real(number) => put(3, &number.to_bits().to_le_bytes()),
            ValueRef::Text(text) => put(4, text),
            ValueRef::Blob(bytes) => put(5, bytes),
        }
    }
    hasher.finish()
}
