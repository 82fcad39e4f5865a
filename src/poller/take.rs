//! What the answers of Twilio mean for an account: progress, facts, pace.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::account::{CallChanges, ReadFailure};
use crate::domain::call::Call;
use crate::domain::listing::{AfterPage, ListRun};
use crate::domain::plan::Stage;
use crate::domain::reading::Reading;
use crate::domain::sid::CallSid;
use crate::domain::twilio_time::{after, before, seconds_between};
use crate::metrics::health::ReadResult;
use crate::metrics::ledger::Fact;
use crate::store::Batch;
use crate::twilio::client::CallPage;
use crate::twilio::{Answer, Error};

use super::attempt::Attempts;
use super::commit::Notes;
use super::decide::{Decision, decide};
use super::{Done, Poller, random};

/// How far a `Date` may lie ahead of what all of them together say.
const DATE_TOLERANCE: Duration = Duration::from_secs(2);
/// How long ago an event can have happened that is counted now: Twilio's lists are followed back for 30
/// days at most (`poll.catch_up`).
const OLDEST_EVENT: Duration = Duration::from_secs(31 * 24 * 60 * 60);
/// What may be refused apart: lists of calls.
const CALLS: &str = "calls";
/// What may be refused apart: a single call.
const CALL: &str = "call";
/// What may be refused apart: Call Events.
const CALL_EVENTS: &str = "call events";

impl Poller {
    /// Takes a finished request.
    pub(super) fn take(&mut self, done: Done, batch: &mut Batch, notes: &mut Notes) {
        match done {
            Done::List { run, answer } => self.take_list(*run, answer, batch, notes),
            Done::Fetched { sid, answer } => self.take_fetched(sid, answer, batch, notes),
            Done::Read { sid, stage, skips, attempts, result } => {
                attempts.note(&self.health, &self.shared);
                match result {
                    Ok(reading) => self.take_reading(sid, stage, skips, &reading, batch, notes),
                    Err(error) => self.read_failed(sid, stage, skips, &error, notes),
                }
            }
        }
    }

    fn take_list(
        &mut self,
        mut run: ListRun,
        answer: Answer<CallPage>,
        batch: &mut Batch,
        notes: &mut Notes,
    ) {
        self.is_listing = false;
        let attempts = Attempts(answer.attempt.into_iter().collect());
        attempts.note(&self.health, &self.shared);
        let date = attempts.date();
        if !self.progress.lists.is_started() && (answer.result.is_ok() || date.is_some()) {
            self.start_lists();
            run.asked_at = self.shared.now();
        }
        let now = self.shared.now();
        match answer.result {
            Ok(page) => {
                self.pace.succeeded();
                self.health.up(true);
                self.readable(CALLS);
                self.health.calls_rejected(page.rejected);
                // An odd `Date` moves no cursor past the present.
                let date = date.unwrap_or(now).min(after(now, DATE_TOLERANCE));
                let (changes, after) =
                    self.progress.take_page(&mut run, &page.calls, page.next_page, date);
                add_changes(changes, batch, notes);
                match after {
                    AfterPage::Continue => self.list = Some(run),
                    AfterPage::Complete | AfterPage::Capped => {
                        let is_complete = after == AfterPage::Complete;
                        self.progress.lists.finish(&run, is_complete);
                        let seconds = seconds_between(Timestamp::UNIX_EPOCH, now);
                        self.health.list_read(run.kind, self.list_began.elapsed(), seconds);
                        tracing::debug!(
                            account = self.account.label,
                            list = run.kind.as_str(),
                            is_complete,
                            "list read"
                        );
                    }
                }
            }
            Err(error) => {
                self.health.up(false);
                self.health.api_retry(error.reason().as_str());
                self.list_failed(run, &error, now);
            }
        }
    }

    fn list_failed(&mut self, mut run: ListRun, error: &Error, now: Timestamp) {
        tracing::debug!(account = self.account.label, list = run.kind.as_str(), %error, "list failed");
        let local = self.shared.clock.now();
        let is_passing = match decide(error) {
            Decision::Throttled { retry_after } => {
                self.pace.throttled(retry_after, local, random());
                true
            }
            Decision::Failed { retry_after } => {
                self.pace.failed(None, retry_after, local, random());
                true
            }
            Decision::Refused => {
                self.pace.refused(false, local);
                self.unreadable(CALLS, error);
                false
            }
            Decision::SkipCall => {
                self.pace.failed(None, None, local, random());
                false
            }
            Decision::StopList => {
                // What was read so far is kept; nothing beyond is Twilio's.
                self.progress.lists.finish(&run, true);
                return;
            }
        };
        if is_passing && run.may_resume() {
            self.list = Some(run);
        } else {
            self.progress.lists.fail(&run, now);
        }
    }

    /// Begins, now that Twilio's time is known.
    fn start_lists(&mut self) {
        let skipped = self.progress.start(&self.shared.lists, self.shared.now());
        if !skipped.is_zero() {
            self.health.skipped(skipped);
            tracing::warn!(
                account = self.account.label,
                skipped_seconds = skipped.as_secs(),
                "was away for longer than poll.catch_up: older calls are not read"
            );
        }
    }

