//! Decides when failures to read a resource are reported: once when the trouble starts, once when its cause changes,
//! and once when it ends.
//!
//! A single failed request isn't trouble, because it is retried at once. Neither is a single unreadable call.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::track::twilio_time::after;

/// The number of consecutive failures that are trouble.
const MIN_CONSECUTIVE: u32 = 2;
/// The duration after which failures are trouble however few they are: a request may take long to time out.
const MIN_DURATION: Duration = Duration::from_secs(45);
/// If this many different calls fail with no successful read in between, the account has trouble.
const MIN_FAILING_CALLS: usize = 3;
/// Without a readable call for this long, a single unreadable one is trouble.
const NO_CALL_READ: Duration = Duration::from_secs(60 * 60);
/// A list whose last failure is older than this is no longer needed.
const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);
/// The maximum number of failing lists or calls to track: more than there are kinds of lists.
const MAX_FAILING: usize = 8;
/// The maximum number of log lines about one resource per window, so that intermittent trouble doesn't flood the log.
const LINES_PER_WINDOW: u32 = 4;
/// The length of a window.
const WINDOW: Duration = Duration::from_secs(10 * 60);

/// Why something can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The reason, from a fixed set.
    pub reason: &'static str,
    /// The cause and the remedy, as a message for the operator.
    pub text: String,
}

/// A change to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TroubleChange {
    /// The resource can't be read, or the cause has changed.
    CannotRead(Cause),
    /// The resource can be read again, after this time.
    CanRead(Duration),
}

/// The severity of a single failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Part of normal operation, such as Twilio's 429s: trouble only if it lasts.
    Normal,
    /// The next request may succeed.
    Ordinary,
    /// No request will succeed until an operator acts.
    Certain,
}

/// A failed request.
#[derive(Clone, Debug)]
pub struct FailedRequest<S> {
    /// The list or call.
    pub subject: S,
    /// The number of the failed page.
    pub page: u32,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// The severity.
    pub severity: Severity,
    /// The cause.
    pub cause: Cause,
}

/// The kind of resource, which decides what counts as trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Lists, each of which has to be readable.
    Lists,
    /// Calls, some of which may be unreadable as long as others can be read.
    Calls,
}

/// Tracks the trouble with one resource.
#[derive(Clone, Debug)]
pub struct Trouble<S> {
    kind: Kind,
    /// When the ongoing failures started, and when the last one was noted.
    since: Option<(Timestamp, Timestamp)>,
    /// The failing lists or calls, each with its failed page and the time of its last failure.
    failing: BTreeMap<S, (u32, Timestamp)>,
    consecutive: u32,
    is_certain: bool,
    last: Option<Cause>,
    /// The number of consecutive failures with the last cause.
    repeats: u32,
    /// The current trouble.
    current: Option<Cause>,
    /// The logged cause of the current trouble, if any.
    logged: Option<Cause>,
    has_succeeded: bool,
    /// Whether another list was read while one was failing.
    has_read_others: bool,
    /// The start of the current window of log lines.
    window: Option<Timestamp>,
    /// The number of log lines in the window, including suppressed ones.
    lines: u32,
}

impl<S: Ord> Trouble<S> {
    /// Creates the tracker of lists.
    pub fn for_lists() -> Self {
        Self::new(Kind::Lists)
    }

