//! What the answers of Twilio mean for an account: progress, facts, pace.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::engine::account::{CallChanges, FailedRead};
use crate::domain::engine::lists::{AfterPage, ListPage, ListRun, Stop};
use crate::domain::engine::page_size::smaller;
use crate::domain::engine::plan::Stage;
use crate::domain::track::failing::ReadFailure;
use crate::domain::track::listing::ListKind;
use crate::domain::track::outcome::CallOutcome;
use crate::domain::track::reading::Reading;
use crate::domain::track::twilio_time::{before, seconds_between};
use crate::domain::words::call::{Call, Direction};
use crate::domain::words::sid::CallSid;
use crate::metrics::health::ReadResult;
use crate::metrics::ledger::Fact;
use crate::store::Batch;
use crate::twilio::client::CallPage;
use crate::twilio::{Answer, Error};

use super::attempt::Attempts;
use super::commit::Notes;
use super::decide::{Decision, decide, failure_of};
use super::{Done, Poller, random};

/// How long ago an event can have happened that is counted now: Twilio's lists are followed back for 30
/// days at most (`poll.catch_up`).
const OLDEST_EVENT: Duration = Duration::from_secs(31 * 24 * 60 * 60);
/// What is said once: there is no room for new calls.
const NO_ROOM: &str = "room";

impl Poller {
    /// Takes a finished request.
    pub(super) fn take(&mut self, done: Done, batch: &mut Batch, notes: &mut Notes) {
        match done {
            Done::List { run, answer } => self.take_list(*run, answer, batch, notes),
            Done::Fetched { sid, answer } => self.take_fetched(sid, answer, batch, notes),
            Done::Read { sid, stage, skips, page_sizes: [asked, page_size], attempts, result } => {
                if page_size < asked {
                    let local = self.shared.clock.now();
                    self.event_sizes.too_large(sid, asked, page_size, local);
                }
                attempts.note(&self.health);
                let failed = |failure| FailedRead { sid, stage, skips, failure };
                match result {
                    Ok(reading) => {
                        self.learn_time(&attempts);
                        if let Some(last) = attempts.0.last() {
                            self.progress.request_took(last.took);
                        }
                        self.take_reading(sid, stage, skips, &reading, batch, notes);
                        if reading.is_complete {
                            let local = self.shared.clock.now();
                            self.event_sizes.read(&sid, page_size, local);
                        }
                        if !reading.is_complete {
                            let read = failed(ReadFailure::Unreadable);
                            self.events_troubled(sid, &Error::Incomplete, &attempts, false);
                            self.give_up_or_retry(read, &Error::Incomplete, notes);
                        }
                    }
                    Err(error) => {
                        if error.may_be_for_size() {
                            let (reason, local) =
                                (error.reason().as_str(), self.shared.clock.now());
                            self.event_sizes.failed(sid, page_size, reason, local);
                        }
                        self.read_failed(failed(failure_of(&error)), &error, &attempts, notes);
                    }
                }
            }
        }
    }

