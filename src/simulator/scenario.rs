//! Selects the script of a call by the mix and by whether its line is failing. The scripts are in `demo` and
//! `everything`.

use super::draft::CallSlot;
use super::script::Call;
use super::{demo, everything};

/// Which calls a simulated world consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mix {
    /// A realistic phone line: healthy, except for one place that fails as `failing_after` says.
    #[default]
    Demo,
    /// Each scenario in turn, regardless of `failing_after`.
    Everything,
}

impl Mix {
    /// The number of calls until every scenario has been played; 1 if calls are random.
    pub fn scenario_count(self) -> u64 {
        match self {
            Mix::Demo => 1,
            Mix::Everything => u64::try_from(everything::scenario_count()).unwrap_or(u64::MAX),
        }
    }
}

/// Scripts the call with this number, followed by its child leg if it has one.
pub(crate) fn write(mix: Mix, slot: &CallSlot, number: u64, is_failing: bool) -> Vec<Call> {
    match mix {
        Mix::Demo => demo::write(slot, is_failing),
        Mix::Everything => {
            let number = usize::try_from(number % mix.scenario_count()).unwrap_or(0);
            everything::write(slot, number)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::draft::Detail;
    use super::super::random::Random;
    use super::super::script::{Expected, ExpectedWebhook};
    use super::*;

    #[test]
    fn everything_covers_every_kind() {
        let seen: BTreeSet<_> = webhooks().into_iter().map(|webhook| webhook.kind).collect();
        let expected = [
            "amd_callback",
            "dial_action",
            "enqueue_action",
            "fallback_url",
            "gather_action",
            "gather_callback",
            "media",
            "other_callback",
            "record_action",
            "recording_callback",
            "status_callback",
            "stream_callback",
            "transcription_callback",
            "twiml_request",
            "voice_url",
            "wait_url",
        ];
        assert_eq!(seen, BTreeSet::from(expected));
    }

    #[test]
    fn everything_covers_every_failure_and_warning() {
        let seen: BTreeSet<_> =
            webhooks().into_iter().filter_map(|webhook| webhook.failure).collect();
        let expected = [
            "connection",
            "dns",
            "empty_body",
            "http_4xx",
            "http_5xx",
            "malformed_xml",
            "missing_content_type",
            "no_response",
            "not_twiml",
            "redirects",
            "timeout",
            "tls",
            "too_large",
            "unsupported_content_type",
            "wrong_root",
        ];
        assert_eq!(seen, BTreeSet::from(expected));
        let warnings: BTreeSet<_> =
            webhooks().into_iter().filter_map(|webhook| webhook.warning).collect();
        assert_eq!(warnings, BTreeSet::from(["redirect", "unknown_verb"]));
    }

    #[test]
    fn everything_covers_every_content_type_class() {
        let seen: BTreeSet<_> =
            webhooks().into_iter().filter_map(|webhook| webhook.content_type).collect();
        let expected = [
            "application/json",
            "application/xml",
            "audio",
            "none",
            "other",
            "other_xml",
            "text/html",
            "text/plain",
            "text/xml",
        ];
        assert_eq!(seen, BTreeSet::from(expected));
    }

    #[test]
    fn everything_covers_every_direction_and_final_status() {
        let seen: BTreeSet<_> = everything_calls()
            .iter()
            .map(|call| (call.direction, call.status_at(jiff::Timestamp::MAX).1))
            .collect();
        let expected = [
            ("inbound", "completed"),
            ("outbound-api", "busy"),
            ("outbound-api", "canceled"),
            ("outbound-api", "completed"),
            ("outbound-api", "failed"),
            ("outbound-api", "no-answer"),
            ("outbound-dial", "completed"),
        ];
        assert_eq!(seen, BTreeSet::from(expected));
    }

    #[test]
    fn one_call_fills_three_pages() {
        assert!(everything_calls().iter().any(|call| call.events.len() == 2_345));
    }

    #[test]
    fn the_routes_fit_the_default_limit_of_an_account() {
        let routes: BTreeSet<_> =
            webhooks().into_iter().map(|webhook| (webhook.host, webhook.route)).collect();
        assert!(routes.len() < 100, "{}", routes.len());
    }

    #[test]
    fn no_call_fails_again_after_recovering() {
        for call in everything_calls() {
            let succeeded: Vec<bool> = call
                .events
                .iter()
                .filter_map(|event| match &event.expected {
                    Expected::Webhook(webhook) => webhook.has_succeeded,
                    Expected::ApiRequest { .. } | Expected::Rejected(_) => None,
                })
                .skip_while(|succeeded| *succeeded)
                .collect();
            assert!(succeeded.is_sorted(), "{succeeded:?}");
        }
    }

    #[test]
    fn the_demo_fails_only_at_the_announced_endpoint() {
        let failures = |is_failing| -> Vec<(String, String)> {
            (0..300)
                .flat_map(|number| write(Mix::Demo, &slot(number), number, is_failing))
                .flat_map(|call| call.events)
                .filter_map(|event| match event.expected {
                    Expected::Webhook(webhook) if webhook.failure.is_some() => {
                        Some((webhook.host, webhook.route))
                    }
                    Expected::Webhook(_) | Expected::ApiRequest { .. } | Expected::Rejected(_) => {
                        None
                    }
                })
                .collect()
        };
        assert_eq!(failures(false), []);
        let failing = failures(true);
        assert!(failing.len() > 50);
        assert!(
            failing.iter().all(|(host, route)| (host.as_str(), route.as_str()) == demo::FAILING)
        );
    }

    fn webhooks() -> Vec<ExpectedWebhook> {
        let events = everything_calls().into_iter().flat_map(|call| call.events);
        events
            .filter_map(|event| match event.expected {
                Expected::Webhook(webhook) => Some(webhook),
                Expected::ApiRequest { .. } | Expected::Rejected(_) => None,
            })
            .collect()
    }

    fn everything_calls() -> Vec<Call> {
        let count = Mix::Everything.scenario_count();
        (0..count).flat_map(|number| write(Mix::Everything, &slot(number), number, true)).collect()
    }

    fn slot(number: u64) -> CallSlot {
        CallSlot {
            account_sid: "AC00000000000000000000000000000001".to_owned(),
            call_sids: [format!("CA{number:032x}"), format!("CA{:032x}", number + 1_000)],
            created_at: jiff::Timestamp::UNIX_EPOCH,
            call_seconds: (5, 20),
            random: Random::from_parts(&[number]),
            detail: Detail::Full,
        }
    }
}
