//! Applies pages of Call Events.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::track::failing::ReadFailure;
use crate::domain::track::outcome::CallOutcome;
use crate::domain::track::progress::Counted;
use crate::domain::track::reading::{Item, Reading};
use crate::domain::track::twilio_time::{before, seconds_between};
use crate::domain::words::call::Direction;
use crate::domain::words::sid::CallSid;

use super::super::effects::{CountedEvents, Effects, Fact, LogLine, MetricUpdate, ReadResult};
use super::super::events_run::{AfterEvents, EventsRun};
use super::super::failure::{Failure, FailureReason, PageSizeVerdict, Verdict};
use super::super::plan::{Read, Stage};
use super::super::request::Page;
use super::super::troubles::cause;
use super::{AnswerContext, Engine, trouble_with};

/// The maximum plausible age of an event when it is counted: lists go back at most 30 days (`poll.catch_up`).
const MAX_EVENT_AGE: Duration = Duration::from_secs(31 * 24 * 60 * 60);

impl Engine {
    /// Applies a page of a call's events. Returns the call if its progress changed.
    pub(super) fn events_answered(
        &mut self,
        mut run: EventsRun,
        result: Result<Page<Item>, Failure>,
        answer: AnswerContext,
        effects: &mut Effects,
    ) -> Option<CallSid> {
        if result.is_ok() {
            self.learn_time(answer, effects);
            self.progress.request_took(answer.took);
        }
        let date = answer.date.unwrap_or_else(|| self.progress.now(answer.requested_at));
        let after = run.on_page(result, date, answer.context.now);
        match after {
            AfterEvents::Continue => {
                self.reads.push_back(run);
                None
            }
            AfterEvents::Read(reading) => self.apply_reading(&run, &reading, answer, effects),
            AfterEvents::Failed(failure) => self.read_failed(&run, &failure, answer, effects),
        }
    }

    fn apply_reading(
        &mut self,
        run: &EventsRun,
        reading: &Reading,
        answer: AnswerContext,
        effects: &mut Effects,
    ) -> Option<CallSid> {
        let (read, local) = (run.read, answer.context.now);
        self.note_smaller_pages(run, local);
        if reading.is_complete {
            self.pace.read_succeeded();
            self.troubles.events.succeeded(&read.sid, 0, local, effects);
            self.note_readable(read.sid, local, effects);
            self.event_sizes.read(&read.sid, run.size, local);
        }
        let now = self.progress.now(local);
        let counted = self.progress.apply_reading(read, reading, now);
        let changed = counted.is_some().then_some(read.sid);
        if let Some(counted) = counted {
            if reading.is_complete {
                let new = u64::try_from(counted.events.len()).unwrap_or(u64::MAX);
                record_read(read, reading, new, effects);
            }
            self.count(read.sid, counted, now, effects);
        }
        if reading.is_complete {
            return changed;
        }
        let text = "the list stopped before its end";
        let failure = Failure::invalid_pages(FailureReason::Incomplete, text);
        let failed = trouble_with(&failure, read.sid, 0, answer.requested_at, false);
        self.troubles.events.failed(failed, local, effects);
        self.give_up_or_retry(read, &failure, answer, effects);
        changed
    }

    /// Counts the new events of a reading.
    fn count(&self, sid: CallSid, counted: Counted, now: Timestamp, effects: &mut Effects) {
        let mut counts = CountedEvents {
            counted: u64::try_from(counted.events.len()).unwrap_or(u64::MAX),
            duplicates: counted.duplicates,
            rejected: counted.rejected,
            ..CountedEvents::default()
        };
        for (observation, created_at) in counted.events {
            counts.unjudged += u64::from(observation.verdict.is_unjudged);
            counts.invalid_durations += u64::from(observation.has_invalid_duration);
            let plausible = created_at.filter(|at| *at >= before(now, MAX_EVENT_AGE));
            counts.lags.extend(plausible.map(|at| seconds_between(at, now)));
            if observation.verdict.failure.is_some() {
                let failed = Box::new(observation.clone());
                effects.lines.push(LogLine::WebhookFailed { call_sid: sid, failed, at: now });
            }
            let (at, is_history) = self.progress.dated(created_at, now);
            effects.batch.facts.push(Fact::Event { observation, call_sid: sid, at, is_history });
        }
        effects.metric_updates.push(MetricUpdate::Events(counts));
        if let Some(CallOutcome { outcome, decided_by, created_at }) = counted.outcome {
            let (at, is_history) = self.progress.dated(created_at, now);
            effects.batch.facts.push(Fact::Outcome { outcome, decided_by, at, is_history });
        }
    }

