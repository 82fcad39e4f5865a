//! Applies pages of lists of calls, and calls that were fetched individually.

use jiff::Timestamp;

use crate::domain::track::listing::ListKind;
use crate::domain::words::call::Call;
use crate::domain::words::sid::CallSid;

use super::super::account::CallChanges;
use super::super::effects::{Effects, LogLine, MetricUpdate};
use super::super::failure::{Failure, PageSizeVerdict, Verdict};
use super::super::lists::{AfterPage, ListRun, Stop};
use super::super::page_size::smaller;
use super::super::request::Page;
use super::super::trouble::{self, Cause, Severity};
use super::{AnswerContext, Context, Engine, add_changes, trouble_with};

impl Engine {
    pub(super) fn list_answered(
        &mut self,
        mut run: ListRun,
        result: Result<Page<Call>, Failure>,
        answer: AnswerContext,
        effects: &mut Effects,
    ) -> Vec<CallSid> {
        self.is_listing = false;
        let page = match result {
            Ok(page) => page,
            Err(failure) => {
                effects.metric_updates.push(MetricUpdate::Up(false));
                self.list_failed(run, &failure, answer, effects);
                return Vec::new();
            }
        };
        let was_started = self.progress.lists.is_started();
        self.learn_time(answer, effects);
        self.pace.list_succeeded();
        if !self.progress.lists.is_started() {
            self.await_time(run.kind, answer, effects);
            return Vec::new();
        }
        effects.metric_updates.push(MetricUpdate::Up(true));
        if !was_started {
            run.requested_at = self.progress.now(answer.context.now);
        }
        self.apply_page(run, &page, answer, effects)
    }

    /// Until Twilio's time is known, pages are only used to learn it.
    fn await_time(&mut self, kind: ListKind, answer: AnswerContext, effects: &mut Effects) {
        let now = self.progress.now(answer.context.now);
        self.progress.lists.await_time(now);
        if self.progress.time().is_doubtful() {
            effects.metric_updates.push(MetricUpdate::Up(false));
            let text = "nothing is read yet: the `Date` headers of Twilio's responses disagree with each other or with this machine's clock";
            let cause = Cause { reason: "date", text: text.to_owned() };
            let now = answer.context.now;
            self.troubles.lists.failed(unusable(kind, 0, cause, now), now, effects);
        }
    }

    fn apply_page(
        &mut self,
        mut run: ListRun,
        page: &Page<Call>,
        answer: AnswerContext,
        effects: &mut Effects,
    ) -> Vec<CallSid> {
        let now = self.progress.now(answer.context.now);
        let room = answer.context.room;
        let (changes, after) = self.progress.apply_page(&mut run, page, room, answer.date, now);
        effects.metric_updates.push(MetricUpdate::CallsRejected(page.rejected));
        effects.metric_updates.push(MetricUpdate::CallsDeferred(changes.left));
        if changes.left > 0 && !self.has_no_room {
            self.has_no_room = true;
            effects.lines.push(LogLine::NoRoom);
        }
        let changed = add_changes(changes, effects);
        self.troubles.lists.succeeded(&run.kind, run.pages() - 1, answer.context.now, effects);
        match after {
            AfterPage::Continue => self.list = Some(run),
            AfterPage::Complete => self.list_complete(&run, answer.context, effects),
            AfterPage::Stopped(stop) => self.list_stopped(&run, stop, answer.context, effects),
        }
        changed
    }

    fn list_complete(&mut self, run: &ListRun, context: Context, effects: &mut Effects) {
        let Context { now, random, .. } = context;
        let at = self.progress.now(now);
        self.progress.finish_list(run, AfterPage::Complete, at, random);
        self.list_sizes.read(&run.kind, run.page_size, now);
        let took = now.duration_since(self.list_began_at).unsigned_abs();
        effects.metric_updates.push(MetricUpdate::ListRead { kind: run.kind, took, at });
        if std::mem::take(&mut self.has_no_room) {
            effects.lines.push(LogLine::HasRoom);
        }
        self.troubles.lists.succeeded(&run.kind, u32::MAX, now, effects);
        effects.lines.push(LogLine::ListRead(run.kind));
    }

