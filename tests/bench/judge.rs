//! The cost of judging one Call Event, from the decoded wire type to its observation.
//!
//! `cargo bench --bench judge`. The bodies have the size of real TwiML, 1.5 kB. The floor is the time
//! quick-xml takes to read the same text.

use divan::{Bencher, black_box};
use quick_xml::Reader;
use quick_xml::events::Event;
use twilio_call_exporter::domain::judge::observe::observe;
use twilio_call_exporter::domain::judge::route::{RoutePattern, Routes};
use twilio_call_exporter::domain::judge::verdict::Reason;
use twilio_call_exporter::domain::words::call_event::{Body, CallEvent, Request, Response};
use twilio_call_exporter::domain::words::parameters::Parameters;

/// The size of the bodies in bytes.
const BODY: usize = 1_500;

fn main() {
    divan::main();
}

/// A menu with sentences as prompts: 10 elements.
#[divan::bench]
fn twiml_of_sentences(bencher: Bencher<'_, '_>) {
    bench_twiml(bencher, sentences());
}

/// The same size with as much markup as possible: 34 elements.
#[divan::bench]
fn twiml_of_markup(bencher: Bencher<'_, '_>) {
    bench_twiml(bencher, markup());
}

fn bench_twiml(bencher: Bencher<'_, '_>, body: String) {
    let (event, routes) = (event(200, "text/xml; charset=utf-8", body), routes());
    let judged = observe(&event, &routes).expect("an observation");
    assert_eq!((judged.verdict.failure, judged.verdict.is_unjudged), (None, false));
    bencher.bench_local(|| observe(black_box(&event), black_box(&routes)));
}

/// An HTML error page that a framework returns with status 200.
#[divan::bench]
fn html_of_1500_bytes(bencher: Bencher<'_, '_>) {
    let page = format!("<html><body><p>{}</p></body></html>", "Something went wrong. ".repeat(66));
    let (event, routes) = (event(200, "text/html", page), routes());
    let judged = observe(&event, &routes).expect("an observation");
    assert_eq!(judged.verdict.failure, Some(Reason::NotTwiml));
    bencher.bench_local(|| observe(black_box(&event), black_box(&routes)));
}

/// A request without a response, as Twilio's proxy reports it.
#[divan::bench]
fn no_answer(bencher: Bencher<'_, '_>) {
    let text = "Twilio was unable to fetch content from: https://app.example.com/ivr/main/menu\n\
                Error: Total timeout is triggered. Configured tt is 15000ms and we attempted 1 time(s)\n";
    let (event, routes) = (event(502, "text/html", text.to_owned()), routes());
    let judged = observe(&event, &routes).expect("an observation");
    assert_eq!(judged.verdict.failure, Some(Reason::Timeout));
    bencher.bench_local(|| observe(black_box(&event), black_box(&routes)));
}

/// The floor: the same 1.5 kB of sentences read by quick-xml, without judging.
#[divan::bench]
fn floor_of_sentences(bencher: Bencher<'_, '_>) {
    bench_floor(bencher, &sentences());
}

/// The floor: the same 1.5 kB of markup read by quick-xml, without judging.
#[divan::bench]
fn floor_of_markup(bencher: Bencher<'_, '_>) {
    bench_floor(bencher, &markup());
}

fn bench_floor(bencher: Bencher<'_, '_>, text: &str) {
    bencher.bench_local(|| {
        let mut reader = Reader::from_str(black_box(text));
        let mut events = 0_u32;
        while !matches!(reader.read_event().expect("XML"), Event::Eof) {
            events += 1;
        }
        events
    });
}

const HEAD: &str = concat!(
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response>\n",
    "  <Gather action=\"/ivr/main/menu?step=2&amp;lang=en\" numDigits=\"1\" timeout=\"5\" method=\"POST\">\n",
);
const TAIL: &str =
    "  </Gather>\n  <Redirect method=\"POST\">/ivr/main/menu?again=1</Redirect>\n</Response>\n";

/// A menu with as many choices as fit.
fn menu(choice: impl Fn(usize) -> String) -> String {
    let choices = (1..).map(choice);
    let mut text = HEAD.to_owned();
    for choice in choices {
        if text.len() + choice.len() + TAIL.len() > BODY {
            let padding = " ".repeat(BODY - text.len() - TAIL.len());
            return text + &padding + TAIL;
        }
        text.push_str(&choice);
    }
    unreachable!("choices are infinite")
}

fn sentences() -> String {
    menu(|number| {
        format!(
            "    <Say voice=\"Polly.Joanna\" language=\"en-US\">If you are calling about an order that you \
             placed on our website in the last thirty days, press {number}.</Say>\n"
        )
    })
}

fn markup() -> String {
    menu(|number| {
        format!("    <Say voice=\"alice\">Press {number}.</Say>\n    <Pause length=\"1\"/>\n")
    })
}

fn event(code: i64, content_type: &str, body: String) -> CallEvent {
    let pairs = [
        ("call_sid", "CA"),
        ("account_sid", "AC"),
        ("call_status", "in-progress"),
        ("direction", "inbound"),
        ("from", "x"),
        ("to", "y"),
        ("api_version", "2010-04-01"),
        ("from_city", ""),
        ("from_country", "US"),
        ("from_state", ""),
        ("from_zip", ""),
        ("to_city", ""),
        ("to_country", "US"),
        ("to_state", ""),
        ("to_zip", ""),
        ("called", "y"),
        ("caller", "x"),
        ("digits", "1"),
        ("finished_on_key", ""),
        ("msg", "Gather End"),
    ];
    let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value));
    CallEvent {
        request: Request {
            method: "POST".to_owned(),
            url: "https://app.example.com/ivr/4f9c2d31-6a52-4b58-9d5e-3a2f10c7e9aa/menu?step=1"
                .to_owned(),
            parameters: Parameters::collect(pairs, |value| Some(value.to_owned())),
        },
        response: Some(Response {
            code: Some(code),
            duration_ms: Some(143),
            content_type: Some(content_type.to_owned()),
            body: Body::Text(body),
            created_at: None,
        }),
    }
}

fn routes() -> Routes {
    let patterns =
        ["/api/:tenant/voice", "*.preview.example.com/ivr/:tenant", "/ivr/:tenant/status"];
    Routes::new(patterns.map(|text| RoutePattern::parse(text).expect("a pattern")).to_vec())
}
