//! What pages of the error log change.

use std::time::Duration;

use crate::domain::judge::reported::Reported;
use crate::domain::track::twilio_time::{before, seconds_between};

use super::super::effects::{CountedEntries, Effects, Fact, Line, Measure};
use super::super::failure::{Failure, Verdict};
use super::super::request::Page;
use super::{Engine, Heard, failed_at};

/// An entry that is older than this when it is counted is old news: no one should be paged for it.
const OLD_NEWS: Duration = Duration::from_secs(15 * 60);

impl Engine {
    pub(super) fn error_log_answered(
        &mut self,
        result: Result<Page<Reported>, Failure>,
        heard: Heard,
        effects: &mut Effects,
    ) {
        let Some(error_log) = &mut self.error_log else { return };
        let (local, random) = (heard.moment.now, heard.moment.random);
        let now = self.progress.now(local);
        let was_read = result.is_ok();
        let (page, failure) = error_log.turn(result, local, now, random);
        if was_read {
            let numbers = CountedEntries {
                counted: u64::try_from(page.new.len()).unwrap_or(u64::MAX),
                duplicates: page.duplicates,
                rejected: page.rejected,
                ignored: page.ignored,
                lags: page.new.iter().map(|(_, at)| seconds_between(*at, now)).collect(),
                read_at: page.is_complete.then_some(now),
            };
            effects.measures.push(Measure::ErrorLog(numbers));
        }
        for (reported, at) in page.new {
            if let Some(call_sid) = reported.call_sid {
                self.progress.report(call_sid, now);
            }
            effects.lines.push(Line::Reported { reported: Box::new(reported.clone()), at: now });
            let is_history = at < before(now, OLD_NEWS);
            effects.batch.facts.push(Fact::Reported { reported, at, is_history });
        }
        match failure {
            Some(failure) => {
                if was_read {
                    effects.measures.push(Measure::Retried(failure.reason.as_str()));
                }
                let is_accounts = failure.verdict == Verdict::Refused;
                let failed = failed_at(&failure, (), 0, heard.asked_at, is_accounts);
                self.troubles.error_log.failed(failed, local, effects);
            }
            None if page.is_complete => self.troubles.error_log.read(&(), 0, local, effects),
            None => {}
        }
    }
}
