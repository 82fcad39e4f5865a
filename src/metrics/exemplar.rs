//! Exemplars: the call behind a failure or a slow bucket, one step from the graph.
//!
//! In memory only: nothing about them is promised over a restart.

use std::collections::BTreeMap;

use jiff::Timestamp;
use prometheus::proto::Metric;

use crate::domain::sid::CallSid;

use super::catalog::{self, Family};
use super::ledger::{Cell, Ledger, Scope};

/// The call behind a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// The call.
    pub call_sid: CallSid,
    /// The duration that fell into the bucket; `None` for a plain count.
    pub duration_ms: Option<u64>,
    /// When it was counted.
    pub at: Timestamp,
}

/// The exemplars of one series: of a counter under `None`, of a histogram by bucket.
type OfSeries = BTreeMap<Option<u64>, Exemplar>;

/// The exemplars of a snapshot, by family and label values.
#[derive(Clone, Debug, Default)]
pub struct ExemplarTable(BTreeMap<(&'static str, Vec<String>), OfSeries>);

impl ExemplarTable {
    /// Those of all groups that show their values.
    pub fn of(ledger: &Ledger) -> Self {
        let mut table = Self::default();
        for ((scope, cell), exemplar) in &ledger.exemplars {
            let Scope::Group(id) = scope else { continue };
            let Some(group) = ledger.groups.get(id).filter(|group| group.hold.is_released) else {
                continue;
            };
            let Some(endpoint) = ledger.endpoints.get(&group.endpoint) else { continue };
            let Some(account) = ledger.accounts.get(&endpoint.account) else { continue };
            let place = &endpoint.endpoint;
            let labels = [account.as_str(), &place.host, &place.route, group.kind.as_str()];
            match cell {
                Cell::Failures(reason) => {
                    let labels = labels.into_iter().chain([reason.as_str()]);
                    table.insert(&catalog::WEBHOOK_FAILURES, labels, None, *exemplar);
                }
                Cell::DurationBucket(bound) => {
                    table.insert(&catalog::WEBHOOK_DURATION, labels.into_iter(), *bound, *exemplar);
                }
                Cell::Requests(_)
                | Cell::DurationSum
                | Cell::ContentTypes(_)
                | Cell::Warnings(_)
                | Cell::ApiRequests(_)
                | Cell::Calls(..)
                | Cell::Outcomes(_) => {}
            }
        }
        table
    }

    fn insert<'a>(
        &mut self,
        family: &Family,
        labels: impl Iterator<Item = &'a str>,
        bound: Option<u64>,
        exemplar: Exemplar,
    ) {
        let key = (family.name, labels.map(str::to_owned).collect());
        self.0.entry(key).or_default().insert(bound, exemplar);
    }

    /// The exemplars of a series.
    pub(super) fn of_series(&self, family: &str, metric: &Metric) -> Option<&OfSeries> {
        let with_exemplars = [&catalog::WEBHOOK_FAILURES, &catalog::WEBHOOK_DURATION];
        let known = with_exemplars.into_iter().find(|known| known.name == family)?;
        let values = metric.get_label().iter().map(|pair| pair.value().to_owned()).collect();
        self.0.get(&(known.name, values))
    }
}
