//! Returns free pages to the file system, so that one busy day doesn't determine the file's size for years.
//!
//! SQLite reuses the pages of deleted rows but keeps them in the file. The file is shrunk gradually to at most
//! twice the size of its content; the next calls are written to the remaining free pages.

use rusqlite::Connection;

/// The fewest free pages worth returning (4 MiB): the space for calls varies by as much.
const MIN_FREE_PAGES: i64 = 1_024;
/// The maximum number of pages moved at once: 4 MiB, in some tens of milliseconds.
const MAX_PAGES: i64 = 1_024;

/// Enables incremental vacuuming, which takes effect only before the first table is created or after a
/// rewrite. Returns whether the file needs a rewrite.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<bool> {
    let is_prepared = || {
        let mode = connection.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0));
        mode.map(|mode| mode == INCREMENTAL)
    };
    // Setting the mode writes to the disk, which may be full.
    if !is_prepared()? {
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    Ok(!is_prepared()?)
}

/// The value of `PRAGMA auto_vacuum` for a file that can shrink.
const INCREMENTAL: i64 = 2;

/// Rewrites a file of an earlier version, so that it can shrink.
pub(super) fn rewrite(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM")
}

/// Frees up to [`MAX_PAGES`] pages if more than half of the file is free. Returns the number of freed pages.
pub(super) fn compact(connection: &Connection) -> rusqlite::Result<i64> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (free, pages) = (number("freelist_count")?, number("page_count")?);
    if free < MIN_FREE_PAGES || free <= pages / 2 {
        return Ok(0);
    }
    // Each step of the statement frees one page.
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({MAX_PAGES})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(free - number("freelist_count")?)
}
