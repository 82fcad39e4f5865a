//! Entries of the error log that Twilio pushes, on their way into the loops of their accounts.
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

/// Deliveries that may wait for a loop: further ones are refused, and pushed again.
const MAX_WAITING: usize = 16;
/// The region whose error log is pushed, where an account is polled in several.
const FIRST_REGION: &str = "us1";

/// The inboxes of all accounts that are polled.
#[derive(Clone, Debug, Default)]
pub struct Inboxes(Arc<Mutex<BTreeMap<AccountKey, InboxSender>>>);

/// The way into an account's loop.
#[derive(Clone, Debug)]
struct InboxSender {
    /// The account that signs what is pushed for this one: itself, or its parent.
    signer: AccountSid,
    sender: mpsc::Sender<Delivery>,
    /// Cancelled before the loop ends.
    stop: CancellationToken,
}

/// Entries of one account, and who waits for them to be committed.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) entries: Vec<LoggedError>,
    /// How many more could not be read.
    pub(super) rejected: u64,
    committed: oneshot::Sender<()>,
}

/// What is pushed for one account; further deliveries end with it.
#[derive(Debug)]
pub(super) struct Inbox {
    key: AccountKey,
    inboxes: Inboxes,
    sender: mpsc::Sender<Delivery>,
    receiver: mpsc::Receiver<Delivery>,
}

/// What was pushed is not committed: it has to be pushed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not committed")]
pub struct NotCommitted;

impl Inboxes {
    /// Hands entries to the loops of their accounts, and waits until those have committed them. Entries of an
    /// account that isn't polled, or that the signer has no say in, are left out.
    ///
    /// # Errors
    /// [`NotCommitted`], where some of them may not have been.
    pub async fn deliver(&self, pushed: Pushed) -> Result<(), NotCommitted> {
        let mut waiting = Vec::new();
        for (entrance, entries, rejected) in self.sort(pushed)? {
            let (committed, told) = oneshot::channel();
            let delivery = Delivery { entries, rejected, committed };
            entrance.sender.try_send(delivery).map_err(|_| NotCommitted)?;
            waiting.push(told);
        }
        for told in waiting {
            told.await.map_err(|_| NotCommitted)?;
        }
        Ok(())
    }

    /// Entries by the loops that they belong to.
    fn sort(
        &self,
        pushed: Pushed,
    ) -> Result<Vec<(InboxSender, Vec<LoggedError>, u64)>, NotCommitted> {
        let Pushed { signer, entries, rejected } = pushed;
        let inboxes = self.lock();
        // All loops of an account and its subaccounts end together, the account's own at the earliest: while
        // it is there, a subaccount without a loop isn't polled.
        let own = entrance(&inboxes, signer, signer).filter(|own| !own.stop.is_cancelled());
        let own = own.ok_or(NotCommitted)?;
        let mut sorted = BTreeMap::from([(signer, (own, Vec::new(), rejected))]);
        for entry in entries {
            let account = entry.account.unwrap_or(signer);
            if let Some((_, entries, _)) = sorted.get_mut(&account) {
                entries.push(entry);
            } else if let Some(entrance) = entrance(&inboxes, account, signer) {
                sorted.insert(account, (entrance, vec![entry], 0));
            }
        }
        sorted.retain(|_, (_, entries, rejected)| !entries.is_empty() || *rejected > 0);
        Ok(sorted.into_values().collect())
    }

    /// Opens the inbox of a loop that ends after `stop`.
    pub(super) fn open(
        &self,
        key: AccountKey,
        signer: AccountSid,
        stop: CancellationToken,
    ) -> Inbox {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let entrance = InboxSender { signer, sender: sender.clone(), stop };
        self.lock().insert(key.clone(), entrance);
        Inbox { key, inboxes: self.clone(), sender, receiver }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AccountKey, InboxSender>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to an account for what a signer signed. Twilio doesn't tell the region.
fn entrance(
    inboxes: &BTreeMap<AccountKey, InboxSender>,
    account: AccountSid,
    signer: AccountSid,
) -> Option<InboxSender> {
    let of_account = || {
        let all = inboxes.iter().filter(move |(key, _)| key.sid == account);
        all.filter(|(_, entrance)| entrance.signer == signer)
    };
    let first = of_account().find(|(key, _)| key.region == FIRST_REGION);
    first.or_else(|| of_account().next()).map(|(_, entrance)| entrance.clone())
}

impl Inbox {
    /// The next delivery, and all that wait with it.
    pub(super) async fn next(&mut self) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        // It holds a sender itself, so that this waits rather than ends.
        self.receiver.recv_many(&mut deliveries, MAX_WAITING).await;
        deliveries
    }

    /// What waits now.
    pub(super) fn waiting(&mut self) -> Vec<Delivery> {
        std::iter::from_fn(|| self.receiver.try_recv().ok()).take(MAX_WAITING).collect()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut inboxes = self.inboxes.lock();
        // The account's next loop may have opened its own.
        if inboxes.get(&self.key).is_some_and(|own| own.sender.same_channel(&self.sender)) {
            inboxes.remove(&self.key);
        }
    }
}

impl Delivery {
    /// Tells that the entries are committed.
    pub(super) fn committed(self) {
        // Twilio waits for five seconds, and pushes again.
        let _gone = self.committed.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::words::error_log::{ErrorCode, Level, Product};
    use crate::domain::words::sid::ErrorLogSid;

    #[tokio::test]
    async fn entries_go_to_their_accounts_and_are_told_as_counted_once_committed() {
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
            delivery.committed();
        }
        assert_eq!(delivered.await.expect("no panic"), Ok(()));
        assert!(other.receiver.try_recv().is_err(), "an account has no say in another");
    }

    #[tokio::test]
    async fn what_is_not_committed_is_told_so() {
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
        let told = async |delivered: tokio::task::JoinHandle<_>| {
            Ok::<_, ()>(delivered.await.expect("no panic"))
        };
        assert_eq!(told(push(1)).await, not_committed, "no loop has begun");
        let mut inbox = open(&inboxes, 1, "us1", 1);
        let delivered = push(1);
        drop(inbox.next().await);
        assert_eq!(told(delivered).await, not_committed, "the loop could not write it");
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| push(1)).collect();
        while inbox.receiver.len() < MAX_WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(told(push(1)).await, not_committed, "too many wait");
        drop(inbox);
        for delivered in waiting {
            assert_eq!(told(delivered).await, not_committed, "the loop has ended");
        }
        let stop = CancellationToken::new();
        let _ending = inboxes.open(key(1, "us1"), sid(1), stop.clone());
        stop.cancel();
        assert_eq!(told(push(1)).await, not_committed, "the loop is about to end");
    }

    #[tokio::test]
    async fn of_an_account_in_several_regions_the_first_is_pushed_and_a_new_loop_takes_over() {
        let inboxes = Inboxes::default();
        let old = open(&inboxes, 1, "us1", 1);
        let mut other = open(&inboxes, 1, "ie1", 1);
        let mut new = open(&inboxes, 1, "us1", 1);
        drop(old);
        let pushed = || Pushed { signer: sid(1), entries: vec![entry(1, Some(1))], rejected: 0 };
        let one = inboxes.deliver(pushed());
        let (told, ()) = tokio::join!(one, async {
            new.next().await.into_iter().for_each(Delivery::committed);
        });
        assert_eq!(told, Ok(()));
        drop(new);
        let (told, ()) = tokio::join!(inboxes.deliver(pushed()), async {
            other.next().await.into_iter().for_each(Delivery::committed);
        });
        assert_eq!(told, Ok(()));
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
