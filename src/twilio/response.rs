//! Reads an HTTP response: headers, a body up to a limit, and errors.

use std::num::IntErrorKind;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::advice::{MISSING_PERMISSION, NOT_ACTIVE};
use super::cause::transport;
use super::error::{Error, Status};

/// Bodies of more bytes are large. A page of a hundred ordinary Call Events isn't.
const LARGE: usize = 1024 * 1024;
/// The maximum number of large bodies read at once.
const LARGE_AT_ONCE: usize = 4;
/// The maximum size of an error's body in bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// The longest wait that is accepted from `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);
/// The largest number of concurrent requests that is accepted from Twilio, which allows about a hundred.
const MAX_CONCURRENT_REQUESTS: u64 = 100_000;
/// The largest number that is accepted as a Twilio error code. They have five digits.
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

/// Limits how many large bodies the process reads at once: with 64 requests in flight, bodies of the maximum
/// size would take up a gigabyte.
#[derive(Clone, Debug)]
pub struct LargeBodies(Arc<Semaphore>);

impl Default for LargeBodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_AT_ONCE)))
    }
}

/// A body. A large one holds a permit until it is dropped.
pub(super) struct Body<'a> {
    pub(super) bytes: Vec<u8>,
    _permit: Option<SemaphorePermit<'a>>,
}

/// Reads a body of at most `limit` bytes.
pub(super) async fn read_body(
    mut response: reqwest::Response,
    limit: usize,
    large: &LargeBodies,
) -> Result<Body<'_>, Error> {
    let (mut bytes, mut permit) = (Vec::new(), None);
    while let Some(chunk) = response.chunk().await.map_err(|error| transport(&error))? {
        let length = bytes.len() + chunk.len();
        if length > limit {
            return Err(Error::TooLarge { limit });
        }
        if length > LARGE && permit.is_none() {
            // The semaphore is never closed. The request's timeout limits the wait.
            permit = large.0.acquire().await.ok();
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Body { bytes, _permit: permit })
}

/// Converts a response other than 200 into an error.
pub(super) async fn status_error(response: reqwest::Response, large: &LargeBodies) -> Error {
    let http = response.status().as_u16();
    let retry_after = header(response.headers(), RETRY_AFTER.as_str()).and_then(seconds);
    // Always read the body: otherwise the connection can't be reused.
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

/// Parses a number of seconds of any length, capped at [`MAX_RETRY_AFTER`]. Dates are ignored: Twilio sends
/// none.
fn seconds(text: &str) -> Option<Duration> {
    match text.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER)),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Some(MAX_RETRY_AFTER),
        Err(_) => None,
    }
}

/// Parses the number of an account's concurrent requests. Implausibly large numbers are ignored.
pub(super) fn concurrent_requests(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|requests| *requests <= MAX_CONCURRENT_REQUESTS)
}

/// The body of an error.
#[derive(Debug, Default, PartialEq, Eq)]
struct ErrorBody {
    code: Option<u32>,
    permission: Option<String>,
}

/// Parses an error's code and the permission it says is missing, which is the only text of a response that
/// is passed on. An error from a proxy or gateway has neither.
fn error_body(body: &[u8]) -> ErrorBody {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let code = match body.get("code") {
        Some(Value::Number(code)) => code.as_u64().and_then(|code| u32::try_from(code).ok()),
        Some(Value::String(code)) => code.trim().parse().ok(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => None,
    };
    let code = code.filter(|code| (1..=MAX_ERROR_CODE).contains(code));
    let message = body.get("message").and_then(Value::as_str);
    // Not only for error 70051: other parts of Twilio's API use other codes.
    let permission = message.filter(|text| text.contains("permission")).and_then(permission);
    ErrorBody { code, permission }
}

/// Returns the first word that looks like a permission, with a leading slash. Twilio's messages omit the
/// slash, which the documentation and the console show.
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
    fn extracts_only_a_permission_from_an_error() {
        let permission = |text: &str| {
            error_body(format!("{{\"code\":70051,\"message\":\"{text}\"}}").as_bytes()).permission
        };
        const LIST: &str = "/twilio/voice/calls/list";
        for (message, expected) in [
            // As recorded, and as documented.
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
            assert_eq!(permission(message).as_deref(), expected, "{message}");
        }
    }

    #[tokio::test]
    async fn recognises_recorded_errors() {
        const RECORDED: &str = include_str!("../../tests/fixtures/twilio/recorded-errors.json");
        let recorded: Vec<Value> = serde_json::from_str(RECORDED).expect("JSON");
        assert!(!recorded.is_empty());
        for one in recorded {
            let status = one["status"].as_u64().and_then(|status| u16::try_from(status).ok());
            let response = axum::http::Response::builder().status(status.expect("a status"));
            let response = response.body(one["body"].to_string()).expect("a response");
            let response = reqwest::Response::from(response);
            let error = status_error(response, &LargeBodies::default()).await;
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
    fn reads_an_error_code_as_a_number_or_string() {
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
    fn caps_the_wait_and_ignores_anything_but_seconds() {
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
    fn ignores_an_implausible_number_of_requests() {
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
    async fn large_bodies_wait_for_a_permit_and_small_ones_do_not() {
        let permits = LargeBodies::default();
        let read = |bytes: usize| {
            let response = axum::http::Response::new(vec![b'x'; bytes]);
            read_body(reqwest::Response::from(response), 2 * LARGE, &permits)
        };
        let mut held = Vec::new();
        for _ in 0..LARGE_AT_ONCE {
            held.push(read(LARGE + 1).await.expect("a body"));
        }
        let mut waiting = std::pin::pin!(read(LARGE + 1));
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("read more large bodies than there are permits"),
            small = read(LARGE) => assert_eq!(small.expect("a body").bytes.len(), LARGE),
        }
        held.pop();
        assert_eq!(waiting.await.expect("a body").bytes.len(), LARGE + 1);
        assert!(matches!(read(2 * LARGE + 1).await, Err(Error::TooLarge { .. })));
    }
}