    fn take_fetched(
        &mut self,
        sid: CallSid,
        answer: Answer<Call>,
        batch: &mut Batch,
        notes: &mut Notes,
    ) {
        Attempts(answer.attempt.into_iter().collect()).note(&self.health, &self.shared);
        let now = self.shared.now();
        let changes = match answer.result {
            Ok(call) => {
                self.pace.succeeded();
                self.readable(CALL);
                self.progress.take_fetched(sid, Some(&call), now)
            }
            Err(Error::NotFound) => self.progress.take_fetched(sid, None, now),
            Err(error) => {
                self.health.api_retry(error.reason().as_str());
                self.back_off(sid, &error);
                if decide(&error) == Decision::Refused {
                    self.unreadable(CALL, &error);
                }
                self.progress.fetch_failed(sid, now);
                CallChanges::default()
            }
        };
        add_changes(changes, batch, notes);
    }

    fn take_reading(
        &mut self,
        sid: CallSid,
        stage: Stage,
        skips: u8,
        reading: &Reading,
        batch: &mut Batch,
        notes: &mut Notes,
    ) {
        self.pace.read_succeeded();
        self.readable(CALL_EVENTS);
        let now = self.shared.now();
        let reads = &self.shared.reads;
        let changes = self.progress.take_reading(sid, stage, skips, reading, reads, now);
        let Some(changes) = changes else { return };
        let result = if reading.items.is_empty() { ReadResult::Empty } else { ReadResult::Found };
        notes.reads.push((stage, result, 1));
        notes.reads.push((Stage::AfterEnd, ReadResult::Skipped, u64::from(skips)));
        notes.duplicates += changes.counted.duplicates;
        notes.rejected.extend(changes.counted.rejected);
        if stage == Stage::Audit {
            notes.audits.push(u64::try_from(changes.counted.events.len()).unwrap_or(u64::MAX));
        }
        for (observation, created_at) in changes.counted.events {
            notes.counted += 1;
            notes.unjudged += u64::from(observation.verdict.is_unjudged);
            notes.invalid_durations += u64::from(observation.has_invalid_duration);
            let is_possible = |at: &Timestamp| *at >= before(now, OLDEST_EVENT);
            notes.lags.extend(created_at.filter(is_possible).map(|at| seconds_between(at, now)));
            if observation.verdict.failure.is_some()
                && let Some(suppressed) = self.failure_log.admit(&observation.endpoint, now)
            {
                notes.failures.push((sid, observation.clone(), suppressed));
            }
            let is_history = self.progress.lists.is_history(created_at);
            // An odd time in the future must not be the most recent for ever.
            let at = created_at.unwrap_or(now).min(after(now, DATE_TOLERANCE));
            batch.facts.push(Fact::Event { observation, call_sid: sid, at, is_history });
        }
        batch.facts.extend(changes.outcome.map(Fact::Felt));
        notes.changed.insert(sid);
    }

    fn read_failed(
        &mut self,
        sid: CallSid,
        stage: Stage,
        skips: u8,
        error: &Error,
        notes: &mut Notes,
    ) {
        let now = self.shared.now();
        self.health.api_retry(error.reason().as_str());
        let failure = match decide(error) {
            Decision::Refused => {
                self.pace.refused(true, self.shared.clock.now());
                self.unreadable(CALL_EVENTS, error);
                self.progress.abandon(sid);
                return;
            }
            Decision::Throttled { .. } => {
                self.back_off(sid, error);
                self.progress.abandon(sid);
                return;
            }
            Decision::SkipCall | Decision::StopList => ReadFailure::Refused,
            Decision::Failed { .. } => {
                self.back_off(sid, error);
                ReadFailure::Failed
            }
        };
        if self.progress.read_failed(sid, stage, skips, failure, now, random()) {
            notes.reads.push((stage, ReadResult::Failed, 1));
            notes.changed.insert(sid);
            tracing::warn!(account = self.account.label, call_sid = %sid, stage = stage.as_str(), %error, "gave up reading a call's events");
        }
    }

    fn back_off(&mut self, sid: CallSid, error: &Error) {
        let local = self.shared.clock.now();
        match decide(error) {
            Decision::Throttled { retry_after } => {
                self.pace.throttled(retry_after, local, random())
            }
            Decision::Failed { retry_after } => {
                self.pace.failed(Some(sid), retry_after, local, random());
            }
            Decision::Refused | Decision::SkipCall | Decision::StopList => {}
        }
    }

    /// Says once that something can't be read, until it can.
    fn unreadable(&mut self, what: &'static str, error: &Error) {
        if self.refused.insert(what) {
            tracing::warn!(account = self.account.label, resource = what, %error, "cannot read from Twilio");
        }
    }

    fn readable(&mut self, what: &'static str) {
        if self.refused.remove(what) {
            tracing::info!(
                account = self.account.label,
                resource = what,
                "can read from Twilio again"
            );
        }
    }
}

fn add_changes(changes: CallChanges, batch: &mut Batch, notes: &mut Notes) {
    batch.facts.extend(
        changes.finished.into_iter().map(|(direction, status)| Fact::Finished(direction, status)),
    );
    notes.changed.extend(changes.changed);
}