    /// Notes that pages of the initial size were too large.
    fn note_smaller_pages(&mut self, run: &EventsRun, now: Timestamp) {
        if run.size < run.initial_size {
            self.event_sizes.too_large(run.read.sid, run.initial_size, run.size, now);
        }
    }

    /// Notes that a read failed. Returns the call if its progress changed.
    fn read_failed(
        &mut self,
        run: &EventsRun,
        failure: &Failure,
        answer: AnswerContext,
        effects: &mut Effects,
    ) -> Option<CallSid> {
        let (read, now) = (run.read, answer.context.now);
        self.note_smaller_pages(run, now);
        if failure.page_size != PageSizeVerdict::Unrelated {
            self.event_sizes.failed(read.sid, run.size, failure.reason.as_str(), now);
        }
        if matches!(failure.reason, FailureReason::Endless | FailureReason::Shifted) {
            // No request failed, so `on_answer` hasn't counted a retry.
            effects.metric_updates.push(MetricUpdate::Retried(failure.reason.as_str()));
        }
        let mut is_for_account = false;
        match failure.verdict {
            Verdict::Throttled { .. } => {
                let failed = trouble_with(failure, read.sid, 0, answer.requested_at, false);
                self.troubles.events.failed(failed, now, effects);
                self.progress.abandon(read.sid);
                return None;
            }
            Verdict::Refused => {
                let call = self.progress.calls.get(&read.sid);
                let direction = call.map_or(Direction::Other, |call| call.direction);
                is_for_account =
                    self.pace.read_refused(read.sid, direction, now, answer.context.random);
            }
            Verdict::Failed { retry_after } => {
                self.pace.failed(Some(read.sid), retry_after, now, answer.context.random);
            }
            Verdict::NotFound | Verdict::Unreadable => {}
        }
        // Twilio may answer 404 until the time from which it documents a call's events to be available.
        let is_early = matches!(read.stage, Stage::Reported | Stage::Live | Stage::AfterEnd);
        if !(is_early && failure.verdict == Verdict::NotFound) {
            let failed = trouble_with(failure, read.sid, 0, answer.requested_at, is_for_account);
            self.troubles.events.failed(failed, now, effects);
        }
        self.give_up_or_retry(read, failure, answer, effects)
    }

    /// Schedules a failed read again, or gives up once it has failed for long enough. Returns the call if it
    /// gives up.
    fn give_up_or_retry(
        &mut self,
        read: Read,
        failure: &Failure,
        answer: AnswerContext,
        effects: &mut Effects,
    ) -> Option<CallSid> {
        let Read { sid: call_sid, stage, .. } = read;
        let now = self.progress.now(answer.context.now);
        let reason = read_failure(failure.verdict);
        if self.progress.read_failed(read, reason, now, answer.context.random) {
            effects.metric_updates.push(MetricUpdate::Read {
                stage,
                result: ReadResult::Failed,
                count: 1,
            });
            effects.lines.push(LogLine::GaveUp { call_sid, stage, error: failure.text.clone() });
            return Some(call_sid);
        }
        if self.progress.calls.get(&call_sid).is_some_and(|call| call.is_unreadable()) {
            effects.lines.push(LogLine::CallUnreadable { call_sid, cause: cause(failure) });
        }
        None
    }

    /// Logs that a call can be read again, before its progress drops its failures.
    fn note_readable(&self, call_sid: CallSid, now: Timestamp, effects: &mut Effects) {
        let call = self.progress.calls.get(&call_sid);
        let Some(call) = call.filter(|call| call.is_unreadable()) else { return };
        let now = self.progress.now(now);
        let lasted = call.failing.since().map(|since| now.duration_since(since).unsigned_abs());
        effects.lines.push(LogLine::CallReadable { call_sid, lasted });
    }
}

/// Records a complete read that found `new` events.
fn record_read(read: Read, reading: &Reading, new: u64, effects: &mut Effects) {
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

/// Classifies a failed read of a call.
fn read_failure(verdict: Verdict) -> ReadFailure {
    match verdict {
        Verdict::Refused => ReadFailure::Refused,
        Verdict::NotFound => ReadFailure::NotFound,
        Verdict::Unreadable => ReadFailure::Unreadable,
        Verdict::Throttled { .. } | Verdict::Failed { .. } => ReadFailure::Failed,
    }
}
