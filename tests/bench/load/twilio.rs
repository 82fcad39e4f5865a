//! A Twilio with canned responses, which cost as little CPU time as possible so that they don't distort the results.
//!
//! All calls ended more than a quarter of an hour ago, so the settling reads of all of them are due immediately.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::io::Write;

use twilio_call_exporter::clock::Clock;

use super::ROLE;
use super::process::Process;

/// The number of calls on a page of a list.
const PAGE: u64 = 1_000;
/// The number of different pages of Call Events: too many to stay in the processor's cache by chance.
const TEMPLATES: u64 = 64;
/// How long ago the first call began, and the period in which all calls began.
const BEGAN_AGO: Duration = Duration::from_secs(58 * 60);
const WITHIN: Duration = Duration::from_secs(38 * 60);

/// The amount of data to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// The number of accounts.
    pub accounts: u64,
    /// The number of calls per account.
    pub calls: u64,
    /// The number of Call Events per call.
    pub events: u64,
    /// The number of different paths in their URLs.
    pub routes: u64,
    /// Whether responses are compressed.
    pub is_gzip: bool,
    /// How long each response takes. Over the internet, Twilio takes at least 50 ms.
    pub delay_ms: u64,
}

impl Shape {
    /// Returns the total number of Call Events.
    pub(crate) fn total(self) -> u64 {
        self.accounts * self.calls * self.events
    }

    fn to_text(self) -> String {
        let Self { accounts, calls, events, routes, is_gzip, delay_ms } = self;
        format!("{accounts} {calls} {events} {routes} {} {delay_ms}", u8::from(is_gzip))
    }

    fn from_text(text: &str) -> anyhow::Result<Self> {
        let numbers: Vec<u64> = text.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [accounts, calls, events, routes, gzip, delay_ms] = numbers[..] else {
            anyhow::bail!("`{text}` isn't a shape")
        };
        Ok(Self { accounts, calls, events, routes, is_gzip: gzip == 1, delay_ms })
    }
}

/// Starts the Twilio as a process. Returns the process and its base URL.
pub(crate) fn start(shape: Shape) -> anyhow::Result<(Process, String)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(ROLE, "twilio").env("LOAD_SHAPE", shape.to_text());
    let mut process = Process::start(&mut command)?;
    let url = process.line().context("the benchmark's Twilio didn't start")?;
    Ok((process, url))
}

/// Runs as the process of the Twilio.
pub(crate) fn run() -> anyhow::Result<()> {
    let shape = Shape::from_text(&std::env::var("LOAD_SHAPE")?)?;
    let canned = Arc::new(Canned::new(shape, Clock::start().now())?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("http://{}", listener.local_addr()?);
        axum::serve(listener, Router::new().fallback(answer).with_state(canned)).await?;
        Ok(())
    })
}

pub(crate) fn account_sid(number: u64) -> String {
    format!("AC{number:032x}")
}

pub(crate) fn call_sid(account: u64, number: u64) -> String {
    format!("CA{account:08x}{number:024x}")
}

/// The responses, rendered in advance.
struct Canned {
    is_gzip: bool,
    delay: Duration,
    /// The pages of each account's list of calls.
    lists: Vec<Vec<Bytes>>,
    empty: Bytes,
    events: Vec<Bytes>,
    newest: Timestamp,
}

impl Canned {
    fn new(shape: Shape, now: Timestamp) -> anyhow::Result<Self> {
        let pack = |value: &Value| pack(value, shape.is_gzip);
        let pages = shape.calls.div_ceil(PAGE);
        let page = |account: u64, page: u64| {
            let numbers = page * PAGE..shape.calls.min((page + 1) * PAGE);
            let calls: Vec<Value> =
                numbers.map(|number| call(account, number, shape.calls, now)).collect();
            let next = format!(
                "/2010-04-01/Accounts/{}/Calls.json?PageSize=1000&Page={}",
                account_sid(account),
                page + 1
            );
            json!({ "calls": calls, "next_page_uri": (page + 1 < pages).then_some(next) })
        };
        let list = |account| (0..pages).map(|number| pack(&page(account, number))).collect();
        let lists = (0..shape.accounts).map(list).collect::<anyhow::Result<_>>()?;
        let events = |template| {
            let events: Vec<Value> =
                (0..shape.events).map(|event| call_event(template, event, shape, now)).collect();
            json!({ "events": events, "next_page_uri": null })
        };
        Ok(Self {
            is_gzip: shape.is_gzip,
            delay: Duration::from_millis(shape.delay_ms),
            lists,
            empty: pack(&json!({ "calls": [], "next_page_uri": null }))?,
            events: (0..TEMPLATES)
                .map(|template| pack(&events(template)))
                .collect::<anyhow::Result<_>>()?,
            newest: now - BEGAN_AGO + WITHIN,
        })
    }

