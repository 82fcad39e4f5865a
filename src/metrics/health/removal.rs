//! Removes the series of accounts that are no longer polled.

use std::collections::{BTreeMap, HashMap};

use prometheus::core::Collector;

use super::Health;

impl Health {
    /// Removes all series of the accounts for whose label `is_gone` returns true.
    pub fn remove_accounts(&self, is_gone: impl Fn(&str) -> bool) {
        for vec in [
            &self.account_info,
            &self.calls_active,
            &self.up,
            &self.last_success,
            &self.poll_interval,
            &self.api_concurrency_limit,
            &self.api_required_concurrency,
            &self.api_in_flight,
            &self.api_account_concurrent,
            &self.calls_pending,
            &self.tracked_calls,
            &self.error_log_last_success,
            &self.settling_overdue,
            &self.catching_up,
            &self.calls_unreadable,
        ] {
            remove(vec, &is_gone, |labels| vec.remove(labels));
        }
        for vec in [
            &self.api_requests,
            &self.api_retries,
            &self.call_events,
            &self.error_log_entries,
            &self.call_events_rejected,
            &self.call_events_unjudged,
            &self.calls_rejected,
            &self.calls_deferred,
            &self.call_reads,
            &self.audited_calls,
            &self.late_call_events,
            &self.route_overflow,
            &self.routes_retired,
        ] {
            remove(vec, &is_gone, |labels| vec.remove(labels));
        }
        for vec in [&self.pass_duration, &self.event_lag, &self.error_log_lag] {
            remove(vec, &is_gone, |labels| vec.remove(labels));
        }
        self.troubles.remove_accounts(&is_gone);
        remove(&self.skipped_seconds, &is_gone, |labels| self.skipped_seconds.remove(labels));
    }
}

fn remove(
    vec: &impl Collector,
    is_gone: impl Fn(&str) -> bool,
    remove: impl Fn(&HashMap<&str, &str>) -> prometheus::Result<()>,
) {
    for family in vec.collect() {
        for metric in family.get_metric() {
            let labels: BTreeMap<&str, &str> =
                metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
            if labels.get("account").is_some_and(|account| is_gone(account)) {
                // It fails only if the series has been removed in the meantime.
                let _absent = remove(&labels.into_iter().collect());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use crate::domain::engine::account::AccountLag;
    use crate::domain::engine::effects::{CountedEntries, CountedEvents, MetricUpdate};
    use crate::domain::engine::request::Resource;
    use crate::domain::judge::observe::Rejection;
    use crate::domain::track::listing::ListKind;

    use super::*;

    #[test]
    fn removes_every_series_of_an_account_and_none_of_another() {
        let registry = prometheus::Registry::new();
        let health = Health::register(&registry).expect("instruments");
        for label in ["gone", "stays"] {
            let account = health.account(label, "AC1", "active");
            let (now, why) = (Timestamp::UNIX_EPOCH, "refused".to_owned());
            for update in [
                MetricUpdate::Up(true),
                MetricUpdate::ListRead { kind: ListKind::Recent, took: Duration::ZERO, at: now },
                MetricUpdate::PollInterval(Duration::ZERO),
                MetricUpdate::Retried("timeout"),
                MetricUpdate::RequiredConcurrency(1.0),
                MetricUpdate::Trouble { resource: Resource::Calls, problem: Some((why, now)) },
                MetricUpdate::AccountLag(AccountLag::default()),
                MetricUpdate::ErrorLog(CountedEntries { read_at: Some(now), ..Default::default() }),
                MetricUpdate::Events(CountedEvents {
                    rejected: vec![Rejection::ALL[0]],
                    ..CountedEvents::default()
                }),
            ] {
                account.note(&update);
            }
            account.api_request(Resource::Calls, Some(200), Duration::ZERO);
            account.api_concurrency(1, 1);
            account.account_concurrency(1);
            account.tracked_calls(1);
        }
        let shown = |label: &str| -> Vec<String> {
            let families = registry.gather();
            let has_account = |family: &prometheus::proto::MetricFamily| {
                let mut labels = family.get_metric().iter().flat_map(|metric| metric.get_label());
                labels.any(|pair| pair.name() == "account" && pair.value() == label)
            };
            families
                .iter()
                .filter(|family| has_account(family))
                .map(|f| f.name().to_owned())
                .collect()
        };
        let before = shown("stays");
        let with_account = super::super::catalog::ALL.iter().filter(|family| {
            family.labels.contains(&"account") && family.name.starts_with("twilio_exporter_")
        });
        for family in with_account {
            assert!(
                before.contains(&family.name.to_owned()),
                "this test doesn't set {}",
                family.name
            );
        }
        health.remove_accounts(|label| label == "gone");
        assert_eq!(shown("gone"), Vec::<String>::new());
        assert_eq!(shown("stays"), before);
        let troubled: Vec<String> =
            health.troubles().all().into_iter().map(|unreadable| unreadable.account).collect();
        assert_eq!(troubled, ["stays"]);
    }
}
