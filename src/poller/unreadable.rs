//! Reads of a call's events that failed: tried again, told if the call fails on its own, and given up.
//!
//! What keeps the calls of an account from being read together is told in `poller::trouble`.

use crate::domain::engine::account::FailedRead;
use crate::domain::track::progress::CallProgress;
use crate::domain::words::sid::CallSid;
use crate::metrics::health::ReadResult;
use crate::twilio::{Error, Resource};

use super::commit::Notes;
use super::trouble::cause;
use super::{Poller, random, until};

impl Poller {
    /// Notes that a read failed: it is tried again, unless it was tried for long enough.
    pub(super) fn give_up_or_retry(&mut self, read: FailedRead, error: &Error, notes: &mut Notes) {
        let FailedRead { sid, stage, .. } = read;
        let now = self.now();
        if self.progress.read_failed(read, now, random()) {
            self.unreadable.ended(sid);
            notes.reads.push((stage, ReadResult::Failed, 1));
            notes.changed.insert(sid);
            tracing::warn!(account = self.account.label, call_sid = %sid, stage = stage.as_str(), %error, "gave up reading a call's events");
            return;
        }
        let is_unreadable = self.progress.calls.get(&sid).is_some_and(CallProgress::is_unreadable);
        if is_unreadable && self.unreadable.failed(sid, self.shared.clock.now()) {
            let why = cause(error, Resource::CallEvents);
            tracing::warn!(
                account = self.account.label,
                call_sid = %sid,
                reason = why.reason,
                error = why.text,
                "cannot read a call's events, while those of other calls can be read: trying again"
            );
        }
    }

    /// Notes that a call is read, before its progress forgets the failures.
    pub(super) fn call_readable(&mut self, sid: CallSid) {
        if !self.unreadable.ended(sid) {
            return;
        }
        let failing_since = self.progress.calls.get(&sid).and_then(|call| call.failing.since());
        let lasted_seconds = failing_since.map(|since| until(since, self.now()).as_secs());
        tracing::info!(
            account = self.account.label,
            call_sid = %sid,
            lasted_seconds,
            "can read a call's events again"
        );
    }
}
