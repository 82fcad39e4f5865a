//! Applies pages of the error log, and entries that Twilio pushes.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::judge::reported::Reported;
use crate::domain::track::twilio_time::{before, seconds_between};

use super::super::effects::{CountedEntries, Effects, Fact, LogLine, MetricUpdate};
use super::super::error_log::LogPage;
use super::super::failure::{Failure, Verdict};
use super::super::request::Page;
use super::{AnswerContext, Engine, trouble_with};

/// The age from which an entry is history when it is counted: it must not page anyone.
const HISTORY_AGE: Duration = Duration::from_secs(15 * 60);

impl Engine {
    /// Applies error log entries that Twilio pushed; `rejected` more could not be read. Returns `None` before
    /// the account has started: the entries have to be pushed again.
    pub fn on_push(
        &mut self,
        entries: Vec<Reported>,
        rejected: u64,
        now: Timestamp,
    ) -> Option<Effects> {
        let mut effects = Effects::default();
        let twilio_now = self.progress.now(now);
        let pushed = LogPage { rejected, ..self.error_log.push(entries, twilio_now)? };
        self.count_entries(pushed, twilio_now, &mut effects);
        Some(self.finish(effects, [], now))
    }

    pub(super) fn error_log_answered(
        &mut self,
        result: Result<Page<Reported>, Failure>,
        answer: AnswerContext,
        effects: &mut Effects,
    ) {
        let (local, random) = (answer.context.now, answer.context.random);
        let now = self.progress.now(local);
        let was_read = result.is_ok();
        let (page, failure) = self.error_log.on_page(result, local, now, random);
        let is_complete = page.is_complete;
        if was_read {
            self.count_entries(page, now, effects);
        }
        match failure {
            Some(failure) => {
                if was_read {
                    effects.metric_updates.push(MetricUpdate::Retried(failure.reason.as_str()));
                }
                let is_for_account = failure.verdict == Verdict::Refused;
                let failed = trouble_with(&failure, (), 0, answer.requested_at, is_for_account);
                self.troubles.error_log.failed(failed, local, effects);
            }
            None if is_complete => self.troubles.error_log.succeeded(&(), 0, local, effects),
            None => {}
        }
    }

    /// Starts accepting pushed entries once Twilio's time is known.
    pub(in crate::domain::engine) fn start_push(
        &mut self,
        twilio_now: Timestamp,
        effects: &mut Effects,
    ) {
        if self.progress.lists.is_started() && self.error_log.start_push(twilio_now) {
            effects.metric_updates.push(MetricUpdate::ErrorLog(CountedEntries::default()));
        }
    }

    fn count_entries(&mut self, page: LogPage, now: Timestamp, effects: &mut Effects) {
        let counts = CountedEntries {
            counted: u64::try_from(page.new.len()).unwrap_or(u64::MAX),
            duplicates: page.duplicates,
            rejected: page.rejected,
            ignored: page.ignored,
            lags: page.new.iter().map(|(_, at)| seconds_between(*at, now)).collect(),
            read_at: page.is_complete.then_some(now),
        };
        effects.metric_updates.push(MetricUpdate::ErrorLog(counts));
        for (reported, at) in page.new {
            if let Some(call_sid) = reported.call_sid {
                self.progress.report(call_sid, now);
            }
            effects.lines.push(LogLine::Reported { reported: Box::new(reported.clone()), at: now });
            let is_history = at < before(now, HISTORY_AGE);
            effects.batch.facts.push(Fact::Reported { reported, at, is_history });
        }
    }
}
