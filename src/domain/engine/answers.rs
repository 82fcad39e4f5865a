//! What answers change: progress, facts, pace, and what is told of it.

mod calls;
mod error_log;
mod events;

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::words::account::ListedAccount;
use crate::domain::words::sid::CallSid;

use super::account::CallChanges;
use super::discovery::AfterAccounts;
use super::effects::{Effects, Fact, Line, MetricUpdate};
use super::failure::{Failure, Verdict};
use super::request::{Answer, AnswerContent, Page, RequestId};
use super::trouble;
use super::troubles::{cause, weight};
use super::{Context, Engine, Run, Sent};

/// An answer, apart from what it shows.
#[derive(Clone, Copy, Debug)]
struct AnswerContext {
    moment: Context,
    asked_at: Timestamp,
    answered_at: Option<Timestamp>,
    date: Option<Timestamp>,
    took: Duration,
}

impl Engine {
    /// Takes the answer to a request, and says what it changes. An answer to a request that was abandoned
    /// changes nothing.
    pub fn on_answer(&mut self, id: RequestId, answer: Answer, moment: Context) -> Effects {
        let mut effects = Effects::default();
        let Some(Sent { asked_at, run }) = self.in_flight.remove(&id) else { return effects };
        let Answer { answered_at, date, took, result } = answer;
        let heard = AnswerContext { moment, asked_at, answered_at, date, took };
        match &result {
            Ok(_) => self.pace.answered(id),
            Err(Failure { verdict: Verdict::Throttled { retry_after }, .. }) => {
                let Context { now, random, .. } = moment;
                self.pace.throttled(self.last_id, *retry_after, now, random);
            }
            Err(_) => {}
        }
        let is_unknown_call = matches!(run, Run::Call(_))
            && matches!(&result, Err(failure) if failure.verdict == Verdict::NotFound);
        if let Err(failure) = &result
            && !is_unknown_call
        {
            effects.metric_updates.push(MetricUpdate::Retried(failure.reason.as_str()));
        }
        let mut changed = Vec::new();
        match (run, result) {
            (Run::List(run), result) => {
                changed = self.list_answered(
                    *run,
                    only(result, AnswerContent::calls),
                    heard,
                    &mut effects,
                );
            }
            (Run::Events(run), result) => {
                let page = only(result, AnswerContent::call_events);
                changed.extend(self.events_answered(*run, page, heard, &mut effects));
            }
            (Run::Call(sid), result) => {
                changed =
                    self.call_answered(sid, only(result, AnswerContent::call), heard, &mut effects);
            }
            (Run::Accounts, result) => {
                self.accounts_answered(only(result, AnswerContent::accounts), heard, &mut effects);
            }
            (Run::ErrorLog, result) => {
                self.error_log_answered(
                    only(result, AnswerContent::error_log),
                    heard,
                    &mut effects,
                );
            }
        }
        self.finish(effects, changed, moment.now)
    }

    /// Learns Twilio's time from one of its 200s, and begins once it is known.
    fn learn_time(&mut self, heard: AnswerContext, effects: &mut Effects) {
        let Some(answered_at) = heard.answered_at else { return };
        let skipped = self.progress.learn_time(heard.date, answered_at);
        if self.progress.time().is_known() {
            effects.metric_updates.push(MetricUpdate::TwilioAhead(self.progress.time().offset()));
        }
        if let Some(skipped) = skipped.filter(|skipped| !skipped.is_zero()) {
            effects.metric_updates.push(MetricUpdate::Skipped(skipped));
            effects.lines.push(Line::Skipped(skipped));
        }
    }

    fn accounts_answered(
        &mut self,
        result: Result<Page<ListedAccount>, Failure>,
        heard: AnswerContext,
        effects: &mut Effects,
    ) {
        let Context { now, random, .. } = heard.moment;
        let Some(discovery) = &mut self.discovery else { return };
        let failure = match discovery.turn(result, now, random) {
            AfterAccounts::Continue => return,
            AfterAccounts::Found(found, failure) => {
                effects.accounts = Some(found);
                if let Some(failure) = &failure {
                    effects.metric_updates.push(MetricUpdate::Retried(failure.reason.as_str()));
                }
                failure
            }
            AfterAccounts::Failed(failure) => Some(failure),
        };
        match failure {
            None => self.troubles.accounts.read(&(), 0, now, effects),
            Some(failure) => {
                let failed = failed_at(&failure, (), 0, heard.asked_at, true);
                self.troubles.accounts.failed(failed, now, effects);
            }
        }
    }
}

/// What an answer shows, as what was asked for.
fn only<T>(
    result: Result<AnswerContent, Failure>,
    wanted: impl FnOnce(AnswerContent) -> Option<T>,
) -> Result<T, Failure> {
    let other = || {
        Failure::of_pages(
            super::failure::FailureReason::Malformed,
            "the answer shows another resource than was asked for",
        )
    };
    result.and_then(|shown| wanted(shown).ok_or_else(other))
}

/// A failure as trouble with one list or call.
fn failed_at<S>(
    failure: &Failure,
    of: S,
    page: u32,
    asked_at: Timestamp,
    is_accounts: bool,
) -> trouble::Failure<S> {
    let (weight, cause) = (weight(failure, is_accounts), cause(failure));
    trouble::Failure { of, page, asked_at, weight, cause }
}

/// Adds what a list, a single fetch or housekeeping changed, and tells which calls did.
pub(super) fn add_changes(changes: CallChanges, effects: &mut Effects) -> Vec<CallSid> {
    let finished = changes.finished.into_iter();
    effects
        .batch
        .facts
        .extend(finished.map(|(direction, status)| Fact::Finished(direction, status)));
    effects.batch.forgotten.extend(changes.forgotten);
    changes.changed
}
