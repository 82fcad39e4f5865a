//! Finding an account's subaccounts, and polling those that are wanted.

use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::engine::page_size::PageSize;
use crate::domain::engine::trouble::{Failure, Trouble};
use crate::domain::words::sid::AccountSid;
use crate::domain::words::subaccounts::Wanted;
use crate::metrics::health::Health;
use crate::store::{AccountKey, Subaccount};
use crate::twilio::{Error, Resource, wire};

use super::attempt::Attempts;
use super::gate::{Gate, Pass};
use super::heartbeat::{Heartbeat, Heartbeats};
use super::loops::Loops;
use super::trouble::{cause, tell, weight};
use super::{Account, Shared, wait};

/// How often subaccounts are looked for: new ones are rare, and a request costs little.
const DISCOVER_EVERY: Duration = Duration::from_secs(10 * 60);
/// How soon a discovery that failed once is tried again: most failures pass at once.
const RETRY_SOON: Duration = Duration::from_secs(2);
/// How soon one that failed again is.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// Most pages of accounts: a hundred thousand subaccounts.
const MAX_PAGES: usize = 100;

/// A subaccount that is polled.
struct Polled {
    /// Cancelled when it is gone.
    gone: CancellationToken,
    /// What Twilio told last.
    status: &'static str,
}

impl Polled {
    /// A suspended account is polled on: it may be active again at any time, and says so itself.
    fn note_status(&mut self, label: &str, found: &wire::Account, health: &Health) {
        if self.status != found.status {
            health.account_status(label, &found.sid.to_string(), self.status, found.status);
            tracing::info!(account = label, status = found.status, "subaccount has another status");
            self.status = found.status;
        }
    }
}

fn subaccount(
    parent: &Account,
    found: &wire::Account,
    wanted: &Wanted,
    shared: &Shared,
) -> Account {
    Account {
        key: AccountKey { sid: found.sid, region: parent.key.region.clone() },
        label: wanted.label(found.sid),
        status: found.status,
        client: parent.client.clone(),
        gate: Gate::new(shared.max_concurrency),
    }
}

/// The subaccounts of an account that are polled, for a reload to go on with.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<Vec<wire::Account>>>);

impl Known {
    /// These to begin with.
    pub fn new(accounts: Vec<wire::Account>) -> Self {
        Self(Arc::new(Mutex::new(accounts)))
    }

    /// Those that are polled now.
    pub fn accounts(&self) -> Vec<wire::Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, accounts: Vec<wire::Account>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = accounts;
    }
}

/// Polls the subaccounts of an account until its loops stop, as they come and go, beginning with those
/// that are known already. The account itself is polled by its own task.
pub async fn run(
    parent: Account,
    wanted: Wanted,
    known: Known,
    shared: Shared,
    heartbeats: Heartbeats,
    loops: Loops,
) {
    let heartbeat = heartbeats.watch();
    let to_begin = known.accounts();
    let polled = BTreeMap::new();
    let mut subaccounts = Subaccounts { parent, wanted, shared, heartbeats, loops, polled, known };
    subaccounts.follow(to_begin, true);
    let mut remembered = None;
    let (mut trouble, mut failures) = (Trouble::of_lists(), 0_u32);
    let mut page_size = PageSize::of_account();
    let health = subaccounts.shared.health.account_requests(&subaccounts.parent.label);
    loop {
        heartbeat.promise(DISCOVER_EVERY);
        let asked_at = subaccounts.shared.clock.now();
        let discovered = tokio::select! {
            () = subaccounts.loops.stop().cancelled() => break,
            discovered = discover(&subaccounts.parent, &subaccounts.shared, &heartbeat, page_size.get()) => discovered,
        };
        let found = match discovered {
            Ok(Discovered { accounts, is_complete }) => {
                subaccounts.follow(accounts, is_complete);
                subaccounts.remember(&mut remembered, &heartbeat).await;
                if is_complete { Ok(()) } else { Err(Error::Incomplete) }
            }
            Err(error) => Err(error),
        };
        let now = subaccounts.shared.clock.now();
        let (news, pause) = match found {
            Ok(()) => {
                failures = 0;
                page_size.read(page_size.get(), now);
                (trouble.read(&(), 0, now), DISCOVER_EVERY)
            }
            Err(error) => {
                failures += 1;
                if error.may_be_for_size() {
                    page_size.failed(page_size.get(), error.reason().as_str(), false, now);
                }
                health.api_retry(error.reason().as_str());
                let cause = cause(&error, Resource::Accounts);
                let weight = weight(&error, true);
                let failure = Failure { of: (), page: 0, asked_at, weight, cause };
                let pause = if failures == 1 { RETRY_SOON } else { RETRY_AFTER };
                (trouble.failed(failure, now), pause)
            }
        };
        tell(&subaccounts.parent, &health, Resource::Accounts, &trouble, news);
        // Twilio may have made it wait for as long as it liked.
        heartbeat.promise(pause);
        if wait(pause, subaccounts.loops.stop()).await.is_none() {
            break;
        }
    }
    // The next configuration may not look for subaccounts.
    health.trouble(Resource::Accounts.as_str(), None);
}

/// The subaccounts of an account.
struct Subaccounts {
    parent: Account,
    wanted: Wanted,
    shared: Shared,
    heartbeats: Heartbeats,
    loops: Loops,
    polled: BTreeMap<AccountSid, Polled>,
    known: Known,
}

