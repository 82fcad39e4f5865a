//! The most recent failing requests: the recorded data, and queries for it.
//!
//! A record is written in the transaction that counts its failure, so that each exists exactly once; `rows`
//! does that. This module defines the queries, and the handle through which pages send them.

pub(super) mod rows;

use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::domain::judge::kind::RequestKind;
use crate::domain::judge::route::Endpoint;
use crate::domain::judge::twiml::Malformation;
use crate::domain::judge::verdict::{Code, Reason};
use crate::domain::words::error_log::{ErrorCode, Level};
use crate::domain::words::sid::CallSid;

use super::Command;

/// The maximum number of records of an account: as many as one page shows, so that it can show all of them.
pub const MAX_PER_ACCOUNT: usize = 1_000;
/// The maximum number of records of an endpoint: enough to see a pattern, and few enough for five routes that
/// fail at once to fit.
pub const MAX_PER_ENDPOINT: usize = 200;
/// The maximum number of records in one answer: a browser still shows a page of that size at once.
pub const MAX_RESULTS: usize = 1_000;
/// The maximum number of error log entries of an account, and in one answer: only those of the last minutes
/// matter, because Call Events replace the rest.
pub const MAX_REPORTED: usize = 200;
/// The maximum number of queries queued at the writer: they delay commits, which matter more.
const MAX_QUERIES: usize = 4;
/// How long a query may take before a page says that the disk hangs.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Selects failures. An empty list matches any value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureFilter {
    /// Account labels.
    pub accounts: Vec<String>,
    /// Host labels.
    pub hosts: Vec<String>,
    /// Route labels.
    pub routes: Vec<String>,
    /// Kinds of requests.
    pub kinds: Vec<RequestKind>,
    /// Reasons for the failure.
    pub reasons: Vec<Reason>,
    /// The earliest time.
    pub from: Option<Timestamp>,
    /// The latest time.
    pub to: Option<Timestamp>,
    /// The maximum number of results, at most [`MAX_RESULTS`].
    pub limit: usize,
}

/// A recorded failing request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentFailure {
    /// When Twilio recorded the answer.
    pub at: Timestamp,
    /// The label that its account has now.
    pub account: String,
    /// The region of its account, such as `us1`.
    pub region: String,
    /// Where the request went, as counted.
    pub endpoint: Endpoint,
    /// The kind of the request.
    pub kind: RequestKind,
    /// The code label.
    pub code: Code,
    /// Why it failed.
    pub reason: Reason,
    /// The XML rule that the document broke, if that is the reason.
    pub malformation: Option<Malformation>,
    /// The duration of the request in milliseconds.
    pub duration_ms: Option<u64>,
    /// The call that leads back to it.
    pub call_sid: CallSid,
}

/// An entry of the error log about a webhook that no Call Event has confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentReport {
    /// When it happened.
    pub at: Timestamp,
    /// The label that its account has now.
    pub account: String,
    /// The region of its account, such as `us1`.
    pub region: String,
    /// Where the request went, as counted.
    pub endpoint: Endpoint,
    /// The error code.
    pub code: ErrorCode,
    /// The severity.
    pub level: Level,
    /// The call that leads back to it.
    pub call_sid: Option<CallSid>,
}

/// The answer to a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecentFailures {
    /// The newest matching failures, newest first.
    pub failures: Vec<RecentFailure>,
    /// The total number of matching failures.
    pub total: usize,
    /// The newest matching entries of the error log, newest first. Empty if the filter has kinds or reasons,
    /// which entries don't have.
    pub reported: Vec<RecentReport>,
}

/// Why the failures can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk or earlier queries took too long.
    #[error("the store did not answer in time")]
    Timeout,
    /// SQLite found an error.
    #[error("cannot read the store: {0}")]
    Failed(String),
    /// The program is stopping.
    #[error("the store is closed")]
    Closed,
}

/// A query queued at the writer. It keeps its permit until it is answered, even if the sender has given up,
/// so that the queue can't grow while the disk hangs.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) filter: FailureFilter,
    pub(super) reply: oneshot::Sender<Result<RecentFailures, ReadError>>,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// A handle that reads the recorded failures.
///
/// Queries go through the writer's thread, which holds the file exclusively. The handle doesn't keep that
/// thread alive: a browser that reads its page slowly must not delay the program's shutdown.
#[derive(Clone, Debug)]
pub struct FailureReader {
    commands: Weak<mpsc::Sender<Command>>,
    permits: Arc<Semaphore>,
    timeout: Duration,
}

impl FailureReader {
    pub(super) fn new(commands: &Arc<mpsc::Sender<Command>>) -> Self {
        let permits = Arc::new(Semaphore::new(MAX_QUERIES));
        Self { commands: Arc::downgrade(commands), permits, timeout: TIMEOUT }
    }

    /// Returns the most recent matching failures of the accounts that are shown.
    ///
    /// # Errors
    /// [`ReadError`] if the store takes too long, fails or is closed.
    pub async fn recent(&self, filter: FailureFilter) -> Result<RecentFailures, ReadError> {
        let answer = tokio::time::timeout(self.timeout, self.query(filter));
        answer.await.map_err(|_| ReadError::Timeout)?
    }

    async fn query(&self, filter: FailureFilter) -> Result<RecentFailures, ReadError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| ReadError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let command = Command::Recent(Query { filter, reply, _permit: permit });
        let commands = self.commands.upgrade().ok_or(ReadError::Closed)?;
        commands.send(command).map_err(|_| ReadError::Closed)?;
        drop(commands);
        answer.await.map_err(|_| ReadError::Closed)?
    }

    #[cfg(test)]
    pub(super) fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
    #[cfg(test)]
    pub(super) fn free_permits(&self) -> usize {
        self.permits.available_permits()
    }
}
