//! The most recent failing requests: what is kept of them, and how they are asked for.
//!
//! A record is written in the transaction that counts its failure, so that each is there exactly
//! once; `rows` does that. Here are the questions, and the handle that pages ask them through.

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

/// Most records of an account: as many as one page shows, so that it can show all of them.
pub const MAX_PER_ACCOUNT: usize = 1_000;
/// Most records of an endpoint: enough to see a pattern, and five routes that fail at once leave
/// each other room.
pub const MAX_PER_ENDPOINT: usize = 200;
/// Most records of one answer: a page that a browser still shows at once.
pub const MAX_RESULTS: usize = 1_000;
/// Most entries of the error log of an account, and of one answer: those of the last minutes matter, as Call
/// Events take the place of the rest.
pub const MAX_REPORTED: usize = 200;
/// Most questions before the writer at once: they take turns with commits, which matter more.
const MAX_QUESTIONS: usize = 4;
/// How long a person waits before being told that the disk hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which failures are asked for; of an empty list any value will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureFilter {
    /// Labels of accounts.
    pub accounts: Vec<String>,
    /// Host labels.
    pub hosts: Vec<String>,
    /// Route labels.
    pub routes: Vec<String>,
    /// What the request was for.
    pub kinds: Vec<RequestKind>,
    /// Why it failed.
    pub reasons: Vec<Reason>,
    /// The earliest time.
    pub from: Option<Timestamp>,
    /// The latest time.
    pub to: Option<Timestamp>,
    /// How many at most; over [`MAX_RESULTS`] is cut.
    pub limit: usize,
}

/// A failing request, as it was recorded.
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
    /// What it was for.
    pub kind: RequestKind,
    /// The code label.
    pub code: Code,
    /// Why it failed.
    pub reason: Reason,
    /// Which rule of XML was broken, where that is why.
    pub malformation: Option<Malformation>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// The call that leads back to it.
    pub call_sid: CallSid,
}

/// An entry of the error log about a webhook, which no Call Event has confirmed yet.
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
    /// What went wrong.
    pub code: ErrorCode,
    /// How bad it is.
    pub level: Level,
    /// The call that leads back to it.
    pub call_sid: Option<CallSid>,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecentFailures {
    /// The newest that match, newest first.
    pub failures: Vec<RecentFailure>,
    /// How many match in all.
    pub total: usize,
    /// The newest entries of the error log that match, newest first; none where kinds or reasons are asked
    /// for, which they don't tell.
    pub reported: Vec<RecentReport>,
}

/// Why the failures can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk, or whoever asked before, took too long.
    #[error("the store does not answer")]
    Timeout,
    /// SQLite found something wrong.
    #[error("cannot read the store: {0}")]
    Failed(String),
    /// The program is stopping.
    #[error("the store is closed")]
    Closed,
}

/// A question on its way to the writer. It keeps its place until it is answered, even if nobody
/// waits any more: a disk that hangs lets no queue grow.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) filter: FailureFilter,
    pub(super) reply: oneshot::Sender<Result<RecentFailures, ReadError>>,
    pub(super) _place: OwnedSemaphorePermit,
}

/// A handle that reads the recorded failures.
///
/// It goes through the writer's thread, which holds the file exclusively, and doesn't keep that
/// thread alive: a browser that is slow to take its page must not hold up the end of the program.
#[derive(Clone, Debug)]
pub struct FailureReader {
    commands: Weak<mpsc::Sender<Command>>,
    places: Arc<Semaphore>,
    patience: Duration,
}

impl FailureReader {
    pub(super) fn new(commands: &Arc<mpsc::Sender<Command>>) -> Self {
        let places = Arc::new(Semaphore::new(MAX_QUESTIONS));
        Self { commands: Arc::downgrade(commands), places, patience: PATIENCE }
    }

    /// The most recent failures that match, of the accounts that are shown.
    ///
    /// # Errors
    /// [`ReadError`] where the store takes too long, fails or is closed.
    pub async fn recent(&self, filter: FailureFilter) -> Result<RecentFailures, ReadError> {
        let answer = tokio::time::timeout(self.patience, self.ask(filter));
        answer.await.map_err(|_| ReadError::Timeout)?
    }

    async fn ask(&self, filter: FailureFilter) -> Result<RecentFailures, ReadError> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|_| ReadError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let question = Command::Recent(Question { filter, reply, _place: place });
        let commands = self.commands.upgrade().ok_or(ReadError::Closed)?;
        commands.send(question).map_err(|_| ReadError::Closed)?;
        drop(commands);
        answer.await.map_err(|_| ReadError::Closed)?
    }

    #[cfg(test)]
    pub(super) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
    #[cfg(test)]
    pub(super) fn free_places(&self) -> usize {
        self.places.available_permits()
    }
}
