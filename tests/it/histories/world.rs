//! The world of a history: calls and their events, and when Twilio shows them.

mod calls;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use jiff::Timestamp;
use twilio_call_exporter::domain::track::listing::Filter;
use twilio_call_exporter::domain::words::call::Call;
use twilio_call_exporter::domain::words::call_event::CallEvent;
use twilio_call_exporter::domain::words::error_log::LoggedError;
use twilio_call_exporter::domain::words::sid::CallSid;

use calls::{Event, Leg, Report, leg};

/// The start of the world in Unix seconds: an hour before midnight, so that truncating filters to the day makes a
/// difference.
const START: i64 = 1_700_002_800;
/// Seconds in a day.
const DAY: i64 = 86_400;
/// One world in this many has a call that lasts a day, which takes as long to simulate as a hundred others.
const ONE_DAY_IN: u64 = 1_000;
/// The time after a call's end within which its events appear, except for those that appear only after its settling
/// read.
const SHOWN_WITHIN: i64 = 14 * 60;

/// The time within which a listed call is found if nothing fails: lists of recent calls are read at least every five
/// minutes, and each overlaps the previous one.
const FOUND_WITHIN: i64 = 7 * 60;

/// How long after a call's end its events may be refused without the read being abandoned: less than an hour after
/// the settling read is due.
const REFUSED_UNTIL: i64 = 60 * 60;

/// The route of events whose responses are added around or after settling.
const FILLED: &str = "/filled";

/// The key of a count: the route and code of an event, or the status of a finished call.
pub(super) type Key = (String, String);

/// The key of an event. If its response is added late, its code depends on when the settling read happens, but the
/// event is counted exactly once.
pub(super) fn key(route: &str, code: &str) -> Key {
    (route.to_owned(), if route == FILLED { "any" } else { code }.to_owned())
}

/// The key of calls with an outcome.
pub(super) fn outcomes() -> Key {
    ("outcomes".to_owned(), "any".to_owned())
}

/// The key of the entries of the error log with this source and code.
pub(super) fn reported(source: &str, code: &str) -> Key {
    (format!("reported {source}"), code.to_owned())
}

/// A world generated from a seed.
pub(super) struct World {
    legs: Vec<Leg>,
    outage: std::ops::Range<i64>,
    filters_by_day: bool,
    skew: i64,
    refuses_one: bool,
    /// Whether nothing fails except for an occasional page, so that calls must be found promptly.
    pub(super) is_calm: bool,
    /// The maximum number of calls per page of a list, even if a larger page is requested.
    pub(super) page_size: usize,
    /// The maximum number of entries per page of the error log.
    pub(super) log_page_size: usize,
    /// The page size above which requests always time out.
    pub(super) fails_above: u16,
    /// The number of Call Events above which a page is too large to read.
    pub(super) too_large_above: usize,
    /// The number of requests in flight beyond which Twilio answers 429.
    pub(super) concurrency: usize,
    pub(super) throttle_rate: f64,
    pub(super) failure_rate: f64,
    pub(super) kill_rate: f64,
}

impl World {
    pub(super) fn from_seed(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let shows_live = random.bool();
        let span = if random.u8(..10) == 0 { 3 * 3600 } else { 1800 };
        let calls = random.u64(1..10);
        let mut legs: Vec<Leg> =
            (0..calls).map(|number| leg(&mut random, number, span, shows_live)).collect();
        // In a few worlds, one call lasts a day, Twilio's maximum.
        if seed.is_multiple_of(ONE_DAY_IN) {
            legs[0].extend_to_a_day(&mut random);
        }
        // In some worlds, a call has many events, or a single event that is too large.
        if random.u8(..20) == 0 {
            legs[0].add_many_events(&mut random);
        }
        if random.u8(..10) == 0
            && let Some(event) = legs[0].events.first_mut()
        {
            event.is_too_large = true;
        }
        let is_calm = random.u8(..5) == 0;
        let (outage_at, failure_factor) =
            (START + random.i64(0..span), f64::from(u8::from(!is_calm)));
        let mut one_of = |default, others: [usize; 2]| {
            let chosen = if is_calm { 5 } else { random.usize(..5) };
            others.get(chosen).copied().unwrap_or(default)
        };
        Self {
            fails_above: u16::try_from(one_of(1_000, [200, 50])).expect("small"),
            too_large_above: one_of(1_000, [50, 2]),
            concurrency: one_of(100, [2, 1]),
            legs,
            outage: outage_at
                ..outage_at + random.i64(0..2400) * i64::from(random.bool() && !is_calm),
            filters_by_day: random.bool(),
            skew: *random.choice(&[0, 0, 0, 7_200, -7_200]).expect("one of five"),
            refuses_one: random.u8(..3) == 0 && !is_calm,
            is_calm,
            page_size: random.usize(1..5),
            log_page_size: random.usize(1..20),
            throttle_rate: if random.u8(..3) == 0 {
                random.f64() * 0.2 * failure_factor
            } else {
                0.0
            },
            failure_rate: random.f64() * 0.2 * failure_factor,
            kill_rate: random.f64() * 0.1 * failure_factor,
        }
    }

