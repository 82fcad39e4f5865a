//! When requests may be sent: at most the given rate, few at once, and none for as long as Twilio asks.
//!
//! The pace is the poll loops' own: after a 429, there is one request at a time until one succeeds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::domain::engine::failure::{Failure, Verdict};
use crate::domain::engine::pace::Pace;
use crate::domain::engine::request::RequestId;
use crate::poller::random;

/// How far requests may fall behind their schedule and still catch up: the resolution of timers. More would allow
/// bursts.
const MAX_BEHIND: Duration = Duration::from_millis(5);

/// Admits requests of all accounts.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<GateState>,
    changed: Notify,
    clock: Clock,
    interval: Duration,
}

#[derive(Debug)]
struct GateState {
    pace: Pace,
    in_flight: usize,
    /// When the next request is due.
    next_at: Instant,
    last: RequestId,
}

impl Gate {
    /// Admits at most `rate` requests per second, and `concurrency` at once.
    pub(super) fn new(clock: Clock, rate: f64, concurrency: usize) -> Self {
        let state = GateState {
            pace: Pace::new(concurrency),
            in_flight: 0,
            next_at: Instant::now(),
            last: RequestId::FIRST,
        };
        let interval = Duration::from_secs_f64(1.0 / rate);
        Self { state: Mutex::new(state), changed: Notify::new(), clock, interval }
    }

    /// Waits until a request may be sent.
    pub(super) async fn admit(&self) -> Admitted<'_> {
        loop {
            let changed = self.changed.notified();
            match self.try_admit() {
                Ok(id) => return Admitted { gate: self, id },
                Err(Some(wait)) => tokio::time::sleep(wait).await,
                Err(None) => changed.await,
            }
        }
    }

    /// Admits a request, or returns how long to wait; `None`: until another one ends.
    fn try_admit(&self) -> Result<RequestId, Option<Duration>> {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, local) = (Instant::now(), self.clock.now());
        let paused = state.pace.all_paused_until().duration_since(local);
        if paused.is_positive() {
            return Err(Some(paused.unsigned_abs()));
        }
        if state.pace.free(state.in_flight) == 0 {
            return Err(None);
        }
        let early = state.next_at.saturating_duration_since(now);
        if !early.is_zero() {
            return Err(Some(early));
        }
        state.next_at =
            state.next_at.max(now.checked_sub(MAX_BEHIND).unwrap_or(now)) + self.interval;
        state.in_flight += 1;
        state.last = state.last.next();
        Ok(state.last)
    }
}

/// A request that may be sent.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    gate: &'a Gate,
    /// The request's id.
    pub(super) id: RequestId,
}

impl Admitted<'_> {
    /// Adapts the pace to the result of the request.
    pub(super) fn ended<T>(self, result: &Result<T, Failure>) {
        let (now, random) = (self.gate.clock.now(), random());
        let state = &mut *self.gate.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, pace) = (state.last, &mut state.pace);
        match result.as_ref().map_err(|failure| failure.verdict) {
            Err(Verdict::Throttled { retry_after }) => {
                pace.throttled(last, retry_after, now, random)
            }
            Err(Verdict::Failed { retry_after }) => pace.failed(None, retry_after, now, random),
            Ok(_) | Err(Verdict::Refused | Verdict::NotFound | Verdict::Unreadable) => {
                pace.end_probing_after(self.id);
                pace.succeeded();
            }
        }
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.in_flight = state.in_flight.saturating_sub(1);
        drop(state);
        self.gate.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn admits_no_more_than_the_rate_and_the_concurrency() {
        let gate = Gate::new(Clock::start(), 200.0, 1);
        let began = Instant::now();
        for _ in 0..21 {
            let admitted = gate.admit().await;
            assert_eq!(gate.try_admit(), Err(None), "one at a time");
            admitted.ended::<()>(&Ok(()));
        }
        assert!(began.elapsed() >= Duration::from_millis(95), "{:?}", began.elapsed());
    }
}
