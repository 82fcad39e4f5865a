//! The world of a history: calls, their events, and what Twilio shows of them when.

use std::collections::BTreeMap;

use fastrand::Rng;
use jiff::Timestamp;
use twilio_call_exporter::domain::track::listing::Filter;
use twilio_call_exporter::domain::words::call::{Call, CallStatus, Direction};
use twilio_call_exporter::domain::words::call_event::{Body, CallEvent, Request, Response};
use twilio_call_exporter::domain::words::parameters::Parameters;
use twilio_call_exporter::domain::words::sid::CallSid;

/// When the world begins, in seconds since 1970: on a day of its own, an hour before midnight, so
/// that filters that are cut to the day have something to get wrong.
const BEGINNING: i64 = 1_700_002_800;
/// A day in seconds.
const DAY: i64 = 86_400;
/// One world in so many has a call of a day: it takes as long as a hundred others.
const ONE_DAY_IN: u64 = 1_000;
/// After this long no events of a call appear before its settling read any more.
const SHOWN_WITHIN: i64 = 14 * 60;

/// How long after its end the events of a call may be refused without being given up: less than an
/// hour after the settling read is due.
const REFUSED_UNTIL: i64 = 60 * 60;

/// The route of events whose answers are filled in around or after their settling.
const FILLED: &str = "/filled";

/// What is counted: route and code of an event, or the status of a finished call.
pub(super) type Key = (String, String);

/// The key of an event. With which code one is counted whose answer is filled in late depends on
/// when the settling read came through; that it is counted once does not.
pub(super) fn key(route: &str, code: &str) -> Key {
    (route.to_owned(), if route == FILLED { "any" } else { code }.to_owned())
}

/// The key of calls with an outcome.
pub(super) fn outcomes() -> Key {
    ("outcomes".to_owned(), "any".to_owned())
}

/// A call with its events.
struct Leg {
    sid: CallSid,
    direction: Direction,
    starts_at: i64,
    ends_at: i64,
    /// When lists begin to show it.
    listed_at: i64,
    ends_as: CallStatus,
    tells_end: bool,
    tells_update: bool,
    events: Vec<Event>,
}

/// A Call Event.
#[derive(Clone)]
struct Event {
    at: i64,
    shown_at: i64,
    /// When its answer is filled in; `i64::MAX`: never.
    answered_at: i64,
    /// When its body is redacted.
    redacted_at: i64,
    route: &'static str,
    status: &'static str,
    code: i64,
}

/// A page of a list.
pub(super) struct Page {
    pub(super) calls: Vec<Call>,
    pub(super) next: Option<String>,
}

/// A world, made from a seed.
pub(super) struct World {
    legs: Vec<Leg>,
    outage: std::ops::Range<i64>,
    cuts_filters: bool,
    skew: i64,
    refuses_one: bool,
    pub(super) page_size: usize,
    pub(super) failure_rate: f64,
    pub(super) kill_rate: f64,
}

impl World {
    pub(super) fn of(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let shows_live = random.bool();
        let span = if random.u8(..10) == 0 { 3 * 3600 } else { 1800 };
        let calls = random.u64(1..10);
        let mut legs: Vec<Leg> =
            (0..calls).map(|number| leg(&mut random, number, span, shows_live)).collect();
        // In a few worlds a call goes on for the day that Twilio lets calls last at most.
        if seed.is_multiple_of(ONE_DAY_IN) {
            legs[0].last_a_day(&mut random);
        }
        let outage_at = BEGINNING + random.i64(0..span);
        Self {
            legs,
            outage: outage_at..outage_at + random.i64(0..2400) * i64::from(random.bool()),
            cuts_filters: random.bool(),
            skew: *random.choice(&[0, 0, 0, 7_200, -7_200]).expect("one of five"),
            refuses_one: random.u8(..3) == 0,
            page_size: random.usize(1..5),
            failure_rate: random.f64() * 0.2,
            kill_rate: random.f64() * 0.1,
        }
    }

    pub(super) fn begins_at(&self) -> i64 {
        BEGINNING
    }

    /// When Twilio stops stumbling, and the program being killed.
    pub(super) fn quiet_from(&self) -> i64 {
        let last = self.legs.iter().map(|leg| leg.ends_at).max().unwrap_or(BEGINNING);
        last.max(self.outage.end) + 20 * 60
    }

    pub(super) fn is_out(&self, now: i64) -> bool {
        self.outage.contains(&now)
    }

    pub(super) fn calls(&self) -> u64 {
        self.legs.len() as u64
    }

    pub(super) fn events(&self) -> u64 {
        self.legs.iter().map(|leg| leg.events.len() as u64).sum()
    }

    /// How this machine's clock is off, in seconds.
    pub(super) fn skew(&self) -> i64 {
        self.skew
    }

    /// Whether the events of a call are refused now, though those of others are shown.
    pub(super) fn refuses(&self, sid: CallSid, now: i64) -> bool {
        let refused = self.legs.iter().take(usize::from(self.refuses_one));
        refused.into_iter().any(|leg| leg.sid == sid && now < leg.ends_at + REFUSED_UNTIL)
    }

