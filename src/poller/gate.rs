//! What bounds the requests that are made for one account, whoever makes them.
//!
//! Invariant: an account never has more requests in flight than `api.max_concurrency`, and after a
//! 429 at most one until one has succeeded. So each single request passes here, also the next pages
//! of a read that began before the 429.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, watch};

use crate::twilio::{Answer, Error};

/// The gate of an account.
#[derive(Debug)]
pub struct Gate {
    permits: Semaphore,
    /// Since when it is closed: the last 429, until a request that was made after it has succeeded.
    closed_at: watch::Sender<Option<Instant>>,
}

impl Gate {
    /// An open gate for so many requests at once.
    pub fn new(max_concurrency: usize) -> Arc<Self> {
        let closed_at = watch::Sender::new(None);
        Arc::new(Self { permits: Semaphore::new(max_concurrency), closed_at })
    }

    /// Whether there was a 429, and no success since.
    pub(super) fn is_closed(&self) -> bool {
        self.closed_at.borrow().is_some()
    }

    /// Waits until it is open.
    pub(super) async fn opened(&self) {
        let mut closed_at = self.closed_at.subscribe();
        // The sender is here, so that it can't be gone.
        let _open = closed_at.wait_for(Option::is_none).await;
    }

    fn note<T>(&self, asked_at: Instant, result: &Result<T, Error>) {
        match result {
            Err(Error::TooManyRequests { .. }) => {
                self.closed_at.send_replace(Some(Instant::now()));
            }
            Ok(_) => {
                self.closed_at.send_if_modified(|closed_at| {
                    let opens = closed_at.is_some_and(|closed_at| closed_at <= asked_at);
                    if opens {
                        *closed_at = None;
                    }
                    opens
                });
            }
            Err(_) => {}
        }
    }
}

/// Leave to ask for one account.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    /// Requests of all accounts together.
    budget: Arc<Semaphore>,
    /// Whether it is the one request that tries whether a closed gate opens.
    is_probe: bool,
}

impl Pass {
    /// A pass for what is begun now: through a closed gate, the one request that may try it.
    pub(super) fn now(gate: &Arc<Gate>, budget: &Arc<Semaphore>) -> Self {
        Self { gate: Arc::clone(gate), budget: Arc::clone(budget), is_probe: gate.is_closed() }
    }

    /// Makes a request when its turn has come. One that finds the gate closed meanwhile isn't made:
    /// it counts as throttled.
    pub(super) async fn ask<T>(&mut self, request: impl Future<Output = Answer<T>>) -> Answer<T> {
        // Neither semaphore is ever closed.
        let _of_account = self.gate.permits.acquire().await;
        let _of_all = self.budget.acquire().await;
        // Only a first request tries: when the next page is asked for, the gate is open or closed anew.
        let is_probe = std::mem::take(&mut self.is_probe);
        if self.gate.is_closed() && !is_probe {
            let throttled = Error::TooManyRequests { retry_after: None, code: None };
            return Answer { attempt: None, result: Err(throttled) };
        }
        let asked_at = Instant::now();
        let answer = request.await;
        self.gate.note(asked_at, &answer.result);
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn after_a_429_only_the_probe_passes_until_one_has_succeeded() {
        let (gate, budget) = (Gate::new(4), Arc::new(Semaphore::new(4)));
        let mut before = Pass::now(&gate, &budget);
        let mut throttled = Pass::now(&gate, &budget);
        assert!(ask(&mut throttled, too_many()).await.is_err());
        // A read that began before the 429 gets no further page; nor does the throttled one.
        assert!(ask(&mut before, Ok(())).await.is_err());
        assert!(ask(&mut throttled, Ok(())).await.is_err());
        assert!(gate.is_closed());
        // A probe passes once, and again only after it has succeeded.
        let mut probe = Pass::now(&gate, &budget);
        assert_eq!(ask(&mut probe, Err(Error::Timeout)).await, Err(Error::Timeout));
        assert!(ask(&mut probe, Ok(())).await.is_err());
        let mut probe = Pass::now(&gate, &budget);
        assert_eq!(ask(&mut probe, Ok(())).await, Ok(()));
        assert!(!gate.is_closed());
        assert_eq!(ask(&mut before, Ok(())).await, Ok(()));
        // One that found the gate open after all doesn't try it when it is closed again.
        assert!(ask(&mut before, too_many()).await.is_err());
        let (mut first, mut second) = (Pass::now(&gate, &budget), Pass::now(&gate, &budget));
        assert_eq!(ask(&mut first, Ok(())).await, Ok(()));
        assert_eq!(ask(&mut second, Ok(())).await, Ok(()));
        assert!(ask(&mut first, too_many()).await.is_err());
        assert!(ask(&mut second, Ok(())).await.is_err());
    }

    #[tokio::test]
    async fn a_success_that_was_asked_for_before_the_429_opens_nothing() {
        let (gate, budget) = (Gate::new(4), Arc::new(Semaphore::new(4)));
        let (mut slow, mut throttled) = (Pass::now(&gate, &budget), Pass::now(&gate, &budget));
        let answer = slow.ask(async {
            let _throttled = ask(&mut throttled, too_many()).await;
            Answer { attempt: None, result: Ok(()) }
        });
        assert_eq!(answer.await.result, Ok(()));
        assert!(gate.is_closed());
    }

    #[tokio::test]
    async fn no_more_requests_are_made_at_once_than_are_allowed() {
        let (gate, budget) = (Gate::new(2), Arc::new(Semaphore::new(10)));
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let mut pass = Pass::now(&gate, &budget);
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            requests.spawn(async move {
                let request = async {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    Answer { attempt: None, result: Ok::<(), Error>(()) }
                };
                pass.ask(request).await.result
            });
        }
        while let Some(ended) = requests.join_next().await {
            assert_eq!(ended.expect("no panic"), Ok(()));
        }
        assert_eq!(most.load(Ordering::SeqCst), 2);
    }

    async fn ask(pass: &mut Pass, result: Result<(), Error>) -> Result<(), Error> {
        pass.ask(async { Answer { attempt: None, result } }).await.result
    }

    fn too_many() -> Result<(), Error> {
        Err(Error::TooManyRequests { retry_after: None, code: None })
    }
}
