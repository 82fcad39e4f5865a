//! How pages of lists, and calls fetched individually, change an account.

use std::time::Duration;

use jiff::Timestamp;

use super::AccountProgress;
use crate::domain::engine::lists::{AfterPage, ListRun};
use crate::domain::engine::request::Page;
use crate::domain::track::listing::ListKind;
use crate::domain::track::progress::{CallProgress, Seen};
use crate::domain::track::twilio_time::after;
use crate::domain::words::call::{Call, CallStatus, Direction};
use crate::domain::words::sid::CallSid;

/// How far a single `Date` may be ahead of the estimate of Twilio's time.
pub const DATE_TOLERANCE: Duration = Duration::from_secs(2);
/// How many fetches in a row must find that Twilio doesn't know an active call before the call is considered
/// ended. The fetches are half an hour apart, and only those with a list read in between count.
const MISSING_FETCHES: u8 = 3;

/// The changes made by a list page, a fetched call or housekeeping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallChanges {
    /// Calls whose progress must be stored.
    pub changed: Vec<CallSid>,
    /// Calls that have finished, each reported once.
    pub finished: Vec<(Direction, CallStatus)>,
    /// The number of new calls on the page that aren't tracked because the limit is reached.
    pub left: u64,
    /// Calls that no list can return any more.
    pub forgotten: Vec<CallSid>,
}

impl CallChanges {
    pub(super) fn finish(&mut self, call: &CallProgress, status: CallStatus) {
        self.changed.push(call.sid);
        self.finished.push((call.direction, status));
    }
}

impl AccountProgress {
    /// Processes a page of a list; `date` is its `Date` header. At most `room` new calls are tracked; the others
    /// stay in Twilio's list. Returns the changes and how the list continues.
    pub fn apply_page(
        &mut self,
        run: &mut ListRun,
        page: &Page<Call>,
        room: usize,
        date: Option<Timestamp>,
        now: Timestamp,
    ) -> (CallChanges, AfterPage) {
        // The page's `Date` may be wrong, so it only determines how far the list has been read. Capping it keeps
        // the cursor out of the future.
        let date = date.unwrap_or(now).min(after(now, DATE_TOLERANCE));
        let mut changes = CallChanges::default();
        let most = self.calls.len().saturating_add(room);
        for call in &page.items {
            if self.calls.contains_key(&call.sid) {
                self.update(call, now, &mut changes);
            } else if run.matches(call) && self.lists.admits(call) {
                if self.calls.len() < most {
                    self.track(call, now, &mut changes);
                } else {
                    changes.left += 1;
                    run.mark_untracked();
                }
            }
        }
        self.demand.calls_ended(changes.finished.len());
        (changes, run.advance(page, date))
    }

    /// Notes how a list ended.
    pub fn finish_list(&mut self, run: &ListRun, after: AfterPage, now: Timestamp, random: u64) {
        if after == AfterPage::Complete {
            self.last_listed_at = Some(now);
            // No list is going to return the reported calls that this one didn't.
            if run.kind == ListKind::Ended {
                self.reported.clear();
            }
        }
        self.lists.finish(run, after, now, random);
    }

    /// Processes the result of fetching a single call: `None` if Twilio doesn't know it.
    pub fn apply_fetched(
        &mut self,
        sid: CallSid,
        fetched: Option<&Call>,
        now: Timestamp,
    ) -> CallChanges {
        self.mark_idle(sid);
        let mut changes = CallChanges::default();
        match fetched {
            Some(call) if call.sid == sid => self.update(call, now, &mut changes),
            Some(_) | None => self.note_missing(sid, now, &mut changes),
        }
        self.demand.calls_ended(changes.finished.len());
        changes
    }

    /// Notes that fetching a single call failed; it is fetched again after half an hour.
    pub fn fetch_failed(&mut self, sid: CallSid, now: Timestamp) {
        self.mark_idle(sid);
        if let Some(call) = self.calls.get_mut(&sid) {
            call.last_listed_at = now;
        }
    }

    /// Notes that Twilio doesn't know an active call. A single answer proves nothing, and answers don't count
    /// while lists can't be read either.
    fn note_missing(&mut self, sid: CallSid, now: Timestamp, changes: &mut CallChanges) {
        let Some(call) = self.calls.get_mut(&sid) else { return };
        if call.ended_at.is_some() {
            return;
        }
        if self.last_listed_at > Some(call.last_listed_at) {
            call.missing += 1;
        }
        call.last_listed_at = now;
        if call.missing >= MISSING_FETCHES {
            call.finish(now, false);
            changes.finish(call, CallStatus::Other);
        }
    }

    fn track(&mut self, call: &Call, now: Timestamp, changes: &mut CallChanges) {
        let (mut progress, seen) = CallProgress::begin(call, now);
        progress.reported_at = self.reported.remove(&call.sid).then_some(now);
        self.calls.insert(call.sid, Box::new(progress));
        self.lists.found_new_call(now);
        self.record(call, seen, changes);
    }

    fn update(&mut self, call: &Call, now: Timestamp, changes: &mut CallChanges) {
        if let Some(progress) = self.calls.get_mut(&call.sid) {
            let seen = progress.update(call, now);
            self.record(call, seen, changes);
        }
    }

    fn record(&mut self, call: &Call, seen: Seen, changes: &mut CallChanges) {
        self.to_requeue.insert(call.sid);
        match seen {
            Seen::Nothing => {}
            Seen::Changed => changes.changed.push(call.sid),
            Seen::Finished => {
                changes.changed.push(call.sid);
                changes.finished.push((call.direction, call.status));
            }
        }
    }
}