    fn body(&self, path: &str, query: &[(String, String)]) -> Option<&Bytes> {
        let mut parts = path.strip_prefix("/2010-04-01/Accounts/AC")?.split('/');
        let account = usize::from_str_radix(parts.next()?, 16).ok()?;
        match (parts.next()?, parts.next()) {
            ("Calls.json", None) => {
                let value = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, v)| v);
                let from = value("StartTime>").or_else(|| value("EndTime>"));
                let from = from.and_then(|at| at.parse::<Timestamp>().ok());
                if value("Status").is_some() || from.is_some_and(|from| self.newest < from) {
                    return Some(&self.empty);
                }
                let page = value("Page").and_then(|page| page.parse().ok()).unwrap_or(0);
                self.lists.get(account)?.get::<usize>(page)
            }
            ("Calls", Some(call)) => {
                let number = usize::from_str_radix(call.get(30..)?, 16).ok()?;
                self.events.get(number % self.events.len())
            }
            _ => None,
        }
    }
}

async fn answer(
    State(canned): State<Arc<Canned>>,
    uri: Uri,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let Some(body) = canned.body(uri.path(), &query) else {
        return axum::http::StatusCode::NOT_FOUND.into_response();
    };
    if !canned.delay.is_zero() {
        tokio::time::sleep(canned.delay).await;
    }
    let date = Clock::start().now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.extend(date.parse().ok().map(|date| (header::DATE, date)));
    if canned.is_gzip {
        headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
    }
    (headers, body.clone()).into_response()
}

fn pack(value: &Value, is_gzip: bool) -> anyhow::Result<Bytes> {
    let text = value.to_string();
    if !is_gzip {
        return Ok(Bytes::from(text));
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes())?;
    Ok(Bytes::from(encoder.finish()?))
}

fn rfc2822(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// Returns the JSON of a call. The call with the lowest number is the newest.
fn call(account: u64, number: u64, calls: u64, now: Timestamp) -> Value {
    let position = u32::try_from(calls - number).unwrap_or(u32::MAX);
    let began_at = now - BEGAN_AGO + WITHIN / u32::try_from(calls).unwrap_or(u32::MAX) * position;
    let (sid, account) = (call_sid(account, number), account_sid(account));
    let path = format!("/2010-04-01/Accounts/{account}/Calls/{sid}");
    json!({
        "sid": sid, "account_sid": account, "parent_call_sid": null, "phone_number_sid": null,
        "status": "completed", "direction": "inbound", "answered_by": null,
        "from": "+15550100001", "from_formatted": "(555) 010-0001",
        "to": "+15550100002", "to_formatted": "(555) 010-0002",
        "date_created": rfc2822(began_at), "date_updated": rfc2822(began_at),
        "start_time": rfc2822(began_at), "end_time": rfc2822(began_at + Duration::from_secs(60)),
        "duration": "60", "price": "-0.00850", "price_unit": "USD", "api_version": "2010-04-01",
        "forwarded_from": null, "caller_name": null, "group_sid": null, "trunk_sid": null,
        "queue_time": "0", "uri": format!("{path}.json"),
        "subresource_uris": { "events": format!("{path}/Events.json") },
    })
}

/// Returns the JSON of a Call Event with 24 parameters and 1 kB of TwiML. One in a hundred fails.
fn call_event(template: u64, event: u64, shape: Shape, now: Timestamp) -> Value {
    let number = template * shape.events + event;
    let prompt = format!(
        "<Say voice=\"Polly.Amy\">Thank you for calling. You are caller number {number}. For opening hours, \
         press one. To hear about an order, press two, followed by the number of your order and \
         the hash key. To speak to a person, stay on the line.</Say>"
    );
    let twiml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Gather numDigits=\"1\" timeout=\"5\">{prompt}{prompt}{prompt}</Gather>\
         <Redirect method=\"POST\">/ivr/again</Redirect></Response>"
    );
    let is_failing = number.is_multiple_of(100);
    json!({
        "request": {
            "method": "POST",
            "url": format!("https://ivr.example.com/menu/{}?lang=en", word(number % shape.routes)),
            "parameters": {
                "AccountSid": account_sid(0), "ApiVersion": "2010-04-01",
                "CallSid": call_sid(0, template), "CallStatus": "in-progress", "Direction": "inbound",
                "Called": "+15550100002", "CalledCity": "SPRINGFIELD", "CalledCountry": "US",
                "CalledState": "IL", "CalledZip": "62701", "Caller": "+15550100001",
                "CallerCity": "SPRINGFIELD", "CallerCountry": "US", "CallerState": "IL",
                "CallerZip": "62701", "Digits": format!("{}", number % 10), "FinishedOnKey": "",
                "From": "+15550100001", "FromCity": "SPRINGFIELD", "FromCountry": "US",
                "To": "+15550100002", "ToCity": "SPRINGFIELD", "ToCountry": "US", "msg": "Gather End",
            },
        },
        "response": {
            "response_code": if is_failing { 503 } else { 200 },
            "request_duration": 40 + number % 700,
            "content_type": if is_failing { "text/html" } else { "text/xml; charset=utf-8" },
            "response_body": if is_failing { "<html>Service Unavailable</html>".to_owned() } else { twiml },
            "date_created": rfc2822(now - BEGAN_AGO + Duration::from_secs(event)),
        },
    })
}

/// Spells a number in letters, so that paths don't look like they contain IDs.
fn word(mut number: u64) -> String {
    let mut word = String::from("m");
    loop {
        word.push(char::from(
            b"abcdefghijklmnopqrstuvwxyz"[usize::try_from(number % 26).unwrap_or(0)],
        ));
        number /= 26;
        if number == 0 {
            return word;
        }
    }
}
