//! Twilio's JSON: the envelope of a page, Calls, Accounts, errors. The items of a page are chosen elsewhere.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::script::{Call, pascal_case, rfc2822, seconds_after};
use super::world::{Account, World};

/// The items of a page, and its paging.
#[derive(Debug)]
pub(crate) struct Page {
    /// The key of the items.
    pub(crate) key: &'static str,
    pub(crate) items: Vec<Value>,
    pub(crate) number: usize,
    pub(crate) size: usize,
    /// The page token of the next page, which may be empty; `None` on the last page.
    pub(crate) next: Option<String>,
    /// The page token of the previous page, which may be empty.
    pub(crate) previous: String,
}

impl Page {
    /// Formats the envelope; `path` and `query` are those of the request.
    pub(crate) fn envelope(self, path: &str, query: &[(String, String)]) -> Value {
        let uri = |page: usize, token: &str| {
            let mut uri = format!("{path}?");
            for (name, value) in query {
                if !matches!(name.as_str(), "Page" | "PageSize" | "PageToken") {
                    _ = write!(uri, "{}={}&", encode(name), encode(value));
                }
            }
            _ = write!(uri, "PageSize={}&Page={page}", self.size);
            if !token.is_empty() {
                _ = write!(uri, "&PageToken={}", encode(token));
            }
            uri
        };
        let own_token = query.iter().find(|(name, _)| name == "PageToken");
        let own_token = own_token.map_or("", |(_, token)| token);
        let start = self.number.saturating_mul(self.size);
        let previous = self.number.checked_sub(1).map(|page| uri(page, &self.previous));
        let mut envelope = Map::new();
        envelope.insert("page".to_owned(), json!(self.number));
        envelope.insert("page_size".to_owned(), json!(self.size));
        envelope.insert("start".to_owned(), json!(start));
        // For an empty page, Twilio's `end` is as for one item.
        envelope.insert("end".to_owned(), json!(start + self.items.len().max(1) - 1));
        envelope.insert("uri".to_owned(), json!(uri(self.number, own_token)));
        envelope.insert("first_page_uri".to_owned(), json!(uri(0, "")));
        let next = self.next.as_ref().map(|token| uri(self.number + 1, token));
        envelope.insert("next_page_uri".to_owned(), json!(next));
        envelope.insert("previous_page_uri".to_owned(), json!(previous));
        envelope.insert(self.key.to_owned(), Value::Array(self.items));
        Value::Object(envelope)
    }
}

/// Formats a Call at this instant.
pub(crate) fn call(call: &Call, now: Timestamp) -> Value {
    let path = format!("/2010-04-01/Accounts/{}/Calls/{}", call.account_sid, call.sid);
    let (updated_at, status) = call.status_at(now);
    let (start, end) = (call.start_time(now), call.end_time(now));
    let seconds = start.zip(end).filter(|_| status == "completed");
    let seconds = seconds.map(|(start, end)| end.duration_since(start).as_secs().to_string());
    let subresources = ["events", "notifications", "payments", "recordings", "siprec", "streams"];
    json!({
        "sid": call.sid,
        "account_sid": call.account_sid,
        "parent_call_sid": call.parent_call_sid,
        "phone_number_sid": null,
        "group_sid": null,
        "trunk_sid": null,
        "status": status,
        "direction": call.direction,
        "from": call.from,
        "from_formatted": call.from,
        "to": call.to,
        "to_formatted": call.to,
        "date_created": rfc2822(call.created_at),
        "date_updated": rfc2822(updated_at),
        "start_time": start.map(rfc2822),
        "end_time": end.map(rfc2822),
        "duration": seconds,
        "price": seconds.is_some().then_some("-0.00850"),
        "price_unit": "USD",
        "answered_by": null,
        "api_version": "2010-04-01",
        "forwarded_from": null,
        "caller_name": null,
        "queue_time": "0",
        "subresource_uris": subresource_uris(&path, &subresources),
        "uri": format!("{path}.json"),
    })
}

/// Formats an Account, including its auth token as Twilio does.
pub(crate) fn account(world: &World, account: &Account) -> Value {
    let path = format!("/2010-04-01/Accounts/{}", account.sid);
    let owner = account.parent.map_or(account, |parent| &world.accounts()[parent]);
    // Accounts are a day old: they exist before their calls.
    let created_at = world.start() - jiff::SignedDuration::from_hours(24);
    let subresources = [
        "addresses",
        "applications",
        "authorized_connect_apps",
        "available_phone_numbers",
        "balance",
        "calls",
        "conferences",
        "connect_apps",
        "incoming_phone_numbers",
        "keys",
        "messages",
        "notifications",
        "outgoing_caller_ids",
        "queues",
        "recordings",
        "signing_keys",
        "transcriptions",
        "usage",
    ];
    json!({
        "sid": account.sid,
        "owner_account_sid": owner.sid,
        "auth_token": account.auth_token,
        "friendly_name": account.name,
        "status": "active",
        "type": "Full",
        "date_created": rfc2822(created_at),
        "date_updated": rfc2822(seconds_after(created_at, 60)),
        "subresource_uris": subresource_uris(&path, &subresources),
        "uri": format!("{path}.json"),
    })
}

/// Formats an error as Twilio does.
pub(crate) fn error(status: u16, code: u32, message: &str) -> Value {
    json!({
        "code": code,
        "message": message,
        "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
        "status": status,
    })
}

fn subresource_uris(path: &str, names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| ((*name).to_owned(), json!(format!("{path}/{}.json", pascal_case(name)))))
        .collect()
}

/// Percent-encodes all characters except the unreserved ones of RFC 3986, like Twilio.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_keeps_the_filters_and_adds_the_page_token() {
        let page = Page { number: 1, next: Some("PACA1".to_owned()), ..page(2) };
        let query = [("StartTime>".to_owned(), "2026-11-02".to_owned())];
        let envelope = page.envelope("/Calls.json", &query);
        assert_eq!(
            envelope["next_page_uri"],
            "/Calls.json?StartTime%3E=2026-11-02&PageSize=2&Page=2&PageToken=PACA1"
        );
        assert_eq!((&envelope["start"], &envelope["end"]), (&json!(2), &json!(3)));
    }

    #[test]
    fn an_empty_page_ends_at_zero_and_has_no_next_page() {
        let envelope = page(0).envelope("/Calls.json", &[]);
        assert_eq!(envelope["end"], 0);
        assert_eq!(envelope["next_page_uri"], Value::Null);
        assert_eq!(envelope["previous_page_uri"], Value::Null);
    }

    fn page(items: usize) -> Page {
        let items = vec![json!({}); items];
        Page { key: "calls", items, number: 0, size: 2, next: None, previous: String::new() }
    }
}