    /// The `Date` of an answer, which now and then is wrong.
    pub(super) fn date(&self, now: i64, random: &mut Rng) -> Timestamp {
        let odd = [40 * DAY, -40 * DAY, 1_800, -1_800];
        let is_odd = random.u8(..50) == 0;
        instant(now + if is_odd { *random.choice(&odd).expect("one of four") } else { 0 })
    }

    /// A page of a list that says nothing of what follows: it is empty, or itself once more.
    pub(super) fn broken_page(&self, token: Option<&str>, page: Page, random: &mut Rng) -> Page {
        let next = page.next.clone();
        match random.u8(..3) {
            0 => Page { calls: Vec::new(), next: Some("0".to_owned()) },
            1 => Page { calls: page.calls, next: token.map(str::to_owned).or(next) },
            _ => Page { calls: Vec::new(), next },
        }
    }

    /// A page of a list, newest first, and where the next begins. Tokens count from the start, so
    /// that pages shift while they are read.
    pub(super) fn list(&self, filter: Filter, token: Option<&str>, now: i64) -> Page {
        let mut calls: Vec<Call> = self
            .legs
            .iter()
            .filter(|leg| leg.listed_at <= now)
            .map(|leg| leg.shown(now))
            .filter(|call| self.passes(call, filter))
            .collect();
        calls.sort_by_key(|call| std::cmp::Reverse(call.start_time.unwrap_or(Timestamp::MAX)));
        let from = token.and_then(|token| token.parse().ok()).unwrap_or(0);
        let rest = calls.split_off(calls.len().min(from));
        let next = (rest.len() > self.page_size).then(|| (from + self.page_size).to_string());
        Page { calls: rest.into_iter().take(self.page_size).collect(), next }
    }

    fn passes(&self, call: &Call, filter: Filter) -> bool {
        let from = |at: Timestamp| {
            let second = at.as_second();
            instant(if self.cuts_filters { second - second % DAY } else { second })
        };
        match filter {
            Filter::StartedFrom(at) => call.start_time.is_some_and(|start| start >= from(at)),
            Filter::EndedFrom(at) => call.end_time.is_some_and(|end| end >= from(at)),
            Filter::Status(status) => call.status == status,
            Filter::Everything => true,
        }
    }

    /// A call, fetched singly.
    pub(super) fn call(&self, sid: CallSid, now: i64) -> Option<Call> {
        self.legs.iter().find(|leg| leg.sid == sid).map(|leg| leg.shown(now))
    }

    /// The events of a call as they are shown now, in any order.
    pub(super) fn call_events(&self, sid: CallSid, now: i64, random: &mut Rng) -> Vec<CallEvent> {
        let leg = self.legs.iter().find(|leg| leg.sid == sid);
        let events = leg.into_iter().flat_map(|leg| &leg.events);
        let mut shown: Vec<CallEvent> =
            events.filter(|event| event.shown_at <= now).map(|event| event.shown(now)).collect();
        random.shuffle(&mut shown);
        // For one read, before it matters, a list may have shrunk.
        if leg.is_some_and(|leg| now < leg.ends_at + SHOWN_WITHIN) && random.u8(..8) == 0 {
            shown.pop();
        }
        shown
    }

    /// What must have been counted in the end.
    pub(super) fn truth(&self) -> BTreeMap<Key, u64> {
        self.count(|leg, event| event.shown_at <= leg.ends_at + SHOWN_WITHIN)
    }

    /// What may have been counted in the end: events that appear after settling, too.
    pub(super) fn at_most(&self) -> BTreeMap<Key, u64> {
        self.count(|_, _| true)
    }

    /// How many calls have an outcome at least and at most: what is filled in or shown late may decide it,
    /// or come too late for that.
    pub(super) fn outcomes(&self) -> std::ops::RangeInclusive<u64> {
        let calls_with = |decides: fn(&Event) -> bool| {
            let has_any = |leg: &&Leg| leg.events.iter().any(decides);
            self.legs.iter().filter(has_any).count() as u64
        };
        let least = calls_with(|event| {
            let has_failed = event.answered_at == i64::MAX || event.code != 200;
            event.route == "/voice" && has_failed
        });
        least..=calls_with(|event| {
            let may_fail = event.route == FILLED || event.answered_at == i64::MAX;
            event.status == "in-progress" && (may_fail || event.code != 200)
        })
    }

    fn count(&self, is_counted: impl Fn(&Leg, &Event) -> bool) -> BTreeMap<Key, u64> {
        let mut truth = BTreeMap::new();
        for leg in &self.legs {
            *truth.entry(("calls".to_owned(), leg.ends_as.to_string())).or_default() += 1;
            for event in leg.events.iter().filter(|event| is_counted(leg, event)) {
                let code =
                    if event.answered_at == i64::MAX { "none" } else { &event.code.to_string() };
                *truth.entry(key(event.route, code)).or_default() += 1;
            }
        }
        truth
    }
}

