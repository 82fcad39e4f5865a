//! The poll loops of one configuration, which end together.
//!
//! Invariant: once [`Loops::end`] has returned, no task does anything more; the store still completes commits that
//! they had submitted.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks that end together.
#[derive(Clone, Debug)]
pub struct Loops {
    tasks: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl Loops {
    /// Creates an empty group, which ends at the latest when `stop` is cancelled.
    pub fn new(stop: &CancellationToken) -> Self {
        let tasks = TaskTracker::new();
        // A closed tracker still accepts tasks, and waits for them.
        tasks.close();
        Self { tasks, stop: stop.child_token(), abort: CancellationToken::new() }
    }

    /// Returns the token that is cancelled when the tasks have to end.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Spawns a task; its result is `None` if it is aborted.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        self.tasks.spawn(self.abort.clone().run_until_cancelled_owned(task))
    }

    /// Stops the tasks, and aborts those that take longer than `grace`. Returns whether all ended in time.
    pub async fn end(&self, grace: Duration) -> bool {
        self.stop.cancel();
        let in_time = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        self.abort.cancel();
        self.tasks.wait().await;
        in_time
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn returns_the_result_of_tasks_that_stop_in_time_and_aborts_others() {
        let loops = Loops::new(&CancellationToken::new());
        let stop = loops.stop().clone();
        let stopping = loops.spawn(async move {
            stop.cancelled().await;
            7
        });
        assert!(loops.end(Duration::from_secs(60)).await);
        assert_eq!(stopping.await.expect("no panic"), Some(7));
        let loops = Loops::new(&CancellationToken::new());
        let held = Arc::new(());
        let holding = Arc::clone(&held);
        let stuck = loops.spawn(async move {
            std::future::pending::<()>().await;
            drop(holding);
        });
        assert!(!loops.end(Duration::from_millis(1)).await);
        assert_eq!(Arc::strong_count(&held), 1, "the task was dropped");
        assert_eq!(stuck.await.expect("no panic"), None);
    }
}