    pub(super) fn begins_at(&self) -> i64 {
        START
    }

    /// The time after which Twilio no longer fails and the program is no longer killed.
    pub(super) fn reliable_from(&self) -> i64 {
        let last = self.legs.iter().map(|leg| leg.ends_at).max().unwrap_or(START);
        last.max(self.outage.end) + 20 * 60
    }

    pub(super) fn is_outage(&self, now: i64) -> bool {
        self.outage.contains(&now)
    }

    pub(super) fn calls(&self) -> u64 {
        self.legs.len() as u64
    }

    pub(super) fn events(&self) -> u64 {
        self.legs.iter().map(|leg| leg.events.len() as u64).sum()
    }

    /// Returns the calls that should be known by now but aren't.
    pub(super) fn missed(&self, known: &BTreeSet<CallSid>, now: i64) -> Vec<CallSid> {
        let is_due = |leg: &&Leg| self.is_calm && leg.listed_at + FOUND_WITHIN < now;
        let sids = self.legs.iter().filter(is_due).map(|leg| leg.sid);
        sids.filter(|sid| !known.contains(sid)).collect()
    }

    /// How far the machine's clock is ahead, in seconds.
    pub(super) fn skew(&self) -> i64 {
        self.skew
    }

    /// Whether the events of this call are refused now while those of other calls are shown.
    pub(super) fn refuses(&self, sid: CallSid, now: i64) -> bool {
        let refused = self.legs.iter().take(usize::from(self.refuses_one));
        refused.into_iter().any(|leg| leg.sid == sid && now < leg.ends_at + REFUSED_UNTIL)
    }

    /// Returns the `Date` of an answer, which is sometimes wrong.
    pub(super) fn date(&self, now: i64, random: &mut Rng) -> Timestamp {
        let errors = [40 * DAY, -40 * DAY, 1_800, -1_800];
        let is_wrong = random.u8(..50) == 0;
        instant(now + if is_wrong { *random.choice(&errors).expect("one of four") } else { 0 })
    }

    /// Returns a list, newest first. Its pages are numbered from the newest call, so they shift as calls are added.
    pub(super) fn list(&self, filter: Filter, now: i64) -> Vec<Call> {
        let mut calls: Vec<Call> = self
            .legs
            .iter()
            .filter(|leg| leg.listed_at <= now)
            .map(|leg| leg.shown(now))
            .filter(|call| self.passes(call, filter))
            .collect();
        calls.sort_by_key(|call| std::cmp::Reverse(call.start_time.unwrap_or(Timestamp::MAX)));
        calls
    }

    fn passes(&self, call: &Call, filter: Filter) -> bool {
        let from = |at: Timestamp| {
            let second = at.as_second();
            instant(if self.filters_by_day { second - second % DAY } else { second })
        };
        match filter {
            Filter::StartedFrom(at) => call.start_time.is_some_and(|start| start >= from(at)),
            Filter::EndedFrom(at) => call.end_time.is_some_and(|end| end >= from(at)),
            Filter::Status(status) => call.status == status,
            Filter::Everything => true,
            Filter::StartedOn(_) | Filter::EndedOn(_) => panic!("the engine lists no days"),
        }
    }

    /// Returns a call by its SID.
    pub(super) fn call(&self, sid: CallSid, now: i64) -> Option<Call> {
        self.legs.iter().find(|leg| leg.sid == sid).map(|leg| leg.shown(now))
    }

