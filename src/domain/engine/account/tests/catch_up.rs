//! After downtime, the backlog is read along with current calls, and neither starves the other.

use super::*;
use crate::domain::track::twilio_time::before;

/// The maximum number of requests in flight.
const CONCURRENCY: usize = 4;

#[test]
fn catches_up_after_six_hours_of_downtime_and_reports_it() {
    let caught_up =
        Simulation { per_day: 8_000, down_for: 6 * 3_600, runs_for: 1_800, tenths_per_request: 1 }
            .run();
    assert!(caught_up.was_late, "catching up is reported");
    assert!(!caught_up.is_late, "and so is its end");
    assert_eq!(caught_up.left, 0, "all calls that were due are settled");
    assert!(caught_up.slowest <= Duration::from_secs(31), "{:?}", caught_up.slowest);
}

#[test]
fn with_a_days_backlog_of_a_million_calls_current_calls_settle_within_2_minutes() {
    // Scaled down to a tenth: equivalent to 40 requests per second for a million calls a day.
    let simulation = Simulation {
        per_day: 100_000,
        down_for: 24 * 3_600,
        runs_for: 1_500,
        tenths_per_request: 10,
    };
    let caught_up = simulation.run();
    assert!(caught_up.current_settled > 500, "{} current calls", caught_up.current_settled);
    assert!(caught_up.slowest <= Duration::from_secs(120), "{:?}", caught_up.slowest);
    assert!(caught_up.is_late, "a day's backlog takes more than minutes");
    let share = caught_up.backlog_reads * 4;
    assert!(share >= caught_up.requests - 4, "the backlog got {share} / 4 requests");
}

/// A simulation of calls at a steady rate, a downtime, and the time after it.
struct Simulation {
    per_day: i64,
    down_for: i64,
    runs_for: i64,
    /// How long a request takes, in tenths of a second.
    tenths_per_request: i64,
}

/// The result of a simulation.
#[derive(Default)]
struct CaughtUp {
    requests: u64,
    backlog_reads: u64,
    current_settled: u64,
    /// The longest time that a current call waited for its settling read once that was due.
    slowest: Duration,
    was_late: bool,
    is_late: bool,
    left: usize,
}

impl Simulation {
    fn run(&self) -> CaughtUp {
        let mut account = account();
        account.lists.cursor = Some(at(0));
        let mut result = CaughtUp::default();
        let back = self.down_for;
        let mut listed = 0;
        // In tenths of a second since the end of the downtime.
        for tenth in 0..self.runs_for * 10 {
            let now = instant(back * 10 + tenth);
            if tenth % 300 == 0 {
                listed = self.list(&mut account, listed, now);
            }
            let may_ask = tenth % self.tenths_per_request == 0;
            let free = if may_ask { CONCURRENCY } else { 0 };
            for step in due(&mut account, now, free) {
                result.requests += 1;
                let Step::Read { read: Read { sid, stage, skips }, .. } = step else { continue };
                let overdue = reads().overdue(&account.calls[&sid], now);
                // Calls that were due before the end of the downtime are backlog.
                let is_backlog = account.calls[&sid].ended_at < Some(at(back - 963));
                result.backlog_reads += u64::from(is_backlog);
                if stage == Stage::Settling && !is_backlog {
                    result.current_settled += 1;
                    result.slowest = result.slowest.max(overdue);
                }
                let reading = Reading { items: Vec::new(), read_at: now, is_complete: true };
                account.apply_reading(Read { sid, stage, skips }, &reading, now);
            }
            if tenth % 600 == 0 {
                // The lists are up to date; only reads can be behind.
                account.lists.cursor = Some(now);
                result.is_late = account.lag(now).is_catching_up;
                result.was_late |= result.is_late;
            }
        }
        let end = instant((back + self.runs_for) * 10);
        let overdue =
            account.calls.values().map(|call| reads().overdue(call, before(end, A_MINUTE)));
        result.left = overdue.filter(|&overdue| overdue > A_MINUTE).count();
        result
    }

    /// Lists the calls that have ended since number `from`. Returns how many have ended in total.
    fn list(&self, account: &mut AccountProgress, from: i64, now: Timestamp) -> i64 {
        let second = now.duration_since(at(0)).as_secs();
        let to = second * self.per_day / 86_400;
        let mut calls = Vec::new();
        for number in from..to {
            let end = number * 86_400 / self.per_day;
            let number = u32::try_from(number).expect("in range");
            calls.push(ended(number, end));
        }
        list(account, &calls, second);
        to
    }
}

const A_MINUTE: Duration = Duration::from_secs(60);

fn instant(tenths: i64) -> Timestamp {
    Timestamp::from_millisecond(at(0).as_millisecond() + tenths * 100).expect("an instant")
}
