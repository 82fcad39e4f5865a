//! What an answer changes: what is to be kept, what is measured, and what the log says.
//!
//! The shell commits the batch, and tells the rest only then.

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

/// All that an answer, or the time, changes.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// What is to be kept, in one transaction.
    pub batch: Batch,
    /// Whether the batch changes anything.
    pub needs_commit: bool,
    /// Numbers about ourselves.
    pub metric_updates: Vec<MetricUpdate>,
    /// What is worth a line in the log.
    pub lines: Vec<Line>,
    /// The accounts that were found, if their list was read.
    pub accounts: Option<FoundAccounts>,
}

/// What one transaction changes in the store.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// What is counted.
    pub facts: Vec<Fact>,
    /// Twilio's time when this was learnt.
    pub learnt_at: Option<Timestamp>,
    /// The calls whose progress changed, the later one where a call is here twice.
    pub calls: Vec<CallProgress>,
    /// The calls that are forgotten.
    pub forgotten: Vec<CallSid>,
    /// How far the lists are known.
    pub lists: ListProgress,
}

/// Something that is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A Call Event.
    Event {
        /// What it says.
        observation: Observation,
        /// The call that leads back to it.
        call_sid: CallSid,
        /// When Twilio recorded the answer; the time of counting where it doesn't say.
        at: Timestamp,
        /// Whether it is old news: a group that it brings is shown at once, as no one should be
        /// paged for it.
        is_history: bool,
    },
    /// An entry of the error log.
    Reported {
        /// What it says.
        reported: Reported,
        /// When it happened; the time of counting where it doesn't say.
        at: Timestamp,
        /// Whether it is old news, as for an event.
        is_history: bool,
    },
    /// A call that has finished.
    Finished(Direction, CallStatus),
    /// What callers felt of a settled call.
    Outcome {
        /// What they felt.
        outcome: Outcome,
        /// The failing request that decided it.
        decided_by: Observation,
        /// When Twilio recorded the answer to that request; the time of counting where it doesn't say.
        at: Timestamp,
        /// Whether it is old news, as for an event.
        is_history: bool,
    },
}

/// The accounts of Twilio's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundAccounts {
    /// Those that could be read.
    pub accounts: Vec<ListedAccount>,
    /// Whether the list was read to its end, and each of its items could be.
    pub is_complete: bool,
}

label_enum! {
    /// What became of a read of a call's events.
    pub enum ReadResult {
        /// The call has events.
        Found = "found",
        /// The call has no events.
        Empty = "empty",
        /// The read was given up.
        Failed = "failed",
        /// A later read was due already.
        Skipped = "skipped",
    }
}

/// A number about ourselves.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricUpdate {
    /// Whether the last list could be read.
    Up(bool),
    /// A request, or a list, failed for this reason and will be tried again.
    Retried(&'static str),
    /// Time that was cut off by `poll.catch_up`.
    Skipped(Duration),
    /// How far Twilio's clock is ahead of the local one.
    TwilioAhead(SignedDuration),
    /// Items of a list that are no readable call.
    CallsRejected(u64),
    /// Calls that were not taken up for want of room.
    CallsDeferred(u64),
    /// A list was read to its end.
    ListRead {
        /// Which.
        kind: ListKind,
        /// How long that took.
        took: Duration,
        /// Twilio's time at its end.
        at: Timestamp,
    },
    /// What a page of Call Events added.
    Events(CountedEvents),
    /// What a page of the error log added.
    ErrorLog(CountedEntries),
    /// What became of reads.
    Read {
        /// Why they were made.
        stage: Stage,
        /// What became of them.
        result: ReadResult,
        /// How many.
        count: u64,
    },
    /// An audit was made.
    Audited {
        /// Events that only it found.
        late_events: u64,
    },
    /// What keeps a resource from being read, and since when; `None` once nothing does.
    Trouble {
        /// The resource.
        resource: Resource,
        /// What keeps it from being read.
        told: Option<(String, Timestamp)>,
    },
    /// How late the account is, and which calls are active.
    AccountLag(AccountLag),
    /// The time between two lists of recent calls.
    PollInterval(Duration),
    /// The concurrent requests that the planned reads need.
    RequiredConcurrency(f64),
}

