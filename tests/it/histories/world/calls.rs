//! The calls of a world and their Call Events: when each happens and when Twilio shows it.

use fastrand::Rng;
use twilio_call_exporter::domain::words::call::{Call, CallStatus, Direction};
use twilio_call_exporter::domain::words::call_event::{Body, CallEvent, Request, Response};
use twilio_call_exporter::domain::words::error_log::{ErrorCode, Level, LoggedError, Product};
use twilio_call_exporter::domain::words::parameters::Parameters;
use twilio_call_exporter::domain::words::sid::{CallSid, ErrorLogSid};

use super::{DAY, FILLED, SHOWN_WITHIN, START, instant};

/// A call with its events.
pub(super) struct Leg {
    pub(super) sid: CallSid,
    pub(super) direction: Direction,
    pub(super) starts_at: i64,
    pub(super) ends_at: i64,
    /// When the call first appears in lists.
    pub(super) listed_at: i64,
    pub(super) ends_as: CallStatus,
    pub(super) has_end_time: bool,
    pub(super) has_update_time: bool,
    pub(super) events: Vec<Event>,
    pub(super) reports: Vec<Report>,
}

/// An entry of the error log.
pub(super) struct Report {
    number: u64,
    call: CallSid,
    pub(super) at: i64,
    pub(super) shown_at: i64,
    pub(super) code: u32,
    /// The route of a call's webhook; `None` for a message.
    pub(super) route: Option<&'static str>,
}

/// A Call Event.
#[derive(Clone)]
pub(super) struct Event {
    pub(super) at: i64,
    pub(super) shown_at: i64,
    /// When its response is added; `i64::MAX` if never.
    pub(super) answered_at: i64,
    /// When its body is redacted; `i64::MAX` if never.
    pub(super) redacted_at: i64,
    pub(super) route: &'static str,
    pub(super) status: &'static str,
    pub(super) code: i64,
    /// Whether it is too large to read.
    pub(super) is_too_large: bool,
}

impl Leg {
    /// Extends the call to a day and adds events throughout it.
    pub(super) fn extend_to_a_day(&mut self, random: &mut Rng) {
        self.ends_at = self.starts_at + DAY;
        self.ends_as = CallStatus::Completed;
        for _ in 0..random.u8(1..20) {
            let at = self.starts_at + random.i64(0..DAY);
            let mut event = event(random, at, self.ends_at, true);
            event.shown_at = event.shown_at.min(self.ends_at + SHOWN_WITHIN);
            self.events.push(event);
        }
        // Events that would have appeared late now appear in time.
        for event in self.events.iter_mut().filter(|event| event.route == "/late") {
            event.route = "/voice";
        }
    }

    /// Adds 45 to 69 events, so that they usually don't fit on a page of fifty.
    pub(super) fn add_many_events(&mut self, random: &mut Rng) {
        let (starts_at, ends_at) = (self.starts_at, self.ends_at);
        for _ in 0..random.u8(45..70) {
            let at = random.i64(starts_at..=ends_at);
            self.events.push(event(random, at, ends_at, false));
        }
    }

    pub(super) fn shown(&self, now: i64) -> Call {
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
            end_time: (has_ended && self.has_end_time).then(|| instant(self.ends_at)),
            date_created: None,
            date_updated: (has_ended && self.has_update_time).then(|| instant(self.ends_at)),
        }
    }
}

impl Report {
    fn new(random: &mut Rng, call: CallSid, at: i64) -> Self {
        // Most appear within a minute, some up to nine minutes late.
        let delay = if random.u8(..5) == 0 { random.i64(60..540) } else { random.i64(0..60) };
        let route = (random.u8(..6) > 0).then_some("/voice");
        let code = if route.is_some() {
            *random.choice(&[11_200, 11_205, 12_100]).expect("one of three")
        } else {
            30_007
        };
        Self { number: random.u64(..), call, at, shown_at: at + delay, code, route }
    }

    pub(super) fn shown(&self) -> LoggedError {
        let is_voice = self.route.is_some();
        LoggedError {
            sid: ErrorLogSid::parse(&format!("NO{:032x}", self.number)).expect("a valid SID"),
            account: None,
            product: if is_voice { Product::Voice } else { Product::Messaging },
            call_sid: is_voice.then_some(self.call),
            code: ErrorCode::Number(self.code),
            level: Level::Error,
            request_url: self.route.map(|route| format!("https://u:p@app.example{route}?q=1")),
            generated_at: Some(instant(self.at)),
        }
    }
}

impl Event {
    pub(super) fn shown(&self, now: i64) -> CallEvent {
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

pub(super) fn leg(random: &mut Rng, number: u64, span: i64, shows_live: bool) -> Leg {
    let starts_at = START + random.i64(60..span);
    let length = match random.u8(..10) {
        0 => 0,
        1 => random.i64(600..2 * 3600),
        _ => random.i64(1..300),
    };
    let queued = if random.u8(..6) == 0 { random.i64(1..120) } else { 0 };
    let ends_at = starts_at + length;
    let delay = if random.u8(..5) == 0 { random.i64(0..240) } else { 0 };
    let ends_as = if length == 0 { CallStatus::Failed } else { CallStatus::Completed };
    let has_end_time = length > 0 || random.bool();
    let mut events: Vec<Event> = Vec::new();
    for _ in 0..random.u8(0..8) {
        let at = starts_at + random.i64(0..=length);
        let event = event(random, at, ends_at, shows_live);
        // Some events come in indistinguishable pairs.
        if random.u8(..6) == 0 {
            events.push(event.clone());
        }
        events.push(event);
    }
    let sid = CallSid::parse(&format!("CA{number:032x}")).expect("a valid SID");
    let reports = (0..random.u8(0..5))
        .map(|_| {
            let at = starts_at + random.i64(0..=length);
            Report::new(random, sid, at)
        })
        .collect();
    Leg {
        sid,
        direction: *random
            .choice(&[Direction::Inbound, Direction::OutboundDial])
            .expect("one of two"),
        starts_at,
        ends_at,
        listed_at: starts_at - queued + delay,
        ends_as,
        has_end_time,
        has_update_time: random.bool(),
        events,
        reports,
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
        is_too_large: false,
    }
}
