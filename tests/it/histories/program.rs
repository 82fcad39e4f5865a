//! The running program of a history: what it knows, and what answers change.

use fastrand::Rng;
use jiff::Timestamp;
use twilio_call_exporter::domain::engine::account::{AccountProgress, CallChanges, FailedRead};
use twilio_call_exporter::domain::engine::lists::{AfterPage, ListPage, ListPlan, ListRun};
use twilio_call_exporter::domain::engine::pace::Pace;
use twilio_call_exporter::domain::engine::plan::{ReadPlan, Stage};
use twilio_call_exporter::domain::track::failing::ReadFailure;
use twilio_call_exporter::domain::track::listing::ListProgress;
use twilio_call_exporter::domain::track::outcome::CallOutcome;
use twilio_call_exporter::domain::track::reading::Reading;
use twilio_call_exporter::domain::words::call::{Call, Direction};
use twilio_call_exporter::domain::words::sid::CallSid;
use twilio_call_exporter::metrics::ledger::{AccountId, Fact};
use twilio_call_exporter::store::{Batch, Store, StoreThread};

use super::twilio::{Page, instant};

/// The running program.
pub(super) struct Program {
    pub(super) store: Store,
    pub(super) thread: StoreThread,
    pub(super) id: AccountId,
    pub(super) progress: AccountProgress,
    pub(super) pace: Pace,
    pub(super) lists: ListPlan,
    pub(super) reads: ReadPlan,
    pub(super) list: Option<ListRun>,
    pub(super) is_listing: bool,
    pub(super) kept: Option<ListProgress>,
    /// How far this machine's clock is ahead, in seconds.
    pub(super) skew: i64,
    /// What Twilio has answered already, and when that arrives.
    pub(super) in_flight: Vec<(i64, Answer)>,
}

/// An answer on its way. Only one of Twilio's own is dated: the dates of others are not looked at.
pub(super) enum Answer {
    List(ListRun, Result<(Page, Timestamp), ReadFailure>),
    Read(CallSid, Stage, u8, Result<Reading, ReadFailure>),
    Fetched(CallSid, Result<Option<Call>, ReadFailure>),
}

impl Program {
    /// This machine's clock.
    pub(super) fn local(&self, now: i64) -> Timestamp {
        instant(now + self.skew)
    }

    /// What it takes for Twilio's time.
    pub(super) fn now(&self, now: i64) -> Timestamp {
        self.progress.now(self.local(now))
    }

    /// Takes an answer as the poller does: what it changes goes into the next commit.
    pub(super) fn take(
        &mut self,
        answer: Answer,
        now: i64,
        batch: &mut Batch,
        changed: &mut Vec<CallSid>,
        random: &mut Rng,
    ) {
        let local = self.local(now);
        match answer {
            Answer::List(run, Ok((page, date))) => {
                self.progress.learn_time(Some(date), local, &self.lists);
                self.pace.list_succeeded();
                self.is_listing = false;
                let at = self.now(now);
                if self.progress.lists.is_started() {
                    self.take_page(run, &page, date, at, batch, changed);
                } else {
                    self.progress.lists.await_time(at);
                }
            }
            Answer::List(mut run, Err(failure)) => {
                self.is_listing = false;
                let is_refused = failure == ReadFailure::Refused;
                if is_refused {
                    let is_only_list = !self.progress.lists.is_started();
                    self.pace.list_refused(run.kind, is_only_list, local);
                } else {
                    self.pace.failed(None, None, local, random.u64(..));
                }
                if !is_refused && run.may_resume() {
                    self.list = Some(run);
                } else {
                    self.progress.lists.fail(&run, self.now(now));
                }
            }
            Answer::Fetched(sid, Ok(call)) => {
                self.pace.succeeded();
                let changes = self.progress.take_fetched(sid, call.as_ref(), self.now(now));
                add(changes, batch, changed);
            }
            Answer::Fetched(sid, Err(_)) => self.progress.fetch_failed(sid, self.now(now)),
            Answer::Read(sid, stage, skips, Ok(reading)) => {
                self.progress.learn_time(Some(reading.read_at), local, &self.lists);
                if reading.is_complete {
                    self.pace.read_succeeded();
                }
                let at = self.now(now);
                let changes =
                    self.progress.take_reading(sid, stage, skips, &reading, &self.reads, at);
                let Some(changes) = changes else { return };
                for (observation, created_at) in changes.counted.events {
                    let (call_sid, (at, is_history)) = (sid, self.progress.dated(created_at, at));
                    batch.facts.push(Fact::Event { observation, call_sid, at, is_history });
                }
                if let Some(CallOutcome { outcome, decided_by, created_at }) = changes.outcome {
                    let (at, is_history) = self.progress.dated(created_at, at);
                    batch.facts.push(Fact::Outcome { outcome, decided_by, at, is_history });
                }
                changed.push(sid);
                if !reading.is_complete {
                    let failure = ReadFailure::Unreadable;
                    self.progress.read_failed(FailedRead { sid, stage, skips, failure }, at, 0);
                }
            }
            Answer::Read(sid, stage, skips, Err(failure)) => {
                let read = FailedRead { sid, stage, skips, failure };
                self.read_failed(read, now, changed, random);
            }
        }
    }

    fn take_page(
        &mut self,
        mut run: ListRun,
        page: &Page,
        date: Timestamp,
        at: Timestamp,
        batch: &mut Batch,
        changed: &mut Vec<CallSid>,
    ) {
        let next = page.next.as_deref();
        let page = ListPage { calls: &page.calls, rejected: 0, next };
        // Now and then there is room for one call only.
        let room = if self.progress.calls.len() % 5 == 4 { 1 } else { usize::MAX };
        let (changes, after) = self.progress.take_page(&mut run, page, Some(date), room, at);
        add(changes, batch, changed);
        match after {
            AfterPage::Continue => self.list = Some(run),
            AfterPage::Complete | AfterPage::Stopped(_) => {
                self.progress.finish_list(&run, after, at);
            }
        }
    }

    fn read_failed(
        &mut self,
        read: FailedRead,
        now: i64,
        changed: &mut Vec<CallSid>,
        random: &mut Rng,
    ) {
        let local = self.local(now);
        match read.failure {
            ReadFailure::Refused => {
                let call = self.progress.calls.get(&read.sid);
                let direction = call.map_or(Direction::Other, |call| call.direction);
                self.pace.read_refused(read.sid, direction, local);
            }
            ReadFailure::Failed => {
                self.pace.failed(Some(read.sid), None, local, random.u64(..));
            }
            ReadFailure::NotFound | ReadFailure::Unreadable => {}
        }
        if self.progress.read_failed(read, self.now(now), random.u64(..)) {
            changed.push(read.sid);
        }
    }
}

/// Adds what a list or a single fetch changed to the next commit.
pub(super) fn add(changes: CallChanges, batch: &mut Batch, changed: &mut Vec<CallSid>) {
    let finished = changes.finished.into_iter();
    batch.facts.extend(finished.map(|(direction, status)| Fact::Finished(direction, status)));
    changed.extend(changes.changed);
}
