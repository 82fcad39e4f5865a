//! The open database: each transaction leaves checksums that match what it wrote.
//!
//! A checksum of a table is the sum of a hash of each of its rows, kept with the number of rows and
//! changed in the transaction that changes the rows. Opening reads every row and compares. So a
//! value, a label, a key or a row that changed by other means than this program is noticed, wherever
//! in the file it lies. This is against damage, not against forgery: the hash has no secret.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use siphasher::sip::SipHasher13;

use super::error::OpenError;

/// The table of checksums, which has none itself: damaged, it matches nothing.
pub(super) const TABLE: &str = "checksum";

/// A database whose checksums match.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    tables: Vec<String>,
    /// What the current transaction changed, by position in `tables`.
    changes: Changes,
}

type Changes = Arc<Mutex<BTreeMap<usize, Sum>>>;

/// How many rows, and the wrapping sum of their hashes; of a change, what is to be added.
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

    /// One row that comes, or one that goes.
    fn of_row(hash: u64, comes: bool) -> Self {
        if comes {
            Self { rows: 1, hashes: hash }
        } else {
            Self { rows: -1, hashes: hash.wrapping_neg() }
        }
    }
}

impl Database {
    /// Keeps the checksums of a database up to date from here on.
    ///
    /// Triggers report each row that comes, changes or goes, so that no statement can be forgotten.
    /// They are temporary: they belong to this connection and are in no file.
    pub(super) fn new(connection: Connection) -> rusqlite::Result<Self> {
        let tables = tables(&connection)?;
        let changes = Changes::default();
        let (names, changed) = (tables.clone(), Arc::clone(&changes));
        let flags = FunctionFlags::SQLITE_UTF8;
        connection.create_scalar_function("row_changed", -1, flags, move |row| {
            let (table, comes) = (usize::from(row.get::<u16>(0)?), row.get(1)?);
            let name = names.get(table).map_or("", String::as_str);
            let hash = hash(name, (2..row.len()).map(|at| row.get_raw(at)));
            let mut changed = changed.lock().unwrap_or_else(PoisonError::into_inner);
            let sum = changed.entry(table).or_default();
            *sum = sum.plus(Sum::of_row(hash, comes));
            Ok(true)
        })?;
        // Without it, rows that `INSERT OR REPLACE` replaces go unreported.
        connection.pragma_update(None, "recursive_triggers", true)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        for (number, table) in tables.iter().enumerate() {
            connection.execute_batch(&triggers(&connection, number, table)?)?;
        }
        Ok(Self { connection, tables, changes })
    }

    /// The connection, for reading: rows that are changed through it have no checksum.
    pub(super) fn read(&self) -> &Connection {
        &self.connection
    }

    /// Changes rows in one transaction, which either is durable afterwards or changed nothing.
    pub(super) fn write<T>(
        &mut self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        debug_assert!(self.changes().is_empty(), "rows were changed without their checksums");
        let written = self.try_write(change);
        // What a transaction changed that was rolled back.
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

/// Whether a database has checksums: those of earlier versions don't.
pub(super) fn has_checksums(connection: &Connection) -> rusqlite::Result<bool> {
    connection.table_exists(None, TABLE)
}

/// Compares all rows with the checksums.
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
            what: "there are checksums of unknown tables".to_owned(),
        });
    }
    Ok(())
}

/// Writes the checksums of all rows as they are, which a migration may have changed.
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
            sum = sum.plus(Sum::of_row(hash(&table, values.into_iter()), true));
        }
        sums.insert(table, sum);
    }
    Ok(sums)
}

/// All tables that have a checksum.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name <> ?1 ORDER BY name",
    )?;
    statement.query_map([TABLE], |row| row.get(0))?.collect()
}

/// The triggers that report what happens to a table's rows.
fn triggers(connection: &Connection, number: usize, table: &str) -> rusqlite::Result<String> {
    let mut columns: Vec<String> = Vec::new();
    connection.pragma(None, "table_info", table, |row| {
        columns.push(row.get("name")?);
        Ok(())
    })?;
    let report = |row: &str, comes: u8| {
        let columns: Vec<String> =
            columns.iter().map(|column| format!("{row}.\"{column}\"")).collect();
        format!("SELECT row_changed({number}, {comes}, {});", columns.join(", "))
    };
    let (came, went) = (report("NEW", 1), report("OLD", 0));
    let trigger = |event: &str, body: &str| {
        format!(
            "CREATE TEMP TRIGGER {table}_{event} AFTER {event} ON main.\"{table}\" BEGIN {body} END;"
        )
    };
    Ok(trigger("INSERT", &came)
        + &trigger("UPDATE", &(went.clone() + &came))
        + &trigger("DELETE", &went))
}

/// The hash of a row: its table, and of each column the type and the value.
fn hash<'a>(table: &str, values: impl Iterator<Item = ValueRef<'a>>) -> u64 {
    let mut hasher = SipHasher13::new();
    let mut put = |kind: u8, bytes: &[u8]| {
        hasher.write_u8(kind);
        // The same on every machine.
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
