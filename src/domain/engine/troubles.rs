//! The trouble with each resource of an account, as lines of the log and on the landing page.
//!
//! When it is told is decided in [`super::trouble`].

use jiff::Timestamp;

use crate::domain::track::listing::ListKind;
use crate::domain::words::sid::CallSid;

use super::effects::{Effects, Line, MetricUpdate};
use super::failure::{Failure, Verdict};
use super::request::Resource;
use super::trouble::{self, Cause, Severity, Trouble, TroubleChange};

/// What keeps the resources of an account from being read.
#[derive(Debug)]
pub(super) struct Troubles {
    pub(super) lists: Watched<ListKind>,
    pub(super) calls: Watched<CallSid>,
    pub(super) events: Watched<CallSid>,
    pub(super) accounts: Watched<()>,
    pub(super) error_log: Watched<()>,
}

/// The trouble with one resource, and what of it was told.
#[derive(Debug)]
pub(super) struct Watched<S> {
    resource: Resource,
    trouble: Trouble<S>,
    told: Option<(String, Timestamp)>,
}

impl Default for Troubles {
    fn default() -> Self {
        Self {
            lists: Watched::new(Resource::Calls, Trouble::of_lists()),
            calls: Watched::new(Resource::Call, Trouble::of_calls()),
            events: Watched::new(Resource::CallEvents, Trouble::of_calls()),
            accounts: Watched::new(Resource::Accounts, Trouble::of_lists()),
            error_log: Watched::new(Resource::ErrorLog, Trouble::of_lists()),
        }
    }
}

impl Troubles {
    /// Tells trouble that has lasted.
    pub(super) fn look(&mut self, now: Timestamp, effects: &mut Effects) {
        self.lists.look(now, effects);
        self.calls.look(now, effects);
        self.events.look(now, effects);
        self.accounts.look(now, effects);
        self.error_log.look(now, effects);
    }
}

impl<S: Ord> Watched<S> {
    fn new(resource: Resource, trouble: Trouble<S>) -> Self {
        Self { resource, trouble, told: None }
    }

    /// Notes a failure.
    pub(super) fn failed(
        &mut self,
        failure: trouble::Failure<S>,
        now: Timestamp,
        effects: &mut Effects,
    ) {
        let news = self.trouble.failed(failure, now);
        self.tell(news, effects);
    }

    /// Notes a page that was read; of a list that is complete, the last there can be.
    pub(super) fn read(&mut self, of: &S, page: u32, now: Timestamp, effects: &mut Effects) {
        let news = self.trouble.read(of, page, now);
        self.tell(news, effects);
    }

    fn look(&mut self, now: Timestamp, effects: &mut Effects) {
        let news = self.trouble.look(now);
        self.tell(news, effects);
    }

    fn tell(&mut self, news: Option<TroubleChange>, effects: &mut Effects) {
        let resource = self.resource;
        match news {
            None => {}
            Some(TroubleChange::CannotRead(cause)) => {
                effects.lines.push(Line::CannotRead { resource, cause })
            }
            Some(TroubleChange::CanRead(lasted)) => {
                effects.lines.push(Line::CanRead { resource, lasted })
            }
        }
        let told = self.trouble.told().map(|(cause, since)| (cause.text.clone(), since));
        if told != self.told {
            self.told.clone_from(&told);
            effects.metric_updates.push(MetricUpdate::Trouble { resource, told });
        }
    }
}

/// A failure as the cause of trouble.
pub(super) fn cause(failure: &Failure) -> Cause {
    Cause { reason: failure.reason.as_str(), text: failure.text.clone() }
}

/// What a failure says by itself.
pub(super) fn weight(failure: &Failure, is_accounts: bool) -> Severity {
    match failure.verdict {
        Verdict::Throttled { .. } => Severity::Normal,
        Verdict::Refused if is_accounts => Severity::Certain,
        Verdict::Refused | Verdict::Failed { .. } | Verdict::NotFound | Verdict::Unreadable => {
            Severity::Ordinary
        }
    }
}
