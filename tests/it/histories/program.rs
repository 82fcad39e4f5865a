//! The running program of a history: what it knows, and what answers change.

use fastrand::Rng;
use jiff::Timestamp;
use twilio_call_exporter::domain::account::{AccountProgress, CallChanges, ReadFailure};
use twilio_call_exporter::domain::call::Call;
use twilio_call_exporter::domain::listing::{AfterPage, ListPlan, ListRun};
use twilio_call_exporter::domain::plan::{ReadPlan, Stage};
use twilio_call_exporter::domain::reading::Reading;
use twilio_call_exporter::domain::sid::CallSid;
use twilio_call_exporter::metrics::ledger::{AccountId, Fact};
use twilio_call_exporter::store::{Batch, Store, StoreThread};

use super::twilio::instant;

/// The running program.
pub(super) struct Program {
    pub(super) store: Store,
    pub(super) thread: StoreThread,
    pub(super) id: AccountId,
    pub(super) progress: AccountProgress,
    pub(super) lists: ListPlan,
    pub(super) reads: ReadPlan,
    pub(super) list: Option<ListRun>,
    pub(super) is_listing: bool,
    pub(super) kept: Option<(Option<Timestamp>, Option<Timestamp>)>,
    /// What Twilio has answered already, and when that arrives.
    pub(super) in_flight: Vec<(i64, Answer)>,
}

/// An answer on its way.
pub(super) enum Answer {
    List(ListRun, Option<(Vec<Call>, Option<String>, i64)>),
    Read(CallSid, Stage, u8, Result<Reading, ReadFailure>),
    Fetched(CallSid, Result<Option<Call>, ReadFailure>),
}

impl Program {
    /// Takes an answer as the poller does: what it changes goes into the next commit.
    pub(super) fn take(
        &mut self,
        answer: Answer,
        now: i64,
        batch: &mut Batch,
        changed: &mut Vec<CallSid>,
        random: &mut Rng,
    ) {
        let at = instant(now);
        match answer {
            Answer::List(mut run, Some((calls, next, date))) => {
                self.is_listing = false;
                if !self.progress.lists.is_started() {
                    self.progress.start(&self.lists, at);
                    run.asked_at = at;
                }
                let (changes, after) =
                    self.progress.take_page(&mut run, &calls, next, instant(date));
                add(changes, batch, changed);
                match after {
                    AfterPage::Continue => self.list = Some(run),
                    AfterPage::Complete => self.progress.lists.finish(&run, true),
                    AfterPage::Capped => self.progress.lists.finish(&run, false),
                }
            }
            Answer::List(mut run, None) => {
                self.is_listing = false;
                if run.may_resume() {
                    self.list = Some(run);
                } else {
                    self.progress.lists.fail(&run, at);
                }
            }
            Answer::Fetched(sid, Ok(call)) => {
                add(self.progress.take_fetched(sid, call.as_ref(), at), batch, changed);
            }
            Answer::Fetched(sid, Err(_)) => self.progress.fetch_failed(sid, at),
            Answer::Read(sid, stage, skips, Ok(reading)) => {
                let changes =
                    self.progress.take_reading(sid, stage, skips, &reading, &self.reads, at);
                let Some(changes) = changes else { return };
                for (observation, created_at) in changes.counted.events {
                    let (call_sid, at) = (sid, created_at.unwrap_or(at));
                    batch.facts.push(Fact::Event { observation, call_sid, at, is_history: false });
                }
                batch.facts.extend(changes.outcome.map(Fact::Felt));
                changed.push(sid);
            }
            Answer::Read(sid, stage, skips, Err(failure)) => {
                if self.progress.read_failed(sid, stage, skips, failure, at, random.u64(..)) {
                    changed.push(sid);
                }
            }
        }
    }
}

fn add(changes: CallChanges, batch: &mut Batch, changed: &mut Vec<CallSid>) {
    let finished = changes.finished.into_iter();
    batch.facts.extend(finished.map(|(direction, status)| Fact::Finished(direction, status)));
    changed.extend(changes.changed);
}
