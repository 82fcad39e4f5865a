//! How many requests an account may have in flight: slow up, all the way down at a 429.

/// Successes that earn one more concurrent request.
const SUCCESSES_PER_STEP: u32 = 20;

/// The adaptive limit of one account. Twilio limits concurrent requests per account and shares
/// the limit with the customer's live calls: <https://www.twilio.com/docs/api/errors/20429>.
#[derive(Clone, Debug)]
pub struct Concurrency {
    limit: usize,
    max: usize,
    successes: u32,
}

impl Concurrency {
    /// Starts at one request, to grow to at most `max`.
    pub fn new(max: usize) -> Self {
        Self { limit: 1, max: max.max(1), successes: 0 }
    }

    /// How many requests may be in flight.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Notes a request that succeeded.
    pub fn succeeded(&mut self) {
        self.successes += 1;
        if self.successes >= SUCCESSES_PER_STEP {
            self.successes = 0;
            self.limit = (self.limit + 1).min(self.max);
        }
    }

    /// Notes a 429: one request at a time until twenty have succeeded.
    pub fn throttled(&mut self) {
        self.limit = 1;
        self.successes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_grows_by_successes_up_to_the_maximum_and_falls_to_one() {
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
