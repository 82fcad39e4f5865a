//! Applies responses: updates progress, facts and pace, and reports problems.

mod calls;
mod error_log;
mod events;

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::words::account::ListedAccount;
use crate::domain::words::sid::CallSid;

use super::account::CallChanges;
use super::discovery::AfterAccounts;
use super::effects::{Effects, Fact, LogLine, MetricUpdate};
use super::failure::{Failure, Verdict};
use super::request::{Answer, AnswerContent, Page, RequestId};
use super::trouble;
use super::troubles::{cause, severity};
use super::{Context, Engine, Run, Sent};

/// A response without its content.
#[derive(Clone, Copy, Debug)]
struct AnswerContext {
    context: Context,
    requested_at: Timestamp,
    answered_at: Option<Timestamp>,
    date: Option<Timestamp>,
    took: Duration,
}

impl Engine {
    /// Applies the response to a request, and returns its effects. The response to an abandoned request has
    /// none.
    pub fn on_answer(&mut self, id: RequestId, answer: Answer, context: Context) -> Effects {
        let mut effects = Effects::default();
        let Some(Sent { requested_at, run }) = self.in_flight.remove(&id) else { return effects };
        let Answer { answered_at, date, took, result } = answer;
        let answer = AnswerContext { context, requested_at, answered_at, date, took };
        match &result {
            Ok(_) => self.pace.end_probing_after(id),
            Err(Failure { verdict: Verdict::Throttled { retry_after }, .. }) => {
                let Context { now, random, .. } = context;
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
                    expect_content(result, AnswerContent::calls),
                    answer,
                    &mut effects,
                );
            }
            (Run::Events(run), result) => {
                let page = expect_content(result, AnswerContent::call_events);
                changed.extend(self.events_answered(*run, page, answer, &mut effects));
            }
            (Run::Call(sid), result) => {
                changed = self.call_answered(
                    sid,
                    expect_content(result, AnswerContent::call),
                    answer,
                    &mut effects,
                );
            }
            (Run::Accounts, result) => {
                self.accounts_answered(
                    expect_content(result, AnswerContent::accounts),
                    answer,
                    &mut effects,
                );
            }
            (Run::ErrorLog, result) => {
                self.error_log_answered(
                    expect_content(result, AnswerContent::error_log),
                    answer,
                    &mut effects,
                );
            }
        }
        self.finish(effects, changed, context.now)
    }

    /// Learns Twilio's time from a successful response, and starts the lists once it is known.
    fn learn_time(&mut self, answer: AnswerContext, effects: &mut Effects) {
        let Some(answered_at) = answer.answered_at else { return };
        let skipped = self.progress.learn_time(answer.date, answered_at);
        if self.progress.time().is_known() {
            effects.metric_updates.push(MetricUpdate::TwilioAhead(self.progress.time().offset()));
        }
        if let Some(skipped) = skipped.filter(|skipped| !skipped.is_zero()) {
            effects.metric_updates.push(MetricUpdate::Skipped(skipped));
            effects.lines.push(LogLine::Skipped(skipped));
        }
    }

    fn accounts_answered(
        &mut self,
        result: Result<Page<ListedAccount>, Failure>,
        answer: AnswerContext,
        effects: &mut Effects,
    ) {
        let Context { now, random, .. } = answer.context;
        let Some(discovery) = &mut self.discovery else { return };
        let failure = match discovery.on_page(result, now, random) {
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
            None => self.troubles.accounts.succeeded(&(), 0, now, effects),
            Some(failure) => {
                let failed = trouble_with(&failure, (), 0, answer.requested_at, true);
                self.troubles.accounts.failed(failed, now, effects);
            }
        }
    }
}

/// Extracts the requested content from a response.
fn expect_content<T>(
    result: Result<AnswerContent, Failure>,
    extract: impl FnOnce(AnswerContent) -> Option<T>,
) -> Result<T, Failure> {
    let other = || {
        Failure::invalid_pages(
            super::failure::FailureReason::Malformed,
            "the response contains a different resource than requested",
        )
    };
    result.and_then(|content| extract(content).ok_or_else(other))
}

/// Converts a failure to trouble with one list or call.
fn trouble_with<S>(
    failure: &Failure,
    subject: S,
    page: u32,
    requested_at: Timestamp,
    is_for_account: bool,
) -> trouble::FailedRequest<S> {
    let (severity, cause) = (severity(failure, is_for_account), cause(failure));
    trouble::FailedRequest { subject, page, requested_at, severity, cause }
}

/// Adds the changes by a list, a single fetch or housekeeping, and returns the changed calls.
pub(super) fn add_changes(changes: CallChanges, effects: &mut Effects) -> Vec<CallSid> {
    let finished = changes.finished.into_iter();
    effects
        .batch
        .facts
        .extend(finished.map(|(direction, status)| Fact::Finished(direction, status)));
    effects.batch.forgotten.extend(changes.forgotten);
    changes.changed
}
