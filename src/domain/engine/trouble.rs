//! When something that can't be read is worth a line in the log: once when the trouble begins, once
//! when its cause changes, and once when it is over.
//!
//! A single failed request is none: it is tried again at once. Neither is a single call.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::track::twilio_time::after;

/// Failures one after the other that are no hiccup.
const IN_A_ROW: u32 = 2;
/// Trouble that lasts this long is told however few requests have failed: some wait for their timeout.
const LASTING: Duration = Duration::from_secs(45);
/// This many different calls in a row that can't be read are the account's trouble.
const CALLS_THAT_SPEAK_FOR_ALL: usize = 3;
/// After this long without a call that could be read, a single one speaks for all.
const NONE_READ: Duration = Duration::from_secs(60 * 60);
/// A list that failed and was not asked for again for this long is not wanted any more.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
/// Most lists or calls that are remembered as failing: more than there are kinds of lists.
const MAX_FAILING: usize = 8;
/// Lines about one resource in one window: what comes and goes must not fill the log.
const LINES_PER_WINDOW: u32 = 4;
/// How long a window lasts.
const WINDOW: Duration = Duration::from_secs(10 * 60);

/// Why something can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// A closed word.
    pub reason: &'static str,
    /// What it is and what to do, for a person.
    pub text: String,
}

/// What is worth a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TroubleChange {
    /// It can't be read, or for another reason than before.
    CannotRead(Cause),
    /// It can be read again, after this long.
    CanRead(Duration),
}

/// What one failure says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It is part of normal work, as Twilio's 429s are: trouble only if it lasts.
    Normal,
    /// The next request may succeed.
    Ordinary,
    /// No request will succeed until an operator acts.
    Certain,
}

/// One request that failed.
#[derive(Clone, Debug)]
pub struct Failure<S> {
    /// Which list or call.
    pub of: S,
    /// At which page.
    pub page: u32,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// What it says by itself.
    pub weight: Severity,
    /// Why.
    pub cause: Cause,
}

/// How many failures are trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Lists: each has to be readable.
    Lists,
    /// Calls: some may be unreadable, as long as others are read.
    Calls,
}

/// The trouble with one resource, if there is any.
#[derive(Clone, Debug)]
pub struct Trouble<S> {
    kind: Kind,
    /// Since when nothing succeeded that failed, and when the last failure was known.
    since: Option<(Timestamp, Timestamp)>,
    failing: BTreeMap<S, (u32, Timestamp)>,
    in_a_row: u32,
    is_certain: bool,
    last: Option<Cause>,
    /// How often in a row the last cause was seen.
    alike: u32,
    /// What is told at present.
    told: Option<Cause>,
    /// What of that the log has.
    logged: Option<Cause>,
    has_succeeded: bool,
    /// Whether another list was read while this one could not be.
    has_read_others: bool,
    window: Option<Timestamp>,
    lines: u32,
}

impl<S: Ord> Trouble<S> {
    /// None yet, with lists.
    pub fn of_lists() -> Self {
        Self::new(Kind::Lists)
    }

    /// None yet, with single calls.
    pub fn of_calls() -> Self {
        Self::new(Kind::Calls)
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            since: None,
            failing: BTreeMap::new(),
            in_a_row: 0,
            is_certain: false,
            last: None,
            alike: 0,
            told: None,
            logged: None,
            has_succeeded: false,
            has_read_others: false,
            window: None,
            lines: 0,
        }
    }

    /// What is told at present, and since when it has lasted.
    pub fn told(&self) -> Option<(&Cause, Timestamp)> {
        let (since, _) = self.since?;
        self.told.as_ref().map(|cause| (cause, since))
    }

    /// Notes a failure.
    pub fn failed(&mut self, failure: Failure<S>, now: Timestamp) -> Option<TroubleChange> {
        let (since, known) = self.since.unwrap_or((failure.asked_at, Timestamp::MIN));
        // Requests that were in flight together are one failure.
        let is_new = known <= failure.asked_at;
        self.since = Some((since, now));
        if self.failing.len() < MAX_FAILING || self.failing.contains_key(&failure.of) {
            self.failing.insert(failure.of, (failure.page, now));
        }
        let weight = match failure.weight {
            Severity::Normal => 0,
            Severity::Ordinary => u32::from(is_new),
            Severity::Certain => IN_A_ROW,
        };
        self.in_a_row = self.in_a_row.saturating_add(weight);
        self.is_certain |= failure.weight == Severity::Certain;
        if failure.weight != Severity::Normal || self.last.is_none() {
            let is_alike = self.last.as_ref() == Some(&failure.cause);
            self.alike = if is_alike { self.alike.saturating_add(weight) } else { weight.max(1) };
            self.last = Some(failure.cause);
        }
        self.look(now)
    }

    /// Looks whether it has lasted long enough.
    pub fn look(&mut self, now: Timestamp) -> Option<TroubleChange> {
        let (since, _) = self.since?;
        let last = self.last.as_ref()?;
        let is_changed = self.told.as_ref().is_some_and(|told| told != last);
        if is_changed && self.alike >= IN_A_ROW {
            self.told = Some(last.clone());
        }
        if self.told.is_none() && self.is_trouble(since, now) {
            self.told = Some(last.clone());
        }
        let told = self.told.clone().filter(|told| self.logged.as_ref() != Some(told))?;
        self.may_log(now).then(|| {
            self.logged = Some(told.clone());
            TroubleChange::CannotRead(told)
        })
    }

    fn is_trouble(&self, since: Timestamp, now: Timestamp) -> bool {
        let is_lasting = after(since, LASTING) <= now;
        let is_repeated = self.in_a_row >= IN_A_ROW;
        if self.is_certain {
            return true;
        }
        match self.kind {
            // A single request failed, and the list may not be wanted any more.
            Kind::Lists if self.has_read_others => is_repeated,
            Kind::Lists => is_lasting || is_repeated,
            Kind::Calls if !self.has_succeeded => is_lasting || is_repeated,
            Kind::Calls => {
                let speak_for_all = self.failing.len() >= CALLS_THAT_SPEAK_FOR_ALL;
                (speak_for_all && (is_lasting || is_repeated)) || after(since, NONE_READ) <= now
            }
        }
    }

    fn may_log(&mut self, now: Timestamp) -> bool {
        if self.window.is_none_or(|began| after(began, WINDOW) <= now) {
            self.window = Some(now);
            self.lines = 0;
        }
        self.lines += 1;
        self.lines <= LINES_PER_WINDOW
    }

    /// Notes a page that was read: a list can be read again once the page that failed was.
    pub fn read(&mut self, of: &S, page: u32, now: Timestamp) -> Option<TroubleChange> {
        self.has_succeeded = true;
        let is_behind = self.failing.get(of).is_some_and(|&(failed, _)| failed <= page);
        if is_behind {
            self.failing.remove(of);
            self.in_a_row = 0;
        }
        self.has_read_others |= !self.failing.is_empty() && !self.failing.contains_key(of);
        self.failing.retain(|_, &mut (_, at)| now < after(at, FORGOTTEN));
        match self.kind {
            Kind::Lists if !self.failing.is_empty() => None,
            Kind::Lists | Kind::Calls => self.end(now),
        }
    }

    fn end(&mut self, now: Timestamp) -> Option<TroubleChange> {
        let (since, _) = self.since.take()?;
        self.failing.clear();
        self.in_a_row = 0;
        self.is_certain = false;
        self.has_read_others = false;
        self.last = None;
        self.told = None;
        let lasted = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        self.logged.take().map(|_| TroubleChange::CanRead(lasted))
    }
}

#[cfg(test)]
mod tests;
