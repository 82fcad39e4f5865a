//! Giving free pages back to the file system, so that one busy day doesn't size the file for years.
//!
//! SQLite reuses the pages of deleted rows but keeps them. Little by little the file is cut down to
//! at most twice what it holds; what is left free is what the next calls are written to.

use rusqlite::Connection;

/// Below so many free pages (4 MiB) nothing is done: calls come and go by as much.
const WORTHWHILE: i64 = 1_024;
/// Most pages moved in one go: 4 MiB, some tens of milliseconds.
const MAX_PAGES: i64 = 1_024;

/// Has the file keep track of its pages, which it must before its first table, or by being written
/// anew once. Returns whether that is still to be done.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<bool> {
    let is_prepared = || {
        let mode = connection.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0));
        mode.map(|mode| mode == INCREMENTAL)
    };
    // Setting it writes, and the disk may be full.
    if !is_prepared()? {
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    Ok(!is_prepared()?)
}

/// What `PRAGMA auto_vacuum` says of a file that can be cut down.
const INCREMENTAL: i64 = 2;

/// Writes a file of an earlier version anew.
pub(super) fn rewrite(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM")
}

/// Gives back some pages where more than half of the file is free. Returns how many went.
pub(super) fn compact(connection: &Connection) -> rusqlite::Result<i64> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (free, pages) = (number("freelist_count")?, number("page_count")?);
    if free < WORTHWHILE || free <= pages / 2 {
        return Ok(0);
    }
    // Each step of the statement frees one page.
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({MAX_PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(free - number("freelist_count")?)
}
