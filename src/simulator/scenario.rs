//! Answers for which script a call gets: the mix, and whether its line fails at that time.
//! The scripts themselves are in `demo` and `everything`.

use super::draft::CallSlot;
use super::script::Call;
use super::{demo, everything};

/// Which calls a simulated world consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mix {
    /// A believable phone line: healthy, and failing in one place while `failing_after` says so.
    #[default]
    Demo,
    /// Each scenario in turn, whatever `failing_after` says.
    Everything,
}

impl Mix {
    /// How many calls it takes until every scenario has been played; 1 where chance decides.
    pub fn scenario_count(self) -> u64 {
        match self {
            Mix::Demo => 1,
            Mix::Everything => u64::try_from(everything::scenario_count()).unwrap_or(u64::MAX),
        }
    }
}

/// Writes the call of this number, followed by its child leg when it has one.
pub(crate) fn write(mix: Mix, seat: &CallSlot, number: u64, is_failing: bool) -> Vec<Call> {
    match mix {
        Mix::Demo => demo::write(seat, is_failing),
        Mix::Everything => {
            let number = usize::try_from(number % mix.scenario_count()).unwrap_or(0);
            everything::write(seat, number)
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
        let wanted = [
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
        assert_eq!(seen, BTreeSet::from(wanted));
    }

    #[test]
    fn everything_covers_every_failure_and_warning() {
        let seen: BTreeSet<_> =
            webhooks().into_iter().filter_map(|webhook| webhook.failure).collect();
        let wanted = [
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
        assert_eq!(seen, BTreeSet::from(wanted));
        let warnings: BTreeSet<_> =
            webhooks().into_iter().filter_map(|webhook| webhook.warning).collect();
        assert_eq!(warnings, BTreeSet::from(["redirect", "unknown_verb"]));
    }

    #[test]
    fn everything_covers_every_content_type_class() {
        let seen: BTreeSet<_> =
            webhooks().into_iter().filter_map(|webhook| webhook.content_type).collect();
        let wanted = [
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
        assert_eq!(seen, BTreeSet::from(wanted));
    }

    #[test]
    fn everything_covers_every_direction_and_final_status() {
        let seen: BTreeSet<_> = everything_calls()
            .iter()
            .map(|call| (call.direction, call.status_at(jiff::Timestamp::MAX).1))
            .collect();
        let wanted = [
            ("inbound", "completed"),
            ("outbound-api", "busy"),
            ("outbound-api", "canceled"),
            ("outbound-api", "completed"),
            ("outbound-api", "failed"),
            ("outbound-api", "no-answer"),
            ("outbound-dial", "completed"),
        ];
        assert_eq!(seen, BTreeSet::from(wanted));
    }

    #[test]
    fn one_call_fills_three_pages() {
        assert!(everything_calls().iter().any(|call| call.events.len() == 2_345));
    }

    #[test]
    fn the_routes_stay_within_what_an_account_may_have() {
        let routes: BTreeSet<_> =
            webhooks().into_iter().map(|webhook| (webhook.host, webhook.route)).collect();
        assert!(routes.len() < 100, "{}", routes.len());
    }

    #[test]
    fn no_call_recovers_and_fails_again() {
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
    fn a_healthy_demo_has_no_failure_and_a_failing_one_fails_where_it_says() {
        let failures = |is_failing| -> Vec<(String, String)> {
            (0..300)
                .flat_map(|number| write(Mix::Demo, &seat(number), number, is_failing))
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
        (0..count).flat_map(|number| write(Mix::Everything, &seat(number), number, true)).collect()
    }

    fn seat(number: u64) -> CallSlot {
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
