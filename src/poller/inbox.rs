//! Passes the error log entries that Twilio pushes to the poll loops of their accounts.
//!
//! Invariant: a delivery succeeds only after its entries are committed. If the loop has not started, is ending
//! or can't write, the delivery fails, and Twilio pushes the entries again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::domain::words::error_log::LoggedError;
use crate::domain::words::sid::AccountSid;
use crate::store::AccountKey;
use crate::twilio::push::Pushed;

/// The maximum number of deliveries that wait for a loop. Further ones fail, and Twilio pushes them again.
const MAX_WAITING: usize = 16;
/// The region that gets the pushed entries if an account is polled in several.
const FIRST_REGION: &str = "us1";

/// The inboxes of all polled accounts.
#[derive(Clone, Debug, Default)]
pub struct Inboxes(Arc<Mutex<BTreeMap<AccountKey, InboxSender>>>);

/// The sending half of an account's inbox.
#[derive(Clone, Debug)]
struct InboxSender {
    /// The account that signs pushes for this one: itself or its parent.
    signer: AccountSid,
    sender: mpsc::Sender<Delivery>,
    /// Cancelled before the loop ends.
    stop: CancellationToken,
}

/// Entries of one account, and the channel that confirms their commit.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) entries: Vec<LoggedError>,
    /// The number of entries that could not be decoded.
    pub(super) rejected: u64,
    confirmation: oneshot::Sender<()>,
}

/// The inbox of one account, which closes when this is dropped.
#[derive(Debug)]
pub(super) struct Inbox {
    key: AccountKey,
    inboxes: Inboxes,
    sender: mpsc::Sender<Delivery>,
    receiver: mpsc::Receiver<Delivery>,
}

/// The entries may not be committed, and have to be pushed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not committed")]
pub struct NotCommitted;

impl Inboxes {
    /// Passes entries to the loops of their accounts, and waits until they are committed. Skips entries of accounts
    /// that aren't polled, or for which the signer may not push.
    ///
    /// # Errors
    /// [`NotCommitted`] if some entries may not be committed.
    pub async fn deliver(&self, pushed: Pushed) -> Result<(), NotCommitted> {
        let mut waiting = Vec::new();
        for (inbox, entries, rejected) in self.sort(pushed)? {
            let (confirmation, confirmed) = oneshot::channel();
            let delivery = Delivery { entries, rejected, confirmation };
            inbox.sender.try_send(delivery).map_err(|_| NotCommitted)?;
            waiting.push(confirmed);
        }
        for confirmed in waiting {
            confirmed.await.map_err(|_| NotCommitted)?;
        }
        Ok(())
    }

    /// Groups entries by the loop that they belong to.
    fn sort(
        &self,
        pushed: Pushed,
    ) -> Result<Vec<(InboxSender, Vec<LoggedError>, u64)>, NotCommitted> {
        let Pushed { signer, entries, rejected } = pushed;
        let inboxes = self.lock();
        // All loops of an account and its subaccounts are stopped together. So unless the account's own loop
        // is stopped, a subaccount without a loop isn't polled.
        let own = find_sender(&inboxes, signer, signer).filter(|own| !own.stop.is_cancelled());
        let own = own.ok_or(NotCommitted)?;
        let mut sorted = BTreeMap::from([(signer, (own, Vec::new(), rejected))]);
        for entry in entries {
            let account = entry.account.unwrap_or(signer);
            if let Some((_, entries, _)) = sorted.get_mut(&account) {
                entries.push(entry);
            } else if let Some(inbox) = find_sender(&inboxes, account, signer) {
                sorted.insert(account, (inbox, vec![entry], 0));
            }
        }
        sorted.retain(|_, (_, entries, rejected)| !entries.is_empty() || *rejected > 0);
        Ok(sorted.into_values().collect())
    }

