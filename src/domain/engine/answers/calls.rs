//! What pages of lists of calls, and calls that were fetched singly, change.

use jiff::Timestamp;

use crate::domain::track::listing::ListKind;
use crate::domain::words::call::Call;
use crate::domain::words::sid::CallSid;

use super::super::account::CallChanges;
use super::super::effects::{Effects, Line, MetricUpdate};
use super::super::failure::{Failure, PageSizeVerdict, Verdict};
use super::super::lists::{AfterPage, ListRun, Stop};
use super::super::page_size::smaller;
use super::super::request::Page;
use super::super::trouble::{self, Cause, Severity};
use super::{AnswerContext, Context, Engine, add_changes, failed_at};

impl Engine {
    pub(super) fn list_answered(
        &mut self,
        mut run: ListRun,
        result: Result<Page<Call>, Failure>,
        heard: AnswerContext,
        effects: &mut Effects,
    ) -> Vec<CallSid> {
        self.is_listing = false;
        let page = match result {
            Ok(page) => page,
            Err(failure) => {
                effects.metric_updates.push(MetricUpdate::Up(false));
                self.list_failed(run, &failure, heard, effects);
                return Vec::new();
            }
        };
        let was_started = self.progress.lists.is_started();
        self.learn_time(heard, effects);
        self.pace.list_succeeded();
        if !self.progress.lists.is_started() {
            self.await_time(run.kind, heard, effects);
            return Vec::new();
        }
        effects.metric_updates.push(MetricUpdate::Up(true));
        if !was_started {
            run.asked_at = self.progress.now(heard.moment.now);
        }
        self.take_page(run, &page, heard, effects)
    }

    /// Before Twilio's time is known, its pages say nothing else.
    fn await_time(&mut self, kind: ListKind, heard: AnswerContext, effects: &mut Effects) {
        let now = self.progress.now(heard.moment.now);
        self.progress.lists.await_time(now);
        if self.progress.time().is_doubtful() {
            effects.metric_updates.push(MetricUpdate::Up(false));
            let text = "nothing is read yet: the `Date` headers of Twilio's answers disagree with each other, or with this machine's clock";
            let cause = Cause { reason: "date", text: text.to_owned() };
            let now = heard.moment.now;
            self.troubles.lists.failed(unusable(kind, 0, cause, now), now, effects);
        }
    }

    fn take_page(
        &mut self,
        mut run: ListRun,
        page: &Page<Call>,
        heard: AnswerContext,
        effects: &mut Effects,
    ) -> Vec<CallSid> {
        let now = self.progress.now(heard.moment.now);
        let room = heard.moment.room;
        let (changes, after) = self.progress.take_page(&mut run, page, room, heard.date, now);
        effects.metric_updates.push(MetricUpdate::CallsRejected(page.rejected));
        effects.metric_updates.push(MetricUpdate::CallsDeferred(changes.left));
        if changes.left > 0 && !self.has_no_room {
            self.has_no_room = true;
            effects.lines.push(Line::NoRoom);
        }
        let changed = add_changes(changes, effects);
        self.troubles.lists.read(&run.kind, run.pages() - 1, heard.moment.now, effects);
        match after {
            AfterPage::Continue => self.list = Some(run),
            AfterPage::Complete => self.list_complete(&run, heard.moment, effects),
            AfterPage::Stopped(stop) => self.list_stopped(&run, stop, heard.moment, effects),
        }
        changed
    }

    fn list_complete(&mut self, run: &ListRun, moment: Context, effects: &mut Effects) {
        let Context { now, random, .. } = moment;
        let at = self.progress.now(now);
        self.progress.finish_list(run, AfterPage::Complete, at, random);
        self.list_sizes.read(&run.kind, run.page_size, now);
        let took = now.duration_since(self.list_began_at).unsigned_abs();
        effects.metric_updates.push(MetricUpdate::ListRead { kind: run.kind, took, at });
        if std::mem::take(&mut self.has_no_room) {
            effects.lines.push(Line::HasRoom);
        }
        self.troubles.lists.read(&run.kind, u32::MAX, now, effects);
        effects.lines.push(Line::ListRead(run.kind));
    }

