//! The limit on an account's requests in flight: it grows slowly and drops to one after a 429.

/// The number of successes after which the limit grows by one.
const SUCCESSES_PER_STEP: u32 = 20;

/// The adaptive limit of one account. Twilio limits concurrent requests per account, and the customer's live calls
/// share that limit: <https://www.twilio.com/docs/api/errors/20429>.
#[derive(Clone, Debug)]
pub struct Concurrency {
    limit: usize,
    max: usize,
    successes: u32,
}

impl Concurrency {
    /// Starts at one request and grows to at most `max`.
    pub fn new(max: usize) -> Self {
        Self { limit: 1, max: max.max(1), successes: 0 }
    }

    /// The maximum number of requests in flight.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Notes that a request succeeded.
    pub fn succeeded(&mut self) {
        self.successes += 1;
        if self.successes >= SUCCESSES_PER_STEP {
            self.successes = 0;
            self.limit = (self.limit + 1).min(self.max);
        }
    }

    /// Notes a 429: the limit is one until twenty requests have succeeded.
    pub fn throttled(&mut self) {
        self.limit = 1;
        self.successes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_grows_with_successes_and_drops_to_one_after_a_429() {
        let mut concurrency = Concurrency::new(3);
        assert_eq!(concurrency.limit(), 1);
        for _ in 0..200 {
            concurrency.succeeded();
        }
        assert_eq!(concurrency.limit(), 3);
        concurrency.throttled();
        assert_eq!(concurrency.limit(), 1);
    }
}
