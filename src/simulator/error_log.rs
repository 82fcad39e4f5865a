//! Twilio's error log: the entries that an account's calls leave in it, and when it shows them. They come
//! from the same scripts as Call Events, so that both report the same failures.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::behaviour::Behaviour;
use super::draft::Detail;
use super::random::hash;
use super::script::{Call, Expected, ExpectedWebhook, made_up_sid, seconds_after};
use super::world::World;

/// The maximum number of entries that Twilio returns for one query.
const MAX_ENTRIES: usize = 10_000;
/// The maximum delay of an entry: entries that may still appear were generated since then.
pub(crate) const MAX_DELAY: SignedDuration = SignedDuration::from_hours(1);
/// One call in this many also leaves an entry about a message.
const MESSAGE_ONE_IN: u64 = 10;
/// One call in this many also leaves an entry of another product, with the level `notice`.
const NOTICE_ONE_IN: u64 = 15;
/// One entry in this many is late, if the behaviour says so.
const LATE_ONE_IN: u64 = 4;

/// An entry and its truth.
#[derive(Clone, Debug)]
pub(crate) struct LoggedError {
    pub(crate) sid: String,
    pub(crate) generated_at: Timestamp,
    pub(crate) shown_at: Timestamp,
    pub(crate) resource_sid: String,
    pub(crate) code: u32,
    pub(crate) level: &'static str,
    pub(crate) url: String,
    /// The values of the labels product, host and route.
    pub(crate) endpoint: [String; 3],
}

impl LoggedError {
    /// The values of the labels error code and level.
    pub(crate) fn code_and_level(&self) -> [String; 2] {
        [self.code.to_string(), self.level.to_owned()]
    }

    /// Formats the entry as Twilio does.
    fn alert(&self, account_sid: &str) -> Value {
        let date = self.generated_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let level = self.level.to_uppercase();
        json!({
            "sid": self.sid,
            "account_sid": account_sid,
            "resource_sid": self.resource_sid,
            "service_sid": null,
            "error_code": self.code.to_string(),
            "log_level": self.level,
            "alert_text": format!("Msg=Caller+%2B15005550006&ErrorCode={}&LogLevel={level}", self.code),
            "more_info": format!("https://www.twilio.com/docs/errors/{}", self.code),
            "request_method": "POST",
            "request_url": self.url,
            "api_version": "2010-04-01",
            "date_generated": date,
            "date_created": date,
            "date_updated": date,
            "url": format!("https://monitor.twilio.com/v1/Alerts/{}", self.sid),
        })
    }
}

/// The entries of an account that were generated from `from` on and are visible at `now`, newest first.
pub(crate) fn entries(
    world: &World,
    account: usize,
    from: Timestamp,
    now: Timestamp,
    behaviour: &Behaviour,
) -> Vec<LoggedError> {
    let window = world.window_ended(from.checked_sub(MAX_DELAY).unwrap_or(from), now);
    let calls = (window.from..window.to).flat_map(|number| {
        world.calls(account, number, Detail::Full).into_iter().map(move |call| (number, call))
    });
    let mut entries: Vec<LoggedError> =
        calls.flat_map(|(number, call)| call_entries(number, &call, behaviour)).collect();
    entries.retain(|entry| from <= entry.generated_at && entry.shown_at <= now);
    entries.sort_by(|a, b| (b.generated_at, &b.sid).cmp(&(a.generated_at, &a.sid)));
    entries
}

/// The log as Twilio's list shows it.
pub(crate) fn alerts(
    world: &World,
    account: usize,
    from: Timestamp,
    now: Timestamp,
    behaviour: &Behaviour,
) -> Vec<Value> {
    let account_sid = &world.accounts()[account].sid;
    let mut shown: Vec<Value> = entries(world, account, from, now, behaviour)
        .iter()
        .map(|entry| entry.alert(account_sid))
        .collect();
    if behaviour.error_log_repeats {
        shown = shown.into_iter().flat_map(|alert| [alert.clone(), alert]).collect();
    }
    shown.truncate(MAX_ENTRIES);
    shown
}

fn call_entries(number: u64, call: &Call, behaviour: &Behaviour) -> Vec<LoggedError> {
    let new_entry = |index: u64, at, resource_sid: String, (code, level), url: String, endpoint| {
        let seed = hash(&[hash(&[number, index]), u64::from(code), call_number(call)]);
        let is_late = seed.is_multiple_of(LATE_ONE_IN);
        let late = if is_late { behaviour.error_log_late } else { 0 };
        LoggedError {
            sid: made_up_sid("NO", seed),
            generated_at: at,
            shown_at: seconds_after(at, behaviour.error_log_after + late),
            resource_sid,
            code,
            level,
            url,
            endpoint,
        }
    };
    let mut entries = Vec::new();
    for (index, event) in (0..).zip(&call.events) {
        let Expected::Webhook(webhook) = &event.expected else { continue };
        let Some(code_and_level) = code(webhook) else { continue };
        let url = event.item["request"]["url"].as_str().unwrap_or_default().to_owned();
        let endpoint = ["voice".to_owned(), webhook.host.clone(), webhook.route.clone()];
        entries.push(new_entry(index, event.at, call.sid.clone(), code_and_level, url, endpoint));
    }
    if number.is_multiple_of(MESSAGE_ONE_IN) && call.parent_call_sid.is_none() {
        let url = "https://sms.example.com/in?Body=secret".to_owned();
        let endpoint = ["messaging".to_owned(), String::new(), String::new()];
        let message = made_up_sid("SM", number);
        let at = call.created_at;
        entries.push(new_entry(u64::MAX, at, message, (30_007, "warning"), url, endpoint));
    }
    if number.is_multiple_of(NOTICE_ONE_IN) && call.parent_call_sid.is_none() {
        let url = "https://flows.example.com/in?Body=secret".to_owned();
        let endpoint = ["other".to_owned(), String::new(), String::new()];
        let execution = made_up_sid("FN", number);
        entries.push(new_entry(
            u64::MAX - 1,
            call.created_at,
            execution,
            (81_000, "notice"),
            url,
            endpoint,
        ));
    }
    entries
}

fn call_number(call: &Call) -> u64 {
    u64::from_str_radix(&call.sid[18..], 16).unwrap_or_default()
}

/// The code and level with which Twilio logs a webhook's failure.
fn code(webhook: &ExpectedWebhook) -> Option<(u32, &'static str)> {
    if webhook.has_succeeded.is_none() && webhook.failure.is_some() {
        return Some((15_003, "warning"));
    }
    match (webhook.failure, webhook.warning) {
        (Some("dns"), _) => Some((11_210, "error")),
        (Some("connection" | "timeout"), _) => Some((11_205, "error")),
        (Some("tls"), _) => Some((11_220, "error")),
        (Some("too_large"), _) => Some((11_750, "error")),
        (Some("malformed_xml" | "wrong_root" | "empty_body"), _) => Some((12_100, "error")),
        (Some("unsupported_content_type" | "not_twiml" | "missing_content_type"), _) => {
            Some((12_300, "error"))
        }
        (Some(_), _) => Some((11_200, "error")),
        (None, Some("unknown_verb")) => Some((12_200, "warning")),
        (None, Some(_) | None) => None,
    }
}
