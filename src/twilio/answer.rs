//! What a request is, and what came of it.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::domain::engine::request::Resource;

use super::error::Error;

/// One request, whatever came of it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What was asked for.
    pub resource: Resource,
    /// The status, if there was an answer.
    pub code: Option<u16>,
    /// How long it took.
    pub took: Duration,
    /// When the head of the answer arrived, if it did.
    pub answered: Option<Instant>,
    /// Twilio's time (`Date` header).
    pub date: Option<Timestamp>,
    /// Concurrent requests of the whole account (`Twilio-Concurrent-Requests` header).
    pub concurrent_requests: Option<u64>,
}

/// A request and what came of it.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The request; `None` if it was refused here, and never sent.
    pub attempt: Option<Attempt>,
    /// What came of it.
    pub result: Result<T, Error>,
}

impl<T> Answer<T> {
    /// The same answer, with what it shows made into something else.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { attempt: self.attempt, result: self.result.map(make) }
    }
}