    /// Returns the events of a call as shown now, latest first, each with whether it is too large to read.
    pub(super) fn call_events(
        &self,
        sid: CallSid,
        now: i64,
        random: &mut Rng,
    ) -> Vec<(CallEvent, bool)> {
        let leg = self.legs.iter().find(|leg| leg.sid == sid);
        let mut events: Vec<&Event> = leg.into_iter().flat_map(|leg| &leg.events).collect();
        events.sort_by_key(|event| std::cmp::Reverse(event.shown_at));
        let shown = events.into_iter().filter(|event| event.shown_at <= now);
        let mut shown: Vec<_> = shown.map(|event| (event.shown(now), event.is_too_large)).collect();
        // Until the events have to be complete, one may be missing.
        if leg.is_some_and(|leg| now < leg.ends_at + SHOWN_WITHIN) && random.u8(..8) == 0 {
            shown.pop();
        }
        shown
    }

    /// Returns the error log since `from`, newest first.
    pub(super) fn error_log(&self, from: Timestamp, now: i64) -> Vec<LoggedError> {
        let entries = self.legs.iter().flat_map(|leg| &leg.reports);
        let shown = entries.filter(|report| report.shown_at <= now && instant(report.at) >= from);
        let mut shown: Vec<&Report> = shown.collect();
        shown.sort_by_key(|report| std::cmp::Reverse(report.at));
        shown.into_iter().map(Report::shown).collect()
    }

    /// Returns pushed entries of the error log: some before the log shows them, some again long afterwards.
    pub(super) fn pushed(&self, now: i64, random: &mut Rng) -> Vec<LoggedError> {
        let (is_again, pushed) = (random.u8(..4) == 0, random.u8(..4));
        let entries = self.legs.iter().flat_map(|leg| &leg.reports);
        let happened = entries.filter(|report| report.at <= now);
        let due = happened.filter(|report| is_again || now - report.at < 300);
        due.filter(|_| random.u8(..4) < pushed).map(Report::shown).collect()
    }

    /// The expected counts of entries of the error log if it is read since `since`.
    pub(super) fn reports(&self, since: Timestamp) -> BTreeMap<Key, u64> {
        let mut expected_counts = BTreeMap::new();
        let first = since.as_second();
        for report in
            self.legs.iter().flat_map(|leg| &leg.reports).filter(|report| report.at >= first)
        {
            let source = report.route.unwrap_or("messaging");
            *expected_counts.entry(reported(source, &report.code.to_string())).or_default() += 1;
        }
        expected_counts
    }

    /// The expected counts at the end.
    pub(super) fn expected_counts(&self) -> BTreeMap<Key, u64> {
        self.count(|leg, event| !event.is_too_large && event.shown_at <= leg.ends_at + SHOWN_WITHIN)
    }

    /// The maximum counts at the end, including events that appear after settling.
    pub(super) fn maximum_counts(&self) -> BTreeMap<Key, u64> {
        self.count(|_, event| !event.is_too_large)
    }

    /// The possible numbers of calls with an outcome: responses and events that appear late may or may not be in
    /// time to determine it.
    pub(super) fn outcomes(&self) -> std::ops::RangeInclusive<u64> {
        let calls_with = |decides: fn(&Event) -> bool| {
            let has_any = |leg: &&Leg| leg.events.iter().any(decides);
            self.legs.iter().filter(has_any).count() as u64
        };
        let minimum = calls_with(|event| {
            let has_failed = event.answered_at == i64::MAX || event.code != 200;
            event.route == "/voice" && has_failed && !event.is_too_large
        });
        minimum..=calls_with(|event| {
            let may_fail = event.route == FILLED || event.answered_at == i64::MAX;
            event.status == "in-progress" && (may_fail || event.code != 200)
        })
    }

    fn count(&self, is_counted: impl Fn(&Leg, &Event) -> bool) -> BTreeMap<Key, u64> {
        let mut counts = BTreeMap::new();
        for leg in &self.legs {
            *counts.entry(("calls".to_owned(), leg.ends_as.to_string())).or_default() += 1;
            for event in leg.events.iter().filter(|event| is_counted(leg, event)) {
                let code =
                    if event.answered_at == i64::MAX { "none" } else { &event.code.to_string() };
                *counts.entry(key(event.route, code)).or_default() += 1;
            }
        }
        counts
    }
}

pub(super) fn instant(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a valid time")
}