    /// Notes that a list stopped before its end. The trouble ends once the list is read to its end.
    fn list_stopped(&mut self, run: &ListRun, stop: Stop, context: Context, effects: &mut Effects) {
        let Context { now, random, .. } = context;
        let at = self.progress.now(now);
        self.progress.finish_list(run, AfterPage::Stopped(stop), at, random);
        match stop {
            Stop::NoRoom => {}
            Stop::Capped | Stop::Empty | Stop::Repeated | Stop::Undecodable | Stop::Foreign => {
                let reason = stop.as_str();
                effects.metric_updates.push(MetricUpdate::Retried(reason));
                let text = format!(
                    "Twilio's list stopped before its end ({reason}): the next one covers the same period"
                );
                let failed = unusable(run.kind, u32::MAX, Cause { reason, text }, now);
                self.troubles.lists.failed(failed, now, effects);
            }
        }
    }

    fn list_failed(
        &mut self,
        mut run: ListRun,
        failure: &Failure,
        answer: AnswerContext,
        effects: &mut Effects,
    ) {
        let Context { now, random, .. } = answer.context;
        effects.lines.push(LogLine::ListFailed { kind: run.kind, error: failure.text.clone() });
        let mut is_for_account = false;
        let is_transient = match failure.verdict {
            Verdict::Throttled { .. } => true,
            Verdict::Failed { retry_after } => {
                self.pace.failed(None, retry_after, now, random);
                true
            }
            Verdict::Refused => {
                let is_only_list = !self.progress.lists.is_started();
                is_for_account = self.pace.list_refused(run.kind, is_only_list, now, random);
                false
            }
            Verdict::NotFound | Verdict::Unreadable => {
                self.pace.failed(None, None, now, random);
                false
            }
        };
        let failed =
            trouble_with(failure, run.kind, run.pages(), answer.requested_at, is_for_account);
        self.troubles.lists.failed(failed, now, effects);
        let (size, reason) = (run.page_size, failure.reason.as_str());
        match (failure.page_size, smaller(size)) {
            (PageSizeVerdict::Unrelated, _) => {}
            (PageSizeVerdict::TooLarge, Some(smaller)) => {
                self.list_sizes.too_large(run.kind, size, smaller, now);
            }
            (PageSizeVerdict::TooLarge | PageSizeVerdict::PossiblySize, _) => {
                self.list_sizes.failed(run.kind, size, reason, now);
            }
        }
        // All pages of a list have the size of the first.
        let is_oversized = run.page_size > self.list_sizes.size_for(&run.kind);
        if is_transient && !is_oversized && run.note_page_failure() {
            self.list = Some(run);
        } else {
            self.progress.lists.fail(&run, self.progress.now(now), random);
        }
    }

    pub(super) fn call_answered(
        &mut self,
        sid: CallSid,
        result: Result<Call, Failure>,
        answer: AnswerContext,
        effects: &mut Effects,
    ) -> Vec<CallSid> {
        let now = answer.context.now;
        let twilio_now = self.progress.now(now);
        let changes = match result {
            Ok(call) => {
                self.learn_time(answer, effects);
                self.pace.succeeded();
                self.troubles.calls.succeeded(&sid, 0, now, effects);
                self.progress.apply_fetched(sid, Some(&call), twilio_now)
            }
            Err(Failure { verdict: Verdict::NotFound, .. }) => {
                self.progress.apply_fetched(sid, None, twilio_now)
            }
            Err(failure) => {
                if let Verdict::Failed { retry_after } = failure.verdict {
                    self.pace.failed(Some(sid), retry_after, now, answer.context.random);
                }
                let failed = trouble_with(&failure, sid, 0, answer.requested_at, false);
                self.troubles.calls.failed(failed, now, effects);
                self.progress.fetch_failed(sid, twilio_now);
                CallChanges::default()
            }
        };
        add_changes(changes, effects)
    }
}

/// Trouble with a list whose pages could be read but are unusable.
fn unusable(
    kind: ListKind,
    page: u32,
    cause: Cause,
    now: Timestamp,
) -> trouble::FailedRequest<ListKind> {
    trouble::FailedRequest {
        subject: kind,
        page,
        requested_at: now,
        severity: Severity::Certain,
        cause,
    }
}