    /// Learns Twilio's time from the last of its answers, which is a 200 of its own, and begins once
    /// it is known.
    fn learn_time(&mut self, attempts: &Attempts) {
        let Some(answered) = attempts.0.last().and_then(|last| last.answered) else { return };
        let local = self.shared.clock.at(answered);
        let skipped = self.progress.learn_time(attempts.date(), local, &self.shared.lists);
        if self.progress.time().is_known() {
            self.shared.health.twilio_ahead(self.progress.time().offset());
        }
        let Some(skipped) = skipped else { return };
        if !skipped.is_zero() {
            self.health.skipped(skipped);
            tracing::warn!(
                account = self.account.label,
                skipped_seconds = skipped.as_secs(),
                "was away for longer than poll.catch_up: older calls are not read"
            );
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
        attempts.note(&self.health);
        match answer.result {
            Ok(page) => {
                let was_started = self.progress.lists.is_started();
                self.learn_time(&attempts);
                self.pace.list_succeeded();
                if !self.progress.lists.is_started() {
                    return self.await_time(run.kind);
                }
                self.health.up(true);
                if !was_started {
                    run.asked_at = self.now();
                }
                self.take_page(run, &page, attempts.date(), batch, notes);
            }
            Err(error) => {
                self.health.up(false);
                self.health.api_retry(error.reason().as_str());
                let now = self.now();
                self.list_failed(run, &error, &attempts, now);
            }
        }
    }

    /// Before Twilio's time is known, its pages say nothing else.
    fn await_time(&mut self, kind: ListKind) {
        let now = self.now();
        self.progress.lists.await_time(now);
        if self.progress.time().is_doubtful() {
            self.health.up(false);
            self.time_doubted(kind);
        }
    }

    fn take_page(
        &mut self,
        mut run: ListRun,
        page: &CallPage,
        date: Option<Timestamp>,
        batch: &mut Batch,
        notes: &mut Notes,
    ) {
        self.health.calls_rejected(page.rejected);
        let now = self.now();
        let room = self.shared.tracked.room(self.progress.calls.len());
        let next = page.next_page.as_deref();
        let page = ListPage { calls: &page.calls, rejected: page.rejected, next };
        let (changes, after) = self.progress.take_page(&mut run, page, date, room, now);
        self.note_room(changes.left);
        add_changes(changes, batch, notes);
        self.list_read(run.kind, run.pages() - 1);
        match after {
            AfterPage::Continue => self.list = Some(run),
            AfterPage::Complete | AfterPage::Stopped(_) => self.finish_list(&run, after, now),
        }
    }

    /// Says once that calls find no room, until they do.
    fn note_room(&mut self, left: u64) {
        self.shared.tracked.set(&mut self.tracked, self.progress.calls.len());
        self.health.tracked_calls(self.progress.calls.len());
        self.health.calls_deferred(left);
        if left > 0 && self.said.insert(NO_ROOM) {
            tracing::warn!(
                account = self.account.label,
                limit = self.shared.tracked.limit(),
                "as many calls are tracked as limits.tracked_calls allows: new calls wait in Twilio's list until others have settled"
            );
        }
    }

    fn finish_list(&mut self, run: &ListRun, after: AfterPage, now: Timestamp) {
        self.progress.finish_list(run, after, now);
        let AfterPage::Stopped(stop) = after else {
            self.list_sizes.read(&run.kind, run.page_size, self.shared.clock.now());
            let seconds = seconds_between(Timestamp::UNIX_EPOCH, now);
            self.health.list_read(run.kind, self.list_began.elapsed(), seconds);
            if self.said.remove(NO_ROOM) {
                tracing::info!(account = self.account.label, "there is room for new calls again");
            }
            self.list_read(run.kind, u32::MAX);
            tracing::debug!(account = self.account.label, list = run.kind.as_str(), "list read");
            return;
        };
        match stop {
            Stop::NoRoom => {}
            Stop::Capped | Stop::Empty | Stop::Repeated | Stop::Undecodable | Stop::Foreign => {
                self.health.api_retry(stop.as_str());
                self.list_stopped(run.kind, stop);
            }
        }
    }

    fn list_failed(
        &mut self,
        mut run: ListRun,
        error: &Error,
        attempts: &Attempts,
        now: Timestamp,
    ) {
        tracing::debug!(account = self.account.label, list = run.kind.as_str(), %error, "list failed");
        let local = self.shared.clock.now();
        let mut is_accounts = false;
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
                let is_only_list = !self.progress.lists.is_started();
                is_accounts = self.pace.list_refused(run.kind, is_only_list, local);
                false
            }
            Decision::SkipCall => {
                self.pace.failed(None, None, local, random());
                false
            }
            // What was read so far is kept; nothing beyond is Twilio's.
            Decision::StopList => {
                return self.finish_list(&run, AfterPage::Stopped(Stop::Foreign), now);
            }
        };
        self.list_troubled(&run, error, attempts, is_accounts);
        if error.may_be_for_size() {
            let size = run.page_size;
            match (error, smaller(size)) {
                (Error::TooLarge { .. }, Some(smaller)) => {
                    self.list_sizes.too_large(run.kind, size, smaller, local);
                }
                _ => self.list_sizes.failed(run.kind, size, error.reason().as_str(), local),
            }
        }
        // A next page has the size of the first.
        let is_too_big = run.page_size > self.list_sizes.of(&run.kind);
        if is_passing && !is_too_big && run.may_resume() {
            self.list = Some(run);
        } else {
            self.progress.lists.fail(&run, now);
        }
    }

    fn take_fetched(
        &mut self,
        sid: CallSid,
        answer: Answer<Call>,
        batch: &mut Batch,
        notes: &mut Notes,
    ) {
        let attempts = Attempts(answer.attempt.into_iter().collect());
        attempts.note(&self.health);
        let now = self.now();
        let changes = match answer.result {
            Ok(call) => {
                self.learn_time(&attempts);
                self.pace.succeeded();
                self.call_fetched(sid);
                self.progress.take_fetched(sid, Some(&call), now)
            }
            Err(Error::NotFound(_)) => self.progress.take_fetched(sid, None, now),
            Err(error) => {
                self.health.api_retry(error.reason().as_str());
                self.back_off(sid, &error);
                self.call_troubled(sid, &error, &attempts);
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
        if reading.is_complete {
            self.pace.read_succeeded();
            self.events_read(sid);
            self.call_readable(sid);
        }
        let now = self.now();
        let reads = &self.shared.reads;
        let changes = self.progress.take_reading(sid, stage, skips, reading, reads, now);
        let Some(changes) = changes else { return };
        let result = if reading.items.is_empty() { ReadResult::Empty } else { ReadResult::Found };
        if reading.is_complete {
            notes.reads.push((stage, result, 1));
            notes.reads.push((Stage::AfterEnd, ReadResult::Skipped, u64::from(skips)));
        }
        notes.duplicates += changes.counted.duplicates;
        notes.rejected.extend(changes.counted.rejected);
        if stage == Stage::Audit && reading.is_complete {
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
            let (at, is_history) = self.progress.dated(created_at, now);
            batch.facts.push(Fact::Event { observation, call_sid: sid, at, is_history });
        }
        if let Some(CallOutcome { outcome, decided_by, created_at }) = changes.outcome {
            let (at, is_history) = self.progress.dated(created_at, now);
            batch.facts.push(Fact::Outcome { outcome, decided_by, at, is_history });
        }
        notes.changed.insert(sid);
    }

    fn read_failed(
        &mut self,
        read: FailedRead,
        error: &Error,
        attempts: &Attempts,
        notes: &mut Notes,
    ) {
        self.health.api_retry(error.reason().as_str());
        let mut is_accounts = false;
        match decide(error) {
            Decision::Throttled { .. } => {
                self.back_off(read.sid, error);
                self.events_troubled(read.sid, error, attempts, false);
                return self.progress.abandon(read.sid);
            }
            Decision::Refused => {
                let call = self.progress.calls.get(&read.sid);
                let direction = call.map_or(Direction::Other, |call| call.direction);
                let local = self.shared.clock.now();
                is_accounts = self.pace.read_refused(read.sid, direction, local);
            }
            Decision::Failed { .. } => self.back_off(read.sid, error),
            Decision::SkipCall | Decision::StopList => {}
        }
        // Twilio may not know a call's events before they are documented to be there.
        let is_early = read.stage == Stage::Live || read.stage == Stage::AfterEnd;
        if !(is_early && read.failure == ReadFailure::NotFound) {
            self.events_troubled(read.sid, error, attempts, is_accounts);
        }
        self.give_up_or_retry(read, error, notes);
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
}

pub(super) fn add_changes(changes: CallChanges, batch: &mut Batch, notes: &mut Notes) {
    batch.facts.extend(
        changes.finished.into_iter().map(|(direction, status)| Fact::Finished(direction, status)),
    );
    notes.changed.extend(changes.changed);
}