    /// Opens the inbox of a loop that ends once `stop` is cancelled.
    pub(super) fn open(
        &self,
        key: AccountKey,
        signer: AccountSid,
        stop: CancellationToken,
    ) -> Inbox {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let inbox_sender = InboxSender { signer, sender: sender.clone(), stop };
        self.lock().insert(key.clone(), inbox_sender);
        Inbox { key, inboxes: self.clone(), sender, receiver }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AccountKey, InboxSender>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the inbox of an account for pushes by a signer. Twilio doesn't report the region.
fn find_sender(
    inboxes: &BTreeMap<AccountKey, InboxSender>,
    account: AccountSid,
    signer: AccountSid,
) -> Option<InboxSender> {
    let of_account = || {
        let all = inboxes.iter().filter(move |(key, _)| key.sid == account);
        all.filter(|(_, inbox)| inbox.signer == signer)
    };
    let first = of_account().find(|(key, _)| key.region == FIRST_REGION);
    first.or_else(|| of_account().next()).map(|(_, inbox)| inbox.clone())
}

impl Inbox {
    /// Waits for a delivery, and returns all that are pending.
    pub(super) async fn next(&mut self) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        // The inbox holds a sender itself, so the channel never closes.
        self.receiver.recv_many(&mut deliveries, MAX_WAITING).await;
        deliveries
    }

    /// Returns the pending deliveries.
    pub(super) fn pending(&mut self) -> Vec<Delivery> {
        std::iter::from_fn(|| self.receiver.try_recv().ok()).take(MAX_WAITING).collect()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut inboxes = self.inboxes.lock();
        // The account's next loop may already have opened its own inbox.
        if inboxes.get(&self.key).is_some_and(|own| own.sender.same_channel(&self.sender)) {
            inboxes.remove(&self.key);
        }
    }
}

impl Delivery {
    /// Confirms that the entries are committed.
    pub(super) fn confirm(self) {
        // The receiver may be gone: Twilio waits for five seconds, then pushes again.
        let _receiver_gone = self.confirmation.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::words::error_log::{ErrorCode, Level, Product};
    use crate::domain::words::sid::ErrorLogSid;

    #[tokio::test]
    async fn delivers_entries_to_their_accounts_and_waits_for_the_commit() {
        let inboxes = Inboxes::default();
        let mut parent = open(&inboxes, 1, "us1", 1);
        let mut subaccount = open(&inboxes, 2, "us1", 1);
        let mut other = open(&inboxes, 3, "us1", 3);
        let entries = vec![entry(1, Some(1)), entry(2, Some(2)), entry(3, None), entry(4, Some(3))];
        let pushed = Pushed { signer: sid(1), entries, rejected: 5 };
        let delivered = tokio::spawn(async move { inboxes.deliver(pushed).await });
        let own = parent.next().await;
        assert_eq!((numbers(&own), own[0].rejected), (vec![1, 3], 5));
        let of_subaccount = subaccount.next().await;
        assert_eq!((numbers(&of_subaccount), of_subaccount[0].rejected), (vec![2], 0));
        for delivery in own.into_iter().chain(of_subaccount) {
            assert!(!delivered.is_finished(), "not before all are committed");
            delivery.confirm();
        }
        assert_eq!(delivered.await.expect("no panic"), Ok(()));
        assert!(other.receiver.try_recv().is_err(), "an account can't push for another");
    }

    #[tokio::test]
    async fn reports_uncommitted_entries() {
        let inboxes = Inboxes::default();
        let push = |account| {
            let pushed = Pushed {
                signer: sid(account),
                entries: vec![entry(1, Some(account))],
                rejected: 0,
            };
            let inboxes = inboxes.clone();
            tokio::spawn(async move { inboxes.deliver(pushed).await })
        };
        let not_committed = Ok(Err(NotCommitted));
        let result_of = async |delivered: tokio::task::JoinHandle<_>| {
            Ok::<_, ()>(delivered.await.expect("no panic"))
        };
        assert_eq!(result_of(push(1)).await, not_committed, "no loop has started");
        let mut inbox = open(&inboxes, 1, "us1", 1);
        let delivered = push(1);
        drop(inbox.next().await);
        assert_eq!(result_of(delivered).await, not_committed, "the loop dropped the delivery");
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| push(1)).collect();
        while inbox.receiver.len() < MAX_WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(result_of(push(1)).await, not_committed, "too many deliveries are pending");
        drop(inbox);
        for delivered in waiting {
            assert_eq!(result_of(delivered).await, not_committed, "the loop has ended");
        }
        let stop = CancellationToken::new();
        let _ending = inboxes.open(key(1, "us1"), sid(1), stop.clone());
        stop.cancel();
        assert_eq!(result_of(push(1)).await, not_committed, "the loop is about to end");
    }

    #[tokio::test]
    async fn prefers_the_first_region_and_the_latest_loop() {
        let inboxes = Inboxes::default();
        let old = open(&inboxes, 1, "us1", 1);
        let mut other = open(&inboxes, 1, "ie1", 1);
        let mut new = open(&inboxes, 1, "us1", 1);
        drop(old);
        let pushed = || Pushed { signer: sid(1), entries: vec![entry(1, Some(1))], rejected: 0 };
        let delivery = inboxes.deliver(pushed());
        let (result, ()) = tokio::join!(delivery, async {
            new.next().await.into_iter().for_each(Delivery::confirm);
        });
        assert_eq!(result, Ok(()));
        drop(new);
        let (result, ()) = tokio::join!(inboxes.deliver(pushed()), async {
            other.next().await.into_iter().for_each(Delivery::confirm);
        });
        assert_eq!(result, Ok(()));
        drop(other);
        assert!(inboxes.lock().is_empty());
    }

    fn open(inboxes: &Inboxes, account: u64, region: &str, signer: u64) -> Inbox {
        inboxes.open(key(account, region), sid(signer), CancellationToken::new())
    }

    fn key(account: u64, region: &str) -> AccountKey {
        AccountKey { sid: sid(account), region: region.to_owned() }
    }

    fn sid(account: u64) -> AccountSid {
        AccountSid::parse(&format!("AC{account:032}")).expect("a SID")
    }

    fn entry(number: u64, account: Option<u64>) -> LoggedError {
        LoggedError {
            sid: ErrorLogSid::parse(&format!("NO{number:032}")).expect("a SID"),
            account: account.map(sid),
            product: Product::Voice,
            call_sid: None,
            code: ErrorCode::Other,
            level: Level::Error,
            request_url: None,
            generated_at: None,
        }
    }

    fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
        let entries = deliveries.iter().flat_map(|delivery| &delivery.entries);
        entries.map(|entry| entry.sid.to_string()[2..].parse().expect("a number")).collect()
    }
}
