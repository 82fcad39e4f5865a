//! Finding an account's subaccounts, and polling those that are wanted.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::sid::AccountSid;
use crate::metrics::health::Health;
use crate::store::{AccountKey, Subaccount};
use crate::twilio::wire;

use super::attempt::Attempts;
use super::gate::{Gate, Pass};
use super::heartbeat::{Heartbeat, Heartbeats};
use super::loops::Loops;
use super::{Account, Shared, wait};

/// How often subaccounts are looked for: new ones are rare, and a request costs little.
const DISCOVER_EVERY: Duration = Duration::from_secs(10 * 60);
/// How soon a failed discovery is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// Most pages of accounts: a hundred thousand subaccounts.
const MAX_PAGES: usize = 100;

/// Which subaccounts are polled, and under which label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only these, if there are any: SIDs or labels, `*` for any text.
    pub include: Vec<String>,
    /// Never these.
    pub exclude: Vec<String>,
    /// Labels by SID; a SID without one is its own label, with the region behind it if there is one
    /// here.
    pub names: BTreeMap<String, String>,
    /// The region, where the same subaccounts may be polled in another one, too.
    pub region: Option<String>,
    /// Accounts of the same region that are configured themselves: polled twice, they would be
    /// counted twice.
    pub configured: BTreeSet<AccountSid>,
}

impl Wanted {
    /// The label of a subaccount.
    pub fn label(&self, sid: AccountSid) -> String {
        let sid = sid.to_string();
        match (self.names.get(&sid), &self.region) {
            (Some(name), _) => name.clone(),
            (None, Some(region)) => format!("{sid}@{region}"),
            (None, None) => sid,
        }
    }

    /// Whether a subaccount is to be polled.
    pub fn wants(&self, account: &wire::Account) -> bool {
        let (sid, label) = (account.sid.to_string(), self.label(account.sid));
        let is_in = |patterns: &[String]| {
            patterns.iter().any(|pattern| matches(pattern, &sid) || matches(pattern, &label))
        };
        account.status != "closed"
            && !self.configured.contains(&account.sid)
            && (self.include.is_empty() || is_in(&self.include))
            && !is_in(&self.exclude)
    }
}

/// Whether a text matches a pattern in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((prefix, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut tail) = text.strip_prefix(prefix) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return tail.ends_with(part);
        }
        let Some(at) = tail.find(part) else { return false };
        tail = &tail[at + part.len()..];
    }
    true
}

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
    loop {
        heartbeat.promise(DISCOVER_EVERY);
        let discovered = tokio::select! {
            () = subaccounts.loops.stop().cancelled() => return,
            discovered = discover(&subaccounts.parent, &subaccounts.shared, &heartbeat) => discovered,
        };
        let pause = match discovered {
            Ok(Discovered { accounts, is_complete }) => {
                subaccounts.follow(accounts, is_complete);
                subaccounts.remember(&mut remembered, &heartbeat).await;
                DISCOVER_EVERY
            }
            Err(error) => {
                tracing::warn!(account = subaccounts.parent.label, %error, "cannot list the subaccounts");
                RETRY_AFTER
            }
        };
        // Twilio may have made it wait for as long as it liked.
        heartbeat.promise(pause);
        if wait(pause, subaccounts.loops.stop()).await.is_none() {
            return;
        }
    }
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
            found.into_iter().filter(|account| self.wanted.wants(account)).collect();
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
) -> Result<Discovered, crate::twilio::Error> {
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
        let answer = pass.ask(parent.client.list_accounts(next.as_deref())).await;
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
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("acme", "acme", true),
            ("acme", "acme-1", false),
            ("acme*", "acme-1", true),
            ("*-1", "acme-1", true),
            ("a*e-*", "acme-1", true),
            ("a*x*", "acme-1", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_label_is_a_name_or_a_sid_that_tells_the_region_where_there_are_several() {
        let sid = found("active").sid;
        let names = BTreeMap::from([(sid.to_string(), "acme".to_owned())]);
        let label = |names: &BTreeMap<String, String>, region: Option<&str>| {
            let (names, region) = (names.clone(), region.map(str::to_owned));
            Wanted { names, region, ..Wanted::default() }.label(sid)
        };
        assert_eq!(label(&names, Some("ie1")), "acme");
        assert_eq!(label(&BTreeMap::new(), Some("ie1")), format!("{sid}@ie1"));
        assert_eq!(label(&BTreeMap::new(), None), sid.to_string());
    }

    #[test]
    fn closed_accounts_are_not_polled_and_suspended_ones_are() {
        for (status, expected) in [("active", true), ("suspended", true), ("closed", false)] {
            assert_eq!(Wanted::default().wants(&found(status)), expected, "{status}");
        }
    }

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