    /// Creates the tracker of individual calls.
    pub fn for_calls() -> Self {
        Self::new(Kind::Calls)
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            since: None,
            failing: BTreeMap::new(),
            consecutive: 0,
            is_certain: false,
            last: None,
            repeats: 0,
            current: None,
            logged: None,
            has_succeeded: false,
            has_read_others: false,
            window: None,
            lines: 0,
        }
    }

    /// Returns the current trouble, and when it started.
    pub fn current(&self) -> Option<(&Cause, Timestamp)> {
        let (since, _) = self.since?;
        self.current.as_ref().map(|cause| (cause, since))
    }

    /// Notes a failure, and returns a change to log.
    pub fn failed(&mut self, failure: FailedRequest<S>, now: Timestamp) -> Option<TroubleChange> {
        let (since, noted) = self.since.unwrap_or((failure.requested_at, Timestamp::MIN));
        // Requests that were in flight together count as one failure.
        let is_new = noted <= failure.requested_at;
        self.since = Some((since, now));
        if self.failing.len() < MAX_FAILING || self.failing.contains_key(&failure.subject) {
            self.failing.insert(failure.subject, (failure.page, now));
        }
        let count = match failure.severity {
            Severity::Normal => 0,
            Severity::Ordinary => u32::from(is_new),
            Severity::Certain => MIN_CONSECUTIVE,
        };
        self.consecutive = self.consecutive.saturating_add(count);
        self.is_certain |= failure.severity == Severity::Certain;
        if failure.severity != Severity::Normal || self.last.is_none() {
            let is_repeat = self.last.as_ref() == Some(&failure.cause);
            self.repeats =
                if is_repeat { self.repeats.saturating_add(count) } else { count.max(1) };
            self.last = Some(failure.cause);
        }
        self.check(now)
    }

    /// Checks whether failures have become trouble, and returns a change to log.
    pub fn check(&mut self, now: Timestamp) -> Option<TroubleChange> {
        let (since, _) = self.since?;
        let last = self.last.as_ref()?;
        let is_changed = self.current.as_ref().is_some_and(|current| current != last);
        if is_changed && self.repeats >= MIN_CONSECUTIVE {
            self.current = Some(last.clone());
        }
        if self.current.is_none() && self.is_trouble(since, now) {
            self.current = Some(last.clone());
        }
        let cause = self.current.clone().filter(|cause| self.logged.as_ref() != Some(cause))?;
        self.take_line(now).then(|| {
            self.logged = Some(cause.clone());
            TroubleChange::CannotRead(cause)
        })
    }

    fn is_trouble(&self, since: Timestamp, now: Timestamp) -> bool {
        let is_lasting = after(since, MIN_DURATION) <= now;
        let is_repeated = self.consecutive >= MIN_CONSECUTIVE;
        if self.is_certain {
            return true;
        }
        match self.kind {
            // If only a single request failed, the list may no longer be needed.
            Kind::Lists if self.has_read_others => is_repeated,
            Kind::Lists => is_lasting || is_repeated,
            Kind::Calls if !self.has_succeeded => is_lasting || is_repeated,
            Kind::Calls => {
                let are_many = self.failing.len() >= MIN_FAILING_CALLS;
                (are_many && (is_lasting || is_repeated)) || after(since, NO_CALL_READ) <= now
            }
        }
    }

    /// Takes a log line of the current window, and returns whether the limit allows it.
    fn take_line(&mut self, now: Timestamp) -> bool {
        if self.window.is_none_or(|start| after(start, WINDOW) <= now) {
            self.window = Some(now);
            self.lines = 0;
        }
        self.lines += 1;
        self.lines <= LINES_PER_WINDOW
    }

    /// Notes that a page was read, and returns a change to log. A list can be read again once its failed page or a
    /// later one was read.
    pub fn succeeded(&mut self, subject: &S, page: u32, now: Timestamp) -> Option<TroubleChange> {
        self.has_succeeded = true;
        let is_recovered = self.failing.get(subject).is_some_and(|&(failed, _)| failed <= page);
        if is_recovered {
            self.failing.remove(subject);
            self.consecutive = 0;
        }
        self.has_read_others |= !self.failing.is_empty() && !self.failing.contains_key(subject);
        self.failing.retain(|_, &mut (_, at)| now < after(at, FORGET_AFTER));
        match self.kind {
            Kind::Lists if !self.failing.is_empty() => None,
            Kind::Lists | Kind::Calls => self.end(now),
        }
    }

    fn end(&mut self, now: Timestamp) -> Option<TroubleChange> {
        let (since, _) = self.since.take()?;
        self.failing.clear();
        self.consecutive = 0;
        self.is_certain = false;
        self.has_read_others = false;
        self.last = None;
        self.current = None;
        let lasted = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        self.logged.take().map(|_| TroubleChange::CanRead(lasted))
    }
}

#[cfg(test)]
mod tests;
