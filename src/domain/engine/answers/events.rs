//! What pages of Call Events change.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::track::failing::ReadFailure;
use crate::domain::track::outcome::CallOutcome;
use crate::domain::track::progress::Counted;
use crate::domain::track::reading::{Item, Reading};
use crate::domain::track::twilio_time::{before, seconds_between};
use crate::domain::words::call::Direction;
use crate::domain::words::sid::CallSid;

use super::super::effects::{CountedEvents, Effects, Fact, Line, MetricUpdate, ReadResult};
use super::super::events_run::{AfterEvents, EventsRun};
use super::super::failure::{Failure, FailureReason, PageSizeVerdict, Verdict};
use super::super::plan::{Read, Stage};
use super::super::request::Page;
use super::super::troubles::cause;
use super::{AnswerContext, Engine, failed_at};

/// How long ago an event can have happened that is counted now: Twilio's lists are followed back for 30
/// days at most (`poll.catch_up`).
const OLDEST_EVENT: Duration = Duration::from_secs(31 * 24 * 60 * 60);

impl Engine {
    /// Takes a page of a call's events. Returns the call if its progress changed.
    pub(super) fn events_answered(
        &mut self,
        mut run: EventsRun,
        result: Result<Page<Item>, Failure>,
        heard: AnswerContext,
        effects: &mut Effects,
    ) -> Option<CallSid> {
        if result.is_ok() {
            self.learn_time(heard, effects);
            self.progress.request_took(heard.took);
        }
        let date = heard.date.unwrap_or_else(|| self.progress.now(heard.asked_at));
        let after = run.turn(result, date, heard.moment.now);
        match after {
            AfterEvents::Continue => {
                self.reads.push_back(run);
                None
            }
            AfterEvents::Read(reading) => self.take_reading(&run, &reading, heard, effects),
            AfterEvents::Failed(failure) => self.read_failed(&run, &failure, heard, effects),
        }
    }

    fn take_reading(
        &mut self,
        run: &EventsRun,
        reading: &Reading,
        heard: AnswerContext,
        effects: &mut Effects,
    ) -> Option<CallSid> {
        let (read, local) = (run.read, heard.moment.now);
        self.note_smaller_pages(run, local);
        if reading.is_complete {
            self.pace.read_succeeded();
            self.troubles.events.read(&read.sid, 0, local, effects);
            self.note_readable(read.sid, local, effects);
            self.event_sizes.read(&read.sid, run.size, local);
        }
        let now = self.progress.now(local);
        let counted = self.progress.take_reading(read, reading, now);
        let changed = counted.is_some().then_some(read.sid);
        if let Some(counted) = counted {
            if reading.is_complete {
                let new = u64::try_from(counted.events.len()).unwrap_or(u64::MAX);
                measure_read(read, reading, new, effects);
            }
            self.count(read.sid, counted, now, effects);
        }
        if reading.is_complete {
            return changed;
        }
        let text = "the list stopped before its end";
        let failure = Failure::of_pages(FailureReason::Incomplete, text);
        let failed = failed_at(&failure, read.sid, 0, heard.asked_at, false);
        self.troubles.events.failed(failed, local, effects);
        self.give_up_or_retry(read, &failure, heard, effects);
        changed
    }

    /// Counts what a reading added.
    fn count(&self, sid: CallSid, counted: Counted, now: Timestamp, effects: &mut Effects) {
        let mut numbers = CountedEvents {
            counted: u64::try_from(counted.events.len()).unwrap_or(u64::MAX),
            duplicates: counted.duplicates,
            rejected: counted.rejected,
            ..CountedEvents::default()
        };
        for (observation, created_at) in counted.events {
            numbers.unjudged += u64::from(observation.verdict.is_unjudged);
            numbers.invalid_durations += u64::from(observation.has_invalid_duration);
            let told = created_at.filter(|at| *at >= before(now, OLDEST_EVENT));
            numbers.lags.extend(told.map(|at| seconds_between(at, now)));
            if observation.verdict.failure.is_some() {
                let failed = Box::new(observation.clone());
                effects.lines.push(Line::WebhookFailed { call_sid: sid, failed, at: now });
            }
            let (at, is_history) = self.progress.dated(created_at, now);
            effects.batch.facts.push(Fact::Event { observation, call_sid: sid, at, is_history });
        }
        effects.metric_updates.push(MetricUpdate::Events(numbers));
        if let Some(CallOutcome { outcome, decided_by, created_at }) = counted.outcome {
            let (at, is_history) = self.progress.dated(created_at, now);
            effects.batch.facts.push(Fact::Outcome { outcome, decided_by, at, is_history });
        }
    }

