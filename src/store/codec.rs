//! Converts the program's types to rows and back.
//!
//! Existing stores contain the texts that are defined here: changing one needs a migration.

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::domain::judge::content_type::ContentType;
use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::verdict::{Code, Reason, Warning};
use crate::domain::track::digest::{Digest, DigestVersion};
use crate::domain::track::failing::Failing;
use crate::domain::track::outcome::Outcome;
use crate::domain::track::progress::{CallProgress, Multiset};
use crate::domain::words::call::{CallStatus, Direction};
use crate::domain::words::error_log::{ErrorCode, Level, Product};
use crate::domain::words::sid::CallSid;
use crate::metrics::ledger::{
    AccountId, Cell, EndpointEntry, EndpointId, GroupEntry, GroupId, Hold, Ledger, Scope,
};

use super::error::OpenError;

/// Loads the ledger. Held endpoints and groups are held from `now` on.
pub(super) fn load_ledger(connection: &Connection, now: Timestamp) -> Result<Ledger, OpenError> {
    let mut ledger = Ledger::default();
    let mut statement = connection
        .prepare("SELECT id, account_id, host, route, released, last_event_ms FROM endpoint")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let endpoint = Endpoint { host: row.get(2)?, route: row.get(3)? };
        let entry = EndpointEntry {
            account: AccountId(row.get(1)?),
            endpoint,
            hold: hold(row, 4, now)?,
            last_event_at: instant(row.get(5)?)?,
        };
        ledger.insert_endpoint(EndpointId(row.get(0)?), entry);
    }
    let mut statement =
        connection.prepare("SELECT id, endpoint_id, kind, released FROM request_group")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let kind: String = row.get(2)?;
        let kind = RequestKind::from_label(&kind).ok_or_else(|| corrupt("request_group", &kind))?;
        let entry =
            GroupEntry { endpoint: EndpointId(row.get(1)?), kind, hold: hold(row, 3, now)? };
        ledger.insert_group(GroupId(row.get(0)?), entry);
    }
    let mut statement = connection.prepare("SELECT scope, scope_id, cell, value FROM series")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (scope, cell): (String, String) = (row.get(0)?, row.get(2)?);
        let scope = decode_scope(&scope, row.get(1)?).ok_or_else(|| corrupt("series", &scope))?;
        let cell = decode_cell(&cell).ok_or_else(|| corrupt("series", &cell))?;
        let value: i64 = row.get(3)?;
        let value = u64::try_from(value).map_err(|_| corrupt("series", "a negative value"))?;
        ledger.add(scope, cell, value);
    }
    let scrapes: i64 =
        connection
            .query_row("SELECT count(*) FROM meta WHERE key = 'scraped'", [], |row| row.get(0))?;
    ledger.was_scraped = scrapes > 0;
    Ok(ledger)
}

pub(super) fn corrupt(table: &str, value: &str) -> OpenError {
    OpenError::Corrupt { what: format!("table {table} has an unknown value `{value}`") }
}

fn hold(row: &Row<'_>, at: usize, now: Timestamp) -> rusqlite::Result<Hold> {
    Ok(Hold { is_released: row.get(at)?, held_since: now, shown_at: None })
}

/// Converts milliseconds to an instant.
pub(super) fn instant(ms: i64) -> Result<Timestamp, OpenError> {
    Timestamp::from_millisecond(ms)
        .map_err(|_| OpenError::Corrupt { what: format!("`{ms}` isn't a valid time") })
}

/// Encodes a scope as its kind and id.
pub(crate) fn encode_scope(scope: Scope) -> (&'static str, u32) {
    match scope {
        Scope::Account(AccountId(id)) => ("account", id),
        Scope::Endpoint(EndpointId(id)) => ("endpoint", id),
        Scope::Group(GroupId(id)) => ("group", id),
    }
}

/// Decodes a scope.
pub(crate) fn decode_scope(scope: &str, id: u32) -> Option<Scope> {
    match scope {
        "account" => Some(Scope::Account(AccountId(id))),
        "endpoint" => Some(Scope::Endpoint(EndpointId(id))),
        "group" => Some(Scope::Group(GroupId(id))),
        _ => None,
    }
}

