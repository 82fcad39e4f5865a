//! An account at the limit of its concurrent requests: settling holds, and early reads give way.
//!
//! Hours of virtual time in which each request takes 300 ms, lists included.

use super::*;

/// Requests in flight at once.
const CONCURRENCY: usize = 4;
/// How long a request takes, in milliseconds.
const REQUEST_MS: i64 = 300;
/// How finely time passes: each request takes three steps.
const STEP_MS: i64 = 100;
/// Time between two lists, in seconds.
const LIST_EVERY: i64 = 30;
/// Calls of a page of a list.
const PAGE: i64 = 1_000;
const HOUR: i64 = 3_600;

#[test]
fn at_1_1_million_calls_a_day_settling_is_at_most_two_minutes_late_for_six_hours() {
    let mut load = Load::begin(1_100_000, 20);
    load.live(6 * HOUR);
    assert!(load.settled > 250_000, "{} settled", load.settled);
    assert!(load.latest <= Duration::from_secs(120), "{:?} late", load.latest);
    assert!(load.audited > 400, "{} audits", load.audited);
    let required = load.account.required_concurrency();
    assert!(required > 4.0, "{required} concurrent requests say that this is too much");
}

#[test]
fn at_400_000_calls_a_day_the_first_read_after_an_end_comes_within_half_a_minute() {
    let mut load = Load::begin(400_000, 180);
    load.live(2 * HOUR);
    assert!(load.median_first_read() <= 30_000, "{} ms", load.median_first_read());
    assert!(load.latest <= Duration::from_secs(10), "{:?} late", load.latest);
}

#[test]
fn thousands_of_active_calls_hold_up_no_read_after_an_end() {
    // 3,300 calls are active at any time: read every minute, they would need 16 requests at once.
    let mut load = Load::begin(80_000, 3_564);
    load.live(3 * HOUR);
    assert!(load.median_first_read() <= 30_000, "{} ms", load.median_first_read());
    assert!(load.live_reads > 3_000, "{} reads of active calls", load.live_reads);
}

/// Calls of one length at a steady rate, and the requests that read them.
struct Load {
    account: AccountProgress,
    /// What each call shows, from the beginning: nothing is learnt that would save early reads.
    shown: Reading,
    per_day: i64,
    length: i64,
    ms: i64,
    /// Requests in flight, by when they are answered.
    busy: Vec<(i64, Option<Step>)>,
    settled: u64,
    audited: u64,
    live_reads: u64,
    latest: Duration,
    /// How long after its end each call was first read, in milliseconds.
    first_reads: Vec<i64>,
}

impl Load {
    fn begin(per_day: i64, length: i64) -> Self {
        Self {
            account: account(),
            shown: answered_reading(0),
            per_day,
            length,
            ms: 0,
            busy: Vec::new(),
            settled: 0,
            audited: 0,
            live_reads: 0,
            latest: Duration::ZERO,
            first_reads: Vec::new(),
        }
    }

    fn live(&mut self, seconds: i64) {
        while self.ms < seconds * 1_000 {
            self.answer();
            if self.ms % (LIST_EVERY * 1_000) == 0 {
                // What ended long ago goes, as it would by the deep list.
                self.account.lists.forget_before = Some(instant_ms(self.ms - 2_000 * 1_000));
                self.account.keep_house(CONCURRENCY, self.now());
                self.list();
            }
            let free = CONCURRENCY.saturating_sub(self.busy.len());
            for step in due(&mut self.account, instant_ms(self.ms), free) {
                self.busy.push((self.ms + REQUEST_MS, Some(step)));
            }
            self.ms += STEP_MS;
        }
    }

    fn now(&self) -> Timestamp {
        instant_ms(self.ms)
    }

    fn answer(&mut self) {
        let (now, ms) = (self.now(), self.ms);
        let (answered, waiting): (Vec<_>, _) =
            self.busy.drain(..).partition(|&(answered_at, _)| answered_at <= ms);
        self.busy = waiting;
        for (_, step) in answered {
            let (sid, stage, skips) = match step {
                Some(Step::Read { read, .. }) => (read.sid, read.stage, read.skips),
                Some(Step::Fetch(sid)) => {
                    // Lists show a call only when it starts and ends: it goes on.
                    let start_time = Some(self.account.calls[&sid].began_at);
                    let call = Call { sid, start_time, ..active(0, 0) };
                    self.account.take_fetched(sid, Some(&call), now);
                    continue;
                }
                None => continue,
            };
            let call = &self.account.calls[&sid];
            match (stage, call.ended_at) {
                (Stage::Settling, _) => {
                    self.settled += 1;
                    self.latest = self.latest.max(reads().overdue(call, now));
                }
                (Stage::AfterEnd, Some(end)) if call.after_end_reads == 0 => {
                    let after = now.duration_since(end).as_millis();
                    self.first_reads.push(i64::try_from(after).expect("small"));
                }
                (Stage::Reported | Stage::AfterEnd, _) => {}
                (Stage::Live, _) => self.live_reads += 1,
                (Stage::Audit, _) => self.audited += 1,
            }
            self.account.request_took(Duration::from_millis(300));
            self.shown.read_at = now;
            self.account.take_reading(Read { sid, stage, skips }, &self.shown, now);
        }
    }

    /// Reads a list, whose pages take requests one after another.
    fn list(&mut self) {
        let (now, second) = (self.now(), self.ms / 1_000);
        // Those that started or ended since the list before.
        let first_from = |second: i64| (second.max(0) * self.per_day + 86_399) / 86_400;
        let since = |second: i64| first_from(second + 1 - LIST_EVERY)..first_from(second + 1);
        let (started, ended_by_now) = (since(second), since(second - self.length));
        let calls: Vec<Call> = ended_by_now
            .chain(started)
            .map(|number| {
                let start = number * 86_400 / self.per_day;
                let end = start + self.length;
                let number = u32::try_from(number).expect("in range");
                let call = if end <= second { ended(number, end) } else { active(number, start) };
                Call { start_time: Some(at(start)), ..call }
            })
            .collect();
        let mut run =
            self.account.lists.next(ActiveCalls::default(), now).0.expect("a list is due");
        self.account.take_page(&mut run, &page(&calls), usize::MAX, Some(now), now);
        // A list reaches back to five minutes before the cursor.
        let overlap = 5 * 60 * self.per_day / 86_400;
        let pages = (i64::try_from(calls.len()).expect("few") + overlap) / PAGE + 1;
        for page in 1..=pages {
            self.busy.push((self.ms + page * REQUEST_MS / 4, None));
        }
    }

    fn median_first_read(&self) -> i64 {
        let mut sorted = self.first_reads.clone();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    }
}

fn instant_ms(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(at(0).as_millisecond() + ms).expect("an instant")
}
