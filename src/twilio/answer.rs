//! A request to Twilio and its result.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::domain::engine::request::Resource;

use super::error::Error;

/// A request that was sent, successful or not.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The requested resource.
    pub resource: Resource,
    /// The HTTP status code, if there was a response.
    pub code: Option<u16>,
    /// The duration of the request, including reading the response.
    pub took: Duration,
    /// When the headers of the response arrived, if they did.
    pub answered: Option<Instant>,
    /// Twilio's time (`Date` header).
    pub date: Option<Timestamp>,
    /// The number of concurrent requests of the whole account (`Twilio-Concurrent-Requests` header).
    pub concurrent_requests: Option<u64>,
}

/// A request and its result.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The request; `None` if the client refused to send it.
    pub attempt: Option<Attempt>,
    /// The decoded response, or why the request failed.
    pub result: Result<T, Error>,
}

impl<T> Answer<T> {
    /// Converts a successful result.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { attempt: self.attempt, result: self.result.map(convert) }
    }
}
