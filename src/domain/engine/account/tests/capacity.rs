//! At an account's concurrency limit, settling reads stay on time and early reads give way.
//!
//! The tests simulate hours of virtual time in which each request, including lists, takes 300 ms.

use super::*;

/// The maximum number of requests in flight.
const CONCURRENCY: usize = 4;
/// How long a request takes, in milliseconds.
const REQUEST_MS: i64 = 300;
/// The resolution of time: each request takes three steps.
const STEP_MS: i64 = 100;
/// The time between two lists, in seconds.
const LIST_EVERY: i64 = 30;
/// The number of calls on a list page.
const PAGE: i64 = 1_000;
const HOUR: i64 = 3_600;

#[test]
fn at_1_1_million_calls_a_day_settling_is_at_most_two_minutes_late_for_six_hours() {
    let mut simulation = Simulation::new(1_100_000, 20);
    simulation.run(6 * HOUR);
    assert!(simulation.settled > 250_000, "{} settled", simulation.settled);
    assert!(simulation.latest <= Duration::from_secs(120), "{:?} late", simulation.latest);
    assert!(simulation.audited > 400, "{} audits", simulation.audited);
    let required = simulation.account.required_concurrency();
    assert!(required > 4.0, "{required} concurrent requests don't exceed the limit");
}

#[test]
fn at_400_000_calls_a_day_half_of_the_first_reads_come_within_30_seconds() {
    let mut simulation = Simulation::new(400_000, 180);
    simulation.run(2 * HOUR);
    assert!(simulation.median_first_read() <= 30_000, "{} ms", simulation.median_first_read());
    assert!(simulation.latest <= Duration::from_secs(10), "{:?} late", simulation.latest);
}

#[test]
fn thousands_of_active_calls_do_not_delay_reads_of_ended_calls() {
    // 3,300 calls are active at any time. Reading each every minute would need 16 concurrent requests.
    let mut simulation = Simulation::new(80_000, 3_564);
    simulation.run(3 * HOUR);
    assert!(simulation.median_first_read() <= 30_000, "{} ms", simulation.median_first_read());
    assert!(simulation.live_reads > 3_000, "{} reads of active calls", simulation.live_reads);
}

/// A simulation of calls of one length at a steady rate, and of the requests that read them.
struct Simulation {
    account: AccountProgress,
    /// The reading of every call, which has an event from the start, so that early reads are never thinned.
    reading: Reading,
    per_day: i64,
    length: i64,
    ms: i64,
    /// Requests in flight, by when they are answered.
    busy: Vec<(i64, Option<Step>)>,
    settled: u64,
    audited: u64,
    live_reads: u64,
    latest: Duration,
    /// The delays between each call's end and its first read after it, in milliseconds.
    first_reads: Vec<i64>,
}

impl Simulation {
    fn new(per_day: i64, length: i64) -> Self {
        Self {
            account: account(),
            reading: answered_reading(0),
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

    fn run(&mut self, seconds: i64) {
        while self.ms < seconds * 1_000 {
            self.answer();
            if self.ms % (LIST_EVERY * 1_000) == 0 {
                // Forget old calls, as the deep list would.
                self.account.lists.forget_before = Some(instant_ms(self.ms - 2_000 * 1_000));
                self.account.run_housekeeping(CONCURRENCY, self.now());
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
                    // The call is still active: lists return it only when it starts and ends.
                    let start_time = Some(self.account.calls[&sid].began_at);
                    let call = Call { sid, start_time, ..active(0, 0) };
                    self.account.apply_fetched(sid, Some(&call), now);
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
            self.reading.read_at = now;
            self.account.apply_reading(Read { sid, stage, skips }, &self.reading, now);
        }
    }

    /// Reads a list, whose pages are requested one after another.
    fn list(&mut self) {
        let (now, second) = (self.now(), self.ms / 1_000);
        // The calls that started or ended since the previous list.
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
        self.account.apply_page(&mut run, &page(&calls), usize::MAX, Some(now), now);
        // A list starts five minutes before the cursor.
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
