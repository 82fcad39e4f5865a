//! The tasks that poll with one configuration, and their end.
//!
//! Invariant: once [`Loops::end`] has returned, none of them does anything any more; what they gave to
//! the store before is the store's.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks that are to end together.
#[derive(Clone, Debug)]
pub struct Loops {
    tasks: TaskTracker,
    stop: CancellationToken,
    abandon: CancellationToken,
}

impl Loops {
    /// None yet; they are to end at the latest when `stop` is cancelled.
    pub fn new(stop: &CancellationToken) -> Self {
        let tasks = TaskTracker::new();
        // More may come; they are waited for all the same.
        tasks.close();
        Self { tasks, stop: stop.child_token(), abandon: CancellationToken::new() }
    }

    /// Cancelled when they are to end.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Begins one; it has no result if it was abandoned.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        self.tasks.spawn(self.abandon.clone().run_until_cancelled_owned(task))
    }

    /// Lets them end, and abandons those that take longer than `grace`. Tells whether none did.
    pub async fn end(&self, grace: Duration) -> bool {
        self.stop.cancel();
        let in_time = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        self.abandon.cancel();
        self.tasks.wait().await;
        in_time
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn what_ends_when_asked_keeps_its_result_and_what_does_not_is_gone() {
        let loops = Loops::new(&CancellationToken::new());
        let stop = loops.stop().clone();
        let obedient = loops.spawn(async move {
            stop.cancelled().await;
            7
        });
        assert!(loops.end(Duration::from_secs(60)).await);
        assert_eq!(obedient.await.expect("no panic"), Some(7));
        let loops = Loops::new(&CancellationToken::new());
        let held = Arc::new(());
        let holding = Arc::clone(&held);
        let stuck = loops.spawn(async move {
            std::future::pending::<()>().await;
            drop(holding);
        });
        assert!(!loops.end(Duration::from_millis(1)).await);
        assert_eq!(Arc::strong_count(&held), 1, "nothing of it is left");
        assert_eq!(stuck.await.expect("no panic"), None);
    }
}
