//! The effects of a response: the batch to store, metric updates and log lines.
//!
//! The poller commits the batch before it applies the rest.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::domain::judge::observe::{Observation, Rejection};
use crate::domain::judge::reported::Reported;
use crate::domain::track::listing::{ListKind, ListProgress};
use crate::domain::track::outcome::Outcome;
use crate::domain::track::progress::CallProgress;
use crate::domain::words::account::ListedAccount;
use crate::domain::words::call::{CallStatus, Direction};
use crate::domain::words::label::label_enum;
use crate::domain::words::sid::CallSid;

use super::account::AccountLag;
use super::plan::Stage;
use super::request::Resource;
use super::trouble::Cause;

/// The effects of a response or of the passing of time.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// The changes to store in one transaction.
    pub batch: Batch,
    /// Whether the batch changes anything.
    pub needs_commit: bool,
    /// Updates of the exporter's own metrics.
    pub metric_updates: Vec<MetricUpdate>,
    /// Lines for the log.
    pub lines: Vec<LogLine>,
    /// The discovered accounts, if their list was read.
    pub accounts: Option<FoundAccounts>,
}

/// The changes of one transaction of the store.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The facts to count.
    pub facts: Vec<Fact>,
    /// Twilio's time when the batch was created.
    pub received_at: Option<Timestamp>,
    /// The calls whose progress changed. If a call appears twice, the later entry applies.
    pub calls: Vec<CallProgress>,
    /// The calls to delete.
    pub forgotten: Vec<CallSid>,
    /// How far the lists have been read.
    pub lists: ListProgress,
}

/// A fact to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A Call Event.
    Event {
        /// Its contents.
        observation: Observation,
        /// The call that it belongs to.
        call_sid: CallSid,
        /// When Twilio recorded the webhook's response; the time of counting if Twilio doesn't report it.
        at: Timestamp,
        /// Whether it is history, for which nobody should be paged: a new group starts at its count rather
        /// than at 0.
        is_history: bool,
    },
    /// An entry of the error log.
    Reported {
        /// Its contents.
        reported: Reported,
        /// When it happened; the time of counting if Twilio doesn't report it.
        at: Timestamp,
        /// Whether it is history, as for an event.
        is_history: bool,
    },
    /// A finished call.
    Finished(Direction, CallStatus),
    /// The outcome of a settled call.
    Outcome {
        /// The outcome.
        outcome: Outcome,
        /// The failed request that decided the outcome.
        decided_by: Observation,
        /// When Twilio recorded the response to that request; the time of counting if Twilio doesn't report it.
        at: Timestamp,
        /// Whether it is history, as for an event.
        is_history: bool,
    },
}

/// The accounts in Twilio's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundAccounts {
    /// The accounts that could be decoded.
    pub accounts: Vec<ListedAccount>,
    /// Whether the list was read to its end and every item could be decoded.
    pub is_complete: bool,
}

label_enum! {
    /// The result of a read of a call's events.
    pub enum ReadResult {
        /// The call had events.
        Found = "found",
        /// The call had no events.
        Empty = "empty",
        /// The read failed until it was given up.
        Failed = "failed",
        /// A later read was already due.
        Skipped = "skipped",
    }
}

/// An update of the exporter's own metrics.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricUpdate {
    /// Whether the last list could be read.
    Up(bool),
    /// A request or a list failed for this reason and will be retried.
    Retried(&'static str),
    /// The time span that wasn't read because of `poll.catch_up`.
    Skipped(Duration),
    /// How far Twilio's clock is ahead of the local one.
    TwilioAhead(SignedDuration),
    /// The number of list items that could not be decoded as calls.
    CallsRejected(u64),
    /// The number of calls that weren't tracked for lack of room.
    CallsDeferred(u64),
    /// A list was read to its end.
    ListRead {
        /// The kind of list.
        kind: ListKind,
        /// How long it took.
        took: Duration,
        /// Twilio's time at its end.
        at: Timestamp,
    },
    /// The counts of a reading of Call Events.
    Events(CountedEvents),
    /// The counts of a page or push of the error log.
    ErrorLog(CountedEntries),
    /// The result of reads.
    Read {
        /// Their stage.
        stage: Stage,
        /// Their result.
        result: ReadResult,
        /// Their number.
        count: u64,
    },
    /// A call was audited.
    Audited {
        /// The number of events that only the audit found.
        late_events: u64,
    },
    /// A change in whether a resource can be read.
    Trouble {
        /// The resource.
        resource: Resource,
        /// The cause for which it can't be read, and since when; `None` if it can.
        problem: Option<(String, Timestamp)>,
    },
    /// The account's lag, and its active calls.
    AccountLag(AccountLag),
    /// The time between two lists of recent calls.
    PollInterval(Duration),
    /// The number of concurrent requests that the planned reads require.
    RequiredConcurrency(f64),
}