impl Leg {
    /// Goes on for a day, with events all along.
    fn last_a_day(&mut self, random: &mut Rng) {
        self.ends_at = self.starts_at + DAY;
        self.ends_as = CallStatus::Completed;
        for _ in 0..random.u8(1..20) {
            let at = self.starts_at + random.i64(0..DAY);
            let mut event = event(random, at, self.ends_at, true);
            event.shown_at = event.shown_at.min(self.ends_at + SHOWN_WITHIN);
            self.events.push(event);
        }
        // What would have come late comes in time now.
        for event in self.events.iter_mut().filter(|event| event.route == "/late") {
            event.route = "/voice";
        }
    }

    fn shown(&self, now: i64) -> Call {
        let has_started = now >= self.starts_at;
        let has_ended = now >= self.ends_at;
        let status = match (has_started, has_ended) {
            (false, _) => CallStatus::Queued,
            (true, false) => CallStatus::InProgress,
            (true, true) => self.ends_as,
        };
        Call {
            sid: self.sid,
            status,
            direction: self.direction,
            start_time: has_started.then(|| instant(self.starts_at)),
            end_time: (has_ended && self.tells_end).then(|| instant(self.ends_at)),
            date_created: None,
            date_updated: (has_ended && self.tells_update).then(|| instant(self.ends_at)),
        }
    }
}

impl Event {
    fn shown(&self, now: i64) -> CallEvent {
        let names = ["call_sid", "call_status", "from"].map(|name| (name.to_owned(), ()));
        let mut parameters = Parameters::collect(names, |()| None);
        parameters.call_status = Some(self.status.to_owned());
        let is_redacted = now >= self.redacted_at;
        let body = if is_redacted { Body::Absent } else { Body::Text("<Response/>".to_owned()) };
        CallEvent {
            request: Request {
                method: "POST".to_owned(),
                url: format!("https://u:p@app.example{}?q={now}", self.route),
                parameters,
            },
            response: (now >= self.answered_at).then(|| Response {
                code: Some(self.code),
                duration_ms: Some(40),
                content_type: Some("text/xml".to_owned()),
                body,
                created_at: Some(instant(self.at)),
            }),
        }
    }
}

fn leg(random: &mut Rng, number: u64, span: i64, shows_live: bool) -> Leg {
    let starts_at = BEGINNING + random.i64(60..span);
    let length = match random.u8(..10) {
        0 => 0,
        1 => random.i64(600..2 * 3600),
        _ => random.i64(1..300),
    };
    let queued = if random.u8(..6) == 0 { random.i64(1..120) } else { 0 };
    let ends_at = starts_at + length;
    let delay = if random.u8(..5) == 0 { random.i64(0..240) } else { 0 };
    let ends_as = if length == 0 { CallStatus::Failed } else { CallStatus::Completed };
    let tells_end = length > 0 || random.bool();
    let mut events: Vec<Event> = Vec::new();
    for _ in 0..random.u8(0..8) {
        let at = starts_at + random.i64(0..=length);
        let event = event(random, at, ends_at, shows_live);
        // Some come in pairs that nothing tells apart.
        if random.u8(..6) == 0 {
            events.push(event.clone());
        }
        events.push(event);
    }
    Leg {
        sid: CallSid::parse(&format!("CA{number:032x}")).expect("a SID"),
        direction: *random
            .choice(&[Direction::Inbound, Direction::OutboundDial])
            .expect("one of two"),
        starts_at,
        ends_at,
        listed_at: starts_at - queued + delay,
        ends_as,
        tells_end,
        tells_update: random.bool(),
        events,
    }
}

fn event(random: &mut Rng, at: i64, ends_at: i64, shows_live: bool) -> Event {
    let shown_at = if shows_live && random.u8(..4) > 0 {
        at + random.i64(0..30)
    } else {
        ends_at + random.i64(0..SHOWN_WITHIN)
    };
    let (shown_at, route) = match random.u8(..12) {
        0 => (ends_at + random.i64(30 * 60..60 * 60), "/late"),
        1..4 => (shown_at, "/status"),
        _ => (shown_at, "/voice"),
    };
    let (answered_at, route) = match random.u8(..10) {
        _ if route == "/late" => (at, route),
        0 => (i64::MAX, route),
        1 => (ends_at + random.i64(20 * 60..90 * 60), FILLED),
        2 => (random.i64(shown_at..=ends_at + SHOWN_WITHIN), route),
        _ => (at, route),
    };
    Event {
        at,
        shown_at: shown_at.min(if route == "/late" { i64::MAX } else { ends_at + SHOWN_WITHIN }),
        answered_at,
        redacted_at: if random.u8(..5) == 0 { at + random.i64(0..3600) } else { i64::MAX },
        route,
        status: if route == "/status" { "completed" } else { "in-progress" },
        code: *random.choice(&[200, 200, 500, 404]).expect("one of four"),
    }
}

pub(super) fn instant(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time within the world")
}
