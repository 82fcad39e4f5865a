//! Making durable what was learnt, and telling it only then.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::domain::engine::plan::Stage;
use crate::domain::engine::retry::backoff;
use crate::domain::judge::observe::{Observation, Rejection};
use crate::domain::judge::route::{Endpoint, pattern_for};
use crate::domain::judge::twiml::Malformation;
use crate::domain::judge::verdict::Reason;
use crate::domain::words::sid::CallSid;
use crate::metrics::health::{EventResult, ReadResult};
use crate::metrics::ledger::{Missing, Overflow};
use crate::store::{Batch, CommitError};

use super::heartbeat::Heartbeat;
use super::{COMMIT_RETRY_CAP, Poller, random, wait};

/// What was learnt besides the facts: the calls to be kept, and numbers about ourselves, which are
/// told only once the batch is committed.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Calls whose progress changed.
    pub(super) changed: BTreeSet<CallSid>,
    /// Failing webhooks that get a line in the log, with how many before got none.
    pub(super) failures: Vec<(CallSid, Observation, u64)>,
    pub(super) lags: Vec<f64>,
    pub(super) counted: u64,
    pub(super) duplicates: u64,
    pub(super) unjudged: u64,
    pub(super) invalid_durations: u64,
    pub(super) rejected: Vec<Rejection>,
    pub(super) reads: Vec<(Stage, ReadResult, u64)>,
    pub(super) audits: Vec<u64>,
}

impl Poller {
    /// Commits a batch, however long it takes; `None` when there is no point in going on.
    pub(super) async fn commit(
        &mut self,
        mut batch: Batch,
        notes: Notes,
        heartbeat: &Heartbeat,
        stop: &CancellationToken,
    ) -> Option<()> {
        let calls = &self.progress.calls;
        batch.calls = notes.changed.iter().filter_map(|sid| calls.get(sid)).cloned().collect();
        let known = self.progress.lists.progress();
        let has_changes = !batch.facts.is_empty()
            || !batch.calls.is_empty()
            || !batch.forgotten.is_empty()
            || known != self.kept;
        if has_changes {
            batch.lists = known;
            batch.learnt_at = Some(self.now());
            let batch = Arc::new(batch);
            let mut failures = 0;
            let report = loop {
                heartbeat.promise(COMMIT_RETRY_CAP);
                match self.shared.store.commit(self.id, Arc::clone(&batch)).await {
                    Ok(report) => break report,
                    Err(CommitError::Closed) => return None,
                    Err(error @ CommitError::Failed(_)) => {
                        failures += 1;
                        tracing::warn!(account = self.account.label, %error, "polling pauses until the store can be written");
                        wait(backoff(failures, COMMIT_RETRY_CAP, random()), stop).await?;
                    }
                }
            };
            if failures > 0 {
                tracing::info!(account = self.account.label, "the store can be written again");
            }
            self.kept = known;
            self.health.route_overflow(report.overflowed);
            if let Some(overflow) = report.first_overflow.filter(|_| !self.has_overflowed) {
                self.has_overflowed = true;
                self.tell_overflow(&overflow);
            }
            self.health.routes_retired(report.retired);
        }
        self.tell(notes);
        Some(())
    }

    fn tell_overflow(&self, overflow: &Overflow) {
        let account = &*self.account.label;
        let Endpoint { host, route } = &overflow.endpoint;
        let pattern = {
            let committed = self.shared.store.committed();
            let ledger = committed.read();
            let known = ledger.endpoints_of(self.id).chain([&overflow.endpoint]);
            pattern_for(known).map(tracing::field::display)
        };
        match overflow.missing {
            Missing::Place => tracing::warn!(
                account,
                host,
                route,
                pattern,
                "no room for this route: it and further new ones are counted as `other`; give a pattern for them under `routes:`, or raise `limits.routes_per_account`"
            ),
            Missing::Series => tracing::warn!(
                account,
                host,
                route,
                pattern,
                "no room for this route: it and further new ones are counted as `other`; give a pattern for them under `routes:`, or raise `limits.series`"
            ),
            Missing::CodeSeries => tracing::warn!(
                account,
                host,
                route,
                "no room for another code of this route: it and further new ones are counted as code `other`; raise `limits.series`"
            ),
        }
    }

    fn tell(&self, notes: Notes) {
        self.health.call_events(EventResult::Counted, notes.counted);
        self.health.call_events(EventResult::Duplicate, notes.duplicates);
        let rejected = u64::try_from(notes.rejected.len()).unwrap_or(u64::MAX);
        self.health.call_events(EventResult::Rejected, rejected);
        self.health.call_events_unjudged(notes.unjudged);
        for rejection in notes.rejected {
            self.health.call_events_rejected(rejection, 1);
        }
        // Of these events only the duration is rejected.
        self.health.call_events_rejected(Rejection::InvalidDuration, notes.invalid_durations);
        for (stage, result, count) in notes.reads {
            self.health.call_read(stage, result, count);
        }
        for lag in notes.lags {
            self.health.event_lag(lag);
        }
        for late in notes.audits {
            self.health.audited(late);
        }
        for (call_sid, failed, suppressed) in notes.failures {
            tracing::info!(
                account = self.account.label,
                host = failed.endpoint.host,
                route = failed.endpoint.route,
                kind = failed.kind.as_str(),
                code = %failed.verdict.code,
                reason = failed.verdict.failure.map_or("", Reason::as_str),
                detail = failed.verdict.malformation.map(Malformation::as_str),
                duration_ms = failed.duration_ms,
                %call_sid,
                suppressed,
                "webhook failed"
            );
        }
    }
}