    /// Notes that a list ended before its end. Only one that is complete mends it.
    fn list_stopped(&mut self, run: &ListRun, stop: Stop, moment: Context, effects: &mut Effects) {
        let Context { now, random, .. } = moment;
        let at = self.progress.now(now);
        self.progress.finish_list(run, AfterPage::Stopped(stop), at, random);
        match stop {
            Stop::NoRoom => {}
            Stop::Capped | Stop::Empty | Stop::Repeated | Stop::Undecodable | Stop::Foreign => {
                let reason = stop.as_str();
                effects.metric_updates.push(MetricUpdate::Retried(reason));
                let text = format!(
                    "Twilio's list stopped before its end ({reason}): it is read again from where it is known"
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
        heard: AnswerContext,
        effects: &mut Effects,
    ) {
        let Context { now, random, .. } = heard.moment;
        effects.lines.push(Line::ListFailed { kind: run.kind, error: failure.text.clone() });
        let mut is_accounts = false;
        let is_passing = match failure.verdict {
            Verdict::Throttled { .. } => true,
            Verdict::Failed { retry_after } => {
                self.pace.failed(None, retry_after, now, random);
                true
            }
            Verdict::Refused => {
                let is_only_list = !self.progress.lists.is_started();
                is_accounts = self.pace.list_refused(run.kind, is_only_list, now, random);
                false
            }
            Verdict::NotFound | Verdict::Unreadable => {
                self.pace.failed(None, None, now, random);
                false
            }
        };
        let failed = failed_at(failure, run.kind, run.pages(), heard.asked_at, is_accounts);
        self.troubles.lists.failed(failed, now, effects);
        let (size, reason) = (run.page_size, failure.reason.as_str());
        match (failure.page_size, smaller(size)) {
            (PageSizeVerdict::Unrelated, _) => {}
            (PageSizeVerdict::TooLarge, Some(smaller)) => {
                self.list_sizes.too_large(run.kind, size, smaller, now);
            }
            (PageSizeVerdict::TooLarge | PageSizeVerdict::MayBeForSize, _) => {
                self.list_sizes.failed(run.kind, size, reason, now);
            }
        }
        // A next page has the size of the first.
        let is_too_big = run.page_size > self.list_sizes.size_for(&run.kind);
        if is_passing && !is_too_big && run.note_page_failure() {
            self.list = Some(run);
        } else {
            self.progress.lists.fail(&run, self.progress.now(now), random);
        }
    }

    pub(super) fn call_answered(
        &mut self,
        sid: CallSid,
        result: Result<Call, Failure>,
        heard: AnswerContext,
        effects: &mut Effects,
    ) -> Vec<CallSid> {
        let now = heard.moment.now;
        let twilio_now = self.progress.now(now);
        let changes = match result {
            Ok(call) => {
                self.learn_time(heard, effects);
                self.pace.succeeded();
                self.troubles.calls.read(&sid, 0, now, effects);
                self.progress.take_fetched(sid, Some(&call), twilio_now)
            }
            Err(Failure { verdict: Verdict::NotFound, .. }) => {
                self.progress.take_fetched(sid, None, twilio_now)
            }
            Err(failure) => {
                if let Verdict::Failed { retry_after } = failure.verdict {
                    self.pace.failed(Some(sid), retry_after, now, heard.moment.random);
                }
                let failed = failed_at(&failure, sid, 0, heard.asked_at, false);
                self.troubles.calls.failed(failed, now, effects);
                self.progress.fetch_failed(sid, twilio_now);
                CallChanges::default()
            }
        };
        add_changes(changes, effects)
    }
}

/// Answers that could be read, and are of no use.
fn unusable(of: ListKind, page: u32, cause: Cause, now: Timestamp) -> trouble::Failure<ListKind> {
    trouble::Failure { of, page, asked_at: now, weight: Severity::Certain, cause }
}