/// Encodes a cell as text, such as `requests:200`.
pub(crate) fn encode_cell(cell: Cell) -> String {
    match cell {
        Cell::Requests(code) => format!("requests:{code}"),
        Cell::OtherRequests => "requests:other".to_owned(),
        Cell::Failures(reason) => format!("failures:{reason}"),
        Cell::DurationBucket(Some(bound)) => format!("duration_ms_le:{bound}"),
        Cell::DurationBucket(None) => "duration_ms_le:inf".to_owned(),
        Cell::DurationSum => "duration_ms_sum:".to_owned(),
        Cell::ContentTypes(content_type) => format!("content_types:{content_type}"),
        Cell::Warnings(warning) => format!("warnings:{warning}"),
        Cell::ApiRequests(code) => format!("api_requests:{code}"),
        Cell::OtherApiRequests => "api_requests:other".to_owned(),
        Cell::Calls(direction, status) => format!("calls:{direction}:{status}"),
        Cell::Outcomes(outcome) => format!("outcomes:{outcome}"),
        Cell::OtherErrors(product, level) => format!("error_log_other:{product}:{level}"),
        Cell::ErrorLog(product, code, level) => format!("error_log:{product}:{code}:{level}"),
    }
}

/// Decodes a cell.
pub(crate) fn decode_cell(text: &str) -> Option<Cell> {
    let (name, value) = text.split_once(':')?;
    match name {
        "requests" if value == "other" => Some(Cell::OtherRequests),
        "requests" => Code::from_label(value).map(Cell::Requests),
        "failures" => Reason::from_label(value).map(Cell::Failures),
        "duration_ms_le" if value == "inf" => Some(Cell::DurationBucket(None)),
        "duration_ms_le" => value.parse().ok().map(|bound| Cell::DurationBucket(Some(bound))),
        "duration_ms_sum" => Some(Cell::DurationSum),
        "content_types" => ContentType::from_label(value).map(Cell::ContentTypes),
        "warnings" => Warning::from_label(value).map(Cell::Warnings),
        "api_requests" if value == "other" => Some(Cell::OtherApiRequests),
        "api_requests" => Code::from_label(value).map(Cell::ApiRequests),
        "calls" => {
            let (direction, status) = value.split_once(':')?;
            let direction = Direction::from_label(direction)?;
            CallStatus::from_label(status).map(|status| Cell::Calls(direction, status))
        }
        "outcomes" => Outcome::from_label(value).map(Cell::Outcomes),
        "error_log_other" => {
            let (product, level) = value.split_once(':')?;
            Some(Cell::OtherErrors(Product::from_label(product)?, Level::from_label(level)?))
        }
        "error_log" => {
            let (product, (code, level)) =
                value.split_once(':').and_then(|(a, rest)| Some((a, rest.split_once(':')?)))?;
            let (product, code) = (Product::from_label(product)?, ErrorCode::from_label(code)?);
            Level::from_label(level).map(|level| Cell::ErrorLog(product, code, level))
        }
        _ => None,
    }
}

