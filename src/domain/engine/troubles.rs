//! Reports the trouble with each resource of an account in the log and on the landing page.
//!
//! [`super::trouble`] decides when.

use jiff::Timestamp;

use crate::domain::track::listing::ListKind;
use crate::domain::words::sid::CallSid;

use super::effects::{Effects, LogLine, MetricUpdate};
use super::failure::{Failure, Verdict};
use super::request::Resource;
use super::trouble::{self, Cause, Severity, Trouble, TroubleChange};

/// The trouble with the resources of an account.
#[derive(Debug)]
pub(super) struct Troubles {
    pub(super) lists: ResourceTrouble<ListKind>,
    pub(super) calls: ResourceTrouble<CallSid>,
    pub(super) events: ResourceTrouble<CallSid>,
    pub(super) accounts: ResourceTrouble<()>,
    pub(super) error_log: ResourceTrouble<()>,
}

/// The trouble with one resource, and its last report.
#[derive(Debug)]
pub(super) struct ResourceTrouble<S> {
    resource: Resource,
    trouble: Trouble<S>,
    reported: Option<(String, Timestamp)>,
}

impl Default for Troubles {
    fn default() -> Self {
        Self {
            lists: ResourceTrouble::new(Resource::Calls, Trouble::for_lists()),
            calls: ResourceTrouble::new(Resource::Call, Trouble::for_calls()),
            events: ResourceTrouble::new(Resource::CallEvents, Trouble::for_calls()),
            accounts: ResourceTrouble::new(Resource::Accounts, Trouble::for_lists()),
            error_log: ResourceTrouble::new(Resource::ErrorLog, Trouble::for_lists()),
        }
    }
}

impl Troubles {
    /// Reports failures that have lasted long enough to be trouble.
    pub(super) fn check(&mut self, now: Timestamp, effects: &mut Effects) {
        self.lists.check(now, effects);
        self.calls.check(now, effects);
        self.events.check(now, effects);
        self.accounts.check(now, effects);
        self.error_log.check(now, effects);
    }
}

impl<S: Ord> ResourceTrouble<S> {
    fn new(resource: Resource, trouble: Trouble<S>) -> Self {
        Self { resource, trouble, reported: None }
    }

    /// Notes a failure.
    pub(super) fn failed(
        &mut self,
        failure: trouble::FailedRequest<S>,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let change = self.trouble.failed(failure, now);
        self.report(change, effects);
    }

    /// Notes that a page was read; `u32::MAX` if the list was read to its end.
    pub(super) fn succeeded(
        &mut self,
        subject: &S,
        page: u32,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let change = self.trouble.succeeded(subject, page, now);
        self.report(change, effects);
    }

    fn check(&mut self, now: Timestamp, effects: &mut Effects) {
        let change = self.trouble.check(now);
        self.report(change, effects);
    }

    fn report(&mut self, change: Option<TroubleChange>, effects: &mut Effects) {
        let resource = self.resource;
        match change {
            None => {}
            Some(TroubleChange::CannotRead(cause)) => {
                effects.lines.push(LogLine::CannotRead { resource, cause })
            }
            Some(TroubleChange::CanRead(lasted)) => {
                effects.lines.push(LogLine::CanRead { resource, lasted })
            }
        }
        let problem = self.trouble.current().map(|(cause, since)| (cause.text.clone(), since));
        if problem != self.reported {
            self.reported.clone_from(&problem);
            effects.metric_updates.push(MetricUpdate::Trouble { resource, problem });
        }
    }
}

/// Converts a failure to the cause of trouble.
pub(super) fn cause(failure: &Failure) -> Cause {
    Cause { reason: failure.reason.as_str(), text: failure.text.clone() }
}

/// Returns the severity of a failure. `is_for_account` means that the account is refused as a whole.
pub(super) fn severity(failure: &Failure, is_for_account: bool) -> Severity {
    match failure.verdict {
        Verdict::Throttled { .. } => Severity::Normal,
        Verdict::Refused if is_for_account => Severity::Certain,
        Verdict::Refused | Verdict::Failed { .. } | Verdict::NotFound | Verdict::Unreadable => {
            Severity::Ordinary
        }
    }
}
