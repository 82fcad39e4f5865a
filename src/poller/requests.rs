//! What is asked of Twilio next, as the plan and the pace of the account allow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::engine::lists::ListRun;
use crate::domain::engine::plan::Step;
use crate::domain::track::digest::Digests;

use super::gate::Pass;
use super::{Done, LONGEST_WAIT, Poller, read, until};

impl Poller {
    /// Starts what is due, and tells how long to wait before looking again.
    pub(super) fn start_requests(&mut self) -> Duration {
        let (now, local) = (self.now(), self.shared.clock.now());
        let limit = self.pace.limit();
        self.health.api_concurrency(limit, self.requests.len());
        if local < self.pace.paused_until() {
            return until(local, self.pace.paused_until());
        }
        let mut free = limit.saturating_sub(self.requests.len());
        if self.account.gate.is_closed() {
            // One request tries whether it opens, once all others have ended.
            free = usize::from(self.requests.is_empty());
        }
        // With one request at a time, the pages of a long list and the reads take turns.
        let list_waits = limit == 1 && self.list_had_turn;
        if free > 0
            && !list_waits
            && let Some(run) = self.list.take()
        {
            self.start_list(run);
            self.list_had_turn = true;
            free -= 1;
        }
        if free == 0 {
            // Nothing can start before something ends.
            return LONGEST_WAIT;
        }
        let may_list = !self.is_listing && self.list.is_none();
        let may_read = local >= self.pace.reads_paused_until();
        let plan = self.progress.plan(
            &self.shared.lists,
            &self.shared.reads,
            now,
            free,
            may_list,
            may_read,
        );
        if let Some(run) = plan.list {
            self.list_began = Instant::now();
            self.start_list(run);
        }
        self.list_had_turn &= plan.steps.is_empty() && !list_waits;
        for step in plan.steps {
            self.start_step(step);
        }
        if self.requests.is_empty() && self.list.is_some() {
            // No read wants its turn.
            return Duration::ZERO;
        }
        self.health.api_concurrency(limit, self.requests.len());
        if self.requests.len() >= limit {
            // Nothing can start before something ends.
            return LONGEST_WAIT;
        }
        let wait = until(now, plan.wake_at);
        if may_read { wait } else { wait.min(until(local, self.pace.reads_paused_until())) }
    }

    fn start_list(&mut self, mut run: ListRun) {
        if run.next_page.is_none() {
            run.page_size = self.list_sizes.of(&run.kind);
        }
        self.is_listing = true;
        let (client, sid) = (self.account.client.clone(), self.account.key.sid);
        let mut pass = self.pass();
        self.requests.spawn(async move {
            let next_page = run.next_page.as_deref();
            let request = client.list_calls(sid, run.filter, run.page_size, next_page);
            let answer = pass.ask(request).await;
            Done::List { run: Box::new(run), answer }
        });
    }

    fn start_step(&mut self, step: Step) {
        let (client, account) = (self.account.client.clone(), self.account.key.sid);
        let mut pass = self.pass();
        match step {
            Step::Fetch(sid) => {
                self.requests.spawn(async move {
                    let answer = pass.ask(client.fetch_call(account, sid)).await;
                    Done::Fetched { sid, answer }
                });
            }
            Step::Read { sid, stage, skips, version } => {
                let mut reader = read::Reader {
                    client,
                    pass,
                    account,
                    call: sid,
                    digests: Digests::new(self.shared.store.digest_key(), version),
                    routes: Arc::clone(&self.shared.routes),
                    fallback_now: self.now(),
                    page_size: self.event_sizes.of(&sid),
                };
                self.requests.spawn(async move {
                    let asked = reader.page_size;
                    let (attempts, result) = reader.read().await;
                    let page_sizes = [asked, reader.page_size];
                    Done::Read { sid, stage, skips, page_sizes, attempts, result }
                });
            }
        }
    }

    fn pass(&self) -> Pass {
        Pass::now(&self.account.gate, &self.shared.budget)
    }
}
