//! Pushes of the error log: requests as Twilio would send and sign them. The caller sends them.

use base64::prelude::*;
use jiff::Timestamp;
use ring::{digest, hmac};
use serde_json::{Value, json};

use super::Simulator;
use super::error_log::{LoggedError, MAX_DELAY, entries};

/// The maximum number of events in a request.
const MAX_EVENTS: usize = 20;

/// How Twilio pushes entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushForm {
    /// Event Streams: a JSON list of events.
    Events,
    /// The Debugger's webhook: a form for each entry.
    Debugger,
}

/// A request that pushes entries.
#[derive(Clone, Debug)]
pub struct Push {
    /// The query string to append to the URL, with its question mark; may be empty.
    pub query: String,
    /// The header `Content-Type`.
    pub content_type: &'static str,
    /// The header `X-Twilio-Signature`.
    pub signature: String,
    /// The body.
    pub body: String,
}

impl Simulator {
    /// Returns Twilio's pushes to a URL for the entries that become visible after `after` and until `now`.
    /// Pushes for a subaccount are signed by its owner.
    pub fn pushes(&self, form: PushForm, url: &str, after: Timestamp, now: Timestamp) -> Vec<Push> {
        let (world, behaviour) = (&self.shared.world, self.behaviour());
        let mut pushes = Vec::new();
        for (index, account) in world.accounts().iter().enumerate() {
            let owner = account.parent.map(|parent| &world.accounts()[parent]);
            let token = &owner.unwrap_or(account).auth_token;
            let owner = owner.map(|owner| owner.sid.as_str());
            // An entry that is shown late was generated earlier.
            let from = after.checked_sub(MAX_DELAY).unwrap_or(after);
            let mut new = entries(world, index, from, now, &behaviour);
            new.retain(|entry| after < entry.shown_at);
            match form {
                PushForm::Events => {
                    for chunk in new.chunks(MAX_EVENTS) {
                        let events: Vec<Value> =
                            chunk.iter().map(|entry| event(entry, &account.sid, owner)).collect();
                        pushes.push(event_streams_push(
                            &Value::from(events).to_string(),
                            url,
                            token,
                        ));
                    }
                }
                PushForm::Debugger => pushes
                    .extend(new.iter().map(|entry| {
                        debugger_push(fields(entry, &account.sid, owner), url, token)
                    })),
            }
        }
        pushes
    }
}

/// A signed request of Event Streams: <https://www.twilio.com/docs/usage/security>.
fn event_streams_push(body: &str, url: &str, token: &str) -> Push {
    let hash = digest::digest(&digest::SHA256, body.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let query = format!("?bodySHA256={hash}");
    let signature = sign(&format!("{url}{query}"), token);
    Push { query, content_type: "application/json", signature, body: body.to_owned() }
}

/// A request of the Debugger, signed with all its fields.
fn debugger_push(mut fields: Vec<(&'static str, String)>, url: &str, token: &str) -> Push {
    let mut body = form_urlencoded::Serializer::new(String::new());
    for (name, value) in &fields {
        body.append_pair(name, value);
    }
    let body = body.finish();
    fields.sort();
    let fields: String = fields.iter().flat_map(|(name, value)| [*name, value.as_str()]).collect();
    Push {
        query: String::new(),
        content_type: "application/x-www-form-urlencoded",
        signature: sign(&format!("{url}{fields}"), token),
        body,
    }
}

fn sign(text: &str, token: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    BASE64_STANDARD.encode(hmac::sign(&key, text.as_bytes()))
}

fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// An entry's level as pushes name it.
fn level(entry: &LoggedError) -> String {
    if entry.level == "notice" { "INFO".to_owned() } else { entry.level.to_uppercase() }
}

/// The failed request, including data of the caller.
fn payload(entry: &LoggedError) -> Value {
    json!({
        "resource_sid": entry.resource_sid,
        "service_sid": null,
        "error_code": entry.code.to_string(),
        "more_info": { "Msg": "Caller +15005550006", "ErrorCode": entry.code.to_string() },
        "webhook": {
            "type": "application/json",
            "request": {
                "url": entry.url,
                "method": "POST",
                "headers": {},
                "parameters": { "From": "+15005550006" },
            },
            "response": { "status_code": null, "headers": {}, "body": "secret" },
        },
    })
}

fn event(entry: &LoggedError, account: &str, owner: Option<&str>) -> Value {
    json!({
        "specversion": "1.0",
        "type": "com.twilio.error-logs.error.logged",
        "source": "made-up",
        "id": entry.sid.replacen("NO", "EZ", 1),
        "datacontenttype": "application/json",
        "time": date(entry.shown_at),
        "data": {
            "sid": entry.sid,
            "account_sid": account,
            "master_account_sid": owner,
            "level": level(entry),
            "error_code": entry.code.to_string(),
            "product_name": "made-up",
            "correlation_sid": entry.resource_sid,
            "date_created": date(entry.generated_at),
            "payload": payload(entry).to_string(),
        },
    })
}

fn fields(entry: &LoggedError, account: &str, owner: Option<&str>) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("Sid", entry.sid.clone()),
        ("AccountSid", account.to_owned()),
        ("Timestamp", date(entry.generated_at)),
        ("Level", level(entry)),
        ("PayloadType", "application/json".to_owned()),
        ("Payload", payload(entry).to_string()),
    ];
    fields.extend(owner.map(|owner| ("ParentAccountSid", owner.to_owned())));
    fields
}