    /// Notes that items were too large together for the pages that were asked for at first.
    fn note_smaller_pages(&mut self, run: &EventsRun, now: Timestamp) {
        if run.size < run.asked_size {
            self.event_sizes.too_large(run.read.sid, run.asked_size, run.size, now);
        }
    }

    /// Notes that a read failed. Returns the call if its progress changed.
    fn read_failed(
        &mut self,
        run: &EventsRun,
        failure: &Failure,
        heard: AnswerContext,
        effects: &mut Effects,
    ) -> Option<CallSid> {
        let (read, now) = (run.read, heard.moment.now);
        self.note_smaller_pages(run, now);
        if failure.page_size != PageSizeVerdict::Unrelated {
            self.event_sizes.failed(read.sid, run.size, failure.reason.as_str(), now);
        }
        if matches!(failure.reason, FailureReason::Endless | FailureReason::Shifted) {
            // All its pages could be read.
            effects.metric_updates.push(MetricUpdate::Retried(failure.reason.as_str()));
        }
        let mut is_accounts = false;
        match failure.verdict {
            Verdict::Throttled { .. } => {
                let failed = failed_at(failure, read.sid, 0, heard.asked_at, false);
                self.troubles.events.failed(failed, now, effects);
                self.progress.abandon(read.sid);
                return None;
            }
            Verdict::Refused => {
                let call = self.progress.calls.get(&read.sid);
                let direction = call.map_or(Direction::Other, |call| call.direction);
                is_accounts = self.pace.read_refused(read.sid, direction, now, heard.moment.random);
            }
            Verdict::Failed { retry_after } => {
                self.pace.failed(Some(read.sid), retry_after, now, heard.moment.random);
            }
            Verdict::NotFound | Verdict::Unreadable => {}
        }
        // Twilio may not know a call's events before they are documented to be there.
        let is_early = matches!(read.stage, Stage::Reported | Stage::Live | Stage::AfterEnd);
        if !(is_early && failure.verdict == Verdict::NotFound) {
            let failed = failed_at(failure, read.sid, 0, heard.asked_at, is_accounts);
            self.troubles.events.failed(failed, now, effects);
        }
        self.give_up_or_retry(read, failure, heard, effects)
    }

    /// Notes that a read failed: it is tried again, unless it was tried for long enough. Returns the call
    /// if it is given up.
    fn give_up_or_retry(
        &mut self,
        read: Read,
        failure: &Failure,
        heard: AnswerContext,
        effects: &mut Effects,
    ) -> Option<CallSid> {
        let Read { sid: call_sid, stage, .. } = read;
        let now = self.progress.now(heard.moment.now);
        let why = failure_of(failure.verdict);
        if self.progress.read_failed(read, why, now, heard.moment.random) {
            effects.metric_updates.push(MetricUpdate::Read {
                stage,
                result: ReadResult::Failed,
                count: 1,
            });
            effects.lines.push(Line::GaveUp { call_sid, stage, error: failure.text.clone() });
            return Some(call_sid);
        }
        if self.progress.calls.get(&call_sid).is_some_and(|call| call.is_unreadable()) {
            effects.lines.push(Line::CallUnreadable { call_sid, cause: cause(failure) });
        }
        None
    }

    /// Notes that a call is read, before its progress forgets the failures.
    fn note_readable(&self, call_sid: CallSid, now: Timestamp, effects: &mut Effects) {
        let call = self.progress.calls.get(&call_sid);
        let Some(call) = call.filter(|call| call.is_unreadable()) else { return };
        let now = self.progress.now(now);
        let lasted = call.failing.since().map(|since| now.duration_since(since).unsigned_abs());
        effects.lines.push(Line::CallReadable { call_sid, lasted });
    }
}

/// Measures a complete read that found so many new events.
fn measure_read(read: Read, reading: &Reading, new: u64, effects: &mut Effects) {
    let Read { stage, skips, .. } = read;
    let is_empty = reading.items.is_empty();
    let result = if is_empty { ReadResult::Empty } else { ReadResult::Found };
    effects.metric_updates.push(MetricUpdate::Read { stage, result, count: 1 });
    if stage == Stage::Audit {
        effects.metric_updates.push(MetricUpdate::Audited { late_events: new });
    }
    if skips > 0 {
        let (stage, result) = (Stage::AfterEnd, ReadResult::Skipped);
        effects.metric_updates.push(MetricUpdate::Read { stage, result, count: u64::from(skips) });
    }
}

/// What a failed read says of its call.
fn failure_of(verdict: Verdict) -> ReadFailure {
    match verdict {
        Verdict::Refused => ReadFailure::Refused,
        Verdict::NotFound => ReadFailure::NotFound,
        Verdict::Unreadable => ReadFailure::Unreadable,
        Verdict::Throttled { .. } | Verdict::Failed { .. } => ReadFailure::Failed,
    }
}
