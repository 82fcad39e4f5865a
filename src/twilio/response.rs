//! Reading an HTTP response: its head, its body up to a limit, and what a refusal means.

use std::num::IntErrorKind;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::Error;

/// From how many bytes on a body is large: no page of a hundred ordinary Call Events is.
const LARGE: usize = 1024 * 1024;
/// How many large bodies are read at once.
const LARGE_AT_ONCE: usize = 4;
/// Most bytes of an error body that are looked at.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// Longest wait that a `Retry-After` may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);
/// Most requests that Twilio may say an account has in flight: it allows a hundred or so.
const MAX_CONCURRENT_REQUESTS: u64 = 100_000;
/// Twilio's error code for a missing permission.
const MISSING_PERMISSION: i64 = 70_051;

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

pub(super) fn content_type(headers: &HeaderMap) -> &'static str {
    match header(headers, CONTENT_TYPE.as_str()) {
        None => "none",
        Some(value) if value.contains("json") => "json",
        Some(value) if value.contains("html") => "html",
        Some(_) => "other",
    }
}

pub(super) fn transport(error: &reqwest::Error) -> Error {
    if error.is_timeout() {
        Error::Timeout
    } else if error.is_connect() {
        Error::Connect
    } else {
        Error::Interrupted
    }
}

/// Turns that large bodies take, in the whole process: with 64 requests in flight, bodies of the
/// largest size allowed would fill a gigabyte.
#[derive(Clone, Debug)]
pub struct LargeBodies(Arc<Semaphore>);

impl Default for LargeBodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_AT_ONCE)))
    }
}

/// A body, with its turn if it is large: given back when both are done with.
pub(super) struct Body<'a> {
    pub(super) bytes: Vec<u8>,
    _turn: Option<SemaphorePermit<'a>>,
}

/// Reads a body up to a limit.
pub(super) async fn read_body(
    mut response: reqwest::Response,
    limit: usize,
    large: &LargeBodies,
) -> Result<Body<'_>, Error> {
    let (mut bytes, mut turn) = (Vec::new(), None);
    while let Some(chunk) = response.chunk().await.map_err(|error| transport(&error))? {
        let length = bytes.len() + chunk.len();
        if length > limit {
            return Err(Error::TooLarge { limit });
        }
        if length > LARGE && turn.is_none() {
            // Never closed. Who waits too long runs into the request's timeout.
            turn = large.0.acquire().await.ok();
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Body { bytes, _turn: turn })
}

/// What an answer other than 200 means.
pub(super) async fn refusal(response: reqwest::Response, large: &LargeBodies) -> Error {
    let status = response.status().as_u16();
    let retry_after = header(response.headers(), RETRY_AFTER.as_str()).and_then(seconds);
    // Read in any case: a connection whose answer was left unread can't be used again.
    let body = read_body(response, MAX_ERROR_BYTES, large).await;
    match status {
        401 | 403 => {
            let permission = body.ok().and_then(|body| missing_permission(&body.bytes));
            permission.map_or(Error::Unauthorized { status }, |permission| {
                Error::MissingPermission { permission }
            })
        }
        404 => Error::NotFound,
        429 => Error::TooManyRequests { retry_after },
        500..=599 => Error::Server { status, retry_after },
        _ => Error::UnexpectedStatus { status },
    }
}

/// A number of seconds, bounded, however many digits it has; a date is none, as Twilio sends none.
fn seconds(text: &str) -> Option<Duration> {
    match text.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER)),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Some(MAX_RETRY_AFTER),
        Err(_) => None,
    }
}

/// How many requests Twilio counts for an account; more than any account may have are no number.
pub(super) fn concurrent_requests(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|requests| *requests <= MAX_CONCURRENT_REQUESTS)
}

/// The permission that Twilio's error 70051 names: the only word of an answer that is passed on,
/// and only if it looks like a permission.
fn missing_permission(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    if body.get("code")?.as_i64()? != MISSING_PERMISSION {
        return None;
    }
    let is_permission = |word: &&str| {
        word.starts_with("/twilio/")
            && word.len() < 100
            && word.bytes().all(|b| b.is_ascii_lowercase() || b"/.-_".contains(&b))
    };
    let word = body.get("message")?.as_str()?.split_whitespace().find(is_permission)?;
    Some(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_permission_is_passed_on_from_an_error() {
        let message = |text: &str| {
            missing_permission(format!("{{\"code\":70051,\"message\":\"{text}\"}}").as_bytes())
        };
        assert_eq!(
            message("Authorization Error: required permission /twilio/voice/calls/list is missing"),
            Some("/twilio/voice/calls/list".to_owned())
        );
        assert_eq!(message("token 12345 /etc/passwd"), None);
        assert_eq!(missing_permission(b"{\"code\":20003}"), None);
        assert_eq!(missing_permission(b"<html>"), None);
    }

    #[test]
    fn a_wait_is_bounded_and_what_is_no_number_of_seconds_is_none() {
        for (text, expected) in [
            ("7", Some(Duration::from_secs(7))),
            (" 0 ", Some(Duration::ZERO)),
            ("86400", Some(MAX_RETRY_AFTER)),
            ("18446744073709551616", Some(MAX_RETRY_AFTER)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Tue, 11 Aug 2020 17:44:08 GMT", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn only_a_number_of_requests_that_can_be_is_one() {
        for (text, expected) in [
            ("3", Some(3)),
            ("100000", Some(100_000)),
            ("100001", None),
            ("18446744073709551615", None),
            ("-1", None),
            ("many", None),
        ] {
            assert_eq!(concurrent_requests(text), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn large_bodies_wait_for_their_turn_and_small_ones_do_not() {
        let turns = LargeBodies::default();
        let read = |bytes: usize| {
            let response = axum::http::Response::new(vec![b'x'; bytes]);
            read_body(reqwest::Response::from(response), 2 * LARGE, &turns)
        };
        let mut held = Vec::new();
        for _ in 0..LARGE_AT_ONCE {
            held.push(read(LARGE + 1).await.expect("a body"));
        }
        let mut waiting = std::pin::pin!(read(LARGE + 1));
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("one more than there are turns"),
            small = read(LARGE) => assert_eq!(small.expect("a body").bytes.len(), LARGE),
        }
        held.pop();
        assert_eq!(waiting.await.expect("a body").bytes.len(), LARGE + 1);
        assert!(matches!(read(2 * LARGE + 1).await, Err(Error::TooLarge { .. })));
    }
}