/// The counts of a reading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CountedEvents {
    /// The number of newly counted events.
    pub counted: u64,
    /// The number of items that had been counted before.
    pub duplicates: u64,
    /// The number of counted responses whose body could not be judged.
    pub unjudged: u64,
    /// The number of counted events with an invalid duration.
    pub invalid_durations: u64,
    /// Why items were rejected, one reason per item.
    pub rejected: Vec<Rejection>,
    /// The delay between each event and its counting, in seconds.
    pub lags: Vec<f64>,
}

/// The counts of a page or push of the error log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CountedEntries {
    /// The number of newly counted entries.
    pub counted: u64,
    /// The number of entries that had been counted before.
    pub duplicates: u64,
    /// The number of items that could not be decoded.
    pub rejected: u64,
    /// The number of ignored entries: of other accounts, older than the account's first poll, or, if pushed, too old or
    /// undated.
    pub ignored: u64,
    /// The delay between each entry and its counting, in seconds.
    pub lags: Vec<f64>,
    /// Twilio's time when the log was read to its end.
    pub read_at: Option<Timestamp>,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogLine {
    /// A webhook failed.
    WebhookFailed {
        /// The call that it belongs to.
        call_sid: CallSid,
        /// The contents of its Call Event.
        failed: Box<Observation>,
        /// Twilio's time when it was counted.
        at: Timestamp,
    },
    /// The error log has a new entry.
    Reported {
        /// The entry.
        reported: Box<Reported>,
        /// Twilio's time when it was counted.
        at: Timestamp,
    },
    /// A resource can't be read.
    CannotRead {
        /// The resource.
        resource: Resource,
        /// The cause.
        cause: Cause,
    },
    /// A resource can be read again.
    CanRead {
        /// The resource.
        resource: Resource,
        /// How long it could not be read.
        lasted: Duration,
    },
    /// The events of one call still can't be read, although those of others can.
    CallUnreadable {
        /// The call.
        call_sid: CallSid,
        /// The cause.
        cause: Cause,
    },
    /// The events of a call can be read again.
    CallReadable {
        /// The call.
        call_sid: CallSid,
        /// How long it could not be read.
        lasted: Option<Duration>,
    },
    /// Reading a call's events was given up.
    GaveUp {
        /// The call.
        call_sid: CallSid,
        /// The stage of the read.
        stage: Stage,
        /// The error.
        error: String,
    },
    /// Older calls aren't read, because the program was down for too long.
    Skipped(Duration),
    /// There is no room to track new calls.
    NoRoom,
    /// There is room to track new calls again.
    HasRoom,
    /// A list was read to its end.
    ListRead(ListKind),
    /// A request for a page of a list failed.
    ListFailed {
        /// The kind of list.
        kind: ListKind,
        /// The error.
        error: String,
    },
}

impl Effects {
    /// Adds later effects.
    pub fn merge(&mut self, later: Self) {
        let Self { batch, needs_commit, metric_updates, lines, accounts } = later;
        self.batch.facts.extend(batch.facts);
        self.batch.calls.extend(batch.calls);
        self.batch.forgotten.extend(batch.forgotten);
        // Effects without a time have no list progress.
        if batch.received_at.is_some() {
            self.batch.received_at = batch.received_at;
            self.batch.lists = batch.lists;
        }
        self.needs_commit |= needs_commit;
        self.metric_updates.extend(metric_updates);
        self.lines.extend(lines);
        self.accounts = accounts.or(self.accounts.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_empty_effects_keeps_the_list_progress() {
        let cursor = Some(Timestamp::UNIX_EPOCH);
        let mut effects = Effects::default();
        effects.batch.lists = ListProgress { cursor, ..ListProgress::default() };
        effects.batch.received_at = cursor;
        effects.merge(Effects::default());
        assert_eq!((effects.batch.lists.cursor, effects.batch.received_at), (cursor, cursor));
    }
}
