//! A page of the error log, whose envelope differs from that of the older lists.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::error_log;
use super::{ApiError, Request};

impl Request<'_> {
    /// Returns a page of the error log.
    pub(super) fn alerts(&self, account: usize, now: Timestamp) -> Result<Value, ApiError> {
        if self.behaviour.error_log_outage {
            return Err(ApiError::new(503, 20503, "Service Unavailable"));
        }
        if self.behaviour.error_log_refused {
            let message =
                "Authorization Error: required permission twilio/monitor/alerts/list is missing";
            return Err(ApiError::new(401, 70051, message));
        }
        let start = self.query.iter().find(|(name, _)| name == "StartDate");
        let from = match start.map(|(_, value)| value.parse::<Timestamp>()) {
            Some(Ok(from)) => from,
            Some(Err(_)) => return Err(ApiError::new(400, 20001, "StartDate is not a valid date")),
            None => self.shared.world.start(),
        };
        let world = &self.shared.world;
        let items = error_log::alerts(world, account, from, now, self.behaviour);
        let mut page = self.page("alerts", items, false);
        // The error log names its pages under other keys, by absolute URLs.
        let absolute = |uri: &Value| {
            let is_path = |uri: &&str| uri.starts_with('/');
            let host = |uri| if is_path(&uri) { "https://monitor.twilio.com" } else { "" };
            uri.as_str().map(|uri| format!("{}{uri}", host(uri)))
        };
        let meta = json!({
            "key": "alerts",
            "page": page["page"],
            "page_size": page["page_size"],
            "url": absolute(&page["uri"]),
            "first_page_url": absolute(&page["first_page_uri"]),
            "next_page_url": absolute(&page["next_page_uri"]),
            "previous_page_url": absolute(&page["previous_page_uri"]),
        });
        Ok(json!({ "alerts": page["alerts"].take(), "meta": meta }))
    }
}
