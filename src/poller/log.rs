//! Writes an account's log lines, and limits their rate.

mod failures;
mod unreadable;

use jiff::Timestamp;

use crate::domain::engine::effects::LogLine;
use crate::domain::engine::trouble::Cause;
use crate::domain::judge::observe::Observation;
use crate::domain::judge::reported::Reported;
use crate::domain::judge::route::{Endpoint, pattern_for};
use crate::domain::judge::twiml::Malformation;
use crate::domain::judge::verdict::Reason;
use crate::domain::words::sid::CallSid;
use crate::metrics::ledger::{AccountId, Committed, Exceeded, Overflow};

use failures::FailureLog;
use unreadable::UnreadableCalls;

/// The log of one account, with the state that limits its rate.
#[derive(Debug, Default)]
pub(super) struct Log {
    account: String,
    failures: FailureLog,
    reports: FailureLog,
    unreadable: UnreadableCalls,
    has_overflowed: bool,
}

impl Log {
    /// Creates the log of the account with a label.
    pub(super) fn new(account: &str) -> Self {
        Self { account: account.to_owned(), ..Self::default() }
    }

    /// Writes a line, unless it is suppressed. `tracked_calls` is the limit of tracked calls.
    pub(super) fn write(&mut self, line: LogLine, tracked_calls: usize, now: Timestamp) {
        let account = self.account.as_str();
        match line {
            LogLine::WebhookFailed { call_sid, failed, at } => {
                self.webhook_failed(call_sid, &failed, at);
            }
            LogLine::Reported { reported, at } => self.reported(&reported, at),
            LogLine::CannotRead { resource, cause: Cause { reason, text } } => {
                let resource = resource.as_str();
                tracing::warn!(account, resource, reason, error = text, "cannot read from Twilio");
            }
            LogLine::CanRead { resource, lasted } => {
                let (resource, lasted_seconds) = (resource.as_str(), lasted.as_secs());
                tracing::info!(account, resource, lasted_seconds, "can read from Twilio again");
            }
            LogLine::CallUnreadable { call_sid, cause: Cause { reason, text } } => {
                if self.unreadable.failed(call_sid, now) {
                    tracing::warn!(
                        account,
                        %call_sid,
                        reason,
                        error = text,
                        "cannot read a call's events, although those of other calls can be read: retrying"
                    );
                }
            }
            LogLine::CallReadable { call_sid, lasted } => {
                if self.unreadable.ended(call_sid) {
                    let lasted_seconds = lasted.map(|lasted| lasted.as_secs());
                    tracing::info!(account, %call_sid, lasted_seconds, "can read a call's events again");
                }
            }
            LogLine::GaveUp { call_sid, stage, error } => {
                self.unreadable.ended(call_sid);
                let stage = stage.as_str();
                tracing::warn!(account, %call_sid, stage, error, "gave up reading a call's events");
            }
            LogLine::Skipped(skipped) => tracing::warn!(
                account,
                skipped_seconds = skipped.as_secs(),
                "the downtime exceeded poll.catch_up: older calls are not read"
            ),
            LogLine::NoRoom => tracing::warn!(
                account,
                limit = tracked_calls,
                "reached limits.tracked_calls: new calls wait in Twilio's list until others have settled"
            ),
            LogLine::HasRoom => tracing::info!(account, "tracking new calls again"),
            LogLine::ListRead(kind) => tracing::debug!(account, list = kind.as_str(), "list read"),
            LogLine::ListFailed { kind, error } => {
                tracing::debug!(account, list = kind.as_str(), error, "list failed");
            }
        }
    }

    fn webhook_failed(&mut self, call_sid: CallSid, failed: &Observation, at: Timestamp) {
        let Some(suppressed) = self.failures.admit(&failed.endpoint, at) else { return };
        tracing::info!(
            account = self.account,
            host = failed.endpoint.host,
            route = failed.endpoint.route,
            kind = failed.kind.as_str(),
            code = %failed.verdict.code,
            reason = failed.verdict.failure.map_or("", Reason::as_str),
            detail = failed.verdict.malformation.map(Malformation::as_str),
            duration_ms = failed.duration_ms,
            %call_sid,
            suppressed,
            "webhook failed"
        );
    }

    fn reported(&mut self, reported: &Reported, at: Timestamp) {
        let nowhere = Endpoint { host: String::new(), route: String::new() };
        let endpoint = reported.endpoint.as_ref().unwrap_or(&nowhere);
        let Some(suppressed) = self.reports.admit(endpoint, at) else { return };
        tracing::info!(
            account = self.account,
            product = reported.product.as_str(),
            host = endpoint.host,
            route = endpoint.route,
            error_code = %reported.code,
            log_level = reported.level.as_str(),
            generated_at = reported.generated_at.map(tracing::field::display),
            call_sid = reported.call_sid.map(tracing::field::display),
            suppressed,
            "reported by Twilio's error log"
        );
    }

    /// Warns about the first route that exceeds a limit, once since the program started.
    pub(super) fn overflowed(&mut self, overflow: &Overflow, id: AccountId, committed: &Committed) {
        if std::mem::replace(&mut self.has_overflowed, true) {
            return;
        }
        let account = self.account.as_str();
        let Endpoint { host, route } = &overflow.endpoint;
        let pattern = {
            let ledger = committed.read();
            let known = ledger.endpoints_of(id).chain([&overflow.endpoint]);
            pattern_for(known).map(tracing::field::display)
        };
        match overflow.exceeded {
            Exceeded::Endpoints => tracing::warn!(
                account,
                host,
                route,
                pattern,
                "no room for this route: it and further new routes are counted as `other`; add a pattern under `routes:` or raise `limits.routes_per_account`"
            ),
            Exceeded::Series => tracing::warn!(
                account,
                host,
                route,
                pattern,
                "no room for this route: it and further new routes are counted as `other`; add a pattern under `routes:` or raise `limits.series`"
            ),
            Exceeded::CodeSeries => tracing::warn!(
                account,
                host,
                route,
                "no room for another code of this route: it and further new codes are counted as `other`; raise `limits.series`"
            ),
        }
    }
}