/// Loads an account's calls, with `now` as the time at which a list last contained them.
pub(super) fn load_calls(
    connection: &Connection,
    account: AccountId,
    now: Timestamp,
) -> Result<Vec<CallProgress>, OpenError> {
    let mut statement = connection.prepare_cached(
        "SELECT sid, direction, status, began_ms, ended_ms, has_end_time, last_live_read_ms,
            after_end_reads, settled_ms, awaits_audit, digest_version, counted, credits
         FROM call WHERE account_id = ?1",
    )?;
    let mut rows = statement.query([account.0])?;
    let mut calls = Vec::new();
    while let Some(row) = rows.next()? {
        let (sid, direction, status): (String, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let optional = |at| row.get::<_, Option<i64>>(at)?.map(instant).transpose();
        calls.push(CallProgress {
            sid: CallSid::parse(&sid).map_err(|_| corrupt("call", &sid))?,
            direction: Direction::from_label(&direction)
                .ok_or_else(|| corrupt("call", &direction))?,
            status: CallStatus::from_label(&status).ok_or_else(|| corrupt("call", &status))?,
            began_at: instant(row.get(3)?)?,
            ended_at: optional(4)?,
            has_end_time: row.get(5)?,
            last_listed_at: now,
            last_live_read_at: optional(6)?,
            after_end_reads: row.get(7)?,
            early_reads: Vec::new(),
            settled_at: optional(8)?,
            awaits_audit: row.get(9)?,
            digest_version: digest_version(row.get(10)?)?,
            counted: decode_multiset(row.get_ref(11)?.as_blob().unwrap_or_default())?,
            credits: decode_multiset(row.get_ref(12)?.as_blob().unwrap_or_default())?,
            failing: Failing::default(),
            retry_at: None,
            missing: 0,
            reported_at: None,
        });
    }
    Ok(calls)
}

fn digest_version(number: u8) -> Result<DigestVersion, OpenError> {
    DigestVersion::from_number(number).ok_or_else(|| corrupt("call", &number.to_string()))
}

/// Writes a call.
pub(super) fn store_call(
    connection: &Connection,
    account: AccountId,
    call: &CallProgress,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT OR REPLACE INTO call VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    statement.execute(params![
        account.0,
        call.sid.to_string(),
        call.direction.as_str(),
        call.status.as_str(),
        call.began_at.as_millisecond(),
        call.ended_at.map(Timestamp::as_millisecond),
        call.has_end_time,
        call.last_live_read_at.map(Timestamp::as_millisecond),
        call.after_end_reads,
        call.settled_at.map(Timestamp::as_millisecond),
        call.awaits_audit,
        call.digest_version.number(),
        encode_multiset(&call.counted),
        encode_multiset(&call.credits),
    ])?;
    Ok(())
}

/// Encodes each digest in 8 bytes and its count in 4, both little-endian.
fn encode_multiset(multiset: &Multiset) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(multiset.pairs().len() * PAIR_BYTES);
    for (Digest(digest), count) in multiset.pairs() {
        bytes.extend_from_slice(&digest.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    bytes
}

const PAIR_BYTES: usize = 12;

fn decode_multiset(bytes: &[u8]) -> Result<Multiset, OpenError> {
    let (pairs, []) = bytes.as_chunks::<PAIR_BYTES>() else {
        return Err(corrupt("call", "digests of an invalid length"));
    };
    let pair = |bytes: &[u8; PAIR_BYTES]| {
        let (mut digest, mut count) = ([0; 8], [0; 4]);
        digest.copy_from_slice(&bytes[..8]);
        count.copy_from_slice(&bytes[8..]);
        (Digest(u64::from_le_bytes(digest)), u32::from_le_bytes(count))
    };
    Ok(Multiset::new(pairs.iter().map(pair).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_round_trip() {
        let code = Code::from_status(503).expect("a code");
        let mut cells = vec![
            Cell::Requests(code),
            Cell::Requests(Code::NONE),
            Cell::OtherRequests,
            Cell::ApiRequests(code),
            Cell::OtherApiRequests,
            Cell::DurationBucket(Some(7_500)),
            Cell::DurationBucket(None),
            Cell::DurationSum,
        ];
        cells.extend(Reason::ALL.iter().map(|reason| Cell::Failures(*reason)));
        cells.extend(ContentType::ALL.iter().map(|class| Cell::ContentTypes(*class)));
        cells.extend(Warning::ALL.iter().map(|warning| Cell::Warnings(*warning)));
        cells.extend(Outcome::ALL.iter().map(|outcome| Cell::Outcomes(*outcome)));
        for direction in Direction::ALL {
            cells.extend(CallStatus::ALL.iter().map(|status| Cell::Calls(*direction, *status)));
        }
        for cell in cells {
            assert_eq!(decode_cell(&encode_cell(cell)), Some(cell));
        }
    }

    #[test]
    fn digests_round_trip() {
        let multiset = Multiset::new(vec![(Digest(u64::MAX), 1), (Digest(3), u32::MAX)]);
        assert_eq!(decode_multiset(&encode_multiset(&multiset)).expect("a multiset"), multiset);
        assert!(decode_multiset(&[0; 13]).is_err());
    }
}