/// What a reading added, as numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CountedEvents {
    /// Events that are counted now.
    pub counted: u64,
    /// Items that were counted before.
    pub duplicates: u64,
    /// Counted answers whose body could not be judged.
    pub unjudged: u64,
    /// Counted events whose duration is rejected.
    pub invalid_durations: u64,
    /// Items that say nothing.
    pub rejected: Vec<Rejection>,
    /// How late each event was counted, in seconds.
    pub lags: Vec<f64>,
}

/// What a page of the error log added, as numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CountedEntries {
    /// Entries that are counted now.
    pub counted: u64,
    /// Entries that were counted before.
    pub duplicates: u64,
    /// Items that can't be read.
    pub rejected: u64,
    /// Entries of other accounts, or from before the account was first polled.
    pub ignored: u64,
    /// How late each entry was counted, in seconds.
    pub lags: Vec<f64>,
    /// Twilio's time, if the log was read to its end.
    pub read_at: Option<Timestamp>,
}

/// What is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A webhook failed.
    WebhookFailed {
        /// The call that leads back to it.
        call_sid: CallSid,
        /// What its Call Event says.
        failed: Box<Observation>,
        /// Twilio's time when it was counted.
        at: Timestamp,
    },
    /// The error log has a new entry.
    Reported {
        /// What it says.
        reported: Box<Reported>,
        /// Twilio's time when it was counted.
        at: Timestamp,
    },
    /// A resource can't be read.
    CannotRead {
        /// The resource.
        resource: Resource,
        /// Why.
        cause: Cause,
    },
    /// A resource can be read again.
    CanRead {
        /// The resource.
        resource: Resource,
        /// How long it could not be.
        lasted: Duration,
    },
    /// Another attempt at a call failed whose events can't be read though those of others can.
    CallUnreadable {
        /// The call.
        call_sid: CallSid,
        /// Why.
        cause: Cause,
    },
    /// The events of a call were read that had failed before.
    CallReadable {
        /// The call.
        call_sid: CallSid,
        /// How long it could not be read.
        lasted: Option<Duration>,
    },
    /// A call's events were given up.
    GaveUp {
        /// The call.
        call_sid: CallSid,
        /// Why it was read.
        stage: Stage,
        /// Why it could not be.
        error: String,
    },
    /// Older calls are not read, since the program was away for too long.
    Skipped(Duration),
    /// New calls find no room.
    NoRoom,
    /// New calls find room again.
    HasRoom,
    /// A list was read to its end.
    ListRead(ListKind),
    /// A list could not be read on.
    ListFailed {
        /// Which.
        kind: ListKind,
        /// Why.
        error: String,
    },
}

impl Effects {
    /// Adds what came later.
    pub fn merge(&mut self, later: Self) {
        let Self { batch, needs_commit, metric_updates, lines, accounts } = later;
        self.batch.facts.extend(batch.facts);
        self.batch.calls.extend(batch.calls);
        self.batch.forgotten.extend(batch.forgotten);
        // What has learnt nothing knows nothing of the lists.
        if batch.learnt_at.is_some() {
            self.batch.learnt_at = batch.learnt_at;
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
    fn what_changes_nothing_leaves_how_far_the_lists_are_known() {
        let cursor = Some(Timestamp::UNIX_EPOCH);
        let mut effects = Effects::default();
        effects.batch.lists = ListProgress { cursor, ..ListProgress::default() };
        effects.batch.learnt_at = cursor;
        effects.merge(Effects::default());
        assert_eq!((effects.batch.lists.cursor, effects.batch.learnt_at), (cursor, cursor));
    }
}