impl Subaccounts {
    /// Polls those that were found and are wanted, and lets go of those that a complete list shows no more.
    fn follow(&mut self, found: Vec<wire::Account>, is_complete: bool) {
        let found: Vec<_> =
            found.into_iter().filter(|found| self.wanted.wants(found.sid, found.status)).collect();
        self.polled.retain(|sid, polled| {
            let stays = !is_complete || found.iter().any(|account| account.sid == *sid);
            if !stays {
                polled.gone.cancel();
                tracing::info!(account = self.wanted.label(*sid), "subaccount gone");
            }
            stays
        });
        for found in found {
            match self.polled.entry(found.sid) {
                Entry::Occupied(mut entry) => {
                    let label = self.wanted.label(found.sid);
                    entry.get_mut().note_status(&label, &found, &self.shared.health);
                }
                Entry::Vacant(entry) => {
                    let account = subaccount(&self.parent, &found, &self.wanted, &self.shared);
                    tracing::info!(account = account.label, "subaccount found");
                    let stop = self.loops.stop().clone();
                    let gone = stop.child_token();
                    entry.insert(Polled { gone: gone.clone(), status: found.status });
                    let (shared, beat) = (self.shared.clone(), self.heartbeats.watch());
                    self.loops.spawn(poll(account, shared, beat, gone, stop));
                }
            }
        }
        let account = |(sid, polled): (&AccountSid, &Polled)| wire::Account {
            sid: *sid,
            status: polled.status,
        };
        self.known.replace(self.polled.iter().map(account).collect());
    }

    /// Has the store remember them, if they changed, so that a restart begins with them. What fails is
    /// tried again after the next discovery.
    async fn remember(&self, remembered: &mut Option<Vec<Subaccount>>, heartbeat: &Heartbeat) {
        let subaccount = |(sid, polled): (&AccountSid, &Polled)| Subaccount {
            sid: *sid,
            status: polled.status.to_owned(),
        };
        let found: Vec<Subaccount> = self.polled.iter().map(subaccount).collect();
        if remembered.as_ref() == Some(&found) {
            return;
        }
        heartbeat.promise(DISCOVER_EVERY);
        let parent = self.parent.key.clone();
        match self.shared.store.remember_subaccounts(parent, found.clone()).await {
            Ok(()) => *remembered = Some(found),
            Err(error) => {
                tracing::warn!(account = self.parent.label, %error, "cannot remember the subaccounts");
            }
        }
    }
}

/// Polls a subaccount until it is `gone`. When the whole program stops, its series stay to the end,
/// and when only the polling does, until it is known who is polled next.
async fn poll(
    account: Account,
    shared: Shared,
    heartbeat: Heartbeat,
    gone: CancellationToken,
    stop: CancellationToken,
) {
    let label = account.label.clone();
    let polled = super::run(account, None, shared.clone(), heartbeat, gone).await;
    if let Some(id) = polled.filter(|_| !stop.is_cancelled()) {
        shared.store.detach(id);
        shared.health.remove_accounts(|other| other == label);
    }
}

/// The accounts that a discovery found.
struct Discovered {
    accounts: Vec<wire::Account>,
    /// Whether the list was read to its end, and each of its items could be.
    is_complete: bool,
}

async fn discover(
    parent: &Account,
    shared: &Shared,
    heartbeat: &Heartbeat,
    page_size: u16,
) -> Result<Discovered, Error> {
    let health = shared.health.account_requests(&parent.label);
    let (mut accounts, mut is_readable) = (Vec::new(), true);
    let mut next: Option<String> = None;
    for _ in 0..MAX_PAGES {
        heartbeat.promise(DISCOVER_EVERY);
        // The account's own poll loop finds out when Twilio takes requests again.
        while tokio::time::timeout(DISCOVER_EVERY, parent.gate.opened()).await.is_err() {
            heartbeat.promise(DISCOVER_EVERY);
        }
        heartbeat.promise(DISCOVER_EVERY);
        let mut pass = Pass::now(&parent.gate, &shared.budget);
        let answer = pass.ask(parent.client.list_accounts(page_size, next.as_deref())).await;
        Attempts(answer.attempt.into_iter().collect()).note(&health);
        let page = answer.result?;
        accounts.extend(page.accounts);
        is_readable &= page.is_readable;
        if page.next_page.is_none() {
            return Ok(Discovered { accounts, is_complete: is_readable });
        }
        if page.next_page == next {
            break;
        }
        next = page.next_page;
    }
    Ok(Discovered { accounts, is_complete: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_status_takes_the_place_of_the_one_before() {
        let registry = prometheus::Registry::new();
        let health = Health::register(&registry).expect("instruments");
        let sid = found("active").sid.to_string();
        let _polled = health.account("acme", &sid, "active", []);
        let mut polled = Polled { gone: CancellationToken::new(), status: "active" };
        for status in ["suspended", "suspended", "active"] {
            polled.note_status("acme", &found(status), &health);
            let families = registry.gather();
            let info = families.iter().find(|family| family.name() == "twilio_account_info");
            let shown: Vec<&str> = info
                .expect("a family")
                .get_metric()
                .iter()
                .flat_map(|metric| metric.get_label())
                .filter(|label| label.name() == "status")
                .map(|label| label.value())
                .collect();
            assert_eq!(shown, [status]);
        }
    }

    fn found(status: &'static str) -> wire::Account {
        let sid = AccountSid::parse("AC00000000000000000000000000000001").expect("a SID");
        wire::Account { sid, status }
    }
}
