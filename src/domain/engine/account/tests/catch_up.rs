//! After downtime: the past is caught up beside the present, and neither starves the other.

use super::*;
use crate::domain::track::twilio_time::before;

/// How many requests may be in flight.
const CONCURRENCY: usize = 4;

#[test]
fn after_six_hours_of_downtime_the_past_is_caught_up_and_lateness_tells_it() {
    let caught_up =
        Story { per_day: 8_000, down_for: 6 * 3_600, watched_for: 1_800, tenths_per_request: 1 }
            .live();
    assert!(caught_up.was_late, "six hours are told");
    assert!(!caught_up.is_late, "and their end");
    assert_eq!(caught_up.left, 0, "everything that was due is settled");
    assert!(caught_up.slowest <= Duration::from_secs(31), "{:?}", caught_up.slowest);
}

#[test]
fn with_a_day_of_backlog_at_a_million_calls_a_day_current_calls_settle_within_2_minutes() {
    // A tenth of the calls at a tenth of the speed: 40 requests a second for a million a day.
    let story = Story {
        per_day: 100_000,
        down_for: 24 * 3_600,
        watched_for: 1_500,
        tenths_per_request: 10,
    };
    let caught_up = story.live();
    assert!(caught_up.settled_now > 500, "{} current calls", caught_up.settled_now);
    assert!(caught_up.slowest <= Duration::from_secs(120), "{:?}", caught_up.slowest);
    assert!(caught_up.is_late, "a day isn't caught up in minutes");
    let share = caught_up.of_backlog * 4;
    assert!(share >= caught_up.requests - 4, "the backlog got {share} / 4 requests");
}

/// Calls of two seconds at a steady rate, a downtime, and the time after it.
struct Story {
    per_day: i64,
    down_for: i64,
    watched_for: i64,
    /// How long a request takes, in tenths of a second.
    tenths_per_request: i64,
}

/// What came of it.
#[derive(Default)]
struct CaughtUp {
    requests: u64,
    of_backlog: u64,
    settled_now: u64,
    /// The longest that a call of the present waited for its settling read, once it was due.
    slowest: Duration,
    was_late: bool,
    is_late: bool,
    left: usize,
}

impl Story {
    fn live(&self) -> CaughtUp {
        let mut account = account();
        account.lists.cursor = Some(at(0));
        let mut told = CaughtUp::default();
        let back = self.down_for;
        let mut listed = 0;
        // In tenths of a second since the program is back.
        for tenth in 0..self.watched_for * 10 {
            let now = instant(back * 10 + tenth);
            if tenth % 300 == 0 {
                listed = self.list(&mut account, listed, now);
            }
            let may_ask = tenth % self.tenths_per_request == 0;
            let free = if may_ask { CONCURRENCY } else { 0 };
            for step in due(&mut account, now, free) {
                told.requests += 1;
                let Step::Read { read: Read { sid, stage, skips }, .. } = step else { continue };
                let overdue = reads().overdue(&account.calls[&sid], now);
                // Due before the program was back: that is the past.
                let is_past = account.calls[&sid].ended_at < Some(at(back - 963));
                told.of_backlog += u64::from(is_past);
                if stage == Stage::Settling && !is_past {
                    told.settled_now += 1;
                    told.slowest = told.slowest.max(overdue);
                }
                let reading = Reading { items: Vec::new(), read_at: now, is_complete: true };
                account.take_reading(Read { sid, stage, skips }, &reading, now);
            }
            if tenth % 600 == 0 {
                // The cursor is the lists' business.
                account.lists.cursor = Some(now);
                told.is_late = account.lag(now).is_catching_up;
                told.was_late |= told.is_late;
            }
        }
        let end = instant((back + self.watched_for) * 10);
        let overdue =
            account.calls.values().map(|call| reads().overdue(call, before(end, A_MINUTE)));
        told.left = overdue.filter(|&overdue| overdue > A_MINUTE).count();
        told
    }

    /// Shows the calls that ended up to now. Returns how many there were in all.
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
