//! Answers for Twilio's error log: which entries the calls of an account leave in it, and when it shows them.
//! They are written from the same scripts as Call Events, so that both tell of the same failures.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::behaviour::Behaviour;
use super::draft::Detail;
use super::random::hash;
use super::script::{Call, Expected, ExpectedWebhook, made_up_sid, seconds_after};
use super::world::World;

/// Most entries that Twilio shows for one question.
const MAX_ENTRIES: usize = 10_000;
/// How late an entry is at most: what may still appear has happened since.
pub(crate) const LATEST: SignedDuration = SignedDuration::from_hours(1);
/// One call in so many leaves an entry of a message, too.
const MESSAGE_ONE_IN: u64 = 10;
/// One call in so many leaves an entry of another product, which is only worth knowing.
const NOTICE_ONE_IN: u64 = 15;
/// One entry in so many is late, when that is the behaviour.
const LATE_ONE_IN: u64 = 4;

/// One entry, and its truth.
#[derive(Clone, Debug)]
pub(crate) struct LoggedError {
    pub(crate) sid: String,
    pub(crate) generated_at: Timestamp,
    pub(crate) shown_at: Timestamp,
    pub(crate) resource_sid: String,
    pub(crate) code: u32,
    pub(crate) level: &'static str,
    pub(crate) url: String,
    /// The label values of product, host and route.
    pub(crate) place: [String; 3],
}

impl LoggedError {
    /// The label values of error code and level.
    pub(crate) fn what(&self) -> [String; 2] {
        [self.code.to_string(), self.level.to_owned()]
    }

    /// Writes it as Twilio does.
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
            "alert_text": format!("Msg=AuthenticatedClient+%2B15005550006&ErrorCode={}&LogLevel={level}", self.code),
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

/// The entries that an account's log holds of what happened from one instant to another, newest first.
pub(crate) fn entries(
    world: &World,
    account: usize,
    from: Timestamp,
    now: Timestamp,
    behaviour: &Behaviour,
) -> Vec<LoggedError> {
    let window = world.window_ended(from.checked_sub(LATEST).unwrap_or(from), now);
    let calls = (window.from..window.to).flat_map(|number| {
        world.calls(account, number, Detail::Full).into_iter().map(move |call| (number, call))
    });
    let mut entries: Vec<LoggedError> =
        calls.flat_map(|(number, call)| of_call(number, &call, behaviour)).collect();
    entries.retain(|entry| from <= entry.generated_at && entry.shown_at <= now);
    entries.sort_by(|a, b| (b.generated_at, &b.sid).cmp(&(a.generated_at, &a.sid)));
    entries
}

/// The log as its list shows it.
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

fn of_call(number: u64, call: &Call, behaviour: &Behaviour) -> Vec<LoggedError> {
    let of_event = |index: u64, at, resource_sid: String, (code, level), url: String, place| {
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
            place,
        }
    };
    let mut entries = Vec::new();
    for (index, event) in (0..).zip(&call.events) {
        let Expected::Webhook(webhook) = &event.expected else { continue };
        let Some(what) = code(webhook) else { continue };
        let url = event.item["request"]["url"].as_str().unwrap_or_default().to_owned();
        let place = ["voice".to_owned(), webhook.host.clone(), webhook.route.clone()];
        entries.push(of_event(index, event.at, call.sid.clone(), what, url, place));
    }
    if number.is_multiple_of(MESSAGE_ONE_IN) && call.parent_call_sid.is_none() {
        let url = "https://sms.example.com/in?Body=secret".to_owned();
        let place = ["messaging".to_owned(), String::new(), String::new()];
        let message = made_up_sid("SM", number);
        let at = call.created_at;
        entries.push(of_event(u64::MAX, at, message, (30_007, "warning"), url, place));
    }
    if number.is_multiple_of(NOTICE_ONE_IN) && call.parent_call_sid.is_none() {
        let url = "https://flows.example.com/in?Body=secret".to_owned();
        let place = ["other".to_owned(), String::new(), String::new()];
        let execution = made_up_sid("FN", number);
        entries.push(of_event(
            u64::MAX - 1,
            call.created_at,
            execution,
            (81_000, "notice"),
            url,
            place,
        ));
    }
    entries
}

fn call_number(call: &Call) -> u64 {
    u64::from_str_radix(&call.sid[18..], 16).unwrap_or_default()
}

/// The code and level that Twilio logs a webhook's failure under.
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
