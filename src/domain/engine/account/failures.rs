//! Failed reads of Call Events: when a call is read again, and when it is given up.

use std::time::Duration;

use jiff::Timestamp;

use super::AccountProgress;
use crate::domain::engine::backoff::Backoff;
use crate::domain::engine::plan::{Read, Stage};
use crate::domain::track::failing::ReadFailure;
use crate::domain::track::learning::EarlyStage;
use crate::domain::track::twilio_time::after;

/// The waits between attempts of an early read, which is useless if it comes late.
const EARLY_RETRY: Backoff = Backoff::for_requests(Duration::from_secs(60));
/// The waits between attempts of a settling read or an audit.
const SETTLING_RETRY: Backoff = Backoff::for_requests(Duration::from_secs(10 * 60));

impl AccountProgress {
    /// Notes that a read failed. Returns whether the call is given up.
    pub fn read_failed(
        &mut self,
        read: Read,
        failure: ReadFailure,
        now: Timestamp,
        random: u64,
    ) -> bool {
        let Read { sid, stage, skips } = read;
        self.mark_idle(sid);
        let Some(call) = self.calls.get_mut(&sid) else { return false };
        // Twilio answered without showing the call's events: there may be none yet, so an early read is done.
        match (stage, failure) {
            (Stage::Reported | Stage::Live | Stage::AfterEnd, ReadFailure::Failed)
            | (Stage::Settling | Stage::Audit, _) => {}
            (Stage::Reported, _) => {
                call.reported_at = None;
                return false;
            }
            (Stage::Live, _) => {
                call.last_live_read_at = Some(now);
                call.note_early(EarlyStage::LIVE, now, false);
                return false;
            }
            (Stage::AfterEnd, _) => {
                call.note_after_end(skips, now, false);
                return false;
            }
        }
        let (retry, may_give_up) = match stage {
            Stage::Reported | Stage::Live | Stage::AfterEnd => (EARLY_RETRY, false),
            Stage::Settling | Stage::Audit => (SETTLING_RETRY, true),
        };
        let is_exhausted = call.failing.fail(failure, self.last_read_at, now);
        call.retry_at = Some(after(now, retry.wait(call.failing.count(), random)));
        if may_give_up && is_exhausted {
            call.settled_at.get_or_insert(now);
            call.awaits_audit = false;
        }
        may_give_up && is_exhausted
    }
}
