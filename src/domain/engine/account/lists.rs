//! What pages of lists, and calls that were fetched singly, tell an account.

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

/// How far a `Date` may lie ahead of what all of them together say.
pub const DATE_TOLERANCE: Duration = Duration::from_secs(2);
/// How often in a row Twilio must not know an active call, each half an hour after the one before
/// and with lists read in between, before the call counts as ended.
const MISSING_FETCHES: u8 = 3;

/// What a list page, a fetched call or housekeeping changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallChanges {
    /// Calls whose progress must be kept.
    pub changed: Vec<CallSid>,
    /// Calls that have finished, each once.
    pub finished: Vec<(Direction, CallStatus)>,
    /// Calls that were shown and not taken up, because as many are tracked as may be.
    pub left: u64,
    /// Calls that no list can bring back.
    pub forgotten: Vec<CallSid>,
}

impl CallChanges {
    pub(super) fn finish(&mut self, call: &CallProgress, status: CallStatus) {
        self.changed.push(call.sid);
        self.finished.push((call.direction, status));
    }
}

impl AccountProgress {
    /// Takes a page of a list that Twilio dated. At most `room` new calls are taken up; the others
    /// stay in Twilio's list. Returns what changed, and what follows the page.
    pub fn take_page(
        &mut self,
        run: &mut ListRun,
        page: &Page<Call>,
        room: usize,
        date: Option<Timestamp>,
        now: Timestamp,
    ) -> (CallChanges, AfterPage) {
        // The page's own `Date` tells how far the list is known, and nothing else: it may be wrong. An
        // odd one moves no cursor past the present.
        let date = date.unwrap_or(now).min(after(now, DATE_TOLERANCE));
        let mut changes = CallChanges::default();
        let most = self.calls.len().saturating_add(room);
        for call in &page.items {
            if self.calls.contains_key(&call.sid) {
                self.see(call, now, &mut changes);
            } else if run.asks_for(call) && self.lists.admits(call) {
                if self.calls.len() < most {
                    self.take_up(call, now, &mut changes);
                } else {
                    changes.left += 1;
                    run.leave_call();
                }
            }
        }
        self.demand.calls_ended(changes.finished.len());
        (changes, run.turn(page, date))
    }

    /// Notes how a list ended.
    pub fn finish_list(&mut self, run: &ListRun, after: AfterPage, now: Timestamp, random: u64) {
        if after == AfterPage::Complete {
            self.last_listed_at = Some(now);
            // What it did not show is no call that lists show soon.
            if run.kind == ListKind::Ended {
                self.reported.clear();
            }
        }
        self.lists.finish(run, after, now, random);
    }

    /// Takes a call that was fetched singly; `None` if Twilio does not know it.
    pub fn take_fetched(
        &mut self,
        sid: CallSid,
        fetched: Option<&Call>,
        now: Timestamp,
    ) -> CallChanges {
        self.free(sid);
        let mut changes = CallChanges::default();
        match fetched {
            Some(call) if call.sid == sid => self.see(call, now, &mut changes),
            Some(_) | None => self.miss(sid, now, &mut changes),
        }
        self.demand.calls_ended(changes.finished.len());
        changes
    }

    /// Notes that a single fetch failed; the call is fetched again after half an hour.
    pub fn fetch_failed(&mut self, sid: CallSid, now: Timestamp) {
        self.free(sid);
        if let Some(call) = self.calls.get_mut(&sid) {
            call.last_listed_at = now;
        }
    }

    /// Notes that Twilio does not know an active call. One answer proves nothing, nor does any while
    /// lists can't be read either.
    fn miss(&mut self, sid: CallSid, now: Timestamp, changes: &mut CallChanges) {
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

    fn take_up(&mut self, call: &Call, now: Timestamp, changes: &mut CallChanges) {
        let (mut progress, seen) = CallProgress::begin(call, now);
        progress.reported_at = self.reported.remove(&call.sid).then_some(now);
        self.calls.insert(call.sid, Box::new(progress));
        self.lists.found_new_call(now);
        self.note(call, seen, changes);
    }

    fn see(&mut self, call: &Call, now: Timestamp, changes: &mut CallChanges) {
        if let Some(progress) = self.calls.get_mut(&call.sid) {
            let seen = progress.see(call, now);
            self.note(call, seen, changes);
        }
    }

    fn note(&mut self, call: &Call, seen: Seen, changes: &mut CallChanges) {
        self.moved.insert(call.sid);
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
