//! What keeps an account from being read, told in the log and on the landing page.
//!
//! When it is told is decided in `domain::engine::trouble`.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::engine::lists::{ListRun, Stop};
use crate::domain::engine::trouble::{Cause, Failure, News, Trouble, Weight};
use crate::domain::track::listing::ListKind;
use crate::domain::words::sid::CallSid;
use crate::metrics::health::AccountHealth;
use crate::twilio::{Error, Resource};

use super::attempt::Attempts;
use super::decide::{Decision, decide};
use super::{Account, Poller};

/// The trouble with what an account's poll loop reads.
#[derive(Debug)]
pub(super) struct Troubles {
    lists: Trouble<ListKind>,
    calls: Trouble<CallSid>,
    events: Trouble<CallSid>,
}

impl Default for Troubles {
    fn default() -> Self {
        let (lists, calls) = (Trouble::of_lists(), Trouble::of_calls());
        Self { lists, events: calls.clone(), calls }
    }
}

/// An error as the cause of trouble with what was asked for.
pub(super) fn cause(error: &Error, asked_for: Resource) -> Cause {
    Cause { reason: error.reason().as_str(), text: error.explained(asked_for) }
}

/// Whether an error is trouble by itself.
pub(super) fn weight(error: &Error, is_accounts: bool) -> Weight {
    match decide(error) {
        Decision::Throttled { .. } => Weight::Normal,
        Decision::Refused if is_accounts => Weight::Certain,
        Decision::Refused | Decision::Failed { .. } | Decision::SkipCall | Decision::StopList => {
            Weight::Ordinary
        }
    }
}

/// Tells what there is to tell about one resource of an account.
pub(super) fn tell<S: Ord>(
    account: &Account,
    health: &AccountHealth,
    resource: Resource,
    trouble: &Trouble<S>,
    news: Option<News>,
) {
    let (account, resource) = (&account.label, resource.as_str());
    match news {
        None => {}
        Some(News::CannotRead(Cause { reason, text })) => {
            tracing::warn!(account, resource, reason, error = text, "cannot read from Twilio");
        }
        Some(News::CanRead(lasted)) => {
            let lasted_seconds = lasted.as_secs();
            tracing::info!(account, resource, lasted_seconds, "can read from Twilio again");
        }
    }
    let told = trouble.told().map(|(cause, since)| (cause.text.clone(), since));
    health.trouble(resource, told);
}

impl Poller {
    /// Notes that a list could not be read on.
    pub(super) fn list_troubled(
        &mut self,
        run: &ListRun,
        error: &Error,
        attempts: &Attempts,
        is_accounts: bool,
    ) {
        let failure = Failure {
            of: run.kind,
            page: run.pages(),
            asked_at: self.asked_at(attempts),
            weight: weight(error, is_accounts),
            cause: cause(error, Resource::Calls),
        };
        let news = self.troubles.lists.failed(failure, self.shared.clock.now());
        self.tell_of_lists(news);
    }

    /// Notes that a list ended before its end. Only one that is complete mends it.
    pub(super) fn list_stopped(&mut self, kind: ListKind, stop: Stop) {
        let reason = stop.as_str();
        let text = format!(
            "Twilio's list stopped before its end ({reason}): it is read again from where it is known"
        );
        self.lists_unusable(kind, u32::MAX, Cause { reason, text });
    }

    /// Notes that the dates of Twilio's answers can't be believed.
    pub(super) fn time_doubted(&mut self, kind: ListKind) {
        let text = "nothing is read yet: the `Date` headers of Twilio's answers disagree with each other, or with this machine's clock";
        self.lists_unusable(kind, 0, Cause { reason: "date", text: text.to_owned() });
    }

    fn lists_unusable(&mut self, of: ListKind, page: u32, cause: Cause) {
        let now = self.shared.clock.now();
        let failure = Failure { of, page, asked_at: now, weight: Weight::Certain, cause };
        let news = self.troubles.lists.failed(failure, now);
        self.tell_of_lists(news);
    }

    /// Notes a page of a list that was read; of a list that is complete, the last there can be.
    pub(super) fn list_read(&mut self, kind: ListKind, page: u32) {
        let news = self.troubles.lists.read(&kind, page, self.shared.clock.now());
        self.tell_of_lists(news);
    }

    /// Notes that a single call could not be fetched.
    pub(super) fn call_troubled(&mut self, sid: CallSid, error: &Error, attempts: &Attempts) {
        let failure = Failure {
            of: sid,
            page: 0,
            asked_at: self.asked_at(attempts),
            weight: weight(error, false),
            cause: cause(error, Resource::Call),
        };
        let news = self.troubles.calls.failed(failure, self.shared.clock.now());
        self.tell_of_calls(news);
    }

    /// Notes that a single call could be fetched.
    pub(super) fn call_fetched(&mut self, sid: CallSid) {
        let news = self.troubles.calls.read(&sid, 0, self.shared.clock.now());
        self.tell_of_calls(news);
    }

    /// Notes that a call's events could not be read.
    pub(super) fn events_troubled(
        &mut self,
        sid: CallSid,
        error: &Error,
        attempts: &Attempts,
        is_accounts: bool,
    ) {
        let failure = Failure {
            of: sid,
            page: 0,
            asked_at: self.asked_at(attempts),
            weight: weight(error, is_accounts),
            cause: cause(error, Resource::CallEvents),
        };
        let news = self.troubles.events.failed(failure, self.shared.clock.now());
        self.tell_of_events(news);
    }

    /// Notes that a call's events could be read.
    pub(super) fn events_read(&mut self, sid: CallSid) {
        let news = self.troubles.events.read(&sid, 0, self.shared.clock.now());
        self.tell_of_events(news);
    }

    /// Tells trouble that has lasted.
    pub(super) fn look_at_troubles(&mut self) {
        let now = self.shared.clock.now();
        let news = self.troubles.lists.look(now);
        self.tell_of_lists(news);
        let news = self.troubles.calls.look(now);
        self.tell_of_calls(news);
        let news = self.troubles.events.look(now);
        self.tell_of_events(news);
    }

    fn tell_of_lists(&self, news: Option<News>) {
        tell(&self.account, &self.health, Resource::Calls, &self.troubles.lists, news);
    }

    fn tell_of_calls(&self, news: Option<News>) {
        tell(&self.account, &self.health, Resource::Call, &self.troubles.calls, news);
    }

    fn tell_of_events(&self, news: Option<News>) {
        tell(&self.account, &self.health, Resource::CallEvents, &self.troubles.events, news);
    }

    /// When the last request was made, in local time.
    fn asked_at(&self, attempts: &Attempts) -> Timestamp {
        let took = attempts.0.last().map_or(Duration::ZERO, |last| last.took);
        let now = self.shared.clock.now();
        now.checked_sub(took).unwrap_or(now)
    }
}
