//! Reading an HTTP response: its head, its body up to a limit, and what a refusal means.

use std::num::IntErrorKind;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::advice::{MISSING_PERMISSION, NOT_ACTIVE};
use super::cause::transport;
use super::error::{Error, Status};

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
/// Largest number that is taken for an error code of Twilio's: they have five digits.
const MAX_ERROR_CODE: u32 = 999_999;

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
    let http = response.status().as_u16();
    let retry_after = header(response.headers(), RETRY_AFTER.as_str()).and_then(seconds);
    // Read in any case: a connection whose answer was left unread can't be used again.
    let body = read_body(response, MAX_ERROR_BYTES, large).await;
    let body = body.map(|body| error_body(&body.bytes)).unwrap_or_default();
    let (code, permission) = (body.code, body.permission);
    let status = Status { http, code };
    match (http, code) {
        (401 | 403, _) if permission.is_some() || code == Some(MISSING_PERMISSION) => {
            Error::MissingPermission { permission, status }
        }
        (401 | 403, Some(NOT_ACTIVE)) => Error::NotActive(status),
        (401 | 403, _) => Error::Unauthorized(status),
        (404, _) => Error::NotFound(status),
        (429, _) => Error::TooManyRequests { retry_after, code },
        (500..=599, _) => Error::Server { status, retry_after },
        (_, _) => Error::UnexpectedStatus(status),
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

/// What is known of the body of an error.
#[derive(Debug, Default, PartialEq, Eq)]
struct ErrorBody {
    code: Option<u32>,
    permission: Option<String>,
}

/// The code of an error, and the permission that it says is missing: the only word of an answer that
/// is passed on. The body of a proxy or gateway has neither.
fn error_body(body: &[u8]) -> ErrorBody {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let code = match body.get("code") {
        Some(Value::Number(code)) => code.as_u64().and_then(|code| u32::try_from(code).ok()),
        Some(Value::String(code)) => code.trim().parse().ok(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
    };
    let code = code.filter(|code| (1..=MAX_ERROR_CODE).contains(code));
    let message = body.get("message").and_then(Value::as_str);
    // Not only in error 70051: other parts of Twilio's API number it otherwise.
    let permission = message.filter(|text| text.contains("permission")).and_then(permission);
    ErrorBody { code, permission }
}

/// The first word that looks like a permission. Twilio's message names it without the leading slash
/// that it has in the documentation and the console.
fn permission(message: &str) -> Option<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || "/.-_".contains(c);
    let words = message.split(|c: char| !is_part(c) && !c.is_alphanumeric());
    words.map(|word| word.trim_matches(|c: char| "/.-_".contains(c))).find_map(|word| {
        let is_permission =
            word.starts_with("twilio/") && word.len() < 100 && word.chars().all(is_part);
        is_permission.then(|| format!("/{word}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_permission_is_passed_on_from_an_error() {
        let named = |text: &str| {
            error_body(format!("{{\"code\":70051,\"message\":\"{text}\"}}").as_bytes()).permission
        };
        const LIST: &str = "/twilio/voice/calls/list";
        for (message, expected) in [
            // As recorded, and as the documentation writes it.
            (
                "Authorization Error: required permission twilio/voice/calls/list is missing",
                Some(LIST),
            ),
            (
                "Authorization Error: required permission /twilio/voice/calls/list is missing",
                Some(LIST),
            ),
            ("missing permission: 'twilio/voice/calls/list'.", Some(LIST)),
            ("required permissions [/twilio/voice/calls/list, twilio/x/read]", Some(LIST)),
            (
                "required permission twilio/voice/insights.call.events/list is missing",
                Some("/twilio/voice/insights.call.events/list"),
            ),
            ("token 12345 /etc/passwd", None),
            ("required permission twilio/", None),
            ("permission: https://api.example/twilio/x", None),
            ("permission: twilio/+15005550006", None),
            ("permission: twilio/calls/15005550006", None),
            ("see twilio/docs/errors", None),
            ("", None),
        ] {
            assert_eq!(named(message).as_deref(), expected, "{message}");
        }
    }

    #[tokio::test]
    async fn errors_that_twilio_was_seen_to_answer_are_recognised() {
        const RECORDED: &str = include_str!("../../tests/fixtures/twilio/recorded-errors.json");
        let recorded: Vec<Value> = serde_json::from_str(RECORDED).expect("JSON");
        assert!(!recorded.is_empty());
        for one in recorded {
            let status = one["status"].as_u64().and_then(|status| u16::try_from(status).ok());
            let response = axum::http::Response::builder().status(status.expect("a status"));
            let response = response.body(one["body"].to_string()).expect("a response");
            let response = reqwest::Response::from(response);
            let error = refusal(response, &LargeBodies::default()).await;
            assert_eq!(error.reason().as_str(), one["reason"], "{one}");
            match (&error, one["body"]["code"].as_u64()) {
                (Error::MissingPermission { permission, .. }, _) => {
                    assert_eq!(permission.as_deref(), one["permission"].as_str(), "{one}");
                }
                (_, code) => {
                    let code = code.expect("a code");
                    assert!(error.to_string().contains(&format!("Twilio error {code}")), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_code_is_read_however_it_is_written_and_a_page_of_html_has_none() {
        for (body, expected) in [
            (r#"{"code":20003,"message":"Authenticate","status":401}"#, Some(20_003)),
            (r#"{"code":"20005"}"#, Some(20_005)),
            (r#"{"code":null,"message":"x"}"#, None),
            (r#"{"code":-1}"#, None),
            (r#"{"code":1.5}"#, None),
            (r#"{"code":15005550006}"#, None),
            (r#"{"message":"x"}"#, None),
            ("[20003]", None),
            ("<html>20003</html>", None),
            ("", None),
        ] {
            assert_eq!(error_body(body.as_bytes()).code, expected, "{body}");
        }
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
